package local

import (
	"cmp"
	"context"
	"fmt"
	"time"

	"lifeboat/activities/cloud"
)

const addressBucket = "addresses"

// addressRecord is a public address as it is stored.
type addressRecord struct {
	cloud.Address
	Token string `json:"token"`
}

// AllocateAddress reserves a public address. Those of a local site are
// loopback addresses; the ports of the server that one points to are served by
// the site's daemon.
func (p *Provider) AllocateAddress(ctx context.Context, in cloud.Create) (a cloud.Address, err error) {
	const op = "AllocateAddress"
	err = p.store.update(ctx, func(t *tx) error {
		id, old, err := t.claim(op, cloud.KindAddress, in.Token, in)
		if err != nil {
			return err
		}
		if old {
			r, err := t.findAddress(op, id)
			a = r.Address
			return err
		}
		public, err := p.freePublic(t, op)
		if err != nil {
			return err
		}
		if in.Name != "" {
			if other, err := t.findAddress(op, in.Name); err == nil {
				return invalid(op, "address "+in.Name, "the name belongs to address "+other.ID+" already", "choose another name")
			} else if !cloud.IsNotFound(err) {
				return err
			}
		}
		a = cloud.Address{Public: public, Resource: cloud.Resource{ID: id, Name: in.Name, State: cloud.Available, Tags: in.Tags, Created: time.Now().UTC()}}
		return t.put(addressBucket, id, addressRecord{Address: a, Token: in.Token})
	})
	return a, err
}

// freePublic finds a public address that the site does not use.
func (p *Provider) freePublic(t *tx, op string) (string, error) {
	config, err := p.daemonConfig(t)
	if err != nil {
		return "", err
	}
	used := map[string]bool{}
	err = t.each(addressBucket, func(id string, raw []byte) error {
		var r addressRecord
		err := t.decode(addressBucket, id, raw, &r)
		used[r.Public] = true
		return err
	})
	if err != nil {
		return "", err
	}
	for last := 1; last < resolverHost; last++ {
		if public := fmt.Sprintf("%s.%d", config.Range, last); !used[public] {
			return public, nil
		}
	}
	return "", cloud.E(cloud.Quota, op, "site "+p.site.Name, fmt.Sprintf("all %d public addresses of the site are in use", resolverHost-1), "release addresses that are not needed", nil)
}

// findAddress finds a public address by identifier or by name.
func (t *tx) findAddress(op, idOrName string) (r addressRecord, err error) {
	found, err := t.get(addressBucket, idOrName, &r)
	if err != nil || found {
		return r, err
	}
	err = t.each(addressBucket, func(id string, raw []byte) error {
		var candidate addressRecord
		if err := t.decode(addressBucket, id, raw, &candidate); err != nil {
			return err
		}
		if idOrName != "" && candidate.Name == idOrName {
			r, found = candidate, true
		}
		return nil
	})
	if err == nil && !found {
		err = notFound(op, cloud.KindAddress, idOrName)
	}
	return r, err
}

// addressOf returns the public address that points to a server.
func (t *tx) addressOf(server string) (r addressRecord, found bool, err error) {
	err = t.each(addressBucket, func(id string, raw []byte) error {
		var candidate addressRecord
		if err := t.decode(addressBucket, id, raw, &candidate); err != nil {
			return err
		}
		if candidate.Server == server {
			r, found = candidate, true
		}
		return nil
	})
	return r, found, err
}

// pointAddress points an address to a server, or to none, and tells the daemon.
func (t *tx) pointAddress(r addressRecord, server string) error {
	r.Server, r.State = server, cloud.Attached
	if server == "" {
		r.State = cloud.Available
	}
	if err := t.put(addressBucket, r.ID, r); err != nil {
		return err
	}
	return t.bumpDaemon()
}

// Address finds a public address by identifier or by name.
func (p *Provider) Address(ctx context.Context, idOrName string) (a cloud.Address, err error) {
	if err := p.reviveDaemon(ctx); err != nil {
		return a, err
	}
	err = p.store.view(ctx, func(t *tx) error {
		r, err := t.findAddress("Address", idOrName)
		a = r.Address
		return err
	})
	return a, err
}

// Addresses lists the public addresses that satisfy the filter.
func (p *Provider) Addresses(ctx context.Context, f cloud.Filter) ([]cloud.Address, error) {
	if err := p.reviveDaemon(ctx); err != nil {
		return nil, err
	}
	all := []cloud.Address{}
	err := p.store.view(ctx, func(t *tx) error {
		return t.each(addressBucket, func(id string, raw []byte) error {
			var r addressRecord
			err := t.decode(addressBucket, id, raw, &r)
			if err == nil && f.Match(r.Tags) {
				all = append(all, r.Address)
			}
			return err
		})
	})
	return all, err
}

// AssociateAddress moves an address to a server. When it returns nil, new
// connections reach that server, and those to another are closed.
func (p *Provider) AssociateAddress(ctx context.Context, id, server string, reassociate bool) error {
	const op = "AssociateAddress"
	err := p.store.update(ctx, func(t *tx) error {
		r, err := t.findAddress(op, id)
		if err != nil {
			return err
		}
		var s serverRecord
		found, err := t.get(serverBucket, server, &s)
		switch {
		case err != nil:
			return err
		case !found || s.Wish == wishGone:
			return notFound(op, cloud.KindServer, server)
		case r.Server == server:
			return nil
		case r.Server != "" && !reassociate:
			return cloud.E(cloud.InUse, op, "address "+r.Public, "points to server "+r.Server, "disassociate it, or ask to reassociate it", nil)
		}
		other, found, err := t.addressOf(server)
		if err != nil {
			return err
		}
		if found {
			return cloud.E(cloud.InUse, op, "server "+cmp.Or(s.Name, server), "has the public address "+other.Public+" already", "disassociate that one first", nil)
		}
		return t.pointAddress(r, server)
	})
	if err != nil {
		return err
	}
	return p.awaitAddress(ctx, op, id)
}

// DisassociateAddress takes an address from its server; it points nowhere then.
func (p *Provider) DisassociateAddress(ctx context.Context, id string) error {
	const op = "DisassociateAddress"
	pointed := false
	err := p.store.update(ctx, func(t *tx) error {
		r, err := t.findAddress(op, id)
		if err != nil || r.Server == "" {
			return err
		}
		pointed = true
		return t.pointAddress(r, "")
	})
	if err != nil || !pointed {
		return err
	}
	return p.awaitAddress(ctx, op, id)
}

// awaitAddress waits until the daemon serves the address as it is stored.
func (p *Provider) awaitAddress(ctx context.Context, op, id string) error {
	status, err := p.awaitDaemon(ctx, op)
	if err != nil {
		return err
	}
	var r addressRecord
	err = p.store.view(ctx, func(t *tx) error {
		r, err = t.findAddress(op, id)
		return err
	})
	if err != nil {
		return err
	}
	if message := status.Problems[r.ID]; message != "" {
		return cloud.E(cloud.InUse, op, "address "+r.Public, message, "free the port, or give the server a port that can be used", nil)
	}
	return nil
}

// ReleaseAddress gives a public address back.
func (p *Provider) ReleaseAddress(ctx context.Context, id string) error {
	const op = "ReleaseAddress"
	return p.store.update(ctx, func(t *tx) error {
		r, err := t.findAddress(op, id)
		if err != nil {
			return err
		}
		if r.Server != "" {
			return cloud.E(cloud.InUse, op, "address "+r.Public, "points to server "+r.Server, "disassociate it first", nil)
		}
		if err := t.retire(cloud.KindAddress, r.Token); err != nil {
			return err
		}
		return t.del(addressBucket, r.ID)
	})
}
