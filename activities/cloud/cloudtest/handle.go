package cloudtest

import (
	"context"

	"lifeboat/activities/cloud"
)

// handle is what all kinds of resources can be asked for in the same words.
type handle struct {
	get  func(ctx context.Context, id string) (cloud.Resource, error)
	list func(ctx context.Context, f cloud.Filter) ([]cloud.Resource, error)
	del  func(ctx context.Context, id string) error
}

// kinds in the order in which they are made: they are deleted in the reverse one.
var kinds = []cloud.Kind{cloud.KindNetwork, cloud.KindDisk, cloud.KindSnapshot, cloud.KindImage, cloud.KindServer, cloud.KindAddress}

// handleOf returns the handle of a kind, Unsupported when the provider lacks it.
func handleOf(p cloud.Provider, kind cloud.Kind) (handle, error) {
	switch kind {
	case cloud.KindDisk:
		c, err := cloud.As[cloud.Disks](p, "Disks")
		return newHandle(c, cloud.Disks.Disk, cloud.Disks.Disks, cloud.Disks.DeleteDisk, func(v cloud.Disk) cloud.Resource { return v.Resource }), err
	case cloud.KindSnapshot:
		c, err := cloud.As[cloud.Snapshots](p, "Snapshots")
		return newHandle(c, cloud.Snapshots.Snapshot, cloud.Snapshots.Snapshots, cloud.Snapshots.DeleteSnapshot, func(v cloud.Snapshot) cloud.Resource { return v.Resource }), err
	case cloud.KindImage:
		c, err := cloud.As[cloud.Images](p, "Images")
		del := func(i cloud.Images, ctx context.Context, id string) error { return i.DeleteImage(ctx, id, false) }
		return newHandle(c, cloud.Images.Image, cloud.Images.Images, del, func(v cloud.Image) cloud.Resource { return v.Resource }), err
	case cloud.KindNetwork:
		c, err := cloud.As[cloud.Networks](p, "Networks")
		return newHandle(c, cloud.Networks.Network, cloud.Networks.Networks, cloud.Networks.DeleteNetwork, func(v cloud.Network) cloud.Resource { return v.Resource }), err
	case cloud.KindServer:
		c, err := cloud.As[cloud.Servers](p, "Servers")
		return newHandle(c, cloud.Servers.Server, cloud.Servers.Servers, cloud.Servers.TerminateServer, func(v cloud.Server) cloud.Resource { return v.Resource }), err
	case cloud.KindAddress:
		c, err := cloud.As[cloud.Addresses](p, "Addresses")
		return newHandle(c, cloud.Addresses.Address, cloud.Addresses.Addresses, cloud.Addresses.ReleaseAddress, func(v cloud.Address) cloud.Resource { return v.Resource }), err
	}
	return handle{}, cloud.E(cloud.Unsupported, "handle", string(kind), "there are no resources of this kind to ask for", "", nil)
}

func newHandle[C, V any](c C, get func(C, context.Context, string) (V, error), list func(C, context.Context, cloud.Filter) ([]V, error),
	del func(C, context.Context, string) error, resource func(V) cloud.Resource) handle {
	return handle{
		get: func(ctx context.Context, id string) (cloud.Resource, error) {
			v, err := get(c, ctx, id)
			return resource(v), err
		},
		list: func(ctx context.Context, f cloud.Filter) ([]cloud.Resource, error) {
			values, err := list(c, ctx, f)
			resources := make([]cloud.Resource, 0, len(values))
			for _, v := range values {
				resources = append(resources, resource(v))
			}
			return resources, err
		},
		del: func(ctx context.Context, id string) error { return del(c, ctx, id) },
	}
}
