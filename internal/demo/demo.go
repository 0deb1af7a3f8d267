// Package demo tells the whole story of one protected server on real data, by
// the commands that a person would type, and measures what each recovery
// achieved in the recovered database itself.
package demo

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"time"

	"github.com/docker/go-units"

	"lifeboat/internal/demo/inventory"
	"lifeboat/internal/demo/stage"
)

// Options of the demo.
type Options struct {
	// Executable is the lifeboat program that the demo runs.
	Executable string
	// Data is a directory for everything; empty = a temporary one.
	Data string
	// Keep leaves servers, networks, mounts and Data as they are at the end.
	Keep bool
	// Size of the database's disk in bytes.
	Size int64
	// Out is what a person reads.
	Out io.Writer
}

// ErrBroken is returned when the story ended but a promise was not kept.
var ErrBroken = errors.New("a promise was not kept")

// story is the demo while it runs.
type story struct {
	Options
	page      *page
	cli       *cli
	ground    *stage.Ground
	house     *house
	world     *stage.World
	addresses stage.Addresses
	marked    string // recovery point made before the accident
	results   []result
	faults    []string
}

// Run tells the story. It returns [ErrBroken] when a promise was not kept, and
// cleans up in every case, also when ctx ends, unless Keep is set.
func Run(ctx context.Context, o Options) (err error) {
	began := time.Now()
	s := &story{Options: o, page: &page{w: o.Out}, addresses: stage.ChooseAddresses()}
	if err := s.directory(); err != nil {
		return err
	}
	s.cli = &cli{executable: o.Executable, env: environment(s.Data), out: s.page}
	defer func() {
		if ctx.Err() != nil {
			err = context.Cause(ctx) // what it has interrupted is of no interest
		}
		err = errors.Join(err, s.end(context.WithoutCancel(ctx), err))
	}()
	for _, chapter := range []func(context.Context) error{
		s.build, s.protect, s.drill, s.disaster, s.switchPoint, s.commit, s.reverse, s.failback, s.register, s.goodbye,
	} {
		if err := chapter(ctx); err != nil {
			return err
		}
	}
	s.summary(time.Since(began))
	if len(s.faults) > 0 {
		return ErrBroken
	}
	return nil
}

// directory makes the directory of the demo. It must be its own: it is deleted at the end.
func (s *story) directory() error {
	if s.Data == "" {
		dir, err := os.MkdirTemp("", "lifeboat-demo-")
		s.Data = dir
		return err
	}
	dir, err := filepath.Abs(s.Data)
	if err != nil {
		return err
	}
	s.Data = dir
	switch entries, err := os.ReadDir(dir); {
	case errors.Is(err, os.ErrNotExist):
		return os.MkdirAll(dir, 0o700)
	case err != nil:
		return err
	case len(entries) > 0:
		return fmt.Errorf("--data %s: the directory is not empty; choose a new one, the demo deletes it at its end", dir)
	}
	return nil
}

// end takes everything away again, in the reverse order of how it came.
func (s *story) end(ctx context.Context, cause error) error {
	if s.world != nil {
		cause = errors.Join(cause, s.world.StopClient())
	}
	if s.Keep {
		s.page.say("kept: everything in %s; go on with: LIFEBOAT_DATA=%s lifeboat status", s.Data, s.Data)
	}
	var errs []error
	if s.house != nil && !s.Keep {
		errs = append(errs, s.house.stop(ctx))
	}
	if s.world != nil {
		if !s.Keep {
			errs = append(errs, s.world.Destroy(ctx))
		}
		errs = append(errs, s.world.Close())
	}
	if s.Keep {
		return errors.Join(errs...)
	}
	if s.ground != nil {
		errs = append(errs, s.ground.Clear(ctx))
	}
	if cause != nil && s.house != nil && !errors.Is(cause, context.Canceled) {
		s.page.say("logs of what went wrong are in %s", s.Data)
		return errors.Join(errs...)
	}
	if errors.Join(errs...) == nil {
		errs = append(errs, os.RemoveAll(s.Data))
	}
	return errors.Join(errs...)
}

// summary is the table at the end, and the verdict.
func (s *story) summary(took time.Duration) {
	s.page.blank()
	rows := [][]string{tableHead}
	for _, r := range s.results {
		rows = append(rows, r.row())
	}
	s.page.table(rows)
	s.page.blank()
	s.page.say("RTO: outage declared → an HTTP answer through %s (drill: → health check green).", stage.Record)
	s.page.say("RPO: outage declared → newest write found in the recovered database.")
	s.page.say("lost: acknowledged after the recovery point; none from before it is missing.")
	s.page.blank()
	if len(s.faults) == 0 {
		s.page.say("Every promise was kept. The whole story took %s.", short(took))
		return
	}
	for _, f := range s.faults {
		s.page.say("! %s", f)
	}
}

// leftOver counts what the plan made at the sites, and lists what is left beside
// what is in service.
func (s *story) leftOver(ctx context.Context) (all inventory.Totals, left []string, err error) {
	for _, p := range s.world.Sites() {
		t, err := inventory.Count(ctx, p, stage.Plan)
		if err != nil {
			return all, left, err
		}
		here, err := inventory.Left(ctx, p, stage.Plan)
		if err != nil {
			return all, left, err
		}
		faults, err := inventory.Audit(ctx, p, nil)
		if err != nil {
			return all, left, err
		}
		for _, f := range faults {
			s.fault("ledger of %s", f)
		}
		all.Created, all.Deleted, all.Kept = all.Created+t.Created, all.Deleted+t.Deleted, all.Kept+t.Kept
		left = append(left, here...)
	}
	return all, left, nil
}

// size writes a number of bytes for people, like "256 MiB".
func size(n int64) string {
	return units.CustomSize("%.4g %s", float64(n), 1024, []string{"B", "KiB", "MiB", "GiB", "TiB"})
}
