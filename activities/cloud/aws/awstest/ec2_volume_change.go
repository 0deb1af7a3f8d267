package awstest

import (
	"os"
	"slices"
	"strconv"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/ec2"
	"github.com/aws/aws-sdk-go-v2/service/ec2/types"
)

// volumeChange is the last modification of a volume: modifying until it has its new properties,
// then optimizing until it has their performance
// (https://docs.aws.amazon.com/ebs/latest/userguide/monitoring-volume-modifications.html).
type volumeChange struct {
	from, to            volumeShape
	started, done, best time.Time
	applied             bool
}

// volumeShape is what can be modified.
type volumeShape struct {
	size             int32
	kind             types.VolumeType
	iops, throughput *int32
	multi            bool
}

func (v *volume) shape() volumeShape {
	return volumeShape{v.size, v.kind, v.iops, v.throughput, v.multi}
}

func (v *volume) take(s volumeShape) {
	v.size, v.kind, v.iops, v.throughput, v.multi = s.size, s.kind, s.iops, s.throughput, s.multi
}

func (v *volume) settleChange(now time.Time) {
	if v.change != nil && !v.change.applied && !now.Before(v.change.done) {
		v.change.applied = true
		v.take(v.change.to)
	}
}

func (m *volumeChange) state(now time.Time) types.VolumeModificationState {
	switch {
	case now.Before(m.done):
		return types.VolumeModificationStateModifying
	case now.Before(m.best):
		return types.VolumeModificationStateOptimizing
	}
	return types.VolumeModificationStateCompleted
}

func (v *volume) describeChange(now time.Time) types.VolumeModification {
	m := *v.change
	out := types.VolumeModification{VolumeId: aws.String(v.ID), ModificationState: m.state(now), StartTime: &m.started,
		OriginalSize: &m.from.size, OriginalIops: m.from.iops, OriginalThroughput: m.from.throughput, OriginalVolumeType: m.from.kind, OriginalMultiAttachEnabled: &m.from.multi,
		TargetSize: &m.to.size, TargetIops: m.to.iops, TargetThroughput: m.to.throughput, TargetVolumeType: m.to.kind, TargetMultiAttachEnabled: &m.to.multi}
	out.Progress = aws.Int64(100)
	if out.ModificationState == types.VolumeModificationStateCompleted {
		out.EndTime = &m.best
	} else {
		out.Progress = aws.Int64(percent(m.started, m.best, now))
	}
	return out
}

// percent is how much of a time has passed: 0 to 99, work that is over has its own state.
func percent(from, to, now time.Time) int64 {
	if all := to.Sub(from); all > 0 {
		return min(99, max(0, int64(now.Sub(from)*100/all)))
	}
	return 99
}

// modify begins a modification.
func (c *Call) modify(v *volume, in *ec2.ModifyVolumeInput) error {
	switch {
	case v.change != nil && v.change.state(c.Now) != types.VolumeModificationStateCompleted:
		return fault("IncorrectModificationState", "You can't modify the volume %s: it is being modified", v.ID)
	case v.state(c.Now) != types.VolumeStateAvailable && v.state(c.Now) != types.VolumeStateInUse:
		return fault("IncorrectState", "The volume '%s' is '%s'", v.ID, v.state(c.Now))
	case in.Size != nil && *in.Size < v.size:
		return fault("InvalidParameterValue", "New size cannot be smaller than existing size")
	}
	from, wanted := v.shape(), *v
	if in.VolumeType != "" && in.VolumeType != v.kind {
		wanted.kind, wanted.iops, wanted.throughput = in.VolumeType, nil, nil
		if volumeKinds[wanted.kind].needsIOPS {
			wanted.iops = aws.Int32(3000)
		}
	}
	if in.Size != nil {
		wanted.size = *in.Size
	}
	if in.Iops != nil {
		wanted.iops = in.Iops
	}
	if in.Throughput != nil {
		wanted.throughput = in.Throughput
	}
	if in.MultiAttachEnabled != nil {
		wanted.multi = *in.MultiAttachEnabled
	}
	if err := wanted.performance(); err != nil {
		return err
	}
	if err := dryRun(in.DryRun); err != nil {
		return err
	}
	if err := os.Truncate(v.path, int64(wanted.size)*gib); err != nil {
		return err
	}
	delay := c.Delay("volume")
	v.change = &volumeChange{from: from, to: wanted.shape(), started: c.Now, done: c.Now.Add(delay), best: c.Now.Add(2 * delay)}
	return nil
}

func init() {
	on(ec2Service, "ModifyVolume", func(c *Call, in *ec2.ModifyVolumeInput) (*ec2.ModifyVolumeOutput, error) {
		v, err := c.volumeOf(in.VolumeId)
		if err != nil {
			return nil, err
		}
		if err := c.modify(v, in); err != nil {
			return nil, err
		}
		m := v.describeChange(c.Now)
		return &ec2.ModifyVolumeOutput{VolumeModification: &m}, nil
	})
	on(ec2Service, "DescribeVolumesModifications", func(c *Call, in *ec2.DescribeVolumesModificationsInput) (*ec2.DescribeVolumesModificationsOutput, error) {
		for _, id := range in.VolumeIds {
			v, err := c.volumeOf(&id)
			if err != nil {
				return nil, err
			}
			if v.change == nil {
				return nil, fault("InvalidVolumeModification.NotFound", "Modification for volume '%s' does not exist.", id)
			}
		}
		var all []types.VolumeModification
		for _, v := range byID(c.volumesOf()) {
			if v.change == nil || len(in.VolumeIds) > 0 && !slices.Contains(in.VolumeIds, v.ID) {
				continue
			}
			ok, err := v.matches(in.Filters, func(name string) ([]string, bool) {
				m := v.change
				value, ok := map[string]string{"volume-id": v.ID, "modification-state": string(m.state(c.Now)), "start-time": filterTime(m.started),
					"original-size": strconv.Itoa(int(m.from.size)), "target-size": strconv.Itoa(int(m.to.size)),
					"original-volume-type": string(m.from.kind), "target-volume-type": string(m.to.kind)}[name]
				return []string{value}, ok
			})
			if err != nil {
				return nil, err
			}
			if ok {
				all = append(all, v.describeChange(c.Now))
			}
		}
		list, next, err := page(c, all, in.MaxResults, in.NextToken)
		return &ec2.DescribeVolumesModificationsOutput{VolumesModifications: list, NextToken: next}, err
	})
}
