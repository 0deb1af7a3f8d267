package awstest

import (
	"testing"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/ec2"
	"github.com/aws/aws-sdk-go-v2/service/ec2/types"
	"github.com/stretchr/testify/require"
)

func by(name string, values ...string) []types.Filter {
	return []types.Filter{{Name: &name, Values: values}}
}

func TestARegionHasADefaultVPC(t *testing.T) {
	t.Parallel()
	s := clients(t, New(t, Options{}), "eu-west-1")
	ctx := t.Context()
	vpcs := must(s.ec2.DescribeVpcs(ctx, &ec2.DescribeVpcsInput{Filters: by("is-default", "true")}))(t)
	require.Len(t, vpcs.Vpcs, 1)
	vpc := *vpcs.Vpcs[0].VpcId
	subnets := must(s.ec2.DescribeSubnets(ctx, &ec2.DescribeSubnetsInput{Filters: by("vpc-id", vpc)}))(t)
	zones := map[string]string{}
	for _, n := range subnets.Subnets {
		zones[*n.AvailabilityZone] = *n.CidrBlock
		require.Equal(t, int32(4091), *n.AvailableIpAddressCount)
	}
	require.Equal(t, map[string]string{"eu-west-1a": "172.31.0.0/20", "eu-west-1b": "172.31.16.0/20", "eu-west-1c": "172.31.32.0/20"}, zones)
	gateways := must(s.ec2.DescribeInternetGateways(ctx, &ec2.DescribeInternetGatewaysInput{Filters: by("attachment.vpc-id", vpc)}))(t)
	require.Len(t, gateways.InternetGateways, 1)
	tables := must(s.ec2.DescribeRouteTables(ctx, &ec2.DescribeRouteTablesInput{Filters: by("vpc-id", vpc)}))(t)
	require.Len(t, tables.RouteTables[0].Routes, 2)
	require.Equal(t, *gateways.InternetGateways[0].InternetGatewayId, *tables.RouteTables[0].Routes[1].GatewayId)

	other := must(clients(t, s.c, "us-east-1").ec2.DescribeVpcs(ctx, &ec2.DescribeVpcsInput{}))(t)
	require.NotEqual(t, vpc, *other.Vpcs[0].VpcId, "each region has its own")
}

func TestACreatedVPCIsIsolatedUntilItHasAGateway(t *testing.T) {
	t.Parallel()
	c := New(t, Options{})
	s := clients(t, c, "eu-west-1")
	ctx := t.Context()
	v := must(s.ec2.CreateVpc(ctx, &ec2.CreateVpcInput{CidrBlock: aws.String("10.0.0.0/16")}))(t).Vpc
	require.Equal(t, types.VpcStatePending, v.State)
	until(t, "it is available", func() bool {
		out := must(s.ec2.DescribeVpcs(ctx, &ec2.DescribeVpcsInput{VpcIds: []string{*v.VpcId}, Filters: by("state", "available")}))(t)
		return len(out.Vpcs) == 1
	})
	routes := func() int {
		return len(must(s.ec2.DescribeRouteTables(ctx, &ec2.DescribeRouteTablesInput{Filters: by("vpc-id", *v.VpcId)}))(t).RouteTables[0].Routes)
	}
	require.Equal(t, 1, routes())
	require.NoError(t, c.AttachInternetGateway("111111111111", "eu-west-1", *v.VpcId))
	require.Equal(t, 2, routes())
	require.Error(t, c.AttachInternetGateway("111111111111", "eu-west-1", "vpc-1"))
}

func TestSubnetsAreWithinTheirVPCAndApart(t *testing.T) {
	t.Parallel()
	s := clients(t, New(t, Options{PageSize: 2}), "eu-west-1")
	ctx := t.Context()
	v := must(s.ec2.CreateVpc(ctx, &ec2.CreateVpcInput{CidrBlock: aws.String("127.9.0.0/16")}))(t).Vpc
	create := func(cidr, zone string) (*ec2.CreateSubnetOutput, error) {
		in := &ec2.CreateSubnetInput{VpcId: v.VpcId, CidrBlock: &cidr, TagSpecifications: []types.TagSpecification{tagsFor(types.ResourceTypeSubnet, "Name", cidr)}}
		if zone != "" {
			in.AvailabilityZone = &zone
		}
		return s.ec2.CreateSubnet(ctx, in)
	}
	first := must(create("127.9.1.0/24", "eu-west-1b"))(t).Subnet
	require.Equal(t, []any{"eu-west-1b", "euw1-az2", int32(251)}, []any{*first.AvailabilityZone, *first.AvailabilityZoneId, *first.AvailableIpAddressCount})
	must(create("127.9.2.0/28", ""))(t)
	for cidr, code := range map[string]string{
		"127.9.1.128/25": "InvalidSubnet.Conflict", "127.9.0.0/16": "InvalidSubnet.Conflict", "127.10.1.0/24": "InvalidSubnet.Range",
		"127.9.3.0/29": "InvalidSubnet.Range", "127.9.3.0": "InvalidParameterValue",
	} {
		_, err := create(cidr, "")
		wantCode(t, err, code)
	}
	_, err := create("127.9.3.0/24", "eu-west-1x")
	wantCode(t, err, "InvalidParameterValue")

	var names []string
	pages := ec2.NewDescribeSubnetsPaginator(s.ec2, &ec2.DescribeSubnetsInput{})
	for pages.HasMorePages() {
		out := must(pages.NextPage(ctx))(t)
		require.LessOrEqual(t, len(out.Subnets), 2)
		for _, n := range out.Subnets {
			names = append(names, *n.CidrBlock)
		}
	}
	require.Len(t, names, 5)
	named := must(s.ec2.DescribeSubnets(ctx, &ec2.DescribeSubnetsInput{Filters: by("tag:Name", "127.9.1.*")}))(t)
	require.Len(t, named.Subnets, 1)
	_, err = s.ec2.DescribeSubnets(ctx, &ec2.DescribeSubnetsInput{Filters: by("color", "red")})
	wantCode(t, err, "InvalidParameterValue")
	_, err = s.ec2.DescribeSubnets(ctx, &ec2.DescribeSubnetsInput{SubnetIds: []string{"subnet-1"}})
	wantCode(t, err, "InvalidSubnetID.NotFound")
}

func TestNothingIsDeletedThatSomethingDependsOn(t *testing.T) {
	t.Parallel()
	s := clients(t, New(t, Options{}), "eu-west-1")
	ctx := t.Context()
	subnet := s.subnetOf("10.0.0.0/16", "10.0.1.0/24")
	vpc := must(s.ec2.DescribeSubnets(ctx, &ec2.DescribeSubnetsInput{SubnetIds: []string{subnet}}))(t).Subnets[0].VpcId
	group := must(s.ec2.CreateSecurityGroup(ctx, &ec2.CreateSecurityGroupInput{VpcId: vpc, GroupName: aws.String("web"), Description: aws.String("web")}))(t).GroupId
	_, err := s.ec2.CreateSecurityGroup(ctx, &ec2.CreateSecurityGroupInput{VpcId: vpc, GroupName: aws.String("web"), Description: aws.String("web")})
	wantCode(t, err, "InvalidGroup.Duplicate")
	must(s.ec2.AuthorizeSecurityGroupIngress(ctx, &ec2.AuthorizeSecurityGroupIngressInput{GroupId: group, IpPermissions: []types.IpPermission{
		{IpProtocol: aws.String("tcp"), FromPort: aws.Int32(80), ToPort: aws.Int32(80), IpRanges: []types.IpRange{{CidrIp: aws.String("0.0.0.0/0")}}},
	}}))(t)
	groups := must(s.ec2.DescribeSecurityGroups(ctx, &ec2.DescribeSecurityGroupsInput{Filters: by("group-name", "web")}))(t)
	require.Equal(t, int32(80), *groups.SecurityGroups[0].IpPermissions[0].FromPort)

	token := aws.String("eni-1")
	make := &ec2.CreateNetworkInterfaceInput{SubnetId: &subnet, PrivateIpAddress: aws.String("10.0.1.9"), Groups: []string{*group}, ClientToken: token}
	eni := must(s.ec2.CreateNetworkInterface(ctx, make))(t).NetworkInterface.NetworkInterfaceId
	require.Equal(t, *eni, *must(s.ec2.CreateNetworkInterface(ctx, make))(t).NetworkInterface.NetworkInterfaceId)
	_, err = s.ec2.CreateNetworkInterface(ctx, &ec2.CreateNetworkInterfaceInput{SubnetId: &subnet, PrivateIpAddress: aws.String("10.0.1.9")})
	wantCode(t, err, "InvalidIPAddress.InUse")
	found := must(s.ec2.DescribeNetworkInterfaces(ctx, &ec2.DescribeNetworkInterfacesInput{Filters: append(by("subnet-id", subnet), by("addresses.private-ip-address", "10.0.1.9")...)}))(t)
	require.Equal(t, *eni, *found.NetworkInterfaces[0].NetworkInterfaceId)

	refuse := func(err error) { t.Helper(); wantCode(t, err, "DependencyViolation") }
	_, err = s.ec2.DeleteSecurityGroup(ctx, &ec2.DeleteSecurityGroupInput{GroupId: group})
	refuse(err)
	_, err = s.ec2.DeleteSubnet(ctx, &ec2.DeleteSubnetInput{SubnetId: &subnet})
	refuse(err)
	_, err = s.ec2.DeleteVpc(ctx, &ec2.DeleteVpcInput{VpcId: vpc})
	refuse(err)
	must(s.ec2.DeleteNetworkInterface(ctx, &ec2.DeleteNetworkInterfaceInput{NetworkInterfaceId: eni}))(t)
	must(s.ec2.DeleteSecurityGroup(ctx, &ec2.DeleteSecurityGroupInput{GroupId: group}))(t)
	must(s.ec2.DeleteSubnet(ctx, &ec2.DeleteSubnetInput{SubnetId: &subnet}))(t)
	must(s.ec2.DeleteVpc(ctx, &ec2.DeleteVpcInput{VpcId: vpc}))(t)
	_, err = s.ec2.DescribeVpcs(ctx, &ec2.DescribeVpcsInput{VpcIds: []string{*vpc}})
	wantCode(t, err, "InvalidVpcID.NotFound")
}

func TestAnInstanceMayBeLaunchedWithAnInterfaceThatIsThere(t *testing.T) {
	t.Parallel()
	s := clients(t, New(t, Options{}), "eu-west-1")
	ctx := t.Context()
	subnet := s.subnetOf("10.0.0.0/16", "10.0.1.0/24")
	eni := must(s.ec2.CreateNetworkInterface(ctx, &ec2.CreateNetworkInterfaceInput{SubnetId: &subnet}))(t).NetworkInterface
	in := launchInput(s.image("web", "root"), subnet)
	in.SubnetId, in.NetworkInterfaces = nil, []types.InstanceNetworkInterfaceSpecification{{DeviceIndex: aws.Int32(0), NetworkInterfaceId: eni.NetworkInterfaceId}}
	i := s.run(in)
	require.Equal(t, *eni.PrivateIpAddress, *i.PrivateIpAddress)
	in.ClientToken = nil // the SDK fills in a random one, and leaves it there
	_, err := s.ec2.RunInstances(ctx, in)
	wantCode(t, err, "InvalidNetworkInterface.InUse")
	_, err = s.ec2.DeleteNetworkInterface(ctx, &ec2.DeleteNetworkInterfaceInput{NetworkInterfaceId: eni.NetworkInterfaceId})
	wantCode(t, err, "InvalidNetworkInterface.InUse")
	must(s.ec2.TerminateInstances(ctx, &ec2.TerminateInstancesInput{InstanceIds: []string{*i.InstanceId}}))(t)
	s.instanceIs(*i.InstanceId, types.InstanceStateNameTerminated)
	left := must(s.ec2.DescribeNetworkInterfaces(ctx, &ec2.DescribeNetworkInterfacesInput{}))(t)
	require.Len(t, left.NetworkInterfaces, 1, "it was there before, and stays")
	require.Equal(t, types.NetworkInterfaceStatusAvailable, left.NetworkInterfaces[0].Status)
}

func TestPlaces(t *testing.T) {
	t.Parallel()
	c := New(t, Options{})
	s := clients(t, c, "ap-southeast-2")
	ctx := t.Context()
	zones := must(s.ec2.DescribeAvailabilityZones(ctx, &ec2.DescribeAvailabilityZonesInput{Filters: by("state", "available")}))(t)
	require.Len(t, zones.AvailabilityZones, 3)
	require.Equal(t, "apse2-az1", *zones.AvailabilityZones[0].ZoneId)
	regions := must(s.ec2.DescribeRegions(ctx, &ec2.DescribeRegionsInput{RegionNames: []string{"eu-west-1"}}))(t)
	require.Equal(t, "ec2.eu-west-1.amazonaws.com", *regions.Regions[0].Endpoint)
	_, err := s.ec2.DescribeRegions(ctx, &ec2.DescribeRegionsInput{RegionNames: []string{"mars-1"}})
	wantCode(t, err, "InvalidParameterValue")
	c.AddKeyPair("111111111111", "ap-southeast-2", "ops")
	keys := must(s.ec2.DescribeKeyPairs(ctx, &ec2.DescribeKeyPairsInput{KeyNames: []string{"ops"}}))(t)
	require.Len(t, keys.KeyPairs, 1)
	_, err = s.ec2.DescribeKeyPairs(ctx, &ec2.DescribeKeyPairsInput{KeyNames: []string{"lost"}})
	wantCode(t, err, "InvalidKeyPair.NotFound")
}
