package aws

import (
	"testing"
	"time"

	awssdk "github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/ec2"
	"github.com/aws/aws-sdk-go-v2/service/ec2/types"
	"github.com/aws/aws-sdk-go-v2/service/sns"
	"github.com/stretchr/testify/require"

	"lifeboat/activities/cloud"
	"lifeboat/activities/cloud/aws/awstest"
)

func TestALaunchIsCheckedBeforeTheDisaster(t *testing.T) {
	t.Parallel()
	d := doubleOf(t, awstest.Options{})
	o := d.options()
	o.VCPUs = 8
	p := d.provider(d.site("home"), o)
	newNetwork(t, p, "network", "app", d.ip(0, 0)+"/28") // 11 addresses
	check := func(needs ...cloud.LaunchNeed) cloud.Code { return cloud.CodeOf(p.CheckLaunch(t.Context(), needs)) }
	require.Empty(t, check(cloud.LaunchNeed{Type: testType, Count: 3}, cloud.LaunchNeed{CPU: 2, Memory: 1 << 30}))
	require.Equal(t, cloud.InvalidInput, check(cloud.LaunchNeed{Type: "t3.gigantic", Count: 1}))
	require.Equal(t, cloud.InvalidInput, check(cloud.LaunchNeed{CPU: 100_000, Count: 1}))
	require.Equal(t, cloud.Quota, check(cloud.LaunchNeed{Type: testType, Count: 5}), "10 of 8 vCPUs")
	_, err := p.ec2().CreateCapacityReservation(t.Context(), &ec2.CreateCapacityReservationInput{InstanceType: awssdk.String(testType), InstanceCount: awssdk.Int32(2),
		AvailabilityZone: &p.site.Zone, InstancePlatform: types.CapacityReservationInstancePlatformLinuxUnix})
	require.NoError(t, err)
	require.Empty(t, check(cloud.LaunchNeed{Type: testType, Count: 4}), "what is reserved counts once")
	require.Equal(t, cloud.Quota, check(cloud.LaunchNeed{Type: testType, Count: 5}))
	limits, err := p.Limits(t.Context(), cloud.KindServer)
	require.NoError(t, err)
	require.Equal(t, []cloud.Limit{{Name: "running vCPUs, standard types", Value: 8, Used: 4, Unit: "vCPU", Adjustable: true}}, limits)

	p = d.provider(d.site("home"), d.options()) // the quota is not known
	require.Equal(t, cloud.Capacity, check(cloud.LaunchNeed{Type: testType, Count: 12}), "there are 11 addresses")
	for kind, n := range map[cloud.Kind]int{cloud.KindServer: 0, cloud.KindSnapshot: 1, cloud.KindNetwork: 1, cloud.KindRecord: 0} {
		limits, err := p.Limits(t.Context(), kind)
		require.NoError(t, err)
		require.Len(t, limits, n, kind)
	}
	d.cloud.Deny("", "ec2:DescribeInstanceTypeOfferings")
	require.Equal(t, cloud.Denied, check(cloud.LaunchNeed{Type: testType, Count: 1}))
}

func TestWhichTypesCountAsStandard(t *testing.T) {
	t.Parallel()
	for typ, want := range map[string]bool{"t3.micro": true, "m7g.large": true, "im4gn.large": true, "is4gen.large": true, "z1d.large": true, "p4d.24xlarge": false, "g5.xlarge": false,
		"inf2.xlarge": false, "u-6tb1.metal": false, "trn1.2xlarge": false, "x2idn.metal": false, "hpc7a.96xlarge": false, "mac2.metal": false, "": false} {
		require.Equal(t, want, standard(typ), typ)
	}
}

func TestMissingPermissionsAreToldAllAtOnceAndNothingIsDone(t *testing.T) {
	t.Parallel()
	d := doubleOf(t, awstest.Options{})
	p := d.open("home").(*Provider)
	var all []string
	for call := range permissions {
		all = append(all, call)
	}
	for call := range sameAs {
		all = append(all, call)
	}
	all = append(all, unasked...)
	require.NoError(t, p.CheckPermission(t.Context(), all))
	d.cloud.Deny("", "ec2:CreateVolume")
	d.cloud.Deny("", "ec2:RunInstances")
	d.cloud.Deny("", "ssm:ListCommands")
	d.cloud.Deny("", "s3:PutObject")
	d.cloud.Deny("", "route53:*")
	d.cloud.Deny("", "cloudwatch:PutMetricData")
	err := p.CheckPermission(t.Context(), all)
	require.Equal(t, cloud.Denied, cloud.CodeOf(err))
	for _, action := range []string{"ec2:CreateVolume", "ec2:RunInstances", "ssm:ListCommands", "s3:PutObject", "route53:ListHostedZonesByName", "cloudwatch:PutMetricData"} {
		require.ErrorContains(t, err, action)
	}
	require.NoError(t, p.CheckPermission(t.Context(), []string{"Server", "StartCopySnapshot"}))
	require.Equal(t, cloud.InvalidInput, cloud.CodeOf(p.CheckPermission(t.Context(), []string{"MakeCoffee"})))
	disks, err := p.Disks(t.Context(), cloud.Filter{})
	require.NoError(t, err)
	require.Empty(t, disks)
	networks, err := p.Networks(t.Context(), cloud.Filter{})
	require.NoError(t, err)
	require.Empty(t, networks)
	addresses, err := p.Addresses(t.Context(), cloud.Filter{})
	require.NoError(t, err)
	require.Empty(t, addresses)
}

func TestAKeyIsTriedBeforeACopyNeedsIt(t *testing.T) {
	t.Parallel()
	d := doubleOf(t, awstest.Options{})
	p := d.open("home").(*Provider)
	here := d.cloud.Key(testAccount, testRegions["home"], "alias/lifeboat")
	away := d.cloud.Key(testAccount, testRegions["away"], "alias/away")
	for _, name := range []string{here, "lifeboat", "alias/lifeboat"} {
		k, err := p.Key(t.Context(), name)
		require.NoError(t, err)
		require.Equal(t, here, k.ID)
		require.Equal(t, testRegions["home"], k.Region)
		require.True(t, k.Enabled)
		require.NoError(t, p.CheckKey(t.Context(), name))
	}
	_, err := p.Key(t.Context(), away)
	require.Equal(t, cloud.NotFound, cloud.CodeOf(err), "keys are used in their region only")
	for _, bad := range []string{away, "missing"} {
		require.Equal(t, cloud.Denied, cloud.CodeOf(p.CheckKey(t.Context(), bad)), bad)
	}
	d.cloud.EnableKey(here, false)
	k, err := p.Key(t.Context(), "lifeboat")
	require.NoError(t, err)
	require.False(t, k.Enabled)
	require.NotEmpty(t, k.Message)
	require.Equal(t, cloud.Denied, cloud.CodeOf(p.CheckKey(t.Context(), "lifeboat")))
	d.cloud.EnableKey(here, true)
	d.cloud.Deny("", "kms:Decrypt")
	require.Equal(t, cloud.Denied, cloud.CodeOf(p.CheckKey(t.Context(), "lifeboat")), "to encrypt alone is not enough")
}

func TestAnAlertIsSentOnce(t *testing.T) {
	t.Parallel()
	d := doubleOf(t, awstest.Options{})
	p := d.open("home").(*Provider)
	alert := cloud.Alert{Token: "token", Title: "«Plan» web:\nRPO is 20 min", Text: "The stream of db stands still.", Labels: map[string]string{"plan": "web", "empty": ""}}
	require.Equal(t, cloud.NotFound, cloud.CodeOf(p.SendAlert(t.Context(), alert)), "there is no topic yet")
	out, err := p.sns().CreateTopic(t.Context(), &sns.CreateTopicInput{Name: awssdk.String(alertTopic)})
	require.NoError(t, err)
	for range 3 {
		require.NoError(t, p.SendAlert(t.Context(), alert))
	}
	require.NoError(t, d.open("home").(*Provider).SendAlert(t.Context(), alert), "another process knows it")
	messages := d.cloud.Messages(awssdk.ToString(out.TopicArn))
	require.Len(t, messages, 1)
	require.Equal(t, "Plan? web: RPO is 20 min", messages[0].Subject)
	require.Equal(t, alert.Text, messages[0].Text)
	require.Equal(t, map[string]string{"plan": "web"}, messages[0].Attributes)
	alert.Text = "other"
	require.Equal(t, cloud.TokenMismatch, cloud.CodeOf(p.SendAlert(t.Context(), alert)))
	alert.Token, alert.Channel = "second", awssdk.ToString(out.TopicArn)
	require.NoError(t, p.SendAlert(t.Context(), alert))
	require.Len(t, d.cloud.Messages(alert.Channel), 2)
	require.Equal(t, cloud.InvalidInput, cloud.CodeOf(p.SendAlert(t.Context(), cloud.Alert{Token: "empty"})))
	require.Equal(t, "arn:aws-cn:sns:cn-north-1:1:x", "arn:"+partitionOf("cn-north-1")+":sns:cn-north-1:1:x")
}

func TestMeasurementsArriveInCloudWatch(t *testing.T) {
	t.Parallel()
	d := doubleOf(t, awstest.Options{})
	p := d.open("home").(*Provider)
	var list []cloud.Measurement
	for i := range metricsAtOnce + 1 {
		list = append(list, cloud.Measurement{Name: "rpo_seconds", Labels: map[string]string{"plan": "web", "server": ""}, Value: float64(i), Time: time.Now()})
	}
	d.cloud.ForgetRequests()
	require.NoError(t, p.PutMeasurements(t.Context(), list))
	require.Equal(t, 2, asked(d, "PutMetricData"), "a request has 1,000 at most")
	require.NoError(t, p.PutMeasurements(t.Context(), nil))
	require.Equal(t, cloud.InvalidInput, cloud.CodeOf(p.PutMeasurements(t.Context(), []cloud.Measurement{{}})))
}

func TestASiteAsksItsOwnRegionAlone(t *testing.T) {
	t.Parallel()
	d := doubleOf(t, likeReal)
	o := d.options()
	o.NoGlobal = true
	p := d.provider(d.site("away"), o)
	key := d.cloud.Key(testAccount, testRegions["away"], "alias/lifeboat")
	_, err := p.sns().CreateTopic(t.Context(), &sns.CreateTopicInput{Name: awssdk.String(alertTopic)})
	require.NoError(t, err)
	d.cloud.Inject(awstest.Rule{Region: testRegions["home"], Drop: true}) // that region is down
	d.cloud.ForgetRequests()
	server := scriptServer(t, d, p)
	run := started(t, p, cloud.RunScript{Token: "script", Server: server.ID, Content: "true"})
	require.Equal(t, cloud.Available, run.State, run.Message)
	a, err := p.AllocateAddress(t.Context(), cloud.Create{Token: "address", Name: "service"})
	require.NoError(t, err)
	becomes(t, "that the address moves", func() (bool, error) {
		err := p.AssociateAddress(t.Context(), a.ID, server.ID, true)
		return err == nil, err
	})
	_, err = p.Intend(t.Context(), entryOf("token"))
	require.NoError(t, err)
	_, err = p.PutDocument(t.Context(), cloud.Document{Name: "document"})
	require.NoError(t, err)
	require.NoError(t, p.CheckKey(t.Context(), key))
	require.NoError(t, p.CheckLaunch(t.Context(), []cloud.LaunchNeed{{Type: testType, Count: 1}}))
	require.NoError(t, p.CheckPermission(t.Context(), []string{"StartLaunch", "StartCopySnapshot", "Intend", "StartScript", "PutMeasurements"}))
	require.NoError(t, p.SendAlert(t.Context(), cloud.Alert{Token: "alert", Title: "failover"}))
	require.NoError(t, p.PutMeasurements(t.Context(), []cloud.Measurement{{Name: "rto_seconds", Value: 1}}))
	require.NotEmpty(t, d.cloud.Requests())
	for _, r := range d.cloud.Requests() {
		require.Equal(t, testRegions["away"], r.Region, "%s %s", r.Service, r.Operation)
	}
}
