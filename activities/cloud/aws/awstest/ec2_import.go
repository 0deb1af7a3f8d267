package awstest

import (
	"errors"
	"fmt"
	"io"
	"net/url"
	"os"
	"strconv"
	"strings"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/ec2"
	"github.com/aws/aws-sdk-go-v2/service/ec2/types"
	"github.com/johannesboyne/gofakes3"
)

// importTask brings disks from S3: of ImportSnapshot one, of ImportImage all of an image
// (https://docs.aws.amazon.com/vm-import/latest/userguide/vmimport-import-snapshot.html).
type importTask struct {
	*resource
	description string
	isImage     bool
	arch        types.ArchitectureValues
	encrypted   bool
	key         string
	disks       []*importedDisk
	loading     bool
	started     time.Time
	ready       time.Time
	problem     string
	image       *image
}

// importedDisk is one of its disks.
type importedDisk struct {
	bucket, object, url string
	format, device      string
	description         string
	bytes               int64
	snapshot            *snapshot
	given               bool // the snapshot was there before
}

type importState struct{ tasks map[string]*importTask }

func importsOf(r *Region) map[string]*importTask {
	s := part[importState](r)
	if s.tasks == nil {
		s.tasks = map[string]*importTask{}
	}
	return s.tasks
}

// status is active, completed, or deleted for what failed
// (https://docs.aws.amazon.com/vm-import/latest/userguide/vmimport-troubleshooting.html).
func (i *importTask) status(now time.Time) string {
	switch {
	case i.problem != "":
		return "deleted"
	case i.loading || now.Before(i.ready):
		return "active"
	}
	return "completed"
}

func (i *importTask) progress(now time.Time) *string {
	if i.status(now) != "active" {
		return nil // only of what is under way
	}
	if i.loading {
		return aws.String("3")
	}
	return aws.String(strconv.FormatInt(percent(i.started, i.ready, now), 10))
}

// newImport makes a task; its key is checked at once.
func (c *Call) newImport(kind types.ResourceType, prefix string, tags []types.TagSpecification, encrypted *bool, key *string) (*importTask, error) {
	arn, problem, err := c.encryption(encrypted, key, "")
	if err != nil {
		return nil, err
	}
	i := &importTask{resource: c.newResource(kind, prefix, tags), key: arn, encrypted: arn != "", problem: problem, started: c.Now, loading: true}
	importsOf(c.Region)[i.ID] = i
	return i, nil
}

// importDisk reads a container of a request.
func importDisk(format, text, device, description, snapshot *string, bucket *types.UserBucket) (*importedDisk, error) {
	d := &importedDisk{format: strings.ToUpper(aws.ToString(format)), url: aws.ToString(text), device: aws.ToString(device), description: aws.ToString(description)}
	switch {
	case bucket != nil:
		d.bucket, d.object = aws.ToString(bucket.S3Bucket), aws.ToString(bucket.S3Key)
	case d.url != "":
		u, err := url.Parse(d.url)
		if err != nil {
			return nil, fault("InvalidParameter", "The URL of the disk cannot be read: %v", err)
		}
		d.bucket, d.object = u.Host, strings.TrimPrefix(u.Path, "/")
		if u.Scheme != "s3" {
			d.bucket, d.object, _ = strings.Cut(d.object, "/")
		}
	case aws.ToString(snapshot) == "":
		return nil, fault("MissingParameter", "The disk has neither UserBucket nor Url")
	}
	return d, nil
}

// load brings the disks of a task; what is wrong with them shows in its status. The lock is free
// while bytes are read.
func (c *Call) load(i *importTask) {
	for _, d := range i.disks {
		if i.problem != "" {
			break
		}
		if d.given {
			continue
		}
		if err := c.loadDisk(i, d); err != nil {
			i.problem = "ClientError: Disk validation failed [" + err.Error() + "]"
		}
	}
	i.loading, i.ready = false, time.Now().Add(c.Delay("import"))
	for _, d := range i.disks {
		switch {
		case d.snapshot == nil || d.given:
		case i.problem != "":
			c.dropSnapshot(d.snapshot)
			d.snapshot = nil
		default:
			d.snapshot.reading, d.snapshot.ready = false, i.ready
		}
	}
	if i.isImage && i.problem == "" {
		c.imageOfImport(i)
	}
}

// loadDisk makes a snapshot of a raw image in S3, or of a VHD with a fixed size, which is one with
// a footer of 512 bytes. Other formats are not read by the double.
func (c *Call) loadDisk(i *importTask, d *importedDisk) error {
	place := c.s3Buckets().buckets[d.bucket]
	if place == nil || place.account != c.Region.Account || place.region != c.Name {
		return fmt.Errorf("the bucket %s cannot be read", d.bucket)
	}
	if d.format != "RAW" && d.format != "VHD" {
		return fmt.Errorf("unsupported format %s", d.format)
	}
	s, err := c.newSnapshot(nil)
	if err != nil {
		return err
	}
	s.reading, s.encrypted, s.key, s.description, d.snapshot = true, i.encrypted, i.key, "Created by AWS-VMImport service for "+i.ID, s
	store, dir := c.blocks(), c.Directory
	var content manifest
	err = c.unlocked(func() error {
		var err error
		content, d.bytes, err = importObject(store, dir, place.store, d)
		return err
	})
	if err != nil {
		c.dropSnapshot(s)
		d.snapshot = nil
		return err
	}
	s.content, s.size = content, int32(max(1, (d.bytes+gib-1)/gib)) //nolint:gosec // an object has 50 TB at most
	return nil
}

// importObject keeps the blocks of an object.
func importObject(store *blockStore, dir string, from *s3Store, d *importedDisk) (manifest, int64, error) {
	o, err := from.GetObject(d.bucket, d.object, nil)
	if err != nil {
		return nil, 0, err
	}
	defer o.Contents.Close() //nolint:errcheck // only read
	f, err := os.CreateTemp(dir, "import-*")
	if err != nil {
		return nil, 0, err
	}
	defer os.Remove(f.Name()) //nolint:errcheck // the directory is that of the double
	m, n, err := importFile(store, f, o, d.format)
	return m, n, errors.Join(err, f.Close())
}

func importFile(store *blockStore, f *os.File, o *gofakes3.Object, format string) (manifest, int64, error) {
	n, err := io.Copy(f, o.Contents)
	if err != nil {
		return nil, 0, err
	}
	if format == "VHD" {
		if n, err = fixedVHD(f, n); err != nil {
			return nil, 0, err
		}
	}
	if n == 0 {
		return nil, 0, errors.New("the disk is empty")
	}
	m, err := store.capture(f)
	return m, n, err
}

// vhdFooter is the size of what is behind the data of a VHD with a fixed size.
const vhdFooter = 512

// fixedVHD cuts the footer off: "Virtual Hard Disk Image Format Specification", Microsoft 2006, hard disk footer.
func fixedVHD(f *os.File, n int64) (int64, error) {
	var footer [vhdFooter]byte
	if n < vhdFooter {
		return 0, errors.New("the file is no VHD")
	}
	if _, err := f.ReadAt(footer[:], n-vhdFooter); err != nil {
		return 0, err
	}
	if string(footer[:8]) != "conectix" || footer[63] != 2 {
		return 0, errors.New("the file is no VHD with a fixed size")
	}
	return n - vhdFooter, f.Truncate(n - vhdFooter)
}

// imageOfImport makes the image of an import: the first disk is its root.
func (c *Call) imageOfImport(i *importTask) {
	img, err := c.newImage(i.ID, nil)
	if err != nil {
		i.problem = err.Error()
		return
	}
	img.root, img.arch, img.description, img.ready = "/dev/sda1", i.arch, "AWS-VMImport service: Linux", i.ready
	for at, d := range i.disks {
		device := "/dev/sd" + string(rune('e'+at))
		if at == 0 {
			device = img.root
		} else if d.device != "" {
			device = d.device
		}
		img.maps = append(img.maps, types.BlockDeviceMapping{DeviceName: aws.String(device), Ebs: &types.EbsBlockDevice{SnapshotId: aws.String(d.snapshot.ID),
			VolumeSize: aws.Int32(d.snapshot.size), VolumeType: types.VolumeTypeGp2, Encrypted: aws.Bool(d.snapshot.encrypted), DeleteOnTermination: aws.Bool(true)}})
	}
	i.image = img
}

func (c *Call) importSnapshot(in *ec2.ImportSnapshotInput) (*ec2.ImportSnapshotOutput, error) {
	if in.DiskContainer == nil {
		return nil, fault("MissingParameter", "The request must contain the parameter DiskContainer")
	}
	d, err := importDisk(in.DiskContainer.Format, in.DiskContainer.Url, nil, in.DiskContainer.Description, nil, in.DiskContainer.UserBucket)
	if err != nil {
		return nil, err
	}
	if err := dryRun(in.DryRun); err != nil {
		return nil, err
	}
	var fresh *importTask
	id, err := c.once(in.ClientToken, in, func() (string, error) {
		i, err := c.newImport(types.ResourceTypeImportSnapshotTask, "import-snap", in.TagSpecifications, in.Encrypted, in.KmsKeyId)
		if err != nil {
			return "", err
		}
		i.description, i.disks, fresh = aws.ToString(in.Description), []*importedDisk{d}, i
		return i.ID, nil
	})
	if err != nil {
		return nil, err
	}
	i := importsOf(c.Region)[id]
	out := &ec2.ImportSnapshotOutput{ImportTaskId: aws.String(id), Description: in.Description, SnapshotTaskDetail: i.snapshotDetail(c.Now), Tags: i.tags()}
	if fresh != nil {
		c.load(fresh)
	}
	return out, nil
}

func (c *Call) importImage(in *ec2.ImportImageInput) (*ec2.ImportImageOutput, error) {
	var disks []*importedDisk
	for _, x := range in.DiskContainers {
		d, err := importDisk(x.Format, x.Url, x.DeviceName, x.Description, x.SnapshotId, x.UserBucket)
		if err != nil {
			return nil, err
		}
		if id := aws.ToString(x.SnapshotId); id != "" {
			if d.snapshot, err = c.usableSnapshot(id); err != nil {
				return nil, err
			}
			d.given = true
		}
		disks = append(disks, d)
	}
	if len(disks) == 0 {
		return nil, fault("MissingParameter", "The request must contain the parameter DiskContainers")
	}
	if err := dryRun(in.DryRun); err != nil {
		return nil, err
	}
	var fresh *importTask
	id, err := c.once(in.ClientToken, in, func() (string, error) {
		i, err := c.newImport(types.ResourceTypeImportImageTask, "import-ami", in.TagSpecifications, in.Encrypted, in.KmsKeyId)
		if err != nil {
			return "", err
		}
		i.description, i.disks, i.isImage, i.arch, fresh = aws.ToString(in.Description), disks, true, types.ArchitectureValuesX8664, i
		if in.Architecture != nil {
			i.arch = types.ArchitectureValues(*in.Architecture)
		}
		return i.ID, nil
	})
	if err != nil {
		return nil, err
	}
	d := importsOf(c.Region)[id].describeImage(c.Now)
	out := &ec2.ImportImageOutput{ImportTaskId: d.ImportTaskId, Architecture: d.Architecture, Description: d.Description, Encrypted: d.Encrypted, KmsKeyId: d.KmsKeyId,
		Progress: d.Progress, Status: d.Status, StatusMessage: d.StatusMessage, SnapshotDetails: d.SnapshotDetails, Tags: d.Tags, Platform: d.Platform, LicenseType: d.LicenseType}
	if fresh != nil {
		c.load(fresh)
	}
	return out, nil
}

func init() {
	on(ec2Service, "ImportSnapshot", (*Call).importSnapshot)
	on(ec2Service, "ImportImage", (*Call).importImage)
}
