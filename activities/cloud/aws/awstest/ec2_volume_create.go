package awstest

import (
	"errors"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/ec2"
	"github.com/aws/aws-sdk-go-v2/service/ec2/types"
)

// volumeKind has the limits of a type of volumes:
// https://docs.aws.amazon.com/AWSEC2/latest/APIReference/API_CreateVolume.html
type volumeKind struct {
	minGiB, maxGiB   int32
	minIOPS, maxIOPS int32 // 0 = cannot be provisioned
	needsIOPS        bool
	snapshots        int // at once, https://docs.aws.amazon.com/ebs/latest/userguide/ebs-resource-quotas.html
}

var volumeKinds = map[types.VolumeType]volumeKind{
	types.VolumeTypeGp2:      {minGiB: 1, maxGiB: 16384, snapshots: 5},
	types.VolumeTypeGp3:      {minGiB: 1, maxGiB: 65536, minIOPS: 3000, maxIOPS: 80000, snapshots: 5},
	types.VolumeTypeIo1:      {minGiB: 4, maxGiB: 16384, minIOPS: 100, maxIOPS: 64000, needsIOPS: true, snapshots: 5},
	types.VolumeTypeIo2:      {minGiB: 4, maxGiB: 65536, minIOPS: 100, maxIOPS: 256000, needsIOPS: true, snapshots: 5},
	types.VolumeTypeSt1:      {minGiB: 125, maxGiB: 16384, snapshots: 1},
	types.VolumeTypeSc1:      {minGiB: 125, maxGiB: 16384, snapshots: 1},
	types.VolumeTypeStandard: {minGiB: 1, maxGiB: 1024, snapshots: 5},
}

// volumeSpec is a volume that is going to be made.
type volumeSpec struct {
	zone             string
	size             *int32
	snapshot         *string
	kind             types.VolumeType // empty = gp2
	iops, throughput *int32
	initRate         *int32
	encrypted        *bool
	key              *string
	multi            *bool
	tags             []types.TagSpecification
}

// newVolume makes a volume whose bytes fillVolume brings afterwards: that takes long, and is
// done without the lock. The volume is creating until both are done.
func (c *Call) newVolume(spec volumeSpec) (*volume, error) {
	v := &volume{zone: spec.zone, kind: spec.kind, iops: spec.iops, throughput: spec.throughput, initRate: spec.initRate, multi: aws.ToBool(spec.multi)}
	if !slices.Contains(zonesOf(c.Name), spec.zone) {
		return nil, fault("InvalidParameterValue", "Invalid availability zone: [%s]", spec.zone)
	}
	if v.kind == "" {
		v.kind = types.VolumeTypeGp2
	}
	if err := v.sizeFrom(c, spec); err != nil {
		return nil, err
	}
	if err := v.performance(); err != nil {
		return nil, err
	}
	wanted := spec.encrypted
	if v.encrypted {
		wanted = aws.Bool(true) // a volume of an encrypted snapshot is encrypted
	}
	key, problem, err := c.encryption(wanted, spec.key, v.key)
	if err != nil {
		return nil, err
	}
	if err := c.checkStorage(v); err != nil {
		return nil, err
	}
	v.encrypted, v.key, v.problem = key != "", key, problem
	v.resource = c.newResource(types.ResourceTypeVolume, "vol", spec.tags)
	if v.lineage == "" {
		v.lineage = v.ID
	}
	v.path, v.filling = c.volumeFile(c.Region, v.ID), true
	if v.snapshot != "" {
		v.content = c.blocks().share(v.content) // the snapshot may be deleted meanwhile
	}
	c.volumesOf()[v.ID] = v
	return v, nil
}

// sizeFrom takes size, encryption and content of a volume from what was asked for and from the snapshot.
func (v *volume) sizeFrom(c *Call, spec volumeSpec) error {
	v.size = aws.ToInt32(spec.size)
	if spec.snapshot != nil && *spec.snapshot != "" {
		s, err := c.usableSnapshot(*spec.snapshot)
		if err != nil {
			return err
		}
		if v.size == 0 {
			v.size = s.size
		}
		if v.size < s.size {
			return fault("InvalidParameterValue", "Volume of %dGB is smaller than snapshot '%s', expect size >= %dGB", v.size, s.ID, s.size)
		}
		v.snapshot, v.lineage, v.content, v.encrypted, v.key = s.ID, s.lineage, s.content, s.encrypted, s.key
	} else if v.size == 0 {
		return fault("MissingParameter", "The request must contain the parameter size or snapshotId")
	}
	if v.initRate != nil && (v.snapshot == "" || *v.initRate < 100 || *v.initRate > 300) {
		return fault("InvalidParameterValue", "volumeInitializationRate is for volumes of snapshots, and from 100 to 300 MiB/s")
	}
	return nil
}

// performance checks a volume against the limits of its type.
func (v *volume) performance() error {
	k, ok := volumeKinds[v.kind]
	switch {
	case !ok:
		return fault("InvalidParameterValue", "Value (%s) for parameter volumeType is invalid.", v.kind)
	case v.size < k.minGiB:
		return fault("InvalidParameterValue", "Volume of %dGiB is too small for volume type %s; minimum is %dGiB.", v.size, v.kind, k.minGiB)
	case v.size > k.maxGiB:
		return fault("InvalidParameterValue", "Volume of %dGiB is too large for volume type %s; maximum is %dGiB.", v.size, v.kind, k.maxGiB)
	case v.iops != nil && k.maxIOPS == 0:
		return fault("InvalidParameterCombination", "The parameter iops is not supported for %s volumes.", v.kind)
	case v.iops == nil && k.needsIOPS:
		return fault("MissingParameter", "The parameter iops must be specified for %s volumes.", v.kind)
	case v.iops != nil && (*v.iops < k.minIOPS || *v.iops > k.maxIOPS):
		return fault("InvalidParameterValue", "Volume iops of %d is not from %d to %d.", *v.iops, k.minIOPS, k.maxIOPS)
	case v.throughput != nil && v.kind != types.VolumeTypeGp3:
		return fault("InvalidParameterCombination", "The parameter throughput is not supported for %s volumes.", v.kind)
	case v.throughput != nil && (*v.throughput < 125 || *v.throughput > 2000):
		return fault("InvalidParameterValue", "Throughput of %d MiB/s is not from 125 to 2000.", *v.throughput)
	case v.multi && v.kind != types.VolumeTypeIo1 && v.kind != types.VolumeTypeIo2:
		return fault("InvalidParameterCombination", "Multi-Attach is not supported for %s volumes.", v.kind)
	}
	if v.kind == types.VolumeTypeGp3 {
		v.iops, v.throughput = orValue(v.iops, 3000), orValue(v.throughput, 125)
	}
	return nil
}

func orValue(p *int32, standard int32) *int32 {
	if p == nil {
		return &standard
	}
	return p
}

// checkStorage counts all volumes of a type in the region: Options.Quotas "ebs-storage-gib",
// 51,200 by default (https://docs.aws.amazon.com/ebs/latest/userguide/ebs-resource-quotas.html).
func (c *Call) checkStorage(v *volume) error {
	limit, used := c.storageQuota("ebs-storage-gib", 51200), int(v.size)
	for _, other := range c.volumesOf() {
		if other.kind == v.kind {
			used += int(other.size)
		}
	}
	if used > limit {
		return fault("VolumeLimitExceeded", "You have exceeded your maximum %s storage limit of %d GiB in this region.", v.kind, limit)
	}
	return nil
}

// storageQuota is a quota by its name, or what it is in a new account.
func (c *Cloud) storageQuota(name string, standard int) int {
	if n, ok := c.Quotas[name]; ok {
		return n
	}
	return standard
}

// encryption finds the key of something new: none, the one that is named, that of what it is made
// of, or the account's. A key that cannot be used is no error but a problem that shows later
// (KmsKeyId of https://docs.aws.amazon.com/AWSEC2/latest/APIReference/API_CopySnapshot.html).
func (c *Call) encryption(wanted *bool, key *string, inherited string) (arn, problem string, err error) {
	named := aws.ToString(key)
	switch {
	case named != "" && !aws.ToBool(wanted):
		return "", "", fault("InvalidParameterDependency", "The parameter KmsKeyId requires the parameter Encrypted to be set.")
	case named != "":
		return c.storageKey(named)
	case !aws.ToBool(wanted) && !c.encryptByDefault():
		return "", "", nil
	case inherited != "":
		return c.storageKey(inherited)
	}
	return c.defaultKey(), "", nil
}

// keyProblem tells why a key cannot be used in a region, or "", and its ARN; set by what has the keys.
var keyProblem func(r *Region, key string) (arn, problem string)

// storageKey is the ARN of a key, and the message of state error if it cannot be used here.
func (c *Call) storageKey(key string) (arn, problem string, err error) {
	const refused = "Given key ID is not accessible"
	arn = key
	if !strings.HasPrefix(key, "arn:") {
		kind := "key/"
		if strings.HasPrefix(key, "alias/") {
			kind = ""
		}
		arn = "arn:aws:kms:" + c.Name + ":" + c.Region.Account + ":" + kind + key
	}
	if f := strings.Split(arn, ":"); len(f) != 6 || f[2] != "kms" || f[3] != c.Name {
		return arn, refused, nil
	}
	if arn == c.defaultKey() || keyProblem == nil {
		return arn, "", nil
	}
	if found, why := keyProblem(c.Region, arn); why != "" {
		return arn, refused, nil
	} else if found != "" {
		arn = found
	}
	return arn, "", nil
}

// defaultKey is the key that AWS manages for EBS in an account and region.
func (c *Call) defaultKey() string {
	return "arn:aws:kms:" + c.Name + ":" + c.Region.Account + ":key/00000000-0000-4000-8000-" + c.Region.Account
}

// encryptByDefault is switched on for all regions by Options.Quotas "ebs-encryption-by-default".
func (c *Call) encryptByDefault() bool { return c.storageQuota("ebs-encryption-by-default", 0) != 0 }

// fillVolume writes the bytes of a new volume, without the lock; the volume is there after its delay.
func (c *Call) fillVolume(v *volume) error {
	store, content, path, size := c.blocks(), v.content, v.path, v.size
	err := c.unlocked(func() error {
		if err := newVolumeFile(path, int64(size)*gib); err != nil {
			return err
		}
		f, err := os.OpenFile(path, os.O_RDWR, 0)
		if err != nil {
			return err
		}
		return errors.Join(store.fill(f, content), f.Close())
	})
	store.drop(content)
	v.content, v.filling = nil, false
	v.ready = time.Now().Add(c.Delay("volume"))
	if err != nil {
		v.problem = err.Error()
	}
	return err
}

func init() {
	on(ec2Service, "CreateVolume", func(c *Call, in *ec2.CreateVolumeInput) (*ec2.CreateVolumeOutput, error) {
		if (aws.ToString(in.AvailabilityZone) == "") == (aws.ToString(in.AvailabilityZoneId) == "") {
			return nil, fault("InvalidParameterCombination", "Either AvailabilityZone or AvailabilityZoneId must be specified, but not both")
		}
		zone, err := c.zone(in.AvailabilityZone, in.AvailabilityZoneId)
		if err != nil {
			return nil, err
		}
		if err := dryRun(in.DryRun); err != nil {
			return nil, err
		}
		var fresh *volume
		id, err := c.once(in.ClientToken, in, func() (string, error) {
			v, err := c.newVolume(volumeSpec{zone: zone, size: in.Size, snapshot: in.SnapshotId, kind: in.VolumeType, iops: in.Iops,
				throughput: in.Throughput, initRate: in.VolumeInitializationRate, encrypted: in.Encrypted, key: in.KmsKeyId,
				multi: in.MultiAttachEnabled, tags: in.TagSpecifications})
			if err != nil {
				return "", err
			}
			fresh = v
			return v.ID, nil
		})
		if err != nil {
			return nil, err
		}
		if fresh != nil {
			if err := c.fillVolume(fresh); err != nil {
				return nil, err
			}
		}
		v, err := c.volumeOf(&id)
		if err != nil {
			return nil, err
		}
		d := v.describe(c.Now)
		return &ec2.CreateVolumeOutput{VolumeId: d.VolumeId, AvailabilityZone: d.AvailabilityZone, CreateTime: d.CreateTime, Encrypted: d.Encrypted,
			Iops: d.Iops, KmsKeyId: d.KmsKeyId, MultiAttachEnabled: d.MultiAttachEnabled, Size: d.Size, SnapshotId: d.SnapshotId, State: d.State,
			Tags: d.Tags, Throughput: d.Throughput, VolumeType: d.VolumeType, VolumeInitializationRate: d.VolumeInitializationRate}, nil
	})
}
