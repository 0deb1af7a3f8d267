package main

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"

	"lifeboat/tools/bench/measure"
	"lifeboat/tools/bench/workload"
)

// product is the program that is measured.
type product struct {
	path   string // "" when it cannot copy
	digest string // of the program
	keys   map[string]string
	prints map[string]string // fingerprints of the keys
}

// findProduct looks whether the program has the command `copy`, and makes keys in dir.
func findProduct(ctx context.Context, path, dir string) (*product, error) {
	out, err := exec.CommandContext(ctx, path, "copy", "--help").CombinedOutput()
	switch {
	case errors.Is(err, os.ErrNotExist):
		progress("%s does not exist: build it with `make build`; only its peers are measured", path)
		return &product{}, nil
	case err != nil || !strings.Contains(string(out), "receive"):
		progress("%s has no `copy receive`: only its peers are measured", path)
		return &product{}, nil
	}
	p := &product{path: path, keys: map[string]string{}, prints: map[string]string{}}
	if p.digest, err = fileDigest(path); err != nil {
		return nil, err
	}
	for _, end := range []string{"send", "receive"} {
		p.keys[end] = filepath.Join(dir, "bench-"+end+".key")
		out, err := exec.CommandContext(ctx, path, "copy", "key", p.keys[end]).Output()
		if err != nil {
			return nil, fmt.Errorf("%s copy key: %w", path, err)
		}
		p.prints[end] = strings.TrimSpace(string(out))
	}
	return p, nil
}

func fileDigest(path string) (string, error) {
	f, err := os.Open(path)
	if err != nil {
		return "", err
	}
	defer f.Close()
	h := sha256.New()
	if _, err := io.Copy(h, f); err != nil {
		return "", err
	}
	return hex.EncodeToString(h.Sum(nil)), nil
}

func (p *product) remove() error {
	var errs []error
	for _, k := range p.keys {
		errs = append(errs, os.Remove(k))
	}
	return errors.Join(errs...)
}

func (p *product) here() bool { return p.path != "" }

// mode is a way in which the product copies.
type mode struct {
	variant  string
	secure   bool
	compress string // "" is the product's default
}

var (
	modeClear   = mode{variant: clearly}
	modeShipped = mode{variant: shipped, secure: true}
)

// replica is a target of the product with the state of both ends.
type replica struct {
	bench   *bench
	mode    mode
	port    int
	through int    // port of a proxy; 0: none
	target  string // image
	state   string // directory of the directories of both ends
	root    string // of the base, once it was copied
}

const firstPort = 7480

func (b *bench) newReplica(m mode, target string) *replica {
	return &replica{bench: b, mode: m, port: firstPort, target: target, state: target + ".state"}
}

// forget removes the target and all that is known about it.
func (r *replica) forget() error {
	r.root = ""
	return removeAll(r.target, r.state)
}

// receiver and sender are the two ends of a copy.
func (r *replica) receiver() measure.Command {
	p := r.bench.product
	args := []string{p.path, "copy", "receive", r.target, "--listen", fmt.Sprintf("127.0.0.1:%d", r.port), "--once", "--state", filepath.Join(r.state, "receive")}
	return measure.Command{Args: r.secured(args, "receive", "send")}
}

func (r *replica) sender(source string, extra ...string) measure.Command {
	p, port := r.bench.product, r.port
	if r.through != 0 {
		port = r.through
	}
	args := []string{p.path, "copy", source, fmt.Sprintf("127.0.0.1:%d", port), "--json", "--state", filepath.Join(r.state, "send")}
	if r.mode.compress != "" {
		args = append(args, "--compress", r.mode.compress)
	}
	return measure.Command{Args: append(r.secured(args, "send", "receive"), extra...)}
}

func (r *replica) secured(args []string, own, peer string) []string {
	if !r.mode.secure {
		return append(args, "--insecure-plaintext")
	}
	return append(args, "--key", r.bench.product.keys[own], "--peer", r.bench.product.prints[peer])
}

// report is what the sender says in the end, in bytes.
type report struct {
	Root    string `json:"root"`
	Scanned int64  `json:"scanned"`
	Changed int64  `json:"changed"`
	Sent    int64  `json:"sent"`
	Skipped int64  `json:"skipped"`
	Tracked bool   `json:"tracked"`
	Resumed bool   `json:"resumed"`
}

func parseReport(out []byte) (rep report, err error) {
	lines := strings.Split(strings.TrimSpace(string(out)), "\n")
	if err := json.Unmarshal([]byte(lines[len(lines)-1]), &rep); err != nil {
		return rep, fmt.Errorf("lifeboat copy --json said %q: %w", lines[len(lines)-1], err)
	}
	return rep, nil
}

func (rep report) values() map[string]float64 {
	return map[string]float64{"scanned": float64(rep.Scanned), "changed": float64(rep.Changed), "sent": float64(rep.Sent)}
}

// copy starts both ends at once and waits for both.
func (r *replica) copy(ctx context.Context, source string, after func() error, extra ...string) (outcome, report, error) {
	s, outs, err := measure.Run(ctx, after, r.receiver(), r.sender(source, extra...))
	if err != nil {
		return outcome{Sample: s}, report{}, err
	}
	rep, err := parseReport(outs[1])
	return outcome{Sample: s, Values: rep.values()}, rep, err
}

// full is the contender that copies source to a target that is not there yet.
func (r *replica) full(p place, source, variant string) contender {
	return contender{who: productName, variant: variant, allocates: r.bench.size / 2,
		prepare: func(context.Context) error { return errors.Join(r.forget(), p.ready()) },
		run: func(ctx context.Context) (outcome, error) {
			o, _, err := r.copy(ctx, p.image(source), p.after)
			return o, err
		},
		check: func() error { return workload.Verify(source, r.target) },
		reset: func(context.Context) error { return r.forget() },
	}
}

// delta is the contender that copies a version to a target that holds base,
// with the state of the copy that brought it there.
func (r *replica) delta(p place, base string, v version, tracked bool, variant string) contender {
	return contender{who: productName, variant: variant,
		prepare: func(ctx context.Context) error {
			if r.root == "" {
				if err := errors.Join(r.forget(), r.bring(ctx, p.image(base))); err != nil {
					return err
				}
			}
			return p.ready()
		},
		run: func(ctx context.Context) (outcome, error) {
			var extra []string
			if tracked {
				extra = []string{"--changes", v.changes, "--since", r.root}
			}
			o, rep, err := r.copy(ctx, p.image(v.image), p.after, extra...)
			if err == nil && rep.Tracked != tracked {
				err = fmt.Errorf("the copy says tracked: %t, want %t", rep.Tracked, tracked)
			}
			return o, err
		},
		check: func() error {
			err := workload.Verify(v.image, r.target)
			if err != nil {
				err = errors.Join(err, r.forget())
			}
			return err
		},
		// The base comes back by another copy, so that state and target go on belonging together.
		reset: func(ctx context.Context) error {
			if r.root == "" || len(v.extents) == 0 {
				return nil
			}
			return r.bring(ctx, p.image(base))
		},
	}
}

// bring copies the base to the target, untimed.
func (r *replica) bring(ctx context.Context, base string) error {
	_, rep, err := r.copy(ctx, base, nil)
	if err != nil {
		return errors.Join(err, r.forget())
	}
	r.root = rep.Root
	return nil
}

// productFull is the product's full copy, in its modes.
func (b *bench) productFull(p place) []contender {
	if !b.product.here() {
		return nil
	}
	var cs []contender
	for i, m := range []mode{modeClear, modeShipped} {
		cs = append(cs, b.newReplica(m, fmt.Sprintf("%s.ours%d", p.target, i)).full(p, b.base, m.variant))
	}
	return cs
}

// productDelta is the product's copy of a version, in its modes.
func (b *bench) productDelta(p place, v version, tracked bool) ([]contender, func() error) {
	if !b.product.here() {
		return nil, nil
	}
	if tracked && v.changes == "" {
		v.changes = os.DevNull // an empty list
	}
	var cs []contender
	var ends []func() error
	for i, m := range []mode{modeClear, modeShipped} {
		r := b.newReplica(m, fmt.Sprintf("%s.ours%d", p.target, i))
		cs = append(cs, r.delta(p, b.base, v, tracked, m.variant))
		ends = append(ends, r.forget)
	}
	return slices.Clip(cs), joinEnds(ends...)
}

// startOnly is two processes of the program that end at once, as a copy has.
func (b *bench) startOnly() contender {
	return b.floorOf("two processes of the program that only start", func() (measure.Sample, error) {
		c := measure.Command{Args: []string{b.product.path, "copy", "key", "--help"}}
		s, _, err := measure.Run(context.Background(), nil, c, c)
		return s, err
	})
}
