package workflows

import (
	"encoding/json"
	"strings"
	"time"

	"go.temporal.io/sdk/workflow"

	"lifeboat/activities"
	"lifeboat/workflows/plan"
)

// readyServer is a server of the plan as a readiness check sees it.
type readyServer struct {
	spec      plan.ResolvedServer
	protected bool
	view      *ServerView       // nil when it could not be asked
	point     *activities.Point // newest that can be started from
}

// readServer asks a server's entity for its state and its points, and judges both.
func (r *readiness) readServer(ctx workflow.Context, s *readyServer) []activities.Check {
	line := activities.Check{Check: activities.CheckKindProtection, Server: s.spec.Name, Subject: s.spec.Primary.Name + " → " + s.spec.Recovery.Name}
	if !s.protected {
		return []activities.Check{found(line, activities.Finding{Status: activities.CheckFail, Cause: "is in the plan, but not protected",
			Mend: "lifeboat server add " + r.in.Plan + "/" + s.spec.Name})}
	}
	var view ServerView
	var points []activities.Point
	err := r.ask(ctx, s, QueryStatus, &view)
	if err == nil {
		s.view = &view
		err = r.ask(ctx, s, QueryPoints, &points)
	}
	if err != nil {
		_, cause, mend := activities.Explain(err)
		return []activities.Check{found(line, activities.Finding{Status: activities.CheckUnknown, Cause: cause, Mend: mend})}
	}
	lines := []activities.Check{found(line, r.judgeProtection(s))}
	if s.expectsPoints() {
		lines = append(lines, r.judgePoints(workflow.Now(ctx), s, points))
	}
	return lines
}

func (r *readiness) ask(ctx workflow.Context, s *readyServer, query string, into any) error {
	var answer json.RawMessage
	err := workflow.ExecuteActivity(r.t.look(ctx, TaskQueue, query+" of "+s.spec.Name), controlActs.Ask,
		activities.AskInput{WorkflowID: ServerID(r.in.Plan, s.spec.Name), Query: query}).Get(ctx, &answer)
	if err != nil {
		return err
	}
	return json.Unmarshal(answer, into)
}

func found(line activities.Check, f activities.Finding) activities.Check {
	line.Status, line.Cause, line.Mend = f.Status, f.Cause, f.Mend
	return line
}

// judgeProtection says whether the server could be recovered from what its entity knows.
func (r *readiness) judgeProtection(s *readyServer) activities.Finding {
	v := s.view
	explain := "lifeboat server explain " + r.in.Plan + "/" + v.Name
	switch {
	case v.Phase == PhaseFailingOver || v.Phase == PhaseFailingBack:
		return activities.Finding{Status: activities.CheckUnknown, Cause: why[v.Phase] + ": " + v.Operation, Mend: "check again when it is over"}
	case v.Phase != PhaseRealTime && v.Phase != PhaseReverseRealTime:
		return activities.Finding{Status: activities.CheckFail, Cause: "could not be recovered: phase " + string(v.Phase) + ", " + why[v.Phase], Mend: explain}
	case v.Health != HealthOK:
		return activities.Finding{Status: activities.CheckWarn, Cause: "phase " + string(v.Phase) + ", but replication is " + string(v.Health) + ": " + v.HealthReason, Mend: explain}
	}
	return activities.Finding{Status: activities.CheckOK, Cause: "phase " + string(v.Phase) + ", replication is fine"}
}

// expectsPoints tells whether recovery points are made, or should be.
func (s *readyServer) expectsPoints() bool {
	if s.view == nil {
		return false
	}
	switch s.view.Phase {
	case PhaseRealTime, PhaseReverseRealTime:
		return true
	case PhaseInitialized: // stopped: points were kept
		return s.view.LastPoint != nil
	}
	return false
}

// judgePoints finds the newest point that a recovery would choose, and judges its age.
func (r *readiness) judgePoints(now time.Time, s *readyServer, points []activities.Point) activities.Check {
	line := activities.Check{Check: activities.CheckKindPoint, Server: s.spec.Name, Site: s.target().Name, Subject: "the newest"}
	for _, p := range points { // newest first
		if p.Verified && !p.Consumed {
			s.point = &p
			break
		}
	}
	if s.point == nil {
		return found(line, activities.Finding{Status: activities.CheckFail, Cause: "there is none that can be started from",
			Mend: "see why none is made: lifeboat replication status " + r.in.Plan})
	}
	line.Subject = s.point.ID
	return found(line, activities.JudgeAge(now.Sub(s.point.Time), r.in.Spec.Objectives.RPO.D(), s.spec.Policy.Every.D()))
}

// reversed tells that the next recovery leads home.
func (s *readyServer) reversed() bool { return s.view != nil && s.view.Direction == Reverse }

// recoverable tells whether the next recovery launches a server: not while one is at work
// or waits for a decision, when addresses belong to what it launched.
func (s *readyServer) recoverable() bool {
	if s.view == nil {
		return true // as far as the plan alone can tell
	}
	switch s.view.Phase {
	case PhaseFailingOver, PhaseFailedOver, PhaseFailoverComplete, PhaseFailingBack, PhaseFailedBack, PhaseRemoved:
		return false
	}
	return true
}

// source and target of the next recovery.
func (s *readyServer) source() plan.Site {
	if s.reversed() {
		return s.spec.Recovery
	}
	return s.spec.Primary
}

func (s *readyServer) target() plan.Site {
	if s.reversed() {
		return s.spec.Primary
	}
	return s.spec.Recovery
}

// agents that the next recovery, and the replication before it, need.
func (s *readyServer) agents() []string {
	if s.spec.Agentless() {
		return []string{s.target().Agent}
	}
	return []string{s.spec.Primary.Agent, s.spec.Recovery.Agent}
}

// launch is what the next recovery would launch, as [recovery.launchInput] has it.
func (s *readyServer) launch() activities.ReadyServer {
	l := s.spec.Launch
	out := activities.ReadyServer{Name: s.spec.Name, Type: l.Type, CPU: l.CPU, Memory: int64(l.Memory), PublicIP: l.PublicIP}
	if s.reversed() {
		out.Network = s.spec.PrimaryNetwork.Name
		out.CIDR = s.spec.PrimaryNetwork.CIDR
		if out.Network == "" && s.view.Primary != nil {
			out.Network = first(s.view.Primary.Network, s.view.Primary.NetworkID)
		}
		return out
	}
	n := s.spec.RecoveryNetwork
	out.Network, out.CIDR, out.IP = n.Name, n.CIDR, l.IP
	if out.IP == "" && s.view != nil && s.view.Primary != nil && contains(n.CIDR, s.view.Primary.IP) {
		out.IP = s.view.Primary.IP
	}
	out.Key = l.Settings["kms-key"]
	out.Substitutes = strings.FieldsFunc(l.Settings["substitutes"], func(c rune) bool { return c == ',' || c == ' ' })
	return out
}

// reached lists the addresses of the server that serves now; none when that is not known.
func (s *readyServer) reached() (addresses []string) {
	if s.view == nil {
		return nil
	}
	var serves *activities.ServerInfo
	switch s.view.Phase {
	case PhaseInstalling, PhaseInitFailed, PhaseInitialized, PhaseStarting, PhaseFullReplication, PhaseRealTime:
		serves = s.view.Primary
	case PhaseFailedOver, PhaseFailoverComplete, PhaseReverseRegistered, PhaseReverseStarting, PhaseReverseFull, PhaseReverseRealTime:
		serves = s.view.Recovered
	}
	if serves == nil {
		return nil
	}
	for _, a := range []string{serves.Public, serves.IP} {
		if a != "" {
			addresses = append(addresses, a)
		}
	}
	return addresses
}
