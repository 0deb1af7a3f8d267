package awstest

import (
	"slices"
	"strconv"
	"sync"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/ec2"
	"github.com/aws/aws-sdk-go-v2/service/ec2/types"
)

// instance is an EC2 instance. Its states are those of
// https://docs.aws.amazon.com/AWSEC2/latest/UserGuide/ec2-instance-lifecycle.html; a running one is a process on
// its volumes, when Options.Guest says which (guests.go).
type instance struct {
	*resource
	reservationID      string
	image, rootDevice  string
	arch               types.ArchitectureValues
	kind               instanceType
	placement          string        // its zone
	iface              *netInterface // nil when terminated
	key                string
	profile            string // ARN
	userData           string // base64
	metadata           types.InstanceMetadataOptionsResponse
	shutdown           string // stop or terminate; only kept, see KillGuest
	protected          bool   // against TerminateInstances
	protectedFromStop  bool
	ebsOptimized       bool
	clientToken        string
	launched           time.Time
	reservation        *capacityReservation
	state              types.InstanceStateName
	reasonCode, reason string
	transition         string
	terminated         time.Time

	// What it was told to be, and how far it is; see step.
	wish      wish
	force     bool
	run, done int       // number of the start that is wished, and of the one that runs
	busy      bool      // somebody works on it
	unfilled  []*volume // that it was launched with
	starts    int       // of its process
	guest     *guest

	turn sync.Mutex // held by who starts or ends its process; taken before the lock of the double
}

// takesRoom tells whether an instance counts against capacity and quotas of running instances.
func (i *instance) takesRoom() bool {
	return i.state == types.InstanceStateNamePending || i.state == types.InstanceStateNameRunning
}

// stateCodes are the low bytes of instance states: https://docs.aws.amazon.com/AWSEC2/latest/APIReference/API_InstanceState.html
var stateCodes = map[types.InstanceStateName]int32{
	types.InstanceStateNamePending: 0, types.InstanceStateNameRunning: 16, types.InstanceStateNameShuttingDown: 32,
	types.InstanceStateNameTerminated: 48, types.InstanceStateNameStopping: 64, types.InstanceStateNameStopped: 80,
}

func showState(name types.InstanceStateName) *types.InstanceState {
	return &types.InstanceState{Name: name, Code: aws.Int32(stateCodes[name])}
}

// goneAfter is how long a terminated instance is shown
// (https://docs.aws.amazon.com/AWSEC2/latest/APIReference/API_DescribeInstances.html).
const goneAfter = time.Hour

// listed are the instances that describing calls know. The others stay, for their client tokens.
func (s *computeState) listed(now time.Time) map[string]*instance {
	out := map[string]*instance{}
	for id, i := range s.instances {
		if i.state != types.InstanceStateNameTerminated || now.Sub(i.terminated) < goneAfter {
			out[id] = i
		}
	}
	return out
}

// instancesOf finds instances that are not gone by identifier.
func (c *Call) instancesOf(ids []string) ([]*instance, error) {
	listed := c.compute().listed(c.Now)
	var out []*instance
	for _, id := range ids {
		if len(id) < 3 || id[:2] != "i-" {
			return nil, fault("InvalidInstanceID.Malformed", "Invalid id: \"%s\" (expecting \"i-...\")", id)
		}
		i := listed[id]
		if i == nil {
			return nil, fault("InvalidInstanceID.NotFound", "The instance ID '%s' does not exist", id)
		}
		out = append(out, i)
	}
	return out, nil
}

// showInstance copies what the API tells about an instance: answers are written when the lock is free again.
func (c *Call) showInstance(i *instance) types.Instance {
	kind := i.kind
	out := types.Instance{
		InstanceId: &i.ID, ImageId: aws.String(i.image), InstanceType: types.InstanceType(i.kind.name), State: showState(i.state), Tags: i.tags(),
		LaunchTime: aws.Time(i.launched), AmiLaunchIndex: aws.Int32(0), Architecture: i.arch, Hypervisor: types.HypervisorTypeXen, VirtualizationType: types.VirtualizationTypeHvm,
		RootDeviceName: aws.String(i.rootDevice), RootDeviceType: types.DeviceTypeEbs, EbsOptimized: aws.Bool(i.ebsOptimized), EnaSupport: aws.Bool(true), SourceDestCheck: aws.Bool(true),
		Placement:  &types.Placement{AvailabilityZone: &i.placement, AvailabilityZoneId: aws.String(zoneID(i.placement)), Tenancy: types.TenancyDefault},
		Monitoring: &types.Monitoring{State: types.MonitoringStateDisabled}, StateTransitionReason: aws.String(i.transition),
		PlatformDetails: aws.String("Linux/UNIX"), UsageOperation: aws.String("RunInstances"), MetadataOptions: new(i.metadata),
		CpuOptions: &types.CpuOptions{CoreCount: &kind.cores, ThreadsPerCore: aws.Int32(kind.vcpus / kind.cores)},
	}
	if i.clientToken != "" {
		out.ClientToken = &i.clientToken
	}
	if i.key != "" {
		out.KeyName = &i.key
	}
	if i.profile != "" {
		out.IamInstanceProfile = &types.IamInstanceProfile{Arn: &i.profile}
	}
	if i.reason != "" {
		out.StateReason = &types.StateReason{Code: aws.String(i.reasonCode), Message: aws.String(i.reason)}
	}
	if i.reservation != nil {
		out.CapacityReservationId = &i.reservation.ID
	}
	for _, v := range c.attachedVolumes(i.ID) {
		a := v.attachmentTo(i.ID)
		out.BlockDeviceMappings = append(out.BlockDeviceMappings, types.InstanceBlockDeviceMapping{DeviceName: aws.String(a.device), Ebs: &types.EbsInstanceBlockDevice{
			VolumeId: &v.ID, AttachTime: aws.Time(a.since), DeleteOnTermination: aws.Bool(a.deleteOnTermination), Status: types.AttachmentStatus(a.state(c.Now)),
		}})
	}
	c.showNetwork(i, &out)
	return out
}

func (c *Call) showNetwork(i *instance, out *types.Instance) {
	if i.iface == nil {
		return // a terminated instance has no address any more
	}
	f := c.showInterface(i.iface)
	out.SubnetId, out.VpcId, out.PrivateIpAddress, out.PrivateDnsName, out.SecurityGroups = f.SubnetId, f.VpcId, f.PrivateIpAddress, f.PrivateDnsName, f.Groups
	one := types.InstanceNetworkInterface{
		NetworkInterfaceId: f.NetworkInterfaceId, SubnetId: f.SubnetId, VpcId: f.VpcId, PrivateIpAddress: f.PrivateIpAddress, PrivateDnsName: f.PrivateDnsName, Groups: f.Groups,
		Description: f.Description, OwnerId: f.OwnerId, Status: f.Status, SourceDestCheck: f.SourceDestCheck, InterfaceType: aws.String("interface"),
		Attachment: &types.InstanceNetworkInterfaceAttachment{
			AttachmentId: f.Attachment.AttachmentId, AttachTime: f.Attachment.AttachTime, DeleteOnTermination: f.Attachment.DeleteOnTermination,
			DeviceIndex: f.Attachment.DeviceIndex, Status: f.Attachment.Status,
		},
	}
	if f.Association != nil {
		one.Association = &types.InstanceNetworkInterfaceAssociation{PublicIp: f.Association.PublicIp, IpOwnerId: f.Association.IpOwnerId}
		out.PublicIpAddress = f.Association.PublicIp
	}
	one.PrivateIpAddresses = []types.InstancePrivateIpAddress{{Primary: aws.Bool(true), PrivateIpAddress: f.PrivateIpAddress, PrivateDnsName: f.PrivateDnsName, Association: one.Association}}
	out.NetworkInterfaces = []types.InstanceNetworkInterface{one}
}

// instanceFilter gives what an instance has under the name of a filter of DescribeInstances.
func (c *Call) instanceFilter(i *instance, name string) ([]string, bool) {
	switch name {
	case "block-device-mapping.volume-id", "block-device-mapping.device-name":
		return each(c.attachedVolumes(i.ID), func(v *volume) string {
			if name == "block-device-mapping.volume-id" {
				return v.ID
			}
			return v.attachmentTo(i.ID).device
		}), true
	case "instance.group-id", "network-interface.group-id":
		if i.iface == nil {
			return nil, true
		}
		return each(i.iface.groups, func(g *securityGroup) string { return g.ID }), true
	}
	values := map[string]string{
		"instance-id": i.ID, "instance-state-name": string(i.state), "instance-state-code": strconv.Itoa(int(stateCodes[i.state])), "instance-type": i.kind.name,
		"image-id": i.image, "availability-zone": i.placement, "availability-zone-id": zoneID(i.placement), "key-name": i.key, "client-token": i.clientToken,
		"reservation-id": i.reservationID, "architecture": string(i.arch), "launch-time": filterTime(i.launched), "root-device-name": i.rootDevice, "root-device-type": "ebs",
		"owner-id": c.Account, "iam-instance-profile.arn": i.profile, "tenancy": "default", "virtualization-type": "hvm", "state-reason-code": i.reasonCode,
		"metadata-options.http-tokens": string(i.metadata.HttpTokens), "capacity-reservation-id": "",
		"subnet-id": "", "network-interface.subnet-id": "", "vpc-id": "", "network-interface.vpc-id": "", "private-ip-address": "",
		"network-interface.addresses.private-ip-address": "", "network-interface.network-interface-id": "", "ip-address": "", "private-dns-name": "",
	}
	if i.reservation != nil {
		values["capacity-reservation-id"] = i.reservation.ID
	}
	if f := i.iface; f != nil {
		values["subnet-id"], values["network-interface.subnet-id"] = f.subnet.ID, f.subnet.ID
		values["vpc-id"], values["network-interface.vpc-id"] = f.subnet.vpc.ID, f.subnet.vpc.ID
		values["private-ip-address"], values["network-interface.addresses.private-ip-address"] = f.ip.String(), f.ip.String()
		values["network-interface.network-interface-id"], values["private-dns-name"] = f.ID, *privateName(c.Name, f.ip)
		if a := c.compute().addressOf(f); a != nil {
			values["ip-address"] = a.public
		}
	}
	v, ok := values[name]
	if v == "" {
		return nil, ok
	}
	return []string{v}, ok
}

func (c *Call) describeInstances(in *ec2.DescribeInstancesInput) (*ec2.DescribeInstancesOutput, error) {
	if err := dryRun(in.DryRun); err != nil {
		return nil, err
	}
	if len(in.InstanceIds) > 0 && in.MaxResults != nil {
		return nil, fault("InvalidParameterCombination", "The parameter instancesSet cannot be used with the parameter maxResults")
	}
	if _, err := c.instancesOf(in.InstanceIds); err != nil {
		return nil, err
	}
	all, err := selected(c, c.compute().listed(c.Now), in.InstanceIds, "InvalidInstanceID.NotFound", in.Filters, c.instanceFilter)
	if err != nil {
		return nil, err
	}
	all, next, err := page(c, all, in.MaxResults, in.NextToken)
	return &ec2.DescribeInstancesOutput{NextToken: next, Reservations: each(all, func(i *instance) types.Reservation {
		return types.Reservation{ReservationId: &i.reservationID, OwnerId: &c.Account, Instances: []types.Instance{c.showInstance(i)}}
	})}, err
}

// describeInstanceStatus tells whether instances answer: the check of the instance itself is impaired when its process
// is dead (https://docs.aws.amazon.com/AWSEC2/latest/UserGuide/monitoring-system-instance-status-check.html). Only
// running ones are listed, unless IncludeAllInstances is set.
func (c *Call) describeInstanceStatus(in *ec2.DescribeInstanceStatusInput) (*ec2.DescribeInstanceStatusOutput, error) {
	if err := dryRun(in.DryRun); err != nil {
		return nil, err
	}
	if _, err := c.instancesOf(in.InstanceIds); err != nil {
		return nil, err
	}
	all, err := selected(c, c.compute().listed(c.Now), in.InstanceIds, "InvalidInstanceID.NotFound", in.Filters, c.instanceFilter)
	if err != nil {
		return nil, err
	}
	if !aws.ToBool(in.IncludeAllInstances) {
		all = slices.DeleteFunc(all, func(i *instance) bool { return i.state != types.InstanceStateNameRunning })
	}
	all, next, err := page(c, all, in.MaxResults, in.NextToken)
	if err != nil {
		return nil, err
	}
	out := &ec2.DescribeInstanceStatusOutput{NextToken: next}
	for _, i := range all {
		out.InstanceStatuses = append(out.InstanceStatuses, types.InstanceStatus{InstanceId: &i.ID, AvailabilityZone: &i.placement, InstanceState: showState(i.state)})
	}
	return out, c.unlocked(func() error {
		for n := range out.InstanceStatuses {
			s := &out.InstanceStatuses[n]
			own, system := types.SummaryStatusNotApplicable, types.SummaryStatusNotApplicable
			if s.InstanceState.Name == types.InstanceStateNameRunning {
				own, system = types.SummaryStatusOk, types.SummaryStatusOk
				if !c.guestAlive(c.HTTP.Context(), *s.InstanceId) {
					own = types.SummaryStatusImpaired
				}
			}
			s.InstanceStatus, s.SystemStatus = showChecks(own), showChecks(system)
		}
		return nil
	})
}

func showChecks(status types.SummaryStatus) *types.InstanceStatusSummary {
	out := &types.InstanceStatusSummary{Status: status}
	switch status {
	case types.SummaryStatusOk:
		out.Details = []types.InstanceStatusDetails{{Name: types.StatusNameReachability, Status: types.StatusTypePassed}}
	case types.SummaryStatusImpaired:
		out.Details = []types.InstanceStatusDetails{{Name: types.StatusNameReachability, Status: types.StatusTypeFailed}}
	}
	return out
}

func init() {
	on(ec2Service, "DescribeInstances", (*Call).describeInstances)
	on(ec2Service, "DescribeInstanceStatus", (*Call).describeInstanceStatus)
	instanceZone = func(r *Region, id string) (zone, state string, ok bool) {
		i := part[computeState](r).instances[id]
		if i == nil {
			return "", "", false
		}
		return i.placement, string(i.state), true
	}
	instanceRoot = func(r *Region, id string) (device, architecture, imageID string) {
		i := part[computeState](r).instances[id]
		if i == nil {
			return "", "", ""
		}
		return i.rootDevice, string(i.arch), i.image
	}
}
