package aws

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"strconv"
	"strings"

	awssdk "github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/ec2"
	"github.com/aws/aws-sdk-go-v2/service/ec2/types"

	"lifeboat/activities/cloud"
)

// Limits tells the limits that EC2 itself knows, and those that the settings give ([Options.VCPUs]): quotas in
// general are told by Service Quotas, which this provider does not use. Sources of figures: DescribeAccountAttributes,
// https://docs.aws.amazon.com/ebs/latest/userguide/ebs-resource-quotas.html.
func (p *Provider) Limits(ctx context.Context, kind cloud.Kind) ([]cloud.Limit, error) {
	const op = "Limits"
	switch kind {
	case cloud.KindServer:
		if p.options.VCPUs == 0 {
			return nil, nil
		}
		used, err := p.usedCPUs(ctx, op)
		return []cloud.Limit{{Name: "running vCPUs, standard types", Value: float64(p.options.VCPUs), Used: float64(used), Unit: "vCPU", Adjustable: true}}, err
	case cloud.KindAddress:
		list, err := p.elasticIPs(ctx, op, cloud.Filter{})
		if err != nil {
			return nil, err
		}
		value, err := p.attribute(ctx, op, "vpc-max-elastic-ips")
		return []cloud.Limit{{Name: "Elastic IP addresses", Value: value, Used: float64(len(list)), Adjustable: true}}, err
	case cloud.KindSnapshot:
		list, err := p.snapshotsOf(ctx, op, cloud.Filter{})
		return []cloud.Limit{{Name: "snapshots", Value: 100_000, Used: float64(len(list)), Adjustable: true}}, err
	case cloud.KindNetwork:
		list, err := p.subnets(ctx, op, cloud.Filter{})
		return []cloud.Limit{{Name: "subnets of the VPC", Value: 200, Used: float64(len(list)), Adjustable: true}}, err
	}
	return nil, nil
}

// attribute reads a number among the attributes of the account.
func (p *Provider) attribute(ctx context.Context, op, name string) (float64, error) {
	out, err := p.ec2().DescribeAccountAttributes(ctx, &ec2.DescribeAccountAttributesInput{AttributeNames: []types.AccountAttributeName{types.AccountAttributeName(name)}})
	if err != nil {
		return 0, awsError(op, "account of site "+p.site.Name, err)
	}
	for _, a := range out.AccountAttributes {
		for _, v := range a.AttributeValues {
			if n, err := strconv.ParseFloat(awssdk.ToString(v.AttributeValue), 64); err == nil {
				return n, nil
			}
		}
	}
	return 0, cloud.E(cloud.Unavailable, op, "account of site "+p.site.Name, "EC2 does not tell "+name, "", nil)
}

// standard tells whether a type counts for the quota of the standard families
// (https://docs.aws.amazon.com/ec2/latest/instancetypes/ec2-instance-quotas.html).
func standard(typ string) bool {
	family := typ[:max(strings.IndexAny(typ, "0123456789-"), 0)]
	return slices.Contains([]string{"a", "c", "d", "h", "i", "im", "is", "m", "r", "t", "z"}, family)
}

// usedCPUs counts what counts for the quota: instances that are running or about to, and room that is reserved
// for others.
func (p *Provider) usedCPUs(ctx context.Context, op string) (int, error) {
	list, err := p.instances(ctx, op, cloud.Filter{})
	if err != nil {
		return 0, err
	}
	used := 0
	for _, i := range list {
		state := stateOf(i)
		if (state != types.InstanceStateNameRunning && state != types.InstanceStateNamePending) || !standard(string(i.InstanceType)) {
			continue
		}
		m, err := p.machine(ctx, string(i.InstanceType))
		if err != nil {
			return 0, err
		}
		used += m.cpu
	}
	reserved, err := p.reserved(ctx, op)
	if err != nil {
		return 0, err
	}
	for _, r := range reserved {
		if !standard(awssdk.ToString(r.InstanceType)) {
			continue
		}
		m, err := p.machine(ctx, awssdk.ToString(r.InstanceType))
		if err != nil {
			return 0, err
		}
		used += m.cpu * int(awssdk.ToInt32(r.AvailableInstanceCount))
	}
	return used, nil
}

// reserved lists the active capacity reservations of the region.
func (p *Provider) reserved(ctx context.Context, op string) ([]types.CapacityReservation, error) {
	list, err := listAll(ctx, ec2.NewDescribeCapacityReservationsPaginator(p.ec2(), &ec2.DescribeCapacityReservationsInput{Filters: []types.Filter{filter("state", "active")}}),
		func(o *ec2.DescribeCapacityReservationsOutput) []types.CapacityReservation {
			return o.CapacityReservations
		})
	return list, awsError(op, "capacity reservations of site "+p.site.Name, err)
}

// CheckLaunch tells whether servers could be launched in the site's zone: that it offers the types, that the quota
// (where it is known) and the free addresses of the networks suffice, and by a dry run that the call is permitted.
// Whether there is room AWS tells nobody before: only a capacity reservation makes that sure, and what is reserved
// for a type counts for the quota already.
func (p *Provider) CheckLaunch(ctx context.Context, needs []cloud.LaunchNeed) error {
	const op = "CheckLaunch"
	zone, err := p.zone(ctx)
	if err != nil {
		return err
	}
	offered, err := p.offered(ctx, zone)
	if err != nil {
		return err
	}
	reserved, err := p.reserved(ctx, op)
	if err != nil {
		return err
	}
	servers, cpus := 0, 0
	for _, n := range needs {
		m, err := p.neededType(ctx, zone, n)
		if err != nil {
			return err
		}
		if !offered[m.name] {
			return cloud.E(cloud.Capacity, op, "instance type "+m.name, "is not offered in zone "+zone, "choose another type or zone, or give substitutes", nil)
		}
		count := max(n.Count, 1)
		servers += count
		for _, r := range reserved {
			if awssdk.ToString(r.InstanceType) == m.name && awssdk.ToString(r.AvailabilityZone) == zone {
				count -= min(count, int(awssdk.ToInt32(r.AvailableInstanceCount)))
			}
		}
		if standard(m.name) {
			cpus += m.cpu * count
		}
		if err := p.dryLaunch(ctx, op, zone, m); err != nil {
			return err
		}
	}
	if err := p.checkCPUs(ctx, op, cpus); err != nil {
		return err
	}
	return p.checkFree(ctx, op, zone, servers)
}

// neededType is the type that a need names, or the one that a launch would choose for it.
func (p *Provider) neededType(ctx context.Context, zone string, n cloud.LaunchNeed) (machineType, error) {
	if n.Type != "" {
		return p.machine(ctx, n.Type)
	}
	fit, err := p.fitting(ctx, zone, wanted{cpu: n.CPU, memory: n.Memory, architecture: string(types.ArchitectureTypeX8664)})
	if err != nil {
		return machineType{}, err
	}
	return fit[0], nil
}

func (p *Provider) checkCPUs(ctx context.Context, op string, more int) error {
	if p.options.VCPUs == 0 {
		return nil
	}
	used, err := p.usedCPUs(ctx, op)
	if err != nil {
		return err
	}
	if used+more > p.options.VCPUs {
		return cloud.E(cloud.Quota, op, "site "+p.site.Name, fmt.Sprintf("%d vCPUs of standard types are running or reserved, %d more are needed, the quota is %d", used, more, p.options.VCPUs), mendQuota, nil)
	}
	return nil
}

// checkFree counts the free private addresses of the site's networks in a zone.
func (p *Provider) checkFree(ctx context.Context, op, zone string, servers int) error {
	list, err := p.subnets(ctx, op, cloud.Filter{}, filter("availability-zone", zone))
	if err != nil {
		return err
	}
	free := 0
	for _, s := range list {
		free += int(awssdk.ToInt32(s.AvailableIpAddressCount))
	}
	if free < servers {
		return cloud.E(cloud.Capacity, op, "site "+p.site.Name, fmt.Sprintf("its networks in zone %s have %d free addresses, %d servers need one each", zone, free, servers),
			"make a larger network", nil)
	}
	return nil
}

// dryLaunch asks whether a launch is permitted, with an image of this account if there is one that fits the type.
func (p *Provider) dryLaunch(ctx context.Context, op, zone string, m machineType) error {
	out, err := p.ec2().DescribeImages(ctx, &ec2.DescribeImagesInput{Owners: []string{"self"}, MaxResults: awssdk.Int32(5),
		Filters: []types.Filter{filter("state", "available"), filter("architecture", m.architectures...)}})
	if err != nil {
		return awsError(op, "images of site "+p.site.Name, err)
	}
	if len(out.Images) == 0 {
		return nil
	}
	_, err = p.ec2().RunInstances(ctx, &ec2.RunInstancesInput{DryRun: awssdk.Bool(true), ImageId: out.Images[0].ImageId, InstanceType: types.InstanceType(m.name),
		MinCount: awssdk.Int32(1), MaxCount: awssdk.Int32(1), Placement: &types.Placement{AvailabilityZone: &zone},
		TagSpecifications: probeTags(types.ResourceTypeInstance, types.ResourceTypeVolume)}, once)
	code := apiCode(err)
	switch c := cloud.CodeOf(awsError(op, "", err)); {
	case code == "DryRunOperation" || err == nil:
		return nil
	case c == cloud.InvalidInput || c == cloud.NotFound:
		return nil // about the image, or the network that is not named here
	}
	return awsError(op, cmp.Or(m.name, "launch"), err)
}
