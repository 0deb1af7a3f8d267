package aws

import (
	"cmp"
	"context"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
	"time"

	awssdk "github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/ec2"
	"github.com/aws/aws-sdk-go-v2/service/ec2/types"

	"lifeboat/activities/cloud"
)

// maxExclude is how many data volumes CreateSnapshots can leave out (InstanceSpecification.ExcludeDataVolumeIds).
const maxExclude = 40

// StartSnapshots cuts volumes. Those of one instance are cut together by CreateSnapshots, which is crash consistent
// across them; volumes of no instance are at rest, and cut one after the other. Time is that of the call, so that no
// snapshot holds anything older. There is no client token: the tag is looked for.
func (p *Provider) StartSnapshots(ctx context.Context, in cloud.CreateSnapshots) ([]cloud.Snapshot, error) {
	const op = "StartSnapshots"
	sorted := slices.Sorted(slices.Values(in.Disks))
	if len(in.Disks) == 0 || len(slices.Compact(sorted)) != len(in.Disks) {
		return nil, invalid(op, "snapshots "+in.Name, "the disks to cut are missing, or one is named twice", "name each disk once")
	}
	list, err := makeOnce(ctx, p, lookup[types.Snapshot]{op: op, kind: cloud.KindSnapshot, in: in.Create, request: in,
		find: func(ctx context.Context) ([]types.Snapshot, error) {
			return p.snapshotsOf(ctx, op, tokenFilter(in.Token))
		},
		tags: func(s types.Snapshot) map[string]string { return tagMap(s.Tags) },
		enough: func(found []types.Snapshot) bool {
			_, missing := ofDisks(found, in.Disks)
			return len(missing) == 0
		},
		create: func(ctx context.Context, tags map[string]string, there []types.Snapshot) ([]types.Snapshot, error) {
			return p.cut(ctx, in, tags, there)
		}})
	if err != nil {
		return nil, err
	}
	found, missing := ofDisks(list, in.Disks)
	if len(missing) > 0 { // the disks came and went while they were cut
		return nil, cloud.E(cloud.Conflict, op, "disk "+missing[0], "it was attached or detached while it was cut", "", nil)
	}
	snapshots := make([]cloud.Snapshot, len(found))
	for i, s := range found {
		snapshots[i] = snapshotOf(s)
	}
	return snapshots, nil
}

// ofDisks orders snapshots by the disks that they are of. Of several of one disk the earliest counts.
func ofDisks(list []types.Snapshot, disks []string) (found []types.Snapshot, missing []string) {
	slices.SortStableFunc(list, func(a, b types.Snapshot) int {
		return cmp.Or(awssdk.ToTime(a.StartTime).Compare(awssdk.ToTime(b.StartTime)), strings.Compare(awssdk.ToString(a.SnapshotId), awssdk.ToString(b.SnapshotId)))
	})
	for _, d := range disks {
		i := slices.IndexFunc(list, func(s types.Snapshot) bool { return awssdk.ToString(s.VolumeId) == d })
		if i < 0 {
			missing = append(missing, d)
			continue
		}
		found = append(found, list[i])
	}
	return found, missing
}

// cut makes the snapshots that are not there yet.
func (p *Provider) cut(ctx context.Context, in cloud.CreateSnapshots, tags map[string]string, there []types.Snapshot) ([]types.Snapshot, error) {
	const op = "StartSnapshots"
	now := time.Now().UTC()
	if len(there) > 0 { // an earlier attempt began with disks at rest
		now = timeOf(there[0])
	}
	_, missing := ofDisks(there, in.Disks)
	volumes, err := p.volumes(ctx, op, missing)
	if err != nil {
		return nil, err
	}
	server, attached := "", []string{}
	for _, v := range volumes {
		a, ok := attachmentOf(v)
		if !ok {
			continue
		}
		if has := awssdk.ToString(a.InstanceId); server == "" || has == server {
			server, attached = has, append(attached, awssdk.ToString(v.VolumeId))
		} else {
			return nil, invalid(op, "disk "+awssdk.ToString(v.VolumeId), "the disks belong to servers "+server+" and "+has, "cut the disks of one server at once")
		}
	}
	tags = maps.Clone(tags)
	tags[tagTime] = now.Format(time.RFC3339Nano)
	list := slices.Clone(there)
	if server != "" && len(there) > 0 {
		return nil, cloud.E(cloud.Failed, op, "server "+server, "an earlier attempt cut a part of its disks: the rest would be of another instant",
			"delete the snapshots with the tag "+cloud.TagToken+" = "+in.Token, nil)
	}
	if server != "" {
		made, err := p.cutServer(ctx, server, attached, tags)
		if err != nil {
			return nil, err
		}
		list = append(list, made...)
	}
	for _, v := range volumes {
		if id := awssdk.ToString(v.VolumeId); !slices.Contains(attached, id) {
			s, err := p.cutVolume(ctx, id, tags)
			if err != nil {
				return nil, err // the next attempt finds what is there, and makes the rest
			}
			list = append(list, s)
		}
	}
	return list, nil
}

// cutServer cuts volumes of an instance together.
func (p *Provider) cutServer(ctx context.Context, server string, disks []string, tags map[string]string) ([]types.Snapshot, error) {
	const op = "StartSnapshots"
	i, err := p.instance(ctx, op, server)
	if err != nil {
		return nil, err
	}
	tags = maps.Clone(tags)
	tags[tagMachine] = machineOf(i)
	if len(disks) == 1 {
		s, err := p.cutVolume(ctx, disks[0], tags)
		return []types.Snapshot{s}, err
	}
	spec := &types.InstanceSpecification{InstanceId: &server}
	for _, m := range i.BlockDeviceMappings {
		if m.Ebs == nil {
			continue
		}
		id := awssdk.ToString(m.Ebs.VolumeId)
		switch {
		case slices.Contains(disks, id):
		case awssdk.ToString(m.DeviceName) == awssdk.ToString(i.RootDeviceName):
			spec.ExcludeBootVolume = awssdk.Bool(true)
		default:
			spec.ExcludeDataVolumeIds = append(spec.ExcludeDataVolumeIds, id)
		}
	}
	if n := len(spec.ExcludeDataVolumeIds); n > maxExclude {
		return nil, cloud.E(cloud.Unsupported, op, "server "+server, fmt.Sprintf("%d of its disks would have to be left out, EC2 leaves out %d", n, maxExclude),
			"protect more of its disks", nil)
	}
	out, err := p.ec2().CreateSnapshots(ctx, &ec2.CreateSnapshotsInput{InstanceSpecification: spec, TagSpecifications: tagSpecs(tags, types.ResourceTypeSnapshot)}, once)
	if err != nil {
		return nil, awsError(op, "server "+server, err)
	}
	var list []types.Snapshot
	for _, s := range out.Snapshots {
		list = append(list, types.Snapshot{SnapshotId: s.SnapshotId, VolumeId: s.VolumeId, VolumeSize: s.VolumeSize, State: s.State, StartTime: s.StartTime,
			Progress: s.Progress, Tags: s.Tags})
	}
	return list, nil
}

func (p *Provider) cutVolume(ctx context.Context, disk string, tags map[string]string) (types.Snapshot, error) {
	s, err := p.ec2().CreateSnapshot(ctx, &ec2.CreateSnapshotInput{VolumeId: &disk, TagSpecifications: tagSpecs(tags, types.ResourceTypeSnapshot)}, once)
	if err != nil {
		return types.Snapshot{}, awsError("StartSnapshots", "disk "+disk, err)
	}
	return types.Snapshot{SnapshotId: s.SnapshotId, VolumeId: s.VolumeId, VolumeSize: s.VolumeSize, State: s.State, StateMessage: s.StateMessage,
		StartTime: s.StartTime, Progress: s.Progress, Tags: s.Tags}, nil
}

// machineOf is what RegisterImage has to know of the machine whose root it registers; all else has good defaults.
func machineOf(i types.Instance) string {
	machine := "architecture=" + string(i.Architecture)
	if i.BootMode != "" {
		machine += ",boot-mode=" + string(i.BootMode)
	}
	return machine
}

// StartCopySnapshot copies a snapshot of another region, or of another account, to the region of this site. CopySnapshot
// is called where the copy is made, has no client token, and reports a wrong key later. What is copied is described at
// its own site, and shared with the account of this one first when it is another.
func (p *Provider) StartCopySnapshot(ctx context.Context, in cloud.CopySnapshot) (cloud.Snapshot, error) {
	const op = "StartCopySnapshot"
	list, err := makeOnce(ctx, p, lookup[types.Snapshot]{op: op, kind: cloud.KindSnapshot, in: in.Create, request: in,
		find: func(ctx context.Context) ([]types.Snapshot, error) {
			return p.snapshotsOf(ctx, op, tokenFilter(in.Token))
		},
		tags: func(s types.Snapshot) map[string]string { return tagMap(s.Tags) },
		create: func(ctx context.Context, tags map[string]string, _ []types.Snapshot) ([]types.Snapshot, error) {
			s, err := p.copySnapshot(ctx, in, tags)
			return []types.Snapshot{s}, err
		}})
	if err != nil {
		return cloud.Snapshot{}, err
	}
	found, _ := ofDisks(list, []string{awssdk.ToString(list[0].VolumeId)}) // the earliest
	return snapshotOf(found[0]), nil
}

func (p *Provider) copySnapshot(ctx context.Context, in cloud.CopySnapshot, tags map[string]string) (types.Snapshot, error) {
	const op = "StartCopySnapshot"
	what := "snapshot " + in.SnapshotID
	from, err := p.peer(ctx, in.From)
	if err != nil {
		return types.Snapshot{}, err
	}
	original, err := from.snapshot(ctx, op, in.SnapshotID)
	if err != nil {
		return types.Snapshot{}, err
	}
	if original.State != types.SnapshotStateCompleted {
		return types.Snapshot{}, cloud.E(cloud.NotReady, op, what, "it is "+string(original.State)+": only complete snapshots can be copied", "", nil)
	}
	if err := p.share(ctx, from, original); err != nil {
		return types.Snapshot{}, err
	}
	tags[tagTime] = timeOf(original).Format(time.RFC3339Nano)
	if machine := tagMap(original.Tags)[tagMachine]; machine != "" {
		tags[tagMachine] = machine
	}
	request := &ec2.CopySnapshotInput{SourceRegion: &from.site.Region, SourceSnapshotId: &in.SnapshotID, TagSpecifications: tagSpecs(tags, types.ResourceTypeSnapshot)}
	if in.Key != "" {
		request.Encrypted, request.KmsKeyId = awssdk.Bool(true), &in.Key
	} else if awssdk.ToBool(original.Encrypted) {
		request.Encrypted = awssdk.Bool(true) // under the default key of this region
	}
	out, err := p.ec2().CopySnapshot(ctx, request, once)
	if err != nil {
		return types.Snapshot{}, awsError(op, what, err)
	}
	return types.Snapshot{SnapshotId: out.SnapshotId, VolumeId: awssdk.String("vol-ffffffff"), VolumeSize: original.VolumeSize, State: types.SnapshotStatePending,
		StartTime: awssdk.Time(time.Now()), Tags: ec2Tags(tags)}, nil
}

// share lets the account of this site copy a snapshot of another account.
func (p *Provider) share(ctx context.Context, from *Provider, s types.Snapshot) error {
	if p.site.Role == from.site.Role && p.site.Account == from.site.Account {
		return nil
	}
	mine, err := p.account(ctx)
	if err != nil || mine == awssdk.ToString(s.OwnerId) {
		return err
	}
	_, err = from.ec2().ModifySnapshotAttribute(ctx, &ec2.ModifySnapshotAttributeInput{SnapshotId: s.SnapshotId, Attribute: types.SnapshotAttributeNameCreateVolumePermission,
		OperationType: types.OperationTypeAdd, UserIds: []string{mine}})
	return awsError("StartCopySnapshot", "snapshot "+awssdk.ToString(s.SnapshotId), err)
}

// Snapshot describes a snapshot.
func (p *Provider) Snapshot(ctx context.Context, id string) (cloud.Snapshot, error) {
	s, err := p.snapshot(ctx, "Snapshot", id)
	if err != nil {
		return cloud.Snapshot{}, err
	}
	return snapshotOf(s), nil
}

func (p *Provider) snapshot(ctx context.Context, op, id string) (types.Snapshot, error) {
	if !hasPrefix(id, "snap-") {
		return types.Snapshot{}, notFound(op, cloud.KindSnapshot, id)
	}
	out, err := p.ec2().DescribeSnapshots(ctx, &ec2.DescribeSnapshotsInput{SnapshotIds: []string{id}})
	if err != nil {
		return types.Snapshot{}, awsError(op, "snapshot "+id, err)
	}
	if len(out.Snapshots) == 0 {
		return types.Snapshot{}, notFound(op, cloud.KindSnapshot, id)
	}
	return out.Snapshots[0], nil
}

// Snapshots lists the snapshots of the account.
func (p *Provider) Snapshots(ctx context.Context, f cloud.Filter) ([]cloud.Snapshot, error) {
	all, err := p.snapshotsOf(ctx, "Snapshots", f)
	snapshots := make([]cloud.Snapshot, 0, len(all))
	for _, s := range all {
		snapshots = append(snapshots, snapshotOf(s))
	}
	return snapshots, err
}

func (p *Provider) snapshotsOf(ctx context.Context, op string, f cloud.Filter) ([]types.Snapshot, error) {
	all, err := listAll(ctx, ec2.NewDescribeSnapshotsPaginator(p.ec2(), &ec2.DescribeSnapshotsInput{OwnerIds: []string{"self"}, Filters: ec2Filters(f),
		MaxResults: awssdk.Int32(pageSize)}), func(o *ec2.DescribeSnapshotsOutput) []types.Snapshot { return o.Snapshots })
	if err != nil {
		return nil, awsError(op, "snapshots", err)
	}
	return slices.DeleteFunc(all, func(s types.Snapshot) bool { return !f.Match(tagMap(s.Tags)) }), nil
}

// snapshotOf describes a snapshot. A copy that failed says so late, in StateMessage.
func snapshotOf(s types.Snapshot) cloud.Snapshot {
	state := map[types.SnapshotState]cloud.State{
		types.SnapshotStatePending: cloud.Creating, types.SnapshotStateCompleted: cloud.Available, types.SnapshotStateError: cloud.Failing,
		types.SnapshotStateRecoverable: cloud.Deleting, types.SnapshotStateRecovering: cloud.Creating,
	}[s.State]
	message := ""
	if state == cloud.Failing {
		message = cmp.Or(awssdk.ToString(s.StateMessage), "the snapshot failed; AWS does not say why")
	}
	percent, _ := strconv.Atoi(strings.TrimSuffix(awssdk.ToString(s.Progress), "%")) // empty at the beginning
	if state == cloud.Available {
		percent = 100
	}
	return cloud.Snapshot{Resource: resourceOf(awssdk.ToString(s.SnapshotId), state, message, tagMap(s.Tags), s.StartTime),
		Disk: awssdk.ToString(s.VolumeId), Bytes: int64(awssdk.ToInt32(s.VolumeSize)) * gib, Time: timeOf(s), Percent: percent}
}

// timeOf is the instant that a snapshot holds: a copy has the original's in a tag, and its own beginning as StartTime.
func timeOf(s types.Snapshot) time.Time {
	if t, err := time.Parse(time.RFC3339Nano, tagMap(s.Tags)[tagTime]); err == nil {
		return t.UTC()
	}
	return awssdk.ToTime(s.StartTime).UTC()
}

// DeleteSnapshot deletes a snapshot. One of an image is refused by EC2 as InUse; a volume that is being filled from one
// does not need it any more.
func (p *Provider) DeleteSnapshot(ctx context.Context, id string) error {
	const op = "DeleteSnapshot"
	if !hasPrefix(id, "snap-") {
		return notFound(op, cloud.KindSnapshot, id)
	}
	_, err := p.ec2().DeleteSnapshot(ctx, &ec2.DeleteSnapshotInput{SnapshotId: &id})
	return awsError(op, "snapshot "+id, err)
}
