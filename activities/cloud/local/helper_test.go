package local

import (
	"bufio"
	"context"
	"fmt"
	"net"
	"os"
	"os/exec"
	"os/signal"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"lifeboat/activities/cloud"
)

// testServer is the argument with which this test program is a server: it
// greets each connection with its name and the first line on its disk "data".
const testServer = "test-server"

// testPauser is the argument with which this test program pauses a server of a
// site, writes its process number to a file and waits to be killed.
const testPauser = "test-pauser"

func TestMain(m *testing.M) {
	RunHelper()
	if len(os.Args) > 1 && os.Args[1] == testServer {
		if err := serveTest(os.Args[2:]); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(3)
		}
		os.Exit(0)
	}
	if len(os.Args) == 5 && os.Args[1] == testPauser {
		if err := pauseTest(os.Args[2], os.Args[3], os.Args[4]); err != nil {
			fmt.Fprintln(os.Stderr, err)
		}
		os.Exit(3)
	}
	code := m.Run()
	for _, path := range removeAtEnd {
		os.RemoveAll(path)
	}
	os.Exit(code)
}

// removeAtEnd is what several tests share.
var removeAtEnd []string

func pauseTest(dir, server, pidFile string) error {
	ctx := context.Background()
	p, err := Open(ctx, cloud.Site{Name: "test", Directory: dir}, Options{})
	if err != nil {
		return err
	}
	if _, err = p.PauseServer(ctx, server, time.Hour); err != nil {
		return err
	}
	if err := writeFile(pidFile, []byte(itoa(os.Getpid())), 0o600); err != nil {
		return err
	}
	<-make(chan struct{})
	return nil
}

func itoa(n int) string { return strconv.Itoa(n) }

// startTest starts this test program in another of its roles.
func startTest(t *testing.T, args ...string) *exec.Cmd {
	t.Helper()
	cmd := exec.Command(args[0], args[1:]...)
	cmd.Stderr = os.Stderr
	require.NoError(t, cmd.Start())
	t.Cleanup(func() {
		cmd.Process.Kill() //nolint:errcheck // may be gone
		cmd.Wait()         //nolint:errcheck // as before
	})
	return cmd
}

// serveTest echoes lines. Option "stubborn" ignores SIGTERM; "exit" as a line
// ends the server with status 7.
func serveTest(options []string) error {
	stop := make(chan os.Signal, 1)
	signal.Notify(stop, syscall.SIGTERM)
	if len(options) > 0 && options[0] == "stubborn" {
		signal.Ignore(syscall.SIGTERM)
	}
	content := ""
	if path := os.Getenv("LIFEBOAT_DISK_DATA"); path != "" {
		raw, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		content, _, _ = strings.Cut(string(raw), "\n")
	}
	for _, port := range strings.Split(os.Getenv("LIFEBOAT_PORTS"), ",") {
		l, err := net.Listen("tcp4", os.Getenv("LIFEBOAT_ADDRESS")+":"+port)
		if err != nil {
			return err
		}
		go func() {
			for {
				conn, err := l.Accept()
				if err != nil {
					return
				}
				go func() {
					defer conn.Close()
					fmt.Fprintf(conn, "%s:%s\n", os.Getenv("LIFEBOAT_SERVER"), content)
					lines := bufio.NewScanner(conn)
					for lines.Scan() {
						if lines.Text() == "exit" {
							fmt.Println("leaving on request")
							os.Exit(7)
						}
						fmt.Fprintln(conn, lines.Text())
					}
				}()
			}
		}()
	}
	fmt.Println("serving")
	<-stop
	return nil
}

// parallel lets a test run beside others, where their networks are apart.
func parallel(t *testing.T) {
	t.Helper()
	if canIsolate() == nil {
		t.Parallel()
	}
}

// testSite opens a site of its own and destroys it after the test.
func testSite(t *testing.T) *Provider {
	t.Helper()
	p, err := Open(t.Context(), cloud.Site{Name: "test", Directory: t.TempDir() + "/site"}, Options{})
	require.NoError(t, err)
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
		defer cancel()
		require.NoError(t, p.Destroy(ctx))
	})
	return p
}

// again opens the same site a second time, as another process would.
func again(t *testing.T, p *Provider) *Provider {
	t.Helper()
	q, err := Open(t.Context(), p.Site(), Options{})
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, q.Close()) })
	return q
}

var tokenCount = make(chan int, 1)

func init() { tokenCount <- 0 }

// fresh makes the common part of a request, with a token never used before.
func fresh(name string) cloud.Create {
	n := <-tokenCount + 1
	tokenCount <- n
	return cloud.Create{Token: fmt.Sprintf("%s-%d", name, n), Name: name, Tags: map[string]string{cloud.TagRole: "test"}}
}

// testCIDR is a network that may be made without rights, too.
const testCIDR = "127.45.6.0/24"

func testNetwork(t *testing.T, p *Provider, name string) cloud.Network {
	t.Helper()
	n, err := p.StartCreateNetwork(t.Context(), cloud.CreateNetwork{Create: fresh(name), CIDR: testCIDR})
	require.NoError(t, err)
	return n
}

// testCommand is the launch setting that runs this program as a server.
func testCommand(t *testing.T, options ...string) map[string]string {
	t.Helper()
	exe, err := os.Executable()
	require.NoError(t, err)
	return map[string]string{"runtime": "process", "command": strings.Join(append([]string{exe, testServer}, options...), " ")}
}

// launch launches a server and waits until it runs.
func testLaunch(t *testing.T, p *Provider, in cloud.LaunchServer) cloud.Server {
	t.Helper()
	s, err := p.StartLaunch(t.Context(), in)
	require.NoError(t, err)
	return waitServer(t, p, s.ID, cloud.Running)
}

// waitServer polls a server until it has a state.
func waitServer(t *testing.T, p *Provider, id string, state cloud.State) (s cloud.Server) {
	t.Helper()
	waitFor(t, func() (string, bool) {
		var err error
		s, err = p.Server(t.Context(), id)
		require.NoError(t, err)
		return fmt.Sprintf("server is %s (%s), not %s", s.State, s.Message, state), s.State == state
	})
	return s
}

func waitGone(t *testing.T, p *Provider, id string) {
	t.Helper()
	waitFor(t, func() (string, bool) {
		s, err := p.Server(t.Context(), id)
		return fmt.Sprintf("server is %s", s.State), cloud.IsNotFound(err)
	})
}

// waitFor polls a condition for at most 30 s.
func waitFor(t *testing.T, condition func() (string, bool)) {
	t.Helper()
	deadline := time.After(30 * time.Second)
	for {
		text, ok := condition()
		if ok {
			return
		}
		select {
		case <-deadline:
			require.FailNow(t, "waited in vain", text)
		case <-time.After(5 * time.Millisecond):
		}
	}
}

// talk connects to a server through dial and returns its greeting.
func greeting(t *testing.T, conn net.Conn) string {
	t.Helper()
	require.NoError(t, conn.SetDeadline(time.Now().Add(20*time.Second)))
	line, err := bufio.NewReader(conn).ReadString('\n')
	require.NoError(t, err)
	return strings.TrimSpace(line)
}

// dialServer waits until a server takes connections at its first port.
func dialServer(t *testing.T, p *Provider, s cloud.Server) (conn net.Conn) {
	t.Helper()
	waitFor(t, func() (string, bool) {
		var err error
		conn, err = p.Dial(t.Context(), s.Network, fmt.Sprintf("%s:%d", s.IP, s.Ports[0]))
		return fmt.Sprint(err), err == nil
	})
	t.Cleanup(func() { conn.Close() })
	return conn
}
