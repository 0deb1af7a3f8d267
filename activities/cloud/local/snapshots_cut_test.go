package local

import (
	"context"
	"fmt"
	"os"
	"sync"
	"testing"

	"github.com/stretchr/testify/require"

	"lifeboat/activities/cloud"
)

func TestCutWhoseMakerDiedIsMadeAnewByTheSameToken(t *testing.T) {
	t.Parallel()
	onEachFileSystem(t, func(t *testing.T, dir string) {
		p := openSite(t, dir)
		d := makeDisk(t, p, "d", 48<<20)
		writeDisk(t, d, 0, randomBytes(1, 40<<20))
		in := cloud.CreateSnapshots{Create: cloud.Create{Token: "s"}, Disks: []string{d.ID}}
		// What a process that is killed between the record and the content leaves.
		var r snapshotRecord
		require.NoError(t, p.store.update(t.Context(), func(x *tx) error {
			id, _, err := x.claim("StartSnapshots", cloud.KindSnapshot, in.Token, in)
			if err != nil {
				return err
			}
			r, err = newSnapshot(x, "StartSnapshots", id, d.ID, in.Create)
			return err
		}))
		content, err := openFileContent(d.Path, 0)
		require.NoError(t, err)
		defer content.Close()
		ctx, cancel := context.WithCancel(t.Context())
		require.ErrorIs(t, p.writePacks(ctx, r.ID, &interrupted{Content: content, after: 20 << 20, cancel: cancel}, func(int64) error { return nil }), context.Canceled)

		s, err := p.Snapshot(t.Context(), r.ID)
		require.NoError(t, err)
		require.Equal(t, cloud.Failing, s.State)
		require.Contains(t, s.Message, "same token")
		_, err = p.StartCreateDisk(t.Context(), cloud.CreateDisk{Create: cloud.Create{Token: "c"}, SnapshotID: r.ID})
		require.Error(t, err)

		writeDisk(t, d, 30<<20, randomBytes(2, 1<<20))
		again := snapshot(t, p, "s", d.ID)[0]
		require.Equal(t, r.ID, again.ID)
		require.Equal(t, sumFile(t, d.Path), sumSnapshot(t, p, again.ID))
		require.NoError(t, p.DeleteSnapshot(t.Context(), again.ID))
		requireNothingStored(t, p)
	})
}

// interrupted cancels its reader at a position.
type interrupted struct {
	Content
	after  int64
	cancel func()
}

func (c *interrupted) ReadAt(b []byte, off int64) (int, error) {
	if off+int64(len(b)) > c.after {
		c.cancel()
	}
	return c.Content.ReadAt(b, off)
}

func TestCutIsNeverShownAsFailedWhileItIsMade(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	maker, looker := openSite(t, dir), openSite(t, dir)
	d := makeDisk(t, maker, "d", 1<<20)
	done := make(chan error, 1)
	go func() {
		var err error
		for i := 0; i < 40 && err == nil; i++ {
			_, err = maker.StartSnapshots(context.Background(), cloud.CreateSnapshots{Create: cloud.Create{Token: fmt.Sprint("s", i)}, Disks: []string{d.ID}})
		}
		done <- err
	}()
	for {
		list, err := looker.Snapshots(t.Context(), cloud.Filter{})
		require.NoError(t, err)
		for _, s := range list {
			require.NotEqual(t, cloud.Failing, s.State, s.Message)
		}
		select {
		case err := <-done:
			require.NoError(t, err)
			return
		default:
		}
	}
}

func TestTwoProcessesSnapshotAndDeleteAtOnce(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	var all sync.WaitGroup
	for worker := range 3 {
		p := openSite(t, dir)
		p.clones = false
		all.Go(func() {
			// The same content at all workers, so that blocks are shared and freed under each other.
			d, err := p.StartCreateDisk(context.Background(), cloud.CreateDisk{Create: cloud.Create{Token: fmt.Sprint("d", worker)}, Bytes: 24 << 20})
			if err != nil {
				t.Error(err)
				return
			}
			for round := range uint64(8) {
				if err := os.WriteFile(d.Path, append(randomBytes(round, 2<<20), make([]byte, 22<<20)...), 0o600); err != nil {
					t.Error(err)
				}
				s, err := p.StartSnapshots(context.Background(), cloud.CreateSnapshots{Create: cloud.Create{Token: fmt.Sprint("s", worker, "-", round)}, Disks: []string{d.ID}})
				if err != nil {
					t.Error(err)
					return
				}
				want := sumFile(t, d.Path)
				if got := sumSnapshot(t, p, s[0].ID); got != want {
					t.Errorf("worker %d round %d: %s, not %s", worker, round, got, want)
				}
				if err := p.DeleteSnapshot(context.Background(), s[0].ID); err != nil {
					t.Error(err)
				}
			}
		})
	}
	all.Wait()
	requireNothingStored(t, openSite(t, dir))
}
