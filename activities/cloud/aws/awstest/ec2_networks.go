package awstest

import (
	"net/netip"
	"slices"
	"strconv"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/ec2"
	"github.com/aws/aws-sdk-go-v2/service/ec2/types"
)

// vpc is a network of its own: nothing leads out of one that was created, the default
// one of a region has an internet gateway
// (https://docs.aws.amazon.com/vpc/latest/userguide/default-vpc-components.html).
type vpc struct {
	*resource
	cidr      netip.Prefix
	isDefault bool
	main      *resource // its main route table
	gateway   *resource // its internet gateway, or nil
}

// subnet is a part of a VPC in one zone.
type subnet struct {
	*resource
	vpc        *vpc
	cidr       netip.Prefix
	zone       string
	defaultFor bool
}

// reservedAddresses are taken by AWS in every subnet: the first four and the last one
// (https://docs.aws.amazon.com/vpc/latest/userguide/subnet-sizing.html).
const reservedAddresses = 5

// addRegionDefaults makes what every region of an account has from the start.
func (s *computeState) addRegionDefaults(c *Call) {
	v := c.addVPC(s, netip.MustParsePrefix("172.31.0.0/16"), nil)
	v.isDefault = true
	v.gateway = c.newResource(types.ResourceTypeInternetGateway, "igw", nil)
	at := v.cidr.Addr().As4()
	for i, zone := range zonesOf(c.Name) {
		at[2] = byte(16 * i)
		n := &subnet{resource: c.newResource(types.ResourceTypeSubnet, "subnet", nil), vpc: v, cidr: netip.PrefixFrom(netip.AddrFrom4(at), 20), zone: zone, defaultFor: true}
		s.subnets[n.ID] = n
		n.Visible, n.Created = c.Now, c.Now.Add(-time.Hour)
	}
	for _, r := range []*resource{v.resource, v.main, v.gateway, s.defaultGroup(v).resource} {
		r.Visible, r.Created = c.Now, c.Now.Add(-time.Hour)
	}
}

// addVPC makes a VPC with its default security group and its main route table.
func (c *Call) addVPC(s *computeState, cidr netip.Prefix, tags []types.TagSpecification) *vpc {
	v := &vpc{resource: c.newResource(types.ResourceTypeVpc, "vpc", tags), cidr: cidr}
	v.main = c.newResource(types.ResourceTypeRouteTable, "rtb", nil)
	s.vpcs[v.ID] = v
	g := &securityGroup{resource: c.newResource(types.ResourceTypeSecurityGroup, "sg", nil), vpc: v, name: "default", description: "default VPC security group"}
	s.groups[g.ID] = g
	return v
}

// defaultVPC is the region's default VPC, or nil when it was deleted.
func (s *computeState) defaultVPC() *vpc {
	for _, v := range s.vpcs {
		if v.isDefault {
			return v
		}
	}
	return nil
}

// used lists who has which private address of a subnet.
func (s *computeState) used(n *subnet) map[netip.Addr]*netInterface {
	used := map[netip.Addr]*netInterface{}
	for _, i := range s.interfaces {
		if i.subnet == n {
			used[i.ip] = i
		}
	}
	return used
}

// free counts the private addresses of a subnet that nobody has.
func (s *computeState) free(n *subnet) int {
	return 1<<(32-n.cidr.Bits()) - reservedAddresses - len(s.used(n))
}

// reserved tells whether AWS keeps an address of a subnet for itself.
func (n *subnet) reserved(a netip.Addr) bool {
	first := n.cidr.Addr()
	for range reservedAddresses - 1 {
		if a == first {
			return true
		}
		first = first.Next()
	}
	return !n.cidr.Contains(a.Next())
}

// pick checks a wanted private address, or finds a free one. One that is used is
// InvalidIPAddress.InUse, one outside or reserved InvalidParameterValue, none left
// InsufficientFreeAddressesInSubnet
// (https://docs.aws.amazon.com/AWSEC2/latest/APIReference/errors-overview.html).
func (s *computeState) pick(n *subnet, wanted string) (netip.Addr, error) {
	used := s.used(n)
	if wanted == "" {
		for a := n.cidr.Addr(); n.cidr.Contains(a); a = a.Next() {
			if used[a] == nil && !n.reserved(a) {
				return a, nil
			}
		}
		return netip.Addr{}, fault("InsufficientFreeAddressesInSubnet", "There are not enough free addresses in subnet '%s' to satisfy the requested number of instances.", n.ID)
	}
	a, err := netip.ParseAddr(wanted)
	switch {
	case err != nil || !a.Is4():
		return a, fault("InvalidParameterValue", "Invalid value '%s' for PrivateIpAddress", wanted)
	case !n.cidr.Contains(a):
		return a, fault("InvalidParameterValue", "Address %s does not fall within the subnet's address range", wanted)
	case n.reserved(a):
		return a, fault("InvalidParameterValue", "Address %s is in subnet's reserved address range", wanted)
	case used[a] != nil:
		return a, fault("InvalidIPAddress.InUse", "Address %s is in use.", wanted)
	}
	return a, nil
}

// parseCIDR reads the range of a VPC or subnet: /16 to /28
// (https://docs.aws.amazon.com/AWSEC2/latest/APIReference/API_CreateVpc.html). Unlike EC2 the double
// takes loopback ranges, because its instances are processes of this machine and listen there.
func parseCIDR(text, code string) (netip.Prefix, error) {
	p, err := netip.ParsePrefix(text)
	if err != nil || !p.Addr().Is4() {
		return p, fault("InvalidParameterValue", "Value (%s) for parameter cidrBlock is invalid. This is not a valid CIDR block.", text)
	}
	if p.Bits() < 16 || p.Bits() > 28 {
		return p, fault(code, "The CIDR '%s' is invalid.", text)
	}
	return p.Masked(), nil
}

func (c *Call) createVpc(in *ec2.CreateVpcInput) (*ec2.CreateVpcOutput, error) {
	s := c.compute()
	cidr, err := parseCIDR(aws.ToString(in.CidrBlock), "InvalidVpc.Range")
	if err != nil {
		return nil, err
	}
	if err := dryRun(in.DryRun); err != nil {
		return nil, err
	}
	// 5 per region: https://docs.aws.amazon.com/vpc/latest/userguide/amazon-vpc-limits.html
	if len(s.vpcs) >= c.quota("vpcs", 5) {
		return nil, fault("VpcLimitExceeded", "The maximum number of VPCs has been reached.")
	}
	v := c.addVPC(s, cidr, in.TagSpecifications)
	return &ec2.CreateVpcOutput{Vpc: new(c.showVPC(v))}, nil
}

// networkState is pending for a moment (https://docs.aws.amazon.com/AWSEC2/latest/APIReference/API_CreateSubnet.html);
// what a region has from the start is there.
func networkState[S ~string](c *Call, r *resource, pending, available S) S {
	if c.Now.Before(r.Created.Add(c.Delay("network"))) {
		return pending
	}
	return available
}

func (c *Call) showVPC(v *vpc) types.Vpc {
	return types.Vpc{
		VpcId: &v.ID, CidrBlock: aws.String(v.cidr.String()), IsDefault: &v.isDefault, State: networkState(c, v.resource, types.VpcStatePending, types.VpcStateAvailable),
		OwnerId: &c.Account, InstanceTenancy: types.TenancyDefault, Tags: v.tags(),
		CidrBlockAssociationSet: []types.VpcCidrBlockAssociation{{
			AssociationId: aws.String("vpc-cidr-assoc-" + v.ID[4:]), CidrBlock: aws.String(v.cidr.String()),
			CidrBlockState: &types.VpcCidrBlockState{State: types.VpcCidrBlockStateCodeAssociated},
		}},
	}
}

func (c *Call) describeVpcs(in *ec2.DescribeVpcsInput) (*ec2.DescribeVpcsOutput, error) {
	if err := dryRun(in.DryRun); err != nil {
		return nil, err
	}
	all, err := selected(c, c.compute().vpcs, in.VpcIds, "InvalidVpcID.NotFound", in.Filters, func(v *vpc, name string) ([]string, bool) {
		switch name {
		case "vpc-id":
			return []string{v.ID}, true
		case "cidr", "cidr-block-association.cidr-block":
			return []string{v.cidr.String()}, true
		case "is-default", "isDefault":
			return []string{strconv.FormatBool(v.isDefault)}, true
		case "state":
			return []string{string(c.showVPC(v).State)}, true
		case "owner-id":
			return []string{c.Account}, true
		}
		return nil, false
	})
	if err != nil {
		return nil, err
	}
	all, next, err := page(c, all, in.MaxResults, in.NextToken)
	return &ec2.DescribeVpcsOutput{Vpcs: each(all, c.showVPC), NextToken: next}, err
}

func (c *Call) deleteVpc(in *ec2.DeleteVpcInput) (*ec2.DeleteVpcOutput, error) {
	s := c.compute()
	v := s.vpcs[aws.ToString(in.VpcId)]
	if v == nil {
		return nil, fault("InvalidVpcID.NotFound", "The vpc ID '%s' does not exist", aws.ToString(in.VpcId))
	}
	busy := v.gateway != nil
	for _, n := range s.subnets {
		busy = busy || n.vpc == v
	}
	for _, g := range s.groups {
		busy = busy || g.vpc == v && g.name != "default"
	}
	if busy {
		return nil, fault("DependencyViolation", "The vpc '%s' has dependencies and cannot be deleted.", v.ID)
	}
	if err := dryRun(in.DryRun); err != nil {
		return nil, err
	}
	g := s.defaultGroup(v)
	for _, id := range []string{v.ID, v.main.ID, g.ID} {
		c.forget(id)
	}
	delete(s.groups, g.ID)
	delete(s.vpcs, v.ID)
	return &ec2.DeleteVpcOutput{}, nil
}

// createSubnet refuses ranges as https://docs.aws.amazon.com/AWSEC2/latest/APIReference/API_CreateSubnet.html
// says: outside the VPC is InvalidSubnet.Range, overlapping another one InvalidSubnet.Conflict.
func (c *Call) createSubnet(in *ec2.CreateSubnetInput) (*ec2.CreateSubnetOutput, error) {
	s := c.compute()
	v := s.vpcs[aws.ToString(in.VpcId)]
	if v == nil {
		return nil, fault("InvalidVpcID.NotFound", "The vpc ID '%s' does not exist", aws.ToString(in.VpcId))
	}
	cidr, err := parseCIDR(aws.ToString(in.CidrBlock), "InvalidSubnet.Range")
	if err != nil {
		return nil, err
	}
	if cidr.Bits() < v.cidr.Bits() || !v.cidr.Contains(cidr.Addr()) {
		return nil, fault("InvalidSubnet.Range", "The CIDR '%s' is invalid.", cidr)
	}
	inVPC := 0
	for _, n := range s.subnets {
		if n.vpc != v {
			continue
		}
		inVPC++
		if n.cidr.Overlaps(cidr) {
			return nil, fault("InvalidSubnet.Conflict", "The CIDR '%s' conflicts with another subnet", cidr)
		}
	}
	zone, err := c.zone(in.AvailabilityZone, in.AvailabilityZoneId)
	if err != nil {
		return nil, err
	}
	if err := dryRun(in.DryRun); err != nil {
		return nil, err
	}
	// 200 per VPC: https://docs.aws.amazon.com/vpc/latest/userguide/amazon-vpc-limits.html
	if inVPC >= c.quota("subnets", 200) {
		return nil, fault("SubnetLimitExceeded", "The maximum number of subnets has been reached.")
	}
	n := &subnet{resource: c.newResource(types.ResourceTypeSubnet, "subnet", in.TagSpecifications), vpc: v, cidr: cidr, zone: zone}
	s.subnets[n.ID] = n
	return &ec2.CreateSubnetOutput{Subnet: new(c.showSubnet(n))}, nil
}

func (c *Call) showSubnet(n *subnet) types.Subnet {
	return types.Subnet{
		SubnetId: &n.ID, VpcId: &n.vpc.ID, CidrBlock: aws.String(n.cidr.String()), AvailabilityZone: &n.zone, AvailabilityZoneId: aws.String(zoneID(n.zone)),
		AvailableIpAddressCount: aws.Int32(int32(c.compute().free(n))), DefaultForAz: &n.defaultFor, MapPublicIpOnLaunch: &n.defaultFor,
		OwnerId: &c.Account, State: networkState(c, n.resource, types.SubnetStatePending, types.SubnetStateAvailable), Tags: n.tags(),
		SubnetArn: aws.String("arn:aws:ec2:" + c.Name + ":" + c.Account + ":subnet/" + n.ID),
	}
}

func (c *Call) describeSubnets(in *ec2.DescribeSubnetsInput) (*ec2.DescribeSubnetsOutput, error) {
	if err := dryRun(in.DryRun); err != nil {
		return nil, err
	}
	s := c.compute()
	all, err := selected(c, s.subnets, in.SubnetIds, "InvalidSubnetID.NotFound", in.Filters, func(n *subnet, name string) ([]string, bool) {
		switch name {
		case "subnet-id":
			return []string{n.ID}, true
		case "vpc-id":
			return []string{n.vpc.ID}, true
		case "availability-zone", "availabilityZone":
			return []string{n.zone}, true
		case "availability-zone-id", "availabilityZoneId":
			return []string{zoneID(n.zone)}, true
		case "available-ip-address-count":
			return []string{strconv.Itoa(s.free(n))}, true
		case "cidr-block", "cidr", "cidrBlock":
			return []string{n.cidr.String()}, true
		case "default-for-az", "defaultForAz", "map-public-ip-on-launch":
			return []string{strconv.FormatBool(n.defaultFor)}, true
		case "state":
			return []string{string(c.showSubnet(n).State)}, true
		case "owner-id":
			return []string{c.Account}, true
		}
		return nil, false
	})
	if err != nil {
		return nil, err
	}
	all, next, err := page(c, all, in.MaxResults, in.NextToken)
	return &ec2.DescribeSubnetsOutput{Subnets: each(all, c.showSubnet), NextToken: next}, err
}

func (c *Call) deleteSubnet(in *ec2.DeleteSubnetInput) (*ec2.DeleteSubnetOutput, error) {
	s := c.compute()
	n := s.subnets[aws.ToString(in.SubnetId)]
	if n == nil {
		return nil, fault("InvalidSubnetID.NotFound", "The subnet ID '%s' does not exist", aws.ToString(in.SubnetId))
	}
	if len(s.used(n)) > 0 {
		return nil, fault("DependencyViolation", "The subnet '%s' has dependencies and cannot be deleted.", n.ID)
	}
	if err := dryRun(in.DryRun); err != nil {
		return nil, err
	}
	delete(s.subnets, n.ID)
	c.forget(n.ID)
	s.dropGuestNetwork(n.ID)
	return &ec2.DeleteSubnetOutput{}, nil
}

// resourced is what has a resource in it.
type resourced interface{ base() *resource }

func (r *resource) base() *resource { return r }

// selected lists, sorted by identifier, the visible resources with these identifiers (none = all) that
// satisfy the filters. An identifier that is not there is the error code.
func selected[T resourced](c *Call, all map[string]T, ids []string, code string, filters []types.Filter, value func(x T, name string) ([]string, bool)) ([]T, error) {
	for _, id := range ids {
		if x, ok := all[id]; !ok || !c.visible(x.base()) {
			return nil, fault(code, "The ID '%s' does not exist", id)
		}
	}
	var out []T
	for _, x := range byID(all) {
		r := x.base()
		if !c.visible(r) || len(ids) > 0 && !slices.Contains(ids, r.ID) {
			continue
		}
		ok, err := r.matches(filters, func(name string) ([]string, bool) { return value(x, name) })
		if err != nil {
			return nil, err
		}
		if ok {
			out = append(out, x)
		}
	}
	return out, nil
}

// each maps a list.
func each[T, U any](list []T, f func(T) U) []U {
	out := make([]U, len(list))
	for i, x := range list {
		out[i] = f(x)
	}
	return out
}

func init() {
	on(ec2Service, "CreateVpc", (*Call).createVpc)
	on(ec2Service, "DescribeVpcs", (*Call).describeVpcs)
	on(ec2Service, "DeleteVpc", (*Call).deleteVpc)
	on(ec2Service, "CreateSubnet", (*Call).createSubnet)
	on(ec2Service, "DescribeSubnets", (*Call).describeSubnets)
	on(ec2Service, "DeleteSubnet", (*Call).deleteSubnet)
}
