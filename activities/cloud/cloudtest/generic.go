package cloudtest

import (
	"cmp"
	"strings"
	"sync"

	"github.com/stretchr/testify/require"

	"lifeboat/activities/cloud"
)

// maker makes resources of one kind for one behaviour.
type maker struct {
	handle
	// make asks p for a resource; another variant has other parameters.
	make  func(p cloud.Provider, in cloud.Create, variant int) (cloud.Resource, error)
	ready cloud.State
}

// makers by group. prepare makes what the resources are made of.
var makers = []struct {
	group   string
	kind    cloud.Kind
	ready   cloud.State
	prepare func(e *env) func(p cloud.Provider, in cloud.Create, variant int) (cloud.Resource, error)
}{
	{"Disks", cloud.KindDisk, cloud.Available, diskMaker},
	{"Snapshots", cloud.KindSnapshot, cloud.Available, snapshotMaker},
	{"Images", cloud.KindImage, cloud.Available, imageMaker},
	{"Networks", cloud.KindNetwork, cloud.Available, networkMaker},
	{"Servers", cloud.KindServer, cloud.Running, serverMaker},
	{"Addresses", cloud.KindAddress, cloud.Available, addressMaker},
}

// genericBehaviours are those that every kind of resource has.
func genericBehaviours() (list []behaviour) {
	for _, m := range makers {
		for _, b := range []struct {
			name string
			test func(e *env, m *maker)
		}{
			{"the same token gives the same resource, also at once and from two processes", sameToken},
			{"a token with other parameters is TokenMismatch", tokenMismatch},
			{"a token that is none is InvalidInput", badToken},
			{"tags are there from the first instant and found by listing", tagsAndListing},
			{"what is not there is NotFound", notThere},
			{"deleting twice is fine, then it is NotFound and its token makes no second one", deleteTwice},
		} {
			list = append(list, behaviour{m.group, b.name, func(e *env) {
				h, err := handleOf(e.p, m.kind)
				if err != nil {
					e.code(cloud.Unsupported, err)
					return
				}
				b.test(e, &maker{handle: h, make: m.prepare(e), ready: m.ready})
			}})
		}
	}
	return list
}

func sameToken(e *env, m *maker) {
	in, others := e.create("resource"), []cloud.Provider{e.p, e.open(home)}
	var mu sync.Mutex
	var all sync.WaitGroup
	ids := map[string]bool{}
	for i := range 6 {
		all.Go(func() {
			r, err := m.make(others[i%2], in, 0)
			if cloud.ClassOf(err) == cloud.Wait { // the first one is still being processed
				return
			}
			mu.Lock()
			defer mu.Unlock()
			if err != nil {
				e.Error(err)
			}
			ids[r.ID] = true
		})
	}
	all.Wait()
	require.Len(e, ids, 1)
	r, err := m.make(e.p, in, 0)
	require.NoError(e, err)
	require.True(e, ids[r.ID])
	in.Repeat = true
	r, err = m.make(e.p, in, 0)
	require.NoError(e, err, "a repeat is no other request")
	require.True(e, ids[r.ID])
	e.becomes(m, r.ID)
	list, err := m.list(e.ctx(), cloud.Filter{Tags: in.Tags})
	require.NoError(e, err)
	require.Len(e, list, 1)
}

// becomes waits until a resource is ready.
func (e *env) becomes(m *maker, id string) cloud.Resource {
	e.Helper()
	return settled(e, m.ready, func() (cloud.Resource, cloud.Resource, error) {
		r, err := m.get(e.ctx(), id)
		return r, r, err
	})
}

func tokenMismatch(e *env, m *maker) {
	in := e.create("resource")
	first, err := m.make(e.p, in, 0)
	require.NoError(e, err)
	_, err = m.make(e.p, in, 1)
	e.code(cloud.TokenMismatch, err)
	require.Equal(e, cloud.GiveUp, cloud.ClassOf(err))
	e.becomes(m, first.ID)
	list, err := m.list(e.ctx(), cloud.Filter{Tags: in.Tags})
	require.NoError(e, err)
	require.Len(e, list, 1, "nothing was made by the refused call")
}

func badToken(e *env, m *maker) {
	for _, token := range []string{"", strings.Repeat("x", 65), "line\nbreak", "ünicode"} {
		in := e.create("resource")
		in.Token = token
		_, err := m.make(e.p, in, 0)
		e.code(cloud.InvalidInput, err)
	}
}

func tagsAndListing(e *env, m *maker) {
	in := e.create("a name")
	in.Tags[cloud.TagRole], in.Tags["other"] = "drill", "value with spaces"
	r, err := m.make(e.p, in, 0)
	require.NoError(e, err)
	require.NotEmpty(e, r.ID)
	e.until("that it is visible", func() (bool, error) {
		got, err := m.get(e.ctx(), r.ID)
		if cloud.IsNotFound(err) || err != nil {
			return false, cloud.IgnoreNotFound(err)
		}
		require.Equal(e, in.Tags, got.Tags)
		require.Equal(e, in.Name, got.Name)
		return true, nil
	})
	e.becomes(m, r.ID)
	other, err := m.make(e.p, e.create("another name"), 1)
	require.NoError(e, err)
	e.becomes(m, other.ID)
	count := func(f cloud.Filter) (n int, mine bool) {
		list, err := m.list(e.ctx(), f)
		require.NoError(e, err)
		for _, l := range list {
			mine = mine || l.ID == r.ID
		}
		return len(list), mine
	}
	e.until("that it is listed", func() (bool, error) {
		n, mine := count(cloud.Filter{Tags: in.Tags})
		return n == 1 && mine, nil
	})
	n, mine := count(cloud.Filter{Tags: map[string]string{cloud.TagToken: "another"}})
	require.False(e, mine)
	require.Zero(e, n)
	n, mine = count(cloud.Filter{})
	require.True(e, mine)
	require.GreaterOrEqual(e, n, 2)
}

func notThere(e *env, m *maker) {
	_, err := m.get(e.ctx(), "missing-0123456789")
	e.code(cloud.NotFound, err)
	e.code(cloud.NotFound, m.del(e.ctx(), "missing-0123456789"))
}

func deleteTwice(e *env, m *maker) {
	in := e.create("resource")
	r, err := m.make(e.p, in, 0)
	require.NoError(e, err)
	e.becomes(m, r.ID)
	require.NoError(e, m.del(e.ctx(), r.ID))
	require.NoError(e, cloud.IgnoreNotFound(m.del(e.ctx(), r.ID)))
	e.gone(func() error { _, err := m.get(e.ctx(), r.ID); return err })
	e.code(cloud.NotFound, m.del(e.ctx(), r.ID))
	e.until("that it is not listed", func() (bool, error) {
		list, err := m.list(e.ctx(), cloud.Filter{Tags: in.Tags})
		return len(list) == 0, err
	})
	if again, err := m.make(e.p, in, 0); err == nil {
		require.Equal(e, r.ID, again.ID)
	}
}

func diskMaker(e *env) func(cloud.Provider, cloud.Create, int) (cloud.Resource, error) {
	return func(p cloud.Provider, in cloud.Create, variant int) (cloud.Resource, error) {
		v, err := p.(cloud.Disks).StartCreateDisk(e.ctx(), cloud.CreateDisk{Create: in, Bytes: e.f.DiskBytes * int64(1+variant)})
		return v.Resource, err
	}
}

func snapshotMaker(e *env) func(cloud.Provider, cloud.Create, int) (cloud.Resource, error) {
	disks := []cloud.Disk{e.disk("one"), e.disk("two")}
	return func(p cloud.Provider, in cloud.Create, variant int) (cloud.Resource, error) {
		v, err := p.(cloud.Snapshots).StartSnapshots(e.ctx(), cloud.CreateSnapshots{Create: in, Disks: []string{disks[variant].ID}})
		if err != nil {
			return cloud.Resource{}, err
		}
		return v[0].Resource, nil
	}
}

func imageMaker(e *env) func(cloud.Provider, cloud.Create, int) (cloud.Resource, error) {
	snapshots := e.snapshots(e.disk("one").ID, e.disk("two").ID)
	return func(p cloud.Provider, in cloud.Create, variant int) (cloud.Resource, error) {
		v, err := p.(cloud.Images).RegisterImage(e.ctx(), in, []cloud.ImageDisk{{SnapshotID: snapshots[variant].ID, Boot: true}})
		return v.Resource, err
	}
}

func networkMaker(e *env) func(cloud.Provider, cloud.Create, int) (cloud.Resource, error) {
	return func(p cloud.Provider, in cloud.Create, variant int) (cloud.Resource, error) {
		in.Name += []string{"", " changed"}[variant]
		cidr := []string{e.f.CIDR, cmp.Or(e.f.Other, e.f.CIDR)}[variant]
		v, err := p.(cloud.Networks).StartCreateNetwork(e.ctx(), cloud.CreateNetwork{Create: in, CIDR: cidr})
		return v.Resource, err
	}
}

func serverMaker(e *env) func(cloud.Provider, cloud.Create, int) (cloud.Resource, error) {
	requests := []cloud.LaunchServer{e.launchRequest("one", e.network().ID, ""), e.launchRequest("two", e.network().ID, "")}
	return func(p cloud.Provider, in cloud.Create, variant int) (cloud.Resource, error) {
		request := requests[variant]
		request.Create = in
		v, err := p.(cloud.Servers).StartLaunch(e.ctx(), request)
		return v.Resource, err
	}
}

func addressMaker(e *env) func(cloud.Provider, cloud.Create, int) (cloud.Resource, error) {
	return func(p cloud.Provider, in cloud.Create, variant int) (cloud.Resource, error) {
		in.Name += []string{"", " changed"}[variant]
		v, err := p.(cloud.Addresses).AllocateAddress(e.ctx(), in)
		return v.Resource, err
	}
}
