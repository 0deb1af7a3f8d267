package soakcopy

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"time"

	"lifeboat/replication/volume"
)

// campaign copies a device that is written to, with the delivered program at both ends, and kills
// them.
type campaign struct {
	*stage
	lifeboat string
	dir      string
	address  string
	secure   bool
	keys     [2]string // files, of sender and receiver
	prints   [2]string
	rnd      *rand.Rand
	log      func(format string, args ...any)

	receiver *process
	kills    int
	losses   int
}

// process is a program that runs, with what it said.
type process struct {
	cmd  *exec.Cmd
	out  said
	done chan error
}

// said is what a process prints, which may be read while it runs.
type said struct {
	mu  sync.Mutex
	buf bytes.Buffer
}

func (s *said) Write(p []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.buf.Write(p)
}

func (s *said) String() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.buf.String()
}

func start(ctx context.Context, path string, args ...string) (*process, error) {
	p := &process{cmd: exec.CommandContext(ctx, path, args...), done: make(chan error, 1)}
	p.cmd.Stdout, p.cmd.Stderr = &p.out, &p.out
	if err := p.cmd.Start(); err != nil {
		return nil, err
	}
	go func() { p.done <- p.cmd.Wait() }()
	return p, nil
}

// kill is kill -9, and waits until the process is gone.
func (p *process) kill() {
	_ = p.cmd.Process.Kill() // it may have ended by itself
	<-p.done
}

// copyTime bounds one copy of the stage, which takes well under a second.
const copyTime = 60 * time.Second

// newCampaign finds an address and makes keys.
func newCampaign(ctx context.Context, c *campaign) (*campaign, error) {
	// The receiver listens there again and again: on an address of its own, nobody takes the port meanwhile.
	l, err := net.Listen("tcp", fmt.Sprintf("127.83.%d.%d:0", os.Getpid()>>8&0xff, os.Getpid()&0xff))
	if err != nil {
		return nil, err
	}
	c.address = l.Addr().String()
	if err := l.Close(); err != nil {
		return nil, err
	}
	for i, name := range []string{"sender.key", "receiver.key"} {
		c.keys[i] = filepath.Join(c.dir, name)
		out, err := run(ctx, c.lifeboat, "copy", "key", c.keys[i])
		if err != nil {
			return nil, err
		}
		at := strings.Index(out, "sha256:")
		if at < 0 {
			return nil, fmt.Errorf("copy key says no fingerprint: %s", out)
		}
		c.prints[i] = strings.Fields(out[at:])[0]
	}
	return c, nil
}

// trust gives the flags of an end: 0 sends, 1 receives.
func (c *campaign) trust(end int) []string {
	if !c.secure {
		return []string{"--insecure-plaintext"}
	}
	return []string{"--key", c.keys[end], "--peer", c.prints[1-end]}
}

func (c *campaign) image() string { return filepath.Join(c.targetDir, "copy.img") }

func (c *campaign) startReceiver(ctx context.Context) (err error) {
	args := append([]string{"copy", "receive", c.image(), "--listen", c.address,
		"--state", filepath.Join(c.targetDir, "state")}, c.trust(1)...)
	c.receiver, err = start(ctx, c.lifeboat, args...)
	return err
}

func (c *campaign) startSender(ctx context.Context) (*process, error) {
	args := append([]string{"copy", c.source, c.address, "--json", "--retry", "20s",
		"--state", filepath.Join(c.dir, "state")}, c.trust(0)...)
	return start(ctx, c.lifeboat, args...)
}

// strike lets a copy of the live device begin, and kills one end or both, and perhaps the target's
// power.
func (c *campaign) strike(ctx context.Context) error {
	sender, err := c.startSender(ctx)
	if err != nil {
		return err
	}
	select {
	case <-time.After(time.Duration(c.rnd.Int64N(int64(250 * time.Millisecond)))):
	case err := <-sender.done:
		sender.done <- err
	}
	which := c.rnd.IntN(4)
	c.kills++
	if which == 0 || which == 3 {
		sender.kill()
	}
	if which > 0 {
		c.receiver.kill()
		if which == 2 {
			c.losses++
			if err := c.losePower(ctx); err != nil {
				return err
			}
		}
		if err := c.startReceiver(ctx); err != nil {
			return err
		}
	}
	if which == 1 || which == 2 { // the sender goes on by itself, or is killed later
		select {
		case err := <-sender.done:
			if err != nil {
				return fmt.Errorf("sender whose receiver was killed: %w: %s", err, sender.out.String())
			}
		case <-time.After(time.Duration(c.rnd.Int64N(int64(300 * time.Millisecond)))):
			sender.kill()
		}
	}
	return nil
}

// finish copies the device at a moment at which it stands still, and checks the copy.
func (c *campaign) finish(ctx context.Context, w *writer) (err error) {
	files, err := w.cut(c.freeze)
	if err != nil {
		return err
	}
	frozen := true
	defer func() {
		if frozen {
			err = errors.Join(err, c.thaw())
		}
	}()
	inTime, cancel := context.WithTimeoutCause(ctx, copyTime, fmt.Errorf("the copy is not complete after %v", copyTime))
	defer cancel()
	sender, err := c.startSender(inTime) // the receiver lives on
	if err != nil {
		return err
	}
	if err := <-sender.done; err != nil {
		return fmt.Errorf("copy without kills: %w: %s: receiver: %s", err, sender.out.String(), c.receiver.out.String())
	}
	if c.rnd.IntN(2) == 0 { // what was said to be complete has to be durable
		c.losses++
		c.receiver.kill()
		if err := c.losePower(ctx); err != nil {
			return err
		}
		if err := c.startReceiver(ctx); err != nil {
			return err
		}
	}
	if err := equal(c.source, c.image()); err != nil {
		return err
	}
	frozen = false
	if err := c.thaw(); err != nil {
		return err
	}
	// The check is of a copy: mounting the target would write to it.
	checked := filepath.Join(c.dir, "checked.img")
	if _, err := run(ctx, "cp", "--sparse=always", c.image(), checked); err != nil {
		return err
	}
	if err := holds(ctx, checked, filepath.Join(c.dir, "mounted"), files); err != nil {
		return err
	}
	c.log("%d files hold after %d kills and %d losses of power: %s", len(files), c.kills, c.losses, strings.TrimSpace(sender.out.String()))
	return nil
}

// equal compares a device with a file by their bytes.
func equal(device, file string) (err error) {
	a, err := volume.Open(device)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, a.Close()) }()
	b, err := volume.Open(file)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, b.Close()) }()
	if a.Size() != b.Size() {
		return fmt.Errorf("%s has %d bytes, %s %d", device, a.Size(), file, b.Size())
	}
	p, q := volume.Buffer(1<<20), volume.Buffer(1<<20)
	for off := int64(0); off < a.Size(); off += int64(len(p)) {
		n := min(int64(len(p)), a.Size()-off)
		if err := errors.Join(volume.ReadFull(a, p[:n], off), volume.ReadFull(b, q[:n], off)); err != nil {
			return err
		}
		if !bytes.Equal(p[:n], q[:n]) {
			return fmt.Errorf("%s and %s differ within the MiB at %d", device, file, off)
		}
	}
	return nil
}
