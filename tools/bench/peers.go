package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"strconv"
	"strings"

	"lifeboat/tools/bench/measure"
	"lifeboat/tools/bench/workload"
)

// version is an image to copy onto a target that holds the base.
type version struct {
	image   string
	changes string // file of the changed ranges; "" when nothing changed
	extents []workload.Extent
}

func (b *bench) unchanged() version  { return version{image: b.base} }
func (b *bench) changed1() version   { return version{b.v1, b.map1, b.extents1} }
func (b *bench) changed10() version  { return version{b.v10, b.map10, b.exts10} }
func (b *bench) target() string      { return b.path("target.img") } // of the peers
func (b *bench) removeTarget() error { return removeAll(b.target()) }

func removeAll(paths ...string) error {
	var errs []error
	for _, p := range paths {
		errs = append(errs, os.RemoveAll(p))
	}
	return errors.Join(errs...)
}

// have says whether a program is on PATH; one that is not is said once.
func (b *bench) have(program string) bool {
	_, err := exec.LookPath(program)
	if err != nil && !b.missing[program] {
		b.missing[program] = true
		progress("%s is not on PATH: its lines are left out (packages: rsync nbdkit libnbd-bin qemu-utils qemu-system-common)", program)
	}
	return err == nil
}

// place is where a full or delta copy of a peer happens: in memory, or on a
// disk whose cache is dropped first and whose target is flushed in the end.
type place struct {
	target  string
	image   func(string) string // where the copy of an image is that is read
	prepare func() error
	after   func() error
}

func (b *bench) inMemory() place {
	return place{target: b.target(), image: func(p string) string { return p }}
}

func runCommands(after func() error, commands ...measure.Command) func(context.Context) (outcome, error) {
	return func(ctx context.Context) (outcome, error) {
		s, _, err := measure.Run(ctx, after, commands...)
		return outcome{Sample: s}, err
	}
}

// intoEmpty is a contender that copies the base to an empty target.
func (b *bench) intoEmpty(p place, who, variant string, run func(context.Context) (outcome, error)) contender {
	return contender{who: who, variant: variant, allocates: b.size / 2,
		prepare: func(context.Context) error {
			return errors.Join(workload.CreateSparse(p.target, b.size), p.ready())
		},
		run:   run,
		check: func() error { return workload.Verify(b.base, p.target) },
		reset: func(context.Context) error { return removeAll(p.target) },
	}
}

// ontoBase is a contender that copies a version to a target that holds the base.
func (b *bench) ontoBase(p place, v version, who, variant string, run func(context.Context) (outcome, error)) contender {
	return contender{who: who, variant: variant,
		prepare: func(context.Context) error {
			if _, err := os.Stat(p.target); err == nil {
				return p.ready()
			}
			return errors.Join(workload.CopyPacked(p.target, b.base), p.ready())
		},
		run: run,
		check: func() error {
			err := workload.Verify(v.image, p.target)
			if err != nil {
				err = errors.Join(err, removeAll(p.target))
			}
			return err
		},
		reset: func(context.Context) error {
			if _, err := os.Stat(p.target); err != nil {
				return nil // it was wrong; the next run makes it anew
			}
			return workload.CopyRanges(p.target, b.base, v.extents)
		},
	}
}

func (p place) ready() error {
	if p.prepare == nil {
		return nil
	}
	return p.prepare()
}

// rsync returns a run of rsync over pipes to a second process, as over ssh,
// without the cost of ssh.
func (b *bench) rsync(p place, image string, args ...string) func(context.Context) (outcome, error) {
	all := append([]string{"rsync", "-I", "--stats", "--inplace", "-e", b.self() + " rsh"}, args...)
	command := measure.Command{Args: append(all, p.image(image), "h:"+p.target), Env: []string{"LC_ALL=C"}}
	return func(ctx context.Context) (outcome, error) {
		s, outs, err := measure.Run(ctx, p.after, command)
		if err == nil {
			s.Wire, err = rsyncTraffic(string(outs[0]))
		}
		return outcome{Sample: s}, err
	}
}

func (b *bench) self() string {
	path, err := os.Executable()
	if err != nil {
		return os.Args[0]
	}
	return path
}

// rsyncTraffic adds what rsync --stats says of both directions.
func rsyncTraffic(stats string) (int64, error) {
	var sum int64
	found := 0
	for l := range strings.Lines(stats) {
		name, value, _ := strings.Cut(strings.TrimSpace(l), ": ")
		if name != "Total bytes sent" && name != "Total bytes received" {
			continue
		}
		n, err := strconv.ParseInt(strings.ReplaceAll(value, ",", ""), 10, 64)
		if err != nil {
			return 0, fmt.Errorf("rsync --stats: %w", err)
		}
		sum += n
		found++
	}
	if found != 2 {
		return 0, errors.New("rsync --stats did not say its traffic")
	}
	return sum, nil
}

// nbd returns a run of an NBD client against nbdkit over loopback TCP.
func (b *bench) nbd(p place, client string) func(context.Context) (outcome, error) {
	return runCommands(p.after, measure.Command{Args: []string{"nbdkit", "-i", "127.0.0.1", "-p", "10810", "file", p.target, "--run", client}})
}

const rsyncPlain = "pipe -W --sparse"

// fullPeers copy the base to an empty target.
func (b *bench) fullPeers(p place) []contender {
	var cs []contender
	source := p.image(b.base)
	if b.have("nbdkit") && b.have("nbdcopy") {
		cs = append(cs,
			b.intoEmpty(p, "nbdcopy", "NBD TCP (nbdkit)", b.nbd(p, "nbdcopy "+source+" $uri")),
			b.intoEmpty(p, "nbdcopy", "NBD TCP (nbdkit), 2 connections, 256K requests",
				b.nbd(p, "nbdcopy --connections=2 --threads=2 --request-size=262144 --requests=32 "+source+" $uri")))
	}
	if b.have("nbdkit") && b.have("qemu-img") {
		cs = append(cs, b.intoEmpty(p, "qemu-img", "NBD TCP (nbdkit) -m 16 -W",
			b.nbd(p, "qemu-img convert -n -m 16 -W -f raw "+source+" -O raw $uri")))
	}
	if b.have("rsync") {
		cs = append(cs,
			b.intoEmpty(p, "rsync", "pipe -W --sparse, lz4", b.rsync(p, b.base, "-W", "--sparse", "-z", "--zc=lz4")),
			b.intoEmpty(p, "rsync", rsyncPlain, b.rsync(p, b.base, "-W", "--sparse")))
	}
	return cs
}

// deltaPeers copy a version onto the base.
func (b *bench) deltaPeers(p place, v version, rsyncBlocks ...int) []contender {
	var cs []contender
	if b.have("rsync") {
		for _, n := range rsyncBlocks {
			cs = append(cs, b.ontoBase(p, v, "rsync", fmt.Sprintf("pipe --no-whole-file, blocks of %d", n),
				b.rsync(p, v.image, "--no-whole-file", fmt.Sprintf("--block-size=%d", n))))
		}
	}
	if b.have("blocksync-fast") {
		cs = append(cs, b.blocksync(p, v))
	}
	return cs
}

// blocksync is blocksync-fast with its digest file, through a pipe to a second process.
func (b *bench) blocksync(p place, v version) contender {
	digest, made := p.target+".digest", p.target+".digest.base"
	c := b.ontoBase(p, v, "blocksync-fast", "delta pipe, digest XXH128 4K", func(ctx context.Context) (outcome, error) {
		r, w, err := os.Pipe()
		if err != nil {
			return outcome{}, err
		}
		g := measure.Start()
		sender, err := g.Start(ctx, measure.Command{Stdout: w, Args: []string{"blocksync-fast", "--make-delta", "-s", p.image(v.image), "-f", digest, "-a", "XXH128", "-b", "4K", "--silent"}})
		if err != nil {
			return outcome{}, errors.Join(err, r.Close(), w.Close())
		}
		receiver, err := g.Start(ctx, measure.Command{Stdin: r, Args: []string{"blocksync-fast", "--apply-delta", "-d", p.target, "--silent"}})
		err = errors.Join(err, r.Close(), w.Close(), sender.Wait())
		if receiver != nil {
			err = errors.Join(err, receiver.Wait())
		}
		if p.after != nil && err == nil {
			err = p.after()
		}
		return outcome{Sample: g.Stop()}, err
	})
	prepare := c.prepare
	c.prepare = func(ctx context.Context) error {
		if _, err := os.Stat(made); err != nil {
			out, err := exec.CommandContext(ctx, "blocksync-fast", "--make-digest", "-s", p.image(b.base), "-f", made, "-a", "XXH128", "-b", "4K", "--silent").CombinedOutput()
			if err != nil {
				return fmt.Errorf("blocksync-fast --make-digest: %w: %s", err, out)
			}
		}
		return errors.Join(workload.CopySparse(digest, made), prepare(ctx))
	}
	return c
}
