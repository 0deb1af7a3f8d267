package awstest

import (
	"fmt"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/cloudformation"
	"github.com/aws/aws-sdk-go-v2/service/cloudformation/types"
)

// driftDetection is one comparison of a stack with what is there
// (https://docs.aws.amazon.com/AWSCloudFormation/latest/UserGuide/using-cfn-stack-drift.html). The double compares that
// resources are there, and the tags that the template gives.
type driftDetection struct {
	id     string
	stack  *stack
	ready  time.Time
	drifts []types.StackResourceDrift
}

func (c *Call) detectDrift(in *cloudformation.DetectStackDriftInput) (*cloudformation.DetectStackDriftOutput, error) {
	s, err := c.stack(in.StackName)
	if err != nil {
		return nil, err
	}
	if st := s.status(c.Now); st != types.StackStatusCreateComplete {
		return nil, fault("ValidationError", "Drift detection cannot be performed on stack in status %s", st)
	}
	c.ids++
	d := &driftDetection{id: fmt.Sprintf("00000000-0000-4000-e000-%012x", c.ids), stack: s, ready: c.Now.Add(c.Delay("drift"))}
	for _, name := range s.order {
		d.drifts = append(d.drifts, c.drift(s, s.resources[name]))
	}
	c.stacks().detections[d.id] = d
	return &cloudformation.DetectStackDriftOutput{StackDriftDetectionId: &d.id}, nil
}

// drift compares one resource.
func (c *Call) drift(s *stack, r *stackResource) types.StackResourceDrift {
	out := types.StackResourceDrift{StackId: s.StackId, LogicalResourceId: &r.name, PhysicalResourceId: &r.id, ResourceType: &r.kind, Timestamp: aws.Time(c.Now),
		StackResourceDriftStatus: types.StackResourceDriftStatusInSync}
	have := ec2Of(c.Region).resources[r.id]
	if have == nil {
		out.StackResourceDriftStatus = types.StackResourceDriftStatusDeleted
		return out
	}
	want := r.properties.tags()
	for i, k := range sortedKeys(want) {
		v, there := have.Tags[k]
		if there && v == want[k] {
			continue
		}
		out.StackResourceDriftStatus = types.StackResourceDriftStatusModified
		difference := types.PropertyDifference{PropertyPath: aws.String(fmt.Sprintf("/Tags/%d/Value", i)), ExpectedValue: aws.String(want[k]), ActualValue: &v, DifferenceType: types.DifferenceTypeNotEqual}
		if !there {
			difference.PropertyPath, difference.DifferenceType, difference.ActualValue = aws.String(fmt.Sprintf("/Tags/%d", i)), types.DifferenceTypeRemove, aws.String("null")
		}
		out.PropertyDifferences = append(out.PropertyDifferences, difference)
	}
	return out
}

func init() {
	on(stackService, "DetectStackDrift", (*Call).detectDrift)
	on(stackService, "DescribeStackDriftDetectionStatus", func(c *Call, in *cloudformation.DescribeStackDriftDetectionStatusInput) (*cloudformation.DescribeStackDriftDetectionStatusOutput, error) {
		d := c.stacks().detections[aws.ToString(in.StackDriftDetectionId)]
		if d == nil {
			return nil, fault("ValidationError", "Stack drift detection with id %s does not exist", aws.ToString(in.StackDriftDetectionId))
		}
		out := &cloudformation.DescribeStackDriftDetectionStatusOutput{StackDriftDetectionId: &d.id, StackId: d.stack.StackId, Timestamp: aws.Time(c.Now),
			DetectionStatus: types.StackDriftDetectionStatusDetectionInProgress}
		if c.Now.Before(d.ready) {
			return out, nil
		}
		drifted := int32(0)
		for _, r := range d.drifts {
			if r.StackResourceDriftStatus != types.StackResourceDriftStatusInSync {
				drifted++
			}
		}
		out.DetectionStatus, out.DriftedStackResourceCount, out.StackDriftStatus = types.StackDriftDetectionStatusDetectionComplete, &drifted, types.StackDriftStatusInSync
		if drifted > 0 {
			out.StackDriftStatus = types.StackDriftStatusDrifted
		}
		return out, nil
	})
	// The newest detection that is over counts (API_DescribeStackResourceDrifts.html).
	on(stackService, "DescribeStackResourceDrifts", func(c *Call, in *cloudformation.DescribeStackResourceDriftsInput) (*cloudformation.DescribeStackResourceDriftsOutput, error) {
		s, err := c.stack(in.StackName)
		if err != nil {
			return nil, err
		}
		var all []types.StackResourceDrift
		for _, d := range byID(c.stacks().detections) { // identifiers rise
			if d.stack == s && !c.Now.Before(d.ready) {
				all = d.drifts
			}
		}
		var kept []types.StackResourceDrift
		for _, r := range all {
			for _, f := range in.StackResourceDriftStatusFilters {
				if r.StackResourceDriftStatus == f {
					kept = append(kept, r)
				}
			}
			if len(in.StackResourceDriftStatusFilters) == 0 {
				kept = append(kept, r)
			}
		}
		list, next, err := page(c, kept, in.MaxResults, in.NextToken)
		return &cloudformation.DescribeStackResourceDriftsOutput{StackResourceDrifts: append([]types.StackResourceDrift{}, list...), NextToken: next}, err
	})
}
