package aws

import (
	"context"
	"time"

	awssdk "github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/efs"
	"github.com/aws/aws-sdk-go-v2/service/efs/types"

	"lifeboat/activities/cloud"
)

// A file system is one of EFS. It has at most one replication, which its source's region and its own both know: the one
// at the recovery site is promoted there, without the other.

const kindFileSystem = cloud.Kind("file system")

func (p *Provider) efs() *efs.Client {
	return p.clients.efs.get(func() *efs.Client { return efs.NewFromConfig(p.config) })
}

// fileSystemState maps the states of https://docs.aws.amazon.com/efs/latest/ug/API_FileSystemDescription.html
func fileSystemState(s types.LifeCycleState) cloud.State {
	switch s {
	case types.LifeCycleStateAvailable, types.LifeCycleStateUpdating:
		return cloud.Available
	case types.LifeCycleStateDeleting, types.LifeCycleStateDeleted:
		return cloud.Deleting
	case types.LifeCycleStateError:
		return cloud.Failing
	}
	return cloud.Creating
}

// fileSystemOf describes a file system, with the replication whose destination it is.
func (p *Provider) fileSystemOf(s types.FileSystemDescription, replications []types.ReplicationConfigurationDescription) cloud.FileSystem {
	tags := map[string]string{}
	for _, t := range s.Tags {
		tags[awssdk.ToString(t.Key)] = awssdk.ToString(t.Value)
	}
	id := awssdk.ToString(s.FileSystemId)
	out := cloud.FileSystem{Resource: resourceOf(id, fileSystemState(s.LifeCycleState), "", tags, s.CreationTime), Endpoint: id + ".efs." + p.site.Region + ".amazonaws.com"}
	if s.SizeInBytes != nil {
		out.Bytes = s.SizeInBytes.Value
	}
	for _, r := range replications {
		for _, d := range r.Destinations {
			if awssdk.ToString(d.FileSystemId) != id || awssdk.ToString(d.Region) != p.site.Region {
				continue
			}
			out.Source, out.Lag = awssdk.ToString(r.SourceFileSystemArn), -1
			if d.LastReplicatedTimestamp != nil {
				out.Lag = max(time.Since(*d.LastReplicatedTimestamp), 0)
			}
			switch d.Status {
			case types.ReplicationStatusEnabling:
				out.State = cloud.Creating
			case types.ReplicationStatusError:
				out.Message = clean("the replication is in error: " + awssdk.ToString(d.StatusMessage))
			}
		}
	}
	return out
}

// replicationsOf finds the replication that a file system of this region is in; none is no error.
func (p *Provider) replicationsOf(ctx context.Context, op, id string) ([]types.ReplicationConfigurationDescription, error) {
	out, err := p.efs().DescribeReplicationConfigurations(ctx, &efs.DescribeReplicationConfigurationsInput{FileSystemId: &id})
	if apiCode(err) == "ReplicationNotFound" {
		return nil, nil
	}
	if err != nil {
		return nil, awsError(op, "file system "+id, err)
	}
	return out.Replications, nil
}

// FileSystem finds a file system. Lag is the age of what a replica holds; −1 while it holds nothing yet.
func (p *Provider) FileSystem(ctx context.Context, id string) (cloud.FileSystem, error) {
	const op = "FileSystem"
	if id == "" { // EFS would list them all
		return cloud.FileSystem{}, notFound(op, kindFileSystem, id)
	}
	out, err := p.efs().DescribeFileSystems(ctx, &efs.DescribeFileSystemsInput{FileSystemId: &id})
	if err != nil {
		return cloud.FileSystem{}, awsError(op, "file system "+id, err)
	}
	if len(out.FileSystems) == 0 {
		return cloud.FileSystem{}, notFound(op, kindFileSystem, id)
	}
	replications, err := p.replicationsOf(ctx, op, id)
	if err != nil {
		return cloud.FileSystem{}, err
	}
	return p.fileSystemOf(out.FileSystems[0], replications), nil
}

// FileSystems lists the file systems of the region.
func (p *Provider) FileSystems(ctx context.Context, f cloud.Filter) ([]cloud.FileSystem, error) {
	what := "file systems of site " + p.site.Name
	list, err := listPages(ctx, efs.NewDescribeFileSystemsPaginator(p.efs(), &efs.DescribeFileSystemsInput{}),
		func(o *efs.DescribeFileSystemsOutput) []types.FileSystemDescription { return o.FileSystems })
	if err != nil {
		return nil, awsError("FileSystems", what, err)
	}
	replications, err := listPages(ctx, efs.NewDescribeReplicationConfigurationsPaginator(p.efs(), &efs.DescribeReplicationConfigurationsInput{}),
		func(o *efs.DescribeReplicationConfigurationsOutput) []types.ReplicationConfigurationDescription {
			return o.Replications
		})
	if err != nil {
		return nil, awsError("FileSystems", what, err)
	}
	all := []cloud.FileSystem{}
	for _, s := range list {
		if out := p.fileSystemOf(s, replications); f.Match(out.Tags) {
			all = append(all, out)
		}
	}
	return all, nil
}

// StartReplicaFileSystem replicates a file system of another region to a new one of this region. AWS is asked in the
// region of the source, and makes the new one without tags: they are put on it afterwards, and on one that an earlier
// attempt left without them. It begins empty; Lag tells when it holds something.
func (p *Provider) StartReplicaFileSystem(ctx context.Context, in cloud.Create, from cloud.Site, fileSystem string) (cloud.FileSystem, error) {
	const op = "StartReplicaFileSystem"
	resource := "file system " + fileSystem
	if err := cloud.CheckToken(op, kindFileSystem, in.Token); err != nil {
		return cloud.FileSystem{}, err
	}
	source, err := p.peer(ctx, from)
	if err != nil {
		return cloud.FileSystem{}, err
	}
	there, err := source.replicationsOf(ctx, op, fileSystem)
	if err != nil {
		return cloud.FileSystem{}, err
	}
	var destinations []types.Destination
	if len(there) > 0 {
		destinations = there[0].Destinations
	} else {
		out, err := source.efs().CreateReplicationConfiguration(ctx, &efs.CreateReplicationConfigurationInput{SourceFileSystemId: &fileSystem,
			Destinations: []types.DestinationToCreate{{Region: &p.site.Region}}})
		if err != nil {
			return cloud.FileSystem{}, awsError(op, resource, err)
		}
		destinations = out.Destinations
	}
	for _, d := range destinations {
		if awssdk.ToString(d.Region) == p.site.Region && (len(there) == 0 || awssdk.ToString(there[0].SourceFileSystemId) == fileSystem) {
			return p.ourReplica(ctx, op, in, fileSystem, awssdk.ToString(d.FileSystemId))
		}
	}
	return cloud.FileSystem{}, invalid(op, resource, "it is in another replication already, and can be in one only", "end that one, or replicate what it leads to")
}

// ourReplica puts the tags of a request on a replica that has none, or checks those that it has.
func (p *Provider) ourReplica(ctx context.Context, op string, in cloud.Create, source, id string) (cloud.FileSystem, error) {
	out, err := p.efs().DescribeFileSystems(ctx, &efs.DescribeFileSystemsInput{FileSystemId: &id})
	if err != nil {
		return cloud.FileSystem{}, awsError(op, "file system "+id, err)
	}
	sum, have := op+":"+digest([]any{in, source}), map[string]string{}
	for _, s := range out.FileSystems {
		for _, t := range s.Tags {
			have[awssdk.ToString(t.Key)] = awssdk.ToString(t.Value)
		}
	}
	switch token := have[cloud.TagToken]; {
	case token == in.Token && have[tagRequest] == sum:
		return p.FileSystem(ctx, id)
	case token == in.Token:
		return cloud.FileSystem{}, cloud.E(cloud.TokenMismatch, op, "file system "+id, "the client token was used before for another request", "", nil)
	case token != "":
		return cloud.FileSystem{}, invalid(op, "file system "+source, "it is replicated to "+id+" already, for another operation", "use that one, or end its replication")
	}
	var tags []types.Tag
	for _, t := range ec2Tags(allTags(in, map[string]string{tagRequest: sum})) {
		tags = append(tags, types.Tag{Key: t.Key, Value: t.Value})
	}
	if _, err := p.efs().TagResource(ctx, &efs.TagResourceInput{ResourceId: &id, Tags: tags}); err != nil {
		return cloud.FileSystem{}, awsError(op, "file system "+id, err)
	}
	return p.FileSystem(ctx, id)
}

// StartPromoteFileSystem deletes the replication, by a request to the replica's region. Where EFS cannot reach the other
// region, it is deleted here alone, and the other side keeps what it has of it
// (https://docs.aws.amazon.com/efs/latest/ug/delete-replications.html).
func (p *Provider) StartPromoteFileSystem(ctx context.Context, id string) error {
	const op = "StartPromoteFileSystem"
	s, err := p.FileSystem(ctx, id)
	if err != nil || s.Source == "" {
		return err
	}
	replications, err := p.replicationsOf(ctx, op, id)
	if err != nil || len(replications) == 0 {
		return err
	}
	r := replications[0]
	_, err = p.efs().DeleteReplicationConfiguration(ctx, &efs.DeleteReplicationConfigurationInput{SourceFileSystemId: r.SourceFileSystemId})
	if err != nil && cloud.CodeOf(awsError(op, "", err)) == cloud.Unavailable && apiCode(err) != "" && awssdk.ToString(r.SourceFileSystemRegion) != p.site.Region {
		p.log.Warn("the replication cannot be ended in both regions, and is ended here", "file system", id, "error", clean(err.Error()))
		_, err = p.efs().DeleteReplicationConfiguration(ctx, &efs.DeleteReplicationConfigurationInput{SourceFileSystemId: r.SourceFileSystemId, DeletionMode: types.DeletionModeLocalConfigurationOnly})
	}
	if apiCode(err) == "ReplicationNotFound" { // an attempt whose answer was lost
		return nil
	}
	return awsError(op, "file system "+id, err)
}

// DeleteFileSystem deletes a file system that has no mount targets and is in no replication, else InUse.
func (p *Provider) DeleteFileSystem(ctx context.Context, id string) error {
	const op = "DeleteFileSystem"
	if id == "" {
		return notFound(op, kindFileSystem, id)
	}
	_, err := p.efs().DeleteFileSystem(ctx, &efs.DeleteFileSystemInput{FileSystemId: &id})
	return awsError(op, "file system "+id, err)
}
