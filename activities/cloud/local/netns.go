package local

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"runtime"
	"sync"

	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netns"
	"golang.org/x/sys/unix"
)

// namespaceDir is where network namespaces have names, for ip(8) too.
const namespaceDir = "/run/netns"

// canIsolate tells whether this process may make network namespaces, and why not.
var canIsolate = sync.OnceValue(func() error {
	return onThread(func() error {
		if err := unix.Unshare(unix.CLONE_NEWNET); err != nil {
			return fmt.Errorf("make a network namespace: %w", err)
		}
		if err := os.MkdirAll(namespaceDir, 0o755); err != nil {
			return err
		}
		return unix.Access(namespaceDir, unix.W_OK)
	})
})

// onThread runs f on a thread of its own that ends with it, so that f may
// leave the thread in another namespace.
func onThread(f func() error) error {
	done := make(chan error, 1)
	go func() {
		runtime.LockOSThread() // without an unlock the thread ends with the goroutine
		done <- f()
	}()
	return <-done
}

// isNamespace tells whether a name is there and is a namespace: a file without
// a mount on it is what a killed process or a restart of the machine left.
func isNamespace(path string) (bool, error) {
	var fs unix.Statfs_t
	err := unix.Statfs(path, &fs)
	if errors.Is(err, unix.ENOENT) {
		return false, nil
	}
	return err == nil && fs.Type == unix.NSFS_MAGIC, err
}

// ensureNamespace makes a named network namespace with its loopback interface
// up, unless it is there. The caller holds a lock against others who do.
func ensureNamespace(name string) error {
	path := filepath.Join(namespaceDir, name)
	is, err := isNamespace(path)
	if err != nil || is {
		return err
	}
	if err := os.Remove(path); err != nil && !errors.Is(err, os.ErrNotExist) {
		return err
	}
	return onThread(func() error {
		handle, err := netns.NewNamed(name)
		if err != nil {
			return fmt.Errorf("make network namespace %s: %w", name, err)
		}
		defer handle.Close()
		lo, err := netlink.LinkByName("lo")
		if err == nil {
			err = netlink.LinkSetUp(lo)
		}
		if err != nil {
			return fmt.Errorf("loopback interface of network namespace %s: %w", name, err)
		}
		return nil
	})
}

// deleteNamespace removes the name; the namespace ends with its last process.
func deleteNamespace(name string) error {
	path := filepath.Join(namespaceDir, name)
	if is, err := isNamespace(path); err != nil {
		return err
	} else if is {
		if err := unix.Unmount(path, unix.MNT_DETACH); err != nil {
			return fmt.Errorf("network namespace %s: %w", name, err)
		}
	}
	if err := os.Remove(path); err != nil && !errors.Is(err, os.ErrNotExist) {
		return err
	}
	return nil
}

// enterNamespace moves the current thread into a namespace.
func enterNamespace(name string) error {
	handle, err := netns.GetFromName(name)
	if err != nil {
		return fmt.Errorf("network namespace %s: %w", name, err)
	}
	defer handle.Close()
	if err := netns.Set(handle); err != nil {
		return fmt.Errorf("enter network namespace %s: %w", name, err)
	}
	return nil
}

// setAddress gives the loopback interface of a namespace an address, or takes
// it away; a namespace that is gone has none.
func setAddress(name string, ip netip.Addr, present bool) error {
	handle, err := netns.GetFromName(name)
	if err != nil {
		if errors.Is(err, os.ErrNotExist) && !present {
			return nil
		}
		return fmt.Errorf("network namespace %s: %w", name, err)
	}
	defer handle.Close()
	h, err := netlink.NewHandleAt(handle)
	if err != nil {
		return fmt.Errorf("network namespace %s: %w", name, err)
	}
	defer h.Close()
	lo, err := h.LinkByName("lo")
	if err != nil {
		return fmt.Errorf("network namespace %s: %w", name, err)
	}
	address := &netlink.Addr{IPNet: &net.IPNet{IP: ip.AsSlice(), Mask: net.CIDRMask(ip.BitLen(), ip.BitLen())}}
	if !present {
		if err := h.AddrDel(lo, address); err != nil && !isAny(err, unix.EADDRNOTAVAIL, unix.ESRCH) {
			return fmt.Errorf("address %s: %w", ip, err)
		}
		return nil
	}
	if err := h.AddrReplace(lo, address); err != nil {
		return fmt.Errorf("address %s: %w", ip, err)
	}
	return nil
}

// dialIn opens a TCP connection from within a namespace ("" = this one). The
// socket stays there, whatever thread uses it.
func dialIn(ctx context.Context, namespace, hostport string) (net.Conn, error) {
	var dialer net.Dialer
	if namespace == "" {
		return dialer.DialContext(ctx, "tcp4", hostport)
	}
	var conn net.Conn
	err := onThread(func() (err error) {
		if err := enterNamespace(namespace); err != nil {
			return err
		}
		// To one numeric address it makes the socket on this very thread.
		conn, err = dialer.DialContext(ctx, "tcp4", hostport)
		return err
	})
	return conn, err
}
