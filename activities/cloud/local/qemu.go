package local

import (
	"context"
	"encoding/json"
	"fmt"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"lifeboat/activities/cloud"
)

const (
	qemuProgram   = "qemu-system-x86_64"
	qemuPackage   = "qemu-system-x86"
	defaultMemory = 512 << 20
	consoleFile   = "console.log" // serial console of the machine
	qmpStartLimit = 30 * time.Second
)

// qemuRuntime runs a server as a virtual machine. Settings: kernel, initrd,
// append (else the machine boots from its first disk), accel (kvm or tcg; the
// faster one that works when it is not given), stop_timeout.
type qemuRuntime struct{}

func (qemuRuntime) check(op, resource string, in cloud.LaunchServer) error {
	if _, err := exec.LookPath(qemuProgram); err != nil {
		return cloud.E(cloud.Unsupported, op, resource, "the runtime qemu needs "+qemuProgram+", which is not installed here", "install the package "+qemuPackage+", or use the runtime process", err)
	}
	if _, err := graceOf(in.Launch); err != nil {
		return invalid(op, resource, "launch setting "+err.Error(), "write it like 30s")
	}
	kernel, initrd := in.Launch["kernel"], in.Launch["initrd"]
	for name, path := range map[string]string{"kernel": kernel, "initrd": initrd} {
		if path == "" {
			continue
		}
		if _, err := os.Stat(path); err != nil {
			return invalid(op, resource, "launch setting "+name+": "+path+" cannot be read", "name a file of this machine")
		}
	}
	switch {
	case kernel == "" && (initrd != "" || in.Launch["append"] != ""):
		return invalid(op, resource, "launch settings initrd and append need a kernel", "give a kernel too, or none of them to boot from the disk")
	case kernel == "" && len(in.Disks) == 0:
		return invalid(op, resource, "has neither a disk nor a kernel to boot", "give it a disk")
	case in.Launch["accel"] != "" && in.Launch["accel"] != "kvm" && in.Launch["accel"] != "tcg":
		return invalid(op, resource, "launch setting accel is "+in.Launch["accel"], "choose kvm or tcg, or leave it out")
	}
	return nil
}

func (qemuRuntime) program(l launch) (program, error) {
	args, err := machineArguments(l)
	if err != nil {
		return program{}, err
	}
	for _, name := range []string{qmpSupervisor, qmpHold, agentSocket} {
		if err := os.Remove(filepath.Join(l.dir, name)); err != nil && !os.IsNotExist(err) {
			return program{}, err
		}
	}
	m := &machine{dir: l.dir}
	return program{
		path: qemuProgram, args: append([]string{qemuProgram}, args...), dir: l.dir, env: serverEnv(l, ""),
		follow: m.follow, ask: m.command("system_powerdown"), quit: m.command("quit"),
	}, nil
}

// machineArguments is the command line of a machine. Paths of ours are
// relative to the directory of the server, since those of sockets must be short.
func machineArguments(l launch) ([]string, error) {
	memory, cpus := l.Memory, l.CPU
	if memory == 0 {
		memory = defaultMemory
	}
	if cpus == 0 {
		cpus = 1
	}
	args := []string{"-name", "lifeboat-" + l.ID, "-nodefaults", "-no-user-config", "-display", "none", "-machine", "q35"}
	if accel := l.Launch["accel"]; accel == "kvm" || (accel == "" && kvmWorks()) {
		args = append(args, "-accel", "kvm", "-cpu", "host")
	} else {
		args = append(args, "-accel", "tcg")
	}
	args = append(args, "-smp", strconv.Itoa(cpus), "-m", strconv.FormatInt((memory+1<<20-1)>>20, 10),
		"-chardev", "file,id=console,path="+consoleFile+",append=on", "-serial", "chardev:console",
		"-chardev", "socket,id=monitor,path="+qmpSupervisor+",server=on,wait=off", "-mon", "chardev=monitor,mode=control",
		"-chardev", "socket,id=hold,path="+qmpHold+",server=on,wait=off", "-mon", "chardev=hold,mode=control",
		"-device", "virtio-serial-pci", "-chardev", "socket,id=agent,path="+agentSocket+",server=on,wait=off",
		"-device", "virtserialport,chardev=agent,name=org.qemu.guest_agent.0", "-device", "virtio-rng-pci")
	network, err := machineNetwork(l)
	if err != nil {
		return nil, err
	}
	args = append(args, network...)
	disks, err := machineDisks(l.disks)
	if err != nil {
		return nil, err
	}
	args = append(args, disks...)
	for _, name := range []string{"kernel", "initrd", "append"} {
		if value := l.Launch[name]; value != "" {
			args = append(args, "-"+name, value)
		}
	}
	userData, err := writeUserData(l)
	if err != nil {
		return nil, err
	}
	if userData != "" {
		args = append(args, "-fw_cfg", "name=opt/lifeboat/user-data,file="+filepath.Base(userData))
	}
	return args, nil
}

// machineNetwork gives the guest a network behind an address translation, whose
// outside has the private address of the server. The guest gets its inner
// address by DHCP.
func machineNetwork(l launch) ([]string, error) {
	outer, err := netip.ParsePrefix(l.network.CIDR)
	if err != nil {
		return nil, err
	}
	inner := ""
	for _, candidate := range []string{"10.0.2.0/24", "192.168.76.0/24", "172.29.76.0/24"} {
		if !netip.MustParsePrefix(candidate).Overlaps(outer) {
			inner = candidate
			break
		}
	}
	value := "user,id=net,net=" + inner
	for _, port := range l.Ports {
		value += fmt.Sprintf(",hostfwd=tcp:%s:%d-:%d", l.IP, port, port)
	}
	return []string{"-netdev", value, "-device", "virtio-net-pci,netdev=net"}, nil
}

var notSerial = regexp.MustCompile(`[^A-Za-z0-9_.-]`)

// machineDisks attaches the disks in their order, the boot disk first in the
// order of booting. The guest sees the name of a disk as its serial number. A
// flush of the guest is one of the file; other writes wait in the page cache,
// where a reader of the file sees them.
func machineDisks(disks []placedDisk) ([]string, error) {
	var args []string
	boot := 0
	for i, d := range disks {
		if d.Boot {
			boot = i
		}
	}
	for i, d := range disks {
		info, err := os.Stat(d.Path)
		if err != nil {
			return nil, fmt.Errorf("disk %s: %w", d.Name, err)
		}
		driver := "file"
		if info.Mode()&os.ModeDevice != 0 {
			driver = "host_device"
		}
		node := fmt.Sprintf("disk%d", i)
		raw, err := json.Marshal(map[string]any{"driver": "raw", "node-name": node, "discard": "unmap",
			"cache": map[string]bool{"direct": false, "no-flush": false},
			"file":  map[string]any{"driver": driver, "filename": d.Path, "discard": "unmap"}})
		if err != nil {
			return nil, err
		}
		serial := notSerial.ReplaceAllString(d.Name, "_")
		device := fmt.Sprintf("virtio-blk-pci,drive=%s,serial=%s", node, serial[:min(20, len(serial))])
		if i == boot {
			device += ",bootindex=1"
		}
		args = append(args, "-blockdev", string(raw), "-device", device)
	}
	return args, nil
}

// kvmWorks tells whether the machine has KVM. A device that can be opened is
// not enough: inside some virtual machines it is there and guests hang.
var kvmWorks = sync.OnceValue(func() bool {
	file, err := os.OpenFile("/dev/kvm", os.O_RDWR, 0)
	if err != nil {
		return false
	}
	defer file.Close()
	const getVersion = 0xAE00 // KVM_GET_API_VERSION
	version, _, errno := unix.Syscall(unix.SYS_IOCTL, file.Fd(), getVersion, 0)
	if errno != 0 || version != 12 {
		return false
	}
	flags, err := os.ReadFile("/proc/cpuinfo")
	return err == nil && regexp.MustCompile(`(?m)^flags\s*:.*\b(vmx|svm)\b`).Match(flags)
})

// machine is the supervisor's side of a virtual machine.
type machine struct {
	dir string
	qmp *qmp
}

// follow connects to the monitor of a machine that was just started, and
// reports each change of its run state.
func (m *machine) follow(child process, state func(string)) (string, error) {
	ctx, cancel := context.WithTimeout(context.Background(), qmpStartLimit)
	defer cancel()
	changed := make(chan struct{}, 1)
	events := func(qmpMessage) {
		select {
		case changed <- struct{}{}:
		default: // one look at the state is enough for several events
		}
	}
	var err error
	for pause := time.Millisecond; ; pause = min(2*pause, 50*time.Millisecond) {
		if m.qmp, err = connectMachine(ctx, m.dir, qmpSupervisor, events); err == nil {
			break
		}
		if !child.alive() {
			return "", fmt.Errorf("%s ended at once", qemuProgram)
		}
		select {
		case <-ctx.Done():
			return "", fmt.Errorf("%s does not open its monitor: %w", qemuProgram, err)
		case <-time.After(pause):
		}
	}
	go m.watch(changed, state)
	return m.qmp.runState(ctx)
}

// watch reports the run state whenever it may have changed, until the machine ends.
func (m *machine) watch(changed <-chan struct{}, state func(string)) {
	last := ""
	for {
		select {
		case <-m.qmp.closed:
			return
		case <-changed:
		}
		ctx, cancel := context.WithTimeout(context.Background(), qmpLimit)
		now, err := m.qmp.runState(ctx)
		cancel()
		if err != nil {
			fmt.Fprintln(os.Stderr, err)
			return
		}
		if now != last {
			last = now
			state(now)
		}
	}
}

// command returns a function that runs one command of the monitor.
func (m *machine) command(name string) func() error {
	return func() error {
		ctx, cancel := context.WithTimeout(context.Background(), qmpLimit)
		defer cancel()
		_, err := m.qmp.command(ctx, name, nil)
		return err
	}
}
