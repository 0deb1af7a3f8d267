package aws

import (
	"testing"
	"time"

	awssdk "github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/autoscaling"
	"github.com/aws/aws-sdk-go-v2/service/autoscaling/types"
	elbtypes "github.com/aws/aws-sdk-go-v2/service/elasticloadbalancingv2/types"
	"github.com/stretchr/testify/require"

	"lifeboat/activities/cloud"
	"lifeboat/activities/cloud/aws/awstest"
)

// Waits of tests that poll a condition.
const (
	waitAtMost = time.Minute
	waitStep   = 2 * time.Millisecond
)

// scalingGroup makes a group without servers.
func (d *double) scalingGroup(p *Provider, name string, targetGroups ...string) {
	d.t.Helper()
	_, err := p.scaling().CreateLaunchConfiguration(d.t.Context(), &autoscaling.CreateLaunchConfigurationInput{LaunchConfigurationName: &name,
		ImageId: awssdk.String(d.image(p, name, "root").ID), InstanceType: awssdk.String(testType)})
	require.NoError(d.t, err)
	_, err = p.scaling().CreateAutoScalingGroup(d.t.Context(), &autoscaling.CreateAutoScalingGroupInput{AutoScalingGroupName: &name, LaunchConfigurationName: &name,
		MinSize: awssdk.Int32(0), MaxSize: awssdk.Int32(0), VPCZoneIdentifier: awssdk.String(d.network(p).ID), TargetGroupARNs: targetGroups,
		Tags: []types.Tag{{Key: awssdk.String(cloud.TagPlan), Value: awssdk.String("shop"), PropagateAtLaunch: awssdk.Bool(true)}}})
	require.NoError(d.t, err)
}

// inService waits until a group has so many servers.
func (d *double) inService(p *Provider, name string, n int) cloud.ScalingGroup {
	d.t.Helper()
	return await(d.t, cloud.Available, func() (cloud.ScalingGroup, error) {
		g, err := p.ScalingGroup(d.t.Context(), name)
		if err == nil && len(g.Servers) != n {
			g.State = cloud.Creating
		}
		return g, err
	}, func(g cloud.ScalingGroup) cloud.Resource { return g.Resource })
}

func TestAStandbyGrowsToItsFullSizeBehindItsLoadBalancer(t *testing.T) {
	t.Parallel()
	d := doubleOf(t, awstest.Options{PageSize: 1, Guest: webGuest})
	p := d.home()
	arn := d.balancer(p, "web", elbtypes.TargetTypeEnumInstance)
	d.scalingGroup(p, "web", arn)
	require.NoError(t, p.StartScale(t.Context(), "web", "grow", 1, 2, 4))
	g := d.inService(p, "web", 2)
	require.Equal(t, []int{1, 2, 4}, []int{g.Min, g.Desired, g.Max})
	require.Equal(t, "shop", g.Tags[cloud.TagPlan])
	d.backends(p, arn, true, g.Servers...)
	s, err := p.Server(t.Context(), g.Servers[0])
	require.NoError(t, err)
	require.Equal(t, map[string]string{cloud.TagPlan: "shop"}, s.Tags)

	d.cloud.ForgetRequests()
	require.NoError(t, p.StartScale(t.Context(), "web", "grow", 1, 2, 4))
	require.Zero(t, d.asked("UpdateAutoScalingGroup"))

	require.NoError(t, p.StartScale(t.Context(), "web", "shrink", 0, 0, 4))
	d.inService(p, "web", 0)
	d.serverIs(p, g.Servers[0], cloud.Deleting)
	list, err := p.ScalingGroups(t.Context(), cloud.Filter{Tags: map[string]string{cloud.TagPlan: "shop"}})
	require.NoError(t, err)
	require.Len(t, list, 1)
}

func TestAGroupThatCannotGrowSaysWhy(t *testing.T) {
	t.Parallel()
	d := apiDouble(t, awstest.Options{Quotas: map[string]int{"capacity:" + testType: 1}})
	p := d.home()
	d.scalingGroup(p, "web")
	require.NoError(t, p.StartScale(t.Context(), "web", "grow", 0, 2, 2))
	g := d.inService(p, "web", 1)
	require.Contains(t, g.Message, "capacity")
	for _, bad := range [][3]int{{-1, 0, 1}, {2, 1, 3}, {0, 4, 3}} {
		err := p.StartScale(t.Context(), "web", "bad", bad[0], bad[1], bad[2])
		require.Equal(t, cloud.InvalidInput, cloud.CodeOf(err), "%v", bad)
	}
	require.Equal(t, cloud.NotFound, cloud.CodeOf(p.StartScale(t.Context(), "none", "token", 0, 0, 0)))
	_, err := p.scaling().UpdateAutoScalingGroup(t.Context(), &autoscaling.UpdateAutoScalingGroupInput{AutoScalingGroupName: awssdk.String("web"), DesiredCapacity: awssdk.Int32(3)})
	require.Equal(t, "ValidationError", apiCode(err), "the service refuses it, too")
	_, err = p.ScalingGroup(t.Context(), "")
	require.Equal(t, cloud.NotFound, cloud.CodeOf(err))
}
