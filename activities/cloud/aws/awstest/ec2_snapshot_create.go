package awstest

import (
	"errors"
	"net/url"
	"os"
	"slices"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/ec2"
	"github.com/aws/aws-sdk-go-v2/service/ec2/types"
)

// capturing is a volume on its way into a snapshot.
type capturing struct {
	s       *snapshot
	v       *volume
	file    *os.File
	content manifest
}

// beginCapture makes a snapshot of a volume; capture brings its bytes. Snapshots of one volume at
// once are limited: https://docs.aws.amazon.com/ebs/latest/userguide/ebs-resource-quotas.html
func (c *Call) beginCapture(v *volume, description string, tags []types.TagSpecification) (*capturing, error) {
	if st := v.state(c.Now); st != types.VolumeStateAvailable && st != types.VolumeStateInUse {
		return nil, fault("IncorrectState", "The volume '%s' is '%s'", v.ID, st)
	}
	pending := 0
	for _, s := range snapshotsOf(c.Region) {
		if s.volume == v.ID && s.state(c.Now) == types.SnapshotStatePending {
			pending++
		}
	}
	if pending >= c.storageQuota("concurrent-snapshots-per-volume", volumeKinds[v.kind].snapshots) {
		return nil, fault("ConcurrentSnapshotLimitExceeded", "Maximum allowed in-progress snapshots for a single volume exceeded.")
	}
	f, err := os.Open(v.path)
	if err != nil {
		return nil, err
	}
	s, err := c.newSnapshot(tags)
	if err != nil {
		return nil, errors.Join(err, f.Close())
	}
	s.volume, s.size, s.description, s.encrypted, s.key, s.lineage, s.reading = v.ID, v.size, description, v.encrypted, v.key, v.lineage, true
	return &capturing{s: s, v: v, file: f}, nil
}

// capture reads the volumes of one set as they are now, one after the other, while the instance
// that has them stands still; with restart it is shut down meanwhile. The lock is free meanwhile.
func (c *Call) capture(set []*capturing, instance string, restart bool) error {
	store := c.blocks()
	read := func() error {
		for _, one := range set {
			var err error
			if one.content, err = store.capture(one.file); err != nil {
				return err
			}
		}
		return nil
	}
	err := c.unlocked(func() error {
		switch {
		case instance != "" && restart && restartGuest != nil:
			return restartGuest(c, instance, read)
		case instance != "" && pauseGuest != nil:
			if resume := pauseGuest(c, instance); resume != nil {
				defer resume()
			}
		}
		return read()
	})
	for _, one := range set {
		err = errors.Join(err, one.file.Close())
		one.s.reading, one.s.ready = false, time.Now().Add(c.Delay("snapshot"))
		if one.s.deleted || err != nil {
			store.drop(one.content)
			one.s.problem = "The volume could not be read"
			continue
		}
		one.s.content = one.content
	}
	return err
}

// abandon takes back what beginCapture made.
func (c *Call) abandon(set []*capturing) {
	for _, one := range set {
		_ = one.file.Close() // only read
		c.dropSnapshot(one.s)
	}
}

// snapshotInstance begins the snapshots of an instance's volumes.
func (c *Call) snapshotInstance(volumes []*volume, describe func(*volume) (string, []types.TagSpecification)) ([]*capturing, error) {
	var set []*capturing
	for _, v := range volumes {
		description, tags := describe(v)
		one, err := c.beginCapture(v, description, tags)
		if err != nil {
			c.abandon(set)
			return nil, err
		}
		set = append(set, one)
	}
	return set, nil
}

// chosenVolumes are those of an instance that CreateSnapshots takes.
func (c *Call) chosenVolumes(in *types.InstanceSpecification) ([]*volume, error) {
	id := aws.ToString(in.InstanceId)
	root := ""
	if instanceZone != nil {
		if _, state, ok := instanceZone(c.Region, id); !ok || state == "terminated" {
			return nil, fault("InvalidInstanceID.NotFound", "The instance ID '%s' does not exist", id)
		}
	}
	if instanceRoot != nil {
		root, _, _ = instanceRoot(c.Region, id)
	}
	var out []*volume
	excluded := map[string]bool{}
	for _, v := range c.attachedVolumes(id) {
		isRoot := v.attachmentTo(id).device == root
		if slices.Contains(in.ExcludeDataVolumeIds, v.ID) {
			if isRoot {
				return nil, fault("InvalidParameterValue", "The root volume '%s' is excluded by ExcludeBootVolume.", v.ID)
			}
			excluded[v.ID] = true
			continue
		}
		if !isRoot || !aws.ToBool(in.ExcludeBootVolume) {
			out = append(out, v)
		}
	}
	for _, x := range in.ExcludeDataVolumeIds {
		if !excluded[x] {
			return nil, fault("InvalidParameterValue", "The volume '%s' is not attached to instance '%s'.", x, id)
		}
	}
	if len(out) == 0 {
		return nil, fault("InvalidParameterValue", "No volumes of instance '%s' are left.", id)
	}
	return out, nil
}

// withVolumeTags adds the tags of a volume to those that are given, which win.
func withVolumeTags(v *volume, specs []types.TagSpecification) []types.TagSpecification {
	return append([]types.TagSpecification{{ResourceType: types.ResourceTypeSnapshot, Tags: v.tags()}}, specs...)
}

// copySpec is a snapshot that is going to be copied into the region of the call.
type copySpec struct {
	region, description string
	encrypted           *bool
	key                 *string
	duration            *int32
	presigned           *string
	tags                []types.TagSpecification
}

// copySnapshot copies a completed snapshot. 20 copies at once may go to a region
// (Options.Quotas "concurrent-snapshot-copies",
// https://docs.aws.amazon.com/ebs/latest/userguide/ebs-copy-snapshot.html).
func (c *Call) copySnapshot(source *snapshot, spec copySpec) (*snapshot, error) {
	if source.state(c.Now) != types.SnapshotStateCompleted {
		return nil, fault("IncorrectState", "Snapshot '%s' is not 'completed'.", source.ID)
	}
	wanted, inherited := spec.encrypted, ""
	if source.encrypted {
		if wanted != nil && !*wanted {
			return nil, fault("InvalidParameterValue", "The copy of an encrypted snapshot is encrypted.")
		}
		wanted = aws.Bool(true)
		if spec.region == c.Name && source.owner == c.Region.Account {
			inherited = source.key
		}
	}
	key, problem, err := c.encryption(wanted, spec.key, inherited)
	if err != nil {
		return nil, err
	}
	if d := aws.ToInt32(spec.duration); spec.duration != nil && (d < 15 || d > 2880 || d%15 != 0) {
		return nil, fault("InvalidParameterValue", "CompletionDurationMinutes is from 15 to 2880, in steps of 15.")
	}
	if err := c.checkCopies(1); err != nil {
		return nil, err
	}
	s, err := c.newSnapshot(spec.tags)
	if err != nil {
		return nil, err
	}
	s.size, s.description, s.encrypted, s.key, s.copied, s.duration = source.size, spec.description, key != "", key, true, spec.duration
	// Copies of one lineage with one key into one place are increments of each other.
	s.lineage = source.lineage + "/" + c.Region.Account + "/" + c.Name + "/" + key
	s.ready, s.problem = c.Now.Add(c.Delay("copy")), problem
	if spec.presigned != nil && !validPresigned(*spec.presigned, source.ID, spec.region, c.Name) {
		s.problem = "The presigned URL is not valid"
	}
	s.content = c.blocks().share(source.content)
	return s, nil
}

// checkCopies tells whether more copies may begin.
func (c *Call) checkCopies(more int) error {
	limit, pending := c.storageQuota("concurrent-snapshot-copies", 20), 0
	for _, s := range snapshotsOf(c.Region) {
		if s.copied && s.state(c.Now) == types.SnapshotStatePending {
			pending++
		}
	}
	if pending+more > limit {
		return fault("ResourceLimitExceeded", "Too many snapshot copies in progress. The limit is %d for this destination region.", limit)
	}
	return nil
}

// validPresigned checks what the URL has to ask the source region for (PresignedUrl of
// https://docs.aws.amazon.com/AWSEC2/latest/APIReference/API_CopySnapshot.html).
func validPresigned(text, id, from, to string) bool {
	u, err := url.Parse(text)
	if err != nil {
		return false
	}
	q := u.Query()
	return q.Get("Action") == "CopySnapshot" && q.Get("SourceSnapshotId") == id && q.Get("SourceRegion") == from && q.Get("DestinationRegion") == to && q.Get("X-Amz-Signature") != ""
}

func init() {
	on(ec2Service, "CreateSnapshot", func(c *Call, in *ec2.CreateSnapshotInput) (*ec2.CreateSnapshotOutput, error) {
		v, err := c.volumeOf(in.VolumeId)
		if err != nil {
			return nil, err
		}
		if err := dryRun(in.DryRun); err != nil {
			return nil, err
		}
		one, err := c.beginCapture(v, aws.ToString(in.Description), in.TagSpecifications)
		if err != nil {
			return nil, err
		}
		instance := "" // the snapshot is one instant, so what writes to the volume stands still
		if a := v.attachmentTo(""); a != nil {
			instance = a.instance
		}
		if err := c.capture([]*capturing{one}, instance, false); err != nil {
			return nil, err
		}
		d := one.s.describe(c.Now)
		return &ec2.CreateSnapshotOutput{SnapshotId: d.SnapshotId, OwnerId: d.OwnerId, VolumeId: d.VolumeId, VolumeSize: d.VolumeSize, Tags: d.Tags,
			Description: d.Description, Encrypted: d.Encrypted, KmsKeyId: d.KmsKeyId, StartTime: d.StartTime, State: d.State, Progress: aws.String("")}, nil
	})
	on(ec2Service, "CreateSnapshots", func(c *Call, in *ec2.CreateSnapshotsInput) (*ec2.CreateSnapshotsOutput, error) {
		volumes, err := c.chosenVolumes(in.InstanceSpecification)
		if err != nil {
			return nil, err
		}
		if err := dryRun(in.DryRun); err != nil {
			return nil, err
		}
		set, err := c.snapshotInstance(volumes, func(v *volume) (string, []types.TagSpecification) {
			if in.CopyTagsFromSource == types.CopyTagsFromSourceVolume {
				return aws.ToString(in.Description), withVolumeTags(v, in.TagSpecifications)
			}
			return aws.ToString(in.Description), in.TagSpecifications
		})
		if err != nil {
			return nil, err
		}
		if err := c.capture(set, aws.ToString(in.InstanceSpecification.InstanceId), false); err != nil {
			return nil, err
		}
		out := &ec2.CreateSnapshotsOutput{}
		for _, one := range set {
			d := one.s.describe(c.Now)
			out.Snapshots = append(out.Snapshots, types.SnapshotInfo{SnapshotId: d.SnapshotId, OwnerId: d.OwnerId, VolumeId: d.VolumeId, VolumeSize: d.VolumeSize,
				Tags: d.Tags, Description: d.Description, Encrypted: d.Encrypted, StartTime: d.StartTime, State: d.State, Progress: aws.String("")})
		}
		return out, nil
	})
}

func init() {
	on(ec2Service, "CopySnapshot", func(c *Call, in *ec2.CopySnapshotInput) (*ec2.CopySnapshotOutput, error) {
		source, err := c.accessibleSnapshot(*in.SourceRegion, *in.SourceSnapshotId)
		if err != nil {
			return nil, err
		}
		if err := dryRun(in.DryRun); err != nil {
			return nil, err
		}
		s, err := c.copySnapshot(source, copySpec{region: *in.SourceRegion, description: aws.ToString(in.Description), encrypted: in.Encrypted,
			key: in.KmsKeyId, duration: in.CompletionDurationMinutes, presigned: in.PresignedUrl, tags: in.TagSpecifications})
		if err != nil {
			return nil, err
		}
		return &ec2.CopySnapshotOutput{SnapshotId: aws.String(s.ID), Tags: s.tags()}, nil
	})
}
