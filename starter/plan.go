package main

import (
	"context"
	"fmt"
	"io"
	"os"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"lifeboat/activities"
	"lifeboat/workflows"
	"lifeboat/workflows/plan"
)

func newPlanCommand(a *app) *cobra.Command {
	return noun("plan", "Recovery plans: propose, check, apply, look at, delete",
		"A plan is a YAML file that says what is protected, how, and how it is recovered.\nApplying it makes or changes the plan's durable workflow.",
		newPlanInitCommand(a), newPlanValidateCommand(a), newPlanApplyCommand(a),
		newPlanListCommand(a), newPlanShowCommand(a), newPlanDeleteCommand(a))
}

// fileFlag is -f FILE.
func fileFlag(cmd *cobra.Command, path *string) {
	cmd.Flags().StringVarP(path, "file", "f", "", "plan file")
	if err := cmd.MarkFlagRequired("file"); err != nil {
		panic(err)
	}
	if err := cmd.MarkFlagFilename("file", "yaml", "yml"); err != nil {
		panic(err)
	}
}

// loadPlan reads and resolves a plan file; all its errors are ones of usage.
func loadPlan(path string) (*plan.Resolved, error) {
	p, err := plan.Load(path)
	if err != nil {
		return nil, asInvalidPlan(err)
	}
	resolved, err := plan.Resolve(p)
	return resolved, asInvalidPlan(err)
}

func asInvalidPlan(err error) error {
	if err == nil || exitStatus(err) == statusUsage {
		return err
	}
	return &statusError{status: statusUsage, message: err.Error(), err: err}
}

func newPlanValidateCommand(a *app) *cobra.Command {
	var path string
	cmd := &cobra.Command{
		Use: "validate -f FILE", Short: "Check a plan file",
		Long:    "Validate reads a plan file and names every fault with file, line, key and mend. It\nneeds no Temporal and changes nothing.",
		Example: "  lifeboat plan validate -f plan.yaml",
		Args:    cobra.NoArgs,
	}
	fileFlag(cmd, &path)
	return a.runs(cmd, func(context.Context, []string) error {
		resolved, err := loadPlan(path)
		if err != nil {
			return err
		}
		return a.print(resolved, func(w io.Writer) {
			fmt.Fprintf(w, "%s: plan %s is valid: %d servers, %d waves\n", path, resolved.Name, len(resolved.Servers), len(resolved.Waves))
		})
	})
}

func newPlanApplyCommand(a *app) *cobra.Command {
	var path string
	var noAdd bool
	var wait awaited
	cmd := &cobra.Command{
		Use: "apply -f FILE", Short: "Create or change a plan",
		Long: "Apply checks a plan file, makes it the plan's current one and adds its servers to\nprotection, ten at a time. Applying the same file again changes nothing. It ends\nwith what changed, and names the task queues that no worker polls.",
		Example: `  lifeboat plan apply -f plan.yaml --wait
  lifeboat plan apply -f plan.yaml --no-add`,
		Args: cobra.NoArgs,
	}
	fileFlag(cmd, &path)
	a.addRequestFlag(cmd)
	cmd.Flags().BoolVar(&noAdd, "no-add", false, "do not add the servers of the plan to protection")
	wait.addFlag(cmd, workflows.PhaseInitialized)
	return a.withHouse(cmd, func(ctx context.Context, h house, _ []string) error {
		phase, waits, err := wait.target()
		if err != nil {
			return err
		}
		resolved, err := loadPlan(path)
		if err != nil {
			return err
		}
		view, err := a.applyPlan(ctx, h, resolved, noAdd)
		if err != nil {
			return err
		}
		if err := a.warnOfUnpolled(ctx, h, *resolved); err != nil {
			return err
		}
		if waits {
			var targets []target
			for _, name := range view.Servers {
				targets = append(targets, target{view.Name, name})
			}
			if _, err := a.waitFor(ctx, h, targets, phase); err != nil {
				return err
			}
		}
		return a.print(view, func(w io.Writer) { planTable(w, view) })
	})
}

// applyPlan applies a plan, adds its servers, and tells what changed.
func (a *app) applyPlan(ctx context.Context, h house, resolved *plan.Resolved, noAdd bool) (workflows.PlanView, error) {
	var before workflows.PlanView
	err := h.Query(ctx, workflows.PlanID(resolved.Name), workflows.QueryStatus, &before)
	fresh := err != nil && exitStatus(err) == statusUsage || before.Deleted
	if err != nil && !fresh {
		return before, err
	}
	view, err := h.Apply(ctx, resolved.Name, a.request("apply/"+resolved.Name), workflows.ApplyRequest{Plan: *resolved})
	if err != nil {
		return view, about("plan "+resolved.Name, err)
	}
	switch {
	case fresh:
		a.say("plan %s: created", resolved.Name)
	case before.Spec.Hash == resolved.Hash:
		a.say("plan %s: unchanged", resolved.Name)
	default:
		a.say("plan %s: changed: %s", resolved.Name, planChanges(before.Spec, *resolved))
	}
	missing := missingServers(view)
	if noAdd || len(missing) == 0 {
		return view, nil
	}
	if err := a.addServers(ctx, h, resolved.Name, missing); err != nil {
		return view, err
	}
	a.say("plan %s: added %s", resolved.Name, joined(missing))
	return planView(ctx, h, resolved.Name)
}

// planChanges says which servers of a plan came, went or changed.
func planChanges(before, after plan.Resolved) string {
	var changes []string
	for _, s := range after.Servers {
		old, there := before.Server(s.Name)
		switch {
		case !there:
			changes = append(changes, "+"+s.Name)
		case fmt.Sprintf("%+v", old) != fmt.Sprintf("%+v", s):
			changes = append(changes, "~"+s.Name)
		}
	}
	for _, s := range before.Servers {
		if _, there := after.Server(s.Name); !there {
			changes = append(changes, "-"+s.Name)
		}
	}
	if len(changes) == 0 {
		return "settings of the plan"
	}
	return strings.Join(changes, " ")
}

// neededQueue is a task queue that a plan needs, and what serves it.
type neededQueue struct{ name, mend string }

// queuesOf lists the task queues of a plan: of its sites, and of what moves its data.
func queuesOf(spec plan.Resolved) (needed []neededQueue) {
	add := func(q neededQueue) {
		if !slices.ContainsFunc(needed, func(other neededQueue) bool { return other.name == q.name }) {
			needed = append(needed, q)
		}
	}
	serve := func(s plan.Site, role string) string {
		if s.Provider != plan.ProviderLocal {
			return fmt.Sprintf("`lifeboat-worker --roles cloud --cloud %s/%s/%s --data DIR`", s.Provider, s.Account, s.Region)
		}
		return fmt.Sprintf("`lifeboat dev --site %[1]s=%[2]s` or `lifeboat-worker --roles %[3]s --site %[1]s=%[2]s`", s.Name, s.Directory, role)
	}
	for _, name := range sortedKeys(spec.Sites) {
		s := spec.Sites[name]
		add(neededQueue{workflows.CloudQueue(activities.Site{Name: s.Name, Provider: s.Provider, Account: s.Account, Region: s.Region}), serve(s, "cloud")})
	}
	for _, server := range spec.Servers {
		for _, s := range []plan.Site{server.Primary, server.Recovery} {
			q := neededQueue{workflows.HostQueue(s.Agent), serve(s, "agent --agent "+s.Agent)}
			switch {
			case server.Agentless():
				q.mend = serve(s, "cloud --data DIR")
			case s.Provider != plan.ProviderLocal:
				q.mend = "`lifeboat-worker --roles agent --agent " + s.Agent + "` next to its disks"
			}
			add(q)
		}
	}
	return needed
}

// warnOfUnpolled names the queues of a plan that nobody takes tasks from: what the plan
// asks for would wait for ever.
func (a *app) warnOfUnpolled(ctx context.Context, h house, spec plan.Resolved) error {
	for _, needed := range queuesOf(spec) {
		polled, err := h.Polled(ctx, needed.name, true)
		if err != nil {
			return err
		}
		if !polled {
			a.say("warning: task queue %s: no worker takes its tasks (start %s)", needed.name, needed.mend)
		}
	}
	return nil
}

func newPlanListCommand(a *app) *cobra.Command {
	cmd := &cobra.Command{
		Use: "list", Short: "List plans",
		Long:    "List shows every applied plan, with its servers and running operations.",
		Example: "  lifeboat plan list -o yaml",
		Args:    cobra.NoArgs,
	}
	return a.withHouse(cmd, func(ctx context.Context, h house, _ []string) error {
		found, err := planViews(ctx, h)
		if err != nil {
			return err
		}
		return a.print(found, func(w io.Writer) {
			row(w, "PLAN", "SERVERS", "EPOCH", "RUNNING", "OPERATIONS")
			for _, p := range found {
				row(w, p.Name, len(p.Servers), p.Epoch, joined(operationIDs(p.Running)), len(p.Operations))
			}
		})
	})
}

func planViews(ctx context.Context, h house) ([]workflows.PlanView, error) {
	names, err := allPlans(ctx, h)
	if err != nil {
		return nil, err
	}
	found := []workflows.PlanView{}
	for _, name := range names {
		view, err := planView(ctx, h, name)
		if err != nil {
			return nil, err
		}
		found = append(found, view)
	}
	return found, nil
}

func operationIDs(refs []workflows.OperationRef) []string {
	var ids []string
	for _, ref := range refs {
		ids = append(ids, ref.WorkflowID)
	}
	return ids
}

func newPlanShowCommand(a *app) *cobra.Command {
	cmd := &cobra.Command{
		Use: "show PLAN", Short: "Show a plan",
		Long:    "Show prints a plan as it is applied: which side serves, the epoch, the running and\npast operations; -o yaml and -o json also give all settings.",
		Example: "  lifeboat plan show shop\n  lifeboat plan show shop -o yaml",
		Args:    cobra.ExactArgs(1), ValidArgsFunction: a.completePlans(),
	}
	return a.withHouse(cmd, func(ctx context.Context, h house, args []string) error {
		name, err := parsePlan(args[0])
		if err != nil {
			return err
		}
		view, err := planView(ctx, h, name)
		if err != nil {
			return err
		}
		return a.print(view, func(w io.Writer) { planTable(w, view) })
	})
}

func planTable(w io.Writer, p workflows.PlanView) {
	row(w, "plan", p.Name)
	row(w, "epoch", p.Epoch)
	if p.Spec.Objectives.RTO > 0 || p.Spec.Objectives.RPO > 0 {
		row(w, "objectives", fmt.Sprintf("RTO %s, RPO %s", length(p.Spec.Objectives.RTO.D()), length(p.Spec.Objectives.RPO.D())))
	}
	for _, name := range p.Servers {
		at := "serves at " + orDash(p.Active[name])
		if s, there := p.Spec.Server(name); there {
			at += fmt.Sprintf(", protected %s to %s", s.Primary.Name, s.Recovery.Name)
			if s.Agentless() {
				at += " by " + s.Transfer
			}
		}
		row(w, "server "+name, at)
	}
	for _, name := range missingServers(p) {
		row(w, "server "+name, "not protected yet")
	}
	for i, wave := range p.Spec.Waves {
		if len(p.Spec.Waves) > 1 {
			row(w, fmt.Sprintf("wave %d", i+1), joined(wave))
		}
	}
	for _, ref := range p.Running {
		row(w, "running", ref.WorkflowID)
	}
	for _, ref := range slices.Backward(p.Operations) {
		row(w, "operation", ref.WorkflowID+" "+string(ref.Outcome))
	}
}

func newPlanDeleteCommand(a *app) *cobra.Command {
	var force, yes bool
	cmd := &cobra.Command{
		Use: "delete PLAN", Short: "End a plan",
		Long:    "Delete ends a plan. It is refused while a server of it is protected, unless --force\nis given: then its servers are removed first, with their recovery points.",
		Example: "  lifeboat plan delete shop\n  lifeboat plan delete shop --force --yes",
		Args:    cobra.ExactArgs(1), ValidArgsFunction: a.completePlans(),
	}
	a.addRequestFlag(cmd)
	cmd.Flags().BoolVar(&force, "force", false, "remove protected servers and their recovery points first")
	cmd.Flags().BoolVar(&yes, "yes", false, "do not ask")
	return a.withHouse(cmd, func(ctx context.Context, h house, args []string) error {
		name, err := parsePlan(args[0])
		if err != nil {
			return err
		}
		question := "Delete plan %s?"
		if force {
			question = "Delete plan %s, with the protection and the recovery points of all its servers?"
		}
		if err := a.confirm(yes, question, name); err != nil {
			return err
		}
		err = h.Update(ctx, workflows.PlanID(name), workflows.UpdateDelete, a.request("delete/"+name), workflows.DeleteRequest{Force: force}, nil)
		if err != nil {
			return about("plan "+name, err)
		}
		a.say("plan %s: deleted", name)
		return nil
	})
}

// writeNew writes a file that must not be there yet.
func writeNew(path string, content []byte) error {
	file, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o644)
	if err != nil {
		return usagef("%v (choose another file, or move that one away)", err)
	}
	_, err = file.Write(content)
	if closed := file.Close(); err == nil {
		err = closed
	}
	if err != nil {
		return failf("write %s: %v", path, err)
	}
	return nil
}
