package awstest

import (
	"context"
	"encoding/base64"
	"encoding/binary"
	"fmt"
	"io"
	"net"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/ec2"
	"github.com/aws/aws-sdk-go-v2/service/ec2/types"
	"github.com/stretchr/testify/require"

	"lifeboat/activities/cloud"
	"lifeboat/activities/cloud/local"
)

func TestMain(m *testing.M) {
	local.RunHelper()
	os.Exit(m.Run())
}

const guestPort = 7007

// guestProgram runs this test program as the guests: TestServeGuest, or TestWriteGuest.
func guestProgram(test string) func(Guest) Program {
	return func(Guest) Program {
		exe, err := os.Executable()
		if err != nil {
			panic(err)
		}
		return Program{Launch: map[string]string{"command": exe + " -test.run=^" + test + "$", "stop_timeout": "5s"}, Ports: []int{guestPort}}
	}
}

// TestServeGuest is a guest: it tells whoever connects how its disk begins, and its user data.
func TestServeGuest(t *testing.T) {
	if os.Getenv("LIFEBOAT_SERVER") == "" {
		return // not launched by a site
	}
	listener, err := net.Listen("tcp4", fmt.Sprintf("%s:%d", os.Getenv("LIFEBOAT_ADDRESS"), guestPort))
	require.NoError(t, err)
	for {
		conn, err := listener.Accept()
		require.NoError(t, err)
		root := make([]byte, 4)
		disk, err := os.Open(os.Getenv("LIFEBOAT_DISK_ROOT"))
		require.NoError(t, err)
		_, err = disk.ReadAt(root, 0)
		require.NoError(t, err)
		data, err := os.ReadFile(os.Getenv("LIFEBOAT_USER_DATA"))
		require.NoError(t, err)
		fmt.Fprintf(conn, "%s %s %s", os.Getenv("LIFEBOAT_SERVER"), root, data)
		conn.Close()
		disk.Close()
	}
}

// TestWriteGuest is a guest that counts on its root disk, then on its data disk, again and again.
func TestWriteGuest(t *testing.T) {
	if os.Getenv("LIFEBOAT_SERVER") == "" {
		return // not launched by a site
	}
	root, err := os.OpenFile(os.Getenv("LIFEBOAT_DISK_ROOT"), os.O_WRONLY, 0)
	require.NoError(t, err)
	data, err := os.OpenFile(os.Getenv("LIFEBOAT_DISK_SDF"), os.O_WRONLY, 0)
	require.NoError(t, err)
	for n := uint64(1); ; n++ {
		for _, f := range []*os.File{root, data} {
			_, err := f.WriteAt(binary.BigEndian.AppendUint64(nil, n), 0)
			require.NoError(t, err)
		}
	}
}

// answer is what a guest says at an address.
func answer(address string) (string, error) {
	conn, err := net.DialTimeout("tcp4", fmt.Sprintf("%s:%d", address, guestPort), time.Second)
	if err != nil {
		return "", err
	}
	defer conn.Close()
	text, err := io.ReadAll(conn)
	return string(text), err
}

func (s *storage) answers(address, want string) {
	s.t.Helper()
	until(s.t, address+" answers "+want, func() bool {
		got, err := answer(address)
		return err == nil && got == want
	})
}

func (s *storage) silent(address string) {
	s.t.Helper()
	until(s.t, address+" is silent", func() bool { got, err := answer(address); return err != nil || got == "" })
}

func guestLaunch(image, subnet, ip string) *ec2.RunInstancesInput {
	in := launchInput(image, subnet)
	in.PrivateIpAddress, in.UserData = &ip, aws.String(base64.StdEncoding.EncodeToString([]byte("hello")))
	in.TagSpecifications = []types.TagSpecification{tagsFor(types.ResourceTypeInstance, "lifeboat-devices", "root=/dev/xvda")}
	return in
}

func TestAnInstanceIsAProcessOnItsVolumes(t *testing.T) {
	t.Parallel()
	c := New(t, Options{Guest: guestProgram("TestServeGuest")})
	s := clients(t, c, "eu-west-1")
	ctx, ip := t.Context(), "127.150.1.7"
	i := s.run(guestLaunch(s.image("web", "one!"), s.subnetOf("127.150.0.0/16", "127.150.1.0/24"), ip))
	id := *i.InstanceId
	ids := []string{id}
	s.answers(ip, id+" one! hello")

	must(s.ec2.StopInstances(ctx, &ec2.StopInstancesInput{InstanceIds: ids}))(t)
	s.instanceIs(id, types.InstanceStateNameStopped)
	s.silent(ip)
	s.write(volumeAt(i, "/dev/xvda"), map[int]string{0: "two!"})
	must(s.ec2.StartInstances(ctx, &ec2.StartInstancesInput{InstanceIds: ids}))(t)
	s.instanceIs(id, types.InstanceStateNameRunning)
	s.answers(ip, id+" two! hello")
	_, before, err := c.guestServer(ctx, id)
	require.NoError(t, err)
	must(s.ec2.RebootInstances(ctx, &ec2.RebootInstancesInput{InstanceIds: ids}))(t)
	until(t, "another process runs", func() bool {
		_, now, err := c.guestServer(ctx, id)
		return err == nil && now != before && c.guestAlive(ctx, id)
	})
	s.answers(ip, id+" two! hello")

	require.NoError(t, c.KillGuest(ctx, id))
	s.silent(ip)
	require.Equal(t, types.SummaryStatusImpaired, s.status(id), "the API does not notice more than a failing check")
	must(s.ec2.StopInstances(ctx, &ec2.StopInstancesInput{InstanceIds: ids, Force: aws.Bool(true)}))(t)
	s.instanceIs(id, types.InstanceStateNameStopped)
	must(s.ec2.StartInstances(ctx, &ec2.StartInstancesInput{InstanceIds: ids}))(t)
	s.instanceIs(id, types.InstanceStateNameRunning)
	s.answers(ip, id+" two! hello")
	require.Equal(t, types.SummaryStatusOk, s.status(id))

	must(s.ec2.TerminateInstances(ctx, &ec2.TerminateInstancesInput{InstanceIds: ids}))(t)
	s.instanceIs(id, types.InstanceStateNameTerminated)
	s.silent(ip)
}

func (s *storage) status(id string) types.SummaryStatus {
	s.t.Helper()
	out := must(s.ec2.DescribeInstanceStatus(s.t.Context(), &ec2.DescribeInstanceStatusInput{InstanceIds: []string{id}}))(s.t)
	require.Len(s.t, out.InstanceStatuses, 1)
	return out.InstanceStatuses[0].InstanceStatus.Status
}

func TestAnElasticIPLeadsToTheGuest(t *testing.T) {
	t.Parallel()
	c := New(t, Options{Guest: guestProgram("TestServeGuest")})
	s := clients(t, c, "eu-west-1")
	ctx := t.Context()
	image, subnet := s.image("web", "one!"), s.subnetOf("127.151.0.0/16", "127.151.1.0/24")
	first, second := s.run(guestLaunch(image, subnet, "127.151.1.7")), s.run(guestLaunch(image, subnet, "127.151.1.8"))
	a := must(s.ec2.AllocateAddress(ctx, &ec2.AllocateAddressInput{}))(t)
	to := func(i types.Instance, move *bool) error {
		_, err := s.ec2.AssociateAddress(ctx, &ec2.AssociateAddressInput{AllocationId: a.AllocationId, InstanceId: i.InstanceId, AllowReassociation: move})
		return err
	}
	require.NoError(t, to(first, aws.Bool(false)))
	s.answers(*a.PublicIp, *first.InstanceId+" one! hello")
	wantCode(t, to(second, aws.Bool(false)), "Resource.AlreadyAssociated")
	require.NoError(t, to(second, aws.Bool(true)))
	s.answers(*a.PublicIp, *second.InstanceId+" one! hello")
	require.Equal(t, *a.PublicIp, *s.describeInstance(*second.InstanceId).PublicIpAddress)

	stop := []string{*second.InstanceId}
	must(s.ec2.StopInstances(ctx, &ec2.StopInstancesInput{InstanceIds: stop}))(t)
	s.instanceIs(stop[0], types.InstanceStateNameStopped)
	s.silent(*a.PublicIp)
	must(s.ec2.StartInstances(ctx, &ec2.StartInstancesInput{InstanceIds: stop}))(t)
	s.instanceIs(stop[0], types.InstanceStateNameRunning)
	s.answers(*a.PublicIp, stop[0]+" one! hello")

	_, err := s.ec2.ReleaseAddress(ctx, &ec2.ReleaseAddressInput{AllocationId: a.AllocationId})
	wantCode(t, err, "InvalidIPAddress.InUse")
	must(s.ec2.TerminateInstances(ctx, &ec2.TerminateInstancesInput{InstanceIds: stop}))(t)
	s.instanceIs(stop[0], types.InstanceStateNameTerminated)
	must(s.ec2.ReleaseAddress(ctx, &ec2.ReleaseAddressInput{AllocationId: a.AllocationId}))(t)
}

func TestSnapshotsOfAnInstanceAreOfOneInstant(t *testing.T) {
	t.Parallel()
	c := New(t, Options{Guest: guestProgram("TestWriteGuest")})
	s := clients(t, c, "eu-west-1")
	i := s.run(guestLaunch(s.image("store", "root", "data"), s.subnetOf("127.152.0.0/16", "127.152.1.0/24"), "127.152.1.7"))
	count := func(id string) uint64 {
		r, err := c.SnapshotReader(id)
		require.NoError(t, err)
		p := make([]byte, 8)
		_, err = r.ReadAt(p, 0)
		require.NoError(t, err)
		return binary.BigEndian.Uint64(p)
	}
	p := make([]byte, 8)
	until(t, "the guest writes", func() bool {
		require.NoError(t, c.ReadVolume(volumeAt(i, "/dev/sdf"), p, 0))
		return binary.BigEndian.Uint64(p) < 1<<40
	})
	var last uint64
	for range 3 {
		out := must(s.ec2.CreateSnapshots(t.Context(), &ec2.CreateSnapshotsInput{InstanceSpecification: &types.InstanceSpecification{InstanceId: i.InstanceId}}))(t)
		require.Len(t, out.Snapshots, 2)
		counts := map[string]uint64{}
		for _, x := range out.Snapshots {
			counts[*x.VolumeId] = count(*x.SnapshotId)
		}
		root, data := counts[volumeAt(i, "/dev/xvda")], counts[volumeAt(i, "/dev/sdf")]
		require.LessOrEqual(t, root-data, uint64(1), "root has %d, data %d", root, data)
		require.Greater(t, root, last, "the guest went on in between")
		last = root
	}
}

func TestAScriptRunsOnTheGuest(t *testing.T) {
	t.Parallel()
	c := New(t, Options{Guest: guestProgram("TestServeGuest")})
	s := clients(t, c, "eu-west-1")
	ctx := t.Context()
	_, err := guestScript(ctx, c, "i-1", "t", "true", nil, time.Minute)
	require.ErrorIs(t, err, os.ErrNotExist)
	i := s.run(guestLaunch(s.image("web", "one!"), s.subnetOf("127.153.0.0/16", "127.153.1.0/24"), "127.153.1.7"))
	run := func(token string) cloud.ScriptRun {
		poll, err := guestScript(ctx, c, *i.InstanceId, token, "echo $WHO on $LIFEBOAT_SERVER; exit 3", map[string]string{"WHO": "me"}, time.Minute)
		require.NoError(t, err)
		var r cloud.ScriptRun
		until(t, "the script ends", func() bool {
			r, err = poll(context.Background())
			require.NoError(t, err)
			return r.State != cloud.Running
		})
		return r
	}
	first := run("once")
	require.Equal(t, "me on "+*i.InstanceId, strings.TrimSpace(first.Output))
	require.Equal(t, 3, first.ExitCode)
	require.Equal(t, first.ID, run("once").ID)
}

func TestAGuestThatCannotStartEndsItsInstance(t *testing.T) {
	t.Parallel()
	c := New(t, Options{Guest: func(Guest) Program { return Program{Launch: map[string]string{"command": "/nonexistent"}} }})
	s := clients(t, c, "eu-west-1")
	out := must(s.ec2.RunInstances(t.Context(), guestLaunch(s.image("web", "one!"), s.subnetOf("127.154.0.0/16", "127.154.1.0/24"), "127.154.1.7")))(t)
	until(t, "it is terminated", func() bool {
		return s.describeInstance(*out.Instances[0].InstanceId).State.Name == types.InstanceStateNameTerminated
	})
	i := s.describeInstance(*out.Instances[0].InstanceId)
	require.Equal(t, "Server.InternalError", *i.StateReason.Code)
	require.Contains(t, *i.StateReason.Message, "/nonexistent")
}

func TestARootVolumeIsReplaced(t *testing.T) {
	t.Parallel()
	c := New(t, Options{Guest: guestProgram("TestServeGuest")})
	s := clients(t, c, "eu-west-1")
	ctx, ip := t.Context(), "127.155.1.7"
	image := s.image("web", "one!")
	i := s.run(guestLaunch(image, s.subnetOf("127.155.0.0/16", "127.155.1.0/24"), ip))
	old := volumeAt(i, "/dev/xvda")
	s.write(old, map[int]string{0: "two!"})
	good := s.snapshot(old)
	s.write(old, map[int]string{0: "bad!"})
	s.answers(ip, *i.InstanceId+" bad! hello")
	replace := func(in *ec2.CreateReplaceRootVolumeTaskInput) {
		in.InstanceId = i.InstanceId
		task := must(s.ec2.CreateReplaceRootVolumeTask(ctx, in))(t).ReplaceRootVolumeTask
		until(t, "the task succeeds", func() bool {
			d := must(s.ec2.DescribeReplaceRootVolumeTasks(ctx, &ec2.DescribeReplaceRootVolumeTasksInput{ReplaceRootVolumeTaskIds: []string{*task.ReplaceRootVolumeTaskId}}))(t)
			return d.ReplaceRootVolumeTasks[0].TaskState == types.ReplaceRootVolumeTaskStateSucceeded
		})
	}
	replace(&ec2.CreateReplaceRootVolumeTaskInput{SnapshotId: &good})
	s.answers(ip, *i.InstanceId+" two! hello")
	s.volumeIs(old, types.VolumeStateAvailable)
	replace(&ec2.CreateReplaceRootVolumeTaskInput{VolumeId: &old})
	s.answers(ip, *i.InstanceId+" bad! hello")
	replace(&ec2.CreateReplaceRootVolumeTaskInput{DeleteReplacedRootVolume: aws.Bool(true)})
	s.answers(ip, *i.InstanceId+" one! hello")
	_, err := s.ec2.CreateReplaceRootVolumeTask(ctx, &ec2.CreateReplaceRootVolumeTaskInput{InstanceId: i.InstanceId, SnapshotId: aws.String(s.snapshot(s.volumeWith(nil)))})
	wantCode(t, err, "InvalidParameterValue")
}
