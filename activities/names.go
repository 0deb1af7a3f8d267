package activities

import (
	"context"
	"errors"
	"fmt"
	"net"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/miekg/dns"

	"lifeboat/activities/cloud"
)

// GetNames returns the DNS records of one name, or of the zone when it is empty.
func (c *Cloud) GetNames(ctx context.Context, in NamesInput) ([]Record, error) {
	return run(ctx, func(ctx context.Context) ([]Record, error) {
		names, err := capability[cloud.Names](ctx, c, in.Site, "DNS")
		if err != nil {
			return nil, err
		}
		return names.Records(ctx, in.Zone, in.Name)
	})
}

// SetNames replaces DNS record sets and waits until every name server has them.
func (c *Cloud) SetNames(ctx context.Context, in SetNamesInput) (Seen, error) {
	return run(ctx, func(ctx context.Context) (Seen, error) {
		names, err := capability[cloud.Names](ctx, c, in.Site, "DNS")
		if err != nil {
			return Seen{}, err
		}
		token := clientToken(cloud.KindRecord, Scope{Operation: in.Step}, "", in.Zone, 0)
		change, err := names.StartSetRecords(ctx, in.Zone, token, in.Records)
		if err != nil {
			return Seen{}, err
		}
		note(ctx, "waiting until every name server has the change of zone "+in.Zone)
		err = c.Timing.until(ctx, func() (bool, error) {
			if change.State == cloud.Available {
				return true, nil
			}
			now, err := names.Change(ctx, change.ID)
			if err == nil {
				change = now
			}
			return change.State == cloud.Available, err
		})
		return Seen{At: c.now(), Detail: describeRecords(in.Records)}, err
	})
}

func describeRecords(records []Record) string {
	var all []string
	for _, r := range records {
		all = append(all, fmt.Sprintf("%s %s %s", r.Name, r.Type, strings.Join(r.Values, " ")))
	}
	return strings.Join(all, ", ")
}

// CheckServing asks through the DNS name, with a new look-up and a new connection each
// time, until traffic is served. After Timeout the error is NotReady, not retried.
func (c *Cloud) CheckServing(ctx context.Context, in CheckServingInput) (Seen, error) {
	return run(ctx, func(ctx context.Context) (Seen, error) {
		names, err := capability[cloud.Names](ctx, c, in.Site, "DNS")
		if err != nil {
			return Seen{}, err
		}
		dial, err := c.reaching(ctx, in)
		if err != nil {
			return Seen{}, err
		}
		return c.patiently(ctx, in.Timeout, "traffic through "+in.Name, "see whether the address leads to the server, then retry or skip the step",
			func(ctx context.Context) (string, error) {
				resolver, err := names.Resolver(ctx, in.Zone)
				if err != nil {
					return "", err
				}
				address, err := resolve(ctx, resolver, in.Name, in.Expect)
				if err != nil {
					return "", err
				}
				return probe(ctx, dial, net.JoinHostPort(address, strconv.Itoa(in.Port)), in.Name, in.HTTP)
			})
	})
}

// reaching dials as users do: public addresses from here, private ones from inside their network.
func (c *Cloud) reaching(ctx context.Context, in CheckServingInput) (dialFunc, error) {
	var dialer net.Dialer
	outside := func(ctx context.Context, hostport string) (net.Conn, error) {
		return dialer.DialContext(ctx, "tcp", hostport)
	}
	if in.NetworkID == "" {
		return outside, nil
	}
	networks, err := capability[cloud.Networks](ctx, c, in.ServerSite, "networks")
	if cloud.CodeOf(err) == cloud.Unsupported {
		return outside, nil // another worker's site: what can be reached from here is all that can be asked
	}
	if err != nil {
		return nil, err
	}
	return func(ctx context.Context, hostport string) (net.Conn, error) {
		return networks.Dial(ctx, in.NetworkID, hostport)
	}, nil
}

// resolve asks the zone's own name server for the IPv4 addresses of a name and returns
// expect when it is among them, or any when expect is empty.
func resolve(ctx context.Context, resolver, name, expect string) (string, error) {
	ctx, cancel := context.WithTimeout(ctx, probeTimeout)
	defer cancel()
	question := new(dns.Msg)
	question.SetQuestion(dns.Fqdn(name), dns.TypeA)
	client := &dns.Client{Net: "udp", Timeout: time.Second}
	answer, _, err := client.ExchangeContext(ctx, question, resolver)
	if err == nil && answer.Truncated {
		client.Net = "tcp"
		answer, _, err = client.ExchangeContext(ctx, question, resolver)
	}
	if err != nil {
		return "", fmt.Errorf("name server %s: %w", resolver, err)
	}
	if answer.Rcode != dns.RcodeSuccess {
		return "", fmt.Errorf("name server %s says %s for %s", resolver, dns.RcodeToString[answer.Rcode], name)
	}
	var addresses []string
	for _, rr := range answer.Answer {
		if a, ok := rr.(*dns.A); ok {
			addresses = append(addresses, a.A.String())
		}
	}
	switch {
	case len(addresses) == 0:
		return "", errors.New(name + " has no address")
	case expect == "":
		return addresses[0], nil
	case slices.Contains(addresses, expect):
		return expect, nil
	}
	return "", fmt.Errorf("%s still leads to %s, not to %s", name, strings.Join(addresses, ", "), expect)
}
