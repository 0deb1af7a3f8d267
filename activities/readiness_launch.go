package activities

import (
	"cmp"
	"context"
	"fmt"

	"lifeboat/activities/cloud"
)

// ReadyServer is what a recovery would launch.
type ReadyServer struct {
	Name   string `json:"name"`
	Type   string `json:"type,omitempty"`
	CPU    int    `json:"cpu,omitempty"`
	Memory int64  `json:"memory,omitempty"` // bytes
	// Substitutes are types that are tried when there is no room for Type.
	Substitutes []string `json:"substitutes,omitempty"`
	Network     string   `json:"network"` // name
	CIDR        string   `json:"cidr,omitempty"`
	IP          string   `json:"ip,omitempty"`        // private address that it must have; empty = any
	PublicIP    string   `json:"public_ip,omitempty"` // name of a reserved address
	Key         string   `json:"key,omitempty"`       // of encryption; empty = the site's default
}

// ReadyLaunchInput asks whether servers could be launched at a site, all at once.
type ReadyLaunchInput struct {
	Site    Site          `json:"site"`
	Plan    string        `json:"plan"`
	Servers []ReadyServer `json:"servers"`
}

// CheckReadyLaunch looks for what launches would fail with: types, room, addresses, keys.
func (c *Cloud) CheckReadyLaunch(ctx context.Context, in ReadyLaunchInput) ([]Check, error) {
	return run(ctx, func(ctx context.Context) ([]Check, error) {
		l := c.look(in.Site)
		l.launches(ctx, in.Servers)
		l.networks(ctx, in)
		for _, s := range in.Servers {
			if s.PublicIP != "" {
				l.public(ctx, in.Plan, s)
			}
		}
		l.keys(ctx, in.Servers)
		return l.result(ctx)
	})
}

func (s ReadyServer) need() cloud.LaunchNeed {
	return cloud.LaunchNeed{Type: s.Type, CPU: s.CPU, Memory: s.Memory, Count: 1}
}

// wants says what a server needs, in words.
func (s ReadyServer) wants() string {
	if s.Type != "" {
		return "instance type " + s.Type
	}
	return fmt.Sprintf("%d CPUs and %d MiB of memory", s.CPU, s.Memory>>20)
}

// launches asks for each kind of server by itself, so that the line names the server, and
// then for all that could be launched by themselves at once.
func (l *looking) launches(ctx context.Context, servers []ReadyServer) {
	quotas, err := capability[cloud.Quotas](ctx, l.c, l.site, "check of launches")
	if err != nil {
		l.add(Check{Check: CheckKindLaunch, Subject: fmt.Sprintf("%d servers at once", len(servers))}, Finding{}, err)
		return
	}
	type answered struct {
		finding Finding
		err     error
		need    cloud.LaunchNeed
	}
	known := map[string]answered{} // servers with the same needs are asked for once
	var all []cloud.LaunchNeed
	for _, s := range servers {
		key := fmt.Sprint(s.need(), s.Substitutes)
		status := l.ask(ctx, Check{Check: CheckKindLaunch, Server: s.Name, Subject: s.wants()}, func(ctx context.Context) (Finding, error) {
			a, there := known[key]
			if !there || passes(a.err) {
				a.finding, a.need, a.err = checkOne(ctx, quotas, s)
				known[key] = a
			}
			return a.finding, a.err
		})
		if status == CheckOK || status == CheckWarn {
			all = append(all, known[key].need)
		}
	}
	if len(all) < 2 {
		return
	}
	l.ask(ctx, Check{Check: CheckKindLaunch, Subject: fmt.Sprintf("%d servers at once", len(all))}, func(ctx context.Context) (Finding, error) {
		if err := quotas.CheckLaunch(ctx, together(all)); err != nil {
			return Finding{}, err
		}
		return fine("could be launched now; only a reservation of capacity makes sure that there is room")
	})
}

// together counts servers with the same needs.
func together(needs []cloud.LaunchNeed) []cloud.LaunchNeed {
	var all []cloud.LaunchNeed
	at := map[cloud.LaunchNeed]int{}
	for _, n := range needs {
		if i, there := at[n]; there {
			all[i].Count += n.Count
			continue
		}
		at[n] = len(all)
		all = append(all, n)
	}
	return all
}

// checkOne asks for one server, and for its substitutes when there is no room for its type.
func checkOne(ctx context.Context, quotas cloud.Quotas, s ReadyServer) (Finding, cloud.LaunchNeed, error) {
	need := s.need()
	err := quotas.CheckLaunch(ctx, []cloud.LaunchNeed{need})
	if err == nil {
		f, err := fine("could be launched now")
		return f, need, err
	}
	if cloud.CodeOf(err) == cloud.Capacity {
		for _, other := range s.Substitutes {
			substitute := cloud.LaunchNeed{Type: other, Count: 1}
			if quotas.CheckLaunch(ctx, []cloud.LaunchNeed{substitute}) == nil {
				why := asContract(err)
				return Finding{CheckWarn, sentence(why.Resource, why.Message) + "; the substitute " + other + " could be launched", why.Mend}, substitute, nil
			}
		}
	}
	return Finding{}, need, err
}

// networks compares the free addresses of each network with what needs one, and looks at
// those that must be free.
func (l *looking) networks(ctx context.Context, in ReadyLaunchInput) {
	var order []string
	users := map[string][]ReadyServer{}
	for _, s := range in.Servers {
		if len(users[s.Network]) == 0 {
			order = append(order, s.Network)
		}
		users[s.Network] = append(users[s.Network], s)
	}
	networks, err := capability[cloud.Networks](ctx, l.c, l.site, "networks")
	for _, name := range order {
		var id string
		l.ask(ctx, Check{Check: CheckKindNetwork, Subject: cmp.Or(name, "the network of each server")}, func(ctx context.Context) (f Finding, aerr error) {
			if err != nil {
				return f, err
			}
			if name == "" {
				return Finding{CheckUnknown, "the plan names none, so that there is nothing to ask", "name one in the site pair"}, nil
			}
			id, f, aerr = judgeNetwork(ctx, networks, in.Plan, users[name])
			return f, aerr
		})
		for _, s := range users[name] {
			if s.IP == "" {
				continue
			}
			l.ask(ctx, Check{Check: CheckKindAddress, Server: s.Name, Subject: s.IP + " in " + name}, func(ctx context.Context) (Finding, error) {
				if id == "" {
					return Finding{CheckUnknown, "network " + name + " could not be asked", "see the line of the network"}, err
				}
				if err := networks.CheckAddress(ctx, id, s.IP); err != nil {
					return Finding{}, err
				}
				return fine("is free")
			})
		}
	}
}

// judgeNetwork looks at the network that all of the servers are launched in.
func judgeNetwork(ctx context.Context, networks cloud.Networks, planName string, servers []ReadyServer) (id string, f Finding, err error) {
	first := servers[0]
	n, err := networks.Network(ctx, first.Network)
	if cloud.IsNotFound(err) && first.CIDR != "" {
		return "", Finding{CheckWarn, "is not there yet; the recovery has to make it", "make it now: lifeboat server initialize " + planName + "/" + first.Name}, nil
	}
	if err == nil {
		err = sameNetwork(n, EnsureNetworkInput{Name: first.Network, CIDR: first.CIDR})
	}
	if err != nil {
		return "", f, err
	}
	f = Finding{Status: CheckOK, Cause: fmt.Sprintf("%d addresses are free, %d servers need one each", n.Free, len(servers))}
	if n.Free < len(servers) {
		f.Status, f.Mend = CheckFail, "free some, or name a larger network in the plan"
	}
	return n.ID, f, nil
}

func (l *looking) public(ctx context.Context, planName string, s ReadyServer) {
	l.ask(ctx, Check{Check: CheckKindPublic, Server: s.Name, Subject: s.PublicIP}, func(ctx context.Context) (Finding, error) {
		addresses, err := capability[cloud.Addresses](ctx, l.c, l.site, "public addresses")
		if err != nil {
			return Finding{}, err
		}
		a, err := addresses.Address(ctx, s.PublicIP)
		switch {
		case cloud.IsNotFound(err):
			return Finding{CheckFail, "is not reserved at the site", "reserve it now: lifeboat server initialize " + planName + "/" + s.Name}, nil
		case err != nil:
			return Finding{}, err
		case a.Server != "":
			return Finding{CheckWarn, a.Public + " is reserved, but belongs to server " + a.Server + ", which the recovery would take it from",
				"end that server, or name another address in the plan"}, nil
		}
		return fine("%s is reserved", a.Public)
	})
}

// keys asks for each key once, and makes a line for each server that needs it.
func (l *looking) keys(ctx context.Context, servers []ReadyServer) {
	known := map[string]error{}
	for _, s := range servers {
		if s.Key == "" {
			continue
		}
		l.ask(ctx, Check{Check: CheckKindKey, Server: s.Name, Subject: s.Key}, func(ctx context.Context) (Finding, error) {
			err, there := known[s.Key]
			if !there || passes(err) {
				var keys cloud.Keys
				if keys, err = capability[cloud.Keys](ctx, l.c, l.site, "encryption keys"); err == nil {
					err = keys.CheckKey(ctx, s.Key)
				}
				known[s.Key] = err
			}
			if err != nil {
				return Finding{}, err
			}
			return fine("can be used to encrypt and decrypt")
		})
	}
}
