package awstest

import (
	"slices"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/ec2"
	"github.com/aws/aws-sdk-go-v2/service/ec2/types"
)

func (i *importTask) snapshotDetail(now time.Time) *types.SnapshotTaskDetail {
	d := i.disks[0]
	out := &types.SnapshotTaskDetail{Description: aws.String(i.description), Encrypted: aws.Bool(i.encrypted), Format: aws.String(d.format), Progress: i.progress(now),
		Status: aws.String(i.status(now)), UserBucket: &types.UserBucketDetails{S3Bucket: aws.String(d.bucket), S3Key: aws.String(d.object)}}
	if i.problem != "" {
		out.StatusMessage = aws.String(i.problem)
	}
	if i.key != "" {
		out.KmsKeyId = aws.String(i.key)
	}
	if d.snapshot != nil && i.status(now) == "completed" {
		out.SnapshotId, out.DiskImageSize = aws.String(d.snapshot.ID), aws.Float64(float64(d.bytes))
	}
	return out
}

func (i *importTask) describeImage(now time.Time) types.ImportImageTask {
	out := types.ImportImageTask{ImportTaskId: aws.String(i.ID), Architecture: aws.String(string(i.arch)), Description: aws.String(i.description), Encrypted: aws.Bool(i.encrypted),
		Progress: i.progress(now), Status: aws.String(i.status(now)), Tags: i.tags(), Platform: aws.String("Linux"), LicenseType: aws.String("BYOL")}
	if i.problem != "" {
		out.StatusMessage = aws.String(i.problem)
	}
	if i.key != "" {
		out.KmsKeyId = aws.String(i.key)
	}
	if i.image != nil && i.status(now) == "completed" {
		out.ImageId = aws.String(i.image.ID)
	}
	for _, d := range i.disks {
		one := types.SnapshotDetail{Description: aws.String(d.description), Format: aws.String(d.format), Status: aws.String(i.status(now)), DiskImageSize: aws.Float64(float64(d.bytes))}
		if d.bucket != "" {
			one.UserBucket = &types.UserBucketDetails{S3Bucket: aws.String(d.bucket), S3Key: aws.String(d.object)}
		}
		if d.snapshot != nil {
			one.SnapshotId = aws.String(d.snapshot.ID)
		}
		out.SnapshotDetails = append(out.SnapshotDetails, one)
	}
	return out
}

// listedImports are the tasks of one kind that a listing selects.
func (c *Call) listedImports(isImage bool, ids []string, filters []types.Filter) ([]*importTask, error) {
	for _, id := range ids {
		if i := importsOf(c.Region)[id]; i == nil || i.isImage != isImage {
			return nil, fault("InvalidConversionTaskId.Malformed", "The import task ID %s does not exist", id)
		}
	}
	var out []*importTask
	for _, i := range byID(importsOf(c.Region)) {
		if i.isImage != isImage || len(ids) > 0 && !slices.Contains(ids, i.ID) {
			continue
		}
		ok, err := i.matches(filters, func(name string) ([]string, bool) {
			return []string{i.status(c.Now)}, name == "task-state"
		})
		if err != nil {
			return nil, err
		}
		if ok {
			out = append(out, i)
		}
	}
	return out, nil
}

func init() {
	on(ec2Service, "DescribeImportSnapshotTasks", func(c *Call, in *ec2.DescribeImportSnapshotTasksInput) (*ec2.DescribeImportSnapshotTasksOutput, error) {
		listed, err := c.listedImports(false, in.ImportTaskIds, in.Filters)
		if err != nil {
			return nil, err
		}
		var all []types.ImportSnapshotTask
		for _, i := range listed {
			all = append(all, types.ImportSnapshotTask{ImportTaskId: aws.String(i.ID), Description: aws.String(i.description), SnapshotTaskDetail: i.snapshotDetail(c.Now), Tags: i.tags()})
		}
		tasks, next, err := page(c, all, in.MaxResults, in.NextToken)
		return &ec2.DescribeImportSnapshotTasksOutput{ImportSnapshotTasks: tasks, NextToken: next}, err
	})
	on(ec2Service, "DescribeImportImageTasks", func(c *Call, in *ec2.DescribeImportImageTasksInput) (*ec2.DescribeImportImageTasksOutput, error) {
		listed, err := c.listedImports(true, in.ImportTaskIds, in.Filters)
		if err != nil {
			return nil, err
		}
		var all []types.ImportImageTask
		for _, i := range listed {
			all = append(all, i.describeImage(c.Now))
		}
		tasks, next, err := page(c, all, in.MaxResults, in.NextToken)
		return &ec2.DescribeImportImageTasksOutput{ImportImageTasks: tasks, NextToken: next}, err
	})
}
