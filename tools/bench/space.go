package main

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"
)

// insideVar names the directory of the private tmpfs in the process that runs
// in the namespaces of its own.
const insideVar = "LIFEBOAT_BENCH_INSIDE"

// isolate runs this program again in mount, network and process namespaces of
// its own, so that the loopback's counter is that of the measured processes
// alone, and nothing is left when it ends. It returns false where that is not
// permitted.
func isolate() (bool, error) {
	if os.Geteuid() != 0 {
		return false, nil
	}
	dir, err := os.MkdirTemp("", "lifeboat-bench-")
	if err != nil {
		return false, err
	}
	defer os.Remove(dir)
	// The death signal is tied to the thread that starts the process.
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	c := exec.Command("/proc/self/exe", os.Args[1:]...)
	c.Args[0] = os.Args[0]
	c.Stdin, c.Stdout, c.Stderr = os.Stdin, os.Stdout, os.Stderr
	c.Env = append(os.Environ(), insideVar+"="+dir)
	c.SysProcAttr = &syscall.SysProcAttr{Cloneflags: unix.CLONE_NEWNS | unix.CLONE_NEWNET | unix.CLONE_NEWPID, Pdeathsig: syscall.SIGKILL}
	signal.Ignore(os.Interrupt) // the terminal sends it to the other process too
	if err := c.Start(); err != nil {
		signal.Reset(os.Interrupt)
		if errors.Is(err, syscall.EPERM) {
			return false, nil
		}
		return false, err
	}
	forward := make(chan os.Signal, 1)
	signal.Notify(forward, syscall.SIGTERM)
	go func() {
		for s := range forward {
			_ = c.Process.Signal(s) // it has ended if this fails
		}
	}()
	return true, c.Wait()
}

// settle makes the namespaces usable: own mounts, own /proc, loopback up.
func settle() error {
	if err := unix.Mount("", "/", "", unix.MS_REC|unix.MS_PRIVATE, ""); err != nil {
		return fmt.Errorf("make mounts private: %w", err)
	}
	if err := unix.Mount("proc", "/proc", "proc", 0, ""); err != nil {
		return fmt.Errorf("mount /proc: %w", err)
	}
	s, err := unix.Socket(unix.AF_INET, unix.SOCK_DGRAM, 0)
	if err != nil {
		return err
	}
	defer unix.Close(s)
	up, err := unix.NewIfreq("lo")
	if err != nil {
		return err
	}
	up.SetUint16(unix.IFF_UP | unix.IFF_RUNNING)
	if err := unix.IoctlIfreq(s, unix.SIOCSIFFLAGS, up); err != nil {
		return fmt.Errorf("loopback up: %w", err)
	}
	return nil
}

// memorySpace returns a directory in memory with room for need bytes: a tmpfs
// of its own inside the namespaces, else a directory in /dev/shm.
func memorySpace(need int64) (dir string, remove func() error, err error) {
	if have := availableMemory(); have < need {
		return "", nil, fmt.Errorf("the images need %s of memory, this machine has %s available: free some, or use a smaller image (SIZE=1G)", bytesText(need), bytesText(have))
	}
	if dir = os.Getenv(insideVar); dir != "" {
		if err := unix.Mount("lifeboat-bench", dir, "tmpfs", 0, "mode=0700,size="+strconv.FormatInt(need, 10)); err != nil {
			return "", nil, fmt.Errorf("mount a tmpfs for the images: %w", err)
		}
		return dir, func() error { return nil }, warm(dir, need)
	}
	const shm = "/dev/shm"
	if have := freeSpace(shm); have < need {
		return "", nil, fmt.Errorf("the images need %s in memory: without root they go to %s, which has %s free: run as root, or use a smaller image (SIZE=1G)", bytesText(need), shm, bytesText(have))
	}
	if dir, err = os.MkdirTemp(shm, "lifeboat-bench-"); err != nil {
		return "", nil, err
	}
	return dir, func() error { return os.RemoveAll(dir) }, warm(dir, need)
}

// warm touches the memory once: the first touch of a page of a virtual
// machine can cost five times as much as the later ones.
func warm(dir string, n int64) error {
	path := filepath.Join(dir, "warm")
	f, err := os.Create(path)
	if err != nil {
		return err
	}
	defer f.Close()
	buf := make([]byte, 1<<20)
	for off := int64(0); off+int64(len(buf)) <= n; off += int64(len(buf)) {
		if _, err := f.WriteAt(buf, off); err != nil {
			break // full: all of it was touched
		}
	}
	return os.Remove(path)
}

func freeSpace(dir string) int64 {
	var st unix.Statfs_t
	if err := unix.Statfs(dir, &st); err != nil {
		return 0
	}
	return int64(st.Bavail) * st.Bsize
}

func availableMemory() int64 {
	b, err := os.ReadFile("/proc/meminfo")
	if err != nil {
		return 0
	}
	_, rest, _ := strings.Cut(string(b), "MemAvailable:")
	if fs := strings.Fields(rest); len(fs) > 0 {
		n, _ := strconv.ParseInt(fs[0], 10, 64)
		return n << 10
	}
	return 0
}

// dropCaches forgets the page cache of real disks.
func dropCaches() error {
	unix.Sync()
	if err := os.WriteFile("/proc/sys/vm/drop_caches", []byte("3"), 0); err != nil {
		return fmt.Errorf("drop the page cache: %w", err)
	}
	return nil
}

// syncDisk flushes the file system that holds dir.
func syncDisk(dir string) error {
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	defer d.Close()
	return unix.Syncfs(int(d.Fd()))
}

func bytesText(n int64) string {
	switch {
	case n >= 1<<40 && n%(1<<40) == 0:
		return fmt.Sprintf("%d TiB", n>>40)
	case n >= 1<<30:
		return strings.TrimSuffix(fmt.Sprintf("%.1f", float64(n)/(1<<30)), ".0") + " GiB"
	default:
		return fmt.Sprintf("%.0f MiB", float64(n)/(1<<20))
	}
}
