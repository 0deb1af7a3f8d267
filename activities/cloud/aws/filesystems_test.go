package aws

import (
	"testing"

	awssdk "github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/efs"
	"github.com/stretchr/testify/require"

	"lifeboat/activities/cloud"
	"lifeboat/activities/cloud/aws/awstest"
)

// fileSystem makes one, and waits until it is there.
func (d *double) fileSystem(p *Provider, token string) cloud.FileSystem {
	d.t.Helper()
	out, err := p.efs().CreateFileSystem(d.t.Context(), &efs.CreateFileSystemInput{CreationToken: &token, Encrypted: awssdk.Bool(true)})
	require.NoError(d.t, err)
	return d.fileSystemIs(p, *out.FileSystemId, cloud.Available)
}

func (d *double) fileSystemIs(p *Provider, id string, state cloud.State) cloud.FileSystem {
	d.t.Helper()
	return await(d.t, state, func() (cloud.FileSystem, error) { return p.FileSystem(d.t.Context(), id) }, func(s cloud.FileSystem) cloud.Resource { return s.Resource })
}

func TestAFileSystemIsReplicatedOnceAndPromotedWithoutItsSource(t *testing.T) {
	t.Parallel()
	d := apiDouble(t, awstest.Options{PageSize: 1})
	home, away := d.home(), d.away()
	source := d.fileSystem(home, "files")
	require.Empty(t, source.Source)
	in := cloud.Create{Token: "replica", Name: "files", Tags: map[string]string{cloud.TagPlan: "shop"}}
	d.cloud.Inject(awstest.Rule{Operation: "TagResource", Times: 3, Error: &awstest.Error{Code: "InternalServerError", Message: "lost", Status: 500}})
	_, err := away.StartReplicaFileSystem(t.Context(), in, home.Site(), source.ID)
	require.Equal(t, cloud.Unavailable, cloud.CodeOf(err), "made, but without tags: %v", err)
	made, err := away.StartReplicaFileSystem(t.Context(), in, home.Site(), source.ID)
	require.NoError(t, err)
	again, err := away.StartReplicaFileSystem(t.Context(), in, home.Site(), source.ID)
	require.NoError(t, err)
	require.Equal(t, made.ID, again.ID)
	require.Equal(t, 1, d.asked("CreateReplicationConfiguration"))
	made = d.fileSystemIs(away, made.ID, cloud.Available)
	require.Contains(t, made.Source, source.ID)
	require.GreaterOrEqual(t, made.Lag.Nanoseconds(), int64(0))
	require.Equal(t, "files", made.Name)
	require.Equal(t, made.ID+".efs.us-west-2.amazonaws.com", made.Endpoint)
	list, err := away.FileSystems(t.Context(), cloud.Filter{Tags: map[string]string{cloud.TagPlan: "shop"}})
	require.NoError(t, err)
	require.Len(t, list, 1)
	require.NotEmpty(t, list[0].Source)

	in.Name = "other"
	_, err = away.StartReplicaFileSystem(t.Context(), in, home.Site(), source.ID)
	require.Equal(t, cloud.TokenMismatch, cloud.CodeOf(err))
	in.Token = "other"
	_, err = away.StartReplicaFileSystem(t.Context(), in, home.Site(), source.ID)
	require.Equal(t, cloud.InvalidInput, cloud.CodeOf(err), "it is replicated already")
	require.Equal(t, cloud.InUse, cloud.CodeOf(away.DeleteFileSystem(t.Context(), made.ID)))

	d.cloud.Inject(awstest.Rule{Region: testRegions["home"], Drop: true}) // it is down, and EFS cannot reach it
	d.cloud.Inject(awstest.Rule{Operation: "DeleteReplicationConfiguration", Times: 3, Error: &awstest.Error{Code: "InternalServerError", Message: "cannot reach us-east-1", Status: 500}})
	require.NoError(t, away.StartPromoteFileSystem(t.Context(), made.ID))
	require.Empty(t, d.fileSystemIs(away, made.ID, cloud.Available).Source)
	require.NoError(t, away.StartPromoteFileSystem(t.Context(), made.ID), "it is none any more")
	require.NoError(t, away.DeleteFileSystem(t.Context(), made.ID))
	_, err = away.FileSystem(t.Context(), made.ID)
	require.True(t, cloud.IsNotFound(err))
}

// The capabilities that this provider has, so that callers find them.
var (
	_ cloud.LoadBalancers     = (*Provider)(nil)
	_ cloud.ScalingGroups     = (*Provider)(nil)
	_ cloud.Databases         = (*Provider)(nil)
	_ cloud.DatabaseSnapshots = (*Provider)(nil)
	_ cloud.FileSystems       = (*Provider)(nil)
	_ cloud.Stacks            = (*Provider)(nil)
	_ cloud.Backups           = (*Provider)(nil)
)
