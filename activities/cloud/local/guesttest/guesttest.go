// Package guesttest builds a small guest for virtual machines: the cloud kernel
// of Debian with an initial file system that serves what it finds on its disk.
// It is for tests and demonstrations of the runtime qemu.
//
// The guest gets its address by DHCP and answers HTTP on port 80: GET / is the
// first line on its first disk, PUT / replaces it and is on the disk before the
// answer. With qemu-ga installed where it is built, it runs scripts. It shuts
// down when the power button is pressed.
package guesttest

import (
	"bytes"
	"cmp"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
)

// Append is the kernel command line that the guest needs.
const Append = "console=ttyS0 panic=-1 quiet"

// modules that the guest loads, in this order after what they depend on.
var modules = []string{"virtio_pci", "virtio_blk", "virtio_net", "virtio_console", "virtio-rng", "button", "evdev"}

// applets of busybox that scripts find.
var applets = []string{"sh", "cat", "chmod", "cut", "date", "df", "echo", "env", "grep", "head", "hostname", "id", "ifconfig", "ip", "kill", "ls", "mktemp",
	"mount", "mkdir", "poweroff", "ps", "rm", "route", "seq", "setsid", "sleep", "sync", "tail", "timeout", "touch", "tr", "true", "udhcpc", "uname", "wc", "wget"}

// ErrMissing says that this machine lacks what a guest is made of.
var ErrMissing = errors.New("cannot build a guest here")

// Build writes the kernel and the initial file system to dir, which must exist,
// and returns their paths. Without the Debian packages linux-image-cloud-amd64
// and busybox it fails with ErrMissing. It needs Go, and runs in this module.
func Build(dir string) (kernel, initrd string, err error) {
	image, version, err := findKernel()
	if err != nil {
		return "", "", err
	}
	kernel, initrd = filepath.Join(dir, "vmlinuz"), filepath.Join(dir, "initrd")
	raw, err := os.ReadFile(image)
	if err == nil {
		err = os.WriteFile(kernel, raw, 0o600)
	}
	if err != nil {
		return "", "", fmt.Errorf("kernel %s: %w", image, err)
	}
	var a archive
	if err := addInit(&a, dir); err != nil {
		return "", "", err
	}
	if err := addModules(&a, filepath.Join("/lib/modules", version)); err != nil {
		return "", "", err
	}
	if err := addPrograms(&a); err != nil {
		return "", "", err
	}
	return kernel, initrd, os.WriteFile(initrd, a.bytes(), 0o600)
}

// findKernel returns the newest cloud kernel of this machine and its version.
func findKernel() (image, version string, err error) {
	const prefix = "/boot/vmlinuz-"
	all, err := filepath.Glob(prefix + "*-cloud-*")
	if err != nil || len(all) == 0 {
		return "", "", fmt.Errorf("%w: no cloud kernel in /boot (package linux-image-cloud-amd64)", ErrMissing)
	}
	slices.Sort(all)
	image = all[len(all)-1]
	return image, strings.TrimPrefix(image, prefix), nil
}

// addInit builds the first program of the guest.
func addInit(a *archive, dir string) error {
	program := filepath.Join(dir, "init")
	cmd := exec.Command("go", "build", "-trimpath", "-ldflags=-s -w", "-o", program, "lifeboat/activities/cloud/local/guesttest/guest")
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0", "GOOS=linux", "GOARCH=amd64")
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("build the guest's init: %w: %s", err, bytes.TrimSpace(out))
	}
	return a.addFile(program, "init", 0o755)
}

// addModules adds the modules and a list of them in the order of loading.
func addModules(a *archive, dir string) error {
	raw, err := os.ReadFile(filepath.Join(dir, "modules.dep"))
	if err != nil {
		return fmt.Errorf("%w: %w", ErrMissing, err)
	}
	paths, needs := map[string]string{}, map[string][]string{}
	for line := range strings.Lines(string(raw)) {
		path, rest, _ := strings.Cut(strings.TrimSpace(line), ":")
		name, _, _ := strings.Cut(filepath.Base(path), ".ko")
		paths[name], needs[path] = path, strings.Fields(rest)
	}
	var order []string
	for _, name := range modules {
		path := paths[name]
		if path == "" {
			continue // built into this kernel
		}
		chain := append([]string{path}, needs[path]...)
		slices.Reverse(chain) // what is needed stands behind what needs it
		for _, p := range chain {
			if slices.Contains(order, p) {
				continue
			}
			order = append(order, p)
			content, err := readModule(filepath.Join(dir, p))
			if err != nil {
				return err
			}
			a.add(fmt.Sprintf("modules/%02d", len(order)), content, 0o644)
		}
	}
	return nil
}

// readModule reads a module, which newer distributions compress.
func readModule(path string) ([]byte, error) {
	tool := map[string]string{".xz": "xz", ".zst": "zstd", ".gz": "gzip"}[filepath.Ext(path)]
	if tool == "" {
		return os.ReadFile(path)
	}
	out, err := exec.Command(tool, "-dc", path).Output()
	if err != nil {
		return nil, fmt.Errorf("module %s: %w", path, err)
	}
	return out, nil
}

// addPrograms adds a shell, and the guest agent where it is installed.
func addPrograms(a *archive) error {
	busybox, err := exec.LookPath("busybox")
	if err != nil {
		return fmt.Errorf("%w: no busybox (package busybox)", ErrMissing)
	}
	if err := addProgram(a, busybox, "bin/busybox"); err != nil {
		return err
	}
	for _, name := range applets {
		a.link("bin/"+name, "busybox")
	}
	agent := cmp.Or(find("qemu-ga"), find("/usr/sbin/qemu-ga"))
	if agent == "" {
		return nil
	}
	return addProgram(a, agent, "bin/qemu-ga")
}

func find(program string) string {
	path, err := exec.LookPath(program)
	if err != nil {
		return ""
	}
	return path
}

// addProgram adds a program and the libraries that it is linked with.
func addProgram(a *archive, path, name string) error {
	if err := a.addFile(path, name, 0o755); err != nil {
		return err
	}
	out, err := exec.Command("ldd", path).Output()
	if err != nil {
		return nil // it is static
	}
	for line := range strings.Lines(string(out)) {
		for _, word := range strings.Fields(line) {
			if !filepath.IsAbs(word) {
				continue
			}
			if err := a.addFile(word, strings.TrimPrefix(word, "/"), 0o755); err != nil {
				return err
			}
		}
	}
	return nil
}

// addFile adds a file of this machine, unless it is there already.
func (a *archive) addFile(path, name string, mode fs.FileMode) error {
	content, err := os.ReadFile(path)
	if err != nil {
		return err
	}
	a.add(name, content, mode)
	return nil
}
