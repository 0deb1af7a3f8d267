package aws

import (
	"strings"
	"testing"

	awssdk "github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/backup"
	"github.com/stretchr/testify/require"

	"lifeboat/activities/cloud"
	"lifeboat/activities/cloud/aws/awstest"
)

func (d *double) jobIs(p *Provider, id string, state cloud.State) cloud.BackupJob {
	d.t.Helper()
	return await(d.t, state, func() (cloud.BackupJob, error) { return p.BackupJob(d.t.Context(), id) }, func(j cloud.BackupJob) cloud.Resource { return j.Resource })
}

func TestAFileSystemIsBackedUpCopiedToAnotherRegionAndRestoredThere(t *testing.T) {
	t.Parallel()
	d := apiDouble(t, awstest.Options{})
	home, away := d.home(), d.away()
	source := d.fileSystem(home, "files")
	for _, p := range []*Provider{home, away} {
		_, err := p.backup().CreateBackupVault(t.Context(), &backup.CreateBackupVaultInput{BackupVaultName: awssdk.String("dr")})
		require.NoError(t, err)
	}
	const role = "arn:aws:iam::111111111111:role/backup"
	in := cloud.StartBackup{Create: cloud.Create{Token: "backup"}, Target: "arn:aws:elasticfilesystem:us-east-1:111111111111:file-system/" + source.ID, Vault: "dr", Role: role}
	j, err := home.StartBackup(t.Context(), in)
	require.NoError(t, err)
	again, err := home.StartBackup(t.Context(), in)
	require.NoError(t, err)
	require.Equal(t, j.ID, again.ID)
	j = d.jobIs(home, j.ID, cloud.Available)
	require.Equal(t, 100, j.Percent)
	require.Positive(t, j.Bytes)

	c, err := away.StartCopyBackup(t.Context(), cloud.CopyBackup{Create: cloud.Create{Token: "copy"}, From: home.Site(), FromVault: "dr", Point: j.Point, Vault: "dr", Role: role})
	require.NoError(t, err)
	c = d.jobIs(away, c.ID, cloud.Available)
	require.Contains(t, c.Point, ":us-west-2:")

	d.cloud.Inject(awstest.Rule{Region: testRegions["home"], Drop: true}) // it is down
	restore := cloud.RestoreBackup{Create: cloud.Create{Token: "restore"}, Vault: "dr", Point: c.Point, Role: role}
	r, err := away.StartRestoreBackup(t.Context(), restore)
	require.NoError(t, err)
	_, err = away.StartRestoreBackup(t.Context(), restore)
	require.NoError(t, err)
	r = d.jobIs(away, r.ID, cloud.Available)
	_, made, _ := strings.Cut(r.Made, ":file-system/")
	d.fileSystemIs(away, made, cloud.Available)
	list, err := away.FileSystems(t.Context(), cloud.Filter{})
	require.NoError(t, err)
	require.Len(t, list, 1)
}

func TestJobsThatAreNotThereAreNotFoundAndFailedOnesSayWhy(t *testing.T) {
	t.Parallel()
	d := apiDouble(t, awstest.Options{})
	p := d.home()
	for _, id := range []string{"", "backup", "backup/us-east-1/none", "copy/us-west-2/none", "restore/us-east-1/none", "dance/us-east-1/none"} {
		_, err := p.BackupJob(t.Context(), id)
		require.True(t, cloud.IsNotFound(err), "%s: %v", id, err)
	}
	_, err := p.StartBackup(t.Context(), cloud.StartBackup{Create: cloud.Create{Token: "t"}, Target: "arn:x", Vault: "none", Role: "r"})
	require.True(t, cloud.IsNotFound(err), "%v", err)
	require.Equal(t, cloud.Failing, backupJobOf("x", "FAILED", nil, nil, nil, nil).State)
	require.Equal(t, "AWS Backup says EXPIRED", backupJobOf("x", "EXPIRED", nil, nil, nil, nil).Message)
	require.Equal(t, 42, backupJobOf("x", "RUNNING", nil, awssdk.String("42.5"), nil, nil).Percent)
}
