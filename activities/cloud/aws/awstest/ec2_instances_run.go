package awstest

import (
	"encoding/base64"
	"net/netip"
	"slices"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/ec2"
	"github.com/aws/aws-sdk-go-v2/service/ec2/types"
)

// launching is an instance that is going to be made, all checked.
type launching struct {
	image    *image
	kind     instanceType
	subnet   *subnet
	ip       netip.Addr
	iface    *netInterface // that exists already, or nil
	groups   []*securityGroup
	mappings []types.BlockDeviceMapping
}

// runInstances launches one instance, as https://docs.aws.amazon.com/AWSEC2/latest/APIReference/API_RunInstances.html
// says; the double takes no other count, and gives no public addresses by itself.
func (c *Call) runInstances(in *ec2.RunInstancesInput) (*ec2.RunInstancesOutput, error) {
	s := c.compute()
	id, err := c.once(in.ClientToken, in, func() (string, error) {
		l, err := c.checkLaunch(s, in)
		if err != nil {
			return "", err
		}
		if err := dryRun(in.DryRun); err != nil {
			return "", err
		}
		if err := c.checkVCPUs(s, l.kind.vcpus); err != nil {
			return "", err
		}
		reservation, err := c.room(s, l.kind, l.subnet.zone, wantedReservation(in.CapacityReservationSpecification))
		if err != nil {
			return "", err
		}
		i, err := c.launch(s, l, in)
		if err != nil {
			return "", err
		}
		i.reservation = reservation
		c.wake(s, i)
		return i.ID, nil
	})
	if err != nil {
		return nil, err
	}
	i := s.instances[id]
	return &ec2.RunInstancesOutput{ReservationId: &i.reservationID, OwnerId: &c.Account, Instances: []types.Instance{c.showInstance(i)}}, nil
}

// wantedReservation is the capacity reservation that a launch names, "none" for none.
func wantedReservation(spec *types.CapacityReservationSpecification) string {
	switch {
	case spec == nil:
		return ""
	case spec.CapacityReservationTarget != nil:
		return aws.ToString(spec.CapacityReservationTarget.CapacityReservationId)
	case spec.CapacityReservationPreference == types.CapacityReservationPreferenceNone:
		return "none"
	}
	return ""
}

// checkLaunch refuses what cannot be launched.
func (c *Call) checkLaunch(s *computeState, in *ec2.RunInstancesInput) (l launching, err error) {
	if in.ImageId == nil {
		return l, fault("MissingParameter", "The request must contain the parameter ImageId")
	}
	if aws.ToInt32(in.MinCount) != 1 || aws.ToInt32(in.MaxCount) != 1 {
		return l, fault("InvalidParameterValue", "This double launches one instance a call: MinCount and MaxCount have to be 1.")
	}
	if l.image, err = c.launchImage(*in.ImageId); err != nil {
		return l, err
	}
	ok := false
	if l.kind, ok = findType(string(in.InstanceType)); !ok {
		return l, fault("InvalidParameterValue", "Invalid value '%s' for InstanceType.", in.InstanceType)
	}
	if l.kind.architecture() != l.image.arch {
		return l, fault("InvalidParameterValue", "The architecture '%s' of the specified instance type does not match the architecture '%s' of the specified AMI. Specify an instance type and an AMI that have matching architectures, and try again.", l.kind.architecture(), l.image.arch)
	}
	if err := c.checkPlace(s, in, &l); err != nil {
		return l, err
	}
	if !l.kind.offered(l.subnet.zone) {
		return l, unsupportedIn(l.kind, l.subnet.zone, c.Name)
	}
	if in.KeyName != nil && !s.hasKeyPair(*in.KeyName) {
		return l, fault("InvalidKeyPair.NotFound", "The key pair '%s' does not exist", *in.KeyName)
	}
	// 16 KiB before it is encoded: https://docs.aws.amazon.com/AWSEC2/latest/UserGuide/instancedata-add-user-data.html
	raw, err := base64.StdEncoding.DecodeString(aws.ToString(in.UserData))
	if err != nil {
		return l, fault("InvalidUserData.Malformed", "Invalid BASE64 encoding of user data")
	}
	if len(raw) > 16<<10 {
		return l, fault("InvalidParameterValue", "User data is limited to 16384 bytes")
	}
	if p := in.IamInstanceProfile; p != nil && (p.Arn == nil) == (p.Name == nil) {
		return l, fault("InvalidParameterCombination", "The parameter 'iamInstanceProfile.name' may not be used in combination with 'iamInstanceProfile.arn'")
	}
	for _, t := range in.TagSpecifications {
		if !slices.Contains([]types.ResourceType{types.ResourceTypeInstance, types.ResourceTypeVolume, types.ResourceTypeNetworkInterface}, t.ResourceType) {
			return l, fault("InvalidParameterValue", "'%s' is not a valid taggable resource type for this operation.", t.ResourceType)
		}
	}
	l.mappings, err = mergeMappings(l.image, in.BlockDeviceMappings)
	return l, err
}

// checkPlace finds subnet, address and security groups of a launch.
func (c *Call) checkPlace(s *computeState, in *ec2.RunInstancesInput, l *launching) error {
	subnetID, ip, groups := in.SubnetId, in.PrivateIpAddress, in.SecurityGroupIds
	if len(in.NetworkInterfaces) > 0 {
		if subnetID != nil || ip != nil || len(groups) > 0 {
			return fault("InvalidParameterCombination", "Network interfaces and an instance-level subnet ID, private IP address or security groups may not be specified on the same request")
		}
		n := in.NetworkInterfaces[0]
		if len(in.NetworkInterfaces) > 1 || aws.ToInt32(n.DeviceIndex) != 0 {
			return fault("InvalidParameterValue", "This double has instances with one network interface.")
		}
		if n.NetworkInterfaceId != nil {
			return s.takeInterface(*n.NetworkInterfaceId, l)
		}
		subnetID, ip, groups = n.SubnetId, n.PrivateIpAddress, n.Groups
	}
	if err := c.checkSubnet(s, subnetID, in.Placement, l); err != nil {
		return err
	}
	for _, name := range in.SecurityGroups {
		for _, g := range byID(s.groups) {
			if g.vpc == l.subnet.vpc && g.name == name {
				groups = append(groups, g.ID)
			}
		}
	}
	if len(in.SecurityGroups) > 0 && len(groups) == 0 {
		return fault("InvalidGroup.NotFound", "The security group '%s' does not exist", in.SecurityGroups[0])
	}
	var err error
	if l.groups, err = s.groupsFor(l.subnet.vpc, groups); err != nil {
		return err
	}
	l.ip, err = s.pick(l.subnet, aws.ToString(ip))
	return err
}

// takeInterface launches with an interface that exists.
func (s *computeState) takeInterface(id string, l *launching) error {
	i := s.interfaces[id]
	if i == nil {
		return fault("InvalidNetworkInterfaceID.NotFound", "The networkInterface ID '%s' does not exist", id)
	}
	if i.instance != nil {
		return fault("InvalidNetworkInterface.InUse", "Interface: [%s] in use.", id)
	}
	l.iface, l.subnet, l.ip, l.groups = i, i.subnet, i.ip, i.groups
	return nil
}

// checkSubnet finds the subnet of a launch: the one that is named, or the default one of a zone that
// offers the type.
func (c *Call) checkSubnet(s *computeState, id *string, at *types.Placement, l *launching) error {
	zone := ""
	if at != nil && (at.AvailabilityZone != nil || at.AvailabilityZoneId != nil) {
		var err error
		if zone, err = c.zone(at.AvailabilityZone, at.AvailabilityZoneId); err != nil {
			return err
		}
	}
	if id != nil {
		if l.subnet = s.subnets[*id]; l.subnet == nil {
			return fault("InvalidSubnetID.NotFound", "The subnet ID '%s' does not exist", *id)
		}
		if zone != "" && zone != l.subnet.zone {
			return fault("InvalidParameterValue", "The availability zone '%s' is not the one of subnet '%s'.", zone, *id)
		}
		return nil
	}
	for _, n := range byID(s.subnets) {
		if n.defaultFor && (zone == n.zone || zone == "" && l.kind.offered(n.zone)) {
			l.subnet = n
			return nil
		}
	}
	if s.defaultVPC() == nil {
		return fault("VPCIdNotSpecified", "No default VPC for this user. GroupName is only supported for EC2-Classic and default VPC.")
	}
	return fault("MissingInput", "No default subnet for the availability zone '%s'.", zone)
}

// mergeMappings puts what a launch asks for over what the image has, device by device
// (https://docs.aws.amazon.com/AWSEC2/latest/UserGuide/block-device-mapping-concepts.html).
func mergeMappings(i *image, given []types.BlockDeviceMapping) ([]types.BlockDeviceMapping, error) {
	merged := map[string]types.EbsBlockDevice{}
	for _, m := range i.maps {
		if m.Ebs != nil {
			merged[aws.ToString(m.DeviceName)] = *m.Ebs
		}
	}
	for _, m := range given {
		device := aws.ToString(m.DeviceName)
		if device == "" {
			return nil, fault("InvalidBlockDeviceMapping", "A block device mapping has no device name")
		}
		base, inImage := merged[device]
		if m.NoDevice != nil {
			if device == i.root {
				return nil, fault("InvalidBlockDeviceMapping", "The root device '%s' cannot be left out", device)
			}
			delete(merged, device)
			continue
		}
		if m.Ebs == nil {
			continue // instance store, which no type of the double has
		}
		if inImage && m.Ebs.Encrypted != nil && !*m.Ebs.Encrypted && aws.ToBool(base.Encrypted) {
			return nil, fault("InvalidParameterValue", "The encrypted flag of '%s' cannot be false, its snapshot is encrypted", device)
		}
		merged[device] = overlay(base, *m.Ebs)
	}
	var out []types.BlockDeviceMapping
	for _, device := range sortedKeys(merged) {
		ebs := merged[device]
		out = append(out, types.BlockDeviceMapping{DeviceName: &device, Ebs: &ebs})
	}
	return out, nil
}

// overlay replaces what is given. Another type leaves the image's performance behind.
func overlay(base, over types.EbsBlockDevice) types.EbsBlockDevice {
	if over.VolumeType != "" && over.VolumeType != base.VolumeType {
		base.VolumeType, base.Iops, base.Throughput = over.VolumeType, nil, nil
	}
	put := func(to **int32, from *int32) {
		if from != nil {
			*to = from
		}
	}
	put(&base.VolumeSize, over.VolumeSize)
	put(&base.Iops, over.Iops)
	put(&base.Throughput, over.Throughput)
	put(&base.VolumeInitializationRate, over.VolumeInitializationRate)
	if over.SnapshotId != nil {
		base.SnapshotId = over.SnapshotId
	}
	if over.Encrypted != nil {
		base.Encrypted = over.Encrypted
	}
	if over.KmsKeyId != nil {
		base.KmsKeyId = over.KmsKeyId
	}
	if over.DeleteOnTermination != nil {
		base.DeleteOnTermination = over.DeleteOnTermination
	}
	return base
}

// launch makes the instance, its interface and its volumes; nothing stays when a volume cannot be made.
func (c *Call) launch(s *computeState, l launching, in *ec2.RunInstancesInput) (*instance, error) {
	var volumes []*volume
	for _, m := range l.mappings {
		v, err := c.newVolume(volumeSpec{
			zone: l.subnet.zone, size: m.Ebs.VolumeSize, snapshot: m.Ebs.SnapshotId, kind: m.Ebs.VolumeType, iops: m.Ebs.Iops, throughput: m.Ebs.Throughput,
			initRate: m.Ebs.VolumeInitializationRate, encrypted: m.Ebs.Encrypted, key: m.Ebs.KmsKeyId, tags: in.TagSpecifications,
		})
		if err != nil {
			for _, made := range volumes {
				c.blocks().drop(made.content)
				delete(c.volumesOf(), made.ID)
				c.forget(made.ID)
			}
			return nil, err
		}
		volumes = append(volumes, v)
	}
	i := &instance{
		resource: c.newResource(types.ResourceTypeInstance, "i", in.TagSpecifications), reservationID: c.newID("r"), image: l.image.ID, rootDevice: l.image.root, arch: l.image.arch,
		kind: l.kind, placement: l.subnet.zone, iface: l.iface, key: aws.ToString(in.KeyName), profile: c.profileARN(in.IamInstanceProfile), userData: aws.ToString(in.UserData),
		metadata: metadataOptions(l.image, in.MetadataOptions), shutdown: "stop", protected: aws.ToBool(in.DisableApiTermination), protectedFromStop: aws.ToBool(in.DisableApiStop),
		ebsOptimized: aws.ToBool(in.EbsOptimized), clientToken: aws.ToString(in.ClientToken), launched: c.Now, state: types.InstanceStateNamePending, run: 1, unfilled: volumes,
	}
	if in.InstanceInitiatedShutdownBehavior != "" {
		i.shutdown = string(in.InstanceInitiatedShutdownBehavior)
	}
	if i.iface == nil {
		i.iface = c.newInterface(l.subnet, l.ip, l.groups, in.TagSpecifications)
	}
	i.iface.instance, i.iface.attached = i, c.Now
	for n, m := range l.mappings {
		c.attach(volumes[n], i.ID, *m.DeviceName, m.Ebs.DeleteOnTermination == nil || *m.Ebs.DeleteOnTermination)
	}
	s.instances[i.ID] = i
	return i, nil
}

func (c *Call) profileARN(p *types.IamInstanceProfileSpecification) string {
	switch {
	case p == nil:
		return ""
	case p.Arn != nil:
		return *p.Arn
	}
	return "arn:aws:iam::" + c.Account + ":instance-profile/" + *p.Name
}

// metadataOptions are those of the launch; an image may ask for IMDSv2
// (https://docs.aws.amazon.com/AWSEC2/latest/UserGuide/configuring-instance-metadata-options.html).
func metadataOptions(i *image, in *types.InstanceMetadataOptionsRequest) types.InstanceMetadataOptionsResponse {
	out := types.InstanceMetadataOptionsResponse{
		State: types.InstanceMetadataOptionsStateApplied, HttpEndpoint: types.InstanceMetadataEndpointStateEnabled, HttpTokens: types.HttpTokensStateOptional,
		HttpPutResponseHopLimit: aws.Int32(1), HttpProtocolIpv6: types.InstanceMetadataProtocolStateDisabled, InstanceMetadataTags: types.InstanceMetadataTagsStateDisabled,
	}
	if i.imds == types.ImdsSupportValuesV20 {
		out.HttpTokens, out.HttpPutResponseHopLimit = types.HttpTokensStateRequired, aws.Int32(2)
	}
	if in == nil {
		return out
	}
	if in.HttpTokens != "" {
		out.HttpTokens = in.HttpTokens
	}
	if in.HttpEndpoint != "" {
		out.HttpEndpoint = in.HttpEndpoint
	}
	if in.InstanceMetadataTags != "" {
		out.InstanceMetadataTags = in.InstanceMetadataTags
	}
	if in.HttpPutResponseHopLimit != nil {
		out.HttpPutResponseHopLimit = in.HttpPutResponseHopLimit
	}
	return out
}

func init() { on(ec2Service, "RunInstances", (*Call).runInstances) }
