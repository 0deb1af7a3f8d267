package awstest

import (
	"cmp"
	"fmt"
	"slices"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/ec2"
	"github.com/aws/aws-sdk-go-v2/service/ec2/types"
)

// elasticIP is an Elastic IP address. With running guests it is an address of loopback that really
// leads to the ports of the guest; else one of those that are reserved for documentation (RFC 5737).
type elasticIP struct {
	*resource
	public      string
	local       string // what it is called at the site that runs the guests
	association string
	iface       *netInterface // where it leads, or nil
}

// addressOf is the public address that leads to a network interface, or nil.
func (s *computeState) addressOf(i *netInterface) *elasticIP {
	if i == nil {
		return nil
	}
	for _, a := range s.addresses {
		if a.iface == i {
			return a
		}
	}
	return nil
}

func (a *elasticIP) disassociate() { a.iface, a.association = nil, "" }

// findAddress finds an address by its allocation or its public address.
func (s *computeState) findAddress(allocation, public *string) (*elasticIP, error) {
	if allocation != nil {
		if a := s.addresses[*allocation]; a != nil {
			return a, nil
		}
		return nil, fault("InvalidAllocationID.NotFound", "The allocation ID '%s' does not exist", *allocation)
	}
	if public == nil {
		return nil, fault("MissingParameter", "Either public IP or allocation id must be specified")
	}
	for _, a := range s.addresses {
		if a.public == *public {
			return a, nil
		}
	}
	return nil, fault("InvalidAddress.NotFound", "The address '%s' does not exist", *public)
}

// allocateAddress: five per region unless raised
// (https://docs.aws.amazon.com/AWSEC2/latest/UserGuide/elastic-ip-addresses-eip.html).
func (c *Call) allocateAddress(in *ec2.AllocateAddressInput) (*ec2.AllocateAddressOutput, error) {
	if err := dryRun(in.DryRun); err != nil {
		return nil, err
	}
	s := c.compute()
	if len(s.addresses)+s.allocating >= c.quota("addresses", 5) {
		return nil, fault("AddressLimitExceeded", "The maximum number of addresses has been reached.")
	}
	r := c.newResource(types.ResourceTypeElasticIp, "eipalloc", in.TagSpecifications)
	a := &elasticIP{resource: r, public: fmt.Sprintf("203.0.113.%d", 1+c.ids%254)}
	if c.Guest != nil {
		s.allocating++
		err := c.unlocked(func() (err error) {
			a.local, a.public, err = s.hosts.allocate(s.hosts.ctx, r.ID)
			return err
		})
		s.allocating--
		if err != nil {
			c.forget(r.ID)
			return nil, err
		}
	}
	s.addresses[a.ID] = a
	return &ec2.AllocateAddressOutput{AllocationId: &a.ID, PublicIp: &a.public, Domain: types.DomainTypeVpc, PublicIpv4Pool: aws.String("amazon"), NetworkBorderGroup: &c.Name}, nil
}

// associateAddress moves an address, and takes from the instance the one that it had
// (https://docs.aws.amazon.com/AWSEC2/latest/APIReference/API_AssociateAddress.html).
func (c *Call) associateAddress(in *ec2.AssociateAddressInput) (*ec2.AssociateAddressOutput, error) {
	s := c.compute()
	a, err := s.findAddress(in.AllocationId, in.PublicIp)
	if err != nil {
		return nil, err
	}
	to, err := s.addressTarget(in)
	if err != nil {
		return nil, err
	}
	if a.iface != nil && a.iface != to && in.AllowReassociation != nil && !*in.AllowReassociation {
		return nil, fault("Resource.AlreadyAssociated", "resource %s is already associated with associate-id %s", a.ID, a.association)
	}
	if err := dryRun(in.DryRun); err != nil {
		return nil, err
	}
	changed := []*elasticIP{a}
	if old := s.addressOf(to); old != nil && old != a {
		old.disassociate()
		changed = []*elasticIP{old, a}
	}
	if a.iface != to {
		a.iface, a.association = to, c.newID("eipassoc")
	}
	out := &ec2.AssociateAddressOutput{AssociationId: aws.String(a.association)}
	return out, c.route(s, changed...)
}

// addressTarget is the network interface to which an address is to lead.
func (s *computeState) addressTarget(in *ec2.AssociateAddressInput) (*netInterface, error) {
	if in.NetworkInterfaceId != nil {
		if i := s.interfaces[*in.NetworkInterfaceId]; i != nil {
			return i, nil
		}
		return nil, fault("InvalidNetworkInterfaceID.NotFound", "The networkInterface ID '%s' does not exist", *in.NetworkInterfaceId)
	}
	if in.InstanceId == nil {
		return nil, fault("MissingParameter", "Either an instance or a network interface must be specified")
	}
	i := s.instances[*in.InstanceId]
	if i == nil {
		return nil, fault("InvalidInstanceID.NotFound", "The instance ID '%s' does not exist", *in.InstanceId)
	}
	if i.state != types.InstanceStateNameRunning && i.state != types.InstanceStateNameStopped {
		return nil, fault("InvalidInstanceID", "The %s instance '%s' is not in a valid state for this operation.", i.state, i.ID)
	}
	return i.iface, nil
}

// route makes changed addresses lead where they should; the lock is free meanwhile. What was asked is
// done also when the client does not wait for the answer.
func (c *Call) route(s *computeState, changed ...*elasticIP) error {
	if c.Guest == nil {
		return nil
	}
	return c.unlocked(func() error {
		for _, a := range changed {
			if err := s.hosts.route(s.hosts.ctx, a); err != nil {
				return err
			}
		}
		return nil
	})
}

// disassociateAddress is idempotent: https://docs.aws.amazon.com/AWSEC2/latest/APIReference/API_DisassociateAddress.html
func (c *Call) disassociateAddress(in *ec2.DisassociateAddressInput) (*ec2.DisassociateAddressOutput, error) {
	s := c.compute()
	var a *elasticIP
	for _, x := range s.addresses {
		if in.AssociationId != nil && x.association == *in.AssociationId || in.AssociationId == nil && x.public == aws.ToString(in.PublicIp) {
			a = x
		}
	}
	switch {
	case a == nil && in.AssociationId == nil:
		return nil, fault("InvalidAddress.NotFound", "The address '%s' does not exist", aws.ToString(in.PublicIp))
	case a == nil:
		return nil, fault("InvalidAssociationID.NotFound", "The association ID '%s' does not exist", *in.AssociationId)
	}
	if err := dryRun(in.DryRun); err != nil {
		return nil, err
	}
	a.disassociate()
	return &ec2.DisassociateAddressOutput{}, c.route(s, a)
}

// releaseAddress refuses an address that leads somewhere, as EC2 does outside of default VPCs
// (https://docs.aws.amazon.com/AWSEC2/latest/APIReference/API_ReleaseAddress.html).
func (c *Call) releaseAddress(in *ec2.ReleaseAddressInput) (*ec2.ReleaseAddressOutput, error) {
	s := c.compute()
	a, err := s.findAddress(in.AllocationId, in.PublicIp)
	if err != nil {
		return nil, err
	}
	if a.iface != nil {
		if v := a.iface.subnet.vpc; !v.isDefault {
			return nil, fault("InvalidIPAddress.InUse", "Address %s is in use.", a.public)
		}
	}
	if err := dryRun(in.DryRun); err != nil {
		return nil, err
	}
	a.disassociate()
	delete(s.addresses, a.ID)
	c.forget(a.ID)
	if c.Guest == nil {
		return &ec2.ReleaseAddressOutput{}, nil
	}
	return &ec2.ReleaseAddressOutput{}, c.unlocked(func() error { return s.hosts.release(s.hosts.ctx, a) })
}

func (c *Call) showAddress(a *elasticIP) types.Address {
	out := types.Address{
		AllocationId: &a.ID, PublicIp: &a.public, Domain: types.DomainTypeVpc, PublicIpv4Pool: aws.String("amazon"), NetworkBorderGroup: &c.Name, Tags: a.tags(),
	}
	if i := a.iface; i != nil {
		out.AssociationId, out.NetworkInterfaceId, out.NetworkInterfaceOwnerId = aws.String(a.association), &i.ID, &c.Account
		out.PrivateIpAddress = aws.String(i.ip.String())
		if i.instance != nil {
			out.InstanceId = &i.instance.ID
		}
	}
	return out
}

func (c *Call) describeAddresses(in *ec2.DescribeAddressesInput) (*ec2.DescribeAddressesOutput, error) {
	if err := dryRun(in.DryRun); err != nil {
		return nil, err
	}
	s := c.compute()
	for _, public := range in.PublicIps {
		if _, err := s.findAddress(nil, &public); err != nil {
			return nil, err
		}
	}
	all, err := selected(c, s.addresses, in.AllocationIds, "InvalidAllocationID.NotFound", in.Filters, func(a *elasticIP, name string) ([]string, bool) {
		x := c.showAddress(a)
		value, ok := map[string]*string{
			"allocation-id": x.AllocationId, "association-id": x.AssociationId, "instance-id": x.InstanceId, "network-interface-id": x.NetworkInterfaceId,
			"network-border-group": x.NetworkBorderGroup, "network-interface-owner-id": x.NetworkInterfaceOwnerId, "private-ip-address": x.PrivateIpAddress,
			"public-ip": x.PublicIp, "domain": aws.String("vpc"),
		}[name]
		if value == nil {
			return nil, ok
		}
		return []string{*value}, ok
	})
	if err != nil {
		return nil, err
	}
	if len(in.PublicIps) > 0 {
		all = slices.DeleteFunc(all, func(a *elasticIP) bool { return !slices.Contains(in.PublicIps, a.public) })
	}
	return &ec2.DescribeAddressesOutput{Addresses: each(all, c.showAddress)}, nil // this call has no pages
}

// filterAddress gives what an interface has under filters about its public address.
func (a *elasticIP) filterAddress(name string) []string {
	if a == nil {
		return nil
	}
	return []string{cmp.Or(map[string]string{"association.allocation-id": a.ID, "association.association-id": a.association}[name], a.public)}
}

func init() {
	on(ec2Service, "AllocateAddress", (*Call).allocateAddress)
	on(ec2Service, "AssociateAddress", (*Call).associateAddress)
	on(ec2Service, "DisassociateAddress", (*Call).disassociateAddress)
	on(ec2Service, "ReleaseAddress", (*Call).releaseAddress)
	on(ec2Service, "DescribeAddresses", (*Call).describeAddresses)
}
