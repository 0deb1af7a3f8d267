package main

import (
	"context"
	"fmt"
	"io"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"lifeboat/workflows"
	"lifeboat/workflows/plan"
)

// pointWords are the words that name recovery points.
var pointWords = []string{"latest", "current-time", "newest-tested"}

// startFlags are the flags of commands that start an operation of a plan.
type startFlags struct {
	point, network, ip, kind, memory, diskType, publicIP, script string
	cpu                                                          int
	servers                                                      []string
	detach, wait, yes                                            bool
	sourceDown                                                   bool
	declared                                                     string
}

// add adds the flags that choose servers and how to wait.
func (f *startFlags) add(a *app, cmd *cobra.Command) {
	a.addRequestFlag(cmd)
	cmd.Flags().StringSliceVar(&f.servers, "server", nil, "only this server of the plan (repeatable)")
	cmd.Flags().BoolVar(&f.detach, "detach", false, "do not follow the operation, print its reference at once")
	cmd.Flags().BoolVar(&f.wait, "wait", false, "follow the operation to its end (the default)")
	cmd.MarkFlagsMutuallyExclusive("detach", "wait")
	cmd.ValidArgsFunction = a.completeTargets()
}

// addLaunch adds the flags that replace the launch settings of the plan.
func (f *startFlags) addLaunch(a *app, cmd *cobra.Command) {
	flags := cmd.Flags()
	flags.StringVar(&f.point, "point", "", "recovery point: ID, RFC 3339 time, "+strings.Join(pointWords, ", ")+" (default latest)")
	flags.StringVar(&f.network, "network", "", "network of the recovered servers")
	flags.StringVar(&f.ip, "ip", "", "private address (one server only)")
	flags.StringVar(&f.kind, "type", "", "instance type")
	flags.IntVar(&f.cpu, "cpu", 0, "virtual CPUs, with --memory instead of --type")
	flags.StringVar(&f.memory, "memory", "", "memory, e.g. 4GiB, with --cpu instead of --type")
	flags.StringVar(&f.diskType, "disk-type", "", "class of the recovered disks")
	flags.StringVar(&f.publicIP, "public-ip", "", "name of the public address that moves to the recovered server (one server only)")
	flags.StringVar(&f.script, "script", "", "file with a script to run on the recovered servers")
	cmd.MarkFlagsRequiredTogether("cpu", "memory")
	cmd.MarkFlagsMutuallyExclusive("type", "cpu")
	a.completePointFlag(cmd, pointWords...)
}

// request makes the request from the flags. PLAN/SERVER is short for PLAN --server SERVER.
func (f *startFlags) request(t target) (workflows.OperationRequest, error) {
	request := workflows.OperationRequest{Servers: slices.Clone(f.servers), Point: f.point, SourceDown: f.sourceDown}
	if t.Server != "" && !slices.Contains(request.Servers, t.Server) {
		request.Servers = append(request.Servers, t.Server)
	}
	if f.declared != "" {
		at, err := time.Parse(time.RFC3339Nano, f.declared)
		if err != nil {
			return request, usagef("--declared-at %q: not an RFC 3339 time; write it like 2026-01-31T12:00:00Z", f.declared)
		}
		request.Declared = &at
	}
	overrides := workflows.Overrides{Network: f.network, IP: f.ip, Type: f.kind, CPU: f.cpu, DiskType: f.diskType, PublicIP: f.publicIP}
	if f.memory != "" {
		size, err := plan.ParseSize(f.memory)
		if err != nil {
			return request, usagef("--memory: %v", err)
		}
		overrides.Memory = int64(size)
	}
	if f.cpu < 0 {
		return request, usagef("--cpu %d: a number of CPUs is positive", f.cpu)
	}
	if (f.ip != "" || f.publicIP != "") && len(request.Servers) > 1 {
		return request, usagef("--ip and --public-ip are for one server: name it with --server")
	}
	if f.script != "" {
		content, err := readScript(f.script)
		if err != nil {
			return request, err
		}
		overrides.Script = content
	}
	request.Overrides = overrides
	return request, nil
}

// maxScript is how much of a script travels through Temporal.
const maxScript = 64 << 10

func readScript(path string) (string, error) {
	file, err := os.Open(path)
	if err != nil {
		return "", usagef("--script: %v", err)
	}
	defer file.Close()
	content, err := io.ReadAll(io.LimitReader(file, maxScript+1))
	if err != nil {
		return "", usagef("--script: %v", err)
	}
	if len(content) > maxScript {
		return "", usagef("--script %s: longer than 64 KiB; let a short script call what is on the disk", path)
	}
	return string(content), nil
}

// beginOperation asks the plan for an operation.
func (a *app) beginOperation(ctx context.Context, h house, arg, update string, f *startFlags, mend func(*workflows.OperationRequest) error) (workflows.OperationRef, error) {
	var ref workflows.OperationRef
	t, err := parseTarget(arg)
	if err != nil {
		return ref, err
	}
	request, err := f.request(t)
	if err == nil && mend != nil {
		err = mend(&request)
	}
	if err != nil {
		return ref, err
	}
	if err := h.Update(ctx, workflows.PlanID(t.Plan), update, a.request(update+"/"+t.Plan), request, &ref); err != nil {
		return ref, about("plan "+t.Plan, err)
	}
	if !f.detach {
		a.say("%s of %s accepted as %s", ref.Operation, joined(ref.Servers), ref.WorkflowID)
	}
	return ref, nil
}

// startOperation asks the plan for an operation and follows it, unless told not to.
func (a *app) startOperation(ctx context.Context, h house, arg, update string, f *startFlags, mend func(*workflows.OperationRequest) error) error {
	ref, err := a.beginOperation(ctx, h, arg, update, f, mend)
	if err != nil {
		return err
	}
	if f.detach {
		return a.print(ref, func(w io.Writer) { row(w, ref.WorkflowID, string(ref.Outcome)) })
	}
	report, err := a.follow(ctx, h, ref.WorkflowID)
	if err != nil {
		return err
	}
	return a.conclude(report)
}

// operationFlag is --operation N.
func operationFlag(cmd *cobra.Command, number *int) {
	cmd.Flags().IntVar(number, "operation", 0, "number of the operation (default: the newest)")
}

// findOperation gives the workflow of the numbered operation of a plan, or of
// the newest of its kinds.
func findOperation(ctx context.Context, h house, plan string, number int, running bool, kinds ...workflows.Operation) (string, error) {
	if number < 0 {
		return "", usagef("--operation %d: operations are numbered from 1", number)
	}
	view, err := planView(ctx, h, plan)
	if err != nil {
		return "", err
	}
	candidates := view.Operations
	if running {
		candidates = view.Running
	}
	for _, ref := range slices.Backward(candidates) {
		if slices.Contains(kinds, ref.Operation) && (number == 0 || ref.Number == number) {
			return ref.WorkflowID, nil
		}
	}
	if number > 0 && !running {
		// The plan remembers only the newest; the workflow itself may still be there.
		return workflows.OperationID(kinds[0], plan, number), nil
	}
	what := string(kinds[0])
	if number > 0 {
		what += fmt.Sprintf(" %d", number)
	}
	if running {
		return "", &statusError{status: statusRefused, message: fmt.Sprintf("plan %s: no %s is running (see `lifeboat report list %s`)", plan, what, plan)}
	}
	return "", usagef("plan %s: there was no %s yet (see `lifeboat report list %s`)", plan, what, plan)
}

// newShowCommand makes `NOUN show PLAN`: the report of the newest operation.
func newShowCommand(a *app, op workflows.Operation) *cobra.Command {
	var number int
	cmd := &cobra.Command{
		Use: "show PLAN", Short: "Show the report of a " + string(op),
		Long:    fmt.Sprintf("Show prints the report of the newest %s of a plan, running or ended: steps, the six\nstamps, achieved RTO and RPO, and the resources created, deleted and left.", op),
		Example: fmt.Sprintf("  lifeboat %s show shop\n  lifeboat %s show shop --operation 2 -o json", op, op),
		Args:    cobra.ExactArgs(1), ValidArgsFunction: a.completePlans(),
	}
	operationFlag(cmd, &number)
	return a.withHouse(cmd, func(ctx context.Context, h house, args []string) error {
		name, err := parsePlan(args[0])
		if err != nil {
			return err
		}
		id, err := findOperation(ctx, h, name, number, false, op)
		if err != nil {
			return err
		}
		var report workflows.Report
		if err := h.Query(ctx, id, workflows.QueryStatus, &report); err != nil {
			return err
		}
		if err := a.printReport(report); err != nil {
			return err
		}
		for _, command := range decisionCommands(report) {
			a.say("to decide: %s", command)
		}
		return nil
	})
}
