package aws

import (
	"testing"
	"time"

	awssdk "github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/ec2"
	"github.com/aws/aws-sdk-go-v2/service/ec2/types"
	"github.com/stretchr/testify/require"

	"lifeboat/activities/cloud"
	"lifeboat/activities/cloud/aws/awstest"
)

func TestAServerIsLaunchedAsItsSettingsSay(t *testing.T) {
	t.Parallel()
	d := apiDouble(t, awstest.Options{})
	p := d.home()
	network, image := d.network(p), d.image(p, "image", "root", "data")
	key := d.cloud.Key(testAccount, testRegions["home"], "alias/dr")
	d.cloud.AddKeyPair(testAccount, testRegions["home"], "ops")
	group, err := p.ec2().CreateSecurityGroup(t.Context(), &ec2.CreateSecurityGroupInput{GroupName: awssdk.String("web"), Description: awssdk.String("web"), VpcId: &p.site.VPC})
	require.NoError(t, err)
	in := cloud.LaunchServer{Create: cloud.Create{Token: "server", Name: "web", Tags: map[string]string{cloud.TagPlan: "shop"}}, Image: image.ID, Network: network.ID,
		Type: "m6i.large", IP: d.ip(0, 9), Ports: []int{80, 443}, UserData: "#!/bin/sh\n", DiskType: "gp3",
		Launch: map[string]string{"security-groups": "web", "key-pair": "ops", "kms-key": key, "iops": "4000", "monitoring": "detailed", "runtime": "process"}}
	made, err := p.StartLaunch(t.Context(), in)
	require.NoError(t, err)
	s := d.serverIs(p, made.ID, cloud.Running)
	require.Equal(t, "web", s.Name)
	require.Equal(t, in.Tags[cloud.TagPlan], s.Tags[cloud.TagPlan])
	require.Equal(t, []int{80, 443}, s.Ports)
	require.Equal(t, in.IP, s.IP)
	require.Equal(t, 2, s.CPU)
	require.Equal(t, int64(8)<<30, s.Memory)
	require.Len(t, s.Disks, 2)
	require.Equal(t, []string{"root", "data"}, []string{s.Disks[0].Name, s.Disks[1].Name})
	require.True(t, s.Disks[0].Boot)
	require.Equal(t, map[string]string{"security-groups": "web"}, s.Launch, "what a copy of it needs")

	raw := d.raw(p, s.ID)
	require.Equal(t, types.HttpTokensStateRequired, raw.MetadataOptions.HttpTokens)
	require.Equal(t, "ops", awssdk.ToString(raw.KeyName))
	require.Equal(t, awssdk.ToString(group.GroupId), awssdk.ToString(raw.SecurityGroups[0].GroupId))
	for _, m := range raw.BlockDeviceMappings {
		require.False(t, awssdk.ToBool(m.Ebs.DeleteOnTermination))
		v, err := p.volume(t.Context(), "test", awssdk.ToString(m.Ebs.VolumeId))
		require.NoError(t, err)
		require.Equal(t, types.VolumeTypeGp3, v.VolumeType)
		require.EqualValues(t, 4000, awssdk.ToInt32(v.Iops))
		require.True(t, awssdk.ToBool(v.Encrypted))
		require.Equal(t, "shop", tagMap(v.Tags)[cloud.TagPlan])
	}
	require.NoError(t, p.TerminateServer(t.Context(), s.ID))
	for _, disk := range s.Disks {
		d.diskIs(p, disk.DiskID, cloud.Available)
	}
	for key, bad := range map[string]string{"imds": "maybe", "iops": "many", "tenancy": "house", "security-groups": "nobody's"} {
		in.Token, in.Launch, in.IP = "bad-"+key, map[string]string{key: bad}, ""
		_, err := p.StartLaunch(t.Context(), in)
		require.Equal(t, cloud.InvalidInput, cloud.CodeOf(err), "%s: %v", key, err)
		require.ErrorContains(t, err, bad)
	}
}

func TestSubstitutesAreTriedInOrderWhenThereIsNoRoom(t *testing.T) {
	t.Parallel()
	d := apiDouble(t, awstest.Options{Quotas: map[string]int{"capacity:m6i.large": 0, "capacity:c6i.large": 0}})
	p := d.home()
	in := cloud.LaunchServer{Create: cloud.Create{Token: "server", Name: "web"}, Image: d.image(p, "image", "root").ID, Network: d.network(p).ID, Type: "m6i.large"}
	_, err := p.StartLaunch(t.Context(), in)
	require.Equal(t, cloud.Capacity, cloud.CodeOf(err), "%v", err)
	require.Equal(t, cloud.AskPerson, cloud.ClassOf(err))
	require.Equal(t, 1, d.asked("RunInstances"), "the SDK does not repeat an answer")

	in.Token, in.Launch = "other", map[string]string{"substitutes": "c6i.large, t3.large, t3.xlarge"}
	made, err := p.StartLaunch(t.Context(), in)
	require.NoError(t, err)
	require.Equal(t, "t3.large", made.Type)
	d.serverIs(p, made.ID, cloud.Running)

	in.Repeat = true
	again, err := d.home().StartLaunch(t.Context(), in)
	require.NoError(t, err)
	require.Equal(t, made.ID, again.ID)
}

func TestALostLaunchOfASubstituteIsFound(t *testing.T) {
	t.Parallel()
	d := apiDouble(t, awstest.Options{Lag: 20 * time.Millisecond})
	p := d.home()
	in := cloud.LaunchServer{Create: cloud.Create{Token: "server", Name: "web"}, Image: d.image(p, "image", "root").ID, Network: d.network(p).ID, Type: "m6i.large",
		Launch: map[string]string{"substitutes": "t3.large"}}
	noRoom := &awstest.Error{Code: "InsufficientInstanceCapacity", Message: "We currently do not have sufficient capacity", Status: 500}
	d.cloud.Inject(awstest.Rule{Operation: "RunInstances", Times: 1, Error: noRoom})
	lost := d.cloud.Inject(awstest.Rule{Operation: "RunInstances", Times: 3, Drop: true, After: true})
	_, err := p.StartLaunch(t.Context(), in)
	require.Equal(t, cloud.Retry, cloud.ClassOf(err), "%v", err)
	lost()
	in.Repeat = true
	site := d.site("home")
	other := d.provider(site, d.options())
	made, err := other.StartLaunch(t.Context(), in) // there is room for the first type now
	require.NoError(t, err)
	require.Equal(t, "t3.large", made.Type)
	list, err := p.Servers(t.Context(), cloud.Filter{})
	require.NoError(t, err)
	require.Len(t, list, 1)
}

func TestATypeIsChosenByWhatTheServerNeeds(t *testing.T) {
	t.Parallel()
	d := apiDouble(t, awstest.Options{Quotas: map[string]int{"capacity:t3.large": 0}})
	p := d.home()
	in := cloud.LaunchServer{Create: cloud.Create{Token: "server", Name: "web"}, Image: d.image(p, "image", "root").ID, Network: d.network(p).ID, CPU: 2, Memory: 8 << 30}
	made, err := p.StartLaunch(t.Context(), in)
	require.NoError(t, err)
	require.Equal(t, "m6i.large", made.Type, "the next that fits")
	in.Token, in.CPU = "large", 500
	_, err = p.StartLaunch(t.Context(), in)
	require.Equal(t, cloud.InvalidInput, cloud.CodeOf(err), "%v", err)
	in.Token, in.CPU, in.Type = "unknown", 0, "z9.huge"
	_, err = p.StartLaunch(t.Context(), in)
	require.Equal(t, cloud.GiveUp, cloud.ClassOf(err), "%v", err)
}

func TestAServerThatEndsWhileItStartsSaysWhy(t *testing.T) {
	t.Parallel()
	d := apiDouble(t, awstest.Options{})
	p := d.home()
	s := d.server(p, "server", "root")
	require.NoError(t, p.TerminateServer(t.Context(), s.ID))
	require.Eventually(t, func() bool {
		_, err := p.Server(t.Context(), s.ID)
		return cloud.IsNotFound(err)
	}, time.Minute, time.Millisecond)
	_, err := p.Server(t.Context(), s.ID)
	require.ErrorContains(t, err, "it was terminated: ")
	require.True(t, cloud.IsNotFound(p.StartServer(t.Context(), s.ID)))
	require.True(t, cloud.IsNotFound(p.TerminateServer(t.Context(), s.ID)))
}

// Servers that people made lose their disks with them: not when Lifeboat terminates them.
func TestDisksThatEC2WouldDeleteStay(t *testing.T) {
	t.Parallel()
	d := apiDouble(t, awstest.Options{})
	p := d.home()
	s := d.server(p, "server", "root")
	_, err := p.ec2().ModifyInstanceAttribute(t.Context(), &ec2.ModifyInstanceAttributeInput{InstanceId: &s.ID, BlockDeviceMappings: []types.InstanceBlockDeviceMappingSpecification{{
		DeviceName: awssdk.String("/dev/xvda"), Ebs: &types.EbsInstanceBlockDeviceSpecification{DeleteOnTermination: awssdk.Bool(true)}}}})
	require.NoError(t, err)
	require.NoError(t, p.TerminateServer(t.Context(), s.ID))
	d.diskIs(p, s.Disks[0].DiskID, cloud.Available)
}
