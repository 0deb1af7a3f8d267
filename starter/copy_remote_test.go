package main

import (
	"bufio"
	"bytes"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// receiving is a running `lifeboat copy receive`.
type receiving struct {
	cmd     *exec.Cmd
	address string
	out     bytes.Buffer

	mu   sync.Mutex
	said strings.Builder
	read chan struct{}
}

// receive starts a receiver and waits until it listens.
func receive(t *testing.T, program, target string, args ...string) *receiving {
	t.Helper()
	r := &receiving{cmd: exec.Command(program, append([]string{"copy", "receive", target}, args...)...), read: make(chan struct{})}
	r.cmd.Stdout = &r.out
	errs, err := r.cmd.StderrPipe()
	require.NoError(t, err)
	require.NoError(t, r.cmd.Start())
	t.Cleanup(r.kill)
	listening := make(chan string, 1)
	go func() {
		defer close(r.read)
		for lines := bufio.NewScanner(errs); lines.Scan(); {
			if address, ok := strings.CutPrefix(lines.Text(), "listening at "); ok {
				listening <- address
			}
			r.mu.Lock()
			r.said.WriteString(lines.Text() + "\n")
			r.mu.Unlock()
		}
		close(listening)
	}()
	address, ok := <-listening
	require.True(t, ok, "the receiver ended: %s", r.errors())
	r.address = address
	return r
}

func (r *receiving) errors() string {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.said.String()
}

func (r *receiving) kill() {
	_ = r.cmd.Process.Kill() // it may be gone
	<-r.read
	_ = r.cmd.Wait()
}

// ends waits for its end and gives the exit status.
func (r *receiving) ends(t *testing.T) int {
	t.Helper()
	<-r.read
	_ = r.cmd.Wait() // the status tells
	return r.cmd.ProcessState.ExitCode()
}

// pair is a source and its target at a receiver, with state and keys.
type pair struct {
	program, target, rs, ss, ka, kb string
	fa, fb                          string
	source                          *disk
}

func newPair(t *testing.T, bytes int64) *pair {
	t.Helper()
	dir := t.TempDir()
	in := func(name string) string { return filepath.Join(dir, name) }
	p := &pair{target: in("target"), rs: in("rs"), ss: in("ss"), ka: in("a.key"), kb: in("b.key"), source: newDisk(t, bytes)}
	p.program, _ = programs(t)
	p.fa = strings.TrimSpace(run(t, nil, "copy", "key", p.ka).done(t).out)
	p.fb = strings.TrimSpace(run(t, nil, "copy", "key", p.kb).done(t).out)
	return p
}

func (p *pair) receive(t *testing.T, args ...string) *receiving {
	t.Helper()
	return receive(t, p.program, p.target, append([]string{"--listen", "127.0.0.1:0", "--state", p.rs, "--key", p.kb, "--peer", p.fa}, args...)...)
}

func (p *pair) args(r *receiving, args ...string) []string {
	return append([]string{"copy", p.source.path, r.address, "--state", p.ss, "--key", p.ka, "--peer", p.fb}, args...)
}

func TestCopyToAnotherHostIsOnceAndEncrypted(t *testing.T) {
	t.Parallel()
	p := newPair(t, 10<<20+1)
	for i, changed := range []int64{-1, 0, 4096} {
		if changed > 0 {
			p.source.write(t, 6<<20, 10)
		}
		r := p.receive(t, "--once")
		c := parseCopied(t, run(t, nil, p.args(r, "--json")...).done(t).out)
		require.Zero(t, r.ends(t), r.errors())
		require.Equal(t, c.Root, strings.TrimSpace(r.out.String()))
		requireSame(t, p.source, p.target)
		if i > 0 {
			require.Equal(t, changed, c.Changed)
		}
	}
}

func TestFingerprintsMayComeFromFiles(t *testing.T) {
	t.Parallel()
	p := newPair(t, 1<<20)
	for _, f := range []*string{&p.fa, &p.fb} {
		path := filepath.Join(t.TempDir(), "fingerprint")
		require.NoError(t, os.WriteFile(path, []byte(*f+"\n"), 0o600))
		*f = path
	}
	r := p.receive(t, "--once")
	run(t, nil, p.args(r)...).done(t)
	require.Zero(t, r.ends(t))
}

func TestWrongKeysAreRefusedByEitherEnd(t *testing.T) {
	t.Parallel()
	p := newPair(t, 1<<20)
	r := p.receive(t)
	wrong := run(t, nil, append(p.args(r), "--peer", p.fa)...)
	require.Equal(t, statusFailed, wrong.status)
	require.Contains(t, wrong.err, "wrong peer")
	require.Contains(t, wrong.err, p.fb, "what it shows")
	wrong = run(t, nil, append(p.args(r), "--key", p.kb)...)
	require.Equal(t, statusFailed, wrong.status)
	require.Contains(t, wrong.err, "does not know our key")
	wrong = run(t, nil, "copy", p.source.path, r.address, "--insecure-plaintext", "--retry", "0s")
	require.Equal(t, statusFailed, wrong.status)
	require.NoFileExists(t, p.target)
	run(t, nil, p.args(r)...).done(t)
}

func TestPlaintextOnLoopbackUsesTheFastProof(t *testing.T) {
	t.Parallel()
	p := newPair(t, 5<<20)
	r := receive(t, p.program, p.target, "--listen", "127.0.0.1:0", "--insecure-plaintext", "--once", "--state", p.rs)
	c := copied(t, p.source.path, r.address, "--insecure-plaintext", "--state", p.ss)
	require.Zero(t, r.ends(t), r.errors())
	require.True(t, strings.HasPrefix(c.Root, "xxh3:"), c.Root)
	requireSame(t, p.source, p.target)
}

func TestBusyPortIsSaid(t *testing.T) {
	t.Parallel()
	p := newPair(t, 1<<20)
	r := p.receive(t)
	second := run(t, nil, "copy", "receive", p.target+"2", "--listen", r.address, "--insecure-plaintext")
	require.Equal(t, statusFailed, second.status)
	require.Contains(t, second.err, "another receiver")
}

func TestNobodyListensIsSaidAfterTheRetry(t *testing.T) {
	t.Parallel()
	source := newDisk(t, 1<<20)
	r := run(t, nil, "copy", source.path, "127.0.0.1:1", "--insecure-plaintext", "--retry", "20ms")
	require.Equal(t, statusFailed, r.status)
	require.Contains(t, r.err, "refused")
}

// sends starts a sender that is slow enough to be met on its way.
func (p *pair) sends(t *testing.T, r *receiving, rate string) (cmd *exec.Cmd, out, errs *bytes.Buffer) {
	t.Helper()
	cmd = exec.Command(p.program, p.args(r, "--json", "--bandwidth", rate)...)
	out, errs = new(bytes.Buffer), new(bytes.Buffer)
	cmd.Stdout, cmd.Stderr = out, errs
	require.NoError(t, cmd.Start())
	t.Cleanup(func() { _ = cmd.Process.Kill() }) // it may be gone
	return cmd, out, errs
}

// underWay waits until a good part of the source was acknowledged.
func (p *pair) underWay(t *testing.T) {
	t.Helper()
	require.Eventually(t, func() bool {
		left, err := os.ReadFile(filepath.Join(p.ss, "pass.json"))
		return err == nil && bytes.Contains(left, []byte(`"left"`)) && !bytes.Contains(left, []byte(`"first":0,`))
	}, 30*time.Second, 5*time.Millisecond)
}

// settledDisk is a source whose times are old enough to be trusted.
func settledDisk(t *testing.T, p *pair) {
	t.Helper()
	st, err := os.Stat(p.source.path)
	require.NoError(t, err)
	require.Eventually(t, func() bool { return time.Since(st.ModTime()) > 2100*time.Millisecond }, 10*time.Second, 50*time.Millisecond)
}

func TestKilledSenderGoesOnWhereItWas(t *testing.T) {
	t.Parallel()
	p := newPair(t, 90<<20)
	settledDisk(t, p)
	r := p.receive(t)
	cmd, _, _ := p.sends(t, r, "15MiB/s")
	p.underWay(t)
	require.NoError(t, cmd.Process.Signal(syscall.SIGKILL))
	_ = cmd.Wait() // killed
	c := parseCopied(t, run(t, nil, p.args(r, "--json")...).done(t).out)
	require.True(t, c.Resumed)
	require.Less(t, c.Scanned, int64(30<<20))
	requireSame(t, p.source, p.target)
}

func TestKilledReceiverIsComeBackTo(t *testing.T) {
	t.Parallel()
	p := newPair(t, 90<<20)
	settledDisk(t, p)
	r := p.receive(t)
	cmd, out, errs := p.sends(t, r, "15MiB/s")
	p.underWay(t)
	r.kill()
	again := receive(t, p.program, p.target, "--listen", r.address, "--state", p.rs, "--key", p.kb, "--peer", p.fa)
	require.NoError(t, cmd.Wait(), errs.String())
	require.Equal(t, r.address, again.address)
	c := parseCopied(t, out.String())
	require.Less(t, c.Sent, int64(60<<20))
	requireSame(t, p.source, p.target)
}

func TestInterruptedCopySaysHowToGoOn(t *testing.T) {
	t.Parallel()
	p := newPair(t, 90<<20)
	r := p.receive(t)
	cmd, out, errs := p.sends(t, r, "15MiB/s")
	p.underWay(t)
	require.NoError(t, cmd.Process.Signal(os.Interrupt))
	_ = cmd.Wait() // the status tells
	require.Equal(t, statusInterrupted, cmd.ProcessState.ExitCode())
	require.Contains(t, errs.String(), "run the same command again")
	require.Empty(t, out.String())
}

// A sender that is stuck holds the volume; another one is told, and told whose turn it is.
func TestTwoSendersDoNotMix(t *testing.T) {
	t.Parallel()
	p := newPair(t, 90<<20)
	r := p.receive(t)
	cmd, _, errs := p.sends(t, r, "6MiB/s")
	p.underWay(t)
	other := run(t, nil, "copy", newDisk(t, 1<<20).path, r.address, "--key", p.ka, "--peer", p.fb, "--retry", "0s")
	require.Equal(t, statusFailed, other.status)
	require.Contains(t, other.err, "another sender")
	require.NoError(t, cmd.Wait(), errs.String())
	requireSame(t, p.source, p.target)
}
