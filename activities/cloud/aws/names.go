package aws

import (
	"cmp"
	"context"
	"fmt"
	"net"
	"os"
	"regexp"
	"slices"
	"strings"
	"sync"
	"time"

	awssdk "github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/route53"
	"github.com/aws/aws-sdk-go-v2/service/route53/types"

	"lifeboat/activities/cloud"
)

// DNS by Route 53. Its control plane, which every change of a record needs, is in us-east-1 for the whole
// world (https://docs.aws.amazon.com/whitepapers/latest/aws-fault-isolation-boundaries/global-services.html);
// its name servers and health checks are everywhere. Only this file and switches.go talk to it; what can be
// switched without it is in switches.go.

// EnvResolver names the environment variable that gives the name server which answers for zones of Route 53,
// as host:port, where [Options.Resolver] does not: that of a test double or an emulator.
const EnvResolver = "LIFEBOAT_ROUTE53_RESOLVER"

// Attempts at a deletion whose records others change at the same time.
const deleteTries = 5

// zoneID is the form of the identifiers of hosted zones.
var zoneID = regexp.MustCompile(`^(?:/hostedzone/)?(Z[A-Z0-9]{3,31})$`)

// hostedZone is what has to be known of a zone.
type hostedZone struct {
	id, name string   // the name without final dot
	servers  []string // empty until Resolver asked for them
}

// zoneCache remembers zones by what they were asked for: name or identifier.
type zoneCache struct {
	mu    sync.Mutex
	zones map[string]hostedZone
}

func (c *zoneCache) get(zone string) (hostedZone, bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	z, ok := c.zones[zone]
	return z, ok
}

func (c *zoneCache) put(zone string, z hostedZone) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.zones == nil {
		c.zones = map[string]hostedZone{}
	}
	c.zones[zone] = z
}

// hostedZone finds a hosted zone by its name or its identifier. Of a public and a private zone of one name it is
// the public one; two of one kind have to be told apart by the identifier.
func (p *Provider) hostedZone(ctx context.Context, op, zone string) (hostedZone, error) {
	if z, ok := p.remembered.zones.get(zone); ok {
		return z, nil
	}
	client, err := p.route53(op)
	if err != nil {
		return hostedZone{}, err
	}
	find := p.zoneByName
	if zoneID.MatchString(zone) {
		find = p.zoneByID
	}
	z, err := find(ctx, client, op, zone)
	if err == nil {
		p.remembered.zones.put(zone, z)
	}
	return z, err
}

func (p *Provider) zoneByID(ctx context.Context, client *route53.Client, op, zone string) (hostedZone, error) {
	id := zoneID.FindStringSubmatch(zone)[1]
	out, err := client.GetHostedZone(ctx, &route53.GetHostedZoneInput{Id: &id})
	if err != nil {
		return hostedZone{}, awsError(op, "zone "+zone, err)
	}
	z := hostedZone{id: id, name: plainName(awssdk.ToString(out.HostedZone.Name))}
	if out.DelegationSet != nil {
		z.servers = out.DelegationSet.NameServers
	}
	return z, nil
}

func (p *Provider) zoneByName(ctx context.Context, client *route53.Client, op, zone string) (hostedZone, error) {
	var public, private []types.HostedZone
	in := &route53.ListHostedZonesByNameInput{DNSName: awssdk.String(plainName(zone))}
	for {
		out, err := client.ListHostedZonesByName(ctx, in)
		if err != nil {
			return hostedZone{}, awsError(op, "zone "+zone, err)
		}
		for _, z := range out.HostedZones {
			switch {
			case plainName(awssdk.ToString(z.Name)) != plainName(zone):
			case z.Config != nil && z.Config.PrivateZone:
				private = append(private, z)
			default:
				public = append(public, z)
			}
		}
		if !out.IsTruncated || plainName(awssdk.ToString(out.NextDNSName)) != plainName(zone) {
			break // zones of one name stand together
		}
		in.DNSName, in.HostedZoneId = out.NextDNSName, out.NextHostedZoneId
	}
	found := public
	if len(found) == 0 {
		found = private
	}
	switch len(found) {
	case 0:
		return hostedZone{}, cloud.E(cloud.NotFound, op, "zone "+zone, "there is no such hosted zone in the account", "make it in Route 53, or correct the name in the plan", nil)
	case 1:
		id := zoneID.FindStringSubmatch(awssdk.ToString(found[0].Id))
		if id == nil {
			return hostedZone{}, cloud.E(cloud.Unavailable, op, "zone "+zone, "Route 53 gave it no identifier that has the form of one", "", nil)
		}
		return hostedZone{id: id[1], name: plainName(zone)}, nil
	}
	return hostedZone{}, invalid(op, "zone "+zone, fmt.Sprintf("%d hosted zones have this name", len(found)),
		"give the identifier of the one that is meant in place of the name, like Z0123456789ABCDEFGHIJ")
}

// StartSetRecords replaces record sets: one batch, which Route 53 makes as a whole or not at all.
func (p *Provider) StartSetRecords(ctx context.Context, zone, token string, records []cloud.Record) (cloud.Change, error) {
	const op = "StartSetRecords"
	if err := cloud.CheckToken(op, cloud.KindRecord, token); err != nil {
		return cloud.Change{}, err
	}
	z, err := p.hostedZone(ctx, op, zone)
	if err != nil {
		return cloud.Change{}, err
	}
	if len(records) == 0 {
		return cloud.Change{}, invalid(op, "zone "+zone, "no records are given", "name at least one")
	}
	var changes []types.Change
	for _, r := range records {
		set, err := recordSet(op, z, r)
		if err != nil {
			return cloud.Change{}, err
		}
		changes = append(changes, types.Change{Action: types.ChangeActionUpsert, ResourceRecordSet: set})
	}
	return p.changeRecords(ctx, op, z, token, changes)
}

// changeRecords sends one batch.
func (p *Provider) changeRecords(ctx context.Context, op string, z hostedZone, token string, changes []types.Change) (cloud.Change, error) {
	client, err := p.route53(op)
	if err != nil {
		return cloud.Change{}, err
	}
	out, err := client.ChangeResourceRecordSets(ctx, &route53.ChangeResourceRecordSetsInput{HostedZoneId: &z.id,
		ChangeBatch: &types.ChangeBatch{Comment: awssdk.String("lifeboat " + token), Changes: changes}})
	if err != nil {
		return cloud.Change{}, awsError(op, "zone "+z.name, err)
	}
	return changeOf(out.ChangeInfo), nil
}

func changeOf(info *types.ChangeInfo) cloud.Change {
	c := cloud.Change{ID: strings.TrimPrefix(awssdk.ToString(info.Id), "/change/"), State: cloud.Creating}
	if info.Status == types.ChangeStatusInsync {
		c.State = cloud.Available
	}
	return c
}

// doneChange is the identifier of a deletion that an earlier call made, whose answer was lost.
const doneChange = "done"

// StartDeleteRecords removes record sets. Route 53 wants them exactly as they are, so they are read first.
func (p *Provider) StartDeleteRecords(ctx context.Context, zone, token string, records []cloud.Record) (cloud.Change, error) {
	const op = "StartDeleteRecords"
	hash, err := hashOf(struct {
		Zone    string
		Records []cloud.Record
	}{zone, records})
	if err != nil {
		return cloud.Change{}, err
	}
	for range deleteTries {
		mine, begun, err := p.findClaim(ctx, op, cloud.KindRecord, token, hash)
		if err != nil {
			return cloud.Change{}, err
		}
		if mine.ID != "" {
			return p.Change(ctx, mine.ID)
		}
		if !begun {
			mine = claim{Token: token, Hash: hash, At: time.Now().UTC()}
		}
		change, err := p.deleteOnce(ctx, op, zone, records, &mine, begun)
		if cloud.CodeOf(err) != cloud.Conflict {
			return change, err
		}
	}
	return cloud.Change{}, cloud.E(cloud.Conflict, op, "zone "+zone, "others change the records all the time", "retry", nil)
}

// deleteOnce reads the records and deletes them as they are. An attempt under the same token may have done
// it before: then they are gone, and that is well.
func (p *Provider) deleteOnce(ctx context.Context, op, zone string, records []cloud.Record, mine *claim, begun bool) (cloud.Change, error) {
	z, err := p.hostedZone(ctx, op, zone)
	if err != nil {
		return cloud.Change{}, err
	}
	changes, missing, err := p.deletions(ctx, op, z, records)
	if err != nil {
		return cloud.Change{}, err
	}
	if missing != "" && (!begun || len(changes) > 0) {
		return cloud.Change{}, cloud.E(cloud.NotFound, op, "record "+missing, "is not in zone "+z.name, "nothing was deleted", nil)
	}
	if !begun {
		if err := p.putClaim(ctx, op, cloud.KindRecord, mine); err != nil {
			return cloud.Change{}, err
		}
	}
	change := cloud.Change{ID: doneChange, State: cloud.Available}
	if missing == "" {
		if change, err = p.changeRecords(ctx, op, z, mine.Token, changes); err != nil {
			if apiCode(err) == "InvalidChangeBatch" { // somebody changed them since they were read
				return change, cloud.E(cloud.Conflict, op, "zone "+z.name, "the records were changed meanwhile", "", err)
			}
			return change, err
		}
	}
	mine.ID = change.ID
	return change, p.putClaim(ctx, op, cloud.KindRecord, mine)
}

// deletions finds record sets by name, type and set identifier; missing is the first that is not there.
func (p *Provider) deletions(ctx context.Context, op string, z hostedZone, records []cloud.Record) (changes []types.Change, missing string, err error) {
	if len(records) == 0 {
		return nil, "", invalid(op, "zone "+z.name, "no records are given", "name at least one")
	}
	for _, r := range records {
		sets, err := p.recordSets(ctx, op, z, plainName(r.Name))
		if err != nil {
			return nil, "", err
		}
		at := slices.IndexFunc(sets, func(s types.ResourceRecordSet) bool {
			return string(s.Type) == strings.ToUpper(r.Type) && awssdk.ToString(s.SetIdentifier) == r.SetID
		})
		if at < 0 {
			missing = cmp.Or(missing, r.Name+" "+r.Type)
			continue
		}
		changes = append(changes, types.Change{Action: types.ChangeActionDelete, ResourceRecordSet: &sets[at]})
	}
	return changes, missing, nil
}

// recordSets lists the sets of a name as Route 53 has them, or of the zone when name is empty.
func (p *Provider) recordSets(ctx context.Context, op string, z hostedZone, name string) ([]types.ResourceRecordSet, error) {
	client, err := p.route53(op)
	if err != nil {
		return nil, err
	}
	in := &route53.ListResourceRecordSetsInput{HostedZoneId: &z.id}
	if name != "" {
		in.StartRecordName = &name
	}
	var all []types.ResourceRecordSet
	pages := route53.NewListResourceRecordSetsPaginator(client, in)
	for pages.HasMorePages() {
		page, err := pages.NextPage(ctx)
		if err != nil {
			return nil, awsError(op, "zone "+z.name, err)
		}
		for _, s := range page.ResourceRecordSets {
			if name != "" && plainName(awssdk.ToString(s.Name)) != name {
				return all, nil // the listing begins at the name, and goes on behind it
			}
			all = append(all, s)
		}
	}
	return all, nil
}

// Change tells whether every name server has a change.
func (p *Provider) Change(ctx context.Context, id string) (cloud.Change, error) {
	const op = "Change"
	if id == doneChange {
		return cloud.Change{ID: id, State: cloud.Available}, nil
	}
	client, err := p.route53(op)
	if err != nil {
		return cloud.Change{}, err
	}
	out, err := client.GetChange(ctx, &route53.GetChangeInput{Id: &id})
	if err != nil {
		return cloud.Change{}, awsError(op, "change "+id, err)
	}
	return changeOf(out.ChangeInfo), nil
}

// Records lists the record sets of types that the contract knows. Aliases have no values.
func (p *Provider) Records(ctx context.Context, zone, name string) ([]cloud.Record, error) {
	const op = "Records"
	z, err := p.hostedZone(ctx, op, zone)
	if err != nil {
		return nil, err
	}
	sets, err := p.recordSets(ctx, op, z, plainName(name))
	if err != nil {
		return nil, err
	}
	records := []cloud.Record{}
	for _, s := range sets {
		if slices.Contains(recordTypes, string(s.Type)) {
			records = append(records, recordOf(s))
		}
	}
	return records, nil
}

// Resolver returns a name server of the zone: the one that is set ([Options.Resolver], [EnvResolver]), or the
// first of the zone's delegation set. Those are asked for once; where the control plane does not answer, DNS
// itself knows them.
func (p *Provider) Resolver(ctx context.Context, zone string) (string, error) {
	const op = "Resolver"
	if set := cmp.Or(p.options.Resolver, os.Getenv(EnvResolver)); set != "" {
		return set, nil
	}
	z, err := p.hostedZone(ctx, op, zone)
	if err == nil && len(z.servers) == 0 {
		client, cerr := p.route53(op)
		if cerr == nil {
			z, cerr = p.zoneByID(ctx, client, op, z.id)
		}
		err = cerr
	}
	if code := cloud.CodeOf(err); code == cloud.Unavailable || code == cloud.Throttled {
		if list, dnsErr := net.DefaultResolver.LookupNS(ctx, plainName(zone)); dnsErr == nil {
			for _, ns := range list {
				z.servers = append(z.servers, ns.Host)
			}
			err = nil
		}
	}
	switch {
	case err != nil:
		return "", err
	case len(z.servers) == 0:
		return "", cloud.E(cloud.Unsupported, op, "zone "+zone, "is private: only resolvers of its VPCs answer for it",
			"set "+EnvResolver+" to one, like 10.0.0.2:53", nil)
	}
	p.remembered.zones.put(zone, z)
	return net.JoinHostPort(plainName(z.servers[0]), "53"), nil
}
