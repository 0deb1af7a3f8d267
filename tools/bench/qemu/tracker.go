package qemu

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"time"

	"lifeboat/tools/bench/measure"
	"lifeboat/tools/bench/workload"
)

// Tracker is a qemu-storage-daemon that owns an image and notes its writes in
// a dirty bitmap.
type Tracker struct {
	dir    string
	daemon *exec.Cmd
	qmp    *monitor
	jobs   int
}

// Track starts a daemon on image whose bitmap (of granularity bytes) has the
// extents set: it writes them there through the daemon, with the content that
// they have already. Sockets are made in dir.
func Track(ctx context.Context, dir, image string, es []workload.Extent, granularity int) (*Tracker, error) {
	control, export := filepath.Join(dir, "q.qmp"), filepath.Join(dir, "q.nbd")
	for _, p := range []string{control, export} {
		if err := os.Remove(p); err != nil && !errors.Is(err, os.ErrNotExist) {
			return nil, err
		}
	}
	t := &Tracker{dir: dir, daemon: command(ctx, "qemu-storage-daemon",
		"--chardev", "socket,path="+control+",server=on,wait=off,id=c", "--monitor", "chardev=c",
		"--blockdev", "driver=file,node-name=f0,filename="+image,
		"--blockdev", "driver=raw,node-name=d0,file=f0",
		"--nbd-server", "addr.type=unix,addr.path="+export,
		"--export", "type=nbd,id=e0,node-name=d0,writable=on,name=d0")}
	if err := t.daemon.Start(); err != nil {
		return nil, err
	}
	if err := t.fill(ctx, control, export, image, es, granularity); err != nil {
		t.Close()
		return nil, fmt.Errorf("qemu-storage-daemon: %w", err)
	}
	return t, nil
}

func (t *Tracker) fill(ctx context.Context, control, export, image string, es []workload.Extent, granularity int) error {
	c, err := dial(ctx, "unix", control)
	if err != nil {
		return err
	}
	if t.qmp, err = openMonitor(c); err != nil {
		return err
	}
	if err := t.qmp.do("block-dirty-bitmap-add", arguments{"node": "d0", "name": "b", "granularity": granularity}); err != nil {
		return err
	}
	n, err := dial(ctx, "unix", export)
	if err != nil {
		return err
	}
	defer n.Close()
	return writeExtents(n, "d0", image, es)
}

// Close ends the daemon.
func (t *Tracker) Close() error {
	if t.qmp != nil {
		t.qmp.conn.Close()
	}
	return end(t.daemon)
}

// Target is a qemu-nbd that serves the image to which the tracker copies.
type Target struct {
	tracker *Tracker
	server  *exec.Cmd
}

// Serve starts a server for image, on a Unix socket or on loopback TCP, and
// connects the tracker to it.
func (t *Tracker) Serve(ctx context.Context, image string, unix bool) (*Target, error) {
	const host, port = "127.0.0.1", "10811"
	socket := filepath.Join(t.dir, "q.target")
	args := []string{"-f", "raw", "-t", "-e", "4", "--cache=writeback", "--discard=unmap"}
	network, address := "tcp", net.JoinHostPort(host, port)
	server := arguments{"type": "inet", "host": host, "port": port}
	if unix {
		network, address = "unix", socket
		server = arguments{"type": "unix", "path": socket}
		args = append(args, "-k", socket)
	} else {
		args = append(args, "-b", host, "-p", port)
	}
	g := &Target{tracker: t, server: command(ctx, "qemu-nbd", append(args, image)...)}
	if err := g.server.Start(); err != nil {
		return nil, err
	}
	c, err := dial(ctx, network, address)
	if err == nil {
		c.Close()
		err = t.qmp.do("blockdev-add", arguments{"driver": "nbd", "node-name": "target", "server": server})
	}
	if err != nil {
		_ = end(g.server) // it never served
		return nil, fmt.Errorf("qemu-nbd: %w", err)
	}
	return g, nil
}

// Close disconnects and ends the server.
func (g *Target) Close() error {
	return errors.Join(g.tracker.qmp.do("blockdev-del", arguments{"node-name": "target"}), end(g.server))
}

// Backup copies what the bitmap marks to the target. Only this job is
// measured, not the start of the processes. Workers limits how many requests
// are under way; 0 leaves QEMU's default of 64.
func (g *Target) Backup(workers int) (measure.Sample, error) {
	t := g.tracker
	t.jobs++
	job := fmt.Sprintf("j%d", t.jobs)
	args := arguments{"job-id": job, "device": "d0", "target": "target", "sync": "bitmap", "bitmap": "b", "bitmap-mode": "never"}
	if workers > 0 {
		args["x-perf"] = arguments{"max-workers": workers}
	}
	cpu := func() float64 { return measure.CPU(t.daemon.Process.Pid) + measure.CPU(g.server.Process.Pid) }
	before, busy, wire, start := cpu(), measure.Busy(), measure.Loopback(), time.Now()
	if err := t.qmp.do("blockdev-backup", args); err != nil {
		return measure.Sample{}, err
	}
	if err := t.qmp.completed(job); err != nil {
		return measure.Sample{}, err
	}
	s := measure.Sample{Wall: time.Since(start).Seconds(), CPU: cpu() - before, Wire: measure.Loopback() - wire}
	s.Other = max(0, measure.Busy()-busy-s.CPU)
	s.RSS = measure.PeakRSS(t.daemon.Process.Pid) + measure.PeakRSS(g.server.Process.Pid)
	return s, nil
}

func command(ctx context.Context, name string, args ...string) *exec.Cmd {
	c := exec.CommandContext(ctx, name, args...)
	c.Stderr = os.Stderr
	return c
}

// end stops a process with SIGTERM and waits for it.
func end(c *exec.Cmd) error {
	if err := c.Process.Signal(syscall.SIGTERM); err != nil && !errors.Is(err, os.ErrProcessDone) {
		return err
	}
	if err := c.Wait(); err != nil && c.ProcessState.ExitCode() > 0 {
		return fmt.Errorf("%s: %w", c.Path, err)
	}
	return nil
}

// dial connects as soon as somebody listens.
func dial(ctx context.Context, network, address string) (net.Conn, error) {
	ctx, cancel := context.WithTimeout(ctx, 10*time.Second)
	defer cancel()
	retry := time.NewTicker(10 * time.Millisecond)
	defer retry.Stop()
	for {
		c, err := new(net.Dialer).DialContext(ctx, network, address)
		if err == nil {
			return c, nil
		}
		select {
		case <-ctx.Done():
			return nil, err
		case <-retry.C:
		}
	}
}
