package aws

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"

	awssdk "github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/cloudformation"
	"github.com/aws/aws-sdk-go-v2/service/cloudformation/types"
	"github.com/aws/smithy-go"

	"lifeboat/activities/cloud"
)

// A stack is one of CloudFormation. Its identifier is the ARN, which keeps its meaning when a stack of the same name is
// made later.

const kindStack = cloud.Kind("stack")

func (p *Provider) stacks() *cloudformation.Client {
	return p.clients.stacks.get(func() *cloudformation.Client { return cloudformation.NewFromConfig(p.config) })
}

// stackError is awsError, but for a stack that is not there: CloudFormation calls that, like much else, a ValidationError
// (https://docs.aws.amazon.com/AWSCloudFormation/latest/APIReference/API_DescribeStacks.html).
func stackError(op, id string, err error) error {
	var api smithy.APIError
	if errors.As(err, &api) && api.ErrorCode() == "ValidationError" && strings.HasSuffix(strings.TrimRight(api.ErrorMessage(), "."), "does not exist") {
		return cloud.E(cloud.NotFound, op, "stack "+id, "there is no such stack at this site", "", err)
	}
	return awsError(op, "stack "+id, err)
}

// stackState maps the states of
// https://docs.aws.amazon.com/AWSCloudFormation/latest/UserGuide/view-stack-events.html
func stackState(s types.StackStatus) cloud.State {
	switch text := string(s); {
	case s == types.StackStatusDeleteInProgress:
		return cloud.Deleting
	case strings.HasSuffix(text, "_IN_PROGRESS"):
		return cloud.Creating
	case strings.HasSuffix(text, "_FAILED"), s == types.StackStatusRollbackComplete, s == types.StackStatusImportRollbackComplete:
		return cloud.Failing
	}
	return cloud.Available
}

func stackOf(s types.Stack) cloud.Stack {
	tags := map[string]string{}
	for _, t := range s.Tags {
		tags[awssdk.ToString(t.Key)] = awssdk.ToString(t.Value)
	}
	out := cloud.Stack{Resource: resourceOf(awssdk.ToString(s.StackId), stackState(s.StackStatus), awssdk.ToString(s.StackStatusReason), tags, s.CreationTime), Outputs: map[string]string{}}
	out.Name = awssdk.ToString(s.StackName)
	for _, o := range s.Outputs {
		out.Outputs[awssdk.ToString(o.OutputKey)] = awssdk.ToString(o.OutputValue)
	}
	return out
}

func (p *Provider) describeStack(ctx context.Context, op, idOrName string) (types.Stack, error) {
	if idOrName == "" { // CloudFormation would list them all
		return types.Stack{}, notFound(op, kindStack, idOrName)
	}
	out, err := p.stacks().DescribeStacks(ctx, &cloudformation.DescribeStacksInput{StackName: &idOrName})
	if err != nil {
		return types.Stack{}, stackError(op, idOrName, err)
	}
	if len(out.Stacks) == 0 || out.Stacks[0].StackStatus == types.StackStatusDeleteComplete {
		return types.Stack{}, notFound(op, kindStack, idOrName)
	}
	return out.Stacks[0], nil
}

// Stack finds a stack by ARN or name. Message of one that failed, or rolls back, is the reason of what failed first.
func (p *Provider) Stack(ctx context.Context, idOrName string) (cloud.Stack, error) {
	const op = "Stack"
	s, err := p.describeStack(ctx, op, idOrName)
	if err != nil {
		return cloud.Stack{}, err
	}
	out := stackOf(s)
	if out.State == cloud.Failing || strings.Contains(string(s.StackStatus), "ROLLBACK") {
		reason, err := p.firstFailure(ctx, op, out.ID)
		if err != nil {
			return out, err
		}
		out.Message = clean(string(s.StackStatus) + ": " + cmp.Or(reason, out.Message))
	}
	return out, nil
}

// firstFailure is the oldest event of a resource that failed; what was cancelled because of it comes later.
func (p *Provider) firstFailure(ctx context.Context, op, id string) (string, error) {
	events, err := listPages(ctx, cloudformation.NewDescribeStackEventsPaginator(p.stacks(), &cloudformation.DescribeStackEventsInput{StackName: &id}),
		func(o *cloudformation.DescribeStackEventsOutput) []types.StackEvent { return o.StackEvents })
	if err != nil {
		return "", stackError(op, id, err)
	}
	for _, e := range slices.Backward(events) { // the newest comes first
		reason := awssdk.ToString(e.ResourceStatusReason)
		if strings.HasSuffix(string(e.ResourceStatus), "_FAILED") && !strings.Contains(reason, "cancelled") {
			return fmt.Sprintf("%s (%s): %s", awssdk.ToString(e.LogicalResourceId), awssdk.ToString(e.ResourceType), reason), nil
		}
	}
	return "", nil
}

// Stacks lists the stacks of the region.
func (p *Provider) Stacks(ctx context.Context, f cloud.Filter) ([]cloud.Stack, error) {
	list, err := listPages(ctx, cloudformation.NewDescribeStacksPaginator(p.stacks(), &cloudformation.DescribeStacksInput{}), func(o *cloudformation.DescribeStacksOutput) []types.Stack { return o.Stacks })
	if err != nil {
		return nil, awsError("Stacks", "stacks of site "+p.site.Name, err)
	}
	all := []cloud.Stack{}
	for _, s := range list {
		out := stackOf(s)
		if s.StackStatus != types.StackStatusDeleteComplete && f.Match(out.Tags) {
			all = append(all, out)
		}
	}
	return all, nil
}

// StartCreateStack makes a stack, or finds the one that the token made. A Template that begins with https:// is the URL of
// one in S3, for those of more than 51,200 bytes.
func (p *Provider) StartCreateStack(ctx context.Context, in cloud.CreateStack) (cloud.Stack, error) {
	const op = "StartCreateStack"
	if err := cloud.CheckToken(op, kindStack, in.Token); err != nil {
		return cloud.Stack{}, err
	}
	token := "lifeboat-" + digest(in.Token)
	name, sum := cmp.Or(in.Name, token), op+":"+digest(in)
	there, err := p.ourStack(ctx, op, name, in.Token, sum)
	if !cloud.IsNotFound(err) {
		return there, err
	}
	req := &cloudformation.CreateStackInput{StackName: &name, ClientRequestToken: &token, OnFailure: types.OnFailureRollback}
	if strings.HasPrefix(in.Template, "https://") {
		req.TemplateURL = &in.Template
	} else {
		req.TemplateBody = &in.Template
	}
	for _, k := range slices.Sorted(maps.Keys(in.Parameters)) {
		req.Parameters = append(req.Parameters, types.Parameter{ParameterKey: &k, ParameterValue: awssdk.String(in.Parameters[k])})
	}
	for _, c := range in.Capabilities {
		req.Capabilities = append(req.Capabilities, types.Capability(c))
	}
	for _, t := range ec2Tags(allTags(in.Create, map[string]string{tagRequest: sum})) {
		req.Tags = append(req.Tags, types.Tag{Key: t.Key, Value: t.Value})
	}
	if _, err = p.stacks().CreateStack(ctx, req); err != nil && apiCode(err) != "AlreadyExistsException" {
		return cloud.Stack{}, stackError(op, name, err)
	}
	return p.ourStack(ctx, op, name, in.Token, sum)
}

// ourStack finds the stack that a request made.
func (p *Provider) ourStack(ctx context.Context, op, name, token, sum string) (cloud.Stack, error) {
	s, err := p.describeStack(ctx, op, name)
	if err != nil {
		return cloud.Stack{}, err
	}
	tags := map[string]string{}
	for _, t := range s.Tags {
		tags[awssdk.ToString(t.Key)] = awssdk.ToString(t.Value)
	}
	switch {
	case tags[cloud.TagToken] != token:
		return cloud.Stack{}, invalid(op, "stack "+name, "the name belongs to another stack already", "choose another name")
	case tags[tagRequest] != sum:
		return cloud.Stack{}, cloud.E(cloud.TokenMismatch, op, "stack "+name, "the client token was used before for another request", "", nil)
	}
	return stackOf(s), nil
}

// DeleteStack deletes a stack and its resources.
func (p *Provider) DeleteStack(ctx context.Context, id string) error {
	const op = "DeleteStack"
	s, err := p.describeStack(ctx, op, id)
	if err != nil || s.StackStatus == types.StackStatusDeleteInProgress {
		return err
	}
	_, err = p.stacks().DeleteStack(ctx, &cloudformation.DeleteStackInput{StackName: s.StackId})
	return stackError(op, id, err)
}

// StartDrift lets CloudFormation compare.
func (p *Provider) StartDrift(ctx context.Context, id string) (string, error) {
	const op = "StartDrift"
	s, err := p.describeStack(ctx, op, id)
	if err != nil {
		return "", err
	}
	if state := stackState(s.StackStatus); state != cloud.Available {
		return "", cloud.E(cloud.Conflict, op, "stack "+id, "is "+string(s.StackStatus)+" and cannot be compared", "wait until it is complete", nil)
	}
	out, err := p.stacks().DetectStackDrift(ctx, &cloudformation.DetectStackDriftInput{StackName: s.StackId})
	if err != nil {
		return "", stackError(op, id, err)
	}
	return awssdk.ToString(out.StackDriftDetectionId), nil
}

// Drift tells what a comparison found.
func (p *Provider) Drift(ctx context.Context, id, detection string) (cloud.Drift, error) {
	const op = "Drift"
	out, err := p.stacks().DescribeStackDriftDetectionStatus(ctx, &cloudformation.DescribeStackDriftDetectionStatusInput{StackDriftDetectionId: &detection})
	if err != nil {
		return cloud.Drift{}, awsError(op, "drift of stack "+id, err)
	}
	d := cloud.Drift{State: cloud.Available, Message: clean(awssdk.ToString(out.DetectionStatusReason)), Differences: []string{}}
	switch out.DetectionStatus {
	case types.StackDriftDetectionStatusDetectionInProgress:
		d.State = cloud.Creating
		return d, nil
	case types.StackDriftDetectionStatusDetectionFailed: // some resources could be compared all the same
		d.State = cloud.Failing
	}
	list, err := listPages(ctx, cloudformation.NewDescribeStackResourceDriftsPaginator(p.stacks(), &cloudformation.DescribeStackResourceDriftsInput{StackName: out.StackId,
		StackResourceDriftStatusFilters: []types.StackResourceDriftStatus{types.StackResourceDriftStatusModified, types.StackResourceDriftStatusDeleted}}),
		func(o *cloudformation.DescribeStackResourceDriftsOutput) []types.StackResourceDrift {
			return o.StackResourceDrifts
		})
	if err != nil {
		return d, stackError(op, id, err)
	}
	for _, r := range list {
		d.Differences = append(d.Differences, driftLines(r)...)
	}
	return d, nil
}

// driftLines says how a resource differs.
func driftLines(r types.StackResourceDrift) (lines []string) {
	what := fmt.Sprintf("%s (%s %s)", awssdk.ToString(r.LogicalResourceId), awssdk.ToString(r.ResourceType), awssdk.ToString(r.PhysicalResourceId))
	if r.StackResourceDriftStatus == types.StackResourceDriftStatusDeleted {
		return []string{what + " was deleted"}
	}
	for _, d := range r.PropertyDifferences {
		path, want, have := awssdk.ToString(d.PropertyPath), awssdk.ToString(d.ExpectedValue), awssdk.ToString(d.ActualValue)
		switch d.DifferenceType {
		case types.DifferenceTypeAdd:
			lines = append(lines, clean(what+": "+path+" was added: "+have))
		case types.DifferenceTypeRemove:
			lines = append(lines, clean(what+": "+path+" was removed: "+want))
		default:
			lines = append(lines, clean(fmt.Sprintf("%s: %s is %s instead of %s", what, path, have, want)))
		}
	}
	return lines
}
