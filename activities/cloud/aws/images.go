package aws

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"slices"
	"strings"
	"time"

	awssdk "github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/ec2"
	"github.com/aws/aws-sdk-go-v2/service/ec2/types"

	"lifeboat/activities/cloud"
)

// StartCreateImage makes an image of a server and snapshots of its disks. CreateImage has no client token: the tag is
// looked for, and the name, which contains the token, is the second guard.
func (p *Provider) StartCreateImage(ctx context.Context, in cloud.Create, server string, reboot bool) (cloud.Image, error) {
	const op = "StartCreateImage"
	request := struct {
		cloud.Create
		Server string
		Reboot bool
	}{in, server, reboot}
	return p.oneImage(ctx, op, in, request, func(ctx context.Context, tags map[string]string) (string, error) {
		i, err := p.instance(ctx, op, server)
		if err != nil {
			return "", err
		}
		if devices := tagMap(i.Tags)[tagDevices]; devices != "" {
			tags[tagDevices] = devices
		}
		tags[tagMachine] = machineOf(i)
		out, err := p.ec2().CreateImage(ctx, &ec2.CreateImageInput{InstanceId: &server, Name: awssdk.String(imageName(in)), NoReboot: awssdk.Bool(!reboot),
			TagSpecifications: tagSpecs(tags, types.ResourceTypeImage, types.ResourceTypeSnapshot)}, once)
		if err != nil {
			return "", awsError(op, "server "+server, err)
		}
		return awssdk.ToString(out.ImageId), nil
	})
}

// StartCopyImage copies an image of another region or account with its snapshots. CopyImage has a client token.
func (p *Provider) StartCopyImage(ctx context.Context, in cloud.Create, from cloud.Site, image string) (cloud.Image, error) {
	const op = "StartCopyImage"
	request := struct {
		cloud.Create
		From  cloud.Site
		Image string
	}{in, from, image}
	return p.oneImage(ctx, op, in, request, func(ctx context.Context, tags map[string]string) (string, error) {
		source, err := p.peer(ctx, from)
		if err != nil {
			return "", err
		}
		original, err := source.image(ctx, op, image)
		if err != nil {
			return "", err
		}
		for _, k := range []string{tagDevices, tagMachine} {
			if v := tagMap(original.Tags)[k]; v != "" {
				tags[k] = v
			}
		}
		if err := p.shareImage(ctx, source, original); err != nil {
			return "", err
		}
		out, err := p.ec2().CopyImage(ctx, &ec2.CopyImageInput{SourceRegion: &source.site.Region, SourceImageId: &image, Name: awssdk.String(imageName(in)),
			ClientToken: &in.Token, TagSpecifications: tagSpecs(tags, types.ResourceTypeImage, types.ResourceTypeSnapshot)})
		if err != nil {
			return "", awsError(op, "image "+image, err)
		}
		return awssdk.ToString(out.ImageId), nil
	})
}

// shareImage lets the account of this site copy an image of another account.
func (p *Provider) shareImage(ctx context.Context, from *Provider, i types.Image) error {
	for _, s := range imageSnapshots(i) {
		if err := p.share(ctx, from, types.Snapshot{SnapshotId: &s, OwnerId: i.OwnerId}); err != nil {
			return err
		}
	}
	if p.site.Role == from.site.Role && p.site.Account == from.site.Account {
		return nil
	}
	mine, err := p.account(ctx)
	if err != nil || mine == awssdk.ToString(i.OwnerId) {
		return err
	}
	_, err = from.ec2().ModifyImageAttribute(ctx, &ec2.ModifyImageAttributeInput{ImageId: i.ImageId,
		LaunchPermission: &types.LaunchPermissionModifications{Add: []types.LaunchPermission{{UserId: &mine}}}})
	return awsError("StartCopyImage", "image "+awssdk.ToString(i.ImageId), err)
}

// RegisterImage makes an image of snapshots. Devices may be names of devices of EC2, or names of disks ("root", "data"):
// these get a device, and are remembered in a tag.
func (p *Provider) RegisterImage(ctx context.Context, in cloud.Create, disks []cloud.ImageDisk) (cloud.Image, error) {
	const op = "RegisterImage"
	what := "image " + in.Name
	places, err := placeDisks(op, what, disks)
	if err != nil {
		return cloud.Image{}, err
	}
	request := struct {
		cloud.Create
		Disks []cloud.ImageDisk
	}{in, disks}
	return p.oneImage(ctx, op, in, request, func(ctx context.Context, tags map[string]string) (string, error) {
		register := &ec2.RegisterImageInput{Name: awssdk.String(imageName(in)), VirtualizationType: awssdk.String("hvm"), EnaSupport: awssdk.Bool(true),
			Architecture: types.ArchitectureValuesX8664}
		for i, d := range disks {
			if d.Boot || len(disks) == 1 {
				register.RootDeviceName = &places[i].device
				boot, err := p.snapshot(ctx, op, d.SnapshotID)
				if err != nil {
					return "", err
				}
				setMachine(register, tagMap(boot.Tags)[tagMachine])
				tags[tagMachine] = tagMap(boot.Tags)[tagMachine]
			}
			register.BlockDeviceMappings = append(register.BlockDeviceMappings, types.BlockDeviceMapping{DeviceName: &places[i].device,
				Ebs: &types.EbsBlockDevice{SnapshotId: &disks[i].SnapshotID, VolumeType: defaultVolumeType, DeleteOnTermination: awssdk.Bool(false)}})
		}
		tags[tagDevices] = placesText(places)
		if tags[tagMachine] == "" {
			delete(tags, tagMachine)
		}
		register.TagSpecifications = tagSpecs(tags, types.ResourceTypeImage)
		out, err := p.ec2().RegisterImage(ctx, register, once)
		if err != nil {
			return "", awsError(op, what, err)
		}
		return awssdk.ToString(out.ImageId), nil
	})
}

// setMachine sets what is known of the machine that the boot disk was cut from.
func setMachine(in *ec2.RegisterImageInput, machine string) {
	for part := range strings.SplitSeq(machine, ",") {
		switch k, v, _ := strings.Cut(part, "="); k {
		case "architecture":
			in.Architecture = types.ArchitectureValues(v)
		case "boot-mode":
			in.BootMode = types.BootModeValues(v)
		}
	}
}

// oneImage makes an image under a token, or finds it.
func (p *Provider) oneImage(ctx context.Context, op string, in cloud.Create, request any, make func(ctx context.Context, tags map[string]string) (string, error)) (cloud.Image, error) {
	list, err := makeOnce(ctx, p, lookup[types.Image]{op: op, kind: cloud.KindImage, in: in, request: request,
		find: func(ctx context.Context) ([]types.Image, error) { return p.imagesOf(ctx, op, tokenFilter(in.Token)) },
		tags: func(i types.Image) map[string]string { return tagMap(i.Tags) },
		create: func(ctx context.Context, tags map[string]string, _ []types.Image) ([]types.Image, error) {
			id, err := make(ctx, tags)
			if apiCode(err) == "InvalidAMIName.Duplicate" {
				return p.imageByName(ctx, op, in, err)
			}
			if err != nil {
				return nil, err
			}
			return []types.Image{{ImageId: &id, State: types.ImageStatePending, Tags: ec2Tags(tags)}}, nil
		}})
	if err != nil {
		return cloud.Image{}, err
	}
	return p.imageOf(ctx, list[0])
}

// imageByName finds the image that has the name of a token: another process made it meanwhile.
func (p *Provider) imageByName(ctx context.Context, op string, in cloud.Create, cause error) ([]types.Image, error) {
	out, err := p.ec2().DescribeImages(ctx, &ec2.DescribeImagesInput{Owners: []string{"self"}, Filters: []types.Filter{filter("name", imageName(in))}})
	if err != nil {
		return nil, awsError(op, "image "+in.Name, err)
	}
	if len(out.Images) == 0 {
		return nil, cloud.E(cloud.NotReady, op, "image "+in.Name, "an image of this token was made, and cannot be seen yet", "", cause)
	}
	return out.Images[:1], nil
}

// imageName is unique by its token. EC2 admits 3 to 128 characters, and few of them.
func imageName(in cloud.Create) string {
	plain := func(s string, n int) string {
		s = strings.Map(func(r rune) rune {
			if r < 0x80 && (r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' || r >= '0' && r <= '9' || strings.ContainsRune("()[] ./-'@_", r)) {
				return r
			}
			return '-'
		}, s)
		return s[:min(len(s), n)]
	}
	sum := sha256.Sum256([]byte(in.Token))
	return strings.TrimSpace(plain(in.Name, 60) + " " + plain(in.Token, 45) + " " + hex.EncodeToString(sum[:8]))
}

// Image describes an image.
func (p *Provider) Image(ctx context.Context, id string) (cloud.Image, error) {
	i, err := p.image(ctx, "Image", id)
	if err != nil {
		return cloud.Image{}, err
	}
	return p.imageOf(ctx, i)
}

func (p *Provider) image(ctx context.Context, op, id string) (types.Image, error) {
	if !hasPrefix(id, "ami-") {
		return types.Image{}, notFound(op, cloud.KindImage, id)
	}
	out, err := p.ec2().DescribeImages(ctx, &ec2.DescribeImagesInput{ImageIds: []string{id}, IncludeDeprecated: awssdk.Bool(true)})
	if err != nil {
		return types.Image{}, awsError(op, "image "+id, err)
	}
	if len(out.Images) == 0 || out.Images[0].State == types.ImageStateDeregistered {
		return types.Image{}, notFound(op, cloud.KindImage, id)
	}
	return out.Images[0], nil
}

// Images lists the images of the account.
func (p *Provider) Images(ctx context.Context, f cloud.Filter) ([]cloud.Image, error) {
	all, err := p.imagesOf(ctx, "Images", f)
	if err != nil {
		return nil, err
	}
	images := make([]cloud.Image, 0, len(all))
	for _, i := range all {
		image, err := p.imageOf(ctx, i)
		if err != nil {
			return nil, err
		}
		images = append(images, image)
	}
	return images, nil
}

func (p *Provider) imagesOf(ctx context.Context, op string, f cloud.Filter) ([]types.Image, error) {
	all, err := listAll(ctx, ec2.NewDescribeImagesPaginator(p.ec2(), &ec2.DescribeImagesInput{Owners: []string{"self"}, Filters: ec2Filters(f),
		IncludeDeprecated: awssdk.Bool(true), MaxResults: awssdk.Int32(pageSize)}), func(o *ec2.DescribeImagesOutput) []types.Image { return o.Images })
	if err != nil {
		return nil, awsError(op, "images", err)
	}
	return slices.DeleteFunc(all, func(i types.Image) bool {
		return !f.Match(tagMap(i.Tags)) || i.State == types.ImageStateDeregistered
	}), nil
}

// imageOf describes an image. How far a copy is, its snapshots know.
func (p *Provider) imageOf(ctx context.Context, i types.Image) (cloud.Image, error) {
	state := map[types.ImageState]cloud.State{
		types.ImageStatePending: cloud.Creating, types.ImageStateTransient: cloud.Creating, types.ImageStateAvailable: cloud.Available,
		types.ImageStateDisabled: cloud.Available, types.ImageStateFailed: cloud.Failing, types.ImageStateError: cloud.Failing, types.ImageStateInvalid: cloud.Failing,
	}[i.State]
	message := ""
	if r := i.StateReason; r != nil && state == cloud.Failing {
		message = awssdk.ToString(r.Message) + " (" + awssdk.ToString(r.Code) + ")"
	}
	var created *time.Time
	if t, err := time.Parse(time.RFC3339, awssdk.ToString(i.CreationDate)); err == nil {
		created = &t
	}
	tags := tagMap(i.Tags)
	image := cloud.Image{Resource: resourceOf(awssdk.ToString(i.ImageId), state, message, tags, created)}
	names := devicesOf(tags[tagDevices])
	for _, m := range i.BlockDeviceMappings {
		if m.Ebs != nil && m.Ebs.SnapshotId != nil {
			device := awssdk.ToString(m.DeviceName)
			image.Snapshots = append(image.Snapshots, cloud.ImageDisk{Device: names.name(device), SnapshotID: *m.Ebs.SnapshotId,
				Boot: device == awssdk.ToString(i.RootDeviceName)})
		}
	}
	slices.SortStableFunc(image.Snapshots, func(a, b cloud.ImageDisk) int { return boolInt(b.Boot) - boolInt(a.Boot) })
	var err error
	switch {
	case state == cloud.Available:
		image.Percent = 100
	case state == cloud.Creating && len(image.Snapshots) > 0:
		image.Percent, err = p.percent(ctx, imageSnapshots(i))
	}
	return image, err
}

func boolInt(b bool) int {
	if b {
		return 1
	}
	return 0
}

// percent is how far snapshots are, on the average of their sizes.
func (p *Provider) percent(ctx context.Context, ids []string) (int, error) {
	found, err := listAll(ctx, ec2.NewDescribeSnapshotsPaginator(p.ec2(), &ec2.DescribeSnapshotsInput{Filters: []types.Filter{filter("snapshot-id", ids...)}}),
		func(o *ec2.DescribeSnapshotsOutput) []types.Snapshot { return o.Snapshots })
	if err != nil {
		return 0, awsError("Image", "snapshots of an image", err)
	}
	var done, all int
	for _, s := range found {
		all += int(awssdk.ToInt32(s.VolumeSize))
		done += int(awssdk.ToInt32(s.VolumeSize)) * snapshotOf(s).Percent
	}
	if all == 0 {
		return 0, nil
	}
	return min(done/all, 99), nil // 100 is said when the image is available
}

// imageSnapshots are the snapshots of an image.
func imageSnapshots(i types.Image) (ids []string) {
	for _, m := range i.BlockDeviceMappings {
		if m.Ebs != nil && m.Ebs.SnapshotId != nil {
			ids = append(ids, *m.Ebs.SnapshotId)
		}
	}
	return ids
}

// DeleteImage deregisters an image; EC2 deletes its snapshots in the same call, but for those of other images.
func (p *Provider) DeleteImage(ctx context.Context, id string, withSnapshots bool) error {
	const op = "DeleteImage"
	if _, err := p.image(ctx, op, id); err != nil {
		return err
	}
	out, err := p.ec2().DeregisterImage(ctx, &ec2.DeregisterImageInput{ImageId: &id, DeleteAssociatedSnapshots: &withSnapshots})
	if apiCode(err) == "InvalidAMIID.Unavailable" { // deregistered since the look
		return nil
	}
	if err != nil {
		return awsError(op, "image "+id, err)
	}
	for _, r := range out.DeleteSnapshotResults {
		switch r.ReturnCode {
		case types.SnapshotReturnCodesSuccess, types.SnapshotReturnCodesWarnSkipped:
		case types.SnapshotReturnCodesErrorMissingPermissions:
			return cloud.E(cloud.Denied, op, "snapshot "+awssdk.ToString(r.SnapshotId), "the image is gone, its snapshot must not be deleted by this role", mendRole, nil)
		default:
			return cloud.E(cloud.Conflict, op, "snapshot "+awssdk.ToString(r.SnapshotId), "the image is gone, its snapshot stayed: "+string(r.ReturnCode), "delete the snapshot", nil)
		}
	}
	return nil
}

// DeprecateImage sets when an image is no longer offered to others (it still launches). EC2 rounds to minutes, and
// admits up to ten years (EnableImageDeprecation).
func (p *Provider) DeprecateImage(ctx context.Context, id string, at time.Time) error {
	const op = "DeprecateImage"
	if !hasPrefix(id, "ami-") {
		return notFound(op, cloud.KindImage, id)
	}
	_, err := p.ec2().EnableImageDeprecation(ctx, &ec2.EnableImageDeprecationInput{ImageId: &id, DeprecateAt: &at})
	return awsError(op, "image "+id, err)
}
