package activities

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/miekg/dns"

	"lifeboat/activities/cloud"
)

// ReadyRecord is a DNS record that a recovery changes.
type ReadyRecord struct {
	Server string        `json:"server"`
	Name   string        `json:"name"`
	Zone   string        `json:"zone"`
	TTL    time.Duration `json:"ttl"`              // in the plan
	Active []string      `json:"active,omitempty"` // addresses of the server that serves; empty = not known
}

// ReadyNamesInput asks about records whose zones a site serves.
type ReadyNamesInput struct {
	Site    Site          `json:"site"`
	Plan    string        `json:"plan"`
	Records []ReadyRecord `json:"records"`
}

// longTTL is the life of a record from which users notice a switch late: two minutes count
// in an RTO of minutes.
const longTTL = 2 * time.Minute

// CheckReadyNames looks at records, their lives, and the name servers that answer for them.
func (c *Cloud) CheckReadyNames(ctx context.Context, in ReadyNamesInput) ([]Check, error) {
	return run(ctx, func(ctx context.Context) ([]Check, error) {
		l := c.look(in.Site)
		names, err := capability[cloud.Names](ctx, c, in.Site, "DNS")
		var zones []string
		for _, r := range in.Records {
			var sets []Record
			l.ask(ctx, Check{Check: CheckKindRecord, Server: r.Server, Subject: r.Name}, func(ctx context.Context) (f Finding, aerr error) {
				if err != nil {
					return f, err
				}
				if sets, aerr = names.Records(ctx, r.Zone, r.Name); aerr != nil {
					return f, aerr
				}
				return judgeRecord(in.Plan, r, sets), nil
			})
			if len(sets) > 0 {
				l.add(Check{Check: CheckKindTTL, Server: r.Server, Subject: r.Name}, judgeTTL(r, sets), nil)
			}
			if slices.Contains(zones, r.Zone) {
				continue
			}
			zones = append(zones, r.Zone)
			l.ask(ctx, Check{Check: CheckKindNameServer, Subject: "of zone " + r.Zone}, func(ctx context.Context) (Finding, error) {
				if err != nil {
					return Finding{}, err
				}
				resolver, err := names.Resolver(ctx, r.Zone)
				if err != nil {
					return Finding{}, err
				}
				return judgeNameServer(ctx, resolver, r.Name), nil
			})
		}
		return l.result(ctx)
	})
}

// judgeRecord says whether users find the side that serves.
func judgeRecord(planName string, r ReadyRecord, sets []Record) Finding {
	var values []string
	for _, s := range sets {
		if s.Type == "A" && s.Name == r.Name {
			values = append(values, s.Values...)
		}
	}
	leads := "leads to " + strings.Join(values, ", ")
	switch {
	case len(values) == 0:
		return Finding{CheckFail, "there is no record of addresses", "let it be made: lifeboat server initialize " + planName + "/" + r.Server}
	case len(r.Active) == 0:
		return Finding{CheckUnknown, leads + "; which address serves is not known", "see lifeboat server show " + planName + "/" + r.Server}
	case !slices.ContainsFunc(values, func(v string) bool { return slices.Contains(r.Active, v) }):
		return Finding{CheckFail, leads + ", but " + strings.Join(r.Active, " or ") + " serves", "correct the record, or set launch.publicIP to the address that users are to reach"}
	}
	return Finding{Status: CheckOK, Cause: leads + ", which serves"}
}

func judgeTTL(r ReadyRecord, sets []Record) Finding {
	longest := r.TTL
	for _, s := range sets {
		longest = max(longest, s.TTL)
	}
	f := Finding{Status: CheckOK, Cause: fmt.Sprintf("users notice a switch within %s", longest)}
	if longest > longTTL {
		f.Status, f.Mend = CheckWarn, fmt.Sprintf("set it to %s or less now, in DNS and in the plan (dns.ttl): users keep the old answer for as long", longTTL)
	}
	return f
}

// judgeNameServer asks a name server a question; that it knows no such name is an answer.
func judgeNameServer(ctx context.Context, resolver, name string) Finding {
	ctx, cancel := context.WithTimeout(ctx, probeTimeout)
	defer cancel()
	question := new(dns.Msg)
	question.SetQuestion(dns.Fqdn(name), dns.TypeA)
	client := &dns.Client{Net: "udp", Timeout: probeTimeout / 3}
	var answer *dns.Msg
	var err error
	for range 3 { // datagrams get lost
		if answer, _, err = client.ExchangeContext(ctx, question, resolver); err == nil {
			break
		}
	}
	const mend = "let this worker reach port 53 of it, and see whether it serves the zone: recoveries ask it whether users are served"
	switch {
	case err != nil:
		return Finding{CheckFail, resolver + " does not answer here: " + err.Error(), mend}
	case answer.Rcode != dns.RcodeSuccess && answer.Rcode != dns.RcodeNameError:
		return Finding{CheckFail, resolver + " says " + dns.RcodeToString[answer.Rcode] + " for " + name, mend}
	}
	return Finding{Status: CheckOK, Cause: resolver + " answers"}
}
