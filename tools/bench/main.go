// Command bench measures `lifeboat copy` against its peers and against what
// the machine can do at best, and says which goals are met.
//
//	bench [-jobs full,inc1] [-runs 5] [-lifeboat bin/lifeboat] [-write docs/benchmarks.md]
//	bench images DIR          only makes the images
//	bench report              prints the tables of the last measurement again
//
// Every job runs the product, its peers and the floor in turn, round after
// round, on the same images; each result is compared byte for byte. Peers
// (rsync, nbdkit with nbdcopy and qemu-img, QEMU's dirty bitmaps,
// blocksync-fast) are taken from PATH; one that is missing is said.
//
// As root it runs in namespaces of its own, with the images on a tmpfs of its
// own; else in /dev/shm, where others' loopback traffic counts too and the
// jobs with a cold disk are left out.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"regexp"
	"strings"
	"syscall"
	"time"

	"lifeboat/tools/bench/workload"
)

func main() {
	if len(os.Args) > 2 && os.Args[1] == "rsh" {
		fail(remoteShell(os.Args[3:]))
	}
	if os.Getenv(insideVar) == "" && !(len(os.Args) > 1 && (os.Args[1] == "report" || os.Args[1] == "images")) {
		ran, err := isolate()
		var ended *exec.ExitError
		if errors.As(err, &ended) {
			os.Exit(max(1, ended.ExitCode()))
		}
		fail(err)
		if ran {
			return
		}
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	fail(run(ctx, os.Args[1:]))
}

func fail(err error) {
	if err != nil {
		fmt.Fprintln(os.Stderr, "bench:", err)
		os.Exit(1)
	}
}

// options are the flags.
type options struct {
	lifeboat string
	jobs     string
	only     *regexp.Regexp
	runs     int
	size     int64
	work     string
	disk     string
	results  string
	write    string
	resume   bool
	quiet    time.Duration
	noise    float64
}

func parse(args []string) (options, []string, error) {
	var o options
	var only, size string
	fs := flag.NewFlagSet("bench", flag.ContinueOnError)
	fs.StringVar(&o.lifeboat, "lifeboat", "bin/lifeboat", "the program that is measured")
	fs.StringVar(&o.jobs, "jobs", "", "only these jobs, by comma (default all): "+strings.Join(jobNames(), ","))
	fs.StringVar(&only, "only", ".", "only contenders whose `NAME VARIANT` matches this regular expression")
	fs.IntVar(&o.runs, "runs", 5, "timed runs of each contender")
	fs.StringVar(&size, "size", "4G", "size of the image (the goals are for 4G)")
	fs.StringVar(&o.work, "work", "", "directory for the images in place of memory; images that it has are used")
	fs.StringVar(&o.disk, "disk", "/var/tmp/lifeboat-bench", "directory on a real disk, for the jobs with a cold page cache")
	fs.StringVar(&o.results, "results", "/var/tmp/lifeboat-bench.jsonl", "file of all runs")
	fs.StringVar(&o.write, "write", "", "document that gets the tables, between its markers")
	fs.BoolVar(&o.resume, "resume", false, "keep the jobs that the results file has whole")
	fs.DurationVar(&o.quiet, "quiet", 15*time.Second, "wait at most this long for an idle machine before a run")
	fs.Float64Var(&o.noise, "noise", 0.2, "a run during which others used more than this many processors is repeated")
	if err := fs.Parse(args); err != nil {
		return o, nil, err
	}
	var err error
	if o.only, err = regexp.Compile(only); err != nil {
		return o, nil, fmt.Errorf("-only: %w", err)
	}
	if o.size, err = parseSize(size); err != nil {
		return o, nil, fmt.Errorf("-size: %w", err)
	}
	if o.runs < 1 {
		return o, nil, fmt.Errorf("-runs %d: at least 1", o.runs)
	}
	for _, p := range []*string{&o.lifeboat, &o.work, &o.disk, &o.results, &o.write} {
		if *p == "" {
			continue
		}
		if *p, err = filepath.Abs(*p); err != nil {
			return o, nil, err
		}
	}
	return o, fs.Args(), nil
}

func parseSize(s string) (int64, error) {
	var n int64
	var unit string
	if k, _ := fmt.Sscanf(s, "%d%1s", &n, &unit); k == 0 || n <= 0 {
		return 0, fmt.Errorf("%q is no size: say 1G or 512M", s)
	}
	switch unit {
	case "M":
		n <<= 20
	case "G":
		n <<= 30
	case "":
	default:
		return 0, fmt.Errorf("unit of %q: M or G", s)
	}
	if n < 256<<20 || n%(1<<20) != 0 {
		return 0, fmt.Errorf("%q: at least 256M, in whole MiB", s)
	}
	return n, nil
}

func run(ctx context.Context, args []string) error {
	command := ""
	if len(args) > 0 && !strings.HasPrefix(args[0], "-") {
		command, args = args[0], args[1:]
	}
	o, rest, err := parse(args)
	if errors.Is(err, flag.ErrHelp) {
		return nil
	}
	if err != nil {
		return err
	}
	switch command {
	case "images":
		if len(rest) != 1 {
			return errors.New("images DIR: one directory")
		}
		return makeImages(rest[0], o.size)
	case "report":
		s, err := readResults(o.results)
		if err != nil {
			return err
		}
		return publish(s, o.write)
	case "":
		if len(rest) > 0 {
			return fmt.Errorf("unknown argument %q", rest[0])
		}
		return measureAll(ctx, o)
	default:
		return fmt.Errorf("unknown command %q: images or report, or none", command)
	}
}

// remoteShell stands in for ssh where rsync wants one: it runs the command here.
func remoteShell(args []string) error {
	if len(args) == 0 {
		return errors.New("rsh HOST COMMAND: no command")
	}
	path, err := exec.LookPath(args[0])
	if err != nil {
		return err
	}
	return syscall.Exec(path, args, os.Environ())
}

// images are the files of the workload.
type images struct {
	dir              string
	base, v1, v10    string
	map1, map10      string
	extents1, exts10 []workload.Extent
}

func imagesIn(dir string) images {
	p := func(name string) string { return filepath.Join(dir, name) }
	return images{dir: dir, base: p("base.img"), v1: p("v1.img"), v10: p("v10.img"), map1: p("v1.map"), map10: p("v10.map")}
}

// makeImages makes the images that dir does not have yet: base, and versions
// of it with 1 % and 10 % of the blocks changed.
func makeImages(dir string, size int64) error {
	i := imagesIn(dir)
	if st, err := os.Stat(i.base); err != nil {
		if err := workload.Generate(i.base, size, 1); err != nil {
			return err
		}
	} else if st.Size() != size {
		return fmt.Errorf("%s has %d bytes, not %d: remove it, or use its size", i.base, st.Size(), size)
	}
	for _, v := range []struct {
		image, changes string
		share          float64
		seed           uint64
	}{{i.v1, i.map1, 0.01, 2}, {i.v10, i.map10, 0.10, 3}} {
		if _, err := os.Stat(v.changes); err == nil {
			continue // written last
		}
		es, err := workload.Mutate(i.base, v.image, v.share, v.seed)
		if err != nil {
			return err
		}
		if err := workload.WriteMap(v.changes, es); err != nil {
			return err
		}
	}
	return nil
}

// openImages makes what is missing and reads the maps.
func openImages(dir string, size int64) (i images, err error) {
	if err := makeImages(dir, size); err != nil {
		return i, err
	}
	i = imagesIn(dir)
	if i.extents1, err = workload.ReadMap(i.map1); err != nil {
		return i, err
	}
	i.exts10, err = workload.ReadMap(i.map10)
	return i, err
}
