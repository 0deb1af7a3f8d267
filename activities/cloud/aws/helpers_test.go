package aws

import (
	"slices"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/service/ec2/types"
	"github.com/stretchr/testify/require"

	"lifeboat/activities/cloud"
)

// await polls a resource until it is in a state. Just created ones may be unknown for a while.
func await[T any](t *testing.T, want cloud.State, get func() (T, error), of func(T) cloud.Resource) T {
	t.Helper()
	var got T
	var last error
	require.Eventually(t, func() bool {
		v, err := get()
		last = err
		got = v
		return err == nil && of(v).State == want
	}, time.Minute, 2*time.Millisecond, "until %s: %v %v", want, got, last)
	return got
}

func (d *double) disk(p *Provider, token string) cloud.Disk {
	d.t.Helper()
	v, err := p.StartCreateDisk(d.t.Context(), cloud.CreateDisk{Create: cloud.Create{Token: token, Name: token}, Bytes: gib})
	require.NoError(d.t, err)
	return d.diskIs(p, v.ID, cloud.Available)
}

func (d *double) diskIs(p *Provider, id string, state cloud.State) cloud.Disk {
	d.t.Helper()
	return await(d.t, state, func() (cloud.Disk, error) { return p.Disk(d.t.Context(), id) }, func(v cloud.Disk) cloud.Resource { return v.Resource })
}

func (d *double) snapshotIs(p *Provider, id string, state cloud.State) cloud.Snapshot {
	d.t.Helper()
	return await(d.t, state, func() (cloud.Snapshot, error) { return p.Snapshot(d.t.Context(), id) }, func(v cloud.Snapshot) cloud.Resource { return v.Resource })
}

func (d *double) serverIs(p *Provider, id string, state cloud.State) cloud.Server {
	d.t.Helper()
	return await(d.t, state, func() (cloud.Server, error) { return p.Server(d.t.Context(), id) }, func(v cloud.Server) cloud.Resource { return v.Resource })
}

// cut makes complete snapshots.
func (d *double) cut(p *Provider, token string, disks ...string) []cloud.Snapshot {
	d.t.Helper()
	list, err := p.StartSnapshots(d.t.Context(), cloud.CreateSnapshots{Create: cloud.Create{Token: token}, Disks: disks})
	require.NoError(d.t, err)
	for i := range list {
		list[i] = d.snapshotIs(p, list[i].ID, cloud.Available)
	}
	return list
}

// image registers an image of new disks with these names, the first of which boots.
func (d *double) image(p *Provider, token string, names ...string) cloud.Image {
	d.t.Helper()
	var disks []cloud.ImageDisk
	for i, n := range names {
		v := d.disk(p, token+"-"+n)
		require.NoError(d.t, d.cloud.WriteVolume(v.ID, []byte(n), 0))
		disks = append(disks, cloud.ImageDisk{Device: n, SnapshotID: d.cut(p, token+"-cut-"+n, v.ID)[0].ID, Boot: i == 0})
	}
	i, err := p.RegisterImage(d.t.Context(), cloud.Create{Token: token, Name: token}, disks)
	require.NoError(d.t, err)
	return await(d.t, cloud.Available, func() (cloud.Image, error) { return p.Image(d.t.Context(), i.ID) }, func(v cloud.Image) cloud.Resource { return v.Resource })
}

func (d *double) network(p *Provider) cloud.Network {
	d.t.Helper()
	n, err := p.StartCreateNetwork(d.t.Context(), cloud.CreateNetwork{Create: cloud.Create{Token: "network"}, CIDR: d.ip(0, 0) + "/24"})
	require.NoError(d.t, err)
	return await(d.t, cloud.Available, func() (cloud.Network, error) { return p.Network(d.t.Context(), n.ID) }, func(v cloud.Network) cloud.Resource { return v.Resource })
}

// server launches one of an image with these disks, and waits until it runs.
func (d *double) server(p *Provider, token string, names ...string) cloud.Server {
	d.t.Helper()
	s, err := p.StartLaunch(d.t.Context(), cloud.LaunchServer{Create: cloud.Create{Token: token, Name: token}, Image: d.image(p, token, names...).ID,
		Network: d.network(p).ID, Type: testType})
	require.NoError(d.t, err)
	return d.serverIs(p, s.ID, cloud.Running)
}

// asked counts the requests for operations that the double has seen.
func (d *double) asked(operations ...string) (n int) {
	for _, r := range d.cloud.Requests() {
		if slices.Contains(operations, r.Operation) {
			n++
		}
	}
	return n
}

// raw describes an instance as EC2 does.
func (d *double) raw(p *Provider, id string) types.Instance {
	d.t.Helper()
	i, err := p.instance(d.t.Context(), "test", id)
	require.NoError(d.t, err)
	return i
}

func (d *double) home() *Provider { return d.provider(d.site("home"), d.options()) }

func (d *double) away() *Provider { return d.provider(d.site("away"), d.options()) }
