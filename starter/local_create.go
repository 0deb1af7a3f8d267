package main

import (
	"context"
	"errors"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"lifeboat/activities/cloud"
	"lifeboat/activities/cloud/local"
	"lifeboat/workflows/plan"
)

// createServer holds the flags of `local create-server`.
type createServer struct {
	site                          siteFlags
	network, cidr, ip             string
	ports                         []int
	disks                         []string
	command, runtime              string
	kernel, initrd, append, accel string
	cpu                           int
	memory                        string
	public                        bool
}

func newLocalCreateServerCommand(a *app) *cobra.Command {
	var f createServer
	cmd := &cobra.Command{
		Use: "create-server NAME", Short: "Start a server at a local site",
		Long: `Create-server starts a server with disks, a private address and, with --public, a
public one. The process runtime runs a command, which finds its disks and its address in
LIFEBOAT_DISKS, LIFEBOAT_DISK_NAME, LIFEBOAT_ADDRESS and LIFEBOAT_PORTS; the qemu runtime
boots a virtual machine from the first disk or from --kernel. A disk is a file or block
device that exists, which is adopted and never deleted, or a size: then it is made.`,
		Example: `  lifeboat local create-server db --site primary --ip 10.20.0.10 --port 8080 --disk data=256MiB --public --command './server'
  lifeboat local create-server web --site primary --disk root=/srv/disk.img --runtime qemu --port 80`,
		Args: cobra.ExactArgs(1),
	}
	f.site.add(a, cmd)
	flags := cmd.Flags()
	flags.StringVar(&f.network, "network", "main", "network of the site; made when it is not there")
	flags.StringVar(&f.cidr, "cidr", "", "CIDR of the network when it is made (default 10.20.0.0/24 as root, else 127.20.0.0/24)")
	flags.StringVar(&f.ip, "ip", "", "private address (default: any free one)")
	flags.IntSliceVar(&f.ports, "port", nil, "TCP port that the server serves (repeatable)")
	flags.StringArrayVar(&f.disks, "disk", nil, "NAME=PATH of a file or block device, or NAME=SIZE of a new disk (repeatable; the first is the boot disk)")
	flags.StringVar(&f.command, "command", "", "command of the process runtime: a JSON list of arguments, or a line")
	flags.StringVar(&f.runtime, "runtime", "", "process or qemu (default: qemu with --kernel, else process)")
	flags.StringVar(&f.kernel, "kernel", "", "kernel of a qemu server")
	flags.StringVar(&f.initrd, "initrd", "", "initial RAM disk of a qemu server")
	flags.StringVar(&f.append, "append", "", "kernel command line of a qemu server")
	flags.StringVar(&f.accel, "accel", "", "kvm or tcg for a qemu server (default: kvm where it works)")
	flags.IntVar(&f.cpu, "cpu", 0, "virtual CPUs of a qemu server")
	flags.StringVar(&f.memory, "memory", "", "memory of a qemu server, e.g. 512MiB")
	flags.BoolVar(&f.public, "public", false, "give it a public address called like the server")
	completeValues(cmd, "runtime", "process", "qemu")
	return a.runs(cmd, func(ctx context.Context, args []string) error {
		launch, err := f.launch(args[0])
		if err != nil {
			return err
		}
		chosen, err := f.site.sites(a)
		if err != nil {
			return err
		}
		if len(chosen) != 1 {
			return usagef("create-server %s: at which site? Choose one with --site (%s)", args[0], joined(sortedKeys(chosen)))
		}
		for name, dir := range chosen {
			p, err := a.openSite(ctx, name, dir)
			if err != nil {
				return err
			}
			defer p.Close()
			server, err := (&builder{app: a, p: p, id: newRequestID()}).build(ctx, f, launch)
			if err != nil {
				return about("server "+args[0], err)
			}
			return a.print(server, func(w io.Writer) {
				row(w, "server", server.Name+" "+server.ID)
				row(w, "state", server.State)
				row(w, "address", server.IP)
				row(w, "public", server.Public)
			})
		}
		return nil
	})
}

// launch makes the request from the flags, as far as it needs no site.
func (f *createServer) launch(name string) (cloud.LaunchServer, error) {
	in := cloud.LaunchServer{Ports: f.ports, CPU: f.cpu, Launch: map[string]string{}}
	in.Name = name
	if f.runtime == "" {
		f.runtime = "process"
		if f.kernel != "" {
			f.runtime = "qemu"
		}
	}
	in.Launch["runtime"] = f.runtime
	settings := map[string]string{"kernel": f.kernel, "initrd": f.initrd, "append": f.append, "accel": f.accel}
	if f.runtime == "process" {
		if f.command == "" {
			return in, usagef("create-server %s: the process runtime needs --command", name)
		}
		for key, value := range settings {
			if value != "" {
				return in, usagef("--%s: only a qemu server has it (say --runtime qemu)", key)
			}
		}
		in.Launch["command"] = f.command
	} else if f.command != "" {
		return in, usagef("--command: a qemu server boots from its disk or --kernel and runs no command")
	}
	for key, value := range settings {
		if value == "" {
			continue
		}
		if key == "kernel" || key == "initrd" {
			path, err := filepath.Abs(value)
			if err != nil {
				return in, usagef("--%s: %v", key, err)
			}
			value = path
		}
		in.Launch[key] = value
	}
	if f.memory != "" {
		size, err := plan.ParseSize(f.memory)
		if err != nil {
			return in, usagef("--memory: %v", err)
		}
		in.Memory = int64(size)
	}
	return in, nil
}

// builder makes a server step by step, and takes back what it made when a step fails.
type builder struct {
	app  *app
	p    *local.Provider
	id   string // of this invocation: makes client tokens
	undo []func(context.Context) error
}

func (b *builder) create(step, name string) cloud.Create {
	return cloud.Create{Token: b.id + "/" + step, Name: name}
}

func (b *builder) build(ctx context.Context, f createServer, in cloud.LaunchServer) (server cloud.Server, err error) {
	defer func() {
		if err == nil {
			return
		}
		for _, undo := range slices.Backward(b.undo) {
			err = errors.Join(err, undo(context.WithoutCancel(ctx)))
		}
	}()
	others, err := b.p.Servers(ctx, cloud.Filter{})
	if err != nil {
		return server, err
	}
	for _, other := range others {
		if other.Name == in.Name {
			return server, usagef("the site has one already (%s, %s); choose another name", other.ID, other.State)
		}
	}
	network, err := b.network(ctx, f)
	if err != nil {
		return server, err
	}
	in.Create = b.create("server", in.Name)
	in.Network, in.IP = network.ID, f.ip
	for i, text := range f.disks {
		disk, err := b.disk(ctx, in.Name, text)
		if err != nil {
			return server, err
		}
		disk.Boot = i == 0
		in.Disks = append(in.Disks, disk)
	}
	return b.start(ctx, f, in)
}

// network finds the network by name, or makes it.
func (b *builder) network(ctx context.Context, f createServer) (cloud.Network, error) {
	network, err := b.p.Network(ctx, f.network)
	if err == nil && f.cidr != "" && network.CIDR != f.cidr {
		return network, usagef("--cidr %s: network %s is there already with %s; leave --cidr out or name another --network", f.cidr, f.network, network.CIDR)
	}
	if err == nil || !cloud.IsNotFound(err) {
		return network, err
	}
	cidr := f.cidr
	if cidr == "" {
		cidr = defaultCIDR()
	}
	network, err = b.p.StartCreateNetwork(ctx, cloud.CreateNetwork{Create: b.create("network", f.network), CIDR: cidr})
	if err != nil {
		return network, err
	}
	b.undo = append(b.undo, func(ctx context.Context) error { return cloud.IgnoreNotFound(b.p.DeleteNetwork(ctx, network.ID)) })
	if network.Note != "" {
		b.app.say("network %s: %s", f.network, network.Note)
	}
	return network, b.settle(ctx, func() (cloud.State, string, error) {
		n, err := b.p.Network(ctx, network.ID)
		return n.State, n.Message, err
	})
}

// disk adopts or makes the disk that NAME=PATH or NAME=SIZE asks for.
func (b *builder) disk(ctx context.Context, server, text string) (cloud.ServerDisk, error) {
	name, value, ok := strings.Cut(text, "=")
	if !ok || name == "" || value == "" {
		return cloud.ServerDisk{}, usagef("--disk %q: write NAME=PATH or NAME=SIZE, for example data=256MiB", text)
	}
	in := cloud.CreateDisk{Create: b.create("disk/"+name, server+"-"+name)}
	if size, err := plan.ParseSize(value); err == nil {
		in.Bytes = int64(size)
	} else if in.Source, err = filepath.Abs(value); err != nil {
		return cloud.ServerDisk{}, usagef("--disk %q: %v", text, err)
	}
	disk, err := b.p.StartCreateDisk(ctx, in)
	if err != nil {
		return cloud.ServerDisk{}, err
	}
	b.undo = append(b.undo, func(ctx context.Context) error { return cloud.IgnoreNotFound(b.p.DeleteDisk(ctx, disk.ID)) })
	return cloud.ServerDisk{Name: name, DiskID: disk.ID}, b.settle(ctx, func() (cloud.State, string, error) {
		d, err := b.p.Disk(ctx, disk.ID)
		return d.State, d.Message, err
	})
}

// start launches the server and gives it its public address.
func (b *builder) start(ctx context.Context, f createServer, in cloud.LaunchServer) (cloud.Server, error) {
	server, err := b.p.StartLaunch(ctx, in)
	if err != nil {
		return server, err
	}
	b.undo = append(b.undo, func(ctx context.Context) error { return b.terminate(ctx, server.ID) })
	err = b.settle(ctx, func() (cloud.State, string, error) {
		server, err = b.p.Server(ctx, server.ID)
		if err == nil && server.State == cloud.Stopped {
			return cloud.Failing, "it ended at once: " + server.Message, nil
		}
		return server.State, server.Message, err
	})
	if err != nil || !f.public {
		return server, err
	}
	address, err := b.p.Address(ctx, in.Name)
	if cloud.IsNotFound(err) {
		if address, err = b.p.AllocateAddress(ctx, b.create("address", in.Name)); err == nil {
			b.undo = append(b.undo, func(ctx context.Context) error { return cloud.IgnoreNotFound(b.p.ReleaseAddress(ctx, address.ID)) })
		}
	}
	if err != nil {
		return server, err
	}
	if err := b.p.AssociateAddress(ctx, address.ID, server.ID, true); err != nil {
		return server, err
	}
	return b.p.Server(ctx, server.ID)
}

// terminate deletes a server that did not come up and waits until it is gone.
func (b *builder) terminate(ctx context.Context, id string) error {
	if err := b.p.TerminateServer(ctx, id); err != nil {
		return cloud.IgnoreNotFound(err)
	}
	for looks := 0; ; looks++ {
		_, err := b.p.Server(ctx, id)
		if cloud.IsNotFound(err) {
			return nil
		}
		if err == nil {
			err = b.app.pause(ctx, looks)
		}
		if err != nil {
			return err
		}
	}
}

// settle waits until a resource is ready, or has failed.
func (b *builder) settle(ctx context.Context, look func() (cloud.State, string, error)) error {
	for looks := 0; ; looks++ {
		state, message, err := look()
		switch {
		case err != nil:
			return err
		case state == cloud.Failing:
			return failf("it failed: %s", orDash(message))
		case state == cloud.Available, state == cloud.Running, state == cloud.Attached:
			return nil
		}
		if err := b.app.pause(ctx, looks); err != nil {
			return err
		}
	}
}

// defaultCIDR is a range in which this user may make a network.
func defaultCIDR() string {
	if os.Geteuid() == 0 {
		return "10.20.0.0/24"
	}
	return "127.20.0.0/24"
}
