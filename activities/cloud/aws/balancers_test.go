package aws

import (
	"context"
	"net"
	"net/http"
	"os"
	"testing"

	awssdk "github.com/aws/aws-sdk-go-v2/aws"
	elb "github.com/aws/aws-sdk-go-v2/service/elasticloadbalancingv2"
	elbtypes "github.com/aws/aws-sdk-go-v2/service/elasticloadbalancingv2/types"
	"github.com/stretchr/testify/require"

	"lifeboat/activities/cloud"
	"lifeboat/activities/cloud/aws/awstest"
)

// balancer makes a target group that a load balancer forwards to, and gives the group's ARN. Targets are asked by TCP.
func (d *double) balancer(p *Provider, name string, kind elbtypes.TargetTypeEnum) string {
	d.t.Helper()
	ctx := d.t.Context()
	group, err := p.elb().CreateTargetGroup(ctx, &elb.CreateTargetGroupInput{Name: &name, Protocol: elbtypes.ProtocolEnumTcp, Port: awssdk.Int32(testPort), VpcId: &p.site.VPC,
		TargetType: kind, HealthCheckIntervalSeconds: awssdk.Int32(5), HealthyThresholdCount: awssdk.Int32(2), UnhealthyThresholdCount: awssdk.Int32(2),
		Tags: []elbtypes.Tag{{Key: awssdk.String(cloud.TagPlan), Value: awssdk.String("shop")}}})
	require.NoError(d.t, err)
	arn := group.TargetGroups[0].TargetGroupArn
	lb, err := p.elb().CreateLoadBalancer(ctx, &elb.CreateLoadBalancerInput{Name: &name, Type: elbtypes.LoadBalancerTypeEnumNetwork})
	require.NoError(d.t, err)
	_, err = p.elb().CreateListener(ctx, &elb.CreateListenerInput{LoadBalancerArn: lb.LoadBalancers[0].LoadBalancerArn, Port: awssdk.Int32(80), Protocol: elbtypes.ProtocolEnumTcp,
		DefaultActions: []elbtypes.Action{{Type: elbtypes.ActionTypeEnumForward, TargetGroupArn: arn}}})
	require.NoError(d.t, err)
	return *arn
}

// webGuest runs TestServeWeb.
func webGuest(awstest.Guest) awstest.Program {
	exe, err := os.Executable()
	if err != nil {
		panic(err)
	}
	return awstest.Program{Launch: map[string]string{"runtime": "process", "command": exe + " -test.run=^TestServeWeb$"}, Ports: []int{testPort}}
}

// TestServeWeb is a server behind load balancers: it answers by HTTP.
func TestServeWeb(t *testing.T) {
	if os.Getenv("LIFEBOAT_SERVER") == "" {
		return // not launched by a site
	}
	listener, err := net.Listen("tcp4", os.Getenv("LIFEBOAT_ADDRESS")+":"+os.Getenv("LIFEBOAT_PORTS"))
	require.NoError(t, err)
	require.NoError(t, http.Serve(listener, http.NotFoundHandler()))
}

// backends waits until a load balancer has exactly these back ends, all of them healthy or not.
func (d *double) backends(p *Provider, id string, healthy bool, servers ...string) cloud.LoadBalancer {
	d.t.Helper()
	d.t.Cleanup(func() {
		if d.t.Failed() {
			b, err := p.LoadBalancer(context.Background(), id)
			d.t.Logf("%+v %v", b, err)
		}
	})
	return await(d.t, cloud.Available, func() (cloud.LoadBalancer, error) {
		b, err := p.LoadBalancer(d.t.Context(), id)
		if err == nil && !sameServers(b.Backends, healthy, servers) {
			b.State = cloud.Creating
		}
		return b, err
	}, func(b cloud.LoadBalancer) cloud.Resource { return b.Resource })
}

func sameServers(list []cloud.Backend, healthy bool, servers []string) bool {
	have := map[string]bool{}
	for _, b := range list {
		have[b.Server] = b.Healthy == healthy
	}
	for _, s := range servers {
		if !have[s] {
			return false
		}
	}
	return len(list) == len(servers)
}

func TestTrafficGoesToExactlyTheWantedServersAndTheirHealthIsMeasured(t *testing.T) {
	t.Parallel()
	d := doubleOf(t, awstest.Options{PageSize: 1, Guest: webGuest})
	p := d.home()
	one, two := d.server(p, "one", "root"), d.server(p, "two", "root")
	arn := d.balancer(p, "web", elbtypes.TargetTypeEnumInstance)
	back := func(ids ...string) (list []cloud.Backend) {
		for _, id := range ids {
			list = append(list, cloud.Backend{Server: id, Port: testPort})
		}
		return list
	}
	require.NoError(t, p.StartSetBackends(t.Context(), "web", "first", back(one.ID)))
	b := d.backends(p, "web", true, one.ID)
	require.Equal(t, arn, b.ID)
	require.Equal(t, "web", b.Name)
	require.Contains(t, b.Address, ".us-east-1.elb.amazonaws.com")
	require.Equal(t, "shop", b.Tags[cloud.TagPlan])

	require.NoError(t, p.StartSetBackends(t.Context(), arn, "second", back(two.ID)))
	d.backends(p, arn, true, two.ID)
	d.cloud.ForgetRequests()
	require.NoError(t, p.StartSetBackends(t.Context(), arn, "second", back(two.ID)))
	require.Zero(t, d.asked("RegisterTargets", "DeregisterTargets"), "the same again changes nothing")

	require.NoError(t, p.StartSetBackends(t.Context(), arn, "port", []cloud.Backend{{Server: two.ID, Port: testPort + 1}}))
	sick := d.backends(p, arn, false, two.ID)
	require.Eventually(t, func() bool {
		sick = d.backends(p, arn, false, two.ID)
		return sick.Backends[0].Reason == "unhealthy: Health checks failed (Target.FailedHealthChecks)"
	}, waitAtMost, waitStep, "%+v", sick.Backends)

	list, err := p.LoadBalancers(t.Context(), cloud.Filter{Tags: map[string]string{cloud.TagPlan: "shop"}})
	require.NoError(t, err)
	require.Len(t, list, 1)
	list, err = p.LoadBalancers(t.Context(), cloud.Filter{Tags: map[string]string{cloud.TagPlan: "other"}})
	require.NoError(t, err)
	require.Empty(t, list)
}

func TestTargetsByAddressAreShownAsServers(t *testing.T) {
	t.Parallel()
	d := doubleOf(t, awstest.Options{Guest: webGuest})
	p := d.home()
	s := d.server(p, "one", "root")
	d.balancer(p, "ip", elbtypes.TargetTypeEnumIp)
	require.NoError(t, p.StartSetBackends(t.Context(), "ip", "set", []cloud.Backend{{Server: s.ID}}))
	b := d.backends(p, "ip", true, s.ID)
	require.Equal(t, testPort, b.Backends[0].Port, "the port of the group")
	require.NoError(t, p.StartSetBackends(t.Context(), "ip", "none", nil))
	d.backends(p, "ip", true)
}

func TestAnsweringWithTheWrongCodeIsNotHealthy(t *testing.T) {
	t.Parallel()
	d := doubleOf(t, awstest.Options{Guest: webGuest})
	p := d.home()
	s := d.server(p, "one", "root")
	arn := d.balancer(p, "tcp", elbtypes.TargetTypeEnumInstance)
	group, err := p.elb().CreateTargetGroup(t.Context(), &elb.CreateTargetGroupInput{Name: awssdk.String("web"), Protocol: elbtypes.ProtocolEnumHttp, Port: awssdk.Int32(testPort),
		VpcId: &p.site.VPC, HealthCheckIntervalSeconds: awssdk.Int32(5)})
	require.NoError(t, err)
	web := *group.TargetGroups[0].TargetGroupArn
	for _, id := range []string{arn, web} {
		require.NoError(t, p.StartSetBackends(t.Context(), id, "set", []cloud.Backend{{Server: s.ID}}))
	}
	d.backends(p, arn, true, s.ID)
	b := d.backends(p, web, false, s.ID)
	require.Equal(t, "no load balancer forwards to it", b.Message)
	require.Contains(t, b.Backends[0].Reason, "Target.NotInUse")
	lb, err := p.elb().DescribeLoadBalancers(t.Context(), &elb.DescribeLoadBalancersInput{Names: []string{"tcp"}})
	require.NoError(t, err)
	_, err = p.elb().CreateListener(t.Context(), &elb.CreateListenerInput{LoadBalancerArn: lb.LoadBalancers[0].LoadBalancerArn, Port: awssdk.Int32(81), Protocol: elbtypes.ProtocolEnumHttp,
		DefaultActions: []elbtypes.Action{{Type: elbtypes.ActionTypeEnumForward, TargetGroupArn: &web}}})
	require.NoError(t, err)
	require.Eventually(t, func() bool {
		b, err := p.LoadBalancer(t.Context(), web)
		return err == nil && b.Backends[0].Reason == "unhealthy: Health checks failed with these codes: [404] (Target.ResponseCodeMismatch)"
	}, waitAtMost, waitStep)
}

func TestBackendsThatCannotBeAreRefused(t *testing.T) {
	t.Parallel()
	d := apiDouble(t, awstest.Options{})
	p := d.home()
	s := d.server(p, "one", "root")
	d.balancer(p, "web", elbtypes.TargetTypeEnumInstance)
	set := func(id string, list ...cloud.Backend) cloud.Code {
		return cloud.CodeOf(p.StartSetBackends(t.Context(), id, "token", list))
	}
	require.Equal(t, cloud.NotFound, set("missing"))
	require.Equal(t, cloud.NotFound, set(""))
	require.Equal(t, cloud.InvalidInput, set("web", cloud.Backend{Server: s.ID, Port: 70_000}))
	require.Equal(t, cloud.InvalidInput, set("web", cloud.Backend{Port: 80}))
	require.Equal(t, cloud.Unsupported, set("web", cloud.Backend{Server: s.ID, Weight: 1}, cloud.Backend{Server: "i-2", Weight: 2}))
	require.NoError(t, p.StopServer(t.Context(), s.ID, true))
	d.serverIs(p, s.ID, cloud.Stopped)
	require.Equal(t, cloud.NotReady, set("web", cloud.Backend{Server: s.ID}), "a stopped server cannot be registered")
	require.Equal(t, cloud.InvalidInput, cloud.CodeOf(p.StartSetBackends(t.Context(), "web", "", nil)))
	_, err := p.LoadBalancer(t.Context(), "arn:aws:elasticloadbalancing:us-east-1:111111111111:targetgroup/none/1")
	require.Equal(t, cloud.NotFound, cloud.CodeOf(err), "%v", err)
}
