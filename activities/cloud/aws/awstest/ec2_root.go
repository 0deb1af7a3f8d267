package awstest

import (
	"errors"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/ec2"
	"github.com/aws/aws-sdk-go-v2/service/ec2/types"
)

// rootTask replaces the root volume of an instance that runs; states are those of
// https://docs.aws.amazon.com/AWSEC2/latest/APIReference/API_ReplaceRootVolumeTask.html
type rootTask struct {
	*resource
	instance        *instance
	image, snapshot string
	volume          *volume // that takes the place
	made            bool    // by the task itself
	deleteOld       bool
	state           types.ReplaceRootVolumeTaskState
	done            time.Time
}

// createRootTask restores a root volume: to a snapshot of it, to an image, to a volume that is there, or to the state of
// the launch (https://docs.aws.amazon.com/AWSEC2/latest/APIReference/API_CreateReplaceRootVolumeTask.html).
func (c *Call) createRootTask(in *ec2.CreateReplaceRootVolumeTaskInput) (*ec2.CreateReplaceRootVolumeTaskOutput, error) {
	s := c.compute()
	id, err := c.once(in.ClientToken, in, func() (string, error) {
		all, err := c.instancesOf([]string{aws.ToString(in.InstanceId)})
		if err != nil {
			return "", err
		}
		i := all[0]
		if i.state != types.InstanceStateNameRunning {
			return "", fault("IncorrectInstanceState", "The instance '%s' is not in the 'running' state.", i.ID)
		}
		old := c.rootOf(i)
		if old == nil {
			return "", fault("IncorrectInstanceState", "The instance '%s' has no root volume.", i.ID)
		}
		spec, err := c.rootSpec(i, old, in)
		if err != nil {
			return "", err
		}
		if err := dryRun(in.DryRun); err != nil {
			return "", err
		}
		t := &rootTask{instance: i, image: aws.ToString(in.ImageId), snapshot: aws.ToString(spec.snapshot), deleteOld: aws.ToBool(in.DeleteReplacedRootVolume), state: types.ReplaceRootVolumeTaskStatePending}
		if in.VolumeId != nil {
			t.volume, err = c.volumeOf(in.VolumeId)
		} else {
			t.volume, err = c.newVolume(spec)
			t.made = true
		}
		if err != nil {
			return "", err
		}
		t.resource = c.newResource(types.ResourceTypeReplaceRootVolumeTask, "replacevol", in.TagSpecifications)
		s.rootTasks[t.ID] = t
		region := c.Region
		s.hosts.work.Go(func() { s.replaceRoot(c.Cloud, region, t) })
		return t.ID, nil
	})
	if err != nil {
		return nil, err
	}
	return &ec2.CreateReplaceRootVolumeTaskOutput{ReplaceRootVolumeTask: new(showRootTask(s.rootTasks[id]))}, nil
}

// rootOf is the root volume of an instance, or nil.
func (c *Call) rootOf(i *instance) *volume {
	for _, v := range c.attachedVolumes(i.ID) {
		if v.attachmentTo(i.ID).device == i.rootDevice {
			return v
		}
	}
	return nil
}

// rootSpec says what takes the place of a root volume. Its snapshot must come from that root volume, when one is named.
func (c *Call) rootSpec(i *instance, old *volume, in *ec2.CreateReplaceRootVolumeTaskInput) (volumeSpec, error) {
	spec := volumeSpec{zone: old.zone, kind: old.kind, size: aws.Int32(old.size), iops: old.iops, throughput: old.throughput, tags: in.TagSpecifications}
	if in.VolumeInitializationRate != nil {
		spec.initRate = aws.Int32(int32(*in.VolumeInitializationRate))
	}
	given := 0
	for _, p := range []*string{in.SnapshotId, in.ImageId, in.VolumeId} {
		if p != nil {
			given++
		}
	}
	if given > 1 {
		return spec, fault("InvalidParameterCombination", "Only one of SnapshotId, ImageId and VolumeId may be specified")
	}
	switch {
	case in.SnapshotId != nil:
		s, err := c.usableSnapshot(*in.SnapshotId)
		if err != nil {
			return spec, err
		}
		if s.lineage != old.lineage {
			return spec, fault("InvalidParameterValue", "The snapshot '%s' was not created from the root volume of instance '%s'", s.ID, i.ID)
		}
		spec.snapshot = in.SnapshotId
	case in.VolumeId != nil:
		v, err := c.volumeOf(in.VolumeId)
		switch {
		case err != nil:
			return spec, err
		case v.zone != old.zone:
			return spec, fault("InvalidVolume.ZoneMismatch", "The volume '%s' is not in the same availability zone as instance '%s'", v.ID, i.ID)
		case v.state(c.Now) != types.VolumeStateAvailable:
			return spec, fault("IncorrectState", "Volume '%s' is not 'available'.", v.ID)
		case old.encrypted && !v.encrypted:
			return spec, fault("InvalidParameterValue", "The volume '%s' is not encrypted, the root volume of instance '%s' is", v.ID, i.ID)
		}
	default:
		from := i.image
		if in.ImageId != nil {
			from = *in.ImageId
		}
		img, err := c.launchImage(from)
		if err != nil {
			return spec, err
		}
		if img.arch != i.arch {
			return spec, fault("InvalidParameterValue", "The architecture of image '%s' is not that of instance '%s'", img.ID, i.ID)
		}
		for _, m := range img.maps {
			if aws.ToString(m.DeviceName) == img.root && m.Ebs != nil {
				spec.snapshot = m.Ebs.SnapshotId
			}
		}
	}
	return spec, nil
}

// replaceRoot does the work of a task: the new volume is filled, the instance rebooted with it.
func (s *computeState) replaceRoot(c *Cloud, r *Region, t *rootTask) {
	c.mu.Lock()
	var err error
	if t.made {
		err = c.inside(r.Account, r.Name).fillVolume(t.volume)
	}
	c.mu.Unlock()
	s.hosts.wait(c.Delay("volume"))
	if err == nil && s.hosts.ctx.Err() == nil {
		c.mu.Lock()
		t.state = types.ReplaceRootVolumeTaskStateInProgress
		c.mu.Unlock()
		err = s.restart(c, r, t.instance, func() error {
			s.hosts.wait(c.Delay("volume"))
			c.mu.Lock()
			defer c.mu.Unlock()
			return s.swapRoot(c.inside(r.Account, r.Name), t)
		})
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	t.state, t.done = types.ReplaceRootVolumeTaskStateSucceeded, time.Now()
	if err != nil {
		t.state = types.ReplaceRootVolumeTaskStateFailed
	}
}

// swapRoot puts the new volume where the old one was.
func (s *computeState) swapRoot(c *Call, t *rootTask) error {
	i := t.instance
	old := c.rootOf(i)
	if old == nil || i.wish == wishTerminated {
		if t.made {
			c.deleteVolume(t.volume)
		}
		return errors.New("the instance has no root volume any more")
	}
	if state := t.volume.state(c.Now); state != types.VolumeStateAvailable {
		return errors.New("the new root volume is " + string(state) + " " + t.volume.problem)
	}
	a := old.attachmentTo(i.ID)
	keep := a.deleteOnTermination
	c.detach(a)
	a.gone = c.Now
	old.settle(c.Now)
	if t.deleteOld {
		c.deleteVolume(old)
	}
	c.attach(t.volume, i.ID, i.rootDevice, keep)
	if t.image != "" {
		i.image = t.image
	}
	return nil
}

func showRootTask(t *rootTask) types.ReplaceRootVolumeTask {
	out := types.ReplaceRootVolumeTask{
		ReplaceRootVolumeTaskId: &t.ID, InstanceId: &t.instance.ID, TaskState: t.state, StartTime: aws.String(t.Created.UTC().Format(time.RFC3339)),
		DeleteReplacedRootVolume: aws.Bool(t.deleteOld), Tags: t.tags(),
	}
	if t.image != "" {
		out.ImageId = &t.image
	}
	if t.snapshot != "" {
		out.SnapshotId = &t.snapshot
	}
	if !t.done.IsZero() {
		out.CompleteTime = aws.String(t.done.UTC().Format(time.RFC3339))
	}
	return out
}

func (c *Call) describeRootTasks(in *ec2.DescribeReplaceRootVolumeTasksInput) (*ec2.DescribeReplaceRootVolumeTasksOutput, error) {
	if err := dryRun(in.DryRun); err != nil {
		return nil, err
	}
	all, err := selected(c, c.compute().rootTasks, in.ReplaceRootVolumeTaskIds, "InvalidReplaceRootVolumeTaskId.NotFound", in.Filters, func(t *rootTask, name string) ([]string, bool) {
		v := map[string]string{"instance-id": t.instance.ID, "task-state": string(t.state)}[name]
		return []string{v}, v != ""
	})
	if err != nil {
		return nil, err
	}
	all, next, err := page(c, all, in.MaxResults, in.NextToken)
	return &ec2.DescribeReplaceRootVolumeTasksOutput{ReplaceRootVolumeTasks: each(all, showRootTask), NextToken: next}, err
}

func init() {
	on(ec2Service, "CreateReplaceRootVolumeTask", (*Call).createRootTask)
	on(ec2Service, "DescribeReplaceRootVolumeTasks", (*Call).describeRootTasks)
}
