package awstest

import (
	"os"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/ec2"
	"github.com/aws/aws-sdk-go-v2/service/ec2/types"
)

// What volumes ask of instances; the functions are set by what has the instances.
var (
	// instanceZone finds an instance with its zone and state; ok is false when there is none.
	instanceZone func(r *Region, id string) (zone, state string, ok bool)
	// instanceRoot gives the root device of an instance, its architecture and its image.
	instanceRoot func(r *Region, id string) (device, architecture, imageID string)
	// pauseGuest stops the process of an instance for an instant; resume may be nil. The lock is not held.
	pauseGuest func(c *Call, instanceID string) (resume func())
	// restartGuest stops an instance's process, calls between, and starts it again, as a reboot
	// does. The lock is not held.
	restartGuest func(c *Call, instanceID string, between func() error) error
)

// volume is an EBS volume; its bytes are a sparse file.
type volume struct {
	*resource
	path       string
	zone       string
	size       int32 // GiB
	kind       types.VolumeType
	iops       *int32
	throughput *int32
	initRate   *int32
	snapshot   string
	encrypted  bool
	key        string
	multi      bool   // may be attached to several instances
	lineage    string // same for everything that was made of the same volume
	content    manifest
	filling    bool      // bytes of the snapshot are on their way
	ready      time.Time // creating until then
	problem    string    // why it will be in state error then
	gone       time.Time // deleting until then; zero = not deleted
	attached   []*attachment
	change     *volumeChange
}

// attachment is a volume in its place.
type attachment struct {
	instance, device    string
	deleteOnTermination bool
	since               time.Time
	ready               time.Time // attaching until then
	gone                time.Time // detaching until then; zero = stays
}

type volumeState struct{ volumes map[string]*volume }

// volumesOf gives the volumes of a region, without what is gone by now.
func (c *Call) volumesOf() map[string]*volume {
	s := part[volumeState](c.Region)
	if s.volumes == nil {
		s.volumes = map[string]*volume{}
	}
	for id, v := range s.volumes {
		v.settle(c.Now)
		if !v.gone.IsZero() && !c.Now.Before(v.gone) {
			delete(s.volumes, id)
			c.forget(id)
		}
	}
	return s.volumes
}

// settle brings a volume to what it is now.
func (v *volume) settle(now time.Time) {
	v.attached = slices.DeleteFunc(v.attached, func(a *attachment) bool { return !a.gone.IsZero() && !now.Before(a.gone) })
	v.settleChange(now)
}

// state follows https://docs.aws.amazon.com/ebs/latest/userguide/ebs-describing-volumes.html
func (v *volume) state(now time.Time) types.VolumeState {
	switch {
	case !v.gone.IsZero():
		return types.VolumeStateDeleting
	case v.filling || now.Before(v.ready):
		return types.VolumeStateCreating
	case v.problem != "":
		return types.VolumeStateError
	case len(v.attached) > 0:
		return types.VolumeStateInUse
	}
	return types.VolumeStateAvailable
}

func (a *attachment) state(now time.Time) types.VolumeAttachmentState {
	switch {
	case !a.gone.IsZero():
		return types.VolumeAttachmentStateDetaching
	case now.Before(a.ready):
		return types.VolumeAttachmentStateAttaching
	}
	return types.VolumeAttachmentStateAttached
}

// volumeOf finds a volume; its error is that of the API.
func (c *Call) volumeOf(id *string) (*volume, error) {
	if !strings.HasPrefix(aws.ToString(id), "vol-") {
		return nil, fault("InvalidParameterValue", "Value (%s) for parameter volumeId is invalid. Expected: 'vol-...'.", aws.ToString(id))
	}
	v := c.volumesOf()[*id]
	if v == nil {
		return nil, fault("InvalidVolume.NotFound", "The volume '%s' does not exist.", *id)
	}
	return v, nil
}

// attachedVolumes lists the volumes of an instance that are not being detached, by device.
func (c *Call) attachedVolumes(instance string) []*volume {
	var out []*volume
	for _, v := range byID(c.volumesOf()) {
		if a := v.attachmentTo(instance); a != nil && a.gone.IsZero() {
			out = append(out, v)
		}
	}
	slices.SortStableFunc(out, func(a, b *volume) int {
		return strings.Compare(a.attachmentTo(instance).device, b.attachmentTo(instance).device)
	})
	return out
}

// attachmentTo is how a volume is attached to an instance, or nil; to any if none is named.
func (v *volume) attachmentTo(instance string) *attachment {
	for _, a := range v.attached {
		if instance == "" || a.instance == instance {
			return a
		}
	}
	return nil
}

// attach puts a volume in its place, without asking whether that is permitted.
func (c *Call) attach(v *volume, instance, device string, deleteOnTermination bool) *attachment {
	a := &attachment{instance: instance, device: device, deleteOnTermination: deleteOnTermination, since: c.Now, ready: c.Now.Add(c.Delay("volume"))}
	v.attached = append(v.attached, a)
	return a
}

// detach begins to take a volume out of its place.
func (c *Call) detach(a *attachment) { a.gone = c.Now.Add(c.Delay("volume")) }

// deleteVolume takes the bytes away at once, and the volume after a while.
func (c *Call) deleteVolume(v *volume) {
	v.gone = c.Now.Add(c.Delay("volume"))
	v.attached = nil
	_ = os.Remove(v.path)
}

// checkAttach is what AttachVolume refuses: codes of
// https://docs.aws.amazon.com/AWSEC2/latest/APIReference/errors-overview.html
func (c *Call) checkAttach(v *volume, instance, device string) error {
	var zone, state string
	ok := false
	if instanceZone != nil {
		zone, state, ok = instanceZone(c.Region, instance)
	}
	switch {
	case !ok:
		return fault("InvalidInstanceID.NotFound", "The instance ID '%s' does not exist", instance)
	case v.attachmentTo(instance) != nil, !v.multi && len(v.attached) > 0:
		return fault("VolumeInUse", "%s is already attached to an instance", v.ID)
	case v.multi && len(v.attached) >= 16:
		return fault("AttachmentLimitExceeded", "%s is attached to 16 instances", v.ID)
	case v.state(c.Now) != types.VolumeStateAvailable && v.state(c.Now) != types.VolumeStateInUse:
		return fault("IncorrectState", "Volume '%s' is not 'available'.", v.ID)
	case zone != v.zone:
		return fault("InvalidVolume.ZoneMismatch", "The volume '%s' is not in the same availability zone as instance '%s'", v.ID, instance)
	case state != "running" && state != "stopped":
		return fault("IncorrectState", "Instance '%s' is not 'running'.", instance)
	}
	for _, other := range c.attachedVolumes(instance) {
		if other.attachmentTo(instance).device == device {
			return fault("InvalidParameterValue", "Invalid value '%s' for unixDevice. Attachment point %s is already in use", device, device)
		}
	}
	return nil
}

func (c *Call) checkDetach(v *volume, in *ec2.DetachVolumeInput) (*attachment, error) {
	a := v.attachmentTo(aws.ToString(in.InstanceId))
	switch {
	case len(v.attached) == 0:
		return nil, fault("IncorrectState", "Volume '%s' is in the '%s' state.", v.ID, v.state(c.Now))
	case a == nil, in.Device != nil && *in.Device != a.device:
		return nil, fault("InvalidAttachment.NotFound", "The volume '%s' is not attached to instance '%s' as device '%s'.", v.ID, aws.ToString(in.InstanceId), aws.ToString(in.Device))
	case v.multi && in.InstanceId == nil:
		return nil, fault("MissingParameter", "A volume with Multi-Attach is detached from a named instance.")
	case !a.gone.IsZero():
		return nil, fault("IncorrectState", "Volume '%s' is in the 'detaching' state.", v.ID)
	}
	if instanceZone == nil || instanceRoot == nil {
		return a, nil
	}
	_, state, _ := instanceZone(c.Region, a.instance)
	if root, _, _ := instanceRoot(c.Region, a.instance); root == a.device && state != "stopped" && state != "terminated" {
		return nil, fault("OperationNotPermitted", "Unable to detach root volume '%s' from instance '%s'", a.device, a.instance)
	}
	return a, nil
}

func (v *volume) attachments(now time.Time) []types.VolumeAttachment {
	out := make([]types.VolumeAttachment, 0, len(v.attached))
	for _, at := range v.attached {
		a := *at // answers are written when the lock is free again
		out = append(out, types.VolumeAttachment{VolumeId: &v.ID, InstanceId: &a.instance, Device: &a.device,
			DeleteOnTermination: &a.deleteOnTermination, AttachTime: &a.since, State: a.state(now)})
	}
	return out
}

// describe takes a copy: answers are written when the lock is free again.
func (v volume) describe(now time.Time) types.Volume {
	out := types.Volume{VolumeId: &v.ID, AvailabilityZone: &v.zone, CreateTime: &v.Created, Encrypted: &v.encrypted, Iops: v.iops,
		MultiAttachEnabled: &v.multi, Size: &v.size, SnapshotId: &v.snapshot, State: v.state(now), Tags: v.tags(), Throughput: v.throughput,
		VolumeType: v.kind, VolumeInitializationRate: v.initRate, Attachments: v.attachments(now)}
	if v.key != "" {
		out.KmsKeyId = &v.key
	}
	return out
}

// filter gives what a volume has under the name of a filter: those of DescribeVolumes.
func (v *volume) filter(now time.Time, name string) ([]string, bool) {
	if field, ok := strings.CutPrefix(name, "attachment."); ok {
		return v.attachmentFilter(now, field)
	}
	value, ok := map[string]string{
		"volume-id": v.ID, "status": string(v.state(now)), "snapshot-id": v.snapshot, "availability-zone": v.zone,
		"size": strconv.Itoa(int(v.size)), "volume-type": string(v.kind), "encrypted": strconv.FormatBool(v.encrypted),
		"multi-attach-enabled": strconv.FormatBool(v.multi), "create-time": filterTime(v.Created), "fast-restored": "false",
	}[name]
	return []string{value}, ok
}

func (v *volume) attachmentFilter(now time.Time, field string) (out []string, ok bool) {
	for _, a := range append([]*attachment{{}}, v.attached...) {
		var value string
		value, ok = map[string]string{
			"instance-id": a.instance, "device": a.device, "status": string(a.state(now)), "attach-time": filterTime(a.since),
			"delete-on-termination": strconv.FormatBool(a.deleteOnTermination),
		}[field]
		if a.instance != "" {
			out = append(out, value)
		}
	}
	return out, ok
}

// filterTime is a time as filters compare it.
func filterTime(t time.Time) string { return t.UTC().Format("2006-01-02T15:04:05.000Z") }

func init() {
	on(ec2Service, "DescribeVolumes", func(c *Call, in *ec2.DescribeVolumesInput) (*ec2.DescribeVolumesOutput, error) {
		if err := dryRun(in.DryRun); err != nil {
			return nil, err
		}
		for _, id := range in.VolumeIds {
			if v, err := c.volumeOf(&id); err != nil || !c.visible(v.resource) {
				return nil, fault("InvalidVolume.NotFound", "The volume '%s' does not exist.", id)
			}
		}
		var all []types.Volume
		for _, v := range byID(c.volumesOf()) {
			if len(in.VolumeIds) > 0 && !slices.Contains(in.VolumeIds, v.ID) || !c.visible(v.resource) {
				continue
			}
			ok, err := v.matches(in.Filters, func(name string) ([]string, bool) { return v.filter(c.Now, name) })
			if err != nil {
				return nil, err
			}
			if ok {
				all = append(all, v.describe(c.Now))
			}
		}
		volumes, next, err := page(c, all, in.MaxResults, in.NextToken)
		return &ec2.DescribeVolumesOutput{Volumes: volumes, NextToken: next}, err
	})
	on(ec2Service, "DeleteVolume", func(c *Call, in *ec2.DeleteVolumeInput) (*ec2.DeleteVolumeOutput, error) {
		v, err := c.volumeOf(in.VolumeId)
		if err != nil {
			return nil, err
		}
		if err := dryRun(in.DryRun); err != nil {
			return nil, err
		}
		switch v.state(c.Now) {
		case types.VolumeStateInUse:
			return nil, fault("VolumeInUse", "Volume %s is currently attached to %s", v.ID, v.attached[0].instance)
		case types.VolumeStateCreating:
			return nil, fault("IncorrectState", "The volume '%s' is 'creating'", v.ID)
		case types.VolumeStateDeleting:
			return &ec2.DeleteVolumeOutput{}, nil
		}
		c.deleteVolume(v)
		return &ec2.DeleteVolumeOutput{}, nil
	})
}

func init() {
	on(ec2Service, "AttachVolume", func(c *Call, in *ec2.AttachVolumeInput) (*ec2.AttachVolumeOutput, error) {
		v, err := c.volumeOf(in.VolumeId)
		if err != nil {
			return nil, err
		}
		if err := dryRun(in.DryRun); err != nil {
			return nil, err
		}
		if err := c.checkAttach(v, *in.InstanceId, *in.Device); err != nil {
			return nil, err
		}
		a := c.attach(v, *in.InstanceId, *in.Device, false)
		return &ec2.AttachVolumeOutput{VolumeId: &v.ID, InstanceId: in.InstanceId, Device: in.Device, State: a.state(c.Now),
			AttachTime: &a.since, DeleteOnTermination: aws.Bool(false)}, nil
	})
	on(ec2Service, "DetachVolume", func(c *Call, in *ec2.DetachVolumeInput) (*ec2.DetachVolumeOutput, error) {
		v, err := c.volumeOf(in.VolumeId)
		if err != nil {
			return nil, err
		}
		if err := dryRun(in.DryRun); err != nil {
			return nil, err
		}
		a, err := c.checkDetach(v, in)
		if err != nil {
			return nil, err
		}
		c.detach(a)
		return &ec2.DetachVolumeOutput{VolumeId: &v.ID, InstanceId: &a.instance, Device: &a.device, State: a.state(c.Now),
			AttachTime: &a.since, DeleteOnTermination: aws.Bool(a.deleteOnTermination)}, nil
	})
}
