package chaos

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	awssdk "github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/config"
	"github.com/aws/aws-sdk-go-v2/credentials"
	"github.com/aws/aws-sdk-go-v2/service/ec2"
	"github.com/aws/aws-sdk-go-v2/service/ec2/types"
	"github.com/aws/smithy-go"
	"github.com/zeebo/xxh3"

	"lifeboat/activities"
	"lifeboat/activities/cloud"
	"lifeboat/activities/cloud/aws"
	"lifeboat/activities/cloud/aws/awstest"
	"lifeboat/internal/demo/numbers"
	"lifeboat/internal/demo/stage"
	"lifeboat/workflows"
)

// awsTheatre has two regions of a double of AWS, which lives in this process and is not
// killed; the processes of its instances are.
type awsTheatre struct {
	*campaign
	cloud *awstest.Cloud
	here  *awsRegion // primary
	there *awsRegion
}

// awsRegion is one site with the console of its region.
type awsRegion struct {
	*aws.Provider
	name, region string
	block        string // beginning of its addresses, on loopback
	console      *ec2.Client
	vpc          string
}

const (
	awsAccount = "111111111111" // that keys of the double belong to
	awsType    = "t3.micro"
	gib        = int64(1) << 30
)

// serverWait bounds how long the owner of a server waits for it.
const serverWait = 40 * time.Second

func newAWSTheatre(c *campaign) *awsTheatre {
	return &awsTheatre{campaign: c,
		here:  &awsRegion{name: "primary", region: "eu-central-1", block: "127.80."},
		there: &awsRegion{name: "recovery", region: "eu-west-1", block: "127.81."}}
}

func (t *awsTheatre) open(ctx context.Context) (w *stage.World, err error) {
	command := fmt.Sprintf(`["%s","__numbers-server","--port","%d"]`, t.Binaries.Lifeboat, stage.Port)
	t.cloud, err = awstest.Start(awstest.Options{Directory: filepath.Join(t.Dir, "aws"),
		// Slow enough that kills fall between a call and what it leads to, late and in pages as AWS is.
		Delay: func(string) time.Duration { return 150 * time.Millisecond }, Lag: 20 * time.Millisecond, PageSize: 3,
		Guest: func(awstest.Guest) awstest.Program {
			return awstest.Program{Launch: map[string]string{"runtime": "process", "command": command}, Ports: []int{stage.Port}}
		}})
	if err != nil {
		return nil, err
	}
	t.Log("two regions of the double of AWS at %s", t.cloud.URL)
	for _, r := range []*awsRegion{t.here, t.there} {
		if err := t.openRegion(ctx, r); err != nil {
			return nil, fmt.Errorf("region %s: %w", r.region, err)
		}
	}
	return stage.OpenNames(ctx, t.namesDir(), t.Binaries.Lifeboat)
}

func (t *awsTheatre) namesDir() string { return filepath.Join(t.Dir, "sites") }

func (t *awsTheatre) openRegion(ctx context.Context, r *awsRegion) error {
	keys := credentials.NewStaticCredentialsProvider("key", "secret", "")
	c, err := config.LoadDefaultConfig(ctx, config.WithRegion(r.region), config.WithBaseEndpoint(t.cloud.URL), config.WithCredentialsProvider(keys))
	if err != nil {
		return err
	}
	r.console = ec2.NewFromConfig(c)
	made, err := r.console.CreateVpc(ctx, &ec2.CreateVpcInput{CidrBlock: awssdk.String(r.block + "0.0/20")})
	if err != nil {
		return err
	}
	r.vpc = *made.Vpc.VpcId
	if err := t.cloud.AttachInternetGateway(awsAccount, r.region, r.vpc); err != nil {
		return err
	}
	site := cloud.Site{Name: r.name, Provider: "aws", Account: awsAccount, Region: r.region, Zone: r.region + "a", Bucket: r.bucket(), VPC: r.vpc}
	r.Provider, err = aws.Open(ctx, site, aws.Options{Endpoint: t.cloud.URL, Credentials: keys})
	return err
}

func (r *awsRegion) bucket() string { return "lifeboat-" + r.region }

func (t *awsTheatre) primary() site          { return t.here }
func (t *awsTheatre) recovery() site         { return t.there }
func (t *awsTheatre) marks() bool            { return true }
func (t *awsTheatre) keptBySource() []string { return []string{activities.RoleBase} }
func (t *awsTheatre) inPlace() bool          { return false }

func (t *awsTheatre) cast() (*programs, []victim) {
	if t.cloud == nil {
		return nil, awsVictims
	}
	env := []string{"AWS_ENDPOINT_URL=" + t.cloud.URL, "AWS_ACCESS_KEY_ID=key", "AWS_SECRET_ACCESS_KEY=secret", "AWS_EC2_METADATA_DISABLED=true"}
	serving := func(v victim, r *awsRegion) *worker {
		return t.newWorker(v, env, "--roles", "cloud", "--cloud", "aws/"+awsAccount+"/"+r.region)
	}
	return &programs{
		temporal: newOrchestrator(t.Binaries.Temporal, t.Dir),
		control:  t.newWorker(killWorker, nil, "--roles", "control,cloud", "--site", "names="+filepath.Join(t.namesDir(), "names")),
		primary:  serving(killHere, t.here),
		recovery: serving(killThere, t.there),
	}, awsVictims
}

// createServer makes an instance with a database on two volumes, as its owner had it
// before he heard of Lifeboat.
func (t *awsTheatre) createServer(ctx context.Context) (m machine, ip string, err error) {
	r := t.here
	image, err := r.image(ctx, "data", "log")
	if err != nil {
		return m, "", fmt.Errorf("image of the server: %w", err)
	}
	subnet, err := r.console.CreateSubnet(ctx, &ec2.CreateSubnetInput{VpcId: &r.vpc, CidrBlock: awssdk.String(r.block + "1.0/24"), AvailabilityZone: awssdk.String(r.region + "a"),
		TagSpecifications: named(types.ResourceTypeSubnet, stage.Network)})
	if err != nil {
		return m, "", err
	}
	tags := named(types.ResourceTypeInstance, stage.Server)
	tags[0].Tags = append(tags[0].Tags, types.Tag{Key: awssdk.String("lifeboat-devices"), Value: awssdk.String("data=/dev/xvda,log=/dev/sdf")})
	ran, err := r.console.RunInstances(ctx, &ec2.RunInstancesInput{ImageId: &image, InstanceType: awsType, MinCount: awssdk.Int32(1), MaxCount: awssdk.Int32(1),
		SubnetId: subnet.Subnet.SubnetId, TagSpecifications: tags})
	if err != nil {
		return m, "", err
	}
	id := *ran.Instances[0].InstanceId
	if err := t.start(ctx, r, id); err != nil {
		return m, "", err
	}
	_, err = r.console.DeregisterImage(ctx, &ec2.DeregisterImageInput{ImageId: &image, DeleteAssociatedSnapshots: awssdk.Bool(true)})
	return machine{r, id}, *ran.Instances[0].PrivateIpAddress, err
}

// named are the tags of something with a name.
func named(kind types.ResourceType, name string) []types.TagSpecification {
	return []types.TagSpecification{{ResourceType: kind, Tags: []types.Tag{{Key: awssdk.String("Name"), Value: &name}}}}
}

// image registers one of empty disks.
func (r *awsRegion) image(ctx context.Context, disks ...string) (string, error) {
	in := &ec2.RegisterImageInput{Name: awssdk.String("empty"), RootDeviceName: awssdk.String("/dev/xvda"), VirtualizationType: awssdk.String("hvm"), Architecture: types.ArchitectureValuesX8664}
	for i, name := range disks {
		v, err := r.console.CreateVolume(ctx, &ec2.CreateVolumeInput{AvailabilityZone: awssdk.String(r.region + "a"), Size: awssdk.Int32(1)})
		if err != nil {
			return "", err
		}
		err = await(ctx, func() (bool, error) {
			out, err := r.console.DescribeVolumes(ctx, &ec2.DescribeVolumesInput{VolumeIds: []string{*v.VolumeId}})
			return err == nil && out.Volumes[0].State == types.VolumeStateAvailable, err
		})
		if err != nil {
			return "", err
		}
		s, err := r.console.CreateSnapshot(ctx, &ec2.CreateSnapshotInput{VolumeId: v.VolumeId, Description: &name})
		if err != nil {
			return "", err
		}
		err = await(ctx, func() (bool, error) {
			out, err := r.console.DescribeSnapshots(ctx, &ec2.DescribeSnapshotsInput{SnapshotIds: []string{*s.SnapshotId}})
			return err == nil && out.Snapshots[0].State == types.SnapshotStateCompleted, err
		})
		if err != nil {
			return "", err
		}
		if _, err := r.console.DeleteVolume(ctx, &ec2.DeleteVolumeInput{VolumeId: v.VolumeId}); err != nil {
			return "", err
		}
		in.BlockDeviceMappings = append(in.BlockDeviceMappings, types.BlockDeviceMapping{DeviceName: awssdk.String([]string{"/dev/xvda", "/dev/sdf"}[i]),
			Ebs: &types.EbsBlockDevice{SnapshotId: s.SnapshotId}})
	}
	out, err := r.console.RegisterImage(ctx, in)
	if err != nil {
		return "", err
	}
	return *out.ImageId, await(ctx, func() (bool, error) {
		out, err := r.console.DescribeImages(ctx, &ec2.DescribeImagesInput{ImageIds: []string{*out.ImageId}})
		return err == nil && out.Images[0].State == types.ImageStateAvailable, err
	})
}

// await polls a resource, which may not be visible yet.
func await(ctx context.Context, done func() (bool, error)) error {
	return stage.Poll(ctx, serverWait, func() (bool, error) {
		ok, err := done()
		var coded smithy.APIError
		if errors.As(err, &coded) && strings.Contains(coded.ErrorCode(), "NotFound") {
			err = nil
		}
		return ok, err
	})
}

func (t *awsTheatre) plan() (string, error) {
	var b strings.Builder
	fmt.Fprintf(&b, "apiVersion: lifeboat/v1\nkind: RecoveryPlan\nmetadata: {name: %s}\nspec:\n  sites:\n", stage.Plan)
	for _, r := range []*awsRegion{t.here, t.there} {
		fmt.Fprintf(&b, "    - {name: %s, provider: aws, account: %q, region: %s, zone: %[3]sa, bucket: %s, vpc: %s}\n", r.name, awsAccount, r.region, r.bucket(), r.vpc)
	}
	fmt.Fprintf(&b, `    - {name: names, provider: local, directory: %q}
  networks:
    - {name: %[2]s, site: primary, cidr: %[3]s1.0/24}
    - {name: refuge, site: recovery, cidr: %[4]s1.0/24}
    - {name: trial, site: recovery, cidr: %[4]s2.0/24}
  sitePairs:
    - {name: main, primary: primary, recovery: recovery, recoveryNetwork: refuge, primaryNetwork: %[2]s}
  pointPolicies:
    - {name: often, every: 1m}
  tiers:
    - {name: gold, strategy: replicate, pointPolicy: often, transfer: snapshots}
  drills: {network: trial}
  servers:
    - name: %[5]s
      tier: gold
      sitePair: main
      source: %[5]s
      launch: {type: %[6]s, publicIP: %[5]s, script: %[7]s, scriptTimeout: 30s, health: {http: /healthz, port: %[8]d, timeout: 20s}}
  dns:
    - {name: %[9]s, zone: %[10]s, site: names, server: %[5]s, ttl: 1s}
`, filepath.Join(t.namesDir(), "names"), stage.Network, t.here.block, t.there.block, stage.Server, awsType, stage.ScriptFile, stage.Port, stage.Record, stage.Zone)
	path := filepath.Join(t.Dir, "plan.yaml")
	return path, errors.Join(os.WriteFile(path, []byte(b.String()), 0o600), stage.WriteScript(t.Dir, t.Binaries.Lifeboat))
}

func (t *awsTheatre) kill(ctx context.Context, id string) (bool, error) {
	err := t.cloud.KillGuest(ctx, id)
	if errors.Is(err, os.ErrNotExist) || cloud.IsNotFound(err) {
		return false, nil
	}
	return err == nil, err
}

// start starts an instance that is stopped, and reboots one that does not answer.
func (t *awsTheatre) start(ctx context.Context, p site, id string) error {
	r := p.(*awsRegion)
	var state cloud.Server
	var last error
	patience := time.Now().Add(2 * time.Second) // of an instance that is coming up
	err := stage.Poll(ctx, serverWait, func() (bool, error) {
		var err error
		if state, err = r.Server(ctx, id); err != nil {
			return false, cloud.IgnoreNotFound(err) // it may not be visible yet
		}
		switch state.State {
		case cloud.Running:
			if last = t.answers(ctx, state.IP); last == nil {
				return true, nil
			}
			if time.Now().After(patience) {
				patience = time.Now().Add(8 * time.Second)
				_, err = r.console.RebootInstances(ctx, &ec2.RebootInstancesInput{InstanceIds: []string{id}})
			}
		case cloud.Stopped:
			err = r.StartServer(ctx, id)
		}
		return false, err
	})
	if err != nil {
		return fmt.Errorf("start server %s again (%s, %s): %w", id, state.State, state.Message, errors.Join(err, last))
	}
	return nil
}

// revive reboots an instance: it goes on to be "running" when its system is dead, so that
// people have an alarm that does this
// (https://docs.aws.amazon.com/AWSEC2/latest/UserGuide/UsingAlarmActions.html).
func (t *awsTheatre) revive(ctx context.Context, p site, id string) error {
	_, err := p.(*awsRegion).console.RebootInstances(ctx, &ec2.RebootInstancesInput{InstanceIds: []string{id}})
	var coded smithy.APIError
	if errors.As(err, &coded) && (coded.ErrorCode() == "IncorrectInstanceState" || strings.HasPrefix(coded.ErrorCode(), "InvalidInstanceID")) {
		return nil // it was terminated
	}
	return err
}

func (t *awsTheatre) answers(ctx context.Context, ip string) error {
	ctx, cancel := context.WithTimeout(ctx, time.Second)
	defer cancel()
	_, err := numbers.AskHealth(ctx, http.DefaultClient, "http://"+net.JoinHostPort(ip, strconv.Itoa(stage.Port)))
	return err
}

// inside needs no way in: the networks are on loopback.
func (t *awsTheatre) inside(site, string) *http.Client { return http.DefaultClient }

// checkDisks compares the volumes with the snapshots of the point, byte for byte.
func (t *awsTheatre) checkDisks(_ context.Context, _ site, s cloud.Server, r workflows.ServerReport, point *activities.Point) error {
	if point == nil {
		return fmt.Errorf("point %s of %s is not listed", r.Point, s.ID)
	}
	if len(s.Disks) != len(point.Disks) {
		return fmt.Errorf("%s has %d disks, its point %d", s.ID, len(s.Disks), len(point.Disks))
	}
	snapshots := map[string]string{}
	for _, d := range point.Disks {
		snapshots[d.Name] = d.Snapshot
	}
	for _, d := range s.Disks {
		content, err := t.cloud.SnapshotReader(snapshots[d.Name])
		if err != nil {
			return fmt.Errorf("disk %s of point %s: %w", d.Name, point.ID, err)
		}
		path, err := t.cloud.VolumePath(d.DiskID)
		if err != nil {
			return err
		}
		file, err := os.Open(path)
		if err != nil {
			return err
		}
		has, want := xxh3.New(), xxh3.New()
		_, err = io.Copy(has, file)
		_, rerr := io.Copy(want, io.NewSectionReader(content, 0, content.Size()))
		if err := errors.Join(err, rerr, file.Close()); err != nil {
			return err
		}
		if has.Sum64() != want.Sum64() {
			return fmt.Errorf("disk %s of %s differs from snapshot %s of its point %s", d.Name, s.ID, snapshots[d.Name], point.ID)
		}
	}
	return nil
}

func (t *awsTheatre) outputs() ([]string, error) {
	return filepath.Glob(filepath.Join(t.Dir, "aws", "*", "*", "*", "run", "servers", "*", "output.log"))
}

func (t *awsTheatre) close(context.Context) error {
	var errs []error
	for _, r := range []*awsRegion{t.here, t.there} {
		if r.Provider != nil {
			errs = append(errs, r.Close())
		}
	}
	if t.cloud != nil {
		errs = append(errs, t.cloud.Close())
	}
	return errors.Join(errs...)
}
