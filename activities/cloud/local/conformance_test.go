package local

import (
	"context"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"lifeboat/activities/cloud"
	"lifeboat/activities/cloud/cloudtest"
)

func TestConformance(t *testing.T) {
	t.Parallel()
	exe, err := os.Executable()
	require.NoError(t, err)
	var networks atomic.Int32
	cloudtest.Run(t, cloudtest.Config{
		Sites: conformanceSites,
		// The race detector and many tests at once on a small machine slow processes down.
		Within: time.Minute,
		Fixture: func(t *testing.T) cloudtest.Fixture {
			// Without namespaces all sites of a machine share its loopback addresses.
			n := networks.Add(1)
			ip := func(third, last int32) string { return fmt.Sprintf("127.%d.%d.%d", 61+n/100, 2*(n%100)+third, last) }
			return cloudtest.Fixture{
				DiskBytes: 2 << 20,
				CIDR:      ip(0, 0) + "/24", IP: ip(0, 7), Outside: ip(1, 7),
				Zone: "example.org",
				Launch: func(in cloud.LaunchServer) cloud.LaunchServer {
					in.Ports = []int{7007}
					in.Launch = map[string]string{"runtime": "process", "command": exe + " -test.run=^TestServeConformance$"}
					return in
				},
				Write: writeDisk,
				Content: func(t *testing.T, d cloud.Disk) io.ReaderAt {
					f, err := os.Open(d.Path)
					require.NoError(t, err)
					t.Cleanup(func() { f.Close() })
					return f
				},
				Source: func(t *testing.T, bytes int64) string {
					path := filepath.Join(t.TempDir(), "source")
					require.NoError(t, os.WriteFile(path, make([]byte, bytes), 0o600))
					return path
				},
			}
		},
	})
}

// conformanceSites opens sites of a behaviour, and destroys them at its end.
func conformanceSites(t *testing.T) func(site string) cloud.Provider {
	base, known := t.TempDir(), map[string]bool{}
	return func(name string) cloud.Provider {
		site := cloud.Site{Name: name, Directory: filepath.Join(base, name)}
		p, err := Open(t.Context(), site, Options{})
		require.NoError(t, err)
		t.Cleanup(func() {
			ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
			defer cancel()
			if !known[name] {
				require.NoError(t, p.Close())
				return
			}
			known[name] = false // the last one opened goes first
			require.NoError(t, p.Destroy(ctx))
		})
		known[name] = true
		return p
	}
}

// TestServeConformance is the server that the conformance suite launches: it
// sends the first 16 bytes of its disk to whoever connects.
func TestServeConformance(t *testing.T) {
	if os.Getenv("LIFEBOAT_SERVER") == "" {
		return // not launched by a site
	}
	disk, err := os.Open(os.Getenv("LIFEBOAT_DISK_ROOT"))
	require.NoError(t, err)
	defer disk.Close()
	listener, err := net.Listen("tcp4", os.Getenv("LIFEBOAT_ADDRESS")+":"+os.Getenv("LIFEBOAT_PORTS"))
	require.NoError(t, err)
	for {
		conn, err := listener.Accept()
		require.NoError(t, err)
		go func() {
			defer conn.Close()
			io.Copy(conn, io.NewSectionReader(disk, 0, 16)) //nolint:errcheck // the other side may be gone
		}()
	}
}
