package aws

import (
	"context"
	"slices"
	"strconv"
	"strings"

	awssdk "github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/ec2"
	"github.com/aws/aws-sdk-go-v2/service/ec2/types"

	"lifeboat/activities/cloud"
)

// LaunchSource says that instances start from images.
func (p *Provider) LaunchSource() cloud.LaunchSource { return cloud.FromImage }

// Server describes an instance. A terminated one is NotFound, with the reason that EC2 gives.
func (p *Provider) Server(ctx context.Context, id string) (cloud.Server, error) {
	i, err := p.instance(ctx, "Server", id)
	if err != nil {
		return cloud.Server{}, err
	}
	s := serverOf(i)
	return s, p.describeType(ctx, &s)
}

func (p *Provider) instance(ctx context.Context, op, id string) (types.Instance, error) {
	if !hasPrefix(id, "i-") {
		return types.Instance{}, notFound(op, cloud.KindServer, id)
	}
	out, err := p.ec2().DescribeInstances(ctx, &ec2.DescribeInstancesInput{InstanceIds: []string{id}})
	if err != nil {
		return types.Instance{}, awsError(op, "server "+id, err)
	}
	if len(out.Reservations) == 0 || len(out.Reservations[0].Instances) == 0 {
		return types.Instance{}, notFound(op, cloud.KindServer, id)
	}
	i := out.Reservations[0].Instances[0]
	if stateOf(i) == types.InstanceStateNameTerminated {
		return i, cloud.E(cloud.NotFound, op, "server "+id, "it was terminated"+reasonOf(i), "", nil)
	}
	return i, nil
}

// Servers lists the instances that are there.
func (p *Provider) Servers(ctx context.Context, f cloud.Filter) ([]cloud.Server, error) {
	all, err := p.instances(ctx, "Servers", f)
	if err != nil {
		return nil, err
	}
	servers := make([]cloud.Server, 0, len(all))
	for _, i := range all {
		s := serverOf(i)
		if err := p.describeType(ctx, &s); err != nil {
			return nil, err
		}
		servers = append(servers, s)
	}
	return servers, nil
}

func (p *Provider) instances(ctx context.Context, op string, f cloud.Filter) ([]types.Instance, error) {
	alive := filter("instance-state-name", "pending", "running", "shutting-down", "stopping", "stopped")
	all, err := listAll(ctx, ec2.NewDescribeInstancesPaginator(p.ec2(), &ec2.DescribeInstancesInput{Filters: append(ec2Filters(f), alive), MaxResults: awssdk.Int32(pageSize)}),
		func(o *ec2.DescribeInstancesOutput) (list []types.Instance) {
			for _, r := range o.Reservations {
				list = append(list, r.Instances...)
			}
			return list
		})
	if err != nil {
		return nil, awsError(op, "servers", err)
	}
	return slices.DeleteFunc(all, func(i types.Instance) bool { return !f.Match(tagMap(i.Tags)) }), nil
}

func stateOf(i types.Instance) types.InstanceStateName {
	if i.State == nil {
		return types.InstanceStateNamePending
	}
	return i.State.Name
}

// reasonOf says why an instance is in its state, when EC2 says so.
func reasonOf(i types.Instance) string {
	if r := i.StateReason; r != nil && awssdk.ToString(r.Message) != "" {
		return ": " + clean(awssdk.ToString(r.Message))
	}
	return ""
}

// serverOf describes an instance, but for what its type says.
func serverOf(i types.Instance) cloud.Server {
	state := map[types.InstanceStateName]cloud.State{
		types.InstanceStateNamePending: cloud.Starting, types.InstanceStateNameRunning: cloud.Running, types.InstanceStateNameStopping: cloud.Stopping,
		types.InstanceStateNameStopped: cloud.Stopped, types.InstanceStateNameShuttingDown: cloud.Deleting, types.InstanceStateNameTerminated: cloud.Deleting,
	}[stateOf(i)]
	tags := tagMap(i.Tags)
	s := cloud.Server{Resource: resourceOf(awssdk.ToString(i.InstanceId), state, "", tags, i.LaunchTime), Type: string(i.InstanceType),
		Network: awssdk.ToString(i.SubnetId), IP: awssdk.ToString(i.PrivateIpAddress), Public: awssdk.ToString(i.PublicIpAddress),
		Ports: portsOf(tags[tagPorts]), Launch: launchOf(i)}
	if state == cloud.Stopped || state == cloud.Stopping {
		s.Message = strings.TrimPrefix(reasonOf(i), ": ")
	}
	names := devicesOf(tags[tagDevices])
	for _, m := range i.BlockDeviceMappings {
		if m.Ebs == nil {
			continue
		}
		device := awssdk.ToString(m.DeviceName)
		s.Disks = append(s.Disks, cloud.ServerDisk{Name: names.name(device), DiskID: awssdk.ToString(m.Ebs.VolumeId), Device: shortDevice(device),
			Boot: device == awssdk.ToString(i.RootDeviceName)})
	}
	slices.SortStableFunc(s.Disks, func(a, b cloud.ServerDisk) int {
		if a.Boot != b.Boot {
			return boolInt(b.Boot) - boolInt(a.Boot)
		}
		return strings.Compare(a.Device, b.Device)
	})
	return s
}

// portsOf reads the tag lifeboat-ports. What is no port is left out.
func portsOf(text string) (ports []int) {
	for part := range strings.SplitSeq(text, ",") {
		if n, err := strconv.Atoi(strings.TrimSpace(part)); err == nil && n > 0 && n < 1<<16 {
			ports = append(ports, n)
		}
	}
	return ports
}

func portsText(ports []int) string {
	list := make([]string, len(ports))
	for i, n := range ports {
		list[i] = strconv.Itoa(n)
	}
	return strings.Join(list, ",")
}

// launchOf are the settings that a copy of an instance needs and that hold at another site, too: names, not identifiers
// of a region. Key pairs are left out, since the disks know who may log in.
func launchOf(i types.Instance) map[string]string {
	launch := map[string]string{}
	if i.IamInstanceProfile != nil { // profiles are of the account, not of the region
		arn := awssdk.ToString(i.IamInstanceProfile.Arn)
		launch[setProfile] = arn[strings.LastIndex(arn, "/")+1:]
	}
	var groups []string
	for _, g := range i.SecurityGroups {
		groups = append(groups, awssdk.ToString(g.GroupName))
	}
	if len(groups) > 0 && !slices.Equal(groups, []string{defaultGroup}) {
		launch[setGroups] = strings.Join(groups, ",")
	}
	if i.MetadataOptions != nil && i.MetadataOptions.HttpTokens == types.HttpTokensStateOptional {
		launch[setMetadata] = string(types.HttpTokensStateOptional)
	}
	if i.Monitoring != nil && i.Monitoring.State == types.MonitoringStateEnabled {
		launch[setMonitoring] = monitoringDetailed
	}
	if len(launch) == 0 {
		return nil
	}
	return launch
}

// StartServer starts a stopped instance; running already is no error to EC2 either. One that is still stopping is
// IncorrectInstanceState, Conflict.
func (p *Provider) StartServer(ctx context.Context, id string) error {
	const op = "StartServer"
	if _, err := p.instance(ctx, op, id); err != nil {
		return err
	}
	_, err := p.ec2().StartInstances(ctx, &ec2.StartInstancesInput{InstanceIds: []string{id}})
	return awsError(op, "server "+id, err)
}

// StopServer stops an instance. EC2 keeps nothing of its capacity: a capacity reservation does.
func (p *Provider) StopServer(ctx context.Context, id string, force bool) error {
	const op = "StopServer"
	i, err := p.instance(ctx, op, id)
	if err != nil {
		return err
	}
	if state := stateOf(i); state == types.InstanceStateNameStopped || state == types.InstanceStateNameStopping && !force {
		return nil
	}
	_, err = p.ec2().StopInstances(ctx, &ec2.StopInstancesInput{InstanceIds: []string{id}, Force: &force})
	return awsError(op, "server "+id, err)
}

// TerminateServer terminates an instance. Its disks stay: those that EC2 would delete with it are kept first.
func (p *Provider) TerminateServer(ctx context.Context, id string) error {
	const op = "TerminateServer"
	i, err := p.instance(ctx, op, id)
	if err != nil {
		return err
	}
	if stateOf(i) == types.InstanceStateNameShuttingDown {
		return nil
	}
	var keep []types.InstanceBlockDeviceMappingSpecification
	for _, m := range i.BlockDeviceMappings {
		if m.Ebs != nil && awssdk.ToBool(m.Ebs.DeleteOnTermination) {
			keep = append(keep, types.InstanceBlockDeviceMappingSpecification{DeviceName: m.DeviceName,
				Ebs: &types.EbsInstanceBlockDeviceSpecification{DeleteOnTermination: awssdk.Bool(false)}})
		}
	}
	if len(keep) > 0 {
		if _, err := p.ec2().ModifyInstanceAttribute(ctx, &ec2.ModifyInstanceAttributeInput{InstanceId: &id, BlockDeviceMappings: keep}); err != nil {
			return awsError(op, "server "+id, err)
		}
	}
	_, err = p.ec2().TerminateInstances(ctx, &ec2.TerminateInstancesInput{InstanceIds: []string{id}})
	return awsError(op, "server "+id, err)
}
