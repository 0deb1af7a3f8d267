package awstest

import (
	"net/netip"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/ec2"
	"github.com/aws/aws-sdk-go-v2/service/ec2/types"
)

// netInterface has a private address in a subnet: that of an instance, or one that was made alone.
type netInterface struct {
	*resource
	subnet      *subnet
	ip          netip.Addr
	groups      []*securityGroup
	description string
	instance    *instance // nil = not attached
	attached    time.Time
	keep        bool // stays when its instance is terminated
}

// privateName is the name of a private address in the DNS of its VPC.
func privateName(region string, ip netip.Addr) *string {
	return aws.String("ip-" + strings.ReplaceAll(ip.String(), ".", "-") + "." + region + ".compute.internal")
}

// newInterface takes a private address of a subnet.
func (c *Call) newInterface(n *subnet, ip netip.Addr, groups []*securityGroup, tags []types.TagSpecification) *netInterface {
	i := &netInterface{resource: c.newResource(types.ResourceTypeNetworkInterface, "eni", tags), subnet: n, ip: ip, groups: groups}
	c.compute().interfaces[i.ID] = i
	return i
}

func (c *Call) createNetworkInterface(in *ec2.CreateNetworkInterfaceInput) (*ec2.CreateNetworkInterfaceOutput, error) {
	s := c.compute()
	id, err := c.once(in.ClientToken, in, func() (string, error) {
		n := s.subnets[aws.ToString(in.SubnetId)]
		if n == nil {
			return "", fault("InvalidSubnetID.NotFound", "The subnet ID '%s' does not exist", aws.ToString(in.SubnetId))
		}
		ip, err := s.pick(n, aws.ToString(in.PrivateIpAddress))
		if err != nil {
			return "", err
		}
		groups, err := s.groupsFor(n.vpc, in.Groups)
		if err != nil {
			return "", err
		}
		if err := dryRun(in.DryRun); err != nil {
			return "", err
		}
		i := c.newInterface(n, ip, groups, in.TagSpecifications)
		i.description, i.keep = aws.ToString(in.Description), true
		return i.ID, nil
	})
	if err != nil {
		return nil, err
	}
	i := s.interfaces[id]
	if i == nil {
		return nil, fault("InvalidNetworkInterfaceID.NotFound", "The networkInterface ID '%s' does not exist", id)
	}
	return &ec2.CreateNetworkInterfaceOutput{NetworkInterface: new(c.showInterface(i)), ClientToken: in.ClientToken}, nil
}

func (c *Call) deleteNetworkInterface(in *ec2.DeleteNetworkInterfaceInput) (*ec2.DeleteNetworkInterfaceOutput, error) {
	s := c.compute()
	i := s.interfaces[aws.ToString(in.NetworkInterfaceId)]
	switch {
	case i == nil:
		return nil, fault("InvalidNetworkInterfaceID.NotFound", "The networkInterface ID '%s' does not exist", aws.ToString(in.NetworkInterfaceId))
	case i.instance != nil:
		return nil, fault("InvalidNetworkInterface.InUse", "Interface: [%s] in use.", i.ID)
	}
	if err := dryRun(in.DryRun); err != nil {
		return nil, err
	}
	s.dropInterface(c, i)
	return &ec2.DeleteNetworkInterfaceOutput{}, nil
}

// dropInterface frees the address of an interface; a public one that leads there leads nowhere then.
func (s *computeState) dropInterface(c *Call, i *netInterface) {
	if a := s.addressOf(i); a != nil {
		a.disassociate()
	}
	delete(s.interfaces, i.ID)
	c.forget(i.ID)
}

func (c *Call) showInterface(i *netInterface) types.NetworkInterface {
	s := c.compute()
	out := types.NetworkInterface{
		NetworkInterfaceId: &i.ID, SubnetId: &i.subnet.ID, VpcId: &i.subnet.vpc.ID, AvailabilityZone: &i.subnet.zone, Description: &i.description,
		PrivateIpAddress: aws.String(i.ip.String()), PrivateDnsName: privateName(c.Name, i.ip), OwnerId: &c.Account, SourceDestCheck: aws.Bool(true),
		Status: types.NetworkInterfaceStatusAvailable, InterfaceType: types.NetworkInterfaceTypeInterface, TagSet: i.tags(), Groups: showGroups(i.groups),
	}
	if a := s.addressOf(i); a != nil {
		out.Association = &types.NetworkInterfaceAssociation{AllocationId: &a.ID, AssociationId: aws.String(a.association), PublicIp: &a.public, IpOwnerId: &c.Account}
	}
	out.PrivateIpAddresses = []types.NetworkInterfacePrivateIpAddress{{Primary: aws.Bool(true), PrivateIpAddress: out.PrivateIpAddress, PrivateDnsName: out.PrivateDnsName, Association: out.Association}}
	if i.instance != nil {
		out.Status = types.NetworkInterfaceStatusInUse
		out.Attachment = &types.NetworkInterfaceAttachment{
			AttachmentId: aws.String("eni-attach-" + i.ID[4:]), InstanceId: &i.instance.ID, InstanceOwnerId: &c.Account, DeviceIndex: aws.Int32(0),
			AttachTime: aws.Time(i.attached), DeleteOnTermination: aws.Bool(!i.keep), Status: types.AttachmentStatusAttached,
		}
	}
	return out
}

func (c *Call) describeNetworkInterfaces(in *ec2.DescribeNetworkInterfacesInput) (*ec2.DescribeNetworkInterfacesOutput, error) {
	if err := dryRun(in.DryRun); err != nil {
		return nil, err
	}
	s := c.compute()
	all, err := selected(c, s.interfaces, in.NetworkInterfaceIds, "InvalidNetworkInterfaceID.NotFound", in.Filters, func(i *netInterface, name string) ([]string, bool) {
		switch name {
		case "network-interface-id":
			return []string{i.ID}, true
		case "subnet-id":
			return []string{i.subnet.ID}, true
		case "vpc-id":
			return []string{i.subnet.vpc.ID}, true
		case "availability-zone":
			return []string{i.subnet.zone}, true
		case "private-ip-address", "addresses.private-ip-address":
			return []string{i.ip.String()}, true
		case "addresses.primary":
			return []string{"true"}, true
		case "description":
			return []string{i.description}, true
		case "owner-id":
			return []string{c.Account}, true
		case "group-id":
			return each(i.groups, func(g *securityGroup) string { return g.ID }), true
		case "status":
			return []string{string(c.showInterface(i).Status)}, true
		case "association.public-ip", "addresses.association.public-ip", "association.allocation-id", "association.association-id":
			return s.addressOf(i).filterAddress(name), true
		case "attachment.instance-id", "attachment.attachment-id", "attachment.status", "attachment.delete-on-termination":
			if i.instance == nil {
				return nil, true
			}
			return []string{map[string]string{
				"attachment.instance-id": i.instance.ID, "attachment.attachment-id": "eni-attach-" + i.ID[4:],
				"attachment.status": "attached", "attachment.delete-on-termination": strconv.FormatBool(!i.keep),
			}[name]}, true
		}
		return nil, false
	})
	if err != nil {
		return nil, err
	}
	all, next, err := page(c, all, in.MaxResults, in.NextToken)
	return &ec2.DescribeNetworkInterfacesOutput{NetworkInterfaces: each(all, c.showInterface), NextToken: next}, err
}

// securityGroup says who may connect; the double only keeps it.
type securityGroup struct {
	*resource
	vpc               *vpc
	name, description string
	ingress           []types.IpPermission
}

func (s *computeState) defaultGroup(v *vpc) *securityGroup {
	for _, g := range s.groups {
		if g.vpc == v && g.name == "default" {
			return g
		}
	}
	return nil
}

// groupsFor finds the security groups that a call names; none is the default one of the VPC.
func (s *computeState) groupsFor(v *vpc, ids []string) ([]*securityGroup, error) {
	if len(ids) == 0 {
		return []*securityGroup{s.defaultGroup(v)}, nil
	}
	var out []*securityGroup
	for _, id := range ids {
		g := s.groups[id]
		if g == nil {
			return nil, fault("InvalidGroup.NotFound", "The security group '%s' does not exist", id)
		}
		if g.vpc != v {
			return nil, fault("InvalidParameter", "Security group %s and subnet belong to different networks.", id)
		}
		out = append(out, g)
	}
	return out, nil
}

func showGroups(groups []*securityGroup) []types.GroupIdentifier {
	return each(groups, func(g *securityGroup) types.GroupIdentifier {
		return types.GroupIdentifier{GroupId: &g.ID, GroupName: &g.name}
	})
}

func (c *Call) createSecurityGroup(in *ec2.CreateSecurityGroupInput) (*ec2.CreateSecurityGroupOutput, error) {
	s := c.compute()
	v := s.defaultVPC()
	if in.VpcId != nil {
		v = s.vpcs[*in.VpcId]
	}
	if v == nil {
		return nil, fault("InvalidVpcID.NotFound", "The vpc ID '%s' does not exist", aws.ToString(in.VpcId))
	}
	for _, g := range s.groups {
		if g.vpc == v && g.name == *in.GroupName {
			return nil, fault("InvalidGroup.Duplicate", "The security group '%s' already exists for VPC '%s'", g.name, v.ID)
		}
	}
	if err := dryRun(in.DryRun); err != nil {
		return nil, err
	}
	g := &securityGroup{resource: c.newResource(types.ResourceTypeSecurityGroup, "sg", in.TagSpecifications), vpc: v, name: *in.GroupName, description: *in.Description}
	s.groups[g.ID] = g
	return &ec2.CreateSecurityGroupOutput{GroupId: &g.ID, Tags: g.tags()}, nil
}

func (c *Call) deleteSecurityGroup(in *ec2.DeleteSecurityGroupInput) (*ec2.DeleteSecurityGroupOutput, error) {
	s := c.compute()
	g := s.groups[aws.ToString(in.GroupId)]
	if g == nil {
		return nil, fault("InvalidGroup.NotFound", "The security group '%s' does not exist", aws.ToString(in.GroupId))
	}
	if g.name == "default" {
		return nil, fault("CannotDelete", "the specified group: \"%s\" name: \"default\" cannot be deleted by a user", g.ID)
	}
	for _, i := range s.interfaces {
		if slices.Contains(i.groups, g) {
			return nil, fault("DependencyViolation", "resource %s has a dependent object", g.ID)
		}
	}
	if err := dryRun(in.DryRun); err != nil {
		return nil, err
	}
	delete(s.groups, g.ID)
	c.forget(g.ID)
	return &ec2.DeleteSecurityGroupOutput{GroupId: &g.ID, Return: aws.Bool(true)}, nil
}

func (c *Call) describeSecurityGroups(in *ec2.DescribeSecurityGroupsInput) (*ec2.DescribeSecurityGroupsOutput, error) {
	if err := dryRun(in.DryRun); err != nil {
		return nil, err
	}
	all, err := selected(c, c.compute().groups, in.GroupIds, "InvalidGroup.NotFound", in.Filters, func(g *securityGroup, name string) ([]string, bool) {
		v := map[string]string{"group-id": g.ID, "group-name": g.name, "vpc-id": g.vpc.ID, "description": g.description, "owner-id": c.Account}[name]
		return []string{v}, v != ""
	})
	if err != nil {
		return nil, err
	}
	if len(in.GroupNames) > 0 {
		all = slices.DeleteFunc(all, func(g *securityGroup) bool { return !slices.Contains(in.GroupNames, g.name) })
	}
	all, next, err := page(c, all, in.MaxResults, in.NextToken)
	return &ec2.DescribeSecurityGroupsOutput{NextToken: next, SecurityGroups: each(all, func(g *securityGroup) types.SecurityGroup {
		return types.SecurityGroup{GroupId: &g.ID, GroupName: &g.name, Description: &g.description, VpcId: &g.vpc.ID, OwnerId: &c.Account, IpPermissions: slices.Clone(g.ingress), Tags: g.tags()}
	})}, err
}

func (c *Call) authorizeIngress(in *ec2.AuthorizeSecurityGroupIngressInput) (*ec2.AuthorizeSecurityGroupIngressOutput, error) {
	g := c.compute().groups[aws.ToString(in.GroupId)]
	if g == nil {
		return nil, fault("InvalidGroup.NotFound", "The security group '%s' does not exist", aws.ToString(in.GroupId))
	}
	if err := dryRun(in.DryRun); err != nil {
		return nil, err
	}
	add := in.IpPermissions
	if in.IpProtocol != nil {
		add = append(add, types.IpPermission{IpProtocol: in.IpProtocol, FromPort: in.FromPort, ToPort: in.ToPort, IpRanges: []types.IpRange{{CidrIp: in.CidrIp}}})
	}
	g.ingress = append(g.ingress, add...)
	return &ec2.AuthorizeSecurityGroupIngressOutput{Return: aws.Bool(true)}, nil
}

func init() {
	on(ec2Service, "CreateNetworkInterface", (*Call).createNetworkInterface)
	on(ec2Service, "DeleteNetworkInterface", (*Call).deleteNetworkInterface)
	on(ec2Service, "DescribeNetworkInterfaces", (*Call).describeNetworkInterfaces)
	on(ec2Service, "CreateSecurityGroup", (*Call).createSecurityGroup)
	on(ec2Service, "DeleteSecurityGroup", (*Call).deleteSecurityGroup)
	on(ec2Service, "DescribeSecurityGroups", (*Call).describeSecurityGroups)
	on(ec2Service, "AuthorizeSecurityGroupIngress", (*Call).authorizeIngress)
}
