package local

import (
	"context"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"time"

	"github.com/miekg/dns"

	"lifeboat/activities/cloud"
)

const (
	recordBucket = "records"
	changeBucket = "changes"
	changesKept  = 1000    // changes of DNS whose state can still be asked for
	maxWeight    = 255     // as in the large clouds
	maxTTL       = 1 << 31 // seconds, RFC 2181 section 8
)

// changeRecord is a change of DNS as it is stored.
type changeRecord struct {
	ID    string    `json:"id"`
	Token string    `json:"token"`
	Seq   uint64    `json:"seq"` // in effect when the daemon has followed this one
	Time  time.Time `json:"time"`
}

// zones holds the record sets of every zone, by lower-case name without final dot.
type zones map[string][]cloud.Record

// StartSetRecords replaces record sets, all or none. A zone begins to exist
// with its first record.
func (p *Provider) StartSetRecords(ctx context.Context, zone, token string, records []cloud.Record) (cloud.Change, error) {
	return p.changeRecords(ctx, "StartSetRecords", zone, token, records, func(t *tx, zone string, records []cloud.Record) error {
		for _, r := range records {
			if err := t.put(recordBucket, recordKey(zone, r), r); err != nil {
				return err
			}
		}
		all, err := t.allZones()
		if err != nil {
			return err
		}
		for _, r := range records {
			if err := checkNeighbours(r, all[zone]); err != nil {
				return err
			}
		}
		return nil
	})
}

// StartDeleteRecords removes record sets; values and TTL need not be given.
// Those that are gone already are ignored, unless all are: then it is NotFound.
func (p *Provider) StartDeleteRecords(ctx context.Context, zone, token string, records []cloud.Record) (cloud.Change, error) {
	const op = "StartDeleteRecords"
	return p.changeRecords(ctx, op, zone, token, records, func(t *tx, zone string, records []cloud.Record) error {
		missing := 0
		for _, r := range records {
			key := recordKey(zone, r)
			raw, err := t.raw(recordBucket, key)
			if err != nil {
				return err
			}
			if raw == nil {
				missing++
			}
			if err := t.del(recordBucket, key); err != nil {
				return err
			}
		}
		if missing == len(records) {
			return notFound(op, cloud.KindRecord, records[0].Name+" "+records[0].Type)
		}
		return nil
	})
}

// changeRecords applies one change of DNS, once for each token.
func (p *Provider) changeRecords(ctx context.Context, op, zone, token string, records []cloud.Record, apply func(*tx, string, []cloud.Record) error) (cloud.Change, error) {
	zone, records, err := normalRecords(op, zone, records)
	if err != nil {
		return cloud.Change{}, err
	}
	request := struct {
		Op, Zone string
		Records  []cloud.Record
	}{op, zone, records}
	var id string
	err = p.store.update(ctx, func(t *tx) error {
		var old bool
		if id, old, err = t.claim(op, cloud.KindRecord, token, request); err != nil || old {
			return err
		}
		if _, err := p.daemonConfig(t); err != nil {
			return err
		}
		if err := apply(t, zone, records); err != nil {
			return err
		}
		if err := t.bumpDaemon(); err != nil {
			return err
		}
		config, err := p.daemonConfig(t)
		if err != nil {
			return err
		}
		if err := t.pruneChanges(); err != nil {
			return err
		}
		return t.put(changeBucket, id, changeRecord{ID: id, Token: token, Seq: config.Seq, Time: time.Now().UTC()})
	})
	if err != nil {
		return cloud.Change{}, err
	}
	if err := p.pokeDaemon(ctx); err != nil {
		return cloud.Change{}, err
	}
	return p.Change(ctx, id)
}

// pruneChanges forgets the oldest change when there are many.
func (t *tx) pruneChanges() error {
	count, oldest := 0, changeRecord{}
	err := t.each(changeBucket, func(id string, raw []byte) error {
		var c changeRecord
		err := t.decode(changeBucket, id, raw, &c)
		count++
		if oldest.ID == "" || c.Time.Before(oldest.Time) {
			oldest = c
		}
		return err
	})
	if err != nil || count < changesKept {
		return err
	}
	if err := t.retire(cloud.KindRecord, oldest.Token); err != nil {
		return err
	}
	return t.del(changeBucket, oldest.ID)
}

// Change tells whether the name server answers with a change.
func (p *Provider) Change(ctx context.Context, id string) (cloud.Change, error) {
	var c changeRecord
	err := p.store.view(ctx, func(t *tx) error {
		found, err := t.get(changeBucket, id, &c)
		if err == nil && !found {
			err = notFound("Change", "change", id)
		}
		return err
	})
	if err != nil {
		return cloud.Change{}, err
	}
	status, ok, err := p.followed(c.Seq)
	if err != nil {
		return cloud.Change{}, err
	}
	if ok && status.Resolver != "" {
		return cloud.Change{ID: id, State: cloud.Available}, nil
	}
	return cloud.Change{ID: id, State: cloud.Creating}, p.reviveDaemon(ctx)
}

// Records lists the record sets of a name, or of the zone when name is empty.
func (p *Provider) Records(ctx context.Context, zone, name string) ([]cloud.Record, error) {
	zone, name = plainName(zone), plainName(name)
	found := []cloud.Record{}
	err := p.store.view(ctx, func(t *tx) error {
		all, err := t.allZones()
		if err != nil {
			return err
		}
		if all[zone] == nil && name == "" {
			return notFound("Records", "zone", zone)
		}
		for _, r := range all[zone] {
			if name == "" || r.Name == name {
				found = append(found, r)
			}
		}
		return nil
	})
	return found, err
}

// Resolver returns host:port of the site's name server, which it starts when needed.
func (p *Provider) Resolver(ctx context.Context, zone string) (string, error) {
	const op = "Resolver"
	if _, ok := dns.IsDomainName(zone); !ok || plainName(zone) == "" {
		return "", invalid(op, "zone "+zone, "is not a domain name", "write it like example.org")
	}
	config, err := p.readConfig(ctx)
	if err != nil {
		return "", err
	}
	if config.Seq == 0 {
		err := p.store.update(ctx, func(t *tx) error {
			if _, err := p.daemonConfig(t); err != nil {
				return err
			}
			return t.bumpDaemon()
		})
		if err != nil {
			return "", err
		}
	}
	status, err := p.awaitDaemon(ctx, op)
	if err != nil {
		return "", err
	}
	if status.Resolver == "" {
		return "", cloud.E(cloud.Unavailable, op, "zone "+zone, "the name server cannot listen: "+status.Problems["resolver"], "end the program that uses its port", nil)
	}
	return status.Resolver, nil
}

// allZones reads the record sets of all zones.
func (t *tx) allZones() (zones, error) {
	all := zones{}
	err := t.each(recordBucket, func(key string, raw []byte) error {
		zone, _, _ := strings.Cut(key, "/")
		var r cloud.Record
		err := t.decode(recordBucket, key, raw, &r)
		all[zone] = append(all[zone], r)
		return err
	})
	return all, err
}

func recordKey(zone string, r cloud.Record) string {
	return strings.Join([]string{zone, r.Name, r.Type, r.SetID}, "/")
}

// plainName is a name as it is stored and compared.
func plainName(name string) string { return strings.ToLower(strings.TrimSuffix(name, ".")) }

// normalRecords checks records each for itself and gives them one spelling.
func normalRecords(op, zone string, records []cloud.Record) (string, []cloud.Record, error) {
	zone = plainName(zone)
	if !validName(zone) {
		return "", nil, invalid(op, "zone "+zone, "is not a domain name", "write it like example.org")
	}
	if len(records) == 0 {
		return "", nil, invalid(op, "zone "+zone, "no records are given", "name at least one")
	}
	normal := make([]cloud.Record, len(records))
	seen := map[string]bool{}
	for i, r := range records {
		r.Name, r.Type = plainName(r.Name), strings.ToUpper(r.Type)
		resource := "record " + r.Name + " " + r.Type
		if !validName(r.Name) || (r.Name != zone && !strings.HasSuffix(r.Name, "."+zone)) {
			return "", nil, invalid(op, resource, "is not a name in zone "+zone, "write it like www."+zone)
		}
		if key := recordKey(zone, r); seen[key] {
			return "", nil, invalid(op, resource, "is there twice", "give each record set once, with all its values")
		} else {
			seen[key] = true
		}
		var err error
		if op == "StartSetRecords" {
			if r.Values, err = normalValues(r); err == nil {
				err = checkPolicy(r)
			}
		} else if !slices.Contains([]string{"A", "CNAME", "TXT"}, r.Type) {
			err = fmt.Errorf("the type is not A, CNAME or TXT")
		}
		if err != nil {
			return "", nil, invalid(op, resource, err.Error(), "correct the record; nothing was changed")
		}
		normal[i] = r
	}
	return zone, normal, nil
}

// validName refuses what cannot be a name of ours; a slash would be in our keys.
func validName(name string) bool {
	_, ok := dns.IsDomainName(name)
	return ok && name != "" && !strings.ContainsAny(name, "/\\ \t\n\"")
}

// normalValues checks the values of a record set for its type.
func normalValues(r cloud.Record) ([]string, error) {
	if len(r.Values) == 0 {
		return nil, fmt.Errorf("has no values")
	}
	values := make([]string, len(r.Values))
	for i, v := range r.Values {
		switch r.Type {
		case "A":
			ip, err := netip.ParseAddr(v)
			if err != nil || !ip.Is4() {
				return nil, fmt.Errorf("%q is not an IPv4 address", v)
			}
			values[i] = ip.String()
		case "CNAME":
			values[i] = plainName(v)
			if !validName(values[i]) || len(r.Values) > 1 || values[i] == r.Name {
				return nil, fmt.Errorf("a CNAME has one value, the name of something else, not %q", r.Values)
			}
		case "TXT":
			if len(v) > 4000 {
				return nil, fmt.Errorf("a value has more than 4000 bytes")
			}
			values[i] = v
		default:
			return nil, fmt.Errorf("the type is not A, CNAME or TXT")
		}
	}
	return values, nil
}

// checkPolicy checks TTL and weight.
func checkPolicy(r cloud.Record) error {
	switch {
	case r.TTL < 0 || r.TTL%time.Second != 0 || r.TTL/time.Second >= maxTTL:
		return fmt.Errorf("the TTL %s is not a whole number of seconds below 2^31", r.TTL)
	case (r.Weight == nil) != (r.SetID == ""):
		return fmt.Errorf("a weighted record needs both a weight and a set identifier, a simple one neither")
	case r.Weight != nil && (*r.Weight < 0 || *r.Weight > maxWeight):
		return fmt.Errorf("the weight %d is not from 0 to %d", *r.Weight, maxWeight)
	case len(r.SetID) > 128:
		return fmt.Errorf("the set identifier has more than 128 bytes")
	}
	return nil
}

// checkNeighbours refuses what cannot stand beside the other records of a name.
func checkNeighbours(r cloud.Record, zone []cloud.Record) error {
	const op = "StartSetRecords"
	resource := "record " + r.Name + " " + r.Type
	for _, other := range zone {
		switch {
		case other.Name != r.Name:
		case other.Type == r.Type && (other.SetID == "") != (r.SetID == ""):
			return invalid(op, resource, "would be weighted and simple at once", "delete the record set of the other kind first")
		case other.Type != r.Type && (other.Type == "CNAME" || r.Type == "CNAME"):
			return invalid(op, resource, "would stand beside a record of type "+other.Type+", which a CNAME forbids", "delete the other record first")
		}
	}
	return nil
}
