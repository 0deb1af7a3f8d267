package aws

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"time"

	awssdk "github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/route53/types"

	"lifeboat/activities/cloud"
)

// recordTypes are those of the contract.
var recordTypes = []string{"A", "CNAME", "TXT"}

// recordOf makes a record of the contract.
func recordOf(s types.ResourceRecordSet) cloud.Record {
	r := cloud.Record{Name: plainName(awssdk.ToString(s.Name)), Type: string(s.Type), SetID: awssdk.ToString(s.SetIdentifier),
		TTL: time.Duration(awssdk.ToInt64(s.TTL)) * time.Second}
	if s.Weight != nil {
		w := int(*s.Weight)
		r.Weight = &w
	}
	for _, v := range s.ResourceRecords {
		value := awssdk.ToString(v.Value)
		switch s.Type {
		case types.RRTypeTxt:
			value = unquoteText(value)
		case types.RRTypeCname:
			value = plainName(value)
		}
		r.Values = append(r.Values, value)
	}
	return r
}

// recordSet makes a set of Route 53, and refuses what it would refuse with the whole batch: the error says which
// record it is.
func recordSet(op string, z hostedZone, r cloud.Record) (*types.ResourceRecordSet, error) {
	r.Name, r.Type = plainName(r.Name), strings.ToUpper(r.Type)
	resource := "record " + r.Name + " " + r.Type
	if r.Name != z.name && !strings.HasSuffix(r.Name, "."+z.name) {
		return nil, invalid(op, resource, "is not a name in zone "+z.name, "write it like www."+z.name)
	}
	values, err := recordValues(r)
	if err == nil {
		err = checkPolicy(r)
	}
	if err != nil {
		return nil, invalid(op, resource, err.Error(), "correct the record; nothing was changed")
	}
	set := &types.ResourceRecordSet{Name: &r.Name, Type: types.RRType(r.Type), TTL: awssdk.Int64(int64(r.TTL / time.Second))}
	for _, v := range values {
		set.ResourceRecords = append(set.ResourceRecords, types.ResourceRecord{Value: awssdk.String(v)})
	}
	if r.SetID != "" {
		set.SetIdentifier = &r.SetID
	}
	if r.Weight != nil {
		set.Weight = awssdk.Int64(int64(*r.Weight))
	}
	return set, nil
}

// recordValues spells the values of a record as Route 53 does, and checks them.
func recordValues(r cloud.Record) ([]string, error) {
	if len(r.Values) == 0 {
		return nil, fmt.Errorf("has no values")
	}
	if !slices.Contains(recordTypes, r.Type) {
		return nil, fmt.Errorf("the type is not A, CNAME or TXT")
	}
	var values []string
	for _, v := range r.Values {
		switch r.Type {
		case "A":
			ip, err := netip.ParseAddr(v)
			if err != nil || !ip.Is4() {
				return nil, fmt.Errorf("%q is not an IPv4 address", v)
			}
			v = ip.String()
		case "CNAME":
			if v = plainName(v); len(r.Values) > 1 || v == "" || v == r.Name || strings.ContainsAny(v, " \t\n\"\\") {
				return nil, fmt.Errorf("a CNAME has one value, the name of something else, not %q", r.Values)
			}
		case "TXT":
			if len(v) > 4000 { // https://docs.aws.amazon.com/Route53/latest/DeveloperGuide/ResourceRecordTypes.html#TXTFormat
				return nil, fmt.Errorf("a value has more than 4000 bytes")
			}
			v = quoteText(v)
		}
		values = append(values, v)
	}
	return values, nil
}

// checkPolicy checks TTL and weight against the limits of Route 53
// (https://docs.aws.amazon.com/Route53/latest/APIReference/API_ResourceRecordSet.html).
func checkPolicy(r cloud.Record) error {
	switch {
	case r.TTL < 0 || r.TTL%time.Second != 0 || r.TTL/time.Second > 1<<31-1:
		return fmt.Errorf("the TTL %s is not a whole number of seconds below 2^31", r.TTL)
	case (r.Weight == nil) != (r.SetID == ""):
		return fmt.Errorf("a weighted record needs both a weight and a set identifier, a simple one neither")
	case r.Weight != nil && (*r.Weight < 0 || *r.Weight > 255):
		return fmt.Errorf("the weight %d is not from 0 to 255", *r.Weight)
	case len(r.SetID) > 128:
		return fmt.Errorf("the set identifier has more than 128 bytes")
	}
	return nil
}
