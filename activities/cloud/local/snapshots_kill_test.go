package local

import (
	"bufio"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"lifeboat/activities/cloud"
)

// killSite is set in the environment of a process that works on a site until it is killed.
const killSite = "LIFEBOAT_TEST_KILL_SITE"

// TestWorkUntilKilled is not a test but the process that TestKilledAnywhere
// kills: it makes, fills and deletes disks and snapshots in an endless loop.
func TestWorkUntilKilled(t *testing.T) {
	dir := os.Getenv(killSite)
	if dir == "" {
		return // started as a test
	}
	p, err := Open(t.Context(), cloud.Site{Name: "site", Directory: dir}, Options{})
	require.NoError(t, err)
	p.clones = p.clones && os.Getenv(killSite+"_PACKS") == ""
	fmt.Println("working")
	for round := uint64(os.Getpid()); ; round++ {
		require.NoError(t, work(t.Context(), p, round))
	}
}

// work is one round of the life of a site: the replica changes, a point is cut,
// a disk is made of it, and all but the two newest points are deleted.
func work(ctx context.Context, p *Provider, round uint64) error {
	replica, err := p.StartCreateDisk(ctx, cloud.CreateDisk{Create: cloud.Create{Token: "replica"}, Bytes: 40 << 20})
	if err != nil {
		return err
	}
	f, err := os.OpenFile(replica.Path, os.O_WRONLY, 0)
	if err != nil {
		return err
	}
	_, err = f.WriteAt(randomBytes(round%7, 3<<20), int64(round%11)*(3<<20))
	if err := errors.Join(err, f.Close()); err != nil {
		return err
	}
	want, err := content(replica.Path)
	if err != nil {
		return err
	}
	tags := map[string]string{"content": want}
	cut, err := p.StartSnapshots(ctx, cloud.CreateSnapshots{Create: cloud.Create{Token: fmt.Sprint("point-", round), Tags: tags}, Disks: []string{replica.ID}})
	if err != nil {
		return err
	}
	made, err := p.StartCreateDisk(ctx, cloud.CreateDisk{Create: cloud.Create{Token: fmt.Sprint("made-", round), Tags: tags}, SnapshotID: cut[0].ID})
	for err == nil && made.State == cloud.Creating {
		if err = wait(ctx, time.Millisecond); err == nil {
			made, err = p.Disk(ctx, made.ID)
		}
	}
	if err != nil {
		return err
	}
	if err := p.DeleteDisk(ctx, made.ID); err != nil {
		return err
	}
	points, err := p.Snapshots(ctx, cloud.Filter{})
	if err != nil {
		return err
	}
	for _, s := range points {
		if s.ID != cut[0].ID && round%3 != 0 {
			if err := later(p.DeleteSnapshot(ctx, s.ID)); err != nil {
				return err
			}
		}
	}
	return nil
}

func content(path string) (string, error) {
	c, err := openFileContent(path, 0)
	if err != nil {
		return "", err
	}
	defer c.Close()
	return contentSum(c)
}

func contentSum(c Content) (string, error) {
	raw := make([]byte, c.Size())
	if _, err := c.ReadAt(raw, 0); err != nil {
		return "", err
	}
	return fmt.Sprintf("%x", sha256.Sum256(raw)), nil
}

func TestKilledAnywhere(t *testing.T) {
	t.Parallel()
	onEachFileSystem(t, func(t *testing.T, dir string) {
		exe, err := os.Executable()
		require.NoError(t, err)
		random := rand.New(rand.NewPCG(1, 2))
		for range 12 {
			cmd := exec.Command(exe, "-test.run=^TestWorkUntilKilled$")
			cmd.Env = append(os.Environ(), killSite+"="+dir)
			out, err := cmd.StdoutPipe()
			require.NoError(t, err)
			require.NoError(t, cmd.Start())
			lines := bufio.NewScanner(out)
			for lines.Scan() && !strings.HasPrefix(lines.Text(), "working") {
			}
			// The moment of the kill is the point of this test, not a wait for something.
			time.Sleep(time.Duration(20+random.IntN(300)) * time.Millisecond)
			require.NoError(t, cmd.Process.Kill())
			err = cmd.Wait()
			require.ErrorContains(t, err, "killed")
			checkSite(t, dir)
		}
		p := openSite(t, dir)
		require.NoError(t, p.destroyDisks(t.Context()))
		requireNothingStored(t, p)
		disks, err := os.ReadDir(p.path(diskDir))
		require.NoError(t, err)
		require.Empty(t, disks)
	})
}

// checkSite holds every snapshot and every disk of one to the content that it
// was made with, and goes on with what was interrupted.
func checkSite(t *testing.T, dir string) {
	t.Helper()
	p := openSite(t, dir)
	points, err := p.Snapshots(t.Context(), cloud.Filter{})
	require.NoError(t, err)
	for _, s := range points {
		switch s.State {
		case cloud.Available:
			c, err := p.OpenSnapshot(t.Context(), s.ID)
			require.NoError(t, err)
			got, err := contentSum(c)
			require.NoError(t, err)
			require.Equal(t, s.Tags["content"], got)
			require.NoError(t, c.Close())
		case cloud.Failing:
			require.Contains(t, s.Message, "same token")
			require.NoError(t, later(p.DeleteSnapshot(t.Context(), s.ID)))
		default:
			require.Equal(t, cloud.Deleting, s.State)
		}
	}
	disks, err := p.Disks(t.Context(), cloud.Filter{})
	require.NoError(t, err)
	for _, d := range disks {
		if d.SnapshotID == "" || d.State == cloud.Deleting {
			continue
		}
		d = awaitDisk(t, p, d.ID)
		got, err := content(d.Path)
		require.NoError(t, err)
		require.Equal(t, d.Tags["content"], got)
		require.NoError(t, p.DeleteDisk(t.Context(), d.ID))
	}
	require.NoError(t, p.Close())
}
