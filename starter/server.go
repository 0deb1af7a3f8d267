package main

import (
	"context"
	"fmt"
	"io"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"lifeboat/workflows"
)

func newServerCommand(a *app) *cobra.Command {
	return noun("server", "Protected servers: add, look at, prepare, remove",
		"A protected server is one server of a plan. Its phase says where it stands in\nthe life cycle; `server explain` says what is legal in it, and why the rest is not.",
		newServerAddCommand(a), newServerListCommand(a), newServerShowCommand(a), newServerExplainCommand(a),
		serverCommand{update: workflows.UpdateInitialize, use: "initialize PLAN[/SERVER]", leadsTo: workflows.PhaseInitialized,
			example: "  lifeboat server initialize shop/db --wait",
			short:   "Examine server and recovery site again, after a mend",
			long:    "Initialize joins a server to protection again after its first examination\nfailed: the source server, its disks, the networks and both agents are looked at."}.new(a),
		serverCommand{update: workflows.UpdateRegister, use: "register PLAN[/SERVER]", leadsTo: workflows.PhaseInitialized,
			example: "  lifeboat server register shop --wait",
			short:   "Protect the server at the primary site again, after a failback",
			long:    "Register ends a failback: the server at the primary site is the one that is\nprotected again. Replication may then be started; where the old copy is still\nthere, only what changed is copied."}.new(a),
		serverCommand{update: workflows.UpdateCleanUp, use: "cleanup PLAN[/SERVER]", leadsTo: workflows.PhaseFailedBack,
			example: "  lifeboat server cleanup shop",
			short:   "Delete what failover and reverse replication left, after a verified failback",
			long:    "Clean up deletes the recovered server and other resources at the recovery site\nthat a failback left there for safety; it comes before `server register`, and the next\nprotection is then a full copy. It is refused when the failback skipped a check."}.new(a),
		serverCommand{update: workflows.UpdateRemove, use: "remove PLAN/SERVER", leadsTo: workflows.PhaseRemoved, single: true,
			example:  "  lifeboat server remove shop/db --yes --wait",
			question: "Remove %s from protection and delete its recovery points?",
			short:    "Take a server out of protection",
			long:     "Remove ends the protection of a server and deletes what Lifeboat made for it:\nreplica disks and recovery points. The server itself is not touched. Stop its\nreplication first."}.new(a),
	)
}

// serverCommand describes a command that is one update of server entities.
type serverCommand struct {
	update, use, short, long, example string
	argument                          any
	leadsTo                           workflows.Phase
	single                            bool   // wants PLAN/SERVER
	question                          string // asked before; %s is the target
}

// new makes the command: the update goes to every server that is named, one
// line each, and --wait waits for the phase that it leads to.
func (c serverCommand) new(a *app) *cobra.Command {
	var wait awaited
	var yes bool
	cmd := &cobra.Command{Use: c.use, Short: c.short, Long: c.long, Example: c.example, Args: cobra.ExactArgs(1), ValidArgsFunction: a.completeTargets()}
	if c.single {
		cmd.ValidArgsFunction = a.completeServers()
	}
	a.addRequestFlag(cmd)
	wait.addFlag(cmd, c.leadsTo)
	if c.question != "" {
		cmd.Flags().BoolVar(&yes, "yes", false, "do not ask")
	}
	return a.withHouse(cmd, func(ctx context.Context, h house, args []string) error {
		parse := parseTarget
		if c.single {
			parse = parseServer
		}
		t, err := parse(args[0])
		if err != nil {
			return err
		}
		if c.question != "" {
			if err := a.confirm(yes, c.question, t); err != nil {
				return err
			}
		}
		return a.updateServers(ctx, h, t, c.update, c.argument, wait)
	})
}

// updateServers sends an update to the servers of a target, then waits when asked to.
func (a *app) updateServers(ctx context.Context, h house, t target, update string, argument any, wait awaited) error {
	phase, waits, err := wait.target()
	if err != nil {
		return err
	}
	targets, err := servers(ctx, h, t)
	if err != nil {
		return err
	}
	states, failed := forEach(ctx, targets, func(ctx context.Context, t target) (workflows.ServerView, error) {
		var view workflows.ServerView
		err := h.Update(ctx, workflows.ServerID(t.Plan, t.Server), update, a.request(t.String()), argument, &view)
		return view, err
	})
	if ctx.Err() != nil {
		return ctx.Err()
	}
	if waits && len(states) > 0 {
		var reached []target
		for _, s := range states {
			reached = append(reached, target{s.Plan, s.Name})
		}
		var err error
		if states, err = a.waitFor(ctx, h, reached, phase); err != nil && failed == nil {
			failed = err
		}
	}
	if len(states) > 0 {
		if err := a.print(states, func(w io.Writer) {
			for _, s := range states {
				row(w, s.Plan+"/"+s.Name, s.Phase, healthText(s))
			}
		}); err != nil {
			return err
		}
	}
	return failed
}

func healthText(s workflows.ServerView) string {
	if s.HealthReason == "" || s.Health == workflows.HealthOK {
		return string(s.Health)
	}
	return string(s.Health) + ": " + s.HealthReason
}

func newServerAddCommand(a *app) *cobra.Command {
	var wait awaited
	cmd := &cobra.Command{
		Use:     "add PLAN[/SERVER]…",
		Short:   "Add servers of a plan to protection",
		Long:    "Add protects servers that the applied plan names but that are not protected\nyet; PLAN alone adds all of them, ten at a time. `plan apply` does this by itself\nunless it is told --no-add.",
		Example: "  lifeboat server add shop\n  lifeboat server add shop/db --wait",
		Args:    cobra.MinimumNArgs(1), ValidArgsFunction: a.completePlans(),
	}
	a.addRequestFlag(cmd)
	wait.addFlag(cmd, workflows.PhaseInitialized)
	return a.withHouse(cmd, func(ctx context.Context, h house, args []string) error {
		phase, waits, err := wait.target()
		if err != nil {
			return err
		}
		wanted := map[string][]string{}
		for _, arg := range args {
			t, err := parseTarget(arg)
			if err != nil {
				return err
			}
			wanted[t.Plan] = append(wanted[t.Plan], t.Server)
		}
		var added []target
		for plan, names := range wanted {
			view, err := planView(ctx, h, plan)
			if err != nil {
				return err
			}
			if slices.Contains(names, "") {
				names = missingServers(view)
			}
			if err := a.addServers(ctx, h, plan, names); err != nil {
				return err
			}
			for _, name := range names {
				added = append(added, target{plan, name})
			}
		}
		slices.SortFunc(added, func(a, b target) int { return strings.Compare(a.String(), b.String()) })
		return a.showAdded(ctx, h, added, phase, waits)
	})
}

func (a *app) showAdded(ctx context.Context, h house, added []target, phase workflows.Phase, waits bool) error {
	var states []workflows.ServerView
	var err error
	if waits {
		states, err = a.waitFor(ctx, h, added, phase)
	} else {
		states, err = views(ctx, h, added)
	}
	if len(added) == 0 {
		a.say("every server of the plan is protected already")
	}
	if printed := a.printServers(states); printed != nil {
		return printed
	}
	return err
}

// missingServers are those that the plan names but does not protect yet.
func missingServers(view workflows.PlanView) []string {
	var missing []string
	for _, s := range view.Spec.Servers {
		if !slices.Contains(view.Servers, s.Name) {
			missing = append(missing, s.Name)
		}
	}
	return missing
}

// addServers adds servers to protection, as many at a time as one request takes.
func (a *app) addServers(ctx context.Context, h house, plan string, names []string) error {
	for ten := range slices.Chunk(names, inTens) {
		request := workflows.AddServersRequest{Servers: ten}
		err := h.Update(ctx, workflows.PlanID(plan), workflows.UpdateAddServers, a.request("add/"+strings.Join(ten, ",")), request, nil)
		if err != nil {
			return about("plan "+plan, err)
		}
	}
	return nil
}

func newServerListCommand(a *app) *cobra.Command {
	cmd := &cobra.Command{
		Use: "list [PLAN]", Short: "List protected servers",
		Long:    "List shows every protected server, or those of one plan: phase, health, how old\nthe newest recovery point is, and the progress of replication.",
		Example: "  lifeboat server list\n  lifeboat server list shop -o json",
		Args:    cobra.MaximumNArgs(1), ValidArgsFunction: a.completePlans(),
	}
	return a.withHouse(cmd, func(ctx context.Context, h house, args []string) error {
		plan := ""
		if len(args) > 0 {
			var err error
			if plan, err = parsePlan(args[0]); err != nil {
				return err
			}
		}
		targets, err := allServers(ctx, h, plan)
		if err != nil {
			return err
		}
		if plan != "" && len(targets) == 0 {
			if _, err := planView(ctx, h, plan); err != nil {
				return err
			}
		}
		states, failed := forEach(ctx, targets, func(ctx context.Context, t target) (workflows.ServerView, error) { return liveView(ctx, h, t) })
		if err := a.printServers(states); err != nil {
			return err
		}
		return failed
	})
}

func (a *app) printServers(states []workflows.ServerView) error {
	if states == nil {
		states = []workflows.ServerView{}
	}
	return a.print(states, func(w io.Writer) {
		row(w, "SERVER", "PHASE", "HEALTH", "DRILL", "RPO", "REPLICATION", "SERVES AT")
		for _, s := range states {
			row(w, s.Plan+"/"+s.Name, s.Phase, healthText(s), s.Drill, seconds(s.RPOSeconds), replicationText(s.Replication), servesAt(s))
		}
	})
}

func replicationText(r workflows.ReplicationView) string {
	switch r.Stage {
	case "":
		return "-"
	case "real-time":
		return "real-time, lag " + seconds(r.LagSeconds)
	}
	return fmt.Sprintf("%s %.1f %%, %s/s", r.Stage, r.Percent, size(int64(r.RateBytesPerSecond)))
}

// servesAt is the address of the server that is in production, as far as the
// phase tells.
func servesAt(s workflows.ServerView) string {
	at := s.Primary
	if s.Direction == workflows.Reverse || s.Phase == workflows.PhaseFailedOver || s.Phase == workflows.PhaseFailoverComplete {
		at = s.Recovered
	}
	if at == nil {
		return "-"
	}
	if at.Public != "" {
		return at.Public
	}
	return at.IP
}

func newServerShowCommand(a *app) *cobra.Command {
	cmd := &cobra.Command{
		Use: "show PLAN/SERVER", Short: "Show one protected server",
		Long:    "Show prints all that is known of one protected server.",
		Example: "  lifeboat server show shop/db\n  lifeboat server show shop/db -o yaml",
		Args:    cobra.ExactArgs(1), ValidArgsFunction: a.completeServers(),
	}
	return a.withHouse(cmd, func(ctx context.Context, h house, args []string) error {
		t, err := parseServer(args[0])
		if err != nil {
			return err
		}
		s, err := liveView(ctx, h, t)
		if err != nil {
			return err
		}
		return a.print(s, func(w io.Writer) { serverTable(w, s) })
	})
}

func serverTable(w io.Writer, s workflows.ServerView) {
	row(w, "server", s.Plan+"/"+s.Name)
	row(w, "phase", s.Phase)
	row(w, "health", healthText(s))
	row(w, "direction", s.Direction)
	row(w, "epoch", s.Epoch)
	if s.Operation != "" {
		row(w, "operation", s.Operation)
	}
	if s.Drill != workflows.DrillNone {
		row(w, "drill", string(s.Drill)+" "+s.DrillID)
	}
	row(w, "RPO", seconds(s.RPOSeconds))
	if s.LastPoint != nil {
		row(w, "last point", s.LastPoint.ID+" "+s.LastPoint.Time.UTC().Format(time.RFC3339))
	}
	row(w, "replication", replicationText(s.Replication))
	if r := s.Replication; r.CutMethod != "" {
		row(w, "cut", r.CutMethod+", server paused "+seconds(r.PauseSeconds))
	}
	if s.Primary != nil {
		row(w, "primary", s.Primary.ID+" "+s.Primary.State+" "+s.Primary.IP+" "+s.Primary.Public)
	}
	if s.Recovered != nil {
		row(w, "recovered", s.Recovered.ID+" "+s.Recovered.State+" "+s.Recovered.IP+" "+s.Recovered.Public)
	}
	for _, note := range s.Notes {
		row(w, "note", note)
	}
	if s.LastError != "" {
		row(w, "last error", s.LastError)
	}
	row(w, "legal now", strings.Join(s.Allowed, ", "))
}

// explanation is what `server explain -o json` prints.
type explanation struct {
	Plan    string            `json:"plan"`
	Name    string            `json:"name"`
	Phase   workflows.Phase   `json:"phase"`
	Allowed []string          `json:"allowed"`
	Refused map[string]string `json:"refused"`
}

func newServerExplainCommand(a *app) *cobra.Command {
	cmd := &cobra.Command{
		Use: "explain PLAN/SERVER", Short: "Say what is legal now, and why the rest is not",
		Long:    "Explain lists the operations that the phase of a server allows, and for every\nother one the reason why it is refused.",
		Example: "  lifeboat server explain shop/db",
		Args:    cobra.ExactArgs(1), ValidArgsFunction: a.completeServers(),
	}
	return a.withHouse(cmd, func(ctx context.Context, h house, args []string) error {
		t, err := parseServer(args[0])
		if err != nil {
			return err
		}
		s, err := serverView(ctx, h, t)
		if err != nil {
			return err
		}
		e := explanation{s.Plan, s.Name, s.Phase, s.Allowed, s.Refused}
		return a.print(e, func(w io.Writer) {
			row(w, "OPERATION", "LEGAL", "REASON IN PHASE "+string(e.Phase))
			for _, name := range e.Allowed {
				row(w, name, "yes", "")
			}
			for _, name := range sortedKeys(e.Refused) {
				row(w, name, "no", e.Refused[name])
			}
		})
	})
}
