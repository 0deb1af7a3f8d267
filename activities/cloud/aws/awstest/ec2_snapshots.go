package awstest

import (
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/ec2"
	"github.com/aws/aws-sdk-go-v2/service/ec2/types"
)

// arbitraryVolume is what snapshots report that were not made of a volume: "an arbitrary volume ID
// that you should not use for any purpose" (https://docs.aws.amazon.com/AWSEC2/latest/APIReference/API_Snapshot.html).
const arbitraryVolume = "vol-ffffffff"

// everyone stands for all accounts in permissions.
const everyone = "all"

// snapshot is an EBS snapshot: blocks that never change once it is completed.
type snapshot struct {
	*resource
	owner       string
	volume      string
	size        int32 // GiB
	description string
	encrypted   bool
	key         string
	lineage     string
	content     manifest
	started     time.Time
	reading     bool         // its volume is being read
	ready       time.Time    // pending until then
	problem     string       // why it will be in state error then
	copied      bool         // by CopySnapshot or CopyImage
	duration    *int32       // minutes, of a time-based copy
	direct      *directWrite // of the EBS direct APIs, until it is completed
	shared      map[string]bool
	deleted     bool
}

type snapshotState struct{ snapshots map[string]*snapshot }

// snapshotsOf gives an account's own snapshots of a region.
func snapshotsOf(r *Region) map[string]*snapshot {
	s := part[snapshotState](r)
	if s.snapshots == nil {
		s.snapshots = map[string]*snapshot{}
	}
	return s.snapshots
}

// state follows https://docs.aws.amazon.com/AWSEC2/latest/APIReference/API_Snapshot.html
func (s *snapshot) state(now time.Time) types.SnapshotState {
	switch {
	case s.direct != nil && s.direct.timedOut(now):
		return types.SnapshotStateError
	case s.direct != nil || s.reading || now.Before(s.ready):
		return types.SnapshotStatePending
	case s.problem != "":
		return types.SnapshotStateError
	}
	return types.SnapshotStateCompleted
}

func (s *snapshot) progress(now time.Time) string {
	n := int64(0)
	switch state := s.state(now); {
	case state == types.SnapshotStateCompleted:
		n = 100
	case s.direct != nil:
		n = int64(s.direct.progress)
	case state == types.SnapshotStatePending && !s.reading:
		n = percent(s.started, s.ready, now)
	}
	return strconv.FormatInt(n, 10) + "%"
}

// mayUse tells whether an account may make volumes and copies of a snapshot.
func (s *snapshot) mayUse(account string) bool {
	return s.owner == account || s.shared[account] || s.shared[everyone]
}

// findSnapshot finds a snapshot of any account in a region.
func (c *Call) findSnapshot(region, id string) *snapshot {
	for k, r := range c.regions {
		if s := snapshotsOf(r)[id]; s != nil && k.region == region {
			return s
		}
	}
	return nil
}

// accessibleSnapshot is a snapshot that the caller may use.
func (c *Call) accessibleSnapshot(region, id string) (*snapshot, error) {
	if !strings.HasPrefix(id, "snap-") {
		return nil, fault("InvalidParameterValue", "Value (%s) for parameter snapshotId is invalid. Expected: 'snap-...'.", id)
	}
	s := c.findSnapshot(region, id)
	if s == nil || !s.mayUse(c.Region.Account) {
		return nil, fault("InvalidSnapshot.NotFound", "The snapshot '%s' does not exist.", id)
	}
	return s, nil
}

// usableSnapshot is a completed one of the region that the caller may use.
func (c *Call) usableSnapshot(id string) (*snapshot, error) {
	s, err := c.accessibleSnapshot(c.Name, id)
	if err == nil && s.state(c.Now) != types.SnapshotStateCompleted {
		err = fault("IncorrectState", "Snapshot '%s' is not 'completed'.", id)
	}
	return s, err
}

// ownSnapshot is one that the caller may change.
func (c *Call) ownSnapshot(id string) (*snapshot, error) {
	s, err := c.accessibleSnapshot(c.Name, id)
	if err == nil && s.owner != c.Region.Account {
		err = fault("UnauthorizedOperation", "The snapshot '%s' belongs to another account.", id)
	}
	return s, err
}

// newSnapshot makes a snapshot that has no content yet. An account has 100,000 in a region:
// Options.Quotas "snapshots" (https://docs.aws.amazon.com/ebs/latest/userguide/ebs-resource-quotas.html).
func (c *Call) newSnapshot(tags []types.TagSpecification) (*snapshot, error) {
	if limit := c.storageQuota("snapshots", 100000); len(snapshotsOf(c.Region)) >= limit {
		return nil, fault("SnapshotLimitExceeded", "You have reached the limit of %d snapshots in this region.", limit)
	}
	s := &snapshot{resource: c.newResource(types.ResourceTypeSnapshot, "snap", tags), owner: c.Region.Account, volume: arbitraryVolume,
		started: c.Now, shared: map[string]bool{}}
	s.lineage = s.ID
	snapshotsOf(c.Region)[s.ID] = s
	return s, nil
}

// dropSnapshot removes a snapshot and what only it had.
func (c *Call) dropSnapshot(s *snapshot) {
	delete(snapshotsOf(c.Region), s.ID)
	c.forget(s.ID)
	s.deleted = true
	c.blocks().drop(s.content)
	s.content = nil
}

// describe takes a copy: answers are written when the lock is free again.
func (s snapshot) describe(now time.Time) types.Snapshot {
	out := types.Snapshot{SnapshotId: &s.ID, OwnerId: &s.owner, VolumeId: &s.volume, VolumeSize: &s.size, Description: &s.description,
		Encrypted: &s.encrypted, StartTime: &s.started, State: s.state(now), Tags: s.tags(), Progress: aws.String(s.progress(now)),
		StorageTier: types.StorageTierStandard, CompletionDurationMinutes: s.duration}
	if s.key != "" {
		out.KmsKeyId, out.DataEncryptionKeyId = &s.key, &s.lineage
	}
	if s.copied {
		out.TransferType = types.TransferTypeStandard
		if s.duration != nil {
			out.TransferType = types.TransferTypeTimeBased
		}
	}
	switch out.State {
	case types.SnapshotStateCompleted:
		out.CompletionTime, out.FullSnapshotSizeInBytes = &s.ready, aws.Int64(int64(len(s.content))*blockSize)
	case types.SnapshotStateError:
		out.StateMessage = &s.problem
		if s.direct != nil {
			out.StateMessage = aws.String("The snapshot was not completed in time")
		}
	}
	return out
}

func (s *snapshot) filter(now time.Time, name string) ([]string, bool) {
	d := s.describe(now)
	value, ok := map[string]string{
		"snapshot-id": s.ID, "status": string(d.State), "volume-id": s.volume, "volume-size": strconv.Itoa(int(s.size)), "owner-id": s.owner,
		"owner-alias": "", "description": s.description, "encrypted": strconv.FormatBool(s.encrypted), "progress": *d.Progress,
		"start-time": filterTime(s.started), "storage-tier": string(d.StorageTier), "transfer-type": string(d.TransferType),
	}[name]
	return []string{value}, ok
}

// listedSnapshots lists what DescribeSnapshots selects before its filters.
func (c *Call) listedSnapshots(in *ec2.DescribeSnapshotsInput) ([]*snapshot, error) {
	for _, id := range in.SnapshotIds {
		if s := c.findSnapshot(c.Name, id); s == nil || !c.visible(s.resource) {
			return nil, fault("InvalidSnapshot.NotFound", "The snapshot '%s' does not exist.", id)
		}
	}
	self := func(ids []string, account string) bool {
		return slices.Contains(ids, account) || account == c.Region.Account && slices.Contains(ids, "self")
	}
	all := map[string]*snapshot{}
	for k, r := range c.regions {
		for id, s := range snapshotsOf(r) {
			restorable := len(in.RestorableByUserIds) == 0 || s.shared[everyone] && slices.Contains(in.RestorableByUserIds, everyone) || self(in.RestorableByUserIds, s.owner)
			for account := range s.shared {
				restorable = restorable || self(in.RestorableByUserIds, account)
			}
			if k.region == c.Name && s.mayUse(c.Region.Account) && c.visible(s.resource) && restorable &&
				(len(in.SnapshotIds) == 0 || slices.Contains(in.SnapshotIds, id)) && (len(in.OwnerIds) == 0 || self(in.OwnerIds, s.owner)) {
				all[id] = s
			}
		}
	}
	return byID(all), nil
}

func init() {
	on(ec2Service, "DescribeSnapshots", func(c *Call, in *ec2.DescribeSnapshotsInput) (*ec2.DescribeSnapshotsOutput, error) {
		if err := dryRun(in.DryRun); err != nil {
			return nil, err
		}
		listed, err := c.listedSnapshots(in)
		if err != nil {
			return nil, err
		}
		var all []types.Snapshot
		for _, s := range listed {
			ok, err := s.matches(in.Filters, func(name string) ([]string, bool) { return s.filter(c.Now, name) })
			if err != nil {
				return nil, err
			}
			if ok {
				all = append(all, s.describe(c.Now))
			}
		}
		snapshots, next, err := page(c, all, in.MaxResults, in.NextToken)
		return &ec2.DescribeSnapshotsOutput{Snapshots: snapshots, NextToken: next}, err
	})
	on(ec2Service, "DeleteSnapshot", func(c *Call, in *ec2.DeleteSnapshotInput) (*ec2.DeleteSnapshotOutput, error) {
		s, err := c.ownSnapshot(*in.SnapshotId)
		if err != nil {
			return nil, err
		}
		if err := dryRun(in.DryRun); err != nil {
			return nil, err
		}
		if used := c.imagesWith(s.ID); len(used) > 0 {
			return nil, fault("InvalidSnapshot.InUse", "The snapshot %s is currently in use by %s", s.ID, used[0])
		}
		c.dropSnapshot(s)
		return &ec2.DeleteSnapshotOutput{}, nil
	})
}

func init() {
	on(ec2Service, "ModifySnapshotAttribute", func(c *Call, in *ec2.ModifySnapshotAttributeInput) (*ec2.ModifySnapshotAttributeOutput, error) {
		s, err := c.ownSnapshot(*in.SnapshotId)
		if err != nil {
			return nil, err
		}
		if err := dryRun(in.DryRun); err != nil {
			return nil, err
		}
		return &ec2.ModifySnapshotAttributeOutput{}, c.shareSnapshot(s, in)
	})
	on(ec2Service, "DescribeSnapshotAttribute", func(c *Call, in *ec2.DescribeSnapshotAttributeInput) (*ec2.DescribeSnapshotAttributeOutput, error) {
		s, err := c.ownSnapshot(*in.SnapshotId)
		if err != nil {
			return nil, err
		}
		out := &ec2.DescribeSnapshotAttributeOutput{SnapshotId: aws.String(s.ID)}
		if in.Attribute == types.SnapshotAttributeNameCreateVolumePermission {
			for _, account := range sortedKeys(s.shared) {
				p := types.CreateVolumePermission{UserId: aws.String(account)}
				if account == everyone {
					p = types.CreateVolumePermission{Group: types.PermissionGroupAll}
				}
				out.CreateVolumePermissions = append(out.CreateVolumePermissions, p)
			}
		}
		return out, nil
	})
}

// shareSnapshot follows https://docs.aws.amazon.com/AWSEC2/latest/APIReference/API_ModifySnapshotAttribute.html:
// encrypted snapshots are never public, and those of the default key not shared.
func (c *Call) shareSnapshot(s *snapshot, in *ec2.ModifySnapshotAttributeInput) error {
	var add, remove []string
	switch in.OperationType {
	case types.OperationTypeAdd:
		add = append(append(add, in.UserIds...), in.GroupNames...)
	case types.OperationTypeRemove:
		remove = append(append(remove, in.UserIds...), in.GroupNames...)
	}
	if p := in.CreateVolumePermission; p != nil {
		for _, one := range p.Add {
			add = append(add, aws.ToString(one.UserId)+string(one.Group))
		}
		for _, one := range p.Remove {
			remove = append(remove, aws.ToString(one.UserId)+string(one.Group))
		}
	}
	if len(add) > 0 && len(remove) > 0 {
		return fault("InvalidParameterCombination", "Permissions cannot be added and removed in one request.")
	}
	if len(add) > 0 && s.key == c.defaultKey() {
		return fault("OperationNotPermitted", "Encrypted snapshots with EBS default key cannot be shared")
	}
	if s.encrypted && slices.Contains(add, everyone) {
		return fault("OperationNotPermitted", "Encrypted snapshots cannot be made public")
	}
	for _, account := range add {
		if account != everyone && len(account) != 12 {
			return fault("InvalidParameterValue", "The account %q is not twelve digits", account)
		}
		s.shared[account] = true
	}
	for _, account := range remove {
		delete(s.shared, account)
	}
	return nil
}
