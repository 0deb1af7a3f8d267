package awstest

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/route53"
	"github.com/aws/aws-sdk-go-v2/service/route53/types"
)

// route53Service is Amazon Route 53: https://docs.aws.amazon.com/Route53/latest/APIReference/
// It is one service for all regions, and lives in us-east-1.
var route53Service = serve("route53", newRestWire(loadModel("route53"), false))

// route53State is what an account has.
type route53State struct {
	zones      map[string]*hostedZone // by identifier
	changes    map[string]*zoneChange
	checks     map[string]*healthCheck
	references map[string]string            // of callers, of health checks: the check's identifier
	tags       map[string]map[string]string // by type and identifier
}

// zoneChange is a change on its way to the name servers.
type zoneChange struct {
	id, comment      string
	submitted, ready time.Time
}

// hostedZone is a zone and its content over time: name servers answer by the last version that reached
// them, the API by the last of all.
type hostedZone struct {
	id, name, reference string
	comment             string
	private             bool
	order               int
	versions            []*zoneVersion
}

// zoneVersion is a zone's content since a moment. Neither it nor its record sets are ever changed.
type zoneVersion struct {
	since   time.Time
	sets    map[setKey]types.ResourceRecordSet
	credits map[string]map[string]int64 // see pickWeighted
}

// setKey tells record sets of a zone apart.
type setKey struct{ name, kind, id string }

func keyOf(s *types.ResourceRecordSet) setKey {
	return setKey{aws.ToString(s.Name), string(s.Type), aws.ToString(s.SetIdentifier)}
}

func route53Of(r *Region) *route53State {
	s := part[route53State](r)
	if s.zones == nil {
		s.zones, s.changes, s.checks = map[string]*hostedZone{}, map[string]*zoneChange{}, map[string]*healthCheck{}
		s.references, s.tags = map[string]string{}, map[string]map[string]string{}
	}
	return s
}

// route53 is the account's state, whatever region the request was signed for.
func (c *Call) route53() *route53State { return route53Of(c.at("us-east-1")) }

// newestSets is the content as the API shows it.
func (z *hostedZone) newestSets() map[setKey]types.ResourceRecordSet {
	return z.versions[len(z.versions)-1].sets
}

// live is the content as name servers know it; nil before the first version reached them.
func (z *hostedZone) live(now time.Time) *zoneVersion {
	var at *zoneVersion
	for _, v := range z.versions {
		if !now.Before(v.since) {
			at = v
		}
	}
	return at
}

// put makes a new version, and forgets those that no name server answers by.
func (z *hostedZone) put(now, since time.Time, sets map[setKey]types.ResourceRecordSet) {
	live := z.live(now)
	z.versions = slices.DeleteFunc(z.versions, func(v *zoneVersion) bool { return live != nil && v.since.Before(live.since) })
	z.versions = append(z.versions, &zoneVersion{since: since, sets: sets, credits: map[string]map[string]int64{}})
}

// newChange records a change that is on its way.
func (c *Call) newChange(comment *string) *zoneChange {
	c.ids++
	ch := &zoneChange{id: fmt.Sprintf("C%020X", 0x2f000000000+c.ids), comment: aws.ToString(comment), submitted: c.Now, ready: c.Now.Add(c.Delay("change"))}
	c.route53().changes[ch.id] = ch
	return ch
}

// info is a change as the API shows it (API_GetChange.html).
func (ch *zoneChange) info(now time.Time) *types.ChangeInfo {
	i := &types.ChangeInfo{Id: aws.String("/change/" + ch.id), Status: types.ChangeStatusPending, SubmittedAt: aws.Time(ch.submitted)}
	if !now.Before(ch.ready) {
		i.Status = types.ChangeStatusInsync
	}
	if ch.comment != "" {
		i.Comment = aws.String(ch.comment)
	}
	return i
}

// hostedZone finds a zone.
func (c *Call) hostedZone(id *string) (*hostedZone, error) {
	z := c.route53().zones[strings.TrimPrefix(aws.ToString(id), "/hostedzone/")]
	if z == nil {
		return nil, &Error{Code: "NoSuchHostedZone", Message: "No hosted zone found with ID: " + aws.ToString(id), Status: 404}
	}
	return z, nil
}

// describe is a zone as the API shows it.
func (z *hostedZone) describe() *types.HostedZone {
	return &types.HostedZone{
		Id: aws.String("/hostedzone/" + z.id), Name: aws.String(z.name), CallerReference: aws.String(z.reference),
		Config:                 &types.HostedZoneConfig{Comment: aws.String(z.comment), PrivateZone: z.private},
		ResourceRecordSetCount: aws.Int64(int64(len(z.newestSets()))),
	}
}

// zoneServers are the name servers of every zone.
var zoneServers = []string{"ns-1.awsdns-00.com", "ns-2.awsdns-00.net", "ns-3.awsdns-00.org", "ns-4.awsdns-00.co.uk"}

// zoneTop are the record sets that a zone is born with
// (https://docs.aws.amazon.com/Route53/latest/DeveloperGuide/SOA-NSrecords.html).
func zoneTop(name string) map[setKey]types.ResourceRecordSet {
	ns := types.ResourceRecordSet{Name: aws.String(name), Type: types.RRTypeNs, TTL: aws.Int64(172800)}
	for _, s := range zoneServers {
		ns.ResourceRecords = append(ns.ResourceRecords, types.ResourceRecord{Value: aws.String(s + ".")})
	}
	soa := types.ResourceRecordSet{Name: aws.String(name), Type: types.RRTypeSoa, TTL: aws.Int64(900), ResourceRecords: []types.ResourceRecord{
		{Value: aws.String(zoneServers[0] + ". awsdns-hostmaster.amazon.com. 1 7200 900 1209600 86400")}}}
	return map[setKey]types.ResourceRecordSet{keyOf(&ns): ns, keyOf(&soa): soa}
}

// createHostedZone makes a zone; a caller reference that was used is a conflict (API_CreateHostedZone.html).
func createHostedZone(c *Call, in *route53.CreateHostedZoneInput) (*route53.CreateHostedZoneOutput, error) {
	s := c.route53()
	for _, z := range s.zones {
		if z.reference == aws.ToString(in.CallerReference) {
			return nil, &Error{Code: "HostedZoneAlreadyExists", Status: 409,
				Message: "A hosted zone has already been created with the specified caller reference."}
		}
	}
	name := zoneName(aws.ToString(in.Name))
	if !strings.Contains(strings.TrimSuffix(name, "."), ".") {
		return nil, fault("InvalidDomainName", "%s is not a valid domain name", aws.ToString(in.Name))
	}
	c.ids++
	z := &hostedZone{id: fmt.Sprintf("Z%020X", 0x1f000000000+c.ids), name: name, reference: aws.ToString(in.CallerReference), order: c.ids}
	if in.HostedZoneConfig != nil {
		z.comment = aws.ToString(in.HostedZoneConfig.Comment)
	}
	z.private = in.VPC != nil
	ch := c.newChange(nil)
	z.put(c.Now, ch.ready, zoneTop(name))
	s.zones[z.id] = z
	return &route53.CreateHostedZoneOutput{HostedZone: z.describe(), ChangeInfo: ch.info(c.Now), Location: aws.String("/2013-04-01/hostedzone/" + z.id),
		DelegationSet: &types.DelegationSet{NameServers: zoneServers}}, nil
}

// listHostedZones pages by Marker, the identifier of the next zone (API_ListHostedZones.html).
func listHostedZones(c *Call, in *route53.ListHostedZonesInput) (*route53.ListHostedZonesOutput, error) {
	out := &route53.ListHostedZonesOutput{Marker: in.Marker, HostedZones: []types.HostedZone{}}
	size := c.items(in.MaxItems, 100)
	out.MaxItems = aws.Int32(int32(size))
	for _, z := range byID(c.route53().zones) {
		if in.Marker != nil && z.id < *in.Marker {
			continue
		}
		if len(out.HostedZones) == size {
			out.IsTruncated, out.NextMarker = true, aws.String(z.id)
			break
		}
		out.HostedZones = append(out.HostedZones, *z.describe())
	}
	return out, nil
}

// items is how many elements a page has.
func (c *Call) items(max *int32, limit int) int {
	n := int(aws.ToInt32(max))
	if n <= 0 || n > limit {
		n = limit
	}
	if c.PageSize > 0 {
		n = min(n, c.PageSize)
	}
	return n
}

// listHostedZonesByName begins at a name, or after it: it is no filter (API_ListHostedZonesByName.html).
func listHostedZonesByName(c *Call, in *route53.ListHostedZonesByNameInput) (*route53.ListHostedZonesByNameOutput, error) {
	all := byID(c.route53().zones)
	slices.SortStableFunc(all, func(a, b *hostedZone) int { return strings.Compare(reversed(a.name), reversed(b.name)) })
	out := &route53.ListHostedZonesByNameOutput{DNSName: in.DNSName, HostedZoneId: in.HostedZoneId, HostedZones: []types.HostedZone{}}
	size := c.items(in.MaxItems, 100)
	out.MaxItems = aws.Int32(int32(size))
	from := reversed(zoneName(aws.ToString(in.DNSName)))
	for _, z := range all {
		at := reversed(z.name)
		if in.DNSName != nil && (at < from || (at == from && z.id < aws.ToString(in.HostedZoneId))) {
			continue
		}
		if len(out.HostedZones) == size {
			out.IsTruncated, out.NextDNSName, out.NextHostedZoneId = true, aws.String(z.name), aws.String(z.id)
			break
		}
		out.HostedZones = append(out.HostedZones, *z.describe())
	}
	return out, nil
}

func init() {
	on(route53Service, "CreateHostedZone", createHostedZone)
	on(route53Service, "ListHostedZones", listHostedZones)
	on(route53Service, "ListHostedZonesByName", listHostedZonesByName)
	on(route53Service, "GetHostedZone", func(c *Call, in *route53.GetHostedZoneInput) (*route53.GetHostedZoneOutput, error) {
		z, err := c.hostedZone(in.Id)
		if err != nil {
			return nil, err
		}
		return &route53.GetHostedZoneOutput{HostedZone: z.describe(), DelegationSet: &types.DelegationSet{NameServers: zoneServers}}, nil
	})
	on(route53Service, "GetChange", func(c *Call, in *route53.GetChangeInput) (*route53.GetChangeOutput, error) {
		ch := c.route53().changes[strings.TrimPrefix(aws.ToString(in.Id), "/change/")]
		if ch == nil {
			return nil, &Error{Code: "NoSuchChange", Message: "Could not find resource with ID: " + aws.ToString(in.Id), Status: 404}
		}
		return &route53.GetChangeOutput{ChangeInfo: ch.info(c.Now)}, nil
	})
	on(route53Service, "ChangeTagsForResource", func(c *Call, in *route53.ChangeTagsForResourceInput) (*route53.ChangeTagsForResourceOutput, error) {
		tags, err := c.route53Tags(in.ResourceType, in.ResourceId)
		if err != nil {
			return nil, err
		}
		for _, k := range in.RemoveTagKeys {
			delete(tags, k)
		}
		for _, t := range in.AddTags {
			tags[aws.ToString(t.Key)] = aws.ToString(t.Value)
		}
		return &route53.ChangeTagsForResourceOutput{}, nil
	})
	on(route53Service, "ListTagsForResource", func(c *Call, in *route53.ListTagsForResourceInput) (*route53.ListTagsForResourceOutput, error) {
		tags, err := c.route53Tags(in.ResourceType, in.ResourceId)
		if err != nil {
			return nil, err
		}
		set := &types.ResourceTagSet{ResourceId: in.ResourceId, ResourceType: in.ResourceType, Tags: []types.Tag{}}
		for _, k := range sortedKeys(tags) {
			set.Tags = append(set.Tags, types.Tag{Key: aws.String(k), Value: aws.String(tags[k])})
		}
		return &route53.ListTagsForResourceOutput{ResourceTagSet: set}, nil
	})
}

// route53Tags gives the tags of a zone or a health check.
func (c *Call) route53Tags(kind types.TagResourceType, id *string) (map[string]string, error) {
	s := c.route53()
	if kind == types.TagResourceTypeHealthcheck {
		if _, err := c.healthCheck(id); err != nil {
			return nil, err
		}
	} else if _, err := c.hostedZone(id); err != nil {
		return nil, err
	}
	k := string(kind) + "/" + aws.ToString(id)
	if s.tags[k] == nil {
		s.tags[k] = map[string]string{}
	}
	return s.tags[k], nil
}
