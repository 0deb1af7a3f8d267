package aws

import (
	"cmp"
	"context"
	"os"
	"slices"
	"strings"

	awssdk "github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/ec2"
	"github.com/aws/aws-sdk-go-v2/service/ec2/types"

	"lifeboat/activities/cloud"
)

// gib is what sizes of volumes are counted in.
const gib = 1 << 30

// defaultVolumeType is the one that is no smaller, slower or dearer than gp2, which EC2 takes by default.
const defaultVolumeType = types.VolumeTypeGp3

// StartCreateDisk makes a volume in the zone of the site. Bytes are rounded up to GiB. CreateVolume has a client token.
func (p *Provider) StartCreateDisk(ctx context.Context, in cloud.CreateDisk) (cloud.Disk, error) {
	const op = "StartCreateDisk"
	if err := cloud.CheckToken(op, cloud.KindDisk, in.Token); err != nil {
		return cloud.Disk{}, err
	}
	what := "disk " + in.Name
	switch {
	case in.Source != "":
		return cloud.Disk{}, cloud.E(cloud.Unsupported, op, what, "a file of this machine cannot be a disk in AWS", "copy its content with an agent", nil)
	case in.Bytes < 0, in.Bytes == 0 && in.SnapshotID == "":
		return cloud.Disk{}, invalid(op, what, "a disk needs a size", "give it at least 1 GiB, or a snapshot")
	case in.SnapshotID != "" && !hasPrefix(in.SnapshotID, "snap-"):
		return cloud.Disk{}, notFound(op, cloud.KindSnapshot, in.SnapshotID)
	}
	size := (in.Bytes + gib - 1) / gib
	if in.SnapshotID != "" && in.Bytes > 0 {
		s, err := p.Snapshot(ctx, in.SnapshotID)
		if err != nil {
			return cloud.Disk{}, err
		}
		if in.Bytes < s.Bytes { // the rounded one may be large enough; what was asked for is not
			return cloud.Disk{}, invalid(op, what, "the disk is smaller than its snapshot", "leave the size out, or give a larger one")
		}
	}
	zone, err := p.zone(ctx)
	if err != nil {
		return cloud.Disk{}, err
	}
	request := &ec2.CreateVolumeInput{AvailabilityZone: &zone, ClientToken: &in.Token, VolumeType: cmp.Or(types.VolumeType(in.Type), defaultVolumeType),
		TagSpecifications: tagSpecs(allTags(in.Create, nil), types.ResourceTypeVolume)}
	if size > 0 {
		request.Size = awssdk.Int32(int32(min(size, 1<<30)))
	}
	if in.SnapshotID != "" {
		request.SnapshotId = &in.SnapshotID
	}
	if in.Key != "" {
		request.Encrypted, request.KmsKeyId = awssdk.Bool(true), &in.Key
	}
	out, err := p.ec2().CreateVolume(ctx, request)
	if err != nil {
		return cloud.Disk{}, awsError(op, what, err)
	}
	return diskOf(types.Volume{VolumeId: out.VolumeId, State: out.State, Size: out.Size, VolumeType: out.VolumeType, SnapshotId: out.SnapshotId,
		CreateTime: out.CreateTime, Tags: out.Tags, Attachments: out.Attachments}), nil
}

// zone gives the zone that volumes are made in: the site's, or the first one that the region offers.
func (p *Provider) zone(ctx context.Context) (string, error) {
	if p.site.Zone != "" {
		return p.site.Zone, nil
	}
	p.mu.Lock()
	zones := p.zones
	p.mu.Unlock()
	if len(zones) == 0 {
		out, err := p.ec2().DescribeAvailabilityZones(ctx, &ec2.DescribeAvailabilityZonesInput{
			Filters: []types.Filter{filter("zone-type", "availability-zone"), filter("state", "available")}})
		if err != nil {
			return "", awsError("Zone", "site "+p.site.Name, err)
		}
		for _, z := range out.AvailabilityZones {
			zones = append(zones, awssdk.ToString(z.ZoneName))
		}
		slices.Sort(zones)
		if len(zones) == 0 {
			return "", cloud.E(cloud.Capacity, "Zone", "site "+p.site.Name, "no zone of region "+p.site.Region+" is available", "give the site a zone", nil)
		}
		p.mu.Lock()
		p.zones = zones
		p.mu.Unlock()
	}
	return zones[0], nil
}

// Disk describes a volume.
func (p *Provider) Disk(ctx context.Context, id string) (cloud.Disk, error) {
	v, err := p.volume(ctx, "Disk", id)
	return diskOf(v), err
}

func (p *Provider) volume(ctx context.Context, op, id string) (types.Volume, error) {
	list, err := p.volumes(ctx, op, []string{id})
	if err != nil {
		return types.Volume{}, err
	}
	return list[0], nil
}

// volumes describes several, in the order of ids; one that is missing is NotFound.
func (p *Provider) volumes(ctx context.Context, op string, ids []string) ([]types.Volume, error) {
	what := "disk " + strings.Join(ids, ", ")
	if len(ids) == 0 {
		return nil, nil // an empty list would describe all
	}
	for _, id := range ids {
		if !hasPrefix(id, "vol-") {
			return nil, notFound(op, cloud.KindDisk, id)
		}
	}
	found, err := listAll(ctx, ec2.NewDescribeVolumesPaginator(p.ec2(), &ec2.DescribeVolumesInput{VolumeIds: ids}),
		func(o *ec2.DescribeVolumesOutput) []types.Volume { return o.Volumes })
	if err != nil {
		return nil, awsError(op, what, err)
	}
	list := make([]types.Volume, 0, len(ids))
	for _, id := range ids {
		i := slices.IndexFunc(found, func(v types.Volume) bool { return awssdk.ToString(v.VolumeId) == id })
		if i < 0 || found[i].State == types.VolumeStateDeleted {
			return nil, notFound(op, cloud.KindDisk, id)
		}
		list = append(list, found[i])
	}
	return list, nil
}

// Disks lists volumes.
func (p *Provider) Disks(ctx context.Context, f cloud.Filter) ([]cloud.Disk, error) {
	all, err := listAll(ctx, ec2.NewDescribeVolumesPaginator(p.ec2(), &ec2.DescribeVolumesInput{Filters: ec2Filters(f), MaxResults: awssdk.Int32(pageSize)}),
		func(o *ec2.DescribeVolumesOutput) []types.Volume { return o.Volumes })
	if err != nil {
		return nil, awsError("Disks", "disks", err)
	}
	var disks []cloud.Disk
	for _, v := range all {
		if f.Match(tagMap(v.Tags)) && v.State != types.VolumeStateDeleted {
			disks = append(disks, diskOf(v))
		}
	}
	return disks, nil
}

// diskOf describes a volume. While it is being attached or detached its state is still the earlier one.
func diskOf(v types.Volume) cloud.Disk {
	state := map[types.VolumeState]cloud.State{
		types.VolumeStateCreating: cloud.Creating, types.VolumeStateAvailable: cloud.Available, types.VolumeStateInUse: cloud.Attached,
		types.VolumeStateDeleting: cloud.Deleting, types.VolumeStateDeleted: cloud.Deleting, types.VolumeStateError: cloud.Failing,
	}[v.State]
	d := cloud.Disk{Bytes: int64(awssdk.ToInt32(v.Size)) * gib, Type: string(v.VolumeType), SnapshotID: awssdk.ToString(v.SnapshotId)}
	if a, ok := attachmentOf(v); ok {
		d.Server, d.Device = awssdk.ToString(a.InstanceId), shortDevice(awssdk.ToString(a.Device))
		if a.State == types.VolumeAttachmentStateAttaching {
			state = cloud.Available
		}
	}
	message := ""
	if state == cloud.Failing {
		message = "the volume could not be made: look at its key, and at the snapshot that it is made from"
	}
	d.Resource = resourceOf(awssdk.ToString(v.VolumeId), state, message, tagMap(v.Tags), v.CreateTime)
	if d.ID != "" {
		d.Path = pathHere(d.ID)
	}
	return d
}

// attachmentOf gives the attachment that a volume has.
func attachmentOf(v types.Volume) (types.VolumeAttachment, bool) {
	for _, a := range v.Attachments {
		if a.State != types.VolumeAttachmentStateDetached {
			return a, true
		}
	}
	return types.VolumeAttachment{}, false
}

// pathHere is where a volume is found on this machine, when it is attached to it: udev names NVMe devices by
// their serial number, which is the volume's identifier
// (https://docs.aws.amazon.com/ebs/latest/userguide/identify-nvme-ebs-device.html).
func pathHere(volume string) string {
	path := "/dev/disk/by-id/nvme-Amazon_Elastic_Block_Store_" + strings.ReplaceAll(volume, "-", "")
	if _, err := os.Stat(path); err != nil {
		return ""
	}
	return path
}

// StartAttachDisk attaches a volume. AttachVolume has no token: a look tells whether it is done.
func (p *Provider) StartAttachDisk(ctx context.Context, disk, server, device string) error {
	const op = "StartAttachDisk"
	for try := 1; ; try++ {
		v, err := p.volume(ctx, op, disk)
		if err != nil {
			return err
		}
		if a, ok := attachmentOf(v); ok {
			return attachedWell(op, disk, server, device, a)
		}
		if !hasPrefix(server, "i-") {
			return notFound(op, cloud.KindServer, server)
		}
		if device == "" {
			if device, err = p.freeDevice(ctx, server); err != nil {
				return err
			}
		}
		_, err = p.ec2().AttachVolume(ctx, &ec2.AttachVolumeInput{VolumeId: &disk, InstanceId: &server, Device: awssdk.String(longDevice(device))})
		if apiCode(err) == "VolumeInUse" && try == 1 {
			continue // somebody was quicker, perhaps an earlier attempt of this call: look who has it
		}
		return awsError(op, "disk "+disk, err)
	}
}

// attachedWell tells whether an attachment is the wanted one.
func attachedWell(op, disk, server, device string, a types.VolumeAttachment) error {
	has, as := awssdk.ToString(a.InstanceId), shortDevice(awssdk.ToString(a.Device))
	if has != server || device != "" && as != shortDevice(device) || a.State == types.VolumeAttachmentStateDetaching {
		return cloud.E(cloud.InUse, op, "disk "+disk, "it is "+string(a.State)+" at server "+has+" as "+as, "detach it first", nil)
	}
	return nil
}

// freeDevice gives a name that no disk of a server has.
func (p *Provider) freeDevice(ctx context.Context, server string) (string, error) {
	i, err := p.instance(ctx, "StartAttachDisk", server)
	if err != nil {
		return "", err
	}
	for _, name := range dataDevices {
		if !slices.ContainsFunc(i.BlockDeviceMappings, func(m types.InstanceBlockDeviceMapping) bool {
			return shortDevice(awssdk.ToString(m.DeviceName)) == name
		}) {
			return name, nil
		}
	}
	return "", cloud.E(cloud.Quota, "StartAttachDisk", "server "+server, "no device name is free for another disk", "detach a disk", nil)
}

// StartDetachDisk takes a volume from its server.
func (p *Provider) StartDetachDisk(ctx context.Context, disk string) error {
	const op = "StartDetachDisk"
	v, err := p.volume(ctx, op, disk)
	if err != nil {
		return err
	}
	if a, ok := attachmentOf(v); !ok || a.State == types.VolumeAttachmentStateDetaching {
		return nil
	}
	_, err = p.ec2().DetachVolume(ctx, &ec2.DetachVolumeInput{VolumeId: &disk})
	if apiCode(err) == "IncorrectState" { // detached since the look
		if v, lookErr := p.volume(ctx, op, disk); lookErr == nil && v.State == types.VolumeStateAvailable {
			return nil
		}
	}
	return awsError(op, "disk "+disk, err)
}

// DeleteDisk deletes a volume.
func (p *Provider) DeleteDisk(ctx context.Context, id string) error {
	const op = "DeleteDisk"
	if !hasPrefix(id, "vol-") {
		return notFound(op, cloud.KindDisk, id)
	}
	_, err := p.ec2().DeleteVolume(ctx, &ec2.DeleteVolumeInput{VolumeId: &id})
	if strings.HasPrefix(apiCode(err), "IncorrectState") { // it may be on its way already
		if v, lookErr := p.volume(ctx, op, id); lookErr == nil && v.State == types.VolumeStateDeleting {
			return nil
		}
	}
	return awsError(op, "disk "+id, err)
}

// hasPrefix tells whether an identifier can be one of a kind; EC2 answers to others in many ways.
func hasPrefix(id, prefix string) bool { return len(id) > len(prefix) && strings.HasPrefix(id, prefix) }
