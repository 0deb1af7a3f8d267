package awstest

import (
	"fmt"
	"net/http"
	"strings"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/backup"
	"github.com/aws/aws-sdk-go-v2/service/backup/types"
	efstypes "github.com/aws/aws-sdk-go-v2/service/efs/types"
)

// backupService is AWS Backup: https://docs.aws.amazon.com/aws-backup/latest/devguide/api-reference.html
// It backs up file systems of EFS, and restores them to new ones.
var backupService = serve("backup", newRestJSONWire([]restOperation{
	{"CreateBackupVault", http.MethodPut, "/backup-vaults/{BackupVaultName}"},
	{"GetRecoveryPointRestoreMetadata", http.MethodGet, "/backup-vaults/{BackupVaultName}/recovery-points/{RecoveryPointArn}/restore-metadata"},
	{"StartBackupJob", http.MethodPut, "/backup-jobs"}, {"DescribeBackupJob", http.MethodGet, "/backup-jobs/{BackupJobId}"},
	{"StartCopyJob", http.MethodPut, "/copy-jobs"}, {"DescribeCopyJob", http.MethodGet, "/copy-jobs/{CopyJobId}"},
	{"StartRestoreJob", http.MethodPut, "/restore-jobs"}, {"DescribeRestoreJob", http.MethodGet, "/restore-jobs/{RestoreJobId}"},
}))

// backupState is what an account has of it in a region. Jobs are found by identifier, and by the token of the request.
type backupState struct {
	vaults map[string]bool
	points map[string]*backupPoint // by ARN
	jobs   map[string]*backupJob
	tokens map[string]string
}

// backupPoint is a recovery point of a file system.
type backupPoint struct {
	vault, source string
	like          efstypes.FileSystemDescription
	ready         time.Time
}

// backupJob is a job of any kind.
type backupJob struct {
	id, point, made, source string
	bytes                   int64
	created, ready          time.Time
}

func backupOf(r *Region) *backupState {
	s := part[backupState](r)
	if s.vaults == nil {
		s.vaults, s.points, s.jobs, s.tokens = map[string]bool{}, map[string]*backupPoint{}, map[string]*backupJob{}, map[string]string{}
	}
	return s
}

// backupOnce makes a job, or finds that of the token: a request again has no effect (IdempotencyToken of API_StartBackupJob.html).
func (c *Call) backupOnce(token *string, make func() (*backupJob, error)) (*backupJob, error) {
	s, key := backupOf(c.Region), c.Operation+" "+aws.ToString(token)
	if id, ok := s.tokens[key]; ok && aws.ToString(token) != "" {
		return s.jobs[id], nil
	}
	j, err := make()
	if err != nil {
		return nil, err
	}
	c.ids++
	j.id, j.created, j.ready = fmt.Sprintf("00000000-0000-4000-f000-%012x", c.ids), c.Now, c.Now.Add(c.Delay("backup"))
	s.jobs[j.id], s.tokens[key] = j, j.id
	return j, nil
}

func (c *Call) backupJob(id *string) (*backupJob, error) {
	j := backupOf(c.Region).jobs[aws.ToString(id)]
	if j == nil {
		return nil, fault("ResourceNotFoundException", "Cannot find job with ID %s", aws.ToString(id))
	}
	return j, nil
}

// percent and whether the job is over.
func (j *backupJob) progress(now time.Time) (string, bool) {
	if now.Before(j.ready) {
		return "50.0", false
	}
	return "100.0", true
}

func (c *Call) newPoint(vault, source string, like efstypes.FileSystemDescription) string {
	c.ids++
	arn := fmt.Sprintf("arn:aws:backup:%s:%s:recovery-point:00000000-0000-4000-f100-%012x", c.Name, c.Region.Account, c.ids)
	backupOf(c.Region).points[arn] = &backupPoint{vault: vault, source: source, like: like, ready: c.Now.Add(c.Delay("backup"))}
	return arn
}

// backupPoint finds a point that is complete.
func (c *Call) backupPoint(arn *string) (*backupPoint, error) {
	p := backupOf(c.Region).points[aws.ToString(arn)]
	switch {
	case p == nil:
		return nil, fault("ResourceNotFoundException", "Cannot find recovery point %s", aws.ToString(arn))
	case c.Now.Before(p.ready):
		return nil, fault("InvalidRequestException", "The recovery point is not completed")
	}
	return p, nil
}

func (c *Call) startBackup(in *backup.StartBackupJobInput) (*backup.StartBackupJobOutput, error) {
	j, err := c.backupOnce(in.IdempotencyToken, func() (*backupJob, error) {
		vault := aws.ToString(in.BackupVaultName)
		if !backupOf(c.Region).vaults[vault] {
			return nil, fault("ResourceNotFoundException", "Backup vault %s was not found", vault)
		}
		_, id, ok := strings.Cut(aws.ToString(in.ResourceArn), ":file-system/")
		if !ok {
			return nil, fault("InvalidParameterValueException", "This double backs up file systems of EFS only")
		}
		s, err := c.fileSystem(&id)
		if err != nil {
			return nil, fault("ResourceNotFoundException", "Resource %s was not found", *in.ResourceArn)
		}
		return &backupJob{point: c.newPoint(vault, *in.ResourceArn, s.FileSystemDescription), source: *in.ResourceArn, bytes: s.SizeInBytes.Value}, nil
	})
	if err != nil {
		return nil, err
	}
	return &backup.StartBackupJobOutput{BackupJobId: &j.id, RecoveryPointArn: &j.point, CreationDate: &j.created}, nil
}

// startCopy is asked for in the region of the source (API_StartCopyJob.html).
func (c *Call) startCopy(in *backup.StartCopyJobInput) (*backup.StartCopyJobOutput, error) {
	j, err := c.backupOnce(in.IdempotencyToken, func() (*backupJob, error) {
		p, err := c.backupPoint(in.RecoveryPointArn)
		if err != nil {
			return nil, err
		}
		f := strings.Split(aws.ToString(in.DestinationBackupVaultArn), ":")
		if len(f) != 7 || f[2] != "backup" || f[5] != "backup-vault" {
			return nil, fault("InvalidParameterValueException", "Invalid ARN of a backup vault: %s", aws.ToString(in.DestinationBackupVaultArn))
		}
		there := c.inside(f[4], f[3])
		if !backupOf(there.Region).vaults[f[6]] {
			return nil, fault("ResourceNotFoundException", "Backup vault %s was not found", f[6])
		}
		return &backupJob{point: there.newPoint(f[6], p.source, p.like), source: p.source, bytes: p.like.SizeInBytes.Value}, nil
	})
	if err != nil {
		return nil, err
	}
	return &backup.StartCopyJobOutput{CopyJobId: &j.id, CreationDate: &j.created}, nil
}

// startRestore makes a new file system, which is there when the job is over; the metadata are those of
// https://docs.aws.amazon.com/aws-backup/latest/devguide/restoring-efs.html
func (c *Call) startRestore(in *backup.StartRestoreJobInput) (*backup.StartRestoreJobOutput, error) {
	j, err := c.backupOnce(in.IdempotencyToken, func() (*backupJob, error) {
		p, err := c.backupPoint(in.RecoveryPointArn)
		if err != nil {
			return nil, err
		}
		if in.Metadata["newFileSystem"] != "true" || in.Metadata["CreationToken"] == "" || in.Metadata["file-system-id"] == "" {
			return nil, fault("InvalidParameterValueException", "This double restores to a new file system: newFileSystem, CreationToken and file-system-id are needed")
		}
		s := c.newFileSystem(efstypes.FileSystemDescription{CreationToken: aws.String(in.Metadata["CreationToken"]), Encrypted: aws.Bool(in.Metadata["Encrypted"] == "true"),
			SizeInBytes: p.like.SizeInBytes, PerformanceMode: efstypes.PerformanceMode(in.Metadata["PerformanceMode"])})
		return &backupJob{made: *s.FileSystemArn, source: p.source, bytes: p.like.SizeInBytes.Value}, nil
	})
	if err != nil {
		return nil, err
	}
	return &backup.StartRestoreJobOutput{RestoreJobId: &j.id}, nil
}

func init() {
	on(backupService, "CreateBackupVault", func(c *Call, in *backup.CreateBackupVaultInput) (*backup.CreateBackupVaultOutput, error) {
		name := aws.ToString(in.BackupVaultName)
		if backupOf(c.Region).vaults[name] {
			return nil, fault("AlreadyExistsException", "Backup vault with the same name already exists")
		}
		backupOf(c.Region).vaults[name] = true
		return &backup.CreateBackupVaultOutput{BackupVaultName: &name, BackupVaultArn: aws.String("arn:aws:backup:" + c.Name + ":" + c.Region.Account + ":backup-vault:" + name)}, nil
	})
	on(backupService, "GetRecoveryPointRestoreMetadata", func(c *Call, in *backup.GetRecoveryPointRestoreMetadataInput) (*backup.GetRecoveryPointRestoreMetadataOutput, error) {
		p := backupOf(c.Region).points[aws.ToString(in.RecoveryPointArn)]
		if p == nil || p.vault != aws.ToString(in.BackupVaultName) {
			return nil, fault("ResourceNotFoundException", "Cannot find recovery point %s", aws.ToString(in.RecoveryPointArn))
		}
		_, id, _ := strings.Cut(p.source, ":file-system/")
		return &backup.GetRecoveryPointRestoreMetadataOutput{RecoveryPointArn: in.RecoveryPointArn, ResourceType: aws.String("EFS"), RestoreMetadata: map[string]string{"file-system-id": id,
			"Encrypted": fmt.Sprint(aws.ToBool(p.like.Encrypted)), "PerformanceMode": string(p.like.PerformanceMode)}}, nil
	})
	on(backupService, "StartBackupJob", (*Call).startBackup)
	on(backupService, "StartCopyJob", (*Call).startCopy)
	on(backupService, "StartRestoreJob", (*Call).startRestore)
	on(backupService, "DescribeBackupJob", func(c *Call, in *backup.DescribeBackupJobInput) (*backup.DescribeBackupJobOutput, error) {
		j, err := c.backupJob(in.BackupJobId)
		if err != nil {
			return nil, err
		}
		percent, over := j.progress(c.Now)
		out := &backup.DescribeBackupJobOutput{BackupJobId: &j.id, PercentDone: &percent, RecoveryPointArn: &j.point, ResourceArn: &j.source, BackupSizeInBytes: &j.bytes, CreationDate: &j.created,
			State: types.BackupJobStateRunning}
		if over {
			out.State, out.CompletionDate = types.BackupJobStateCompleted, &j.ready
		}
		return out, nil
	})
	on(backupService, "DescribeCopyJob", func(c *Call, in *backup.DescribeCopyJobInput) (*backup.DescribeCopyJobOutput, error) {
		j, err := c.backupJob(in.CopyJobId)
		if err != nil {
			return nil, err
		}
		out := &types.CopyJob{CopyJobId: &j.id, DestinationRecoveryPointArn: &j.point, ResourceArn: &j.source, BackupSizeInBytes: &j.bytes, CreationDate: &j.created, State: types.CopyJobStateRunning}
		if _, over := j.progress(c.Now); over {
			out.State, out.CompletionDate = types.CopyJobStateCompleted, &j.ready
		}
		return &backup.DescribeCopyJobOutput{CopyJob: out}, nil
	})
	on(backupService, "DescribeRestoreJob", func(c *Call, in *backup.DescribeRestoreJobInput) (*backup.DescribeRestoreJobOutput, error) {
		j, err := c.backupJob(in.RestoreJobId)
		if err != nil {
			return nil, err
		}
		percent, over := j.progress(c.Now)
		out := &backup.DescribeRestoreJobOutput{RestoreJobId: &j.id, PercentDone: &percent, BackupSizeInBytes: &j.bytes, CreationDate: &j.created, Status: types.RestoreJobStatusRunning}
		if over {
			out.Status, out.CompletionDate, out.CreatedResourceArn = types.RestoreJobStatusCompleted, &j.ready, &j.made
		}
		return out, nil
	})
}
