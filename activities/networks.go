package activities

import (
	"context"
	"net/netip"

	"lifeboat/activities/cloud"
)

// EnsureNetwork returns a network by name, made when it is not there and a CIDR is given.
func (c *Cloud) EnsureNetwork(ctx context.Context, in EnsureNetworkInput) (NetworkInfo, error) {
	return run(ctx, func(ctx context.Context) (NetworkInfo, error) {
		p, err := c.Open(ctx, in.Scope.Site)
		if err != nil {
			return NetworkInfo{}, err
		}
		networks, err := cloud.As[cloud.Networks](p, "networks")
		if err != nil {
			return NetworkInfo{}, err
		}
		n, err := networks.Network(ctx, in.Name)
		if err == nil {
			err = sameNetwork(n, in)
		} else if cloud.IsNotFound(err) && in.CIDR != "" {
			n, err = c.makeNetwork(ctx, p, networks, in)
		}
		if err != nil {
			return NetworkInfo{}, err
		}
		n, err = settle(ctx, c.Timing, "network "+in.Name, func() (cloud.Network, error) { return networks.Network(ctx, n.ID) }, ofNetwork, cloud.Available)
		return NetworkInfo{ID: n.ID, Name: n.Name, CIDR: n.CIDR, Isolated: n.Isolated, Note: n.Note}, err
	})
}

// sameNetwork refuses a network of the wanted name with other addresses.
func sameNetwork(n cloud.Network, in EnsureNetworkInput) error {
	if in.CIDR == "" {
		return nil
	}
	want, err := netip.ParsePrefix(in.CIDR)
	if err != nil {
		return cloud.E(cloud.InvalidInput, "EnsureNetwork", "network "+in.Name, "the CIDR "+in.CIDR+" is none", "write it like 10.0.0.0/24", err)
	}
	if have, err := netip.ParsePrefix(n.CIDR); err != nil || have.Masked() != want.Masked() {
		return cloud.E(cloud.InvalidInput, "EnsureNetwork", "network "+in.Name,
			"exists with CIDR "+n.CIDR+", the plan says "+in.CIDR, "correct the plan, or use another name", err)
	}
	return nil
}

func (c *Cloud) makeNetwork(ctx context.Context, p cloud.Provider, networks cloud.Networks, in EnsureNetworkInput) (cloud.Network, error) {
	m := making[cloud.Network]{p: p, t: c.Timing, scope: in.Scope, kind: cloud.KindNetwork, step: in.Step, name: in.Name,
		start: func(ctx context.Context, create cloud.Create) (cloud.Network, error) {
			return networks.StartCreateNetwork(ctx, cloud.CreateNetwork{Create: create, CIDR: in.CIDR, Zone: in.Zone})
		},
		get: networks.Network, list: networks.Networks, of: ofNetwork}
	r, err := m.begin(ctx)
	if err != nil {
		return cloud.Network{}, err
	}
	return m.await(ctx, r, cloud.Available)
}

// CheckAddress tells whether a private address lies in the network and is free.
func (c *Cloud) CheckAddress(ctx context.Context, in CheckAddressInput) error {
	return do(ctx, func(ctx context.Context) error {
		networks, err := capability[cloud.Networks](ctx, c, in.Site, "networks")
		if err != nil {
			return err
		}
		return networks.CheckAddress(ctx, in.Network, in.IP)
	})
}

// EnsureAddress returns a reserved public address by name, allocated when it is not there.
func (c *Cloud) EnsureAddress(ctx context.Context, in EnsureAddressInput) (AddressInfo, error) {
	return run(ctx, func(ctx context.Context) (AddressInfo, error) {
		p, err := c.Open(ctx, in.Scope.Site)
		if err != nil {
			return AddressInfo{}, err
		}
		addresses, err := cloud.As[cloud.Addresses](p, "public addresses")
		if err != nil {
			return AddressInfo{}, err
		}
		a, err := addresses.Address(ctx, in.Name)
		if cloud.IsNotFound(err) {
			m := making[cloud.Address]{p: p, t: c.Timing, scope: in.Scope, kind: cloud.KindAddress, step: in.Step, name: in.Name,
				start: addresses.AllocateAddress, get: addresses.Address, list: addresses.Addresses, of: ofAddress}
			var r made[cloud.Address]
			if r, err = m.begin(ctx); err == nil {
				a, err = m.await(ctx, r, cloud.Available, cloud.Attached)
			}
		}
		return AddressInfo{ID: a.ID, Public: a.Public, Server: a.Server}, err
	})
}

// MoveAddress moves a reserved public address to a server, or away from any. The
// result says which server it pointed to before this activity first ran. A server
// that has another reserved address keeps that one, and it is the result.
func (c *Cloud) MoveAddress(ctx context.Context, in MoveAddressInput) (AddressInfo, error) {
	return run(ctx, func(ctx context.Context) (AddressInfo, error) {
		addresses, err := capability[cloud.Addresses](ctx, c, in.Site, "public addresses")
		if err != nil {
			return AddressInfo{}, err
		}
		a, err := addresses.Address(ctx, in.Name)
		if err != nil {
			return AddressInfo{}, err
		}
		if own, ok, err := ownAddress(ctx, addresses, in.ServerID, a.ID); err != nil || ok {
			return own, err
		}
		before := a.Server
		if p := progressOf(ctx); p.Before != nil {
			before = *p.Before
		}
		track(ctx, func(p *Progress) { p.Note, p.Before = "moving address "+a.Public, &before })
		if in.ServerID == "" {
			err = addresses.DisassociateAddress(ctx, a.ID)
		} else {
			err = addresses.AssociateAddress(ctx, a.ID, in.ServerID, true)
		}
		if err != nil {
			return AddressInfo{}, err
		}
		err = c.Timing.until(ctx, func() (bool, error) {
			now, err := addresses.Address(ctx, a.ID)
			return now.Server == in.ServerID, err
		})
		return AddressInfo{ID: a.ID, Public: a.Public, Server: before}, err
	})
}

// ownAddress finds a reserved address, other than the given one, that a server has already.
func ownAddress(ctx context.Context, addresses cloud.Addresses, server, but string) (AddressInfo, bool, error) {
	if server == "" {
		return AddressInfo{}, false, nil
	}
	all, err := addresses.Addresses(ctx, cloud.Filter{})
	if err != nil {
		return AddressInfo{}, false, err
	}
	for _, a := range all {
		if a.Server == server && a.ID != but {
			return AddressInfo{ID: a.ID, Public: a.Public, Server: server}, true, nil
		}
	}
	return AddressInfo{}, false, nil
}
