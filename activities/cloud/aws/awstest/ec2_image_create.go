package awstest

import (
	"fmt"
	"slices"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/ec2"
	"github.com/aws/aws-sdk-go-v2/service/ec2/types"
)

// createImage makes an image of an instance with all its volumes
// (https://docs.aws.amazon.com/AWSEC2/latest/APIReference/API_CreateImage.html).
func (c *Call) createImage(in *ec2.CreateImageInput) (*image, error) {
	state, ok := "", false
	if instanceZone != nil {
		_, state, ok = instanceZone(c.Region, *in.InstanceId)
	}
	if !ok {
		return nil, fault("InvalidInstanceID.NotFound", "The instance ID '%s' does not exist", *in.InstanceId)
	}
	if state != "running" && state != "stopped" {
		return nil, fault("IncorrectState", "The instance '%s' is '%s', an image is made of a running or stopped one.", *in.InstanceId, state)
	}
	volumes := c.imageVolumes(in)
	if len(volumes) == 0 {
		return nil, fault("InvalidParameterValue", "Instance '%s' has no volumes.", *in.InstanceId)
	}
	if err := c.checkImageName(*in.Name); err != nil {
		return nil, err
	}
	if err := dryRun(in.DryRun); err != nil {
		return nil, err
	}
	i, err := c.newImage(*in.Name, in.TagSpecifications)
	if err != nil {
		return nil, err
	}
	set, err := c.snapshotInstance(volumes, func(*volume) (string, []types.TagSpecification) {
		return fmt.Sprintf("Created by CreateImage(%s) for %s", *in.InstanceId, i.ID), in.TagSpecifications
	})
	if err != nil {
		c.dropImage(i)
		return nil, err
	}
	i.instance, i.description = *in.InstanceId, aws.ToString(in.Description)
	if instanceRoot != nil {
		root, arch, _ := instanceRoot(c.Region, i.instance)
		i.root, i.arch = root, types.ArchitectureValues(arch)
	}
	i.maps = imageMappings(set, in)
	return i, c.capture(set, i.instance, !aws.ToBool(in.NoReboot) && state == "running")
}

// imageVolumes are the volumes of an instance that its image has: all but those that NoDevice takes out.
func (c *Call) imageVolumes(in *ec2.CreateImageInput) []*volume {
	return slices.DeleteFunc(c.attachedVolumes(*in.InstanceId), func(v *volume) bool {
		device := v.attachmentTo(*in.InstanceId).device
		return slices.ContainsFunc(in.BlockDeviceMappings, func(m types.BlockDeviceMapping) bool {
			return m.NoDevice != nil && aws.ToString(m.DeviceName) == device
		})
	})
}

// imageMappings say what an instance of the image gets. Of existing mappings only DeleteOnTermination
// can be changed, see BlockDeviceMappings of CreateImage; others are added.
func imageMappings(set []*capturing, in *ec2.CreateImageInput) []types.BlockDeviceMapping {
	var out []types.BlockDeviceMapping
	have := map[string]bool{}
	for _, one := range set {
		a, v := one.v.attachmentTo(*in.InstanceId), one.v
		m := types.BlockDeviceMapping{DeviceName: aws.String(a.device), Ebs: &types.EbsBlockDevice{
			SnapshotId: aws.String(one.s.ID), VolumeSize: aws.Int32(v.size), VolumeType: v.kind, Iops: v.iops, Throughput: v.throughput,
			Encrypted: aws.Bool(v.encrypted), DeleteOnTermination: aws.Bool(a.deleteOnTermination)}}
		for _, given := range in.BlockDeviceMappings {
			if aws.ToString(given.DeviceName) == a.device && given.Ebs != nil && given.Ebs.DeleteOnTermination != nil {
				m.Ebs.DeleteOnTermination = given.Ebs.DeleteOnTermination
			}
		}
		have[a.device] = true
		out = append(out, m)
	}
	for _, given := range in.BlockDeviceMappings {
		if given.NoDevice == nil && !have[aws.ToString(given.DeviceName)] {
			out = append(out, given)
		}
	}
	return out
}

// copyImage copies an image of another region, or of the same, with its snapshots
// (https://docs.aws.amazon.com/AWSEC2/latest/APIReference/API_CopyImage.html).
func (c *Call) copyImage(in *ec2.CopyImageInput) (*image, error) {
	source, err := c.findImage(*in.SourceRegion, *in.SourceImageId)
	if err != nil {
		return nil, err
	}
	if state, _ := c.imageState(source); state != types.ImageStateAvailable {
		return nil, fault("InvalidAMIID.Unavailable", "The image ID '%s' is in state '%s'", source.ID, state)
	}
	if err := c.checkImageName(*in.Name); err != nil {
		return nil, err
	}
	if err := c.checkCopies(len(source.snapshots())); err != nil {
		return nil, err
	}
	tags := in.TagSpecifications
	if aws.ToBool(in.CopyImageTags) && source.owner == c.Region.Account {
		tags = append([]types.TagSpecification{{ResourceType: types.ResourceTypeImage, Tags: source.tags()}}, tags...)
	}
	if _, _, err := c.encryption(in.Encrypted, in.KmsKeyId, ""); err != nil {
		return nil, err
	}
	if err := dryRun(in.DryRun); err != nil {
		return nil, err
	}
	i, err := c.newImage(*in.Name, tags)
	if err != nil {
		return nil, err
	}
	r := *source
	i.arch, i.virtual, i.boot, i.imds, i.tpm, i.ena, i.root = r.arch, r.virtual, r.boot, r.imds, r.tpm, r.ena, r.root
	i.description, i.source, i.region = aws.ToString(in.Description), source.ID, *in.SourceRegion
	if i.maps, err = c.copyMappings(source, i, in); err != nil {
		for _, id := range i.snapshots() {
			c.dropSnapshot(snapshotsOf(c.Region)[id])
		}
		c.dropImage(i)
		return nil, err
	}
	return i, nil
}

// copyMappings copies the snapshots of an image; on an error it returns those that there are already.
func (c *Call) copyMappings(source, i *image, in *ec2.CopyImageInput) ([]types.BlockDeviceMapping, error) {
	var out []types.BlockDeviceMapping
	for _, m := range source.maps {
		if m.Ebs == nil || m.Ebs.SnapshotId == nil {
			out = append(out, m)
			continue
		}
		snap := c.findSnapshot(*in.SourceRegion, *m.Ebs.SnapshotId)
		if snap == nil {
			return out, fault("InvalidSnapshot.NotFound", "The snapshot '%s' does not exist.", *m.Ebs.SnapshotId)
		}
		spec := copySpec{region: *in.SourceRegion, encrypted: in.Encrypted, key: in.KmsKeyId, tags: in.TagSpecifications,
			description: fmt.Sprintf("Copied for DestinationAmi %s from SourceAmi %s for SourceSnapshot %s.", i.ID, source.ID, snap.ID)}
		if d := in.SnapshotCopyCompletionDurationMinutes; d != nil {
			spec.duration = aws.Int32(int32(min(max(*d, 0), 2881))) //nolint:gosec // bounded
		}
		s, err := c.copySnapshot(snap, spec)
		if err != nil {
			return out, err
		}
		e := *m.Ebs
		e.SnapshotId, e.Encrypted = aws.String(s.ID), aws.Bool(s.encrypted)
		out = append(out, types.BlockDeviceMapping{DeviceName: m.DeviceName, Ebs: &e})
	}
	return out, nil
}

// registerImage makes an image of snapshots, which stay as they are
// (https://docs.aws.amazon.com/AWSEC2/latest/APIReference/API_RegisterImage.html).
func (c *Call) registerImage(in *ec2.RegisterImageInput) (*image, error) {
	if err := c.checkImageName(*in.Name); err != nil {
		return nil, err
	}
	root := aws.ToString(in.RootDeviceName)
	if root == "" {
		return nil, fault("MissingParameter", "The request must contain the parameter rootDeviceName")
	}
	maps, err := c.registeredMappings(in.BlockDeviceMappings)
	if err != nil {
		return nil, err
	}
	if !slices.ContainsFunc(maps, func(m types.BlockDeviceMapping) bool {
		return aws.ToString(m.DeviceName) == root && m.Ebs != nil && m.Ebs.SnapshotId != nil
	}) {
		return nil, fault("InvalidBlockDeviceMapping", "The root device %s has no snapshot in the block device mappings.", root)
	}
	if err := dryRun(in.DryRun); err != nil {
		return nil, err
	}
	i, err := c.newImage(*in.Name, in.TagSpecifications)
	if err != nil {
		return nil, err
	}
	i.description, i.root, i.maps, i.boot, i.imds, i.tpm = aws.ToString(in.Description), root, maps, in.BootMode, in.ImdsSupport, in.TpmSupport
	i.arch, i.virtual, i.ena = types.ArchitectureValuesI386, types.VirtualizationTypeParavirtual, aws.ToBool(in.EnaSupport)
	if in.Architecture != "" {
		i.arch = in.Architecture
	}
	if v := aws.ToString(in.VirtualizationType); v != "" {
		i.virtual = types.VirtualizationType(v)
	}
	return i, nil
}

// registeredMappings checks and completes mappings with snapshots.
func (c *Call) registeredMappings(given []types.BlockDeviceMapping) ([]types.BlockDeviceMapping, error) {
	var out []types.BlockDeviceMapping
	have := map[string]bool{}
	for _, m := range given {
		device := aws.ToString(m.DeviceName)
		if device == "" || have[device] {
			return nil, fault("InvalidBlockDeviceMapping", "The device '%s' is missing or twice.", device)
		}
		have[device] = true
		if m.Ebs == nil || aws.ToString(m.Ebs.SnapshotId) == "" {
			out = append(out, m)
			continue
		}
		s, err := c.usableSnapshot(*m.Ebs.SnapshotId)
		if err != nil {
			return nil, err
		}
		e := *m.Ebs
		switch {
		case e.Encrypted != nil:
			return nil, fault("InvalidBlockDeviceMapping", "The encryption of a volume of a snapshot cannot be set.")
		case e.VolumeSize != nil && *e.VolumeSize < s.size:
			return nil, fault("InvalidBlockDeviceMapping", "Volume of size %dGB is smaller than snapshot '%s', expect size>= %dGB", *e.VolumeSize, s.ID, s.size)
		}
		e.Encrypted, e.VolumeSize = aws.Bool(s.encrypted), orValue(e.VolumeSize, s.size)
		if e.DeleteOnTermination == nil {
			e.DeleteOnTermination = aws.Bool(true)
		}
		if e.VolumeType == "" {
			e.VolumeType = types.VolumeTypeGp2
		}
		out = append(out, types.BlockDeviceMapping{DeviceName: m.DeviceName, Ebs: &e})
	}
	return out, nil
}

func init() {
	on(ec2Service, "CreateImage", func(c *Call, in *ec2.CreateImageInput) (*ec2.CreateImageOutput, error) {
		i, err := c.createImage(in)
		if err != nil {
			return nil, err
		}
		return &ec2.CreateImageOutput{ImageId: aws.String(i.ID)}, nil
	})
	on(ec2Service, "CopyImage", func(c *Call, in *ec2.CopyImageInput) (*ec2.CopyImageOutput, error) {
		id, err := c.once(in.ClientToken, in, func() (string, error) {
			i, err := c.copyImage(in)
			if err != nil {
				return "", err
			}
			return i.ID, nil
		})
		return &ec2.CopyImageOutput{ImageId: aws.String(id)}, err
	})
	on(ec2Service, "RegisterImage", func(c *Call, in *ec2.RegisterImageInput) (*ec2.RegisterImageOutput, error) {
		i, err := c.registerImage(in)
		if err != nil {
			return nil, err
		}
		return &ec2.RegisterImageOutput{ImageId: aws.String(i.ID)}, nil
	})
	on(ec2Service, "EnableImageDeprecation", func(c *Call, in *ec2.EnableImageDeprecationInput) (*ec2.EnableImageDeprecationOutput, error) {
		i, err := c.ownImage(*in.ImageId)
		if err != nil {
			return nil, err
		}
		if in.DeprecateAt.Before(c.Now) || in.DeprecateAt.After(c.Now.AddDate(10, 0, 0)) {
			return nil, fault("InvalidParameterValue", "DeprecateAt is not in the next ten years.")
		}
		if err := dryRun(in.DryRun); err != nil {
			return nil, err
		}
		i.deprecated = in.DeprecateAt.Round(time.Minute)
		return &ec2.EnableImageDeprecationOutput{Return: aws.Bool(true)}, nil
	})
	on(ec2Service, "DisableImageDeprecation", func(c *Call, in *ec2.DisableImageDeprecationInput) (*ec2.DisableImageDeprecationOutput, error) {
		i, err := c.ownImage(*in.ImageId)
		if err != nil {
			return nil, err
		}
		if err := dryRun(in.DryRun); err != nil {
			return nil, err
		}
		i.deprecated = time.Time{}
		return &ec2.DisableImageDeprecationOutput{Return: aws.Bool(true)}, nil
	})
	on(ec2Service, "ModifyImageAttribute", func(c *Call, in *ec2.ModifyImageAttributeInput) (*ec2.ModifyImageAttributeOutput, error) {
		i, err := c.ownImage(*in.ImageId)
		if err != nil {
			return nil, err
		}
		if err := dryRun(in.DryRun); err != nil {
			return nil, err
		}
		return &ec2.ModifyImageAttributeOutput{}, i.modify(in)
	})
}

// modify changes one attribute: https://docs.aws.amazon.com/AWSEC2/latest/APIReference/API_ModifyImageAttribute.html
func (i *image) modify(in *ec2.ModifyImageAttributeInput) error {
	add := func(users, groups []string) {
		for _, who := range append(slices.Clone(users), groups...) {
			i.launch[who] = true
		}
	}
	remove := func(users, groups []string) {
		for _, who := range append(slices.Clone(users), groups...) {
			delete(i.launch, who)
		}
	}
	switch {
	case in.LaunchPermission != nil:
		for _, p := range in.LaunchPermission.Add {
			add([]string{aws.ToString(p.UserId) + string(p.Group)}, nil)
		}
		for _, p := range in.LaunchPermission.Remove {
			remove([]string{aws.ToString(p.UserId) + string(p.Group)}, nil)
		}
	case in.Description != nil:
		i.description = aws.ToString(in.Description.Value)
	case in.ImdsSupport != nil:
		i.imds = types.ImdsSupportValues(aws.ToString(in.ImdsSupport.Value))
	case aws.ToString(in.Attribute) == "launchPermission" && in.OperationType == types.OperationTypeAdd:
		add(in.UserIds, in.UserGroups)
	case aws.ToString(in.Attribute) == "launchPermission" && in.OperationType == types.OperationTypeRemove:
		remove(in.UserIds, in.UserGroups)
	case aws.ToString(in.Attribute) == "description":
		i.description = aws.ToString(in.Value)
	default:
		return fault("InvalidParameterCombination", "No attribute is specified.")
	}
	return nil
}
