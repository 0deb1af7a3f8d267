package local

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"lifeboat/activities/cloud"
)

const networkBucket = "networks"

// networkRecord is a network as it is stored.
type networkRecord struct {
	cloud.Network
	Token     string `json:"token"`
	Namespace string `json:"namespace,omitempty"` // empty = that of the machine
}

var loopback = netip.MustParsePrefix("127.0.0.0/8")

// StartCreateNetwork makes a network. With the rights for it (root) it is a
// network namespace of its own, so that the same private addresses may be used
// in several networks; otherwise it is a range of the machine's loopback network.
func (p *Provider) StartCreateNetwork(ctx context.Context, in cloud.CreateNetwork) (cloud.Network, error) {
	const op = "StartCreateNetwork"
	isolation := canIsolate()
	prefix, err := checkCIDR(op, in.CIDR, isolation)
	if err != nil {
		return cloud.Network{}, err
	}
	if isolation == nil && p.options.SharedLoopback && loopback.Contains(prefix.Addr()) {
		isolation = errors.New("as this program wants it")
	}
	var n cloud.Network
	err = p.store.update(ctx, func(t *tx) error {
		id, old, err := t.claim(op, cloud.KindNetwork, in.Token, in)
		if err != nil {
			return err
		}
		if !old {
			r := networkRecord{Token: in.Token}
			r.Resource = cloud.Resource{ID: id, Name: in.Name, State: cloud.Available, Tags: in.Tags, Created: time.Now().UTC()}
			r.CIDR, r.Zone, r.Isolated = prefix.String(), in.Zone, isolation == nil
			if r.Isolated {
				r.Namespace = "lifeboat-" + id
			} else {
				r.Note = "not isolated: servers share the loopback network of this machine (" + isolation.Error() + "); run as root for isolated networks"
			}
			if err := t.nameIsFree(op, in.Name); err != nil {
				return err
			}
			if err := t.put(networkBucket, id, r); err != nil {
				return err
			}
		}
		n, err = t.network(op, id)
		return err
	})
	if err != nil {
		return cloud.Network{}, err
	}
	if n.Isolated {
		if err := p.ensureNetwork(ctx, n.ID); err != nil {
			return cloud.Network{}, err
		}
	}
	return n, nil
}

// checkCIDR returns the network that a CIDR stands for.
func checkCIDR(op, cidr string, isolation error) (netip.Prefix, error) {
	resource := "network " + cidr
	prefix, err := netip.ParsePrefix(cidr)
	switch {
	case err != nil || !prefix.Addr().Is4():
		return prefix, invalid(op, resource, "is not an IPv4 network", "write it like 10.20.0.0/24")
	case prefix.Masked() != prefix:
		return prefix, invalid(op, resource, "has bits set behind its prefix", "write "+prefix.Masked().String())
	case prefix.Bits() < 8 || prefix.Bits() > 30:
		return prefix, invalid(op, resource, "has no usable size", "choose a prefix length from 8 to 30")
	case isolation != nil && (!loopback.Contains(prefix.Addr())):
		return prefix, invalid(op, resource, "lies outside 127.0.0.0/8, which needs a network namespace: "+isolation.Error(),
			"run as root, or choose a network like 127.20.0.0/24")
	}
	return prefix, nil
}

// nameIsFree refuses a second network of one name, which plans could not tell apart.
func (t *tx) nameIsFree(op, name string) error {
	if name == "" {
		return nil
	}
	return t.each(networkBucket, func(id string, raw []byte) error {
		var r networkRecord
		if err := t.decode(networkBucket, id, raw, &r); err != nil || r.Name != name {
			return err
		}
		return invalid(op, "network "+name, "the name belongs to network "+id+" already", "choose another name")
	})
}

// findNetwork finds a network by identifier or by name.
func (t *tx) findNetwork(op, idOrName string) (r networkRecord, err error) {
	found, err := t.get(networkBucket, idOrName, &r)
	if err != nil || found {
		return r, err
	}
	err = t.each(networkBucket, func(id string, raw []byte) error {
		var candidate networkRecord
		if err := t.decode(networkBucket, id, raw, &candidate); err != nil {
			return err
		}
		if idOrName != "" && candidate.Name == idOrName {
			r, found = candidate, true
		}
		return nil
	})
	if err == nil && !found {
		err = notFound(op, cloud.KindNetwork, idOrName)
	}
	return r, err
}

// network returns a network as callers see it.
func (t *tx) network(op, idOrName string) (cloud.Network, error) {
	r, err := t.findNetwork(op, idOrName)
	if err != nil {
		return cloud.Network{}, err
	}
	used, err := t.usedAddresses(r.ID)
	if err != nil {
		return cloud.Network{}, err
	}
	prefix, err := netip.ParsePrefix(r.CIDR)
	if err != nil {
		return cloud.Network{}, t.s.corrupt("network "+r.ID+" has no valid CIDR", err)
	}
	r.Free = 1<<(32-prefix.Bits()) - 2 - len(used)
	return r.Network, nil
}

// usedAddresses maps the private addresses in use to their servers.
func (t *tx) usedAddresses(network string) (map[netip.Addr]string, error) {
	used := map[netip.Addr]string{}
	err := t.each(serverBucket, func(id string, raw []byte) error {
		var r serverRecord
		if err := t.decode(serverBucket, id, raw, &r); err != nil || r.Network != network {
			return err
		}
		ip, err := netip.ParseAddr(r.IP)
		if err != nil {
			return t.s.corrupt("server "+id+" has no valid address", err)
		}
		used[ip] = id
		return nil
	})
	return used, err
}

// Network finds a network by identifier or by name.
func (p *Provider) Network(ctx context.Context, idOrName string) (n cloud.Network, err error) {
	err = p.store.view(ctx, func(t *tx) error {
		n, err = t.network("Network", idOrName)
		return err
	})
	return n, err
}

// Networks lists the networks that satisfy the filter.
func (p *Provider) Networks(ctx context.Context, f cloud.Filter) ([]cloud.Network, error) {
	all := []cloud.Network{}
	err := p.store.view(ctx, func(t *tx) error {
		return t.each(networkBucket, func(id string, _ []byte) error {
			n, err := t.network("Networks", id)
			if err == nil && f.Match(n.Tags) {
				all = append(all, n)
			}
			return err
		})
	})
	return all, err
}

// CheckAddress tells whether a server could have this private address.
func (p *Provider) CheckAddress(ctx context.Context, network, ip string) error {
	return p.store.view(ctx, func(t *tx) error {
		r, err := t.findNetwork("CheckAddress", network)
		if err == nil {
			_, err = t.pickAddress("CheckAddress", r, ip)
		}
		return err
	})
}

// pickAddress checks a wanted private address, or finds a free one when ip is empty.
func (t *tx) pickAddress(op string, r networkRecord, ip string) (netip.Addr, error) {
	used, err := t.usedAddresses(r.ID)
	if err != nil {
		return netip.Addr{}, err
	}
	prefix, err := netip.ParsePrefix(r.CIDR)
	if err != nil {
		return netip.Addr{}, t.s.corrupt("network "+r.ID+" has no valid CIDR", err)
	}
	resource := "network " + cmp.Or(r.Name, r.ID)
	if ip == "" {
		for a := prefix.Addr().Next(); prefix.Contains(a.Next()); a = a.Next() {
			if used[a] == "" {
				return a, nil
			}
		}
		return netip.Addr{}, cloud.E(cloud.Capacity, op, resource, "has no free address", "use a larger network, or terminate servers that are not needed", nil)
	}
	address, err := netip.ParseAddr(ip)
	switch {
	case err != nil || !address.Is4():
		return address, invalid(op, "address "+ip, "is not an IPv4 address", "write it like "+prefix.Addr().Next().String())
	case !prefix.Contains(address):
		return address, invalid(op, "address "+ip, "lies outside network "+cmp.Or(r.Name, r.ID)+" ("+r.CIDR+")", "choose an address of that network")
	case address == prefix.Addr() || !prefix.Contains(address.Next()):
		return address, invalid(op, "address "+ip, "is the first or the last of "+r.CIDR+", which no server can have", "choose another address of that network")
	case used[address] != "":
		return address, cloud.E(cloud.AddressTaken, op, "address "+ip, "belongs to server "+used[address]+" in network "+cmp.Or(r.Name, r.ID),
			"choose another address, or terminate that server", nil)
	}
	return address, nil
}

// DeleteNetwork deletes a network without servers.
func (p *Provider) DeleteNetwork(ctx context.Context, id string) error {
	const op = "DeleteNetwork"
	release, err := p.waitJob(ctx, "namespaces")
	if err != nil {
		return err
	}
	defer release()
	return p.store.update(ctx, func(t *tx) error {
		var r networkRecord
		found, err := t.get(networkBucket, id, &r)
		if err != nil {
			return err
		}
		if !found {
			return notFound(op, cloud.KindNetwork, id)
		}
		used, err := t.usedAddresses(id)
		if err != nil {
			return err
		}
		for ip, server := range used {
			return cloud.E(cloud.InUse, op, "network "+cmp.Or(r.Name, id), fmt.Sprintf("server %s (%s) is in it", server, ip), "terminate its servers first", nil)
		}
		// First the namespace: what is made again by itself may be gone too early.
		if r.Namespace != "" {
			if err := deleteNamespace(r.Namespace); err != nil {
				return osError(op, "network "+cmp.Or(r.Name, id), err)
			}
		}
		if err := t.retire(cloud.KindNetwork, r.Token); err != nil {
			return err
		}
		return t.del(networkBucket, id)
	})
}

// ensureNetwork makes the namespace of a network when it is not there: it is
// new, or the machine was restarted.
func (p *Provider) ensureNetwork(ctx context.Context, id string) error {
	release, err := p.waitJob(ctx, "namespaces")
	if err != nil {
		return err
	}
	defer release()
	var r networkRecord
	err = p.store.view(ctx, func(t *tx) error {
		r, err = t.findNetwork("Network", id)
		return err
	})
	if err != nil || r.Namespace == "" {
		return err
	}
	if err := canIsolate(); err != nil {
		return cloud.E(cloud.Denied, "Network", "network "+cmp.Or(r.Name, id), "it is a network namespace, and user "+userName()+" cannot use one: "+err.Error(), "run as root", err)
	}
	return osError("Network", "network "+cmp.Or(r.Name, id), ensureNamespace(r.Namespace))
}

// Dial opens a TCP connection to a private address, from within its network.
func (p *Provider) Dial(ctx context.Context, network, hostport string) (cloud.Conn, error) {
	const op = "Dial"
	host, port, err := net.SplitHostPort(hostport)
	if err != nil {
		return nil, invalid(op, "address "+hostport, "is not HOST:PORT", "write it like 10.20.0.5:80")
	}
	if number, err := strconv.Atoi(port); err != nil || number < 1 || number > 65535 {
		return nil, invalid(op, "address "+hostport, "has no valid port", "choose a port from 1 to 65535")
	}
	var r networkRecord
	err = p.store.view(ctx, func(t *tx) error {
		r, err = t.findNetwork(op, network)
		return err
	})
	if err != nil {
		return nil, err
	}
	ip, err := netip.ParseAddr(host)
	prefix, perr := netip.ParsePrefix(r.CIDR)
	if err != nil || perr != nil || !prefix.Contains(ip) {
		return nil, invalid(op, "address "+hostport, "is not an address of network "+cmp.Or(r.Name, r.ID)+" ("+r.CIDR+")", "choose an address of that network")
	}
	if r.Namespace != "" {
		if is, err := isNamespace(namespaceDir + "/" + r.Namespace); err != nil || !is {
			if err := p.ensureNetwork(ctx, r.ID); err != nil {
				return nil, err
			}
		}
	}
	conn, err := dialIn(ctx, r.Namespace, hostport)
	if err != nil {
		return nil, dialError(op, hostport, err)
	}
	return conn, nil
}

// dialError says why a connection could not be opened.
func dialError(op, hostport string, err error) error {
	message := "does not answer"
	switch {
	case isAny(err, unix.ECONNREFUSED):
		message = "refused the connection: nothing listens there"
	case isAny(err, unix.EHOSTUNREACH, unix.ENETUNREACH):
		message = "cannot be reached: no server has this address at the moment"
	case isAny(err, unix.EPERM, unix.EACCES):
		return cloud.E(cloud.Denied, op, "address "+hostport, "user "+userName()+" cannot enter the network", "run as root", err)
	case !strings.Contains(err.Error(), "i/o timeout") && !isAny(err, context.DeadlineExceeded, context.Canceled):
		message = "cannot be reached: " + err.Error()
	}
	return cloud.E(cloud.Unavailable, op, "address "+hostport, message, "", err)
}
