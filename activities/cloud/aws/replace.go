package aws

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"maps"
	"slices"

	awssdk "github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/ec2"
	"github.com/aws/aws-sdk-go-v2/service/ec2/types"

	"lifeboat/activities/cloud"
)

// restoring is one call of RestoreServer.
type restoring struct {
	p        *Provider
	in       cloud.RestoreServer
	instance types.Instance
	old, new []types.Volume // in the order of the request
	result   cloud.Restore
}

// RestoreServer puts volumes made of snapshots in the place of an instance's own. The root of a running instance is
// replaced by a root volume replacement task, which reboots it; other volumes, and the root of a stopped instance, are
// detached and attached. Every step has a token of its own or is idempotent by a look, so that any attempt goes on
// where another one was.
func (p *Provider) RestoreServer(ctx context.Context, in cloud.RestoreServer) (cloud.Restore, error) {
	const op = "RestoreServer"
	what := "server " + in.Server
	if err := cloud.CheckToken(op, cloud.KindServer, in.Token); err != nil {
		return cloud.Restore{}, err
	}
	if len(in.Disks) == 0 {
		return cloud.Restore{}, invalid(op, what, "no disk is to be restored", "name its disks and their snapshots")
	}
	r := &restoring{p: p, in: in, result: cloud.Restore{State: cloud.Creating}}
	var err error
	if r.instance, err = p.instance(ctx, op, in.Server); err != nil {
		return cloud.Restore{}, err
	}
	for _, step := range []func(context.Context) (bool, error){r.check, r.undo, r.make, r.swap} {
		if done, err := step(ctx); err != nil || !done {
			return r.result, err
		}
	}
	r.result.State, r.result.Message = cloud.Available, ""
	return r.result, nil
}

// token derives the token of a step.
func (r *restoring) token(step string, n int) string {
	sum := sha256.Sum256(fmt.Appendf(nil, "%s\x00%s\x00%d", r.in.Token, step, n))
	return hex.EncodeToString(sum[:20])
}

// check refuses what would harm a running server.
func (r *restoring) check(ctx context.Context) (bool, error) {
	var ids []string
	for _, d := range r.in.Disks {
		ids = append(ids, d.Disk)
	}
	var err error
	if r.old, err = r.p.volumes(ctx, "RestoreServer", ids); err != nil {
		return false, err
	}
	state := stateOf(r.instance)
	if state == types.InstanceStateNameStopped {
		return true, nil
	}
	if state == types.InstanceStateNameRunning && len(r.old) == 1 {
		if r.isRoot(r.old[0]) {
			return true, nil
		}
		if replaced, err := r.rootTask(ctx); err != nil || replaced {
			return replaced, err
		}
	}
	return false, cloud.E(cloud.Conflict, "RestoreServer", "server "+r.in.Server, "it is "+string(state)+", and its disks are in use", "stop it first", nil)
}

// rootTask tells whether an earlier attempt began to replace the root of the running instance.
func (r *restoring) rootTask(ctx context.Context) (bool, error) {
	list, err := listAll(ctx, ec2.NewDescribeReplaceRootVolumeTasksPaginator(r.p.ec2(), &ec2.DescribeReplaceRootVolumeTasksInput{
		Filters: []types.Filter{filter("instance-id", r.in.Server)}}), func(o *ec2.DescribeReplaceRootVolumeTasksOutput) []types.ReplaceRootVolumeTask {
		return o.ReplaceRootVolumeTasks
	})
	if err != nil {
		return false, awsError("RestoreServer", "server "+r.in.Server, err)
	}
	return slices.ContainsFunc(list, func(t types.ReplaceRootVolumeTask) bool { return tagMap(t.Tags)[cloud.TagToken] == r.token("root", 0) }), nil
}

// isRoot tells whether the instance boots from a volume.
func (r *restoring) isRoot(v types.Volume) bool {
	a, ok := attachmentOf(v)
	return ok && awssdk.ToString(a.InstanceId) == r.in.Server && awssdk.ToString(a.Device) == awssdk.ToString(r.instance.RootDeviceName)
}

// undo cuts the disks as they are; an earlier attempt's cut is found again.
func (r *restoring) undo(ctx context.Context) (bool, error) {
	cut := cloud.CreateSnapshots{Create: cloud.Create{Token: r.token("undo", 0), Name: "before restore", Tags: r.tags("undo", 0), Repeat: r.in.Repeat}}
	for _, d := range r.in.Disks {
		cut.Disks = append(cut.Disks, d.Disk)
	}
	var err error
	r.result.Undo, err = r.p.StartSnapshots(ctx, cut)
	return err == nil, err
}

func (r *restoring) tags(step string, n int) map[string]string {
	tags := map[string]string{}
	maps.Copy(tags, r.in.Tags)
	tags[cloud.TagToken] = r.token(step, n)
	return tags
}

// make makes the new volumes, where the old ones are and like them.
func (r *restoring) make(ctx context.Context) (bool, error) {
	const op = "RestoreServer"
	var waiting string
	for i, d := range r.in.Disks {
		old := r.old[i]
		token := r.token("disk", i)
		request := &ec2.CreateVolumeInput{AvailabilityZone: old.AvailabilityZone, ClientToken: &token, SnapshotId: &r.in.Disks[i].SnapshotID, Size: old.Size,
			VolumeType: old.VolumeType, TagSpecifications: tagSpecs(allTags(cloud.Create{Token: token, Name: r.in.Name, Tags: r.tags("disk", i)}, nil), types.ResourceTypeVolume)}
		if slices.Contains([]types.VolumeType{types.VolumeTypeGp3, types.VolumeTypeIo1, types.VolumeTypeIo2}, old.VolumeType) {
			request.Iops = old.Iops
		}
		if old.VolumeType == types.VolumeTypeGp3 {
			request.Throughput = old.Throughput
		}
		if awssdk.ToBool(old.Encrypted) {
			request.Encrypted, request.KmsKeyId = awssdk.Bool(true), old.KmsKeyId
		}
		out, err := r.p.ec2().CreateVolume(ctx, request)
		if err != nil {
			return false, awsError(op, "disk of snapshot "+d.SnapshotID, err)
		}
		id := awssdk.ToString(out.VolumeId)
		r.result.Disks = append(r.result.Disks, id)
		v, err := r.p.volume(ctx, op, id)
		if cloud.IsNotFound(err) { // not visible yet
			v, err = types.Volume{VolumeId: out.VolumeId, State: types.VolumeStateCreating}, nil
		}
		if err != nil {
			return false, err
		}
		switch v.State {
		case types.VolumeStateCreating:
			waiting = id
		case types.VolumeStateError:
			return false, cloud.E(cloud.Failed, op, "disk "+id, diskOf(v).Message, "", nil)
		}
		r.new = append(r.new, v)
	}
	if waiting != "" {
		r.result.Message = "waiting until disk " + waiting + " is made"
	}
	return waiting == "", nil
}

// swap puts the new volumes in their places.
func (r *restoring) swap(ctx context.Context) (bool, error) {
	if stateOf(r.instance) == types.InstanceStateNameRunning {
		return r.replaceRoot(ctx)
	}
	done := true
	for i := range r.new {
		id := r.result.Disks[i]
		if a, ok := attachmentOf(r.new[i]); ok {
			if a.State != types.VolumeAttachmentStateAttached {
				done, r.result.Message = false, "waiting until disk "+id+" is attached"
			}
			continue
		}
		done = false
		if a, ok := attachmentOf(r.old[i]); ok && awssdk.ToString(a.InstanceId) == r.in.Server {
			// The place is known only while the old volume has it: it is noted at the new one before.
			if err := r.notePlace(ctx, id, awssdk.ToString(a.Device)); err != nil {
				return false, err
			}
			if err := r.p.StartDetachDisk(ctx, r.in.Disks[i].Disk); err != nil {
				return false, err
			}
			r.result.Message = "waiting until disk " + r.in.Disks[i].Disk + " is detached"
			continue
		}
		if err := r.p.StartAttachDisk(ctx, id, r.in.Server, tagMap(r.new[i].Tags)[tagPlace]); err != nil {
			return false, err
		}
		r.result.Message = "waiting until disk " + id + " is attached"
	}
	return done, nil
}

// notePlace keeps in a tag which device a new volume is for.
func (r *restoring) notePlace(ctx context.Context, disk, device string) error {
	_, err := r.p.ec2().CreateTags(ctx, &ec2.CreateTagsInput{Resources: []string{disk}, Tags: ec2Tags(map[string]string{tagPlace: device})})
	return awsError("RestoreServer", "disk "+disk, err)
}

// replaceRoot follows the task that replaces the root of a running instance.
func (r *restoring) replaceRoot(ctx context.Context) (bool, error) {
	const op = "RestoreServer"
	token := r.token("root", 0)
	out, err := r.p.ec2().CreateReplaceRootVolumeTask(ctx, &ec2.CreateReplaceRootVolumeTaskInput{InstanceId: &r.in.Server, VolumeId: &r.result.Disks[0],
		DeleteReplacedRootVolume: awssdk.Bool(false), ClientToken: &token, TagSpecifications: tagSpecs(r.tags("root", 0), types.ResourceTypeReplaceRootVolumeTask)})
	if err != nil {
		return false, awsError(op, "server "+r.in.Server, err)
	}
	id := awssdk.ToString(out.ReplaceRootVolumeTask.ReplaceRootVolumeTaskId)
	list, err := r.p.ec2().DescribeReplaceRootVolumeTasks(ctx, &ec2.DescribeReplaceRootVolumeTasksInput{ReplaceRootVolumeTaskIds: []string{id}})
	if err = awsError(op, "replacement task "+id, err); err != nil && !cloud.IsNotFound(err) {
		return false, err
	}
	state := types.ReplaceRootVolumeTaskStatePending
	if err == nil && len(list.ReplaceRootVolumeTasks) > 0 {
		state = list.ReplaceRootVolumeTasks[0].TaskState
	}
	switch state {
	case types.ReplaceRootVolumeTaskStateSucceeded:
		return true, nil
	case types.ReplaceRootVolumeTaskStateFailed, types.ReplaceRootVolumeTaskStateFailedDetached:
		return false, cloud.E(cloud.Failed, op, "server "+r.in.Server, "its root could not be replaced (task "+id+": "+string(state)+")",
			"stop the server and restore it again under another token", nil)
	}
	r.result.Message = "waiting until the root is replaced (" + string(state) + ")"
	return false, nil
}
