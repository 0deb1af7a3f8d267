package awstest

import (
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/route53"
	"github.com/aws/aws-sdk-go-v2/service/route53/types"
	"github.com/miekg/dns"
)

// zoneName spells a name as Route 53 stores it: small letters, a final dot, and * as an escape
// (https://docs.aws.amazon.com/Route53/latest/DeveloperGuide/DomainNameFormat.html).
func zoneName(name string) string {
	name = strings.ReplaceAll(strings.ToLower(name), "*", `\052`)
	if !strings.HasSuffix(name, ".") {
		name += "."
	}
	return name
}

// reversed is what names are sorted by: com.example.www.
func reversed(name string) string {
	labels := strings.Split(strings.TrimSuffix(name, "."), ".")
	slices.Reverse(labels)
	return strings.Join(labels, ".") + "."
}

// compareSets is the order of listings (API_ListResourceRecordSets.html).
func compareSets(a, b setKey) int {
	if n := strings.Compare(reversed(a.name), reversed(b.name)); n != 0 {
		return n
	}
	if n := strings.Compare(a.kind, b.kind); n != 0 {
		return n
	}
	return strings.Compare(a.id, b.id)
}

// listRecordSets lists sets from a place on; a page has 300 at most (API_ListResourceRecordSets.html).
func listRecordSets(c *Call, in *route53.ListResourceRecordSetsInput) (*route53.ListResourceRecordSetsOutput, error) {
	z, err := c.hostedZone(in.HostedZoneId)
	if err != nil {
		return nil, err
	}
	if in.StartRecordType != "" && in.StartRecordName == nil {
		return nil, fault("InvalidInput", "The input is not valid: type is specified but name is not")
	}
	if in.StartRecordIdentifier != nil && (in.StartRecordName == nil || in.StartRecordType == "") {
		return nil, fault("InvalidInput", "The input is not valid: identifier is specified but name or type is not")
	}
	var from setKey
	if in.StartRecordName != nil {
		from = setKey{zoneName(*in.StartRecordName), string(in.StartRecordType), aws.ToString(in.StartRecordIdentifier)}
	}
	sets := z.newestSets()
	size := c.items(in.MaxItems, 300)
	out := &route53.ListResourceRecordSetsOutput{MaxItems: aws.Int32(int32(size)), ResourceRecordSets: []types.ResourceRecordSet{}}
	for _, k := range slices.SortedFunc(maps.Keys(sets), compareSets) {
		if from.name != "" && compareSets(k, from) < 0 {
			continue
		}
		if len(out.ResourceRecordSets) == size {
			out.IsTruncated, out.NextRecordName, out.NextRecordType = true, aws.String(k.name), types.RRType(k.kind)
			if k.id != "" {
				out.NextRecordIdentifier = aws.String(k.id)
			}
			break
		}
		out.ResourceRecordSets = append(out.ResourceRecordSets, sets[k])
	}
	return out, nil
}

// changeRecordSets makes all changes of a batch or none (API_ChangeResourceRecordSets.html). The words of
// the errors are those of the service, as users of it report them.
func changeRecordSets(c *Call, in *route53.ChangeResourceRecordSetsInput) (*route53.ChangeResourceRecordSetsOutput, error) {
	z, err := c.hostedZone(in.HostedZoneId)
	if err != nil {
		return nil, err
	}
	changes := slices.Clone(in.ChangeBatch.Changes)
	for i := range changes {
		if err := c.checkShape(i, &changes[i]); err != nil {
			return nil, err
		}
	}
	sets := maps.Clone(z.newestSets())
	problems := tooMany(changes)
	seen := map[setKey]types.ChangeAction{}
	for i := range changes {
		set := changes[i].ResourceRecordSet
		k := keyOf(set)
		if before, twice := seen[k]; twice && (before != types.ChangeActionDelete || changes[i].Action == types.ChangeActionDelete) {
			problems = append(problems, fmt.Sprintf("The request contains an invalid set of changes for a resource record set '%s %s'", k.kind, k.name))
		}
		seen[k] = changes[i].Action
		problems = append(problems, z.apply(sets, &changes[i])...)
	}
	for _, k := range slices.SortedFunc(maps.Keys(seen), compareSets) {
		if set, ok := sets[k]; ok {
			problems = append(problems, z.conflicts(sets, &set)...)
		}
	}
	if !slices.ContainsFunc(slices.Collect(maps.Keys(sets)), func(k setKey) bool { return k.name == z.name && k.kind == "SOA" }) {
		problems = append(problems, "A HostedZone must contain exactly one SOA record.")
	}
	if len(problems) > 0 {
		return nil, fault("InvalidChangeBatch", "[%s]", strings.Join(slices.Compact(problems), ", "))
	}
	ch := c.newChange(in.ChangeBatch.Comment)
	z.put(c.Now, ch.ready, sets)
	return &route53.ChangeResourceRecordSetsOutput{ChangeInfo: ch.info(c.Now)}, nil
}

// tooMany checks the size of a batch: 1,000 records, those of UPSERT count twice
// (https://docs.aws.amazon.com/Route53/latest/DeveloperGuide/DNSLimitations.html).
func tooMany(changes []types.Change) []string {
	n := 0
	for _, ch := range changes {
		records := max(1, len(ch.ResourceRecordSet.ResourceRecords))
		if n += records; ch.Action == types.ChangeActionUpsert {
			n += records
		}
	}
	if n > 1000 {
		return []string{"Number of records limit of 1000 exceeded."}
	}
	return nil
}

// apply makes one change, or says why it cannot be made.
func (z *hostedZone) apply(sets map[setKey]types.ResourceRecordSet, ch *types.Change) []string {
	set := ch.ResourceRecordSet
	k := keyOf(set)
	old, there := sets[k]
	named := fmt.Sprintf("[name='%s', type='%s'", k.name, k.kind)
	if k.id != "" {
		named += fmt.Sprintf(", set identifier='%s'", k.id)
	}
	named += "]"
	switch {
	case ch.Action == types.ChangeActionCreate && there:
		return []string{"Tried to create resource record set " + named + " but it already exists"}
	case ch.Action == types.ChangeActionDelete && !there:
		return []string{"Tried to delete resource record set " + named + " but it was not found"}
	case ch.Action == types.ChangeActionDelete && content(&old) != content(set):
		return []string{"Tried to delete resource record set " + named + " but the values provided do not match the current values"}
	case ch.Action == types.ChangeActionDelete:
		delete(sets, k)
		return nil
	}
	sets[k] = *set
	return nil
}

// content is all of a set in a form that can be compared: values have no order.
func content(s *types.ResourceRecordSet) string {
	c := *s
	c.ResourceRecords = slices.SortedFunc(slices.Values(s.ResourceRecords), func(a, b types.ResourceRecord) int {
		return strings.Compare(*a.Value, *b.Value)
	})
	return parameterText(&c)
}

// conflicts says what speaks against a set beside the others of the zone.
func (z *hostedZone) conflicts(sets map[setKey]types.ResourceRecordSet, set *types.ResourceRecordSet) []string {
	k := keyOf(set)
	var out []string
	no := func(format string, args ...any) { out = append(out, fmt.Sprintf(format, args...)) }
	if k.name != z.name && !strings.HasSuffix(k.name, "."+z.name) {
		no("RRSet with DNS name %s is not permitted in zone %s", k.name, z.name)
		return out
	}
	if k.kind == "CNAME" && k.name == z.name {
		no("RRSet of type CNAME with DNS name %s is not permitted at apex in zone %s", k.name, z.name)
	}
	id := "null"
	if k.id != "" {
		id = k.id
	}
	var beside []setKey
	for o := range sets {
		if o.name == k.name && o != k {
			beside = append(beside, o)
		}
	}
	slices.SortFunc(beside, compareSets)
	for _, o := range beside {
		other := sets[o]
		switch {
		case o.kind != k.kind:
			if o.kind == "CNAME" {
				no("RRSet of type %s with DNS name %s is not permitted because a conflicting RRSet of type CNAME with the same DNS name already exists in zone %s", k.kind, k.name, z.name)
			} else if k.kind == "CNAME" {
				no("RRSet of type CNAME with DNS name %s is not permitted as it conflicts with other records with the same DNS name in zone %s", k.name, z.name)
			}
		case policyOf(set) != policyOf(&other):
			if set.Weight != nil {
				no("RRSet with DNS name %s, type %s, SetIdentifier %s cannot be created as a non-weighted set exists with the same name and type.", k.name, k.kind, id)
			} else {
				no("RRSet with DNS name %s, type %s, SetIdentifier %s cannot be created as other RRSets exist with the same name and type.", k.name, k.kind, id)
			}
		case set.Weight != nil && set.AliasTarget == nil && other.AliasTarget == nil && *set.TTL != *other.TTL:
			no("RRSet with DNS name %s, type %s, SetIdentifier %s cannot be created as weighted sets must contain the same TTL.", k.name, k.kind, id)
		case set.Failover != "" && set.Failover == other.Failover:
			no("RRSet with DNS name %s, type %s, SetIdentifier %s cannot be created as a %s failover set exists with the same name and type.", k.name, k.kind, id, strings.ToLower(string(set.Failover)))
		}
	}
	return out
}

// policyOf is how a set takes part in answers
// (https://docs.aws.amazon.com/Route53/latest/DeveloperGuide/routing-policy.html).
func policyOf(s *types.ResourceRecordSet) string {
	switch {
	case s.Weight != nil:
		return "weighted"
	case s.Failover != "":
		return "failover"
	case aws.ToBool(s.MultiValueAnswer):
		return "multivalue"
	}
	return "simple"
}

// checkShape checks one change for itself and spells it as it is stored.
func (c *Call) checkShape(i int, ch *types.Change) error {
	if ch.ResourceRecordSet == nil || ch.ResourceRecordSet.Name == nil || ch.ResourceRecordSet.Type == "" {
		return fault("InvalidInput", "Invalid request: a change needs an action and a resource record set with name and type")
	}
	if !slices.Contains(ch.Action.Values(), ch.Action) {
		return fault("InvalidInput", "1 validation error detected: Value '%s' at 'changeBatch.changes.%d.member.action' failed to satisfy constraint: Member must satisfy enum value set: [CREATE, DELETE, UPSERT]", ch.Action, i+1)
	}
	set := *ch.ResourceRecordSet
	ch.ResourceRecordSet = &set
	id := "null"
	if set.SetIdentifier != nil {
		id = *set.SetIdentifier
	}
	with := fmt.Sprintf("in Change with [Action=%s, Name=%s, Type=%s, SetIdentifier=%s]", ch.Action, *set.Name, set.Type, id)
	plain := set.TTL != nil && len(set.ResourceRecords) > 0
	switch {
	case set.AliasTarget != nil && (set.TTL != nil || len(set.ResourceRecords) > 0):
		return fault("InvalidInput", "Invalid request: Expected exactly one of [AliasTarget, all of [TTL, and ResourceRecords], or TrafficPolicyInstanceId], but found more than one %s", with)
	case set.AliasTarget == nil && !plain:
		return fault("InvalidInput", "Invalid request: Expected exactly one of [AliasTarget, all of [TTL, and ResourceRecords], or TrafficPolicyInstanceId], but found none %s", with)
	case set.Region != "" || set.GeoLocation != nil || set.CidrRoutingConfig != nil || set.GeoProximityLocation != nil:
		return fault("InvalidInput", "Invalid request: this double has weighted, failover and multivalue answers only, %s", with)
	case set.SetIdentifier == nil && policyOf(&set) != "simple":
		return fault("InvalidInput", "Invalid request: Missing field 'SetIdentifier' %s", with)
	case set.SetIdentifier != nil && policyOf(&set) == "simple":
		return fault("InvalidInput", "Invalid request: Expected exactly one of [Weight, Region, Failover, GeoLocation, or MultiValueAnswer], but found none %s", with)
	case set.Weight != nil && set.Failover != "":
		return fault("InvalidInput", "Invalid request: Expected exactly one of [Weight, Region, Failover, GeoLocation, or MultiValueAnswer], but found more than one %s", with)
	case set.Weight != nil && (*set.Weight < 0 || *set.Weight > 255):
		return fault("InvalidInput", "1 validation error detected: Value '%d' at 'changeBatch.changes.%d.member.resourceRecordSet.weight' failed to satisfy constraint: Member must have value between 0 and 255", *set.Weight, i+1)
	case set.TTL != nil && (*set.TTL < 0 || *set.TTL > 2147483647):
		return fault("InvalidInput", "1 validation error detected: Value '%d' at 'changeBatch.changes.%d.member.resourceRecordSet.tTL' failed to satisfy constraint: Member must have value between 0 and 2147483647", *set.TTL, i+1)
	}
	if set.HealthCheckId != nil {
		if _, err := c.healthCheck(set.HealthCheckId); err != nil {
			return err
		}
	}
	set.Name = aws.String(zoneName(*set.Name))
	return checkValues(&set)
}

// checkValues checks the values of a set; the words are those of the service.
func checkValues(set *types.ResourceRecordSet) error {
	if set.Type == types.RRTypeCname && len(set.ResourceRecords) > 1 {
		return fault("InvalidChangeBatch", "[RRSet of type CNAME with DNS name %s must contain exactly one record]", *set.Name)
	}
	seen := map[string]bool{}
	for _, r := range set.ResourceRecords {
		v := aws.ToString(r.Value)
		if seen[v] {
			return fault("InvalidChangeBatch", "[Duplicate Resource Record: '%s']", v)
		}
		seen[v] = true
		_, err := recordOf(set, v)
		if err == nil && set.Type == types.RRTypeTxt && !strings.HasPrefix(v, `"`) {
			return fault("InvalidChangeBatch", "[Invalid Resource Record: 'FATAL problem: InvalidCharacterString (Value should be enclosed in quotation marks) encountered with '%s'']", v)
		}
		if err != nil && set.Type == types.RRTypeA {
			return fault("InvalidChangeBatch", "[Invalid Resource Record: 'FATAL problem: ARRDATAIllegalIPv4Address (Value is not a valid IPv4 address) encountered with '%s'']", v)
		}
		if err != nil {
			return fault("InvalidChangeBatch", "[Invalid Resource Record: 'FATAL problem: UnsupportedCharacter (%v) encountered with '%s'']", err, v)
		}
	}
	return nil
}

// recordOf is a value as it stands in an answer. Targets without a final dot are whole names.
func recordOf(set *types.ResourceRecordSet, value string) (dns.RR, error) {
	p := dns.NewZoneParser(strings.NewReader(fmt.Sprintf("%s %d IN %s %s\n", *set.Name, aws.ToInt64(set.TTL), set.Type, value)), ".", "")
	rr, ok := p.Next()
	if err := p.Err(); err != nil {
		return nil, err
	}
	if !ok {
		return nil, fmt.Errorf("the value is empty")
	}
	if _, more := p.Next(); more {
		return nil, fmt.Errorf("the value is more than one record")
	}
	return rr, nil
}

func init() {
	on(route53Service, "ListResourceRecordSets", listRecordSets)
	on(route53Service, "ChangeResourceRecordSets", changeRecordSets)
}
