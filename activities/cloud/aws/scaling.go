package aws

import (
	"context"
	"fmt"
	"math"

	awssdk "github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/autoscaling"
	"github.com/aws/aws-sdk-go-v2/service/autoscaling/types"

	"lifeboat/activities/cloud"
)

const kindScaling = cloud.Kind("scaling group")

func (p *Provider) scaling() *autoscaling.Client {
	return p.clients.scaling.get(func() *autoscaling.Client { return autoscaling.NewFromConfig(p.config) })
}

// ScalingGroup finds an Auto Scaling group; its name is its identifier. Servers are those in service. While there are
// fewer than desired, Message says why the last launch failed, if it did.
func (p *Provider) ScalingGroup(ctx context.Context, idOrName string) (cloud.ScalingGroup, error) {
	const op = "ScalingGroup"
	g, err := p.autoScalingGroup(ctx, op, idOrName)
	if err != nil {
		return cloud.ScalingGroup{}, err
	}
	return p.describeScaling(ctx, op, g)
}

func (p *Provider) autoScalingGroup(ctx context.Context, op, name string) (types.AutoScalingGroup, error) {
	if name == "" { // AWS would list them all
		return types.AutoScalingGroup{}, notFound(op, kindScaling, name)
	}
	out, err := p.scaling().DescribeAutoScalingGroups(ctx, &autoscaling.DescribeAutoScalingGroupsInput{AutoScalingGroupNames: []string{name}})
	if err != nil {
		return types.AutoScalingGroup{}, awsError(op, "scaling group "+name, err)
	}
	if len(out.AutoScalingGroups) == 0 {
		return types.AutoScalingGroup{}, notFound(op, kindScaling, name)
	}
	return out.AutoScalingGroups[0], nil
}

// ScalingGroups lists the groups of the region.
func (p *Provider) ScalingGroups(ctx context.Context, f cloud.Filter) ([]cloud.ScalingGroup, error) {
	const op = "ScalingGroups"
	list, err := listPages(ctx, autoscaling.NewDescribeAutoScalingGroupsPaginator(p.scaling(), &autoscaling.DescribeAutoScalingGroupsInput{}),
		func(o *autoscaling.DescribeAutoScalingGroupsOutput) []types.AutoScalingGroup {
			return o.AutoScalingGroups
		})
	if err != nil {
		return nil, awsError(op, "scaling groups of site "+p.site.Name, err)
	}
	all := []cloud.ScalingGroup{}
	for _, g := range list {
		if !f.Match(scalingTags(g)) {
			continue
		}
		s, err := p.describeScaling(ctx, op, g)
		if err != nil {
			return nil, err
		}
		all = append(all, s)
	}
	return all, nil
}

func scalingTags(g types.AutoScalingGroup) map[string]string {
	tags := map[string]string{}
	for _, t := range g.Tags {
		tags[awssdk.ToString(t.Key)] = awssdk.ToString(t.Value)
	}
	return tags
}

func (p *Provider) describeScaling(ctx context.Context, op string, g types.AutoScalingGroup) (cloud.ScalingGroup, error) {
	name := awssdk.ToString(g.AutoScalingGroupName)
	s := cloud.ScalingGroup{Resource: resourceOf(name, cloud.Available, "", scalingTags(g), g.CreatedTime), Min: int(awssdk.ToInt32(g.MinSize)), Max: int(awssdk.ToInt32(g.MaxSize)),
		Desired: int(awssdk.ToInt32(g.DesiredCapacity)), Servers: []string{}}
	s.Name = name
	for _, i := range g.Instances {
		if i.LifecycleState == types.LifecycleStateInService && awssdk.ToString(i.HealthStatus) == "Healthy" {
			s.Servers = append(s.Servers, awssdk.ToString(i.InstanceId))
		}
	}
	if g.Status != nil { // set while it is deleted, and then alone
		s.State = cloud.Deleting
		return s, nil
	}
	if len(s.Servers) >= s.Desired {
		return s, nil
	}
	out, err := p.scaling().DescribeScalingActivities(ctx, &autoscaling.DescribeScalingActivitiesInput{AutoScalingGroupName: &name, MaxRecords: awssdk.Int32(1)})
	if err != nil {
		return s, awsError(op, "scaling group "+name, err)
	}
	for _, a := range out.Activities {
		if a.StatusCode == types.ScalingActivityStatusCodeFailed {
			s.Message = clean(awssdk.ToString(a.StatusMessage))
		}
	}
	return s, nil
}

// StartScale sets all three figures in one request. The token is checked only: doing it twice is doing it once.
func (p *Provider) StartScale(ctx context.Context, id, token string, least, desired, most int) error {
	const op = "StartScale"
	resource := "scaling group " + id
	if err := cloud.CheckToken(op, kindScaling, token); err != nil {
		return err
	}
	if least < 0 || desired < least || most < desired || most > math.MaxInt32 {
		return invalid(op, resource, fmt.Sprintf("%d ≤ %d ≤ %d does not hold for minimum, desired and maximum", least, desired, most), "make it hold")
	}
	g, err := p.autoScalingGroup(ctx, op, id)
	if err != nil {
		return err
	}
	n := func(v int) *int32 { return awssdk.Int32(int32(v)) } //nolint:gosec // checked
	if *n(least) == awssdk.ToInt32(g.MinSize) && *n(desired) == awssdk.ToInt32(g.DesiredCapacity) && *n(most) == awssdk.ToInt32(g.MaxSize) {
		return nil
	}
	_, err = p.scaling().UpdateAutoScalingGroup(ctx, &autoscaling.UpdateAutoScalingGroupInput{AutoScalingGroupName: &id, MinSize: n(least), DesiredCapacity: n(desired), MaxSize: n(most)})
	return awsError(op, resource, err)
}
