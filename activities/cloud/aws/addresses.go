package aws

import (
	"context"
	"fmt"
	"slices"

	awssdk "github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/ec2"
	"github.com/aws/aws-sdk-go-v2/service/ec2/types"

	"lifeboat/activities/cloud"
)

// A public address is an Elastic IP address. It stays in its region: between regions traffic moves by DNS.

// AllocateAddress reserves an address. The API has no token: it is looked for by its tag first.
func (p *Provider) AllocateAddress(ctx context.Context, in cloud.Create) (cloud.Address, error) {
	const op = "AllocateAddress"
	resource := "address " + in.Name
	made, err := makeOnce(ctx, p, lookup[types.Address]{op: op, kind: cloud.KindAddress, in: in, request: in,
		find: func(ctx context.Context) ([]types.Address, error) {
			return p.elasticIPs(ctx, op, tokenFilter(in.Token))
		},
		tags: func(a types.Address) map[string]string { return tagMap(a.Tags) },
		create: func(ctx context.Context, tags map[string]string, _ []types.Address) ([]types.Address, error) {
			if in.Name != "" {
				same, err := p.elasticIPs(ctx, op, cloud.Filter{Tags: map[string]string{tagName: in.Name}})
				if err != nil {
					return nil, err
				}
				if len(same) > 0 {
					return nil, invalid(op, resource, "the name belongs to address "+awssdk.ToString(same[0].AllocationId)+" already", "choose another name")
				}
			}
			out, err := p.ec2().AllocateAddress(ctx, &ec2.AllocateAddressInput{Domain: types.DomainTypeVpc, TagSpecifications: tagSpecs(tags, types.ResourceTypeElasticIp)}, once)
			if err != nil {
				return nil, awsError(op, resource, err)
			}
			return []types.Address{{AllocationId: out.AllocationId, PublicIp: out.PublicIp, Tags: ec2Tags(tags)}}, nil
		}})
	if err != nil {
		return cloud.Address{}, err
	}
	return addressOf(made[0]), nil
}

// elasticIPs lists the addresses of the region that carry tags (Name among them); the API has no pages.
func (p *Provider) elasticIPs(ctx context.Context, op string, f cloud.Filter, more ...types.Filter) ([]types.Address, error) {
	out, err := p.ec2().DescribeAddresses(ctx, &ec2.DescribeAddressesInput{Filters: append(ec2Filters(f), more...)})
	if err != nil {
		return nil, awsError(op, "addresses of site "+p.site.Name, err)
	}
	return slices.DeleteFunc(out.Addresses, func(a types.Address) bool { return !f.Match(tagMap(a.Tags)) }), nil
}

// elasticIP finds an address by identifier or by name.
func (p *Provider) elasticIP(ctx context.Context, op, idOrName string) (types.Address, error) {
	var found []types.Address
	var err error
	if hasPrefix(idOrName, "eipalloc-") {
		found, err = p.elasticIPs(ctx, op, cloud.Filter{}, filter("allocation-id", idOrName))
	}
	if err == nil && len(found) == 0 && idOrName != "" {
		found, err = p.elasticIPs(ctx, op, cloud.Filter{Tags: map[string]string{tagName: idOrName}})
	}
	switch {
	case err != nil:
		return types.Address{}, err
	case len(found) == 0:
		return types.Address{}, notFound(op, cloud.KindAddress, idOrName)
	case len(found) > 1:
		return types.Address{}, invalid(op, "address "+idOrName, fmt.Sprintf("%d addresses have this name", len(found)), "give the identifier of one")
	}
	return found[0], nil
}

func addressOf(a types.Address) cloud.Address {
	state := cloud.Available
	if awssdk.ToString(a.AssociationId) != "" {
		state = cloud.Attached
	}
	return cloud.Address{Resource: resourceOf(awssdk.ToString(a.AllocationId), state, "", tagMap(a.Tags), nil),
		Public: awssdk.ToString(a.PublicIp), Server: awssdk.ToString(a.InstanceId)}
}

// Address finds an address by identifier or by its Name tag.
func (p *Provider) Address(ctx context.Context, idOrName string) (cloud.Address, error) {
	a, err := p.elasticIP(ctx, "Address", idOrName)
	if err != nil {
		return cloud.Address{}, err
	}
	return addressOf(a), nil
}

// Addresses lists the addresses of the region.
func (p *Provider) Addresses(ctx context.Context, f cloud.Filter) ([]cloud.Address, error) {
	list, err := p.elasticIPs(ctx, "Addresses", f)
	if err != nil {
		return nil, err
	}
	all := make([]cloud.Address, 0, len(list))
	for _, a := range list {
		all = append(all, addressOf(a))
	}
	return all, nil
}

// AssociateAddress moves an address to a server, at once. Left out, AllowReassociation is true on AWS: it is always said.
// An Elastic IP address that the server had before is disassociated by AWS.
func (p *Provider) AssociateAddress(ctx context.Context, id, server string, reassociate bool) error {
	const op = "AssociateAddress"
	a, err := p.elasticIP(ctx, op, id)
	if err != nil {
		return err
	}
	resource := "address " + awssdk.ToString(a.PublicIp)
	switch {
	case server != "" && awssdk.ToString(a.InstanceId) == server:
		return nil
	case awssdk.ToString(a.AssociationId) != "" && !reassociate:
		return cloud.E(cloud.InUse, op, resource, "belongs to server "+awssdk.ToString(a.InstanceId), "take it from there first, or move it on purpose", nil)
	}
	_, err = p.ec2().AssociateAddress(ctx, &ec2.AssociateAddressInput{AllocationId: a.AllocationId, InstanceId: &server, AllowReassociation: &reassociate})
	if apiCode(err) == "InvalidInstanceID" { // one that is not there is .NotFound
		return p.associateInterface(ctx, op, a, server, reassociate, err)
	}
	return awsError(op, resource, err)
}

// associateInterface moves an address to a server that AWS does not take by its identifier: it is still pending, or has
// several network interfaces, of which the first one is meant
// (https://docs.aws.amazon.com/AWSEC2/latest/APIReference/errors-overview.html, InvalidInstanceID).
func (p *Provider) associateInterface(ctx context.Context, op string, a types.Address, server string, reassociate bool, cause error) error {
	i, err := p.instance(ctx, op, server)
	if err != nil {
		return err
	}
	if state := stateOf(i); state != types.InstanceStateNameRunning && state != types.InstanceStateNameStopped {
		return cloud.E(cloud.NotReady, op, "server "+server, "is "+string(state)+" and takes no address", "wait until it runs", cause)
	}
	for _, n := range i.NetworkInterfaces {
		if n.Attachment != nil && awssdk.ToInt32(n.Attachment.DeviceIndex) == 0 {
			_, err := p.ec2().AssociateAddress(ctx, &ec2.AssociateAddressInput{AllocationId: a.AllocationId, NetworkInterfaceId: n.NetworkInterfaceId, AllowReassociation: &reassociate})
			return awsError(op, "address "+awssdk.ToString(a.PublicIp), err)
		}
	}
	return awsError(op, "server "+server, cause)
}

// DisassociateAddress takes an address from its server.
func (p *Provider) DisassociateAddress(ctx context.Context, id string) error {
	const op = "DisassociateAddress"
	a, err := p.elasticIP(ctx, op, id)
	if err != nil || awssdk.ToString(a.AssociationId) == "" {
		return err
	}
	_, err = p.ec2().DisassociateAddress(ctx, &ec2.DisassociateAddressInput{AssociationId: a.AssociationId})
	if apiCode(err) == "InvalidAssociationID.NotFound" { // somebody else was faster
		return nil
	}
	return awsError(op, "address "+awssdk.ToString(a.PublicIp), err)
}

// ReleaseAddress gives an address back. In a default VPC AWS would take it from its server by itself: it is looked first.
func (p *Provider) ReleaseAddress(ctx context.Context, id string) error {
	const op = "ReleaseAddress"
	a, err := p.elasticIP(ctx, op, id)
	if err != nil {
		return err
	}
	resource := "address " + awssdk.ToString(a.PublicIp)
	inUse := func(cause error) error {
		return cloud.E(cloud.InUse, op, resource, "belongs to server "+awssdk.ToString(a.InstanceId), "take it from there first", cause)
	}
	if awssdk.ToString(a.AssociationId) != "" {
		return inUse(nil)
	}
	_, err = p.ec2().ReleaseAddress(ctx, &ec2.ReleaseAddressInput{AllocationId: a.AllocationId})
	if apiCode(err) == "InvalidIPAddress.InUse" {
		return inUse(err)
	}
	return awsError(op, resource, err)
}
