package awstest

import (
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/ec2"
	"github.com/aws/aws-sdk-go-v2/service/ec2/types"
)

// image is an AMI backed by EBS snapshots.
type image struct {
	*resource
	owner       string
	name        string
	description string
	arch        types.ArchitectureValues
	virtual     types.VirtualizationType
	boot        types.BootModeValues
	imds        types.ImdsSupportValues
	tpm         types.TpmSupportValues
	ena         bool
	root        string
	maps        []types.BlockDeviceMapping // never changed once they are here
	ready       time.Time                  // pending until then, and until its snapshots are completed
	deprecated  time.Time
	launch      map[string]bool // accounts that may launch it
	instance    string          // it was created from
	source      string          // image it was copied from
	region      string          // of source
}

type imageState struct {
	images map[string]*image
	gone   map[string]bool // deregistered
}

func imagesOf(r *Region) *imageState {
	s := part[imageState](r)
	if s.images == nil {
		s.images, s.gone = map[string]*image{}, map[string]bool{}
	}
	return s
}

// imageState follows https://docs.aws.amazon.com/AWSEC2/latest/APIReference/API_Image.html: an
// image is pending as long as one of its snapshots is, and failed when one failed.
func (c *Call) imageState(i *image) (types.ImageState, string) {
	state, why := types.ImageStateAvailable, ""
	if c.Now.Before(i.ready) {
		state = types.ImageStatePending
	}
	for _, id := range i.snapshots() {
		s := c.findSnapshot(c.regionOf(i), id)
		if s == nil {
			continue
		}
		switch s.state(c.Now) {
		case types.SnapshotStatePending:
			state = types.ImageStatePending
		case types.SnapshotStateError:
			return types.ImageStateFailed, "Snapshot " + id + " failed: " + s.problem
		}
	}
	return state, why
}

// regionOf finds the region of an image.
func (c *Call) regionOf(i *image) string {
	for k, r := range c.regions {
		if imagesOf(r).images[i.ID] == i {
			return k.region
		}
	}
	return c.Name
}

func (i *image) snapshots() []string {
	var out []string
	for _, m := range i.maps {
		if m.Ebs != nil && m.Ebs.SnapshotId != nil {
			out = append(out, *m.Ebs.SnapshotId)
		}
	}
	return out
}

func (i *image) mayLaunch(account string) bool {
	return i.owner == account || i.launch[account] || i.launch[everyone]
}

// imagesWith lists the images that have a snapshot.
func (c *Call) imagesWith(snapshot string) []string {
	var out []string
	for _, i := range byID(imagesOf(c.Region).images) {
		if slices.Contains(i.snapshots(), snapshot) {
			out = append(out, i.ID)
		}
	}
	return out
}

// findImage finds an image that the caller may launch, in a region.
func (c *Call) findImage(region, id string) (*image, error) {
	if !strings.HasPrefix(id, "ami-") {
		return nil, fault("InvalidAMIID.Malformed", "Invalid id: \"%s\" (expecting \"ami-...\")", id)
	}
	for k, r := range c.regions {
		if k.region != region {
			continue
		}
		if i := imagesOf(r).images[id]; i != nil && i.mayLaunch(c.Region.Account) {
			return i, nil
		}
		if imagesOf(r).gone[id] {
			return nil, fault("InvalidAMIID.Unavailable", "The image ID '%s' is no longer available", id)
		}
	}
	return nil, fault("InvalidAMIID.NotFound", "The image id '[%s]' does not exist", id)
}

// launchImage is an image that instances can be started from now.
func (c *Call) launchImage(id string) (*image, error) {
	i, err := c.findImage(c.Name, id)
	if err != nil {
		return nil, err
	}
	if state, _ := c.imageState(i); state != types.ImageStateAvailable {
		return nil, fault("InvalidAMIID.Unavailable", "The image ID '%s' is in state '%s'", id, state)
	}
	return i, nil
}

// ownImage is an image that the caller may change.
func (c *Call) ownImage(id string) (*image, error) {
	i, err := c.findImage(c.Name, id)
	if err == nil && i.owner != c.Region.Account {
		err = fault("AuthFailure", "Not authorized for image:%s", id)
	}
	return i, err
}

var imageName = regexp.MustCompile(`^[A-Za-z0-9()\[\] ./\-'@_]{3,128}$`)

// checkImageName: names are unique per account and region
// (https://docs.aws.amazon.com/AWSEC2/latest/APIReference/API_CreateImage.html).
func (c *Call) checkImageName(name string) error {
	if !imageName.MatchString(name) {
		return fault("InvalidAMIName.Malformed", "AMI names must be between 3 and 128 characters long, and may contain letters, numbers, '(', ')', '.', '-', '/' and '_'")
	}
	for _, i := range imagesOf(c.Region).images {
		if i.name == name {
			return fault("InvalidAMIName.Duplicate", "AMI name %s is already in use by AMI %s", name, i.ID)
		}
	}
	return nil
}

// newImage makes an image that its caller completes.
func (c *Call) newImage(name string, tags []types.TagSpecification) (*image, error) {
	if err := c.checkImageName(name); err != nil {
		return nil, err
	}
	for _, t := range tags {
		if t.ResourceType != types.ResourceTypeImage && t.ResourceType != types.ResourceTypeSnapshot {
			return nil, fault("InvalidParameterValue", "'%s' is not a valid taggable resource type for this operation.", t.ResourceType)
		}
	}
	i := &image{resource: c.newResource(types.ResourceTypeImage, "ami", tags), owner: c.Region.Account, name: name, launch: map[string]bool{},
		arch: types.ArchitectureValuesX8664, virtual: types.VirtualizationTypeHvm, ena: true, ready: c.Now.Add(c.Delay("image"))}
	imagesOf(c.Region).images[i.ID] = i
	return i, nil
}

func (c *Call) dropImage(i *image) {
	s := imagesOf(c.Region)
	delete(s.images, i.ID)
	s.gone[i.ID] = true
	c.forget(i.ID)
}

func (c *Call) describeImage(i *image) types.Image {
	state, why := c.imageState(i)
	out := types.Image{ImageId: aws.String(i.ID), Name: aws.String(i.name), Description: aws.String(i.description), OwnerId: aws.String(i.owner),
		ImageLocation: aws.String(i.owner + "/" + i.name), Architecture: i.arch, BlockDeviceMappings: i.maps, BootMode: i.boot, ImdsSupport: i.imds, TpmSupport: i.tpm,
		CreationDate: aws.String(filterTime(i.Created)), EnaSupport: aws.Bool(i.ena), Hypervisor: types.HypervisorTypeXen, ImageType: types.ImageTypeValuesMachine,
		Public: aws.Bool(i.launch[everyone]), RootDeviceName: aws.String(i.root), RootDeviceType: types.DeviceTypeEbs, State: state, Tags: i.tags(),
		VirtualizationType: i.virtual, PlatformDetails: aws.String("Linux/UNIX"), UsageOperation: aws.String("RunInstances")}
	if why != "" {
		out.StateReason = &types.StateReason{Code: aws.String("Client.InternalError"), Message: aws.String(why)}
	}
	if !i.deprecated.IsZero() {
		out.DeprecationTime = aws.String(filterTime(i.deprecated))
	}
	if i.instance != "" {
		out.SourceInstanceId = aws.String(i.instance)
	}
	if i.source != "" {
		out.SourceImageId, out.SourceImageRegion = aws.String(i.source), aws.String(i.region)
	}
	return out
}

// imageFilter gives what an image has under the name of a filter: those of DescribeImages that EBS
// images have.
func (c *Call) imageFilter(i *image, name string) ([]string, bool) {
	if field, ok := strings.CutPrefix(name, "block-device-mapping."); ok {
		return i.mappingFilter(field)
	}
	state, why := c.imageState(i)
	value, ok := map[string]string{
		"architecture": string(i.arch), "creation-date": filterTime(i.Created), "description": i.description, "ena-support": strconv.FormatBool(i.ena),
		"hypervisor": "xen", "image-id": i.ID, "image-type": "machine", "is-public": strconv.FormatBool(i.launch[everyone]),
		"manifest-location": i.owner + "/" + i.name, "name": i.name, "owner-id": i.owner, "owner-alias": "", "platform": "", "root-device-name": i.root,
		"root-device-type": "ebs", "source-image-id": i.source, "source-image-region": i.region, "source-instance-id": i.instance, "state": string(state),
		"state-reason-message": why, "virtualization-type": string(i.virtual),
	}[name]
	return []string{value}, ok
}

func (i *image) mappingFilter(field string) (out []string, ok bool) {
	for _, m := range append([]types.BlockDeviceMapping{{}}, i.maps...) {
		e := m.Ebs
		if e == nil {
			e = &types.EbsBlockDevice{}
		}
		var value string
		value, ok = map[string]string{
			"device-name": aws.ToString(m.DeviceName), "snapshot-id": aws.ToString(e.SnapshotId), "volume-type": string(e.VolumeType),
			"volume-size": strconv.Itoa(int(aws.ToInt32(e.VolumeSize))), "encrypted": strconv.FormatBool(aws.ToBool(e.Encrypted)),
			"delete-on-termination": strconv.FormatBool(aws.ToBool(e.DeleteOnTermination)),
		}[field]
		if m.DeviceName != nil {
			out = append(out, value)
		}
	}
	return out, ok
}

// listedImages lists what DescribeImages selects before its filters. A deprecated image shows
// to its owner, to others only if they ask for it by ID or for all
// (https://docs.aws.amazon.com/AWSEC2/latest/UserGuide/ami-deprecate.html).
func (c *Call) listedImages(in *ec2.DescribeImagesInput) ([]*image, error) {
	for _, id := range in.ImageIds {
		i, err := c.findImage(c.Name, id)
		if err != nil || !c.visible(i.resource) {
			return nil, fault("InvalidAMIID.NotFound", "The image id '[%s]' does not exist", id)
		}
	}
	me := c.Region.Account
	all := map[string]*image{}
	for k, r := range c.regions {
		if k.region != c.Name {
			continue
		}
		for id, i := range imagesOf(r).images {
			asked := slices.Contains(in.ImageIds, id)
			owner := len(in.Owners) == 0 || slices.Contains(in.Owners, i.owner) || i.owner == me && slices.Contains(in.Owners, "self")
			user := len(in.ExecutableUsers) == 0
			for _, u := range in.ExecutableUsers {
				user = user || i.launch[u] || u == "self" && i.launch[me]
			}
			hidden := !i.deprecated.IsZero() && c.Now.After(i.deprecated) && i.owner != me && !aws.ToBool(in.IncludeDeprecated) && !asked
			if i.mayLaunch(me) && c.visible(i.resource) && owner && user && !hidden && (asked || len(in.ImageIds) == 0) {
				all[id] = i
			}
		}
	}
	return byID(all), nil
}

func init() {
	on(ec2Service, "DescribeImages", func(c *Call, in *ec2.DescribeImagesInput) (*ec2.DescribeImagesOutput, error) {
		if err := dryRun(in.DryRun); err != nil {
			return nil, err
		}
		listed, err := c.listedImages(in)
		if err != nil {
			return nil, err
		}
		var all []types.Image
		for _, i := range listed {
			ok, err := i.matches(in.Filters, func(name string) ([]string, bool) { return c.imageFilter(i, name) })
			if err != nil {
				return nil, err
			}
			if ok {
				all = append(all, c.describeImage(i))
			}
		}
		images, next, err := page(c, all, in.MaxResults, in.NextToken)
		return &ec2.DescribeImagesOutput{Images: images, NextToken: next}, err
	})
	on(ec2Service, "DeregisterImage", func(c *Call, in *ec2.DeregisterImageInput) (*ec2.DeregisterImageOutput, error) {
		i, err := c.ownImage(*in.ImageId)
		if err != nil {
			return nil, err
		}
		if err := dryRun(in.DryRun); err != nil {
			return nil, err
		}
		c.dropImage(i)
		out := &ec2.DeregisterImageOutput{Return: aws.Bool(true)}
		if aws.ToBool(in.DeleteAssociatedSnapshots) {
			for _, id := range i.snapshots() {
				out.DeleteSnapshotResults = append(out.DeleteSnapshotResults, types.DeleteSnapshotReturnCode{SnapshotId: aws.String(id), ReturnCode: c.deleteWithImage(id)})
			}
		}
		return out, nil
	})
}

// deleteWithImage deletes a snapshot of an image that is gone, unless another image has it
// (https://docs.aws.amazon.com/AWSEC2/latest/APIReference/API_DeregisterImage.html).
func (c *Call) deleteWithImage(id string) types.SnapshotReturnCodes {
	if len(c.imagesWith(id)) > 0 {
		return types.SnapshotReturnCodesWarnSkipped
	}
	s, err := c.ownSnapshot(id)
	if err != nil {
		return types.SnapshotReturnCodesErrorCodeClientError
	}
	c.dropSnapshot(s)
	return types.SnapshotReturnCodesSuccess
}
