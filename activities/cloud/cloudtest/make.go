package cloudtest

import (
	"fmt"
	"io"
	"net"

	"github.com/stretchr/testify/require"

	"lifeboat/activities/cloud"
)

// disk makes a disk; its first bytes are the marker when contents can be reached.
func (e *env) disk(marker string) cloud.Disk {
	e.Helper()
	d := must[cloud.Disks](e, e.p, "Disks")
	made, err := d.StartCreateDisk(e.ctx(), cloud.CreateDisk{Create: e.create(""), Bytes: e.f.DiskBytes})
	require.NoError(e, err)
	made = e.diskIs(made.ID, cloud.Available)
	if e.f.Write != nil {
		e.f.Write(e.T, made, 0, []byte(mark(marker)))
	}
	return made
}

// mark makes a marker as long as the answer of a server.
func mark(marker string) string { return fmt.Sprintf("%-16.16s", marker) }

func (e *env) diskIs(id string, state cloud.State) cloud.Disk {
	e.Helper()
	d := must[cloud.Disks](e, e.p, "Disks")
	return settled(e, state, func() (cloud.Disk, cloud.Resource, error) {
		v, err := d.Disk(e.ctx(), id)
		return v, v.Resource, err
	})
}

// snapshots cuts disks.
func (e *env) snapshots(disks ...string) []cloud.Snapshot {
	e.Helper()
	s := must[cloud.Snapshots](e, e.p, "Snapshots")
	made, err := s.StartSnapshots(e.ctx(), cloud.CreateSnapshots{Create: e.create(""), Disks: disks})
	require.NoError(e, err)
	require.Len(e, made, len(disks))
	for i := range made {
		made[i] = e.snapshotIs(e.p, made[i].ID, cloud.Available)
	}
	return made
}

func (e *env) snapshotIs(p cloud.Provider, id string, state cloud.State) cloud.Snapshot {
	e.Helper()
	s := must[cloud.Snapshots](e, p, "Snapshots")
	return settled(e, state, func() (cloud.Snapshot, cloud.Resource, error) {
		v, err := s.Snapshot(e.ctx(), id)
		return v, v.Resource, err
	})
}

func (e *env) diskFrom(snapshot string) cloud.Disk {
	e.Helper()
	d := must[cloud.Disks](e, e.p, "Disks")
	made, err := d.StartCreateDisk(e.ctx(), cloud.CreateDisk{Create: e.create(""), SnapshotID: snapshot})
	require.NoError(e, err)
	return e.diskIs(made.ID, cloud.Available)
}

func (e *env) imageIs(p cloud.Provider, id string, state cloud.State) cloud.Image {
	e.Helper()
	s := must[cloud.Images](e, p, "Images")
	return settled(e, state, func() (cloud.Image, cloud.Resource, error) {
		v, err := s.Image(e.ctx(), id)
		return v, v.Resource, err
	})
}

// network returns the network of this behaviour.
func (e *env) network() cloud.Network {
	e.Helper()
	if e.net == nil {
		made := e.newNetwork("network")
		e.net = &made
	}
	return *e.net
}

func (e *env) newNetwork(name string) cloud.Network {
	e.Helper()
	n := must[cloud.Networks](e, e.p, "Networks")
	made, err := n.StartCreateNetwork(e.ctx(), cloud.CreateNetwork{Create: e.create(name), CIDR: e.f.CIDR})
	require.NoError(e, err)
	return settled(e, cloud.Available, func() (cloud.Network, cloud.Resource, error) {
		v, err := n.Network(e.ctx(), made.ID)
		return v, v.Resource, err
	})
}

// launchRequest asks for a server with a new disk that holds the marker.
func (e *env) launchRequest(marker, network, ip string) cloud.LaunchServer {
	e.Helper()
	s := must[cloud.Servers](e, e.p, "Servers")
	d := e.disk(marker)
	in := cloud.LaunchServer{Create: e.create(marker), Network: network, IP: ip}
	if s.LaunchSource() == cloud.FromDisks {
		in.Disks = []cloud.ServerDisk{{Name: "root", DiskID: d.ID, Boot: true}}
	} else {
		images := must[cloud.Images](e, e.p, "Images")
		image, err := images.RegisterImage(e.ctx(), e.create(marker), []cloud.ImageDisk{{SnapshotID: e.snapshots(d.ID)[0].ID, Boot: true}})
		require.NoError(e, err)
		in.Image = e.imageIs(e.p, image.ID, cloud.Available).ID
	}
	return e.f.Launch(in)
}

func (e *env) server(marker, ip string) cloud.Server {
	e.Helper()
	return e.launch(e.launchRequest(marker, e.network().ID, ip))
}

func (e *env) launch(in cloud.LaunchServer) cloud.Server {
	e.Helper()
	made, err := must[cloud.Servers](e, e.p, "Servers").StartLaunch(e.ctx(), in)
	require.NoError(e, err)
	return e.serverIs(made.ID, cloud.Running)
}

func (e *env) serverIs(id string, state cloud.State) cloud.Server {
	e.Helper()
	s := must[cloud.Servers](e, e.p, "Servers")
	return settled(e, state, func() (cloud.Server, cloud.Resource, error) {
		v, err := s.Server(e.ctx(), id)
		return v, v.Resource, err
	})
}

// privateAnswer reads what the server at an address of a network answers.
func (e *env) privateAnswer(network, ip string, port int) (string, error) {
	n := must[cloud.Networks](e, e.p, "Networks")
	conn, err := n.Dial(e.ctx(), network, net.JoinHostPort(ip, fmt.Sprint(port)))
	if err != nil {
		return "", err
	}
	defer conn.Close()
	return answer(conn)
}

// publicAnswer reads what the server at a public address answers.
func publicAnswer(public string, port int) (string, error) {
	conn, err := net.Dial("tcp", net.JoinHostPort(public, fmt.Sprint(port)))
	if err != nil {
		return "", err
	}
	defer conn.Close()
	return answer(conn)
}

func answer(conn net.Conn) (string, error) {
	b := make([]byte, 16)
	_, err := io.ReadFull(conn, b)
	return string(b), err
}

// answers waits until an address answers with a marker.
func (e *env) answers(marker string, ask func() (string, error)) {
	e.Helper()
	got := ""
	e.until("the answer "+marker, func() (bool, error) {
		var err error
		got, err = ask()
		if err != nil {
			return false, nil // not up yet, or moving
		}
		return e.f.Write == nil || got == mark(marker), nil
	})
}
