package aws

import (
	"cmp"
	"context"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"maps"
	"slices"
	"strconv"
	"strings"

	awssdk "github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/ec2"
	"github.com/aws/aws-sdk-go-v2/service/ec2/types"

	"lifeboat/activities/cloud"
)

// Launch settings, see the package's documentation.
const (
	setProfile     = "instance-profile"
	setKeyPair     = "key-pair"
	setGroups      = "security-groups"
	setKey         = "kms-key"
	setSubstitutes = "substitutes"
	setFamilies    = "families"
	setUserData    = "user-data"
	setIOPS        = "iops"
	setThroughput  = "throughput"
	setInit        = "initialization-rate"
	setMetadata    = "imds"
	setMonitoring  = "monitoring"
	setTenancy     = "tenancy"
	setReservation = "capacity-reservation"

	monitoringDetailed = "detailed"
	defaultGroup       = "default" // the name of the group that each VPC has
)

// maxFitting is how many types that fit are tried, when CPU and memory are asked for and there is no capacity.
const maxFitting = 5

// launchOrder is a launch with everything that is known before the call.
type launchOrder struct {
	in     cloud.LaunchServer
	subnet string
	image  types.Image
	groups []string
	types  []string // to try in order
	tags   map[string]string
}

// StartLaunch runs an instance of an image. RunInstances has a client token. Where several types may be tried, the
// token of each is another one, and the tag is looked for first: an earlier attempt may have got any of them.
func (p *Provider) StartLaunch(ctx context.Context, in cloud.LaunchServer) (cloud.Server, error) {
	const op = "StartLaunch"
	what := "server " + in.Name
	if err := cloud.CheckToken(op, cloud.KindServer, in.Token); err != nil {
		return cloud.Server{}, err
	}
	if len(in.Disks) > 0 || in.Image == "" {
		return cloud.Server{}, invalid(op, what, "instances start from an image, and make their own disks", "register an image of the snapshots")
	}
	if err := checkSettings(op, what, in.Launch); err != nil {
		return cloud.Server{}, err
	}
	if in.Type != "" && in.Launch[setSubstitutes] == "" {
		order, err := p.order(ctx, in)
		if err != nil {
			return cloud.Server{}, err
		}
		order.tags = allTags(in.Create, nil)
		i, err := p.runInstance(ctx, order, in.Type, in.Token)
		return p.launched(ctx, i, err)
	}
	list, err := makeOnce(ctx, p, lookup[types.Instance]{op: op, kind: cloud.KindServer, in: in.Create, request: in,
		find: func(ctx context.Context) ([]types.Instance, error) {
			return p.instances(ctx, op, tokenFilter(in.Token))
		},
		tags: func(i types.Instance) map[string]string { return tagMap(i.Tags) },
		create: func(ctx context.Context, tags map[string]string, _ []types.Instance) ([]types.Instance, error) {
			order, err := p.order(ctx, in)
			if err != nil {
				return nil, err
			}
			order.tags = tags
			i, err := p.runAny(ctx, order)
			return []types.Instance{i}, err
		}})
	if err != nil {
		return cloud.Server{}, err
	}
	return p.launched(ctx, list[0], nil)
}

func (p *Provider) launched(ctx context.Context, i types.Instance, err error) (cloud.Server, error) {
	if err != nil {
		return cloud.Server{}, err
	}
	s := serverOf(i)
	return s, p.describeType(ctx, &s)
}

// order finds out what a launch needs to know.
func (p *Provider) order(ctx context.Context, in cloud.LaunchServer) (launchOrder, error) {
	const op = "StartLaunch"
	o := launchOrder{in: in, types: append(listOf(in.Type), listOf(in.Launch[setSubstitutes])...)}
	var err error
	if o.subnet, err = p.subnetOf(ctx, op, in.Network); err != nil {
		return o, err
	}
	if o.image, err = p.image(ctx, op, in.Image); err != nil {
		return o, err
	}
	if o.image.State == types.ImageStatePending {
		return o, cloud.E(cloud.NotReady, op, "image "+in.Image, "it is still being made", "", nil)
	}
	names := slices.ContainsFunc(listOf(in.Launch[setGroups]), func(g string) bool { return !hasPrefix(g, "sg-") })
	o.groups = listOf(in.Launch[setGroups])
	if in.Type != "" && !names {
		return o, nil
	}
	out, err := p.ec2().DescribeSubnets(ctx, &ec2.DescribeSubnetsInput{SubnetIds: []string{o.subnet}})
	if err != nil || len(out.Subnets) == 0 {
		return o, cmp.Or(awsError(op, "network "+in.Network, err), notFound(op, cloud.KindNetwork, in.Network))
	}
	if names {
		if o.groups, err = p.groupIDs(ctx, awssdk.ToString(out.Subnets[0].VpcId), o.groups); err != nil {
			return o, err
		}
	}
	if in.Type == "" {
		fit, err := p.fitting(ctx, awssdk.ToString(out.Subnets[0].AvailabilityZone), wanted{cpu: in.CPU, memory: in.Memory,
			architecture: cmp.Or(string(o.image.Architecture), string(types.ArchitectureTypeX8664)), families: listOf(in.Launch[setFamilies])})
		if err != nil {
			return o, err
		}
		var best []string
		for _, m := range fit[:min(len(fit), maxFitting)] {
			best = append(best, m.name)
		}
		o.types = append(best[:1], append(o.types, best[1:]...)...) // the substitutes that were named come before others
	}
	return o, nil
}

// subnetOf gives the subnet of a network, which may be called by its name.
func (p *Provider) subnetOf(ctx context.Context, op, network string) (string, error) {
	if hasPrefix(network, "subnet-") {
		return network, nil
	}
	networks, err := cloud.As[cloud.Networks](p, "networks")
	if err != nil || network == "" {
		return "", notFound(op, cloud.KindNetwork, network)
	}
	n, err := networks.Network(ctx, network)
	return n.ID, err
}

// groupIDs finds security groups of a VPC by name.
func (p *Provider) groupIDs(ctx context.Context, vpc string, groups []string) ([]string, error) {
	const op = "StartLaunch"
	there, err := listAll(ctx, ec2.NewDescribeSecurityGroupsPaginator(p.ec2(), &ec2.DescribeSecurityGroupsInput{Filters: []types.Filter{filter("vpc-id", vpc)}}),
		func(o *ec2.DescribeSecurityGroupsOutput) []types.SecurityGroup { return o.SecurityGroups })
	if err != nil {
		return nil, awsError(op, "security groups of "+vpc, err)
	}
	ids := make([]string, 0, len(groups))
	for _, name := range groups {
		i := slices.IndexFunc(there, func(g types.SecurityGroup) bool {
			return awssdk.ToString(g.GroupName) == name || awssdk.ToString(g.GroupId) == name
		})
		if i < 0 {
			return nil, invalid(op, "security group "+name, vpc+" has no such group", "make a group of this name there, or name other groups for the recovery")
		}
		ids = append(ids, awssdk.ToString(there[i].GroupId))
	}
	return ids, nil
}

// runAny tries the types of an order until there is room for one.
func (p *Provider) runAny(ctx context.Context, o launchOrder) (i types.Instance, err error) {
	for n, name := range o.types {
		sum := sha256.Sum256([]byte(o.in.Token + "\x00" + name))
		i, err = p.runInstance(ctx, o, name, hex.EncodeToString(sum[:20]))
		if err == nil || !noRoom(err) {
			return i, err
		}
		p.log.Warn("there is no room for an instance type", "server", o.in.Name, "type", name, "left", len(o.types)-n-1, "error", err)
	}
	return i, err
}

// noRoom tells whether another type may do what this one could not.
func noRoom(err error) bool {
	code := apiCode(err)
	return cloud.CodeOf(err) == cloud.Capacity && code != "InsufficientFreeAddressesInSubnet" || code == "Unsupported"
}

// runInstance makes the call.
func (p *Provider) runInstance(ctx context.Context, o launchOrder, instanceType, token string) (types.Instance, error) {
	in, set := o.in, o.in.Launch
	volumeTags := maps.Clone(o.tags)
	delete(volumeTags, tagRequest)
	o.tags = maps.Clone(o.tags)
	if devices := tagMap(o.image.Tags)[tagDevices]; devices != "" {
		o.tags[tagDevices] = devices
	}
	if len(in.Ports) > 0 {
		o.tags[tagPorts] = portsText(in.Ports)
	}
	request := &ec2.RunInstancesInput{MinCount: awssdk.Int32(1), MaxCount: awssdk.Int32(1), ClientToken: &token, ImageId: &in.Image,
		InstanceType: types.InstanceType(instanceType), SubnetId: &o.subnet, SecurityGroupIds: o.groups, BlockDeviceMappings: o.mappings(),
		PrivateIpAddress: pointer(in.IP), KeyName: pointer(set[setKeyPair]),
		InstanceInitiatedShutdownBehavior: types.ShutdownBehaviorStop,
		MetadataOptions: &types.InstanceMetadataOptionsRequest{HttpEndpoint: types.InstanceMetadataEndpointStateEnabled,
			HttpTokens: cmp.Or(types.HttpTokensState(set[setMetadata]), types.HttpTokensStateRequired), HttpPutResponseHopLimit: awssdk.Int32(2)},
		TagSpecifications: append(tagSpecs(o.tags, types.ResourceTypeInstance), tagSpecs(volumeTags, types.ResourceTypeVolume)...)}
	if data := cmp.Or(in.UserData, set[setUserData]); data != "" {
		request.UserData = awssdk.String(base64.StdEncoding.EncodeToString([]byte(data)))
	}
	if profile := set[setProfile]; strings.HasPrefix(profile, "arn:") {
		request.IamInstanceProfile = &types.IamInstanceProfileSpecification{Arn: &profile}
	} else if profile != "" {
		request.IamInstanceProfile = &types.IamInstanceProfileSpecification{Name: &profile}
	}
	if set[setMonitoring] != "" {
		request.Monitoring = &types.RunInstancesMonitoringEnabled{Enabled: awssdk.Bool(true)}
	}
	if set[setTenancy] != "" {
		request.Placement = &types.Placement{Tenancy: types.Tenancy(set[setTenancy])}
	}
	if id := set[setReservation]; id != "" {
		request.CapacityReservationSpecification = &types.CapacityReservationSpecification{
			CapacityReservationTarget: &types.CapacityReservationTarget{CapacityReservationId: &id}}
	}
	out, err := p.ec2().RunInstances(ctx, request)
	if err != nil {
		return types.Instance{}, awsError("StartLaunch", "server "+in.Name, err)
	}
	return out.Instances[0], nil
}

// mappings are the disks of the image, kept when the instance is terminated, and as the launch wants them.
func (o launchOrder) mappings() (list []types.BlockDeviceMapping) {
	set := o.in.Launch
	for _, m := range o.image.BlockDeviceMappings {
		if m.Ebs == nil {
			continue
		}
		disk := &types.EbsBlockDevice{DeleteOnTermination: awssdk.Bool(false), VolumeType: cmp.Or(types.VolumeType(o.in.DiskType), defaultVolumeType),
			Iops: number(set[setIOPS]), Throughput: number(set[setThroughput]), VolumeInitializationRate: number(set[setInit])}
		if key := set[setKey]; key != "" {
			disk.Encrypted, disk.KmsKeyId = awssdk.Bool(true), &key
		}
		list = append(list, types.BlockDeviceMapping{DeviceName: m.DeviceName, Ebs: disk})
	}
	return list
}

// checkSettings refuses settings that no launch can have.
func checkSettings(op, what string, set map[string]string) error {
	choices := map[string][]string{
		setMetadata:   {string(types.HttpTokensStateOptional), string(types.HttpTokensStateRequired)},
		setMonitoring: {monitoringDetailed},
		setTenancy:    {string(types.TenancyDefault), string(types.TenancyDedicated)},
	}
	for _, key := range slices.Sorted(maps.Keys(choices)) {
		if v := set[key]; v != "" && !slices.Contains(choices[key], v) {
			return invalid(op, what, "launch setting "+key+" is "+strconv.Quote(v), "choose "+strings.Join(choices[key], " or "))
		}
	}
	for _, key := range []string{setIOPS, setThroughput, setInit} {
		if v := set[key]; v != "" && number(v) == nil {
			return invalid(op, what, "launch setting "+key+" is "+strconv.Quote(v), "write a whole number")
		}
	}
	return nil
}

// number reads a positive number; nil when there is none.
func number(text string) *int32 {
	n, err := strconv.ParseInt(text, 10, 32)
	if err != nil || n <= 0 {
		return nil
	}
	return awssdk.Int32(int32(n))
}

// pointer is nil for an empty text.
func pointer(s string) *string {
	if s == "" {
		return nil
	}
	return &s
}

// listOf splits a list at commas.
func listOf(text string) (list []string) {
	for part := range strings.SplitSeq(text, ",") {
		if part = strings.TrimSpace(part); part != "" {
			list = append(list, part)
		}
	}
	return list
}
