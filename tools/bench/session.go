package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"lifeboat/tools/bench/measure"
)

// outcome is what one run of a contender gave.
type outcome struct {
	measure.Sample
	Values map[string]float64 `json:"values,omitempty"` // what only this job measures
}

// contender does one job in one way.
type contender struct {
	who, variant string
	allocates    int64                       // memory that a run takes into use, in bytes, beyond usualMemory
	prepare      func(context.Context) error // nil: nothing to prepare
	run          func(context.Context) (outcome, error)
	check        func() error                // nil: nothing to compare
	reset        func(context.Context) error // nil: nothing to put back
}

func (c contender) name() string { return strings.TrimSpace(c.who + " " + c.variant) }

// job is a thing to do, done by several contenders in turn.
type job struct {
	name  string
	title string
	once  bool                             // one run of each is enough: its rate is set, not found out
	table func(io.Writer, session, []stat) // nil: writeJob
	open  func(context.Context, *bench) (contenders []contender, end func() error, err error)
}

// bench is a measurement under way.
type bench struct {
	options
	images
	product *product
	store   *store
	missing map[string]bool // programs that PATH lacks, said once
}

// usualMemory is what the processes of any run take into use, and a delta.
const usualMemory = 512 << 20

// clockTicks is what the busy seconds of the machine can be off by: they are
// counted in hundredths, for each processor.
const clockTicks = 0.03

// runLimit is the longest that any single run may take.
const runLimit = 5 * time.Minute

func measureAll(ctx context.Context, o options) (err error) {
	jobs, err := chooseJobs(o.jobs)
	if err != nil {
		return err
	}
	b := &bench{options: o, missing: map[string]bool{}}
	if os.Getenv(insideVar) != "" {
		if err := settle(); err != nil {
			return err
		}
	} else {
		progress("not root, or namespaces are not permitted: bytes of others on the loopback count too")
	}
	dir, remove := o.work, func() error { return nil }
	if dir == "" {
		if dir, remove, err = memorySpace(spaceFor(o.size)); err != nil {
			return err
		}
	}
	defer func() { err = errors.Join(err, remove()) }()
	if b.product, err = findProduct(ctx, o.lifeboat, dir); err != nil {
		return err
	}
	defer func() { err = errors.Join(err, b.product.remove()) }()
	if b.store, err = openStore(o.results, describe(o, b.product), o.resume); err != nil {
		return err
	}
	defer func() { err = errors.Join(err, b.store.close()) }()
	progress("making the images in %s", dir)
	if b.images, err = openImages(dir, o.size); err != nil {
		return err
	}
	for _, j := range jobs {
		if b.store.done(j.name) {
			progress("job %s: kept", j.name)
			continue
		}
		if err := b.runJob(ctx, j); err != nil {
			return fmt.Errorf("job %s: %w", j.name, err)
		}
	}
	return publish(b.store.session, o.write)
}

// spaceFor is the memory that the images of a size need: half of each of the
// three is allocated, and so are up to three copies of their data, or the
// targets of job volumes.
func spaceFor(size int64) int64 { return max(3*size, 2*size+4<<30) }

// progress says on standard error what is going on.
func progress(format string, args ...any) { fmt.Fprintf(os.Stderr, "# "+format+"\n", args...) }

func (b *bench) runJob(ctx context.Context, j job) (err error) {
	start := time.Now()
	contenders, end, err := j.open(ctx, b)
	if end != nil {
		defer func() { err = errors.Join(err, end()) }()
	}
	var notHere *missingError
	if errors.As(err, &notHere) {
		progress("job %s is left out: %v", j.name, err)
		return nil
	}
	if err != nil {
		return err
	}
	contenders = slices.DeleteFunc(contenders, func(c contender) bool { return !b.only.MatchString(c.name()) })
	runs := b.runs
	if j.once {
		runs = 1
	}
	gone := map[string]bool{} // those that failed
	for round := range runs {
		first := 0
		if n := len(contenders); n > 0 {
			first = round % n // so that none always comes after the same one
		}
		for _, c := range slices.Concat(contenders[first:], contenders[:first]) {
			if gone[c.name()] {
				continue
			}
			rows, err := b.turn(ctx, j, c)
			for _, r := range rows {
				if err := b.store.add(r); err != nil {
					return err
				}
			}
			if err != nil {
				if ctx.Err() != nil {
					return err
				}
				progress("%s: %s gave up: %v", j.name, c.name(), err)
				gone[c.name()] = true
			}
		}
		progress("job %s: round %d of %d, %.0f s", j.name, round+1, runs, time.Since(start).Seconds())
	}
	return b.store.finish(j.name)
}

// turn runs a contender once, and again up to twice while others disturb.
// Disturbed runs are rows too, marked. An error ends the contender's part in
// the job; it is the last row.
func (b *bench) turn(ctx context.Context, j job, c contender) ([]row, error) {
	const tries = 3
	var rows []row
	for range tries {
		r := row{Job: j.name, Who: c.who, Variant: c.variant}
		var err error
		r.outcome, err = b.attempt(ctx, c)
		r.Noisy = r.Other > b.noise*r.Wall+clockTicks
		if err != nil {
			r.Error = err.Error()
			return append(rows, r), err
		}
		progress("%-10s %-60s %8.3f s  cpu %6.2f s  wire %8.1f MB  others %.2f s", j.name, c.name(), r.Wall, r.CPU, float64(r.Wire)/1e6, r.Other)
		if rows = append(rows, r); !r.Noisy {
			break
		}
	}
	return rows, nil
}

func (b *bench) attempt(ctx context.Context, c contender) (o outcome, err error) {
	ctx, cancel := context.WithTimeout(ctx, runLimit)
	defer cancel()
	if c.prepare != nil {
		if err := c.prepare(ctx); err != nil {
			return o, fmt.Errorf("prepare: %w", err)
		}
	}
	if c.reset != nil {
		defer func() {
			if e := c.reset(ctx); e != nil {
				err = errors.Join(err, fmt.Errorf("put back: %w", e))
			}
		}()
	}
	if b.quiet > 0 {
		measure.WaitQuiet(b.quiet)
	}
	// A host may take back memory that is free for some seconds; then its first
	// touch costs several times as much, and falls on whoever runs first.
	if err := warm(b.dir, usualMemory+c.allocates); err != nil {
		return o, err
	}
	if o, err = c.run(ctx); err != nil {
		return o, err
	}
	if c.check != nil {
		return o, c.check()
	}
	return o, nil
}

// path returns a file beside the images.
func (b *bench) path(name string) string { return filepath.Join(b.dir, name) }

// missingError says what a job or contender needs that is not here.
type missingError struct{ what string }

func (e *missingError) Error() string { return e.what }

func chooseJobs(names string) ([]job, error) {
	if names == "" {
		return allJobs, nil
	}
	var chosen []job
	for name := range strings.SplitSeq(names, ",") {
		i := slices.IndexFunc(allJobs, func(j job) bool { return j.name == name })
		if i < 0 {
			return nil, fmt.Errorf("no job %q; there are %s", name, strings.Join(jobNames(), ", "))
		}
		chosen = append(chosen, allJobs[i])
	}
	return chosen, nil
}
