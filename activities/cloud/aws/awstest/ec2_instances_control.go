package awstest

import (
	"encoding/base64"
	"fmt"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/ec2"
	"github.com/aws/aws-sdk-go-v2/service/ec2/types"
)

// change notes that somebody told an instance to be something else.
func (i *instance) change(c *Call, w wish, state types.InstanceStateName) types.InstanceStateChange {
	out := types.InstanceStateChange{InstanceId: &i.ID, PreviousState: showState(i.state), CurrentState: showState(state)}
	if i.state == state {
		return out
	}
	i.wish, i.state = w, state
	i.reasonCode, i.reason, i.transition = "", "", ""
	if w != wishRunning {
		i.reasonCode, i.reason = "Client.UserInitiatedShutdown", "Client.UserInitiatedShutdown: User initiated shutdown"
		i.transition = fmt.Sprintf("User initiated (%s GMT)", c.Now.UTC().Format("2006-01-02 15:04:05"))
	}
	return out
}

// startInstances starts stopped instances; one that runs stays as it is, one that is stopping is IncorrectInstanceState
// (https://docs.aws.amazon.com/AWSEC2/latest/APIReference/API_StartInstances.html).
func (c *Call) startInstances(in *ec2.StartInstancesInput) (*ec2.StartInstancesOutput, error) {
	s := c.compute()
	all, err := c.instancesOf(in.InstanceIds)
	if err != nil {
		return nil, err
	}
	for _, i := range all {
		if i.state != types.InstanceStateNameStopped && !i.takesRoom() {
			return nil, incorrectState(i, "started")
		}
	}
	if err := dryRun(in.DryRun); err != nil {
		return nil, err
	}
	for _, i := range all {
		if i.state != types.InstanceStateNameStopped {
			continue
		}
		if err := c.canStart(s, i); err != nil {
			return nil, err
		}
	}
	out := &ec2.StartInstancesOutput{}
	for _, i := range all {
		if i.state != types.InstanceStateNameStopped {
			out.StartingInstances = append(out.StartingInstances, i.change(c, wishRunning, i.state))
			continue
		}
		out.StartingInstances = append(out.StartingInstances, i.change(c, wishRunning, types.InstanceStateNamePending))
		i.run, i.launched = i.run+1, c.Now
		c.wake(s, i)
	}
	return out, nil
}

// canStart finds room for a stopped instance, and its root volume.
func (c *Call) canStart(s *computeState, i *instance) error {
	root := false
	for _, v := range c.attachedVolumes(i.ID) {
		root = root || v.attachmentTo(i.ID).device == i.rootDevice
	}
	if !root {
		return fault("IncorrectInstanceState", "Instance '%s' cannot be started: it has no root volume attached at %s", i.ID, i.rootDevice)
	}
	if err := c.checkVCPUs(s, i.kind.vcpus); err != nil {
		return err
	}
	named := ""
	if r := i.reservation; r != nil && r.targeted {
		named = r.ID
	}
	var err error
	i.reservation, err = c.room(s, i.kind, i.placement, named)
	return err
}

func incorrectState(i *instance, done string) *Error {
	return fault("IncorrectInstanceState", "The instance '%s' is not in a state from which it can be %s (%s).", i.ID, done, i.state)
}

// stopInstances stops running instances; one that is stopped stays as it is
// (https://docs.aws.amazon.com/AWSEC2/latest/APIReference/API_StopInstances.html).
func (c *Call) stopInstances(in *ec2.StopInstancesInput) (*ec2.StopInstancesOutput, error) {
	s := c.compute()
	all, err := c.instancesOf(in.InstanceIds)
	if err != nil {
		return nil, err
	}
	for _, i := range all {
		switch {
		case i.state == types.InstanceStateNameTerminated || i.state == types.InstanceStateNameShuttingDown || i.state == types.InstanceStateNamePending:
			return nil, incorrectState(i, "stopped")
		case i.protectedFromStop:
			return nil, fault("OperationNotPermitted", "The instance '%s' may not be stopped. Modify its 'disableApiStop' instance attribute and try again.", i.ID)
		}
	}
	if err := dryRun(in.DryRun); err != nil {
		return nil, err
	}
	out := &ec2.StopInstancesOutput{}
	for _, i := range all {
		to := types.InstanceStateNameStopping
		if i.state == types.InstanceStateNameStopped {
			to = i.state
		}
		i.force = aws.ToBool(in.Force)
		out.StoppingInstances = append(out.StoppingInstances, i.change(c, wishStopped, to))
		c.wake(s, i)
	}
	return out, nil
}

// rebootInstances only asks for it, and the state stays running
// (https://docs.aws.amazon.com/AWSEC2/latest/APIReference/API_RebootInstances.html).
func (c *Call) rebootInstances(in *ec2.RebootInstancesInput) (*ec2.RebootInstancesOutput, error) {
	all, err := c.instancesOf(in.InstanceIds)
	if err != nil {
		return nil, err
	}
	for _, i := range all {
		if i.state != types.InstanceStateNameRunning && i.state != types.InstanceStateNameTerminated {
			return nil, incorrectState(i, "rebooted")
		}
	}
	if err := dryRun(in.DryRun); err != nil {
		return nil, err
	}
	for _, i := range all {
		if i.state == types.InstanceStateNameRunning {
			i.run++
			c.wake(c.compute(), i)
		}
	}
	return &ec2.RebootInstancesOutput{}, nil
}

// terminateInstances is idempotent; nothing is terminated when one of them is protected
// (https://docs.aws.amazon.com/AWSEC2/latest/APIReference/API_TerminateInstances.html: within one zone).
func (c *Call) terminateInstances(in *ec2.TerminateInstancesInput) (*ec2.TerminateInstancesOutput, error) {
	s := c.compute()
	all, err := c.instancesOf(in.InstanceIds)
	if err != nil {
		return nil, err
	}
	for _, i := range all {
		if i.protected && i.wish != wishTerminated {
			return nil, fault("OperationNotPermitted", "The instance '%s' may not be terminated. Modify its 'disableApiTermination' instance attribute and try again.", i.ID)
		}
	}
	if err := dryRun(in.DryRun); err != nil {
		return nil, err
	}
	out := &ec2.TerminateInstancesOutput{}
	for _, i := range all {
		to := types.InstanceStateNameShuttingDown
		if i.state == types.InstanceStateNameTerminated {
			to = i.state
		}
		out.TerminatingInstances = append(out.TerminatingInstances, i.change(c, wishTerminated, to))
		c.wake(s, i)
	}
	return out, nil
}

// modifyInstance changes one attribute of an instance; type and user data only while it is stopped
// (https://docs.aws.amazon.com/AWSEC2/latest/APIReference/API_ModifyInstanceAttribute.html).
func (c *Call) modifyInstance(in *ec2.ModifyInstanceAttributeInput) (*ec2.ModifyInstanceAttributeOutput, error) {
	all, err := c.instancesOf([]string{aws.ToString(in.InstanceId)})
	if err != nil {
		return nil, err
	}
	i := all[0]
	if i.wish == wishTerminated {
		return nil, incorrectState(i, "modified")
	}
	if err := applyNamed(in); err != nil {
		return nil, err
	}
	stopped := i.state == types.InstanceStateNameStopped
	if (in.InstanceType != nil || in.UserData != nil || in.EbsOptimized != nil) && !stopped {
		return nil, fault("IncorrectInstanceState", "The instance '%s' is not in the 'stopped' state.", i.ID)
	}
	kind, groups, err := c.wantedChange(i, in)
	if err != nil {
		return nil, err
	}
	mapped, err := c.mappedVolumes(i, in.BlockDeviceMappings)
	if err != nil {
		return nil, err
	}
	if err := dryRun(in.DryRun); err != nil {
		return nil, err
	}
	i.kind, i.iface.groups = kind, groups
	for n, m := range in.BlockDeviceMappings {
		if m.Ebs != nil && m.Ebs.DeleteOnTermination != nil {
			mapped[n].deleteOnTermination = *m.Ebs.DeleteOnTermination
		}
	}
	if in.UserData != nil {
		i.userData = base64.StdEncoding.EncodeToString(in.UserData.Value)
	}
	if v := in.InstanceInitiatedShutdownBehavior; v != nil {
		i.shutdown = aws.ToString(v.Value)
	}
	flag := func(to *bool, v *types.AttributeBooleanValue) {
		if v != nil {
			*to = aws.ToBool(v.Value)
		}
	}
	flag(&i.protected, in.DisableApiTermination)
	flag(&i.protectedFromStop, in.DisableApiStop)
	flag(&i.ebsOptimized, in.EbsOptimized)
	return &ec2.ModifyInstanceAttributeOutput{}, nil
}

// wantedChange finds the type and the security groups that a change asks for; without any it is what the instance has.
func (c *Call) wantedChange(i *instance, in *ec2.ModifyInstanceAttributeInput) (kind instanceType, groups []*securityGroup, err error) {
	kind, groups = i.kind, i.iface.groups
	if in.InstanceType != nil {
		ok := false
		if kind, ok = findType(aws.ToString(in.InstanceType.Value)); !ok || kind.architecture() != i.arch {
			return kind, nil, fault("InvalidInstanceAttributeValue", "Invalid instance type value: %s", aws.ToString(in.InstanceType.Value))
		}
		if !kind.offered(i.placement) {
			return kind, nil, unsupportedIn(kind, i.placement, c.Name)
		}
	}
	if len(in.Groups) > 0 {
		groups, err = c.compute().groupsFor(i.iface.subnet.vpc, in.Groups)
	}
	return kind, groups, err
}

// applyNamed turns the older way to name an attribute (Attribute and Value) into the other.
func applyNamed(in *ec2.ModifyInstanceAttributeInput) error {
	if in.Attribute == "" {
		return nil
	}
	boolean := &types.AttributeBooleanValue{Value: aws.Bool(aws.ToString(in.Value) == "true")}
	text := &types.AttributeValue{Value: in.Value}
	switch in.Attribute {
	case types.InstanceAttributeNameInstanceType:
		in.InstanceType = text
	case types.InstanceAttributeNameInstanceInitiatedShutdownBehavior:
		in.InstanceInitiatedShutdownBehavior = text
	case types.InstanceAttributeNameDisableApiTermination:
		in.DisableApiTermination = boolean
	case types.InstanceAttributeNameDisableApiStop:
		in.DisableApiStop = boolean
	case types.InstanceAttributeNameEbsOptimized:
		in.EbsOptimized = boolean
	case types.InstanceAttributeNameUserData:
		raw, err := base64.StdEncoding.DecodeString(aws.ToString(in.Value))
		if err != nil {
			return fault("InvalidUserData.Malformed", "Invalid BASE64 encoding of user data")
		}
		in.UserData = &types.SecureBlobAttributeValue{Value: raw}
	case types.InstanceAttributeNameBlockDeviceMapping:
	default:
		return fault("InvalidParameterValue", "This double cannot modify the attribute '%s'", in.Attribute)
	}
	return nil
}

// mappedVolumes finds the attachments that a change of block device mappings means.
func (c *Call) mappedVolumes(i *instance, mappings []types.InstanceBlockDeviceMappingSpecification) ([]*attachment, error) {
	var out []*attachment
	for _, m := range mappings {
		var found *attachment
		for _, v := range c.attachedVolumes(i.ID) {
			if a := v.attachmentTo(i.ID); a.device == aws.ToString(m.DeviceName) {
				found = a
			}
		}
		if found == nil {
			return nil, fault("InvalidInstanceAttributeValue", "No device is currently mapped at %s", aws.ToString(m.DeviceName))
		}
		out = append(out, found)
	}
	return out, nil
}

func (c *Call) describeInstanceAttribute(in *ec2.DescribeInstanceAttributeInput) (*ec2.DescribeInstanceAttributeOutput, error) {
	all, err := c.instancesOf([]string{aws.ToString(in.InstanceId)})
	if err != nil {
		return nil, err
	}
	if err := dryRun(in.DryRun); err != nil {
		return nil, err
	}
	i := all[0]
	out := &ec2.DescribeInstanceAttributeOutput{InstanceId: &i.ID}
	text := func(s string) *types.AttributeValue {
		if s == "" {
			return &types.AttributeValue{}
		}
		return &types.AttributeValue{Value: aws.String(s)}
	}
	flag := func(b bool) *types.AttributeBooleanValue { return &types.AttributeBooleanValue{Value: aws.Bool(b)} }
	switch in.Attribute {
	case types.InstanceAttributeNameUserData:
		out.UserData = text(i.userData)
	case types.InstanceAttributeNameInstanceType:
		out.InstanceType = text(i.kind.name)
	case types.InstanceAttributeNameRootDeviceName:
		out.RootDeviceName = text(i.rootDevice)
	case types.InstanceAttributeNameInstanceInitiatedShutdownBehavior:
		out.InstanceInitiatedShutdownBehavior = text(i.shutdown)
	case types.InstanceAttributeNameDisableApiTermination:
		out.DisableApiTermination = flag(i.protected)
	case types.InstanceAttributeNameDisableApiStop:
		out.DisableApiStop = flag(i.protectedFromStop)
	case types.InstanceAttributeNameEbsOptimized:
		out.EbsOptimized = flag(i.ebsOptimized)
	case types.InstanceAttributeNameSourceDestCheck:
		out.SourceDestCheck = flag(true)
	case types.InstanceAttributeNameGroupSet:
		if i.iface != nil {
			out.Groups = showGroups(i.iface.groups)
		}
	case types.InstanceAttributeNameBlockDeviceMapping:
		out.BlockDeviceMappings = c.showInstance(i).BlockDeviceMappings
	default:
		return nil, fault("InvalidParameterValue", "This double does not know the attribute '%s'", in.Attribute)
	}
	return out, nil
}

func init() {
	on(ec2Service, "StartInstances", (*Call).startInstances)
	on(ec2Service, "StopInstances", (*Call).stopInstances)
	on(ec2Service, "RebootInstances", (*Call).rebootInstances)
	on(ec2Service, "TerminateInstances", (*Call).terminateInstances)
	on(ec2Service, "ModifyInstanceAttribute", (*Call).modifyInstance)
	on(ec2Service, "DescribeInstanceAttribute", (*Call).describeInstanceAttribute)
}
