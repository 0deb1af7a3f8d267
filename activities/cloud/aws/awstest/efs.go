package awstest

import (
	"cmp"
	"net/http"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/efs"
	"github.com/aws/aws-sdk-go-v2/service/efs/types"
)

// efsService is Amazon EFS: https://docs.aws.amazon.com/efs/latest/ug/api-reference.html
// File systems have states and replications, no files.
var efsService = serve("elasticfilesystem", newRestJSONWire([]restOperation{
	{"CreateFileSystem", http.MethodPost, "/2015-02-01/file-systems"},
	{"DescribeFileSystems", http.MethodGet, "/2015-02-01/file-systems"},
	{"DeleteFileSystem", http.MethodDelete, "/2015-02-01/file-systems/{FileSystemId}"},
	{"DescribeReplicationConfigurations", http.MethodGet, "/2015-02-01/file-systems/replication-configurations"},
	{"CreateReplicationConfiguration", http.MethodPost, "/2015-02-01/file-systems/{SourceFileSystemId}/replication-configuration"},
	{"DeleteReplicationConfiguration", http.MethodDelete, "/2015-02-01/file-systems/{SourceFileSystemId}/replication-configuration"},
	{"TagResource", http.MethodPost, "/2015-02-01/resource-tags/{ResourceId}"},
}))

// efsState is what an account has of it in a region, by identifier; replications by that of the source. Both regions of a
// replication know it.
type efsState struct {
	systems      map[string]*fileSystem
	replications map[string]*replication
}

type fileSystem struct {
	types.FileSystemDescription
	ready time.Time
}

type replication struct {
	types.ReplicationConfigurationDescription
	ready time.Time
}

func efsOf(r *Region) *efsState {
	s := part[efsState](r)
	if s.systems == nil {
		s.systems, s.replications = map[string]*fileSystem{}, map[string]*replication{}
	}
	return s
}

func (c *Call) fileSystem(id *string) (*fileSystem, error) {
	s := efsOf(c.Region).systems[aws.ToString(id)]
	if s == nil {
		return nil, &Error{Code: "FileSystemNotFound", Message: "File system '" + aws.ToString(id) + "' does not exist.", Status: 404}
	}
	return s, nil
}

// newFileSystem makes one that is creating for a while.
func (c *Call) newFileSystem(like types.FileSystemDescription) *fileSystem {
	s := &fileSystem{FileSystemDescription: like, ready: c.Now.Add(c.Delay("filesystem"))}
	s.FileSystemId = aws.String(c.newID("fs"))
	s.FileSystemArn = aws.String("arn:aws:elasticfilesystem:" + c.Name + ":" + c.Region.Account + ":file-system/" + *s.FileSystemId)
	s.OwnerId, s.CreationTime = &c.Region.Account, aws.Time(c.Now)
	if s.SizeInBytes == nil {
		s.SizeInBytes = &types.FileSystemSize{Value: 6144} // an empty one is metered so: metered-sizes.html
	}
	efsOf(c.Region).systems[*s.FileSystemId] = s
	return s
}

func (c *Call) showFileSystem(s *fileSystem) types.FileSystemDescription {
	out := s.FileSystemDescription
	out.LifeCycleState = types.LifeCycleStateAvailable
	if c.Now.Before(s.ready) {
		out.LifeCycleState = types.LifeCycleStateCreating
	}
	for _, t := range s.Tags {
		if *t.Key == "Name" {
			out.Name = t.Value
		}
	}
	return out
}

// replicaOf is the replication whose destination a file system is.
func (c *Call) replicaOf(id string) *replication {
	for _, r := range efsOf(c.Region).replications {
		if d := r.Destinations[0]; aws.ToString(d.FileSystemId) == id && aws.ToString(d.Region) == c.Name {
			return r
		}
	}
	return nil
}

// createReplication makes the destination, empty and read-only, and begins (API_CreateReplicationConfiguration.html): one
// replication a source, and none of a destination.
func (c *Call) createReplication(in *efs.CreateReplicationConfigurationInput) (*efs.CreateReplicationConfigurationOutput, error) {
	src, err := c.fileSystem(in.SourceFileSystemId)
	if err != nil {
		return nil, err
	}
	if len(in.Destinations) != 1 || in.Destinations[0].Region == nil || in.Destinations[0].FileSystemId != nil {
		return nil, fault("ValidationException", "This double replicates to one new file system, in a region that is given")
	}
	id := *src.FileSystemId
	switch {
	case c.Now.Before(src.ready):
		return nil, &Error{Code: "IncorrectFileSystemLifeCycleState", Message: "The file system is not available", Status: 409}
	case efsOf(c.Region).replications[id] != nil || c.replicaOf(id) != nil:
		return nil, &Error{Code: "ConflictException", Message: "File system " + id + " is in a replication configuration already", Status: 409}
	}
	to := in.Destinations[0]
	there := c.inside(c.Region.Account, *to.Region)
	made := there.newFileSystem(types.FileSystemDescription{Encrypted: aws.Bool(true), KmsKeyId: to.KmsKeyId, SizeInBytes: src.SizeInBytes, PerformanceMode: src.PerformanceMode, ThroughputMode: src.ThroughputMode,
		CreationToken: aws.String("replica-" + id)})
	r := &replication{ready: made.ready, ReplicationConfigurationDescription: types.ReplicationConfigurationDescription{CreationTime: aws.Time(c.Now), SourceFileSystemArn: src.FileSystemArn,
		SourceFileSystemId: src.FileSystemId, OriginalSourceFileSystemArn: src.FileSystemArn, SourceFileSystemRegion: &c.Name,
		Destinations: []types.Destination{{FileSystemId: made.FileSystemId, Region: to.Region, Status: types.ReplicationStatusEnabled}}}}
	efsOf(c.Region).replications[id], efsOf(there.Region).replications[id] = r, r
	d := c.showReplication(r)
	return &efs.CreateReplicationConfigurationOutput{CreationTime: d.CreationTime, Destinations: d.Destinations, OriginalSourceFileSystemArn: d.OriginalSourceFileSystemArn,
		SourceFileSystemArn: d.SourceFileSystemArn, SourceFileSystemId: d.SourceFileSystemId, SourceFileSystemRegion: d.SourceFileSystemRegion}, nil
}

// showReplication: most replications are at most a minute or so behind (efs-replication.html); this one is not at all.
func (c *Call) showReplication(r *replication) types.ReplicationConfigurationDescription {
	out := r.ReplicationConfigurationDescription
	d := out.Destinations[0]
	d.LastReplicatedTimestamp = aws.Time(c.Now)
	if c.Now.Before(r.ready) {
		d.Status, d.LastReplicatedTimestamp = types.ReplicationStatusEnabling, nil
	}
	out.Destinations = []types.Destination{d}
	return out
}

// deleteReplication ends a replication, in both regions or in the one that is asked: what was replicated stays, and can be
// written to (API_DeleteReplicationConfiguration.html).
func (c *Call) deleteReplication(in *efs.DeleteReplicationConfigurationInput) (*efs.DeleteReplicationConfigurationOutput, error) {
	id := aws.ToString(in.SourceFileSystemId)
	r := efsOf(c.Region).replications[id]
	if r == nil {
		return nil, &Error{Code: "ReplicationNotFound", Message: "Replication of " + id + " does not exist", Status: 404}
	}
	local := in.DeletionMode == types.DeletionModeLocalConfigurationOnly
	for _, region := range []string{*r.SourceFileSystemRegion, *r.Destinations[0].Region} {
		if !local || region == c.Name {
			delete(efsOf(c.at(region)).replications, id)
		}
	}
	return &efs.DeleteReplicationConfigurationOutput{}, nil
}

func init() {
	// A creation token that was used is FileSystemAlreadyExists (API_CreateFileSystem.html).
	on(efsService, "CreateFileSystem", func(c *Call, in *efs.CreateFileSystemInput) (*efs.CreateFileSystemOutput, error) {
		for _, s := range efsOf(c.Region).systems {
			if aws.ToString(s.CreationToken) == aws.ToString(in.CreationToken) {
				return nil, &Error{Code: "FileSystemAlreadyExists", Message: "File system '" + *s.FileSystemId + "' already exists with creation token '" + *in.CreationToken + "'", Status: 409}
			}
		}
		s := c.newFileSystem(types.FileSystemDescription{CreationToken: in.CreationToken, Encrypted: in.Encrypted, KmsKeyId: in.KmsKeyId, Tags: in.Tags,
			PerformanceMode: cmp.Or(in.PerformanceMode, types.PerformanceModeGeneralPurpose), ThroughputMode: cmp.Or(in.ThroughputMode, types.ThroughputModeBursting)})
		d := c.showFileSystem(s)
		return &efs.CreateFileSystemOutput{FileSystemId: d.FileSystemId, FileSystemArn: d.FileSystemArn, LifeCycleState: d.LifeCycleState, CreationTime: d.CreationTime,
			CreationToken: d.CreationToken, OwnerId: d.OwnerId, SizeInBytes: d.SizeInBytes, Tags: d.Tags, PerformanceMode: d.PerformanceMode}, nil
	})
	on(efsService, "DescribeFileSystems", func(c *Call, in *efs.DescribeFileSystemsInput) (*efs.DescribeFileSystemsOutput, error) {
		out := &efs.DescribeFileSystemsOutput{FileSystems: []types.FileSystemDescription{}}
		if in.FileSystemId != nil {
			s, err := c.fileSystem(in.FileSystemId)
			if err == nil {
				out.FileSystems = append(out.FileSystems, c.showFileSystem(s))
			}
			return out, err
		}
		var all []types.FileSystemDescription
		for _, s := range byID(efsOf(c.Region).systems) {
			if in.CreationToken == nil || aws.ToString(s.CreationToken) == *in.CreationToken {
				all = append(all, c.showFileSystem(s))
			}
		}
		list, next, err := page(c, all, in.MaxItems, in.Marker)
		out.FileSystems, out.NextMarker = append(out.FileSystems, list...), next
		return out, err
	})
	// Neither end of a replication can be deleted (API_DeleteFileSystem.html).
	on(efsService, "DeleteFileSystem", func(c *Call, in *efs.DeleteFileSystemInput) (*efs.DeleteFileSystemOutput, error) {
		s, err := c.fileSystem(in.FileSystemId)
		if err != nil {
			return nil, err
		}
		if efsOf(c.Region).replications[*s.FileSystemId] != nil || c.replicaOf(*s.FileSystemId) != nil {
			return nil, &Error{Code: "FileSystemInUse", Message: "The file system is in a replication configuration", Status: 409}
		}
		delete(efsOf(c.Region).systems, *s.FileSystemId)
		return &efs.DeleteFileSystemOutput{}, nil
	})
	on(efsService, "CreateReplicationConfiguration", (*Call).createReplication)
	on(efsService, "DeleteReplicationConfiguration", (*Call).deleteReplication)
	on(efsService, "DescribeReplicationConfigurations", func(c *Call, in *efs.DescribeReplicationConfigurationsInput) (*efs.DescribeReplicationConfigurationsOutput, error) {
		id := aws.ToString(in.FileSystemId)
		var all []types.ReplicationConfigurationDescription
		for _, r := range byID(efsOf(c.Region).replications) {
			if id == "" || *r.SourceFileSystemId == id || *r.Destinations[0].FileSystemId == id {
				all = append(all, c.showReplication(r))
			}
		}
		if id != "" && len(all) == 0 {
			return nil, &Error{Code: "ReplicationNotFound", Message: "Replication of " + id + " does not exist", Status: 404}
		}
		list, next, err := page(c, all, in.MaxResults, in.NextToken)
		return &efs.DescribeReplicationConfigurationsOutput{Replications: append([]types.ReplicationConfigurationDescription{}, list...), NextToken: next}, err
	})
	on(efsService, "TagResource", func(c *Call, in *efs.TagResourceInput) (*efs.TagResourceOutput, error) {
		s, err := c.fileSystem(in.ResourceId)
		if err != nil {
			return nil, err
		}
		tags := map[string]string{}
		for _, t := range append(append([]types.Tag{}, s.Tags...), in.Tags...) {
			tags[aws.ToString(t.Key)] = aws.ToString(t.Value)
		}
		s.Tags = nil
		for _, k := range sortedKeys(tags) {
			s.Tags = append(s.Tags, types.Tag{Key: &k, Value: aws.String(tags[k])})
		}
		return &efs.TagResourceOutput{}, nil
	})
}
