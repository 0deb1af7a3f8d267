package cloudtest

import (
	"context"
	"time"

	"github.com/stretchr/testify/require"

	"lifeboat/activities/cloud"
)

var networkBehaviours = []behaviour{
	{"Networks", "a network is found by name and tells its free addresses", func(e *env) {
		n, ok := has[cloud.Networks](e, "Networks")
		if !ok {
			return
		}
		made := e.network()
		byName, err := n.Network(e.ctx(), made.Name)
		require.NoError(e, err)
		require.Equal(e, made.ID, byName.ID)
		require.Equal(e, e.f.CIDR, byName.CIDR)
		require.Positive(e, byName.Free)
		if !byName.Isolated {
			require.NotEmpty(e, byName.Note, "why there is no isolation")
		}
		e.code(cloud.InvalidInput, n.CheckAddress(e.ctx(), made.ID, e.f.Outside))
		e.code(cloud.InvalidInput, n.CheckAddress(e.ctx(), made.ID, "no address"))
		e.code(cloud.NotFound, n.CheckAddress(e.ctx(), "missing-1", e.f.IP))
		require.NoError(e, n.CheckAddress(e.ctx(), made.ID, e.f.IP))
		_, err = n.StartCreateNetwork(e.ctx(), cloud.CreateNetwork{Create: e.create("bad"), CIDR: "10.0.0.0"})
		e.code(cloud.InvalidInput, err)
	}},
	{"Networks", "servers with one address in two isolated networks do not meet", func(e *env) {
		if _, ok := has[cloud.Servers](e, "Servers"); !ok {
			return
		}
		a := e.newNetwork("a")
		if !a.Isolated {
			e.Logf("networks are not isolated: %s", a.Note)
			return
		}
		b := e.newNetwork("b")
		port := 0
		for _, n := range []cloud.Network{a, b} {
			s := e.launch(e.launchRequest(n.Name, n.ID, e.f.IP))
			require.Equal(e, e.f.IP, s.IP)
			port = s.Ports[0]
		}
		for _, n := range []cloud.Network{a, b} {
			e.answers(n.Name, func() (string, error) { return e.privateAnswer(n.ID, e.f.IP, port) })
		}
	}},
}

var serverBehaviours = []behaviour{
	{"Servers", "a launched server runs with its disks at its address and answers", func(e *env) {
		if _, ok := has[cloud.Servers](e, "Servers"); !ok {
			return
		}
		s := e.server("marker", e.f.IP)
		require.Equal(e, e.f.IP, s.IP)
		require.Equal(e, e.network().ID, s.Network)
		require.Len(e, s.Disks, 1)
		require.Equal(e, s.ID, e.diskIs(s.Disks[0].DiskID, cloud.Attached).Server)
		e.answers("marker", func() (string, error) { return e.privateAnswer(s.Network, s.IP, s.Ports[0]) })
	}},
	{"Servers", "a private address in use is AddressTaken, one outside InvalidInput", func(e *env) {
		servers, ok := has[cloud.Servers](e, "Servers")
		if !ok {
			return
		}
		first := e.server("first", e.f.IP)
		n := must[cloud.Networks](e, e.p, "Networks")
		e.code(cloud.AddressTaken, n.CheckAddress(e.ctx(), first.Network, first.IP))
		request := e.launchRequest("second", first.Network, first.IP)
		_, err := servers.StartLaunch(e.ctx(), request)
		e.code(cloud.AddressTaken, err)
		request.IP = e.f.Outside
		_, err = servers.StartLaunch(e.ctx(), request)
		e.code(cloud.InvalidInput, err)
		request.IP, request.Network = "", "missing-1"
		_, err = servers.StartLaunch(e.ctx(), request)
		e.code(cloud.NotFound, err)
		for _, d := range request.Disks {
			e.diskIs(d.DiskID, cloud.Available) // what a refused launch wanted is free
		}
		// The address is free again after its server.
		require.NoError(e, servers.TerminateServer(e.ctx(), first.ID))
		e.gone(func() error { _, err := servers.Server(e.ctx(), first.ID); return err })
		request.Network, request.IP = first.Network, first.IP
		e.launch(request)
	}},
	{"Servers", "a disk of another server is InUse", func(e *env) {
		servers, ok := has[cloud.Servers](e, "Servers")
		if !ok || servers.LaunchSource() != cloud.FromDisks {
			return
		}
		first := e.server("first", "")
		request := e.launchRequest("second", first.Network, "")
		request.Disks = []cloud.ServerDisk{{Name: "root", DiskID: first.Disks[0].DiskID, Boot: true}}
		_, err := servers.StartLaunch(e.ctx(), request)
		e.code(cloud.InUse, err)
		request.Create, request.Disks[0].DiskID = e.create("third"), "missing-1"
		_, err = servers.StartLaunch(e.ctx(), request)
		e.code(cloud.NotFound, err)
	}},
	{"Servers", "stopping and starting may be said twice and keep disks and address", func(e *env) {
		servers, ok := has[cloud.Servers](e, "Servers")
		if !ok {
			return
		}
		s := e.server("marker", e.f.IP)
		ask := func() (string, error) { return e.privateAnswer(s.Network, s.IP, s.Ports[0]) }
		e.answers("marker", ask)
		for _, force := range []bool{false, true} {
			for range 2 {
				require.NoError(e, servers.StopServer(e.ctx(), s.ID, force))
			}
			stopped := e.serverIs(s.ID, cloud.Stopped)
			require.NoError(e, servers.StopServer(e.ctx(), s.ID, force))
			require.Equal(e, s.IP, stopped.IP)
			require.Equal(e, s.Disks, stopped.Disks)
			_, err := ask()
			require.Error(e, err, "it does not answer while it is stopped")
			e.code(cloud.AddressTaken, must[cloud.Networks](e, e.p, "Networks").CheckAddress(e.ctx(), s.Network, s.IP))
			for range 2 {
				require.NoError(e, servers.StartServer(e.ctx(), s.ID))
			}
			e.serverIs(s.ID, cloud.Running)
			require.NoError(e, servers.StartServer(e.ctx(), s.ID))
			e.answers("marker", ask)
		}
		e.code(cloud.NotFound, servers.StartServer(e.ctx(), "missing-1"))
		e.code(cloud.NotFound, servers.StopServer(e.ctx(), "missing-1", false))
	}},
	{"Servers", "a terminated server leaves its disks and frees its network", func(e *env) {
		servers, ok := has[cloud.Servers](e, "Servers")
		if !ok {
			return
		}
		s := e.server("marker", "")
		n := must[cloud.Networks](e, e.p, "Networks")
		e.code(cloud.InUse, n.DeleteNetwork(e.ctx(), s.Network))
		require.NoError(e, servers.TerminateServer(e.ctx(), s.ID))
		e.gone(func() error { _, err := servers.Server(e.ctx(), s.ID); return err })
		e.diskIs(s.Disks[0].DiskID, cloud.Available)
		require.NoError(e, n.DeleteNetwork(e.ctx(), s.Network))
		e.gone(func() error { _, err := n.Network(e.ctx(), s.Network); return err })
	}},
	{"Servers", "a server outlives the process that launched it", func(e *env) {
		if _, ok := has[cloud.Servers](e, "Servers"); !ok {
			return
		}
		s := e.server("marker", "")
		require.NoError(e, e.p.Close())
		e.p = e.open(home)
		again := e.serverIs(s.ID, cloud.Running)
		require.Equal(e, s.IP, again.IP)
		e.answers("marker", func() (string, error) { return e.privateAnswer(s.Network, s.IP, s.Ports[0]) })
	}},
}

var addressBehaviours = []behaviour{
	{"Addresses", "an address reaches its server, moves on purpose only, and is let go", func(e *env) {
		a, ok := has[cloud.Addresses](e, "Addresses")
		if !ok {
			return
		}
		in := e.create("service")
		address, err := a.AllocateAddress(e.ctx(), in)
		require.NoError(e, err)
		e.until("that it is found by its name", func() (bool, error) {
			byName, err := a.Address(e.ctx(), "service")
			if cloud.IsNotFound(err) {
				return false, nil // a listing may not show it yet
			}
			return byName.ID == address.ID, err
		})
		first, second := e.server("first", ""), e.server("second", "")
		ask := func() (string, error) { return publicAnswer(address.Public, first.Ports[0]) }
		points := func(server string) {
			e.Helper()
			e.until("the association", func() (bool, error) {
				got, err := a.Address(e.ctx(), address.ID)
				return err == nil && got.State == cloud.Attached && got.Server == server, err
			})
		}
		require.NoError(e, a.AssociateAddress(e.ctx(), address.ID, first.ID, false))
		points(first.ID)
		e.answers("first", ask)
		require.NoError(e, a.AssociateAddress(e.ctx(), address.ID, first.ID, false))
		e.code(cloud.InUse, a.AssociateAddress(e.ctx(), address.ID, second.ID, false))
		points(first.ID)
		require.NoError(e, a.AssociateAddress(e.ctx(), address.ID, second.ID, true))
		points(second.ID)
		e.answers("second", ask)
		e.code(cloud.InUse, a.ReleaseAddress(e.ctx(), address.ID))
		e.code(cloud.NotFound, a.AssociateAddress(e.ctx(), address.ID, "missing-1", true))
		e.code(cloud.NotFound, a.AssociateAddress(e.ctx(), "missing-1", first.ID, true))
		require.NoError(e, a.DisassociateAddress(e.ctx(), address.ID))
		require.NoError(e, a.DisassociateAddress(e.ctx(), address.ID))
		e.until("that nobody answers", func() (bool, error) {
			_, err := ask()
			return err != nil, nil
		})
		require.NoError(e, a.ReleaseAddress(e.ctx(), address.ID))
	}},
}

var quiesceBehaviours = []behaviour{
	{"Quiescer", "a paused server stands still until it is resumed or the time is up", func(e *env) {
		q, ok := has[cloud.Quiescer](e, "Quiescer")
		if !ok {
			return
		}
		s := e.server("marker", "")
		ask := func() (string, error) { return e.privateAnswer(s.Network, s.IP, s.Ports[0]) }
		e.answers("marker", ask)
		silent := func() {
			e.Helper()
			conn, err := must[cloud.Networks](e, e.p, "Networks").Dial(e.ctx(), s.Network, hostport(s))
			if err != nil {
				return
			}
			defer conn.Close()
			require.NoError(e, conn.SetDeadline(time.Now().Add(200*time.Millisecond)))
			_, err = answer(conn)
			require.Error(e, err)
		}
		resume, err := q.PauseServer(e.ctx(), s.ID, time.Minute)
		require.NoError(e, err)
		silent()
		require.NoError(e, resume())
		e.answers("marker", ask)
		_, err = q.PauseServer(e.ctx(), s.ID, 300*time.Millisecond)
		require.NoError(e, err)
		e.answers("marker", ask)
		_, err = q.PauseServer(e.ctx(), "missing-1", time.Second)
		e.code(cloud.NotFound, err)
	}},
}

var commonBehaviours = []behaviour{
	{"Provider", "it tells its site and refuses capabilities that it lacks", func(e *env) {
		require.NotEmpty(e, e.p.Site().Name)
		require.NotEmpty(e, e.p.Site().Provider)
		has[cloud.Keys](e, "Keys")
		has[cloud.Quotas](e, "Quotas")
		has[cloud.LoadBalancers](e, "LoadBalancers")
		has[cloud.ScalingGroups](e, "ScalingGroups")
		has[cloud.Databases](e, "Databases")
		has[cloud.FileSystems](e, "FileSystems")
		has[cloud.Stacks](e, "Stacks")
		has[cloud.Alerts](e, "Alerts")
		_, err := cloud.As[interface{ NoProviderHasThis() }](e.p, "Wonders")
		e.code(cloud.Unsupported, err)
		require.ErrorContains(e, err, "Wonders")
	}},
	{"Provider", "a call whose context has ended fails and changes nothing", func(e *env) {
		d, ok := has[cloud.Disks](e, "Disks")
		if !ok {
			return
		}
		ctx, cancel := context.WithCancel(e.ctx())
		cancel()
		_, err := d.StartCreateDisk(ctx, cloud.CreateDisk{Create: e.create(""), Bytes: e.f.DiskBytes})
		e.code(cloud.Unavailable, err)
		require.ErrorIs(e, err, context.Canceled)
		list, err := d.Disks(e.ctx(), cloud.Filter{})
		require.NoError(e, err)
		require.Empty(e, list)
	}},
	{"Provider", "what one process makes another sees", func(e *env) {
		d, ok := has[cloud.Disks](e, "Disks")
		if !ok {
			return
		}
		made := e.disk("marker")
		other := must[cloud.Disks](e, e.open(home), "Disks")
		e.until("that it is visible", func() (bool, error) {
			got, err := other.Disk(e.ctx(), made.ID)
			return err == nil && got.State == cloud.Available, cloud.IgnoreNotFound(err)
		})
		require.NoError(e, other.DeleteDisk(e.ctx(), made.ID))
		e.gone(func() error { _, err := d.Disk(e.ctx(), made.ID); return err })
	}},
}
