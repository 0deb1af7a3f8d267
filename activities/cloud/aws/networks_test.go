package aws

import (
	"fmt"
	"net/netip"
	"strings"
	"testing"

	awssdk "github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/ec2"
	"github.com/aws/aws-sdk-go-v2/service/ec2/types"
	"github.com/stretchr/testify/require"

	"lifeboat/activities/cloud"
	"lifeboat/activities/cloud/aws/awstest"
)

func newNetwork(t *testing.T, p *Provider, token, name, cidr string) cloud.Network {
	t.Helper()
	n, err := p.StartCreateNetwork(t.Context(), cloud.CreateNetwork{Create: cloud.Create{Token: token, Name: name}, CIDR: cidr})
	require.NoError(t, err)
	return n
}

func TestNetworksAreSubnetsOfTheSitesVPCAndZone(t *testing.T) {
	t.Parallel()
	d := doubleOf(t, awstest.Options{PageSize: 2})
	site := d.site("home")
	p := d.provider(site, d.options())
	made := newNetwork(t, p, "one", "app", d.ip(0, 0)+"/24")
	require.Equal(t, site.Zone, made.Zone)
	require.Equal(t, 251, made.Free, "AWS keeps five of 256")
	inB, inDefault := site, site
	inB.Zone, inDefault.VPC = site.Region+"b", ""
	other := d.provider(inB, d.options())
	b := newNetwork(t, other, "two", "app", d.ip(1, 0)+"/24")
	for _, id := range []string{"app", b.ID} {
		got, err := other.Network(t.Context(), id)
		require.NoError(t, err)
		require.Equal(t, b.ID, got.ID, "one name in two zones is two networks")
	}
	_, err := p.Network(t.Context(), b.ID)
	require.Equal(t, cloud.NotFound, cloud.CodeOf(err))
	whole := site
	whole.Zone = ""
	_, err = d.provider(whole, d.options()).Network(t.Context(), "app")
	require.Equal(t, cloud.InvalidInput, cloud.CodeOf(err), "which of them is meant is not known")
	list, err := d.provider(whole, d.options()).Networks(t.Context(), cloud.Filter{})
	require.NoError(t, err)
	require.Len(t, list, 2)
	list, err = d.provider(inDefault, d.options()).Networks(t.Context(), cloud.Filter{})
	require.NoError(t, err)
	require.Len(t, list, 1, "the default VPC has one subnet in each zone")

	for name, in := range map[string]cloud.CreateNetwork{
		"overlaps": {CIDR: d.ip(0, 0) + "/25"}, "outside of the VPC": {CIDR: "10.0.0.0/24"}, "too large": {CIDR: "10.0.0.0/8"}, "bits behind the prefix": {CIDR: d.ip(2, 1) + "/24"},
		"another zone": {CIDR: d.ip(2, 0) + "/24", Zone: inB.Zone}, "none": {CIDR: "x"},
	} {
		in.Create = cloud.Create{Token: "bad " + name}
		_, err := p.StartCreateNetwork(t.Context(), in)
		require.Equal(t, cloud.InvalidInput, cloud.CodeOf(err), name)
	}
	_, err = p.StartCreateNetwork(t.Context(), cloud.CreateNetwork{Create: cloud.Create{Token: "three", Name: "app"}, CIDR: d.ip(2, 0) + "/24"})
	require.Equal(t, cloud.InvalidInput, cloud.CodeOf(err), "the name is taken")
}

func TestASubnetIsIsolatedOnlyAloneInAVPCWithoutWayOut(t *testing.T) {
	t.Parallel()
	d := doubleOf(t, awstest.Options{})
	p := d.open("home").(*Provider)
	open := newNetwork(t, p, "open", "open", d.ip(0, 0)+"/24")
	require.False(t, open.Isolated)
	require.Contains(t, open.Note, "igw-")
	out, err := p.ec2().CreateVpc(t.Context(), &ec2.CreateVpcInput{CidrBlock: awssdk.String(d.ip(0, 0) + "/22")})
	require.NoError(t, err)
	site := d.site("home")
	site.VPC = awssdk.ToString(out.Vpc.VpcId)
	drill := d.provider(site, d.options())
	alone := newNetwork(t, drill, "alone", "app", d.ip(0, 0)+"/24")
	require.True(t, alone.Isolated, alone.Note)
	require.Empty(t, alone.Note)
	require.Equal(t, open.CIDR, alone.CIDR, "a VPC of its own may have the same addresses")
	newNetwork(t, drill, "neighbour", "neighbour", d.ip(1, 0)+"/24")
	alone, err = drill.Network(t.Context(), alone.ID)
	require.NoError(t, err)
	require.False(t, alone.Isolated)
	require.Contains(t, alone.Note, "subnets")
	d.cloud.Deny("", "ec2:DescribeRouteTables")
	alone, err = drill.Network(t.Context(), alone.ID)
	require.NoError(t, err)
	require.False(t, alone.Isolated, "what is not known is not isolated")
	require.Contains(t, alone.Note, "not known")
}

func TestRoutesThatLeadOutOfASubnet(t *testing.T) {
	t.Parallel()
	text := awssdk.String
	main := func(routes ...types.Route) types.RouteTable {
		return types.RouteTable{RouteTableId: text("rtb-main"), Routes: routes, Associations: []types.RouteTableAssociation{{Main: awssdk.Bool(true)}}}
	}
	own := func(routes ...types.Route) types.RouteTable {
		return types.RouteTable{RouteTableId: text("rtb-own"), Routes: routes, Associations: []types.RouteTableAssociation{{SubnetId: text("subnet-1")}}}
	}
	local := types.Route{DestinationCidrBlock: text("10.0.0.0/16"), GatewayId: text("local"), State: types.RouteStateActive}
	out := types.Route{DestinationCidrBlock: text("0.0.0.0/0"), GatewayId: text("igw-1"), State: types.RouteStateActive}
	for _, c := range []struct {
		name   string
		tables []types.RouteTable
		want   string
	}{
		{"only local", []types.RouteTable{main(local)}, ""},
		{"the main table counts where no other does", []types.RouteTable{main(local, out)}, "igw-1"},
		{"a table of one's own counts instead", []types.RouteTable{main(local, out), own(local)}, ""},
		{"of another subnet it does not", []types.RouteTable{main(local), {Associations: []types.RouteTableAssociation{{SubnetId: text("subnet-2")}}, Routes: []types.Route{out}}}, ""},
		{"a gateway endpoint is no way", []types.RouteTable{main(local, types.Route{DestinationPrefixListId: text("pl-1"), GatewayId: text("vpce-1")})}, ""},
		{"a black hole is none", []types.RouteTable{main(types.Route{DestinationCidrBlock: text("0.0.0.0/0"), NatGatewayId: text("nat-1"), State: types.RouteStateBlackhole})}, ""},
		{"peering", []types.RouteTable{main(types.Route{DestinationCidrBlock: text("10.9.0.0/16"), VpcPeeringConnectionId: text("pcx-1")})}, "pcx-1"},
		{"transit", []types.RouteTable{own(types.Route{DestinationCidrBlock: text("10.0.0.0/8"), TransitGatewayId: text("tgw-1")})}, "tgw-1"},
		{"no table", nil, "not found"},
	} {
		got := wayOut(c.tables, "subnet-1")
		require.Equal(t, c.want == "", got == "", "%s: %s", c.name, got)
		require.Contains(t, got, c.want, c.name)
	}
}

func TestAddressesThatAWSKeepsAreNoAddressesOfServers(t *testing.T) {
	t.Parallel()
	d := doubleOf(t, awstest.Options{})
	p := d.open("home").(*Provider)
	n := newNetwork(t, p, "token", "app", d.ip(0, 0)+"/24")
	for last, want := range map[int32]cloud.Code{0: cloud.InvalidInput, 1: cloud.InvalidInput, 2: cloud.InvalidInput, 3: cloud.InvalidInput, 255: cloud.InvalidInput, 4: "", 254: ""} {
		require.Equal(t, want, cloud.CodeOf(p.CheckAddress(t.Context(), n.ID, d.ip(0, last))), last)
	}
	_, err := p.ec2().CreateNetworkInterface(t.Context(), &ec2.CreateNetworkInterfaceInput{SubnetId: &n.ID, PrivateIpAddress: awssdk.String(d.ip(0, 9))})
	require.NoError(t, err)
	err = p.CheckAddress(t.Context(), "app", d.ip(0, 9))
	require.Equal(t, cloud.AddressTaken, cloud.CodeOf(err))
	require.ErrorContains(t, err, "eni-")
	require.Equal(t, cloud.InUse, cloud.CodeOf(p.DeleteNetwork(t.Context(), n.ID)))
	require.True(t, reservedByAWS(netip.MustParsePrefix("10.0.0.16/28"), netip.MustParseAddr("10.0.0.31")))
	require.False(t, reservedByAWS(netip.MustParsePrefix("10.0.0.16/28"), netip.MustParseAddr("10.0.0.30")))
}

func TestDialReachesAddressesOfTheNetworkAlone(t *testing.T) {
	t.Parallel()
	d := doubleOf(t, awstest.Options{})
	p := d.open("home").(*Provider)
	n := newNetwork(t, p, "token", "app", d.ip(0, 0)+"/24")
	for hostport, want := range map[string]cloud.Code{"nothing": cloud.InvalidInput, d.ip(1, 4) + ":80": cloud.InvalidInput, d.ip(0, 4) + ":9": cloud.Unavailable} {
		_, err := p.Dial(t.Context(), n.ID, hostport)
		require.Equal(t, want, cloud.CodeOf(err), hostport)
	}
	_, err := p.Dial(t.Context(), "missing", d.ip(0, 4)+":80")
	require.Equal(t, cloud.NotFound, cloud.CodeOf(err))
}

func TestASubnetWhoseAnswerWasLostIsFoundAgain(t *testing.T) {
	t.Parallel()
	d := doubleOf(t, awstest.Options{})
	d.cloud.Inject(awstest.Rule{Service: "ec2", Operation: "CreateSubnet", Times: 1, Drop: true, After: true})
	in := cloud.CreateNetwork{Create: cloud.Create{Token: "token", Name: "app"}, CIDR: d.ip(0, 0) + "/24"}
	_, err := d.open("home").(*Provider).StartCreateNetwork(t.Context(), in)
	require.Equal(t, cloud.Unavailable, cloud.CodeOf(err))
	in.Repeat = true
	p := d.open("home").(*Provider)
	_, err = p.StartCreateNetwork(t.Context(), in)
	require.NoError(t, err)
	list, err := p.Networks(t.Context(), cloud.Filter{})
	require.NoError(t, err)
	require.Len(t, list, 1)
	require.NoError(t, p.DeleteNetwork(t.Context(), list[0].ID))
}

func TestAddressesStayWithinTheirRules(t *testing.T) {
	t.Parallel()
	d := doubleOf(t, awstest.Options{})
	p := d.open("home").(*Provider)
	var ids []string
	for i := range 5 {
		a, err := p.AllocateAddress(t.Context(), cloud.Create{Token: fmt.Sprint("token-", i), Name: fmt.Sprint("address-", i)})
		require.NoError(t, err)
		require.True(t, strings.HasPrefix(a.ID, "eipalloc-"))
		ids = append(ids, a.ID)
	}
	_, err := p.AllocateAddress(t.Context(), cloud.Create{Token: "sixth"})
	require.Equal(t, cloud.Quota, cloud.CodeOf(err))
	require.NoError(t, p.ReleaseAddress(t.Context(), ids[4]))
	_, err = p.AllocateAddress(t.Context(), cloud.Create{Token: "again", Name: "address-0"})
	require.Equal(t, cloud.InvalidInput, cloud.CodeOf(err), "the name is taken")
	limits, err := p.Limits(t.Context(), cloud.KindAddress)
	require.NoError(t, err)
	require.Equal(t, []cloud.Limit{{Name: "Elastic IP addresses", Value: 5, Used: 4, Adjustable: true}}, limits)
	d.cloud.Inject(awstest.Rule{Service: "ec2", Operation: "AllocateAddress", Times: 1, Drop: true, After: true})
	_, err = p.AllocateAddress(t.Context(), cloud.Create{Token: "lost", Name: "lost"})
	require.Error(t, err)
	a, err := d.open("home").(*Provider).AllocateAddress(t.Context(), cloud.Create{Token: "lost", Name: "lost", Repeat: true})
	require.NoError(t, err)
	all, err := p.Addresses(t.Context(), cloud.Filter{})
	require.NoError(t, err)
	require.Len(t, all, 5)
	require.NoError(t, p.ReleaseAddress(t.Context(), a.ID))
}

func TestAServerWithSeveralInterfacesGetsAnAddressOnItsFirst(t *testing.T) {
	t.Parallel()
	d := doubleOf(t, likeReal)
	p := d.open("home").(*Provider)
	server := scriptServer(t, d, p)
	a, err := p.AllocateAddress(t.Context(), cloud.Create{Token: "address", Name: "service"})
	require.NoError(t, err)
	becomes(t, "that the address is listed", func() (bool, error) { _, err := p.Address(t.Context(), a.ID); return err == nil, err })
	d.cloud.Inject(awstest.Rule{Service: "ec2", Operation: "AssociateAddress", Times: 1,
		Error: &awstest.Error{Code: "InvalidInstanceID", Message: "There are multiple interfaces attached to instance. Please specify an interface ID for the operation instead."}})
	require.NoError(t, p.AssociateAddress(t.Context(), a.ID, server.ID, false))
	got, err := p.Address(t.Context(), a.ID)
	require.NoError(t, err)
	require.Equal(t, server.ID, got.Server)
	// AWS would take the address of a default VPC back without asking.
	require.Equal(t, cloud.InUse, cloud.CodeOf(p.ReleaseAddress(t.Context(), a.ID)))
	require.NoError(t, p.StopServer(t.Context(), server.ID, true))
	require.NoError(t, p.TerminateServer(t.Context(), server.ID))
}
