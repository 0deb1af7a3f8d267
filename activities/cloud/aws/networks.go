package aws

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"slices"
	"strings"
	"sync"
	"syscall"

	awssdk "github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/ec2"
	"github.com/aws/aws-sdk-go-v2/service/ec2/types"

	"lifeboat/activities/cloud"
)

// A network of the contract is a subnet of the site's VPC, in the site's zone when it has one. What AWS isolates
// is the VPC: subnets of one VPC always reach each other, and no two of them can have the same addresses. For drills
// that keep the private addresses of the servers, give the plan a drill site with a VPC of its own.

// vpcMemory is the default VPC of the region, once it is known.
type vpcMemory struct {
	mu sync.Mutex
	id string
}

// vpc is the VPC of the site: its own, or the default one of the region.
func (p *Provider) vpc(ctx context.Context, op string) (string, error) {
	if p.site.VPC != "" {
		return p.site.VPC, nil
	}
	m := &p.remembered.vpc
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.id != "" {
		return m.id, nil
	}
	out, err := p.ec2().DescribeVpcs(ctx, &ec2.DescribeVpcsInput{Filters: []types.Filter{filter("is-default", "true")}})
	if err != nil {
		return "", awsError(op, "site "+p.site.Name, err)
	}
	if len(out.Vpcs) == 0 {
		return "", invalid(op, "site "+p.site.Name, "region "+p.site.Region+" has no default VPC", "name a VPC in the plan's site")
	}
	m.id = awssdk.ToString(out.Vpcs[0].VpcId)
	return m.id, nil
}

// StartCreateNetwork makes a subnet. CreateSubnet has no client token, so it is looked for by its tag first; two
// processes at once are stopped by AWS, since their ranges overlap.
func (p *Provider) StartCreateNetwork(ctx context.Context, in cloud.CreateNetwork) (cloud.Network, error) {
	const op = "StartCreateNetwork"
	resource := "network " + in.Name
	if prefix, err := netip.ParsePrefix(in.CIDR); err != nil || !prefix.Addr().Is4() || prefix.Masked() != prefix {
		return cloud.Network{}, invalid(op, resource, "the CIDR "+in.CIDR+" is not an IPv4 network", "write it like 10.20.0.0/24")
	}
	zone := cmp.Or(in.Zone, p.site.Zone)
	if p.site.Zone != "" && zone != p.site.Zone {
		return cloud.Network{}, invalid(op, resource, "zone "+zone+" is not that of site "+p.site.Name, "leave it out")
	}
	vpc, err := p.vpc(ctx, op)
	if err != nil {
		return cloud.Network{}, err
	}
	find := func(ctx context.Context) ([]types.Subnet, error) { return p.subnets(ctx, op, tokenFilter(in.Token)) }
	made, err := makeOnce(ctx, p, lookup[types.Subnet]{op: op, kind: cloud.KindNetwork, in: in.Create, request: in, find: find,
		tags: func(s types.Subnet) map[string]string { return tagMap(s.Tags) },
		create: func(ctx context.Context, tags map[string]string, _ []types.Subnet) ([]types.Subnet, error) {
			if err := p.freeNetworkName(ctx, op, in.Name); err != nil {
				return nil, err
			}
			request := &ec2.CreateSubnetInput{VpcId: &vpc, CidrBlock: &in.CIDR, TagSpecifications: tagSpecs(tags, types.ResourceTypeSubnet)}
			if zone != "" {
				request.AvailabilityZone = &zone
			}
			out, err := p.ec2().CreateSubnet(ctx, request, once)
			if apiCode(err) == "InvalidSubnet.Conflict" { // with the one that another process just made, perhaps
				if found, ferr := find(ctx); ferr == nil && len(found) > 0 {
					return found, nil
				}
				return nil, invalid(op, resource, "the range "+in.CIDR+" overlaps another subnet of "+vpc, "choose a free range, or a site with a VPC of its own")
			}
			if err != nil {
				return nil, awsError(op, resource, err)
			}
			return []types.Subnet{*out.Subnet}, nil
		}})
	if err != nil {
		return cloud.Network{}, err
	}
	return networkOf(made[0], p.ways(ctx, op, made[:1])), nil
}

// freeNetworkName refuses a second network of one name, which plans could not tell apart.
func (p *Provider) freeNetworkName(ctx context.Context, op, name string) error {
	if name == "" {
		return nil
	}
	same, err := p.subnets(ctx, op, cloud.Filter{Tags: map[string]string{tagName: name}})
	if err == nil && len(same) > 0 {
		err = invalid(op, "network "+name, "the name belongs to subnet "+awssdk.ToString(same[0].SubnetId)+" already", "choose another name")
	}
	return err
}

// subnets lists the subnets of the site that carry tags (Name among them).
func (p *Provider) subnets(ctx context.Context, op string, f cloud.Filter, more ...types.Filter) ([]types.Subnet, error) {
	vpc, err := p.vpc(ctx, op)
	if err != nil {
		return nil, err
	}
	filters := slices.Concat(ec2Filters(f), []types.Filter{filter("vpc-id", vpc)}, more)
	if p.site.Zone != "" {
		filters = append(filters, filter("availability-zone", p.site.Zone))
	}
	all, err := listAll(ctx, ec2.NewDescribeSubnetsPaginator(p.ec2(), &ec2.DescribeSubnetsInput{Filters: filters, MaxResults: awssdk.Int32(pageSize)}),
		func(o *ec2.DescribeSubnetsOutput) []types.Subnet { return o.Subnets })
	if err != nil {
		return nil, awsError(op, "networks of site "+p.site.Name, err)
	}
	return slices.DeleteFunc(all, func(s types.Subnet) bool { return !f.Match(tagMap(s.Tags)) }), nil
}

// subnet finds a subnet by identifier or by name.
func (p *Provider) subnet(ctx context.Context, op, idOrName string) (types.Subnet, error) {
	var found []types.Subnet
	var err error
	if idOrName != "" && hasPrefix(idOrName, "subnet-") {
		found, err = p.subnets(ctx, op, cloud.Filter{}, filter("subnet-id", idOrName))
	}
	if err == nil && len(found) == 0 && idOrName != "" {
		found, err = p.subnets(ctx, op, cloud.Filter{Tags: map[string]string{tagName: idOrName}})
	}
	switch {
	case err != nil:
		return types.Subnet{}, err
	case len(found) == 0:
		return types.Subnet{}, notFound(op, cloud.KindNetwork, idOrName)
	case len(found) > 1:
		return types.Subnet{}, invalid(op, "network "+idOrName, fmt.Sprintf("%d subnets have this name", len(found)), "give the identifier of one, or the site a zone")
	}
	return found[0], nil
}

// waysOut says for each subnet why its servers are not among themselves; empty for one that is isolated.
type waysOut map[string]string

// ways looks for what leads out of subnets. What it cannot find out counts as a way out.
func (p *Provider) ways(ctx context.Context, op string, list []types.Subnet) waysOut {
	ways := waysOut{}
	if len(list) == 0 {
		return ways
	}
	vpc := awssdk.ToString(list[0].VpcId)
	inVPC := []types.Filter{filter("vpc-id", vpc)}
	tables, err := listAll(ctx, ec2.NewDescribeRouteTablesPaginator(p.ec2(), &ec2.DescribeRouteTablesInput{Filters: inVPC, MaxResults: awssdk.Int32(100)}),
		func(o *ec2.DescribeRouteTablesOutput) []types.RouteTable { return o.RouteTables })
	var all []types.Subnet
	if err == nil {
		all, err = listAll(ctx, ec2.NewDescribeSubnetsPaginator(p.ec2(), &ec2.DescribeSubnetsInput{Filters: inVPC, MaxResults: awssdk.Int32(pageSize)}),
			func(o *ec2.DescribeSubnetsOutput) []types.Subnet { return o.Subnets })
	}
	for _, s := range list {
		id := awssdk.ToString(s.SubnetId)
		switch out := wayOut(tables, id); {
		case err != nil:
			ways[id] = "whether it is isolated is not known: " + awsError(op, "routes of "+vpc, err).Error()
		case out != "":
			ways[id] = "not isolated: " + out
		case len(all) > 1:
			ways[id] = fmt.Sprintf("not isolated: the other %d subnets of %s reach it; give the site a VPC with one subnet", len(all)-1, vpc)
		}
	}
	return ways
}

// wayOut finds a route out of a subnet: of the table that names it, or else of the main table of its VPC
// (https://docs.aws.amazon.com/vpc/latest/userguide/VPC_Route_Tables.html).
func wayOut(tables []types.RouteTable, subnet string) string {
	var main, own *types.RouteTable
	for i, t := range tables {
		for _, a := range t.Associations {
			switch {
			case awssdk.ToString(a.SubnetId) == subnet:
				own = &tables[i]
			case awssdk.ToBool(a.Main):
				main = &tables[i]
			}
		}
	}
	t := cmp.Or(own, main)
	if t == nil {
		return "its route table was not found"
	}
	for _, r := range t.Routes {
		to := cmp.Or(awssdk.ToString(r.DestinationCidrBlock), awssdk.ToString(r.DestinationIpv6CidrBlock), awssdk.ToString(r.DestinationPrefixListId))
		through := cmp.Or(awssdk.ToString(r.GatewayId), awssdk.ToString(r.NatGatewayId), awssdk.ToString(r.TransitGatewayId), awssdk.ToString(r.VpcPeeringConnectionId),
			awssdk.ToString(r.EgressOnlyInternetGatewayId), awssdk.ToString(r.LocalGatewayId), awssdk.ToString(r.CarrierGatewayId), awssdk.ToString(r.CoreNetworkArn),
			awssdk.ToString(r.NetworkInterfaceId), awssdk.ToString(r.InstanceId))
		// Gateway endpoints (vpce-) lead to S3 and DynamoDB alone, and nothing comes in by them.
		if through != "" && through != "local" && !strings.HasPrefix(through, "vpce-") && r.State != types.RouteStateBlackhole {
			return fmt.Sprintf("route table %s leads to %s through %s", awssdk.ToString(t.RouteTableId), to, through)
		}
	}
	return ""
}

func networkOf(s types.Subnet, ways waysOut) cloud.Network {
	state := cloud.Available
	message := ""
	switch s.State {
	case types.SubnetStatePending:
		state = cloud.Creating
	case types.SubnetStateUnavailable, types.SubnetStateFailed, types.SubnetStateFailedInsufficientCapacity:
		state, message = cloud.Failing, "the subnet is "+string(s.State)
	}
	note := ways[awssdk.ToString(s.SubnetId)]
	return cloud.Network{Resource: resourceOf(awssdk.ToString(s.SubnetId), state, message, tagMap(s.Tags), nil), CIDR: awssdk.ToString(s.CidrBlock),
		Zone: awssdk.ToString(s.AvailabilityZone), Isolated: note == "", Note: note, Free: int(awssdk.ToInt32(s.AvailableIpAddressCount))}
}

// Network finds a subnet by identifier or by its Name tag.
func (p *Provider) Network(ctx context.Context, idOrName string) (cloud.Network, error) {
	const op = "Network"
	s, err := p.subnet(ctx, op, idOrName)
	if err != nil {
		return cloud.Network{}, err
	}
	return networkOf(s, p.ways(ctx, op, []types.Subnet{s})), nil
}

// Networks lists the subnets of the site.
func (p *Provider) Networks(ctx context.Context, f cloud.Filter) ([]cloud.Network, error) {
	const op = "Networks"
	list, err := p.subnets(ctx, op, f)
	if err != nil {
		return nil, err
	}
	ways := p.ways(ctx, op, list)
	all := make([]cloud.Network, 0, len(list))
	for _, s := range list {
		all = append(all, networkOf(s, ways))
	}
	return all, nil
}

// CheckAddress tells whether a server could have a private address: in the subnet, not one of the five that AWS
// keeps (https://docs.aws.amazon.com/vpc/latest/userguide/subnet-sizing.html), and of no network interface.
func (p *Provider) CheckAddress(ctx context.Context, network, ip string) error {
	const op = "CheckAddress"
	s, err := p.subnet(ctx, op, network)
	if err != nil {
		return err
	}
	resource := "address " + ip
	address, err := netip.ParseAddr(ip)
	if err != nil {
		return invalid(op, resource, "is not an IP address", "write it like 10.20.0.5")
	}
	prefix, err := netip.ParsePrefix(awssdk.ToString(s.CidrBlock))
	if err != nil || !prefix.Contains(address) {
		return invalid(op, resource, "is not in network "+network+" ("+awssdk.ToString(s.CidrBlock)+")", "choose an address of that network")
	}
	if reservedByAWS(prefix, address) {
		return invalid(op, resource, "is one of the five that AWS keeps of "+prefix.String(), "choose one from the fifth to the last but one")
	}
	out, err := p.ec2().DescribeNetworkInterfaces(ctx, &ec2.DescribeNetworkInterfacesInput{
		Filters: []types.Filter{filter("subnet-id", awssdk.ToString(s.SubnetId)), filter("addresses.private-ip-address", address.String())}})
	if err != nil {
		return awsError(op, resource, err)
	}
	if len(out.NetworkInterfaces) > 0 {
		i := out.NetworkInterfaces[0]
		by := "network interface " + awssdk.ToString(i.NetworkInterfaceId)
		if i.Attachment != nil && awssdk.ToString(i.Attachment.InstanceId) != "" {
			by = "server " + awssdk.ToString(i.Attachment.InstanceId)
		}
		return cloud.E(cloud.AddressTaken, op, resource, "belongs to "+by, "choose another address, or end what has it", nil)
	}
	return nil
}

// reservedByAWS tells whether an address is one of the first four or the last one of a subnet.
func reservedByAWS(prefix netip.Prefix, a netip.Addr) bool {
	at := prefix.Masked().Addr()
	for range 4 {
		if at == a {
			return true
		}
		at = at.Next()
	}
	return !prefix.Contains(a.Next())
}

// DeleteNetwork deletes a subnet; what has an address in it keeps it in use.
func (p *Provider) DeleteNetwork(ctx context.Context, id string) error {
	_, err := p.ec2().DeleteSubnet(ctx, &ec2.DeleteSubnetInput{SubnetId: &id})
	return awsError("DeleteNetwork", "network "+id, err)
}

// Dial opens a TCP connection to a private address from here: the worker has to run where it reaches the
// VPC, in it or in one that is connected with it.
func (p *Provider) Dial(ctx context.Context, network, hostport string) (cloud.Conn, error) {
	const op = "Dial"
	resource := "address " + hostport
	host, port, err := net.SplitHostPort(hostport)
	if err != nil || port == "" {
		return nil, invalid(op, resource, "is not HOST:PORT", "write it like 10.20.0.5:80")
	}
	s, err := p.subnet(ctx, op, network)
	if err != nil {
		return nil, err
	}
	prefix, perr := netip.ParsePrefix(awssdk.ToString(s.CidrBlock))
	if ip, err := netip.ParseAddr(host); err != nil || perr != nil || !prefix.Contains(ip) {
		return nil, invalid(op, resource, "is not an address of network "+network+" ("+awssdk.ToString(s.CidrBlock)+")", "choose an address of that network")
	}
	conn, err := new(net.Dialer).DialContext(ctx, "tcp", hostport)
	if err == nil {
		return conn, nil
	}
	message, mend := "does not answer", "see that the worker runs where it reaches "+awssdk.ToString(s.VpcId)+", and that the security groups let it in"
	if errors.Is(err, syscall.ECONNREFUSED) {
		message, mend = "refused the connection: nothing listens there", ""
	} else if !errors.Is(err, os.ErrDeadlineExceeded) && !errors.Is(err, context.Canceled) && !errors.Is(err, context.DeadlineExceeded) {
		message = "cannot be reached: " + clean(err.Error())
	}
	return nil, cloud.E(cloud.Unavailable, op, resource, message, mend, err)
}
