package main

import (
	"cmp"
	"context"
	"errors"
	"strings"
	"time"

	commonpb "go.temporal.io/api/common/v1"
	enumspb "go.temporal.io/api/enums/v1"
	"go.temporal.io/api/operatorservice/v1"
	"go.temporal.io/api/serviceerror"
	"go.temporal.io/api/workflowservice/v1"
	"go.temporal.io/sdk/client"
	"go.temporal.io/sdk/converter"
	"go.temporal.io/sdk/temporal"

	"lifeboat/activities"
	"lifeboat/internal/dial"
	"lifeboat/workflows"
)

// Times within which a healthy installation answers. An update is sent a first
// time for updateProbe: when nobody takes workflow tasks there is no point in
// waiting longer, else it is sent again, under the same identifier.
const (
	callTime    = 10 * time.Second
	queryTime   = 15 * time.Second
	updateProbe = 3 * time.Second
	updateTime  = 45 * time.Second
)

// temporalHouse is house over a Temporal client.
type temporalHouse struct {
	client    client.Client
	address   string
	namespace string
}

func connectTemporal(ctx context.Context, o dial.Options) (house, error) {
	resolved, err := dial.Resolve(o)
	if err != nil {
		return nil, &statusError{status: statusUsage, message: err.Error(), err: err}
	}
	c, err := dial.Client(ctx, o)
	if err != nil {
		return nil, err
	}
	return &temporalHouse{client: c, address: resolved.HostPort, namespace: resolved.Namespace}, nil
}

func (h *temporalHouse) Close()        { h.client.Close() }
func (h *temporalHouse) Place() string { return "namespace " + h.namespace + " of " + h.address }

func (h *temporalHouse) Update(ctx context.Context, workflowID, name, id string, argument, result any) error {
	options := client.UpdateWorkflowOptions{
		UpdateID: id, WorkflowID: workflowID, UpdateName: name, WaitForStage: client.WorkflowUpdateStageAccepted,
	}
	if argument != nil {
		options.Args = []any{argument}
	}
	handle, err := h.accepted(ctx, workflowID, func(ctx context.Context) (client.WorkflowUpdateHandle, error) {
		return h.client.UpdateWorkflow(ctx, options)
	})
	if err != nil {
		return err
	}
	// A rejection comes out of Get, not out of UpdateWorkflow.
	return h.settled(ctx, workflowID, handle.Get(ctx, result))
}

func (h *temporalHouse) Apply(ctx context.Context, plan, id string, request workflows.ApplyRequest) (workflows.PlanView, error) {
	var view workflows.PlanView
	workflowID := workflows.PlanID(plan)
	handle, err := h.accepted(ctx, workflowID, func(ctx context.Context) (client.WorkflowUpdateHandle, error) {
		// Each start operation can be used once, so that every attempt makes its own.
		start := h.client.NewWithStartWorkflowOperation(client.StartWorkflowOptions{
			ID: workflowID, TaskQueue: workflows.TaskQueue,
			WorkflowIDConflictPolicy: enumspb.WORKFLOW_ID_CONFLICT_POLICY_USE_EXISTING,
			StaticSummary:            "Recovery plan " + plan,
			TypedSearchAttributes:    temporal.NewSearchAttributes(workflows.KeyPlan.ValueSet(plan)),
		}, workflows.PlanWorkflow, workflows.PlanState{Name: plan})
		return h.client.UpdateWithStartWorkflow(ctx, client.UpdateWithStartWorkflowOptions{
			StartWorkflowOperation: start,
			UpdateOptions: client.UpdateWorkflowOptions{
				UpdateID: id, WorkflowID: workflowID, UpdateName: workflows.UpdateApply,
				Args: []any{request}, WaitForStage: client.WorkflowUpdateStageAccepted,
			},
		})
	})
	if err != nil {
		return view, err
	}
	return view, h.settled(ctx, workflowID, handle.Get(ctx, &view))
}

// accepted sends an update and waits until a worker took it.
func (h *temporalHouse) accepted(ctx context.Context, workflowID string,
	send func(context.Context) (client.WorkflowUpdateHandle, error)) (client.WorkflowUpdateHandle, error) {
	for _, patience := range []time.Duration{updateProbe, updateTime} {
		sending, cancel := context.WithTimeout(ctx, patience)
		handle, err := send(sending)
		cancel()
		if err == nil {
			return handle, nil
		}
		if ctx.Err() != nil {
			return nil, ctx.Err()
		}
		if !slow(err) {
			return nil, h.settled(ctx, workflowID, err)
		}
		polled, err := h.Polled(ctx, workflows.TaskQueue, false)
		if err != nil {
			return nil, err
		}
		if !polled {
			return nil, h.noWorker(nil)
		}
	}
	return nil, h.silent(workflowID, updateTime)
}

func (h *temporalHouse) Query(ctx context.Context, workflowID, query string, result any) error {
	asking, cancel := context.WithTimeout(ctx, queryTime)
	defer cancel()
	value, err := h.client.QueryWorkflow(asking, workflowID, "", query)
	if err == nil {
		err = value.Get(result)
	}
	var unpolled *serviceerror.FailedPrecondition // what the server says when nobody polls the queue
	var unready *serviceerror.WorkflowNotReady    // no worker has begun the workflow yet
	if ctx.Err() != nil || !slow(err) && !errors.As(err, &unpolled) && !errors.As(err, &unready) {
		return h.settled(ctx, workflowID, err)
	}
	if polled, err := h.Polled(ctx, workflows.TaskQueue, false); err != nil || polled {
		return cmp.Or(err, h.silent(workflowID, queryTime))
	}
	return h.noWorker(err)
}

func (h *temporalHouse) Closed(ctx context.Context, workflowID string) (bool, error) {
	asking, cancel := context.WithTimeout(ctx, callTime)
	defer cancel()
	answer, err := h.client.DescribeWorkflowExecution(asking, workflowID, "")
	if err != nil {
		return false, h.settled(ctx, workflowID, err)
	}
	return answer.GetWorkflowExecutionInfo().GetStatus() != enumspb.WORKFLOW_EXECUTION_STATUS_RUNNING, nil
}

func (h *temporalHouse) Workflows(ctx context.Context, query string) ([]string, error) {
	var ids []string
	var page []byte
	for {
		asking, cancel := context.WithTimeout(ctx, callTime)
		answer, err := h.client.ListWorkflow(asking, &workflowservice.ListWorkflowExecutionsRequest{
			Namespace: h.namespace, PageSize: 500, NextPageToken: page, Query: query,
		})
		cancel()
		if err != nil {
			return nil, h.settled(ctx, "", err)
		}
		for _, execution := range answer.GetExecutions() {
			ids = append(ids, execution.GetExecution().GetWorkflowId())
		}
		if page = answer.GetNextPageToken(); len(page) == 0 {
			return ids, nil
		}
	}
}

func (h *temporalHouse) Following(ctx context.Context, workflowID string) (*activities.StreamStatus, error) {
	asking, cancel := context.WithTimeout(ctx, callTime)
	defer cancel()
	answer, err := h.client.DescribeWorkflowExecution(asking, workflowID, "")
	if err != nil {
		return nil, h.settled(ctx, workflowID, err)
	}
	for _, pending := range answer.GetPendingActivities() {
		if pending.GetActivityType().GetName() == followActivity && pending.GetHeartbeatDetails() != nil {
			return decodeFollow(pending.GetHeartbeatDetails()), nil
		}
	}
	return nil, nil
}

// followActivity is the type of the activity that follows a stream.
const followActivity = "Follow"

// decodeFollow reads heartbeat details. They are a hint: what another version
// wrote is passed over, and the state of the entity is shown as it is.
func decodeFollow(details *commonpb.Payloads) *activities.StreamStatus {
	var follow activities.FollowDetails
	if err := converter.GetDefaultDataConverter().FromPayloads(details, &follow); err != nil {
		return nil
	}
	return &follow.Status
}

func (h *temporalHouse) Polled(ctx context.Context, queue string, activities bool) (bool, error) {
	kind := enumspb.TASK_QUEUE_TYPE_WORKFLOW
	if activities {
		kind = enumspb.TASK_QUEUE_TYPE_ACTIVITY
	}
	asking, cancel := context.WithTimeout(ctx, callTime)
	defer cancel()
	answer, err := h.client.DescribeTaskQueue(asking, queue, kind)
	if err != nil {
		return false, h.settled(ctx, "", err)
	}
	return len(answer.GetPollers()) > 0, nil
}

func (h *temporalHouse) RegisterSearchAttributes(ctx context.Context, names []string) ([]string, error) {
	asking, cancel := context.WithTimeout(ctx, callTime)
	defer cancel()
	operator := h.client.OperatorService()
	there, err := operator.ListSearchAttributes(asking, &operatorservice.ListSearchAttributesRequest{Namespace: h.namespace})
	if err != nil {
		return nil, h.settled(ctx, "", err)
	}
	missing := map[string]enumspb.IndexedValueType{}
	var made []string
	for _, name := range names {
		kind, ok := there.GetCustomAttributes()[name]
		if ok && kind != enumspb.INDEXED_VALUE_TYPE_KEYWORD {
			return nil, failf("search attribute %s: it exists as %s, Lifeboat needs Keyword (remove it with `temporal operator search-attribute remove`, or use another namespace)", name, kind)
		}
		if !ok {
			missing[name] = enumspb.INDEXED_VALUE_TYPE_KEYWORD
			made = append(made, name)
		}
	}
	if len(missing) == 0 {
		return nil, nil
	}
	_, err = operator.AddSearchAttributes(asking, &operatorservice.AddSearchAttributesRequest{Namespace: h.namespace, SearchAttributes: missing})
	return made, h.settled(ctx, "", err)
}

// slow tells whether the time for a call ran out.
func slow(err error) bool {
	var update *client.WorkflowUpdateServiceTimeoutOrCanceledError
	var deadline *serviceerror.DeadlineExceeded
	return errors.As(err, &update) || errors.As(err, &deadline) || errors.Is(err, context.DeadlineExceeded)
}

// settled turns an error of the client into one for a person.
func (h *temporalHouse) settled(ctx context.Context, workflowID string, err error) error {
	var missing *serviceerror.NotFound
	var namespace *serviceerror.NamespaceNotFound
	var unavailable *serviceerror.Unavailable
	var failed *serviceerror.QueryFailed
	switch {
	case err == nil:
		return nil
	case ctx.Err() != nil:
		return ctx.Err()
	case errors.As(err, &namespace):
		return unreachablef(err, "namespace %s: there is none at %s (choose another with --namespace, or create it)", h.namespace, h.address)
	case errors.As(err, &failed) && strings.Contains(err.Error(), "TMPRL1100"):
		return failf("%s: the code of the worker does not fit its history (run the lifeboat-worker that began it, or a release that says it goes on from there)", workflowID)
	case errors.As(err, &missing) && workflowID != "":
		return errNotThere(workflowID, h.Place(), err)
	case errors.As(err, &unavailable), slow(err):
		return unreachablef(err, "Temporal at %s: no answer: %v (is it running? start one with `lifeboat dev`)", h.address, err)
	}
	return err
}

// silent says that a workflow did not answer although there are workers: they
// are starting or overloaded, or its tasks fail.
func (h *temporalHouse) silent(workflowID string, within time.Duration) error {
	return unreachablef(nil, "%s: no answer within %s, though workers are running (try again; if it stays so, its page in the Web UI and the log of the worker say why)", workflowID, within)
}

func (h *temporalHouse) noWorker(err error) error {
	return unreachablef(err, "task queue %s at %s: no worker is running (start `lifeboat dev`, or lifeboat-worker with --roles control)", workflows.TaskQueue, h.address)
}
