package awstest

import (
	"slices"
	"strconv"
	"strings"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/ec2"
	"github.com/aws/aws-sdk-go-v2/service/ec2/types"
)

// regionNames are those that DescribeRegions lists: enabled in every account, see
// https://docs.aws.amazon.com/global-infrastructure/latest/regions/aws-regions.html
var regionNames = []string{
	"ap-northeast-1", "ap-northeast-2", "ap-northeast-3", "ap-south-1", "ap-southeast-1", "ap-southeast-2", "ca-central-1",
	"eu-central-1", "eu-north-1", "eu-west-1", "eu-west-2", "eu-west-3", "sa-east-1", "us-east-1", "us-east-2", "us-west-1", "us-west-2",
}

// zonesOf are the three zones of a region.
func zonesOf(region string) []string { return []string{region + "a", region + "b", region + "c"} }

// zoneID is the name of a zone that all accounts share: use1-az1 for us-east-1a
// (https://docs.aws.amazon.com/global-infrastructure/latest/regions/az-ids.html).
func zoneID(zone string) string {
	parts := strings.Split(zone, "-")
	if len(parts) != 3 || len(parts[2]) < 2 {
		return zone
	}
	side := parts[1][:1]
	for _, s := range []string{"northeast", "southeast", "northwest", "southwest"} {
		if parts[1] == s {
			side = s[:1] + s[5:6]
		}
	}
	last := len(parts[2]) - 1
	return parts[0] + side + parts[2][:last] + "-az" + strconv.Itoa(int(parts[2][last]-'a')+1)
}

// zone finds the zone that a call names, by name or identifier; none is the first one.
func (c *Call) zone(name, id *string) (string, error) {
	zones := zonesOf(c.Name)
	if aws.ToString(name) == "" && aws.ToString(id) == "" {
		return zones[0], nil
	}
	for _, z := range zones {
		if z == aws.ToString(name) || aws.ToString(name) == "" && zoneID(z) == *id {
			return z, nil
		}
	}
	return "", fault("InvalidParameterValue", "Invalid availability zone: [%s%s]", aws.ToString(name), aws.ToString(id))
}

func (c *Call) describeZones(in *ec2.DescribeAvailabilityZonesInput) (*ec2.DescribeAvailabilityZonesOutput, error) {
	if err := dryRun(in.DryRun); err != nil {
		return nil, err
	}
	out := &ec2.DescribeAvailabilityZonesOutput{}
	for _, want := range in.ZoneNames {
		if !slices.Contains(zonesOf(c.Name), want) {
			return nil, fault("InvalidParameterValue", "Invalid availability zone: [%s]", want)
		}
	}
	for _, z := range zonesOf(c.Name) {
		if len(in.ZoneNames) > 0 && !slices.Contains(in.ZoneNames, z) || len(in.ZoneIds) > 0 && !slices.Contains(in.ZoneIds, zoneID(z)) {
			continue
		}
		ok, err := (&resource{}).matches(in.Filters, func(name string) ([]string, bool) {
			v := map[string]string{"zone-name": z, "zone-id": zoneID(z), "region-name": c.Name, "state": "available", "zone-type": "availability-zone", "opt-in-status": "opt-in-not-required", "group-name": c.Name}[name]
			return []string{v}, v != ""
		})
		if err != nil {
			return nil, err
		}
		if ok {
			out.AvailabilityZones = append(out.AvailabilityZones, types.AvailabilityZone{
				ZoneName: aws.String(z), ZoneId: aws.String(zoneID(z)), RegionName: &c.Name, GroupName: &c.Name, NetworkBorderGroup: &c.Name,
				State: types.AvailabilityZoneStateAvailable, ZoneType: aws.String("availability-zone"), OptInStatus: types.AvailabilityZoneOptInStatusOptInNotRequired,
			})
		}
	}
	return out, nil
}

func (c *Call) describeRegions(in *ec2.DescribeRegionsInput) (*ec2.DescribeRegionsOutput, error) {
	if err := dryRun(in.DryRun); err != nil {
		return nil, err
	}
	out := &ec2.DescribeRegionsOutput{}
	for _, want := range in.RegionNames {
		if !slices.Contains(regionNames, want) {
			return nil, fault("InvalidParameterValue", "Invalid region: [%s]", want)
		}
	}
	for _, name := range regionNames {
		if len(in.RegionNames) > 0 && !slices.Contains(in.RegionNames, name) {
			continue
		}
		endpoint := "ec2." + name + ".amazonaws.com"
		ok, err := (&resource{}).matches(in.Filters, func(filter string) ([]string, bool) {
			v := map[string]string{"region-name": name, "endpoint": endpoint, "opt-in-status": "opt-in-not-required"}[filter]
			return []string{v}, v != ""
		})
		if err != nil {
			return nil, err
		}
		if ok {
			out.Regions = append(out.Regions, types.Region{RegionName: aws.String(name), Endpoint: aws.String(endpoint), OptInStatus: aws.String("opt-in-not-required")})
		}
	}
	return out, nil
}

// keyPair is a key with which people log in.
type keyPair struct {
	*resource
	name string
}

// AddKeyPair makes a key pair as a person would before anything is launched.
func (c *Cloud) AddKeyPair(account, region, name string) {
	call, unlock := c.console(account, region)
	defer unlock()
	k := &keyPair{resource: call.newResource(types.ResourceTypeKeyPair, "key", nil), name: name}
	k.Visible = call.Now
	call.compute().keyPairs[k.ID] = k
}

// hasKeyPair tells whether there is a key pair of a name.
func (s *computeState) hasKeyPair(name string) bool {
	for _, k := range s.keyPairs {
		if k.name == name {
			return true
		}
	}
	return false
}

func (c *Call) describeKeyPairs(in *ec2.DescribeKeyPairsInput) (*ec2.DescribeKeyPairsOutput, error) {
	if err := dryRun(in.DryRun); err != nil {
		return nil, err
	}
	s := c.compute()
	for _, name := range in.KeyNames {
		if !s.hasKeyPair(name) {
			return nil, fault("InvalidKeyPair.NotFound", "The key pair '%s' does not exist", name)
		}
	}
	all, err := selected(c, s.keyPairs, in.KeyPairIds, "InvalidKeyPair.NotFound", in.Filters, func(k *keyPair, name string) ([]string, bool) {
		v := map[string]string{"key-name": k.name, "key-pair-id": k.ID}[name]
		return []string{v}, v != ""
	})
	if err != nil {
		return nil, err
	}
	out := &ec2.DescribeKeyPairsOutput{}
	for _, k := range all {
		if len(in.KeyNames) == 0 || slices.Contains(in.KeyNames, k.name) {
			out.KeyPairs = append(out.KeyPairs, types.KeyPairInfo{KeyName: &k.name, KeyPairId: &k.ID, KeyType: types.KeyTypeEd25519, CreateTime: &k.Created, Tags: k.tags()})
		}
	}
	return out, nil
}

// describeRouteTables shows the main route table of every VPC: its own range, and the internet gateway when there is one.
func (c *Call) describeRouteTables(in *ec2.DescribeRouteTablesInput) (*ec2.DescribeRouteTablesOutput, error) {
	if err := dryRun(in.DryRun); err != nil {
		return nil, err
	}
	all, err := selected(c, routeTables(c.compute()), in.RouteTableIds, "InvalidRouteTableID.NotFound", in.Filters, func(t ofVPC, name string) ([]string, bool) {
		switch name {
		case "route-table-id", "association.route-table-id":
			return []string{t.ID}, true
		case "vpc-id":
			return []string{t.vpc.ID}, true
		case "association.main":
			return []string{"true"}, true
		case "association.subnet-id":
			return nil, true // subnets belong to the main table without saying so
		case "route.gateway-id":
			if t.vpc.gateway != nil {
				return []string{"local", t.vpc.gateway.ID}, true
			}
			return []string{"local"}, true
		case "owner-id":
			return []string{c.Account}, true
		}
		return nil, false
	})
	if err != nil {
		return nil, err
	}
	all, next, err := page(c, all, in.MaxResults, in.NextToken)
	return &ec2.DescribeRouteTablesOutput{NextToken: next, RouteTables: each(all, func(t ofVPC) types.RouteTable {
		routes := []types.Route{{DestinationCidrBlock: aws.String(t.vpc.cidr.String()), GatewayId: aws.String("local"), State: types.RouteStateActive, Origin: types.RouteOriginCreateRouteTable}}
		if t.vpc.gateway != nil {
			routes = append(routes, types.Route{DestinationCidrBlock: aws.String("0.0.0.0/0"), GatewayId: &t.vpc.gateway.ID, State: types.RouteStateActive, Origin: types.RouteOriginCreateRoute})
		}
		return types.RouteTable{
			RouteTableId: &t.ID, VpcId: &t.vpc.ID, OwnerId: &c.Account, Tags: t.tags(), Routes: routes,
			Associations: []types.RouteTableAssociation{{
				Main: aws.Bool(true), RouteTableId: &t.ID, RouteTableAssociationId: aws.String("rtbassoc-" + t.ID[4:]),
				AssociationState: &types.RouteTableAssociationState{State: types.RouteTableAssociationStateCodeAssociated},
			}},
		}
	})}, err
}

// ofVPC is a resource that belongs to a VPC: its main route table, or its internet gateway.
type ofVPC struct {
	*resource
	vpc *vpc
}

func routeTables(s *computeState) map[string]ofVPC {
	out := map[string]ofVPC{}
	for _, v := range s.vpcs {
		out[v.main.ID] = ofVPC{v.main, v}
	}
	return out
}

func (c *Call) describeInternetGateways(in *ec2.DescribeInternetGatewaysInput) (*ec2.DescribeInternetGatewaysOutput, error) {
	if err := dryRun(in.DryRun); err != nil {
		return nil, err
	}
	gateways := map[string]ofVPC{}
	for _, v := range c.compute().vpcs {
		if v.gateway != nil {
			gateways[v.gateway.ID] = ofVPC{v.gateway, v}
		}
	}
	all, err := selected(c, gateways, in.InternetGatewayIds, "InvalidInternetGatewayID.NotFound", in.Filters, func(g ofVPC, name string) ([]string, bool) {
		v := map[string]string{"internet-gateway-id": g.ID, "attachment.vpc-id": g.vpc.ID, "attachment.state": "available", "owner-id": c.Account}[name]
		return []string{v}, v != ""
	})
	if err != nil {
		return nil, err
	}
	all, next, err := page(c, all, in.MaxResults, in.NextToken)
	return &ec2.DescribeInternetGatewaysOutput{NextToken: next, InternetGateways: each(all, func(g ofVPC) types.InternetGateway {
		return types.InternetGateway{
			InternetGatewayId: &g.ID, OwnerId: &c.Account, Tags: g.tags(),
			Attachments: []types.InternetGatewayAttachment{{VpcId: &g.vpc.ID, State: "available"}},
		}
	})}, err
}

// AttachInternetGateway opens a VPC to the internet, as a person would.
func (c *Cloud) AttachInternetGateway(account, region, vpcID string) error {
	call, unlock := c.console(account, region)
	defer unlock()
	v := call.compute().vpcs[vpcID]
	if v == nil {
		return fault("InvalidVpcID.NotFound", "The vpc ID '%s' does not exist", vpcID)
	}
	if v.gateway == nil {
		v.gateway = call.newResource(types.ResourceTypeInternetGateway, "igw", nil)
	}
	return nil
}

func init() {
	on(ec2Service, "DescribeAvailabilityZones", (*Call).describeZones)
	on(ec2Service, "DescribeRegions", (*Call).describeRegions)
	on(ec2Service, "DescribeKeyPairs", (*Call).describeKeyPairs)
	on(ec2Service, "DescribeRouteTables", (*Call).describeRouteTables)
	on(ec2Service, "DescribeInternetGateways", (*Call).describeInternetGateways)
}
