package aws

import (
	"context"
	"fmt"
	"slices"
	"strings"

	awssdk "github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/ec2"
	"github.com/aws/aws-sdk-go-v2/service/ec2/types"
	elb "github.com/aws/aws-sdk-go-v2/service/elasticloadbalancingv2"
	elbtypes "github.com/aws/aws-sdk-go-v2/service/elasticloadbalancingv2/types"

	"lifeboat/activities/cloud"
)

// A load balancer of the contract is a target group of Elastic Load Balancing, with the address of the load balancer
// that forwards to it. Its targets are instances, or private addresses of instances; all have the same weight.

const (
	kindBalancer = cloud.Kind("load balancer")
	// tagsAtOnce is how many resources DescribeTags takes
	// (https://docs.aws.amazon.com/elasticloadbalancing/latest/APIReference/API_DescribeTags.html).
	tagsAtOnce = 20
)

// listPages follows the pages of a listing of any service to its end.
func listPages[O, P, R any](ctx context.Context, pages interface {
	HasMorePages() bool
	NextPage(ctx context.Context, options ...func(*P)) (*O, error)
}, items func(*O) []R) ([]R, error) {
	var all []R
	for pages.HasMorePages() {
		out, err := pages.NextPage(ctx)
		if err != nil {
			return nil, err
		}
		all = append(all, items(out)...)
	}
	return all, nil
}

func (p *Provider) elb() *elb.Client {
	return p.clients.elb.get(func() *elb.Client { return elb.NewFromConfig(p.config) })
}

// targetGroups describes groups by ARN or name; "" is all.
func (p *Provider) targetGroups(ctx context.Context, op, idOrName string) ([]elbtypes.TargetGroup, error) {
	in := &elb.DescribeTargetGroupsInput{}
	switch {
	case strings.HasPrefix(idOrName, "arn:"):
		in.TargetGroupArns = []string{idOrName}
	case idOrName != "":
		in.Names = []string{idOrName}
	}
	list, err := listPages(ctx, elb.NewDescribeTargetGroupsPaginator(p.elb(), in), func(o *elb.DescribeTargetGroupsOutput) []elbtypes.TargetGroup { return o.TargetGroups })
	return list, awsError(op, "target group "+idOrName, err)
}

// targetGroup finds one group.
func (p *Provider) targetGroup(ctx context.Context, op, idOrName string) (elbtypes.TargetGroup, error) {
	if idOrName == "" {
		return elbtypes.TargetGroup{}, notFound(op, kindBalancer, idOrName)
	}
	list, err := p.targetGroups(ctx, op, idOrName)
	switch {
	case err != nil:
		return elbtypes.TargetGroup{}, err
	case len(list) == 0:
		return elbtypes.TargetGroup{}, notFound(op, kindBalancer, idOrName)
	}
	return list[0], nil
}

// balancerTags reads the tags of target groups, by ARN.
func (p *Provider) balancerTags(ctx context.Context, op string, groups []elbtypes.TargetGroup) (map[string]map[string]string, error) {
	all := map[string]map[string]string{}
	for chunk := range slices.Chunk(groups, tagsAtOnce) {
		in := &elb.DescribeTagsInput{}
		for _, g := range chunk {
			in.ResourceArns = append(in.ResourceArns, awssdk.ToString(g.TargetGroupArn))
		}
		out, err := p.elb().DescribeTags(ctx, in)
		if err != nil {
			return nil, awsError(op, "tags of target groups", err)
		}
		for _, d := range out.TagDescriptions {
			tags := map[string]string{}
			for _, t := range d.Tags {
				tags[awssdk.ToString(t.Key)] = awssdk.ToString(t.Value)
			}
			all[awssdk.ToString(d.ResourceArn)] = tags
		}
	}
	return all, nil
}

// LoadBalancer finds a target group by ARN or name, with its back ends and their health. Targets that drain get no new
// requests and are not listed; Message counts them.
func (p *Provider) LoadBalancer(ctx context.Context, idOrName string) (cloud.LoadBalancer, error) {
	const op = "LoadBalancer"
	g, err := p.targetGroup(ctx, op, idOrName)
	if err != nil {
		return cloud.LoadBalancer{}, err
	}
	tags, err := p.balancerTags(ctx, op, []elbtypes.TargetGroup{g})
	if err != nil {
		return cloud.LoadBalancer{}, err
	}
	return p.loadBalancer(ctx, op, g, tags[awssdk.ToString(g.TargetGroupArn)])
}

// LoadBalancers lists the target groups of the region.
func (p *Provider) LoadBalancers(ctx context.Context, f cloud.Filter) ([]cloud.LoadBalancer, error) {
	const op = "LoadBalancers"
	groups, err := p.targetGroups(ctx, op, "")
	if err != nil {
		return nil, err
	}
	tags, err := p.balancerTags(ctx, op, groups)
	if err != nil {
		return nil, err
	}
	all := []cloud.LoadBalancer{}
	for _, g := range groups {
		t := tags[awssdk.ToString(g.TargetGroupArn)]
		if !f.Match(t) {
			continue
		}
		b, err := p.loadBalancer(ctx, op, g, t)
		if cloud.IsNotFound(err) { // deleted meanwhile
			continue
		}
		if err != nil {
			return nil, err
		}
		all = append(all, b)
	}
	return all, nil
}

// loadBalancer completes a group: with the address of what forwards to it, and the health of its targets.
func (p *Provider) loadBalancer(ctx context.Context, op string, g elbtypes.TargetGroup, tags map[string]string) (cloud.LoadBalancer, error) {
	b := cloud.LoadBalancer{Resource: resourceOf(awssdk.ToString(g.TargetGroupArn), cloud.Available, "", tags, nil), Backends: []cloud.Backend{}}
	b.Name = awssdk.ToString(g.TargetGroupName)
	if len(g.LoadBalancerArns) == 0 {
		b.Message = "no load balancer forwards to it"
	} else {
		out, err := p.elb().DescribeLoadBalancers(ctx, &elb.DescribeLoadBalancersInput{LoadBalancerArns: g.LoadBalancerArns[:1]})
		if err != nil {
			return b, awsError(op, "load balancer "+g.LoadBalancerArns[0], err)
		}
		if len(out.LoadBalancers) > 0 {
			lb := out.LoadBalancers[0]
			b.Address, b.Created = awssdk.ToString(lb.DNSName), awssdk.ToTime(lb.CreatedTime).UTC()
			b.State, b.Message = balancerState(lb.State)
		}
	}
	targets, draining, err := p.targets(ctx, op, g)
	if err != nil {
		return b, err
	}
	if draining > 0 {
		b.Message = strings.TrimPrefix(fmt.Sprintf("%s; %d targets drain", b.Message, draining), "; ")
	}
	for _, t := range targets {
		b.Backends = append(b.Backends, t.backend)
	}
	return b, nil
}

// balancerState maps the states of
// https://docs.aws.amazon.com/elasticloadbalancing/latest/APIReference/API_LoadBalancerState.html
func balancerState(s *elbtypes.LoadBalancerState) (cloud.State, string) {
	if s == nil {
		return cloud.Available, ""
	}
	switch s.Code {
	case elbtypes.LoadBalancerStateEnumProvisioning:
		return cloud.Creating, ""
	case elbtypes.LoadBalancerStateEnumFailed:
		return cloud.Failing, clean(awssdk.ToString(s.Reason))
	}
	return cloud.Available, clean(awssdk.ToString(s.Reason))
}

// target is a target of a group, as both sides call it.
type target struct {
	id      string // instance or address
	backend cloud.Backend
}

// targets reads the health of a group's targets, and counts those that drain.
func (p *Provider) targets(ctx context.Context, op string, g elbtypes.TargetGroup) (list []target, draining int, err error) {
	resource := "target group " + awssdk.ToString(g.TargetGroupName)
	out, err := p.elb().DescribeTargetHealth(ctx, &elb.DescribeTargetHealthInput{TargetGroupArn: g.TargetGroupArn})
	if err != nil {
		return nil, 0, awsError(op, resource, err)
	}
	var addresses []string
	for _, d := range out.TargetHealthDescriptions {
		if d.TargetHealth.State == elbtypes.TargetHealthStateEnumDraining {
			draining++
			continue
		}
		t := target{id: awssdk.ToString(d.Target.Id)}
		t.backend = cloud.Backend{Server: t.id, Port: int(awssdk.ToInt32(d.Target.Port)), Weight: 1, Healthy: d.TargetHealth.State == elbtypes.TargetHealthStateEnumHealthy}
		if !t.backend.Healthy {
			t.backend.Reason = healthReason(d.TargetHealth)
		}
		addresses, list = append(addresses, t.id), append(list, t)
	}
	if g.TargetType != elbtypes.TargetTypeEnumIp || len(list) == 0 {
		return list, draining, nil
	}
	// Addresses that belong to no server of the region are called by themselves.
	instances, err := listAll(ctx, ec2.NewDescribeInstancesPaginator(p.ec2(), &ec2.DescribeInstancesInput{MaxResults: awssdk.Int32(pageSize),
		Filters: []types.Filter{filter("private-ip-address", addresses...), filter("vpc-id", awssdk.ToString(g.VpcId))}}),
		func(o *ec2.DescribeInstancesOutput) (list []types.Instance) {
			for _, r := range o.Reservations {
				list = append(list, r.Instances...)
			}
			return list
		})
	if err != nil {
		return nil, 0, awsError(op, "servers behind target group "+awssdk.ToString(g.TargetGroupName), err)
	}
	for n := range list {
		for _, i := range instances {
			if awssdk.ToString(i.PrivateIpAddress) == list[n].id {
				list[n].backend.Server = awssdk.ToString(i.InstanceId)
			}
		}
	}
	return list, draining, nil
}

// healthReason says why a target is not healthy.
func healthReason(h *elbtypes.TargetHealth) string {
	reason := string(h.State)
	if text := awssdk.ToString(h.Description); text != "" {
		reason += ": " + clean(text)
	}
	if h.Reason != "" {
		reason += " (" + string(h.Reason) + ")"
	}
	return reason
}

// StartSetBackends registers what is missing, and then deregisters what is too much: there are back ends all the time.
// The token is checked only: doing it twice is doing it once. Servers have to run before they can be registered.
func (p *Provider) StartSetBackends(ctx context.Context, id, token string, backends []cloud.Backend) error {
	const op = "StartSetBackends"
	if err := cloud.CheckToken(op, kindBalancer, token); err != nil {
		return err
	}
	g, err := p.targetGroup(ctx, op, id)
	if err != nil {
		return err
	}
	resource := "target group " + awssdk.ToString(g.TargetGroupName)
	wanted, err := p.wantedTargets(ctx, op, resource, g, backends)
	if err != nil {
		return err
	}
	there, _, err := p.targets(ctx, op, g)
	if err != nil {
		return err
	}
	same := func(a, b target) bool { return a.id == b.id && a.backend.Port == b.backend.Port }
	without := func(list, other []target) (out []elbtypes.TargetDescription) {
		for _, t := range list {
			if !slices.ContainsFunc(other, func(o target) bool { return same(t, o) }) {
				out = append(out, elbtypes.TargetDescription{Id: awssdk.String(t.id), Port: awssdk.Int32(int32(t.backend.Port))}) //nolint:gosec // a port
			}
		}
		return out
	}
	if missing := without(wanted, there); len(missing) > 0 {
		if _, err := p.elb().RegisterTargets(ctx, &elb.RegisterTargetsInput{TargetGroupArn: g.TargetGroupArn, Targets: missing}); err != nil {
			return p.whyNoTarget(ctx, op, resource, missing, err)
		}
	}
	if extra := without(there, wanted); len(extra) > 0 {
		if _, err := p.elb().DeregisterTargets(ctx, &elb.DeregisterTargetsInput{TargetGroupArn: g.TargetGroupArn, Targets: extra}); err != nil {
			return awsError(op, resource, err)
		}
	}
	return nil
}

// whyNoTarget tells a server that does not run yet from one that can never be a target: AWS calls both InvalidTarget.
func (p *Provider) whyNoTarget(ctx context.Context, op, resource string, targets []elbtypes.TargetDescription, cause error) error {
	if apiCode(cause) != "InvalidTarget" {
		return awsError(op, resource, cause)
	}
	for _, t := range targets {
		id := awssdk.ToString(t.Id)
		if !hasPrefix(id, "i-") {
			continue
		}
		i, err := p.instance(ctx, op, id)
		if err != nil {
			return err
		}
		if s := stateOf(i); s != types.InstanceStateNameRunning {
			return cloud.E(cloud.NotReady, op, "server "+id, "is "+string(s)+" and cannot be a back end", "wait until it runs, or start it", cause)
		}
	}
	return awsError(op, resource, cause)
}

// wantedTargets are back ends as the group calls them.
func (p *Provider) wantedTargets(ctx context.Context, op, resource string, g elbtypes.TargetGroup, backends []cloud.Backend) ([]target, error) {
	if g.TargetType != elbtypes.TargetTypeEnumInstance && g.TargetType != elbtypes.TargetTypeEnumIp {
		return nil, cloud.E(cloud.Unsupported, op, resource, "its targets are of type "+string(g.TargetType), "use one whose targets are instances or addresses", nil)
	}
	var wanted []target
	for _, b := range backends {
		t := target{id: b.Server, backend: b}
		if t.backend.Port == 0 {
			t.backend.Port = int(awssdk.ToInt32(g.Port))
		}
		switch {
		case b.Server == "" || t.backend.Port < 1 || t.backend.Port > 65535:
			return nil, invalid(op, resource, fmt.Sprintf("a back end needs a server and a port, not %q and %d", b.Server, b.Port), "correct it")
		case b.Weight != backends[0].Weight:
			return nil, cloud.E(cloud.Unsupported, op, resource, "targets of a group have no weights of their own", "give all the same weight, or share the traffic between groups", nil)
		}
		if g.TargetType == elbtypes.TargetTypeEnumIp && hasPrefix(b.Server, "i-") {
			i, err := p.instance(ctx, op, b.Server)
			if err != nil {
				return nil, err
			}
			if t.id = awssdk.ToString(i.PrivateIpAddress); t.id == "" || stateOf(i) == types.InstanceStateNameTerminated {
				return nil, cloud.E(cloud.Conflict, op, "server "+b.Server, "has no private address", "choose a server that runs", nil)
			}
		}
		wanted = append(wanted, t)
	}
	return wanted, nil
}
