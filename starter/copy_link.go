package main

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"

	"github.com/spf13/cobra"
	"golang.org/x/sys/unix"

	"lifeboat/replication/block"
	"lifeboat/replication/delta"
	"lifeboat/replication/volume"
)

// linkFlags say how the two ends of a copy know each other.
type linkFlags struct {
	key, peer string
	plaintext bool
}

func (f *linkFlags) add(cmd *cobra.Command) {
	cmd.Flags().StringVar(&f.key, "key", "", "file with the key of this end, made if missing (default \"lifeboat/copy.key\" in the user's configuration directory)")
	cmd.Flags().StringVar(&f.peer, "peer", "", "fingerprint of the other end's key, or a file that holds it")
	cmd.Flags().BoolVar(&f.plaintext, "insecure-plaintext", false, "no encryption and a fast proof that finds accidents only; for comparisons on loopback")
}

// way is how a sender reaches a receiver.
type way struct {
	dial  func(ctx context.Context) (net.Conn, error)
	proof block.Proof
	// links are its connections.
	links *delta.Links
	// local: the other end is in this process.
	local bool
	// close waits for an end in this process, and tells what it could not tell the sender.
	close func() error
}

// isRemote tells HOST:PORT from a path.
func isRemote(s string) bool {
	host, port, err := net.SplitHostPort(s)
	if err != nil || host == "" || strings.Contains(s, "/") {
		return false
	}
	_, err = strconv.ParseUint(port, 10, 16)
	return err == nil
}

// toReceiver makes the way to a target: a receiver in this process, or one that listens.
func (f *copyFlags) toReceiver(source, target string) (way, error) {
	if isRemote(target) {
		return f.remote(target)
	}
	if err := f.unused("two volumes"); err != nil {
		return way{}, err
	}
	if err := differentVolumes(source, target); err != nil {
		return way{}, err
	}
	return localWay(delta.ReceiveConfig{Path: target, State: f.state}), nil
}

// remote makes the way to a receiver that listens at an address.
func (f *linkFlags) remote(address string) (way, error) {
	var dialer net.Dialer
	w := way{links: new(delta.Links), close: func() error { return nil }}
	if f.plaintext {
		if err := f.checkPlain(address); err != nil {
			return w, err
		}
		w.proof = block.Fast
		w.dial = func(ctx context.Context) (net.Conn, error) {
			conn, err := dialer.DialContext(ctx, "tcp", address)
			if err != nil {
				return nil, err
			}
			if !conn.RemoteAddr().(*net.TCPAddr).IP.IsLoopback() {
				return nil, errors.Join(errNotLoopback(address), conn.Close())
			}
			w.links.Add(conn)
			return conn, nil
		}
		return w, nil
	}
	config, _, err := f.tls()
	if err != nil {
		return w, err
	}
	w.proof = block.BLAKE3
	w.dial = func(ctx context.Context) (net.Conn, error) {
		raw, err := dialer.DialContext(ctx, "tcp", address)
		if err != nil {
			return nil, err
		}
		w.links.Add(raw)
		conn := delta.SecureClient(raw, config)
		if err := conn.HandshakeContext(ctx); err != nil {
			return nil, errors.Join(err, raw.Close())
		}
		return conn, nil
	}
	return w, nil
}

func errNotLoopback(address string) error {
	return usagef("--insecure-plaintext: %s is not a loopback address, and what is sent there could be read and changed on its way; use --key and --peer", address)
}

// checkPlain refuses plaintext to other machines.
func (f *linkFlags) checkPlain(address string) error {
	if f.key != "" || f.peer != "" {
		return usagef("--insecure-plaintext uses no keys: leave --key and --peer away, or --insecure-plaintext")
	}
	host, _, err := net.SplitHostPort(address)
	if err != nil {
		return usagef("%s: %v; write HOST:PORT, for example 127.0.0.1:7480", address, err)
	}
	if ip := net.ParseIP(host); host != "localhost" && (ip == nil || !ip.IsLoopback()) {
		return errNotLoopback(address)
	}
	return nil
}

// tls gives the settings of a connection whose other end shows the pinned key.
func (f *linkFlags) tls() (*tls.Config, delta.Fingerprint, error) {
	if f.peer == "" {
		return nil, "", usagef("--peer is missing: the fingerprint that `lifeboat copy key` prints at the other end")
	}
	peer, err := readFingerprint(f.peer)
	if err != nil {
		return nil, "", err
	}
	id, err := loadKey(f.key)
	if err != nil {
		return nil, "", err
	}
	return id.TLS(func(shown delta.Fingerprint) error {
		if shown != peer {
			return fmt.Errorf("%w: the other end shows %s, --peer says %s; if that is its key, give its fingerprint", delta.ErrWrongPeer, shown, peer)
		}
		return nil
	}), peer, nil
}

// loadKey reads a key, or makes it; "" is the user's own.
func loadKey(path string) (*delta.Identity, error) {
	if path == "" {
		dir, err := os.UserConfigDir()
		if err != nil {
			return nil, usagef("no place for a key: %v; give a file with --key", err)
		}
		path = filepath.Join(dir, "lifeboat", "copy.key")
	}
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		return nil, fmt.Errorf("key %s: %w", path, err)
	}
	return delta.LoadIdentity(path)
}

// readFingerprint reads a fingerprint, or a file that holds one.
func readFingerprint(s string) (delta.Fingerprint, error) {
	if fp, err := delta.ParseFingerprint(s); err == nil {
		return fp, nil
	}
	raw, err := os.ReadFile(s)
	if err != nil {
		return "", usagef("--peer %s: neither a fingerprint (sha256: and 64 hex digits) nor a file with one: %v", s, err)
	}
	fp, err := delta.ParseFingerprint(strings.TrimSpace(string(raw)))
	if err != nil {
		return "", usagef("--peer %s: the file holds no fingerprint (sha256: and 64 hex digits)", s)
	}
	return fp, nil
}

// localWay connects to a receiver in this process, by socket pairs that nobody else can open.
func localWay(c delta.ReceiveConfig) way {
	var (
		mu       sync.Mutex
		failed   error
		sessions sync.WaitGroup
	)
	c.Ended = func(_ string, err error) {
		mu.Lock()
		defer mu.Unlock()
		failed = err
	}
	r := delta.NewReceiver(c)
	ctx, stop := context.WithCancel(context.Background())
	return way{
		proof: block.BLAKE3,
		links: new(delta.Links), local: true,
		dial: func(context.Context) (net.Conn, error) {
			near, far, err := socketPair()
			if err != nil {
				return nil, err
			}
			// What goes wrong there is told to the sender, which returns it.
			sessions.Go(func() { _ = r.Serve(ctx, far) })
			return near, nil
		},
		close: func() error {
			sessions.Wait()
			stop()
			return failed
		},
	}
}

func socketPair() (a, b net.Conn, err error) {
	fds, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, 0)
	if err != nil {
		return nil, nil, fmt.Errorf("connect both ends: %w", err)
	}
	var conns [2]net.Conn
	for i, fd := range fds {
		f := os.NewFile(uintptr(fd), "copy")
		c, ferr := net.FileConn(f)
		err = errors.Join(err, ferr, f.Close())
		conns[i] = c
	}
	return conns[0], conns[1], err
}

// differentVolumes refuses to copy a volume to itself.
func differentVolumes(source, target string) error {
	s, err := volume.Identify(source)
	if err != nil {
		return fmt.Errorf("source: %w", err)
	}
	if t, err := volume.Identify(target); err == nil && s.SameVolume(t) {
		return usagef("%s and %s are the same volume", source, target)
	}
	return nil
}
