package awstest

import (
	"cmp"
	"context"
	"fmt"
	"reflect"
	"slices"
	"strconv"
	"strings"

	"github.com/aws/aws-sdk-go-v2/aws"
	elb "github.com/aws/aws-sdk-go-v2/service/elasticloadbalancingv2"
	"github.com/aws/aws-sdk-go-v2/service/elasticloadbalancingv2/types"
)

// elbService is Elastic Load Balancing, version 2015-12-01. Targets are asked for real (elbv2_health.go); nothing is
// forwarded to them: https://docs.aws.amazon.com/elasticloadbalancing/latest/APIReference/
var elbService = serve("elasticloadbalancing", queryWire{})

// elbState is what an account has of it in a region, by ARN.
type elbState struct {
	background
	groups    map[string]*targetGroup
	balancers map[string]*types.LoadBalancer
	listeners map[string]*types.Listener
	tags      map[string]map[string]string
}

// targetGroup is a group with its targets, by identifier and port.
type targetGroup struct {
	types.TargetGroup
	targets map[string]*elbTarget
}

func (c *Call) elb() *elbState {
	s := part[elbState](c.Region)
	if s.groups == nil {
		s.groups, s.balancers, s.listeners = map[string]*targetGroup{}, map[string]*types.LoadBalancer{}, map[string]*types.Listener{}
		s.tags = map[string]map[string]string{}
		s.ctx, s.cancel = context.WithCancel(context.Background())
		c.closers = append(c.closers, func() error {
			s.cancel()
			s.work.Wait()
			return nil
		})
	}
	return s
}

// elbARN makes an ARN with a part that no other has.
func (c *Call) elbARN(kind, name string) string {
	c.ids++
	return fmt.Sprintf("arn:aws:elasticloadbalancing:%s:%s:%s/%s/%016x", c.Name, c.Region.Account, kind, name, c.ids)
}

func (s *elbState) tag(arn string, tags []types.Tag) {
	if s.tags[arn] == nil {
		s.tags[arn] = map[string]string{}
	}
	for _, t := range tags {
		s.tags[arn][aws.ToString(t.Key)] = aws.ToString(t.Value)
	}
}

// group finds a target group.
func (s *elbState) group(arn *string) (*targetGroup, error) {
	g := s.groups[aws.ToString(arn)]
	if g == nil {
		return nil, fault("TargetGroupNotFound", "Target groups '%s' not found", aws.ToString(arn))
	}
	return g, nil
}

// used are the load balancers whose listeners forward to a group.
func (s *elbState) used(g *targetGroup) []string {
	var arns []string
	for _, l := range byID(s.listeners) {
		for _, a := range l.DefaultActions {
			if aws.ToString(a.TargetGroupArn) == *g.TargetGroupArn && !slices.Contains(arns, *l.LoadBalancerArn) {
				arns = append(arns, *l.LoadBalancerArn)
			}
		}
	}
	return arns
}

// createTargetGroup fills in the defaults; the same again is the group that is there, another one of the name is
// DuplicateTargetGroupName (API_CreateTargetGroup.html).
func (c *Call) createTargetGroup(in *elb.CreateTargetGroupInput) (*elb.CreateTargetGroupOutput, error) {
	s, name := c.elb(), aws.ToString(in.Name)
	if name == "" || len(name) > 32 || in.Port == nil || in.Protocol == "" || in.VpcId == nil {
		return nil, fault("ValidationError", "A target group needs a name of at most 32 characters, a protocol, a port and a VPC")
	}
	g := types.TargetGroup{
		TargetGroupName: in.Name, Port: in.Port, Protocol: in.Protocol, VpcId: in.VpcId, TargetType: cmp.Or(in.TargetType, types.TargetTypeEnumInstance),
		HealthCheckEnabled: aws.Bool(true), HealthCheckPort: aws.String(cmp.Or(aws.ToString(in.HealthCheckPort), "traffic-port")),
		HealthCheckProtocol: cmp.Or(in.HealthCheckProtocol, in.Protocol), HealthCheckIntervalSeconds: aws.Int32(cmp.Or(aws.ToInt32(in.HealthCheckIntervalSeconds), 30)),
		HealthCheckTimeoutSeconds: aws.Int32(cmp.Or(aws.ToInt32(in.HealthCheckTimeoutSeconds), 5)), UnhealthyThresholdCount: aws.Int32(cmp.Or(aws.ToInt32(in.UnhealthyThresholdCount), 2)),
		HealthyThresholdCount: aws.Int32(cmp.Or(aws.ToInt32(in.HealthyThresholdCount), 5)), IpAddressType: types.TargetGroupIpAddressTypeEnumIpv4,
	}
	if g.HealthCheckProtocol == types.ProtocolEnumHttp || g.HealthCheckProtocol == types.ProtocolEnumHttps {
		g.HealthCheckPath, g.Matcher = aws.String(cmp.Or(aws.ToString(in.HealthCheckPath), "/")), &types.Matcher{HttpCode: aws.String("200")}
		if in.Matcher != nil {
			g.Matcher = in.Matcher
		}
	}
	for _, other := range s.groups {
		if *other.TargetGroupName != name {
			continue
		}
		g.TargetGroupArn = other.TargetGroupArn
		if printable(reflect.ValueOf(g)) != printable(reflect.ValueOf(other.TargetGroup)) {
			return nil, fault("DuplicateTargetGroupName", "A target group with the same name '%s' exists, but with different settings", name)
		}
		return &elb.CreateTargetGroupOutput{TargetGroups: []types.TargetGroup{s.show(other)}}, nil
	}
	g.TargetGroupArn = aws.String(c.elbARN("targetgroup", name))
	s.groups[*g.TargetGroupArn] = &targetGroup{TargetGroup: g, targets: map[string]*elbTarget{}}
	s.tag(*g.TargetGroupArn, in.Tags)
	return &elb.CreateTargetGroupOutput{TargetGroups: []types.TargetGroup{g}}, nil
}

// show completes a group with what uses it.
func (s *elbState) show(g *targetGroup) types.TargetGroup {
	out := g.TargetGroup
	out.LoadBalancerArns = s.used(g)
	return out
}

func (c *Call) describeTargetGroups(in *elb.DescribeTargetGroupsInput) (*elb.DescribeTargetGroupsOutput, error) {
	s := c.elb()
	var all []types.TargetGroup
	found := map[string]bool{}
	for _, g := range byID(s.groups) {
		t := s.show(g)
		if len(in.TargetGroupArns) > 0 && !slices.Contains(in.TargetGroupArns, *t.TargetGroupArn) || len(in.Names) > 0 && !slices.Contains(in.Names, *t.TargetGroupName) ||
			in.LoadBalancerArn != nil && !slices.Contains(t.LoadBalancerArns, *in.LoadBalancerArn) {
			continue
		}
		found[*t.TargetGroupArn], found[*t.TargetGroupName] = true, true
		all = append(all, t)
	}
	for _, id := range append(in.TargetGroupArns, in.Names...) {
		if !found[id] {
			return nil, fault("TargetGroupNotFound", "One or more target groups not found")
		}
	}
	list, next, err := page(c, all, in.PageSize, in.Marker)
	return &elb.DescribeTargetGroupsOutput{TargetGroups: list, NextMarker: next}, err
}

// createLoadBalancer makes one that is provisioning for a while (API_CreateLoadBalancer.html).
func (c *Call) createLoadBalancer(in *elb.CreateLoadBalancerInput) (*elb.CreateLoadBalancerOutput, error) {
	s, name := c.elb(), aws.ToString(in.Name)
	if name == "" || len(name) > 32 {
		return nil, fault("ValidationError", "A load balancer needs a name of at most 32 characters")
	}
	for _, b := range s.balancers {
		if *b.LoadBalancerName == name {
			return &elb.CreateLoadBalancerOutput{LoadBalancers: []types.LoadBalancer{c.showBalancer(b)}}, nil
		}
	}
	kind, short := cmp.Or(in.Type, types.LoadBalancerTypeEnumApplication), "app"
	if kind == types.LoadBalancerTypeEnumNetwork {
		short = "net"
	}
	b := &types.LoadBalancer{LoadBalancerName: &name, LoadBalancerArn: aws.String(c.elbARN("loadbalancer/"+short, name)), CreatedTime: aws.Time(c.Now), Type: kind,
		Scheme: cmp.Or(in.Scheme, types.LoadBalancerSchemeEnumInternetFacing), DNSName: aws.String(fmt.Sprintf("%s-%010d.%s.elb.amazonaws.com", strings.ToLower(name), c.ids, c.Name))}
	s.balancers[*b.LoadBalancerArn] = b
	s.tag(*b.LoadBalancerArn, in.Tags)
	return &elb.CreateLoadBalancerOutput{LoadBalancers: []types.LoadBalancer{c.showBalancer(b)}}, nil
}

func (c *Call) showBalancer(b *types.LoadBalancer) types.LoadBalancer {
	out := *b
	out.State = &types.LoadBalancerState{Code: types.LoadBalancerStateEnumActive}
	if c.Now.Before(b.CreatedTime.Add(c.Delay("balancer"))) {
		out.State.Code = types.LoadBalancerStateEnumProvisioning
	}
	return out
}

func (c *Call) describeLoadBalancers(in *elb.DescribeLoadBalancersInput) (*elb.DescribeLoadBalancersOutput, error) {
	var all []types.LoadBalancer
	for _, b := range byID(c.elb().balancers) {
		if (len(in.LoadBalancerArns) == 0 || slices.Contains(in.LoadBalancerArns, *b.LoadBalancerArn)) && (len(in.Names) == 0 || slices.Contains(in.Names, *b.LoadBalancerName)) {
			all = append(all, c.showBalancer(b))
		}
	}
	if len(all) < len(in.LoadBalancerArns)+len(in.Names) {
		return nil, fault("LoadBalancerNotFound", "One or more load balancers not found")
	}
	list, next, err := page(c, all, in.PageSize, in.Marker)
	return &elb.DescribeLoadBalancersOutput{LoadBalancers: list, NextMarker: next}, err
}

// createListener makes a listener that forwards to groups (API_CreateListener.html).
func (c *Call) createListener(in *elb.CreateListenerInput) (*elb.CreateListenerOutput, error) {
	s := c.elb()
	b := s.balancers[aws.ToString(in.LoadBalancerArn)]
	if b == nil {
		return nil, fault("LoadBalancerNotFound", "Load balancer '%s' not found", aws.ToString(in.LoadBalancerArn))
	}
	for _, a := range in.DefaultActions {
		if a.Type != types.ActionTypeEnumForward {
			return nil, fault("ValidationError", "This double has actions of type forward only")
		}
		if _, err := s.group(a.TargetGroupArn); err != nil {
			return nil, err
		}
	}
	for _, l := range s.listeners {
		if *l.LoadBalancerArn == *in.LoadBalancerArn && aws.ToInt32(l.Port) == aws.ToInt32(in.Port) {
			return nil, fault("DuplicateListener", "A listener already exists on this port for this load balancer")
		}
	}
	_, rest, _ := strings.Cut(*b.LoadBalancerArn, "loadbalancer/")
	l := &types.Listener{ListenerArn: aws.String(c.elbARN("listener", rest)), LoadBalancerArn: in.LoadBalancerArn, Port: in.Port, Protocol: in.Protocol, DefaultActions: in.DefaultActions}
	s.listeners[*l.ListenerArn] = l
	return &elb.CreateListenerOutput{Listeners: []types.Listener{*l}}, nil
}

// registerTargets checks that instances run, in the group's VPC; a port may be another than the group's
// (API_RegisterTargets.html).
func (c *Call) registerTargets(in *elb.RegisterTargetsInput) (*elb.RegisterTargetsOutput, error) {
	s := c.elb()
	g, err := s.group(in.TargetGroupArn)
	if err != nil {
		return nil, err
	}
	for _, t := range in.Targets {
		if g.TargetType != types.TargetTypeEnumInstance {
			continue
		}
		i := c.compute().instances[aws.ToString(t.Id)]
		switch {
		case i == nil:
			return nil, fault("InvalidTarget", "The following targets are not in the target group VPC '%s': '%s'", *g.VpcId, aws.ToString(t.Id))
		case i.state != "running":
			return nil, fault("InvalidTarget", "The following targets are not in a running state and cannot be registered: '%s'", i.ID)
		case i.iface.subnet.vpc.ID != *g.VpcId:
			return nil, fault("InvalidTarget", "The following targets are not in the target group VPC '%s': '%s'", *g.VpcId, i.ID)
		}
	}
	if len(g.targets)+len(in.Targets) > c.quota("targets", 1000) { // per target group: load-balancer-limits.html
		return nil, fault("TooManyTargets", "The maximum number of targets of the target group has been reached")
	}
	for _, t := range in.Targets {
		s.register(c, g, aws.ToString(t.Id), cmp.Or(aws.ToInt32(t.Port), *g.Port))
	}
	return &elb.RegisterTargetsOutput{}, nil
}

// deregisterTargets lets targets drain; one that is not registered is fine (API_DeregisterTargets.html).
func (c *Call) deregisterTargets(in *elb.DeregisterTargetsInput) (*elb.DeregisterTargetsOutput, error) {
	g, err := c.elb().group(in.TargetGroupArn)
	if err != nil {
		return nil, err
	}
	for _, d := range in.Targets {
		for _, t := range g.targets {
			if t.id == aws.ToString(d.Id) && (d.Port == nil || *d.Port == t.port) && t.gone.IsZero() {
				t.stop()
				t.gone = c.Now.Add(c.Delay("drain"))
			}
		}
	}
	return &elb.DeregisterTargetsOutput{}, nil
}

func (c *Call) describeTargetHealth(in *elb.DescribeTargetHealthInput) (*elb.DescribeTargetHealthOutput, error) {
	s := c.elb()
	g, err := s.group(in.TargetGroupArn)
	if err != nil {
		return nil, err
	}
	out := &elb.DescribeTargetHealthOutput{TargetHealthDescriptions: []types.TargetHealthDescription{}}
	for _, key := range sortedKeys(g.targets) {
		t := g.targets[key]
		if t.drained(c.Now) {
			delete(g.targets, key)
			continue
		}
		out.TargetHealthDescriptions = append(out.TargetHealthDescriptions, types.TargetHealthDescription{HealthCheckPort: aws.String(strconv.Itoa(int(g.checkPort(t)))),
			Target: &types.TargetDescription{Id: &t.id, Port: &t.port}, TargetHealth: c.targetHealth(s, g, t)})
	}
	return out, nil
}

func init() {
	on(elbService, "CreateTargetGroup", (*Call).createTargetGroup)
	on(elbService, "DescribeTargetGroups", (*Call).describeTargetGroups)
	on(elbService, "CreateLoadBalancer", (*Call).createLoadBalancer)
	on(elbService, "DescribeLoadBalancers", (*Call).describeLoadBalancers)
	on(elbService, "CreateListener", (*Call).createListener)
	on(elbService, "RegisterTargets", (*Call).registerTargets)
	on(elbService, "DeregisterTargets", (*Call).deregisterTargets)
	on(elbService, "DescribeTargetHealth", (*Call).describeTargetHealth)
	on(elbService, "AddTags", func(c *Call, in *elb.AddTagsInput) (*elb.AddTagsOutput, error) {
		for _, arn := range in.ResourceArns {
			if c.elb().tags[arn] == nil {
				return nil, fault("TargetGroupNotFound", "Resource '%s' not found", arn)
			}
			c.elb().tag(arn, in.Tags)
		}
		return &elb.AddTagsOutput{}, nil
	})
	// 20 resources at once: API_DescribeTags.html.
	on(elbService, "DescribeTags", func(c *Call, in *elb.DescribeTagsInput) (*elb.DescribeTagsOutput, error) {
		out := &elb.DescribeTagsOutput{TagDescriptions: []types.TagDescription{}}
		if len(in.ResourceArns) > 20 {
			return nil, fault("ValidationError", "Up to 20 resources can be described at once")
		}
		for _, arn := range in.ResourceArns {
			tags := c.elb().tags[arn]
			if tags == nil {
				return nil, fault("TargetGroupNotFound", "Resource '%s' not found", arn)
			}
			d := types.TagDescription{ResourceArn: &arn, Tags: []types.Tag{}}
			for _, k := range sortedKeys(tags) {
				d.Tags = append(d.Tags, types.Tag{Key: &k, Value: aws.String(tags[k])})
			}
			out.TagDescriptions = append(out.TagDescriptions, d)
		}
		return out, nil
	})
}
