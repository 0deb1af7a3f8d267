package awstest

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/autoscaling"
	"github.com/aws/aws-sdk-go-v2/service/autoscaling/types"
	"github.com/aws/aws-sdk-go-v2/service/ec2"
	ec2types "github.com/aws/aws-sdk-go-v2/service/ec2/types"
)

// scalingService is Amazon EC2 Auto Scaling: https://docs.aws.amazon.com/autoscaling/ec2/APIReference/
// Groups launch instances of EC2 from launch configurations. There are no policies, hooks or warm pools.
var scalingService = serve("autoscaling", queryWire{})

// scalingState is what an account has of it in a region, by name.
type scalingState struct {
	configurations map[string]*autoscaling.CreateLaunchConfigurationInput
	groups         map[string]*scalingGroup
}

type scalingGroup struct {
	types.AutoScalingGroup
	instances  []string // that belong to it, the oldest first
	activities []types.Activity
	deleting   bool
}

func (c *Call) scaling() *scalingState {
	s := part[scalingState](c.Region)
	if s.groups == nil {
		s.configurations, s.groups = map[string]*autoscaling.CreateLaunchConfigurationInput{}, map[string]*scalingGroup{}
	}
	return s
}

func (c *Call) scalingGroup(name *string) (*scalingGroup, error) {
	g := c.scaling().groups[aws.ToString(name)]
	if g == nil {
		return nil, fault("ValidationError", "AutoScalingGroup name not found - null")
	}
	return g, nil
}

// checkSizes refuses what cannot be (API_UpdateAutoScalingGroup.html; the texts are the service's).
func checkSizes(least, desired, most int32) error {
	switch {
	case least < 0 || most < least:
		return fault("ValidationError", "Max bound, %d, must be greater than or equal to min bound, %d", most, least)
	case desired > most:
		return fault("ValidationError", "Desired capacity:%d must be between the specified min size:%d and max size:%d", desired, least, most)
	case desired < least:
		return fault("ValidationError", "Desired capacity:%d must be between the specified min size:%d and max size:%d", desired, least, most)
	}
	return nil
}

// createScalingGroup is API_CreateAutoScalingGroup.html.
func (c *Call) createScalingGroup(in *autoscaling.CreateAutoScalingGroupInput) (*autoscaling.CreateAutoScalingGroupOutput, error) {
	s, name := c.scaling(), aws.ToString(in.AutoScalingGroupName)
	switch {
	case name == "" || in.MinSize == nil || in.MaxSize == nil:
		return nil, fault("ValidationError", "A group needs a name and its sizes")
	case s.groups[name] != nil:
		return nil, fault("AlreadyExists", "AutoScalingGroup by this name already exists - A group with the name %s already exists", name)
	case s.configurations[aws.ToString(in.LaunchConfigurationName)] == nil:
		return nil, fault("ValidationError", "Launch configuration name not found - %s", aws.ToString(in.LaunchConfigurationName))
	case aws.ToString(in.VPCZoneIdentifier) == "":
		return nil, fault("ValidationError", "At least one Availability Zone or VPC Subnet is required.")
	}
	desired := in.DesiredCapacity
	if desired == nil {
		desired = in.MinSize
	}
	if err := checkSizes(*in.MinSize, *desired, *in.MaxSize); err != nil {
		return nil, err
	}
	g := &scalingGroup{AutoScalingGroup: types.AutoScalingGroup{AutoScalingGroupName: in.AutoScalingGroupName, MinSize: in.MinSize, MaxSize: in.MaxSize, DesiredCapacity: desired,
		LaunchConfigurationName: in.LaunchConfigurationName, VPCZoneIdentifier: in.VPCZoneIdentifier, TargetGroupARNs: in.TargetGroupARNs, CreatedTime: aws.Time(c.Now),
		DefaultCooldown: aws.Int32(300), HealthCheckType: aws.String(cmp.Or(aws.ToString(in.HealthCheckType), "EC2"))}}
	c.ids++
	g.AutoScalingGroupARN = aws.String(fmt.Sprintf("arn:aws:autoscaling:%s:%s:autoScalingGroup:00000000-0000-4000-b000-%012x:autoScalingGroupName/%s", c.Name, c.Region.Account, c.ids, name))
	for _, t := range in.Tags {
		g.Tags = append(g.Tags, types.TagDescription{Key: t.Key, Value: t.Value, PropagateAtLaunch: aws.Bool(aws.ToBool(t.PropagateAtLaunch)), ResourceId: &name, ResourceType: aws.String("auto-scaling-group")})
	}
	s.groups[name] = g
	c.scale(g)
	return &autoscaling.CreateAutoScalingGroupOutput{}, nil
}

// updateScalingGroup sets what is given. A desired capacity that is not given follows a minimum above it, or a maximum
// below it (API_UpdateAutoScalingGroup.html).
func (c *Call) updateScalingGroup(in *autoscaling.UpdateAutoScalingGroupInput) (*autoscaling.UpdateAutoScalingGroupOutput, error) {
	g, err := c.scalingGroup(in.AutoScalingGroupName)
	if err != nil {
		return nil, err
	}
	if g.deleting {
		return nil, fault("ScalingActivityInProgress", "AutoScalingGroup %s is being deleted", *g.AutoScalingGroupName)
	}
	least, desired, most := *g.MinSize, *g.DesiredCapacity, *g.MaxSize
	if in.MinSize != nil {
		least = *in.MinSize
	}
	if in.MaxSize != nil {
		most = *in.MaxSize
	}
	if in.DesiredCapacity != nil {
		desired = *in.DesiredCapacity
	} else {
		desired = min(max(desired, least), most)
	}
	if err := checkSizes(least, desired, most); err != nil {
		return nil, err
	}
	g.MinSize, g.DesiredCapacity, g.MaxSize = &least, &desired, &most
	c.scale(g)
	return &autoscaling.UpdateAutoScalingGroupOutput{}, nil
}

// scale launches and terminates until the group has what it wants. What ended by itself is replaced; a launch that
// fails is an activity, and is tried again when the group is looked at.
func (c *Call) scale(g *scalingGroup) {
	all := c.compute().instances
	g.instances = slices.DeleteFunc(g.instances, func(id string) bool {
		i := all[id]
		return i == nil || i.wish == wishTerminated || i.wish == wishStopped
	})
	for len(g.instances) < int(*g.DesiredCapacity) {
		id, err := c.launchForGroup(g)
		a := g.activity(c, "Launching a new EC2 instance")
		if err != nil {
			a.StatusCode, a.StatusMessage = types.ScalingActivityStatusCodeFailed, aws.String(asFault(err).Message+" Launching EC2 instance failed.")
			if n := len(g.activities); n == 0 || aws.ToString(g.activities[n-1].StatusMessage) != *a.StatusMessage {
				g.activities = append(g.activities, a)
			}
			return
		}
		*a.Description += ": " + id
		g.activities, g.instances = append(g.activities, a), append(g.instances, id)
	}
	for len(g.instances) > int(*g.DesiredCapacity) {
		id := g.instances[0] // the default policy takes the oldest launch configuration, and so the oldest
		if _, err := c.terminateInstances(&ec2.TerminateInstancesInput{InstanceIds: []string{id}}); err != nil {
			return // protected against it
		}
		a := g.activity(c, "Terminating EC2 instance: "+id)
		g.activities, g.instances = append(g.activities, a), g.instances[1:]
		c.leaveTargetGroups(g, id)
	}
}

func (g *scalingGroup) activity(c *Call, description string) types.Activity {
	c.ids++
	return types.Activity{ActivityId: aws.String(fmt.Sprintf("00000000-0000-4000-c000-%012x", c.ids)), AutoScalingGroupName: g.AutoScalingGroupName, Description: &description,
		Cause: aws.String("At " + c.Now.UTC().Format(time.RFC3339) + " the group did not have its desired capacity."), StartTime: aws.Time(c.Now), EndTime: aws.Time(c.Now),
		StatusCode: types.ScalingActivityStatusCodeSuccessful, Progress: aws.Int32(100)}
}

// launchForGroup launches one instance through EC2, in the subnet that has the fewest.
func (c *Call) launchForGroup(g *scalingGroup) (string, error) {
	lc := c.scaling().configurations[*g.LaunchConfigurationName]
	if lc == nil {
		return "", fault("ValidationError", "Launch configuration name not found - %s.", *g.LaunchConfigurationName)
	}
	count := map[string]int{}
	for _, id := range g.instances {
		if i := c.compute().instances[id]; i.iface != nil {
			count[i.iface.subnet.ID]++
		}
	}
	subnets := strings.Split(*g.VPCZoneIdentifier, ",")
	subnet := slices.MinFunc(subnets, func(a, b string) int { return cmp.Compare(count[strings.TrimSpace(a)], count[strings.TrimSpace(b)]) })
	in := &ec2.RunInstancesInput{MinCount: aws.Int32(1), MaxCount: aws.Int32(1), ImageId: lc.ImageId, InstanceType: ec2types.InstanceType(aws.ToString(lc.InstanceType)),
		KeyName: lc.KeyName, UserData: lc.UserData, SubnetId: aws.String(strings.TrimSpace(subnet)), SecurityGroupIds: lc.SecurityGroups}
	if p := lc.IamInstanceProfile; p != nil {
		in.IamInstanceProfile = &ec2types.IamInstanceProfileSpecification{Name: p}
		if strings.HasPrefix(*p, "arn:") {
			in.IamInstanceProfile = &ec2types.IamInstanceProfileSpecification{Arn: p}
		}
	}
	tags := []ec2types.Tag{{Key: aws.String("aws:autoscaling:groupName"), Value: g.AutoScalingGroupName}}
	for _, t := range g.Tags {
		if *t.PropagateAtLaunch {
			tags = append(tags, ec2types.Tag{Key: t.Key, Value: t.Value})
		}
	}
	in.TagSpecifications = []ec2types.TagSpecification{{ResourceType: ec2types.ResourceTypeInstance, Tags: tags}}
	out, err := c.runInstances(in)
	if err != nil {
		return "", err
	}
	return *out.Instances[0].InstanceId, nil
}

// joinTargetGroups registers an instance that is in service
// (https://docs.aws.amazon.com/autoscaling/ec2/userguide/attach-load-balancer-asg.html).
func (c *Call) joinTargetGroups(g *scalingGroup, id string) {
	for _, arn := range g.TargetGroupARNs {
		if t := c.elb().groups[arn]; t != nil {
			c.elb().register(c, t, id, *t.Port)
		}
	}
}

func (c *Call) leaveTargetGroups(g *scalingGroup, id string) {
	for _, arn := range g.TargetGroupARNs {
		if t := c.elb().groups[arn]; t != nil {
			for _, x := range t.targets {
				if x.id == id && x.gone.IsZero() {
					x.stop()
					x.gone = c.Now.Add(c.Delay("drain"))
				}
			}
		}
	}
}

// lifecycle is the state of an instance
// (https://docs.aws.amazon.com/autoscaling/ec2/userguide/ec2-auto-scaling-lifecycle.html).
func lifecycle(i *instance) types.LifecycleState {
	switch i.state {
	case ec2types.InstanceStateNamePending:
		return types.LifecycleStatePending
	case ec2types.InstanceStateNameRunning:
		return types.LifecycleStateInService
	case ec2types.InstanceStateNameTerminated:
		return types.LifecycleStateTerminated
	}
	return types.LifecycleStateTerminating
}

func (c *Call) showScalingGroup(g *scalingGroup) types.AutoScalingGroup {
	c.scale(g)
	out := g.AutoScalingGroup
	out.Instances = []types.Instance{}
	if g.deleting {
		out.Status = aws.String("Delete in progress")
	}
	for _, id := range g.instances {
		i := c.compute().instances[id]
		x := types.Instance{InstanceId: &i.ID, AvailabilityZone: &i.placement, LifecycleState: lifecycle(i), HealthStatus: aws.String("Healthy"), InstanceType: &i.kind.name,
			ProtectedFromScaleIn: aws.Bool(false), LaunchConfigurationName: g.LaunchConfigurationName}
		if x.LifecycleState == types.LifecycleStateInService {
			c.joinTargetGroups(g, id)
		}
		out.Instances = append(out.Instances, x)
	}
	return out
}

// describeScalingGroups lists groups; a name that is not there is left out (API_DescribeAutoScalingGroups.html).
func (c *Call) describeScalingGroups(in *autoscaling.DescribeAutoScalingGroupsInput) (*autoscaling.DescribeAutoScalingGroupsOutput, error) {
	var all []types.AutoScalingGroup
	for _, g := range byID(c.scaling().groups) {
		if len(in.AutoScalingGroupNames) > 0 && !slices.Contains(in.AutoScalingGroupNames, *g.AutoScalingGroupName) {
			continue
		}
		shown := c.showScalingGroup(g)
		if g.deleting && len(g.instances) == 0 {
			delete(c.scaling().groups, *g.AutoScalingGroupName)
			continue
		}
		all = append(all, shown)
	}
	list, next, err := page(c, all, cmp.Or(in.MaxRecords, aws.Int32(50)), in.NextToken)
	return &autoscaling.DescribeAutoScalingGroupsOutput{AutoScalingGroups: append([]types.AutoScalingGroup{}, list...), NextToken: next}, err
}

// deleteScalingGroup wants a group without instances, or force (API_DeleteAutoScalingGroup.html).
func (c *Call) deleteScalingGroup(in *autoscaling.DeleteAutoScalingGroupInput) (*autoscaling.DeleteAutoScalingGroupOutput, error) {
	g, err := c.scalingGroup(in.AutoScalingGroupName)
	if err != nil {
		return nil, err
	}
	if len(g.instances) > 0 && !aws.ToBool(in.ForceDelete) {
		return nil, fault("ResourceInUse", "You cannot delete an AutoScalingGroup while there are instances or pending Spot instance request(s) still in the group.")
	}
	g.deleting, g.MinSize, g.DesiredCapacity = true, aws.Int32(0), aws.Int32(0)
	c.scale(g)
	return &autoscaling.DeleteAutoScalingGroupOutput{}, nil
}

func init() {
	on(scalingService, "CreateLaunchConfiguration", func(c *Call, in *autoscaling.CreateLaunchConfigurationInput) (*autoscaling.CreateLaunchConfigurationOutput, error) {
		s, name := c.scaling(), aws.ToString(in.LaunchConfigurationName)
		switch {
		case name == "" || in.ImageId == nil || in.InstanceType == nil:
			return nil, fault("ValidationError", "A launch configuration needs a name, an image and an instance type")
		case s.configurations[name] != nil:
			return nil, fault("AlreadyExists", "Launch Configuration by this name already exists - A launch configuration already exists with the name %s", name)
		}
		s.configurations[name] = in
		return &autoscaling.CreateLaunchConfigurationOutput{}, nil
	})
	on(scalingService, "CreateAutoScalingGroup", (*Call).createScalingGroup)
	on(scalingService, "UpdateAutoScalingGroup", (*Call).updateScalingGroup)
	on(scalingService, "DescribeAutoScalingGroups", (*Call).describeScalingGroups)
	on(scalingService, "DeleteAutoScalingGroup", (*Call).deleteScalingGroup)
	// The newest activity comes first: API_DescribeScalingActivities.html.
	on(scalingService, "DescribeScalingActivities", func(c *Call, in *autoscaling.DescribeScalingActivitiesInput) (*autoscaling.DescribeScalingActivitiesOutput, error) {
		g, err := c.scalingGroup(in.AutoScalingGroupName)
		if err != nil {
			return nil, err
		}
		all := slices.Clone(g.activities)
		slices.Reverse(all)
		list, next, err := page(c, all, cmp.Or(in.MaxRecords, aws.Int32(100)), in.NextToken)
		return &autoscaling.DescribeScalingActivitiesOutput{Activities: append([]types.Activity{}, list...), NextToken: next}, err
	})
}
