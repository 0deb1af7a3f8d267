package awstest

import (
	"errors"
	"fmt"
	"regexp"
	"slices"
	"strings"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/cloudformation"
	"github.com/aws/aws-sdk-go-v2/service/cloudformation/types"
	ec2types "github.com/aws/aws-sdk-go-v2/service/ec2/types"
)

// stackService is AWS CloudFormation: https://docs.aws.amazon.com/AWSCloudFormation/latest/APIReference/
// What a stack makes is made through EC2 when it is asked for; states follow with time.
var stackService = serve("cloudformation", queryWire{})

// stackState are the stacks of an account in a region, by ARN, and the detections of drift.
type stackState struct {
	stacks     map[string]*stack
	detections map[string]*driftDetection
}

// stack is a stack. Its states are those of
// https://docs.aws.amazon.com/AWSCloudFormation/latest/UserGuide/view-stack-events.html
type stack struct {
	types.Stack
	token     string
	resources map[string]*stackResource
	order     []string // in which resources were made
	events    []types.StackEvent
	pending   types.StackStatus // until
	until     time.Time
}

// stackResource is a resource of a stack.
type stackResource struct {
	name, kind, id string
	properties     properties
	attributes     map[string]string
}

func (c *Call) stacks() *stackState {
	s := part[stackState](c.Region)
	if s.stacks == nil {
		s.stacks, s.detections = map[string]*stack{}, map[string]*driftDetection{}
	}
	return s
}

func (s *stack) status(now time.Time) types.StackStatus {
	if now.Before(s.until) {
		return s.pending
	}
	return s.StackStatus
}

// stack finds a stack by name, or, also after its deletion, by ARN (API_DescribeStacks.html).
func (c *Call) stack(name *string) (*stack, error) {
	if s := c.stacks().stacks[aws.ToString(name)]; s != nil {
		return s, nil
	}
	for _, s := range c.stacks().stacks {
		if *s.StackName == aws.ToString(name) && s.status(c.Now) != types.StackStatusDeleteComplete {
			return s, nil
		}
	}
	return nil, fault("ValidationError", "Stack with id %s does not exist", aws.ToString(name))
}

func (c *Call) showStack(s *stack) types.Stack {
	out := s.Stack
	if out.StackStatus = s.status(c.Now); out.StackStatus != types.StackStatusCreateComplete {
		out.Outputs = nil
	}
	return out
}

func (s *stack) event(c *Call, name, id, kind string, status types.ResourceStatus, reason string) {
	c.ids++
	e := types.StackEvent{EventId: aws.String(fmt.Sprintf("event-%d", c.ids)), StackId: s.StackId, StackName: s.StackName, Timestamp: aws.Time(c.Now), LogicalResourceId: &name,
		PhysicalResourceId: &id, ResourceType: &kind, ResourceStatus: status}
	if reason != "" {
		e.ResourceStatusReason = &reason
	}
	s.events = append(s.events, e)
}

var stackName = regexp.MustCompile(`^[a-zA-Z][-a-zA-Z0-9]{0,127}$`)

// maxTemplate is the size of a template in a request (cloudformation-limits.html).
const maxTemplate = 51_200

// createStack refuses a name that is there, unless it is the same request again by its token (API_CreateStack.html).
func (c *Call) createStack(in *cloudformation.CreateStackInput) (*cloudformation.CreateStackOutput, error) {
	name, token := aws.ToString(in.StackName), aws.ToString(in.ClientRequestToken)
	switch {
	case !stackName.MatchString(name):
		return nil, fault("ValidationError", "1 validation error detected: Value '%s' at 'stackName' failed to satisfy constraint", name)
	case len(aws.ToString(in.TemplateBody)) > maxTemplate:
		return nil, fault("ValidationError", "1 validation error detected: 'templateBody' must have length less than or equal to %d", maxTemplate)
	case in.TemplateURL != nil:
		return nil, fault("ValidationError", "This double has no templates by URL")
	}
	if there, err := c.stack(&name); err == nil {
		if token != "" && there.token == token {
			return &cloudformation.CreateStackOutput{StackId: there.StackId}, nil
		}
		return nil, fault("AlreadyExistsException", "Stack [%s] already exists", name)
	}
	t, err := parseStackTemplate(aws.ToString(in.TemplateBody))
	if err != nil {
		return nil, err
	}
	c.ids++
	s := &stack{token: token, resources: map[string]*stackResource{}, pending: types.StackStatusCreateInProgress, until: c.Now.Add(c.Delay("stack"))}
	id := fmt.Sprintf("arn:aws:cloudformation:%s:%s:stack/%s/00000000-0000-4000-d000-%012x", c.Name, c.Region.Account, name, c.ids)
	s.Stack = types.Stack{StackId: &id, StackName: &name, CreationTime: aws.Time(c.Now), Tags: in.Tags, Parameters: in.Parameters, StackStatus: types.StackStatusCreateComplete,
		EnableTerminationProtection: in.EnableTerminationProtection}
	values, err := c.stackValues(t, s, in)
	if err != nil {
		return nil, err
	}
	c.stacks().stacks[id] = s
	s.event(c, name, id, "AWS::CloudFormation::Stack", types.ResourceStatusCreateInProgress, "User Initiated")
	if err := c.fillStack(t, s, values); err != nil {
		s.StackStatus, s.pending = types.StackStatusRollbackComplete, types.StackStatusRollbackInProgress
		s.StackStatusReason = aws.String("The following resource(s) failed to create: [" + err.Error() + "]. Rollback requested by user.")
		if reason := c.emptyStack(s); reason != "" {
			s.StackStatus = types.StackStatusRollbackFailed
		}
	}
	return &cloudformation.CreateStackOutput{StackId: &id}, nil
}

// stackValues are the parameters, those with defaults and the pseudo ones, and the resources to come.
func (c *Call) stackValues(t *stackTemplate, s *stack, in *cloudformation.CreateStackInput) (*stackValues, error) {
	v := &stackValues{resources: s.resources, zones: zonesOf(c.Name), parameters: map[string]string{"AWS::Region": c.Name, "AWS::AccountId": c.Region.Account, "AWS::StackName": *s.StackName, "AWS::StackId": *s.StackId, "AWS::Partition": "aws"}}
	for _, p := range in.Parameters {
		if _, ok := t.Parameters[aws.ToString(p.ParameterKey)]; !ok {
			return nil, fault("ValidationError", "Parameters: [%s] do not exist in the template", aws.ToString(p.ParameterKey))
		}
		v.parameters[*p.ParameterKey] = aws.ToString(p.ParameterValue)
	}
	for name, p := range t.Parameters {
		if _, given := v.parameters[name]; given {
			continue
		}
		if p.Default == nil {
			return nil, fault("ValidationError", "Parameters: [%s] must have values", name)
		}
		v.parameters[name] = *p.Default
	}
	for name, r := range t.Resources {
		s.resources[name] = &stackResource{name: name, kind: r.Type}
		for property := range r.Properties {
			if property != "Tags" && !slices.Contains(stackKinds[r.Type].properties, property) {
				return nil, fault("ValidationError", "Encountered unsupported property %s", property)
			}
		}
	}
	return v, nil
}

// fillStack makes the resources, each after those that it refers to. The error names the one that failed.
func (c *Call) fillStack(t *stackTemplate, s *stack, v *stackValues) error {
	for len(s.order) < len(t.Resources) {
		before := len(s.order)
		for _, name := range sortedKeys(t.Resources) {
			r := s.resources[name]
			if r.id != "" {
				continue
			}
			p, err := resolveProperties(t.Resources[name], v)
			if errors.As(err, new(notYet)) {
				continue
			}
			if err == nil {
				err = c.makeStackResource(s, r, p)
			}
			if r.id != "" {
				s.order = append(s.order, name)
			}
			if err != nil {
				s.event(c, name, r.id, r.kind, types.ResourceStatusCreateFailed, "Resource handler returned message: \""+asFault(err).Message+"\"")
				return errors.New(name)
			}
		}
		if len(s.order) == before {
			s.event(c, *s.StackName, *s.StackId, "AWS::CloudFormation::Stack", types.ResourceStatusCreateFailed, "Circular dependency between resources")
			return errors.New("circular dependency")
		}
	}
	for _, name := range sortedKeys(t.Outputs) {
		o := t.Outputs[name]
		value, err := v.resolve(&o.Value)
		if err != nil {
			s.event(c, *s.StackName, *s.StackId, "AWS::CloudFormation::Stack", types.ResourceStatusCreateFailed, err.Error())
			return errors.New(name)
		}
		s.Outputs = append(s.Outputs, types.Output{OutputKey: &name, OutputValue: aws.String(fmt.Sprint(value))})
	}
	return nil
}

func resolveProperties(m stackResourceModel, v *stackValues) (properties, error) {
	p := properties{}
	if m.DependsOn.Kind != 0 {
		names, err := v.resolve(&m.DependsOn)
		if err != nil {
			return nil, err
		}
		list, ok := names.([]any)
		if !ok {
			list = []any{names}
		}
		for _, n := range list {
			if _, err := v.ref(fmt.Sprint(n)); err != nil {
				return nil, err
			}
		}
	}
	for name, n := range m.Properties {
		value, err := v.resolve(&n)
		if err != nil {
			return nil, err
		}
		p[name] = value
	}
	return p, nil
}

// makeStackResource makes one resource, with the tags of the stack and its own
// (https://docs.aws.amazon.com/AWSCloudFormation/latest/TemplateReference/aws-properties-resource-tags.html).
func (c *Call) makeStackResource(s *stack, r *stackResource, p properties) (err error) {
	kind := stackKinds[r.kind]
	tags := map[string]string{"aws:cloudformation:stack-name": *s.StackName, "aws:cloudformation:stack-id": *s.StackId, "aws:cloudformation:logical-id": r.name}
	for _, t := range s.Tags {
		tags[aws.ToString(t.Key)] = aws.ToString(t.Value)
	}
	for k, v := range p.tags() {
		tags[k] = v
	}
	spec := ec2types.TagSpecification{ResourceType: kind.resource}
	for _, k := range sortedKeys(tags) {
		spec.Tags = append(spec.Tags, ec2types.Tag{Key: &k, Value: aws.String(tags[k])})
	}
	r.properties = p
	s.event(c, r.name, "", r.kind, types.ResourceStatusCreateInProgress, "")
	if r.id, r.attributes, err = kind.make(c, p, []ec2types.TagSpecification{spec}); err == nil {
		s.event(c, r.name, r.id, r.kind, types.ResourceStatusCreateComplete, "")
	}
	return err
}

// emptyStack deletes the resources, the last first; what is gone is fine. It gives the reason of the first failure.
func (c *Call) emptyStack(s *stack) (reason string) {
	for i := len(s.order) - 1; i >= 0; i-- {
		r := s.resources[s.order[i]]
		err := stackKinds[r.kind].remove(c, r.id)
		if err != nil && !strings.HasSuffix(asFault(err).Code, ".NotFound") {
			reason = "Resource handler returned message: \"" + asFault(err).Message + "\""
			s.event(c, r.name, r.id, r.kind, types.ResourceStatusDeleteFailed, reason)
			return reason
		}
		s.event(c, r.name, r.id, r.kind, types.ResourceStatusDeleteComplete, "")
		s.order = s.order[:i]
	}
	return ""
}

// deleteStack is fine with a stack that is not there (API_DeleteStack.html).
func (c *Call) deleteStack(in *cloudformation.DeleteStackInput) (*cloudformation.DeleteStackOutput, error) {
	out := &cloudformation.DeleteStackOutput{}
	s, err := c.stack(in.StackName)
	if err != nil || s.StackStatus == types.StackStatusDeleteComplete {
		return out, nil //nolint:nilerr // as the service
	}
	if aws.ToBool(s.EnableTerminationProtection) {
		return nil, fault("ValidationError", "Stack [%s] cannot be deleted while TerminationProtection is enabled", *s.StackName)
	}
	s.pending, s.until, s.StackStatus, s.StackStatusReason = types.StackStatusDeleteInProgress, c.Now.Add(c.Delay("stack")), types.StackStatusDeleteComplete, nil
	if reason := c.emptyStack(s); reason != "" {
		s.StackStatus, s.StackStatusReason = types.StackStatusDeleteFailed, &reason
	}
	return out, nil
}

func init() {
	on(stackService, "CreateStack", (*Call).createStack)
	on(stackService, "DeleteStack", (*Call).deleteStack)
	on(stackService, "DescribeStacks", func(c *Call, in *cloudformation.DescribeStacksInput) (*cloudformation.DescribeStacksOutput, error) {
		if in.StackName != nil {
			s, err := c.stack(in.StackName)
			if err != nil {
				return nil, err
			}
			return &cloudformation.DescribeStacksOutput{Stacks: []types.Stack{c.showStack(s)}}, nil
		}
		var all []types.Stack
		for _, s := range byID(c.stacks().stacks) {
			if s.status(c.Now) != types.StackStatusDeleteComplete {
				all = append(all, c.showStack(s))
			}
		}
		list, next, err := page(c, all, nil, in.NextToken)
		return &cloudformation.DescribeStacksOutput{Stacks: append([]types.Stack{}, list...), NextToken: next}, err
	})
	// The newest event comes first (API_DescribeStackEvents.html).
	on(stackService, "DescribeStackEvents", func(c *Call, in *cloudformation.DescribeStackEventsInput) (*cloudformation.DescribeStackEventsOutput, error) {
		s, err := c.stack(in.StackName)
		if err != nil {
			return nil, err
		}
		all := slices.Clone(s.events)
		slices.Reverse(all)
		list, next, err := page(c, all, nil, in.NextToken)
		return &cloudformation.DescribeStackEventsOutput{StackEvents: list, NextToken: next}, err
	})
}
