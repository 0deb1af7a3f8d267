package awstest

import (
	"slices"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/ec2"
	"github.com/aws/aws-sdk-go-v2/service/ec2/types"
)

// fastRestore is fast snapshot restore of a snapshot in a zone: enabling, optimizing, enabled
// (https://docs.aws.amazon.com/ebs/latest/userguide/ebs-fast-snapshot-restore.html).
type fastRestore struct {
	snapshot, zone, owner        string
	since, optimizing, enabledAt time.Time
}

type fastRestoreState struct{ all map[string]*fastRestore }

func fastRestoresOf(r *Region) map[string]*fastRestore {
	s := part[fastRestoreState](r)
	if s.all == nil {
		s.all = map[string]*fastRestore{}
	}
	return s.all
}

func (f *fastRestore) state(now time.Time) types.FastSnapshotRestoreStateCode {
	switch {
	case now.Before(f.optimizing):
		return types.FastSnapshotRestoreStateCodeEnabling
	case now.Before(f.enabledAt):
		return types.FastSnapshotRestoreStateCodeOptimizing
	}
	return types.FastSnapshotRestoreStateCodeEnabled
}

// enableFastRestore begins it for a snapshot in a zone. Five snapshots of a region may have it:
// Options.Quotas "fast-snapshot-restores" (https://docs.aws.amazon.com/ebs/latest/userguide/ebs-resource-quotas.html).
func (c *Call) enableFastRestore(snapshot, zone string) (*fastRestore, error) {
	if _, err := c.usableSnapshot(snapshot); err != nil {
		return nil, err
	}
	if !slices.Contains(zonesOf(c.Name), zone) {
		return nil, fault("InvalidParameterValue", "Invalid availability zone: [%s]", zone)
	}
	all := fastRestoresOf(c.Region)
	if f := all[snapshot+" "+zone]; f != nil {
		return f, nil
	}
	have := map[string]bool{snapshot: true}
	for _, f := range all {
		have[f.snapshot] = true
	}
	if limit := c.storageQuota("fast-snapshot-restores", 5); len(have) > limit {
		return nil, fault("FastSnapshotRestoreLimitExceeded", "You have reached the limit of %d snapshots with fast snapshot restore.", limit)
	}
	delay := c.Delay("fast-restore")
	f := &fastRestore{snapshot: snapshot, zone: zone, owner: c.Region.Account, since: c.Now, optimizing: c.Now.Add(delay), enabledAt: c.Now.Add(2 * delay)}
	all[snapshot+" "+zone] = f
	return f, nil
}

func (c *Call) enableFastRestores(in *ec2.EnableFastSnapshotRestoresInput) (*ec2.EnableFastSnapshotRestoresOutput, error) {
	zones := slices.Clone(in.AvailabilityZones)
	for _, id := range in.AvailabilityZoneIds {
		zone, err := c.zone(nil, &id)
		if err != nil {
			return nil, err
		}
		zones = append(zones, zone)
	}
	if len(zones) == 0 {
		return nil, fault("MissingParameter", "The request must contain the parameter AvailabilityZone")
	}
	if err := dryRun(in.DryRun); err != nil {
		return nil, err
	}
	out := &ec2.EnableFastSnapshotRestoresOutput{}
	for _, id := range in.SourceSnapshotIds {
		failed := types.EnableFastSnapshotRestoreErrorItem{SnapshotId: aws.String(id)}
		for _, zone := range zones {
			f, err := c.enableFastRestore(id, zone)
			if err != nil {
				e := asFault(err)
				failed.FastSnapshotRestoreStateErrors = append(failed.FastSnapshotRestoreStateErrors, types.EnableFastSnapshotRestoreStateErrorItem{
					AvailabilityZone: aws.String(zone), Error: &types.EnableFastSnapshotRestoreStateError{Code: aws.String(e.Code), Message: aws.String(e.Message)}})
				continue
			}
			out.Successful = append(out.Successful, types.EnableFastSnapshotRestoreSuccessItem{SnapshotId: aws.String(id), AvailabilityZone: aws.String(zone),
				OwnerId: aws.String(f.owner), State: f.state(c.Now), EnablingTime: aws.Time(f.since), StateTransitionReason: aws.String("Client.UserInitiated")})
		}
		if len(failed.FastSnapshotRestoreStateErrors) > 0 {
			out.Unsuccessful = append(out.Unsuccessful, failed)
		}
	}
	return out, nil
}

func (c *Call) describeFastRestores(in *ec2.DescribeFastSnapshotRestoresInput) (*ec2.DescribeFastSnapshotRestoresOutput, error) {
	var all []types.DescribeFastSnapshotRestoreSuccessItem
	for _, f := range byID(fastRestoresOf(c.Region)) {
		if c.findSnapshot(c.Name, f.snapshot) == nil {
			continue // it was disabled with its snapshot
		}
		ok, err := (&resource{}).matches(in.Filters, func(name string) ([]string, bool) {
			v, ok := map[string]string{"availability-zone": f.zone, "availability-zone-id": zoneID(f.zone), "owner-id": f.owner, "snapshot-id": f.snapshot, "state": string(f.state(c.Now))}[name]
			return []string{v}, ok
		})
		if err != nil {
			return nil, err
		}
		if !ok {
			continue
		}
		d := types.DescribeFastSnapshotRestoreSuccessItem{SnapshotId: aws.String(f.snapshot), AvailabilityZone: aws.String(f.zone), AvailabilityZoneId: aws.String(zoneID(f.zone)),
			OwnerId: aws.String(f.owner), State: f.state(c.Now), EnablingTime: aws.Time(f.since), StateTransitionReason: aws.String("Client.UserInitiated - Lifecycle state transition")}
		if d.State != types.FastSnapshotRestoreStateCodeEnabling {
			d.OptimizingTime = aws.Time(f.optimizing)
		}
		if d.State == types.FastSnapshotRestoreStateCodeEnabled {
			d.EnabledTime = aws.Time(f.enabledAt)
		}
		all = append(all, d)
	}
	list, next, err := page(c, all, in.MaxResults, in.NextToken)
	return &ec2.DescribeFastSnapshotRestoresOutput{FastSnapshotRestores: list, NextToken: next}, err
}

// describeTiers says that all snapshots are in the standard tier: the double archives none
// (https://docs.aws.amazon.com/AWSEC2/latest/APIReference/API_DescribeSnapshotTierStatus.html).
func (c *Call) describeTiers(in *ec2.DescribeSnapshotTierStatusInput) (*ec2.DescribeSnapshotTierStatusOutput, error) {
	var all []types.SnapshotTierStatus
	for _, s := range byID(snapshotsOf(c.Region)) {
		ok, err := s.matches(in.Filters, func(name string) ([]string, bool) {
			v, ok := map[string]string{"snapshot-id": s.ID, "volume-id": s.volume, "last-tiering-operation": ""}[name]
			return []string{v}, ok
		})
		if err != nil {
			return nil, err
		}
		if ok && c.visible(s.resource) {
			d := s.describe(c.Now)
			all = append(all, types.SnapshotTierStatus{SnapshotId: d.SnapshotId, VolumeId: d.VolumeId, OwnerId: d.OwnerId, Status: d.State, StorageTier: d.StorageTier, Tags: d.Tags})
		}
	}
	list, next, err := page(c, all, in.MaxResults, in.NextToken)
	return &ec2.DescribeSnapshotTierStatusOutput{SnapshotTierStatuses: list, NextToken: next}, err
}

func init() {
	on(ec2Service, "EnableFastSnapshotRestores", (*Call).enableFastRestores)
	on(ec2Service, "DescribeFastSnapshotRestores", (*Call).describeFastRestores)
	on(ec2Service, "DescribeSnapshotTierStatus", (*Call).describeTiers)
	on(ec2Service, "GetEbsEncryptionByDefault", func(c *Call, in *ec2.GetEbsEncryptionByDefaultInput) (*ec2.GetEbsEncryptionByDefaultOutput, error) {
		return &ec2.GetEbsEncryptionByDefaultOutput{EbsEncryptionByDefault: aws.Bool(c.encryptByDefault())}, dryRun(in.DryRun)
	})
	on(ec2Service, "GetEbsDefaultKmsKeyId", func(c *Call, in *ec2.GetEbsDefaultKmsKeyIdInput) (*ec2.GetEbsDefaultKmsKeyIdOutput, error) {
		return &ec2.GetEbsDefaultKmsKeyIdOutput{KmsKeyId: aws.String(c.defaultKey())}, dryRun(in.DryRun)
	})
}
