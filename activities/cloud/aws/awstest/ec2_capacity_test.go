package awstest

import (
	"testing"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/ec2"
	"github.com/aws/aws-sdk-go-v2/service/ec2/types"
	"github.com/stretchr/testify/require"
)

func TestInstanceTypesAreListedInPages(t *testing.T) {
	t.Parallel()
	s := clients(t, New(t, Options{PageSize: 5}), "eu-west-1")
	pages := ec2.NewDescribeInstanceTypesPaginator(s.ec2, &ec2.DescribeInstanceTypesInput{Filters: by("processor-info.supported-architecture", "x86_64")})
	sizes := map[types.InstanceType][2]int64{}
	for pages.HasMorePages() {
		out := must(pages.NextPage(t.Context()))(t)
		require.LessOrEqual(t, len(out.InstanceTypes), 5)
		for _, x := range out.InstanceTypes {
			sizes[x.InstanceType] = [2]int64{int64(*x.VCpuInfo.DefaultVCpus), *x.MemoryInfo.SizeInMiB}
		}
	}
	require.Len(t, sizes, 16)
	require.Equal(t, [2]int64{4, 16384}, sizes[types.InstanceTypeM6iXlarge])
	require.Equal(t, [2]int64{2, 4096}, sizes[types.InstanceTypeT3Medium])
	_, err := s.ec2.DescribeInstanceTypes(t.Context(), &ec2.DescribeInstanceTypesInput{InstanceTypes: []types.InstanceType{"x9.nano"}})
	wantCode(t, err, "InvalidInstanceType")
}

func TestATypeIsNotOfferedInEveryZone(t *testing.T) {
	t.Parallel()
	c := New(t, Options{})
	s := clients(t, c, "eu-west-1")
	offers := must(s.ec2.DescribeInstanceTypeOfferings(t.Context(), &ec2.DescribeInstanceTypeOfferingsInput{LocationType: types.LocationTypeAvailabilityZone, Filters: by("instance-type", "m7g.large")}))(t)
	var zones []string
	for _, o := range offers.InstanceTypeOfferings {
		zones = append(zones, *o.Location)
	}
	require.Equal(t, []string{"eu-west-1a", "eu-west-1b"}, zones)
	region := must(s.ec2.DescribeInstanceTypeOfferings(t.Context(), &ec2.DescribeInstanceTypeOfferingsInput{Filters: by("location", "eu-west-1")}))(t)
	require.Len(t, region.InstanceTypeOfferings, len(instanceTypes))

	_, err := s.ec2.CreateCapacityReservation(t.Context(), &ec2.CreateCapacityReservationInput{
		InstanceType: aws.String("m7g.large"), AvailabilityZone: aws.String("eu-west-1c"), InstanceCount: aws.Int32(1), InstancePlatform: types.CapacityReservationInstancePlatformLinuxUnix,
	})
	wantCode(t, err, "Unsupported")
}

func TestACapacityReservationKeepsRoom(t *testing.T) {
	t.Parallel()
	s := clients(t, New(t, Options{Quotas: map[string]int{"capacity:t3.micro:eu-west-1a": 2}}), "eu-west-1")
	ctx := t.Context()
	image, subnet := s.image("web", "root"), s.subnetOf("10.0.0.0/16", "10.0.1.0/24")
	reserve := func(n int32) (*ec2.CreateCapacityReservationOutput, error) {
		return s.ec2.CreateCapacityReservation(ctx, &ec2.CreateCapacityReservationInput{
			InstanceType: aws.String("t3.micro"), AvailabilityZone: aws.String("eu-west-1a"), InstanceCount: &n, InstancePlatform: types.CapacityReservationInstancePlatformLinuxUnix,
			InstanceMatchCriteria: types.InstanceMatchCriteriaTargeted, ClientToken: aws.String("room"),
		})
	}
	r := must(reserve(1))(t).CapacityReservation
	require.Equal(t, *r.CapacityReservationId, *must(reserve(1))(t).CapacityReservation.CapacityReservationId)
	_, err := reserve(2)
	wantCode(t, err, "IdempotentParameterMismatch")

	s.run(launchInput(image, subnet))
	_, err = s.ec2.RunInstances(ctx, launchInput(image, subnet))
	wantCode(t, err, "InsufficientInstanceCapacity")
	in := launchInput(image, subnet)
	in.CapacityReservationSpecification = &types.CapacityReservationSpecification{CapacityReservationTarget: &types.CapacityReservationTarget{CapacityReservationId: r.CapacityReservationId}}
	i := s.run(in)
	require.Equal(t, *r.CapacityReservationId, *i.CapacityReservationId)
	available := func() int32 {
		out := must(s.ec2.DescribeCapacityReservations(ctx, &ec2.DescribeCapacityReservationsInput{Filters: by("state", "active")}))(t)
		require.Len(t, out.CapacityReservations, 1)
		return *out.CapacityReservations[0].AvailableInstanceCount
	}
	require.Zero(t, available())
	in.ClientToken = nil // the SDK fills in a random one, and leaves it there
	_, err = s.ec2.RunInstances(ctx, in)
	wantCode(t, err, "ReservationCapacityExceeded")
	must(s.ec2.StopInstances(ctx, &ec2.StopInstancesInput{InstanceIds: []string{*i.InstanceId}}))(t)
	s.instanceIs(*i.InstanceId, types.InstanceStateNameStopped)
	require.Equal(t, int32(1), available(), "it stays reserved for the stopped one")
	must(s.ec2.StartInstances(ctx, &ec2.StartInstancesInput{InstanceIds: []string{*i.InstanceId}}))(t)
	s.instanceIs(*i.InstanceId, types.InstanceStateNameRunning)
	must(s.ec2.CancelCapacityReservation(ctx, &ec2.CancelCapacityReservationInput{CapacityReservationId: r.CapacityReservationId}))(t)
	_, err = s.ec2.CancelCapacityReservation(ctx, &ec2.CancelCapacityReservationInput{CapacityReservationId: r.CapacityReservationId})
	wantCode(t, err, "InvalidCapacityReservationState")
}

func TestAccountAttributesNameTheDefaultVPC(t *testing.T) {
	t.Parallel()
	s := clients(t, New(t, Options{Quotas: map[string]int{"addresses": 9}}), "eu-west-1")
	out := must(s.ec2.DescribeAccountAttributes(t.Context(), &ec2.DescribeAccountAttributesInput{}))(t)
	got := map[string]string{}
	for _, a := range out.AccountAttributes {
		got[*a.AttributeName] = *a.AttributeValues[0].AttributeValue
	}
	require.Equal(t, "9", got["vpc-max-elastic-ips"])
	require.Contains(t, got["default-vpc"], "vpc-")
}

func TestElasticIPsAreLimitedFoundAndReleased(t *testing.T) {
	t.Parallel()
	s := clients(t, New(t, Options{}), "eu-west-1")
	ctx := t.Context()
	var first *ec2.AllocateAddressOutput
	for range 5 {
		first = must(s.ec2.AllocateAddress(ctx, &ec2.AllocateAddressInput{TagSpecifications: []types.TagSpecification{tagsFor(types.ResourceTypeElasticIp, "Name", "web")}}))(t)
	}
	_, err := s.ec2.AllocateAddress(ctx, &ec2.AllocateAddressInput{})
	wantCode(t, err, "AddressLimitExceeded")
	i := s.run(launchInput(s.image("web", "root"), s.subnetOf("10.0.0.0/16", "10.0.1.0/24")))
	linked := must(s.ec2.AssociateAddress(ctx, &ec2.AssociateAddressInput{PublicIp: first.PublicIp, InstanceId: i.InstanceId}))(t)
	found := must(s.ec2.DescribeAddresses(ctx, &ec2.DescribeAddressesInput{Filters: append(by("tag:Name", "web"), by("instance-id", *i.InstanceId)...)}))(t)
	require.Len(t, found.Addresses, 1)
	require.Equal(t, []string{*first.AllocationId, *linked.AssociationId, *i.PrivateIpAddress}, []string{*found.Addresses[0].AllocationId, *found.Addresses[0].AssociationId, *found.Addresses[0].PrivateIpAddress})
	eni := must(s.ec2.DescribeNetworkInterfaces(ctx, &ec2.DescribeNetworkInterfacesInput{Filters: append(by("attachment.instance-id", *i.InstanceId), by("association.public-ip", *first.PublicIp)...)}))(t)
	require.Len(t, eni.NetworkInterfaces, 1)

	// Another address of the same instance takes the place of the first.
	others := must(s.ec2.DescribeAddresses(ctx, &ec2.DescribeAddressesInput{}))(t).Addresses
	other := others[0].AllocationId
	must(s.ec2.AssociateAddress(ctx, &ec2.AssociateAddressInput{AllocationId: other, InstanceId: i.InstanceId}))(t)
	again := must(s.ec2.DescribeAddresses(ctx, &ec2.DescribeAddressesInput{Filters: by("instance-id", *i.InstanceId)}))(t)
	require.Len(t, again.Addresses, 1)
	require.Equal(t, *other, *again.Addresses[0].AllocationId)
	must(s.ec2.DisassociateAddress(ctx, &ec2.DisassociateAddressInput{AssociationId: again.Addresses[0].AssociationId}))(t)
	_, err = s.ec2.DisassociateAddress(ctx, &ec2.DisassociateAddressInput{AssociationId: again.Addresses[0].AssociationId})
	wantCode(t, err, "InvalidAssociationID.NotFound")
	must(s.ec2.ReleaseAddress(ctx, &ec2.ReleaseAddressInput{AllocationId: other}))(t)
	_, err = s.ec2.DescribeAddresses(ctx, &ec2.DescribeAddressesInput{AllocationIds: []string{*other}})
	wantCode(t, err, "InvalidAllocationID.NotFound")
}
