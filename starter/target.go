package main

import (
	"context"
	"crypto/rand"
	"fmt"
	"slices"
	"strings"

	"github.com/spf13/cobra"
	"golang.org/x/sync/errgroup"

	"lifeboat/workflows"
)

// target is what PLAN[/SERVER] names. Server is empty when all are meant.
type target struct {
	Plan, Server string
}

func (t target) String() string {
	if t.Server == "" {
		return t.Plan
	}
	return t.Plan + "/" + t.Server
}

// parseTarget reads PLAN or PLAN/SERVER.
func parseTarget(arg string) (target, error) {
	plan, server, slash := strings.Cut(arg, "/")
	if plan == "" || slash && server == "" || strings.Contains(server, "/") {
		return target{}, usagef("%q: not a plan or server; write PLAN or PLAN/SERVER, for example shop or shop/db", arg)
	}
	return target{plan, server}, nil
}

// parsePlan reads PLAN alone.
func parsePlan(arg string) (string, error) {
	t, err := parseTarget(arg)
	if err == nil && t.Server != "" {
		return "", usagef("%q: a plan is meant, not a server; write %s", arg, t.Plan)
	}
	return t.Plan, err
}

// parseServer reads PLAN/SERVER alone.
func parseServer(arg string) (target, error) {
	t, err := parseTarget(arg)
	if err == nil && t.Server == "" {
		return t, usagef("%q: one server is meant; write PLAN/SERVER, for example %s/db", arg, t.Plan)
	}
	return t, err
}

// inTens is how many servers a command acts on at once.
const inTens = 10

// planView asks the entity of a plan.
func planView(ctx context.Context, h house, plan string) (workflows.PlanView, error) {
	var view workflows.PlanView
	err := h.Query(ctx, workflows.PlanID(plan), workflows.QueryStatus, &view)
	if err == nil && view.Deleted {
		err = errNotThere(workflows.PlanID(plan), h.Place(), nil)
	}
	return view, err
}

// serverView asks the entity of a server.
func serverView(ctx context.Context, h house, t target) (workflows.ServerView, error) {
	var view workflows.ServerView
	return view, h.Query(ctx, workflows.ServerID(t.Plan, t.Server), workflows.QueryStatus, &view)
}

// servers gives the protected servers that a target names, sorted.
func servers(ctx context.Context, h house, t target) ([]target, error) {
	if t.Server != "" {
		return []target{t}, nil
	}
	view, err := planView(ctx, h, t.Plan)
	if err != nil {
		return nil, err
	}
	if len(view.Servers) == 0 {
		return nil, usagef("plan %s: no server of it is protected (see `lifeboat server add %s`)", t.Plan, t.Plan)
	}
	var all []target
	for _, name := range view.Servers {
		all = append(all, target{t.Plan, name})
	}
	slices.SortFunc(all, func(a, b target) int { return strings.Compare(a.Server, b.Server) })
	return all, nil
}

// forEach does something for every target, ten at a time, and gives the results
// of those that succeeded, in order, and the errors of the others.
func forEach[T any](ctx context.Context, targets []target, do func(context.Context, target) (T, error)) ([]T, error) {
	results := make([]T, len(targets))
	errs := make([]error, len(targets))
	var group errgroup.Group
	group.SetLimit(inTens)
	for i, t := range targets {
		group.Go(func() error {
			results[i], errs[i] = do(ctx, t)
			return nil
		})
	}
	_ = group.Wait() // the functions return nil: the errors are in errs
	done := make([]T, 0, len(targets))
	var failed severalErrors
	for i := range targets {
		if errs[i] == nil {
			done = append(done, results[i])
		} else {
			failed = append(failed, about(targets[i].String(), errs[i]))
		}
	}
	if len(failed) > 0 {
		return done, failed
	}
	return done, nil
}

// views asks the entities of all targets.
func views(ctx context.Context, h house, targets []target) ([]workflows.ServerView, error) {
	return forEach(ctx, targets, func(ctx context.Context, t target) (workflows.ServerView, error) {
		return serverView(ctx, h, t)
	})
}

// allServers finds every protected server, or those of one plan.
func allServers(ctx context.Context, h house, plan string) ([]target, error) {
	query := fmt.Sprintf("WorkflowType = '%s' AND ExecutionStatus = 'Running'", workflows.ServerWorkflow)
	if plan != "" {
		query += fmt.Sprintf(" AND %s = '%s'", workflows.KeyPlan.GetName(), strings.ReplaceAll(plan, "'", "\\'"))
	}
	ids, err := h.Workflows(ctx, query)
	if err != nil {
		return nil, err
	}
	var found []target
	for _, id := range ids {
		name, ok := strings.CutPrefix(id, "server/")
		if !ok {
			continue
		}
		if t, err := parseServer(name); err == nil {
			found = append(found, t)
		}
	}
	slices.SortFunc(found, func(a, b target) int { return strings.Compare(a.String(), b.String()) })
	return found, nil
}

// allPlans finds the names of every plan, sorted.
func allPlans(ctx context.Context, h house) ([]string, error) {
	ids, err := h.Workflows(ctx, fmt.Sprintf("WorkflowType = '%s' AND ExecutionStatus = 'Running'", workflows.PlanWorkflow))
	if err != nil {
		return nil, err
	}
	var names []string
	for _, id := range ids {
		if name, ok := strings.CutPrefix(id, workflows.PlanID("")); ok {
			names = append(names, name)
		}
	}
	slices.Sort(names)
	return names, nil
}

// errNotThere says that a workflow is not there, in the words of users.
func errNotThere(workflowID, place string, err error) error {
	message := fmt.Sprintf("%s: there is no such workflow running in %s", workflowID, place)
	switch kind, name, _ := strings.Cut(workflowID, "/"); kind {
	case "plan":
		message = fmt.Sprintf("plan %s: there is none in %s (see `lifeboat plan list`; `lifeboat plan apply -f FILE` makes one)", name, place)
	case "server":
		plan, _, _ := strings.Cut(name, "/")
		message = fmt.Sprintf("server %s: it is not protected in %s (see `lifeboat server list %s`; `lifeboat server add %s` adds it)", name, place, plan, name)
	}
	return &statusError{status: statusUsage, message: message, err: err}
}

// newRequestID makes the identifier of one invocation.
func newRequestID() string { return rand.Text() }

// request gives the identifier of a command for one subject: stable with
// --request-id, so that a repeated command is executed once.
func (a *app) request(subject string) string {
	a.requestOnce.Do(func() { // several servers are asked at once
		if a.requestID == "" {
			a.requestID = newRequestID()
		}
	})
	return a.requestID + "/" + subject
}

// addRequestFlag adds --request-id to a command that changes something.
func (a *app) addRequestFlag(cmd *cobra.Command) {
	cmd.Flags().StringVar(&a.requestID, "request-id", "", "identifier of this request: the same one again is executed once (default: a new one each time)")
}
