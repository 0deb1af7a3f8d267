package aws

import (
	"context"
	"maps"
	"strconv"
	"strings"
	"time"

	awssdk "github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/backup"
	"github.com/aws/aws-sdk-go-v2/service/backup/types"

	"lifeboat/activities/cloud"
)

// Backups are jobs of AWS Backup. An identifier is the kind of the job, the region that runs it, and its number there:
// copies run in the region that they come from.

const kindBackup = cloud.Kind("backup job")

const (
	jobBackup  = "backup"
	jobCopy    = "copy"
	jobRestore = "restore"
)

func (p *Provider) backup() *backup.Client {
	return p.clients.backup.get(func() *backup.Client { return backup.NewFromConfig(p.config) })
}

// backupToken is the client token of a request: other parameters make another token, since AWS Backup does not compare them.
func backupToken(op string, in cloud.Create, request any) (string, error) {
	if err := cloud.CheckToken(op, kindBackup, in.Token); err != nil {
		return "", err
	}
	return "lifeboat-" + digest([]any{in.Token, request}), nil
}

func jobID(kind, region string, id *string) string {
	return kind + "/" + region + "/" + awssdk.ToString(id)
}

// StartBackup backs up a resource, given by its ARN, to a vault of this region.
func (p *Provider) StartBackup(ctx context.Context, in cloud.StartBackup) (cloud.BackupJob, error) {
	const op = "StartBackup"
	token, err := backupToken(op, in.Create, in)
	if err != nil {
		return cloud.BackupJob{}, err
	}
	out, err := p.backup().StartBackupJob(ctx, &backup.StartBackupJobInput{ResourceArn: &in.Target, BackupVaultName: &in.Vault, IamRoleArn: &in.Role, IdempotencyToken: &token,
		RecoveryPointTags: allTags(in.Create, nil)})
	if err != nil {
		return cloud.BackupJob{}, awsError(op, "resource "+in.Target, err)
	}
	return p.BackupJob(ctx, jobID(jobBackup, p.site.Region, out.BackupJobId))
}

// StartCopyBackup copies a recovery point of another region to a vault of this one. The copy keeps the tags of the point.
func (p *Provider) StartCopyBackup(ctx context.Context, in cloud.CopyBackup) (cloud.BackupJob, error) {
	const op = "StartCopyBackup"
	token, err := backupToken(op, in.Create, in)
	if err != nil {
		return cloud.BackupJob{}, err
	}
	source, err := p.peer(ctx, in.From)
	if err != nil {
		return cloud.BackupJob{}, err
	}
	account, err := p.account(ctx)
	if err != nil {
		return cloud.BackupJob{}, err
	}
	vault := "arn:" + partitionOf(p.site.Region) + ":backup:" + p.site.Region + ":" + account + ":backup-vault:" + in.Vault
	out, err := source.backup().StartCopyJob(ctx, &backup.StartCopyJobInput{RecoveryPointArn: &in.Point, SourceBackupVaultName: &in.FromVault, DestinationBackupVaultArn: &vault,
		IamRoleArn: &in.Role, IdempotencyToken: &token})
	if err != nil {
		return cloud.BackupJob{}, awsError(op, "recovery point "+in.Point, err)
	}
	return p.copyJob(ctx, op, source, awssdk.ToString(out.CopyJobId))
}

// StartRestoreBackup restores a point with the metadata that AWS Backup kept, and the settings over them. What
// a resource needs is in https://docs.aws.amazon.com/aws-backup/latest/devguide/restoring-a-backup.html; a file system is
// restored to a new one unless the settings say otherwise.
func (p *Provider) StartRestoreBackup(ctx context.Context, in cloud.RestoreBackup) (cloud.BackupJob, error) {
	const op = "StartRestoreBackup"
	token, err := backupToken(op, in.Create, in)
	if err != nil {
		return cloud.BackupJob{}, err
	}
	kept, err := p.backup().GetRecoveryPointRestoreMetadata(ctx, &backup.GetRecoveryPointRestoreMetadataInput{BackupVaultName: &in.Vault, RecoveryPointArn: &in.Point})
	if err != nil {
		return cloud.BackupJob{}, awsError(op, "recovery point "+in.Point, err)
	}
	metadata := map[string]string{}
	maps.Copy(metadata, kept.RestoreMetadata)
	if awssdk.ToString(kept.ResourceType) == "EFS" {
		metadata["newFileSystem"], metadata["CreationToken"] = "true", token
	}
	maps.Copy(metadata, in.Settings)
	out, err := p.backup().StartRestoreJob(ctx, &backup.StartRestoreJobInput{RecoveryPointArn: &in.Point, IamRoleArn: &in.Role, Metadata: metadata, ResourceType: kept.ResourceType,
		CopySourceTagsToRestoredResource: true, IdempotencyToken: &token})
	if err != nil {
		return cloud.BackupJob{}, awsError(op, "recovery point "+in.Point, err)
	}
	return p.BackupJob(ctx, jobID(jobRestore, p.site.Region, out.RestoreJobId))
}

// BackupJob finds a job of one of the three kinds.
func (p *Provider) BackupJob(ctx context.Context, id string) (cloud.BackupJob, error) {
	const op = "BackupJob"
	part := strings.Split(id, "/")
	if len(part) != 3 || part[2] == "" {
		return cloud.BackupJob{}, notFound(op, kindBackup, id)
	}
	switch {
	case part[0] == jobBackup:
		out, err := p.backup().DescribeBackupJob(ctx, &backup.DescribeBackupJobInput{BackupJobId: &part[2]})
		if err != nil {
			return cloud.BackupJob{}, awsError(op, "backup job "+id, err)
		}
		j := backupJobOf(id, string(out.State), out.StatusMessage, out.PercentDone, out.BackupSizeInBytes, out.CreationDate)
		j.Point = awssdk.ToString(out.RecoveryPointArn)
		return j, nil
	case part[0] == jobRestore:
		out, err := p.backup().DescribeRestoreJob(ctx, &backup.DescribeRestoreJobInput{RestoreJobId: &part[2]})
		if err != nil {
			return cloud.BackupJob{}, awsError(op, "backup job "+id, err)
		}
		j := backupJobOf(id, string(out.Status), out.StatusMessage, out.PercentDone, out.BackupSizeInBytes, out.CreationDate)
		j.Made = awssdk.ToString(out.CreatedResourceArn)
		return j, nil
	case part[0] == jobCopy:
		from := p.site
		from.Name, from.Region, from.Zone, from.Bucket, from.VPC = part[1], part[1], "", "", ""
		source, err := p.peer(ctx, from)
		if err != nil {
			return cloud.BackupJob{}, err
		}
		return p.copyJob(ctx, op, source, part[2])
	}
	return cloud.BackupJob{}, notFound(op, kindBackup, id)
}

// copyJob asks the region that runs a copy. AWS tells no progress of copies but their end.
func (p *Provider) copyJob(ctx context.Context, op string, source *Provider, job string) (cloud.BackupJob, error) {
	id := jobID(jobCopy, source.site.Region, &job)
	out, err := source.backup().DescribeCopyJob(ctx, &backup.DescribeCopyJobInput{CopyJobId: &job})
	if err != nil {
		return cloud.BackupJob{}, awsError(op, "backup job "+id, err)
	}
	c := out.CopyJob
	if c == nil {
		c = &types.CopyJob{}
	}
	j := backupJobOf(id, string(c.State), c.StatusMessage, nil, c.BackupSizeInBytes, c.CreationDate)
	j.Point = awssdk.ToString(c.DestinationRecoveryPointArn)
	return j, nil
}

// backupJobOf maps the states of
// https://docs.aws.amazon.com/aws-backup/latest/devguide/API_DescribeBackupJob.html, which copies and restores share.
func backupJobOf(id, state string, message, percent *string, bytes *int64, created *time.Time) cloud.BackupJob {
	j := cloud.BackupJob{Resource: resourceOf(id, cloud.Creating, awssdk.ToString(message), nil, created), Bytes: awssdk.ToInt64(bytes)}
	if n, err := strconv.ParseFloat(strings.TrimSuffix(awssdk.ToString(percent), "%"), 64); err == nil {
		j.Percent = int(n)
	}
	switch state {
	case "COMPLETED":
		j.State, j.Percent = cloud.Available, 100
	case "FAILED", "ABORTED", "EXPIRED", "PARTIAL", "ABORTING":
		j.State = cloud.Failing
		if j.Message == "" {
			j.Message = "AWS Backup says " + state
		}
	}
	return j
}
