// Command guest is the first program of the test guest, see package guesttest.
package main

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"time"

	"golang.org/x/sys/unix"
)

const (
	blockSize = 4096
	disk      = "/dev/vda"
	agentPort = "org.qemu.guest_agent.0"
)

func main() {
	if os.Getpid() != 1 {
		fmt.Fprintln(os.Stderr, "guest: this is the init of a virtual machine")
		os.Exit(2)
	}
	if err := run(); err != nil {
		fmt.Fprintln(os.Stderr, "guest:", err)
	}
	powerOff()
}

func powerOff() {
	unix.Sync()
	unix.Reboot(unix.LINUX_REBOOT_CMD_POWER_OFF) //nolint:errcheck // nothing is left to do
}

func run() error {
	for _, m := range []struct{ kind, at string }{{"proc", "/proc"}, {"sysfs", "/sys"}, {"devtmpfs", "/dev"}, {"tmpfs", "/tmp"}, {"tmpfs", "/run"}} {
		if err := os.MkdirAll(m.at, 0o755); err != nil {
			return err
		}
		if err := unix.Mount(m.kind, m.at, m.kind, 0, ""); err != nil {
			return fmt.Errorf("mount %s: %w", m.at, err)
		}
	}
	if err := loadModules(); err != nil {
		return err
	}
	if err := os.Setenv("PATH", "/bin"); err != nil {
		return err
	}
	if err := network(); err != nil {
		return err
	}
	go watchPower()
	go runAgent()
	fmt.Println("guest: serving")
	return http.ListenAndServe(":80", &content{})
}

// loadModules loads the modules in the order of their names.
func loadModules() error {
	paths, err := filepath.Glob("/modules/*")
	if err != nil {
		return err
	}
	for _, path := range paths {
		raw, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		if err := unix.InitModule(raw, ""); err != nil && !errors.Is(err, unix.EEXIST) {
			return fmt.Errorf("module %s: %w", path, err)
		}
	}
	return nil
}

// dhcpScript is what the DHCP client calls with what it has learnt.
const dhcpScript = `#!/bin/sh
[ "$1" = bound ] || exit 0
ifconfig "$interface" "$ip" netmask "$subnet"
for r in $router; do route add default gw "$r" dev "$interface"; done
`

func network() error {
	if err := os.WriteFile("/run/dhcp", []byte(dhcpScript), 0o700); err != nil {
		return err
	}
	script := "ifconfig lo 127.0.0.1 up && ifconfig eth0 up && exec udhcpc -i eth0 -f -q -n -t 10 -T 1 -s /run/dhcp"
	if out, err := exec.Command("/bin/sh", "-c", script).CombinedOutput(); err != nil {
		return fmt.Errorf("network: %w: %s", err, out)
	}
	return nil
}

// content is the first line on the disk.
type content struct{ mu sync.Mutex }

func (c *content) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	c.mu.Lock()
	defer c.mu.Unlock()
	switch r.Method {
	case http.MethodGet:
		line, err := readLine()
		if err != nil {
			http.Error(w, err.Error(), http.StatusInternalServerError)
			return
		}
		fmt.Fprintln(w, line)
	case http.MethodPut:
		body, err := io.ReadAll(io.LimitReader(r.Body, blockSize-1))
		if err == nil {
			err = writeLine(body)
		}
		if err != nil {
			http.Error(w, err.Error(), http.StatusInternalServerError)
		}
	default:
		w.WriteHeader(http.StatusMethodNotAllowed)
	}
}

func readLine() (string, error) {
	file, err := os.Open(disk)
	if err != nil {
		return "", err
	}
	defer file.Close()
	block := make([]byte, blockSize)
	n, err := io.ReadFull(file, block)
	if err != nil && !errors.Is(err, io.ErrUnexpectedEOF) {
		return "", err
	}
	line, _, _ := bytes.Cut(block[:n], []byte("\n"))
	return strings.TrimRight(string(line), "\x00"), nil
}

// writeLine returns when the line is on the disk.
func writeLine(line []byte) error {
	file, err := os.OpenFile(disk, os.O_WRONLY, 0)
	if err != nil {
		return err
	}
	defer file.Close()
	block := make([]byte, blockSize)
	copy(block, append(bytes.TrimRight(line, "\n"), '\n'))
	if _, err := file.WriteAt(block, 0); err != nil {
		return err
	}
	return file.Sync()
}

// watchPower shuts down when the power button is pressed.
func watchPower() {
	inputs, err := filepath.Glob("/dev/input/event*")
	if err != nil {
		return
	}
	for _, path := range inputs {
		go func() {
			file, err := os.Open(path)
			if err != nil {
				return
			}
			defer file.Close()
			event := make([]byte, 24) // time (16 bytes), type, code, value
			for {
				if _, err := io.ReadFull(file, event); err != nil {
					return
				}
				const key, power = 1, 116
				if binary.LittleEndian.Uint16(event[16:]) == key && binary.LittleEndian.Uint16(event[18:]) == power {
					fmt.Println("guest: power button")
					powerOff()
				}
			}
		}()
	}
}

// runAgent keeps the guest agent running, where there is one.
func runAgent() {
	if _, err := os.Stat("/bin/qemu-ga"); err != nil {
		return
	}
	for {
		if port := findAgentPort(); port != "" {
			cmd := exec.Command("/bin/qemu-ga", "-m", "virtio-serial", "-p", port, "-t", "/run")
			cmd.Stdout, cmd.Stderr = os.Stdout, os.Stderr
			fmt.Println("guest: agent ended:", cmd.Run())
		}
		<-time.After(time.Second)
	}
}

// findAgentPort finds the serial port of the agent by its name.
func findAgentPort() string {
	names, err := filepath.Glob("/sys/class/virtio-ports/*/name")
	if err != nil {
		return ""
	}
	for _, path := range names {
		raw, err := os.ReadFile(path)
		if err == nil && strings.TrimSpace(string(raw)) == agentPort {
			return "/dev/" + filepath.Base(filepath.Dir(path))
		}
	}
	return ""
}
