package activities

import (
	"context"
	"slices"

	"lifeboat/activities/cloud"
)

// kindOps is what can be done with the resources of one kind alike.
type kindOps struct {
	list   func(ctx context.Context, f cloud.Filter) ([]cloud.Resource, error)
	get    func(ctx context.Context, id string) (cloud.Resource, error)
	remove func(ctx context.Context, id string) error // triggers it; gone already is NotFound
}

// removalOrder is the order in which kinds can be deleted: what uses others first.
var removalOrder = []cloud.Kind{cloud.KindServer, cloud.KindAddress, cloud.KindImage, cloud.KindDisk, cloud.KindSnapshot, cloud.KindNetwork}

// opsOf returns what the provider can do with a kind, or Unsupported.
func opsOf(p cloud.Provider, kind cloud.Kind) (kindOps, error) {
	switch kind {
	case cloud.KindServer:
		return ops[cloud.Servers](p, "servers", serverOps)
	case cloud.KindDisk:
		return ops[cloud.Disks](p, "disks", diskOps)
	case cloud.KindSnapshot:
		return ops[cloud.Snapshots](p, "snapshots", snapshotOps)
	case cloud.KindImage:
		return ops[cloud.Images](p, "images", imageOps)
	case cloud.KindNetwork:
		return ops[cloud.Networks](p, "networks", networkOps)
	case cloud.KindAddress:
		return ops[cloud.Addresses](p, "public addresses", addressOps)
	}
	return kindOps{}, cloud.E(cloud.Unsupported, "Kind", string(kind), "resources of this kind are not kept in a ledger", "delete it by hand", nil)
}

// ops finds a capability and makes its operations.
func ops[T any](p cloud.Provider, capability string, of func(T) kindOps) (kindOps, error) {
	c, err := cloud.As[T](p, capability)
	if err != nil {
		return kindOps{}, err
	}
	return of(c), nil
}

// lister and getter strip a kind's own fields.
func lister[R any](list func(context.Context, cloud.Filter) ([]R, error), of func(R) cloud.Resource) func(context.Context, cloud.Filter) ([]cloud.Resource, error) {
	return func(ctx context.Context, f cloud.Filter) ([]cloud.Resource, error) {
		all, err := list(ctx, f)
		resources := make([]cloud.Resource, 0, len(all))
		for _, r := range all {
			resources = append(resources, of(r))
		}
		return resources, err
	}
}

func getter[R any](get func(context.Context, string) (R, error), of func(R) cloud.Resource) func(context.Context, string) (cloud.Resource, error) {
	return func(ctx context.Context, id string) (cloud.Resource, error) {
		r, err := get(ctx, id)
		return of(r), err
	}
}

func ofServer(s cloud.Server) cloud.Resource     { return s.Resource }
func ofDisk(d cloud.Disk) cloud.Resource         { return d.Resource }
func ofSnapshot(s cloud.Snapshot) cloud.Resource { return s.Resource }
func ofImage(i cloud.Image) cloud.Resource       { return i.Resource }
func ofNetwork(n cloud.Network) cloud.Resource   { return n.Resource }
func ofAddress(a cloud.Address) cloud.Resource   { return a.Resource }

func serverOps(c cloud.Servers) kindOps {
	return kindOps{list: lister(c.Servers, ofServer), get: getter(c.Server, ofServer), remove: c.TerminateServer}
}

func diskOps(c cloud.Disks) kindOps {
	return kindOps{list: lister(c.Disks, ofDisk), get: getter(c.Disk, ofDisk), remove: c.DeleteDisk}
}

func snapshotOps(c cloud.Snapshots) kindOps {
	return kindOps{list: lister(c.Snapshots, ofSnapshot), get: getter(c.Snapshot, ofSnapshot), remove: c.DeleteSnapshot}
}

func imageOps(c cloud.Images) kindOps {
	return kindOps{list: lister(c.Images, ofImage), get: getter(c.Image, ofImage),
		remove: func(ctx context.Context, id string) error { return c.DeleteImage(ctx, id, false) }}
}

func networkOps(c cloud.Networks) kindOps {
	return kindOps{list: lister(c.Networks, ofNetwork), get: getter(c.Network, ofNetwork), remove: c.DeleteNetwork}
}

func addressOps(c cloud.Addresses) kindOps {
	return kindOps{list: lister(c.Addresses, ofAddress), get: getter(c.Address, ofAddress),
		remove: func(ctx context.Context, id string) error {
			if err := c.DisassociateAddress(ctx, id); err != nil {
				return err
			}
			return c.ReleaseAddress(ctx, id)
		}}
}

// removeAndWait deletes a resource and waits until it is not found any more.
func (t Timing) removeAndWait(ctx context.Context, o kindOps, kind cloud.Kind, id string) error {
	note(ctx, "waiting until "+string(kind)+" "+id+" is deleted")
	if err := o.remove(ctx, id); err != nil {
		return cloud.IgnoreNotFound(err)
	}
	return t.until(ctx, func() (bool, error) {
		_, err := o.get(ctx, id)
		if cloud.IsNotFound(err) {
			return true, nil
		}
		return false, err
	})
}

// settle waits until a resource is in one of the wanted states. One that is not
// found may be new: only when it stays so for Visible it is reported as NotFound.
// A state that stays and is not wanted is Failed; then the resource is returned too.
func settle[R any](ctx context.Context, t Timing, what string, get func() (R, error), of func(R) cloud.Resource, want ...cloud.State) (R, error) {
	var r R
	var missing stopwatch
	err := t.until(ctx, func() (bool, error) {
		var err error
		r, err = get()
		if cloud.IsNotFound(err) {
			note(ctx, "waiting until "+what+" can be seen")
			if missing.running() > t.Visible {
				return false, err
			}
			return false, nil
		}
		if err != nil {
			return false, err
		}
		missing.reset()
		res := of(r)
		if slices.Contains(want, res.State) {
			return true, nil
		}
		if !passing(res.State) {
			return false, failedState(what, res, want[0])
		}
		note(ctx, "waiting until "+what+" is "+string(want[0])+": it is "+string(res.State))
		return false, nil
	})
	return r, err
}

// passing tells whether a state passes by itself.
func passing(s cloud.State) bool {
	return s == cloud.Creating || s == cloud.Starting || s == cloud.Stopping || s == cloud.Deleting
}

func failedState(what string, r cloud.Resource, want cloud.State) error {
	message := "is " + string(r.State) + " instead of " + string(want)
	if r.Message != "" {
		message += ": " + r.Message
	}
	return cloud.E(cloud.Failed, "", what, message, "", nil)
}
