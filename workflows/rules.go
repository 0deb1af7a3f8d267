package workflows

import (
	"fmt"
	"slices"
	"sort"

	"go.temporal.io/sdk/temporal"
)

// Commands of a protected server, as in `allowed` and `refused`.
const (
	CmdInitialize       = "initialize"
	CmdRemove           = "remove"
	CmdEdit             = "edit"
	CmdStartReplication = "start-replication"
	CmdPause            = "pause"
	CmdResume           = "resume"
	CmdStop             = "stop"
	CmdSet              = "set"
	CmdMarkPoint        = "mark-point"
	CmdDrill            = "drill"
	CmdCleanDrill       = "clean-drill"
	CmdFailover         = "failover"
	CmdApprove          = "approve"
	CmdSkip             = "skip"
	CmdRetry            = "retry"
	CmdHold             = "pause-operation"
	CmdGoOn             = "resume-operation"
	CmdAbort            = "abort"
	CmdCommit           = "commit"
	CmdSwitchPoint      = "switch-point"
	CmdCancel           = "cancel"
	CmdReverseRegister  = "reverse-register"
	CmdResumeProtection = "resume-protection"
	CmdReverseStart     = "reverse-start"
	CmdUnregister       = "reverse-unregister"
	CmdFailback         = "failback"
	CmdRegister         = "register"
	CmdCleanUp          = "cleanup"
)

// decisions are the commands that a running failover or failback takes.
var decisions = []string{CmdApprove, CmdSkip, CmdRetry, CmdHold, CmdGoOn, CmdAbort}

// legal is the table of contract section 2: which commands each phase takes.
var legal = map[Phase][]string{
	PhaseInstalling:        {CmdInitialize, CmdRemove},
	PhaseInitFailed:        {CmdInitialize, CmdRemove, CmdEdit},
	PhaseInitialized:       {CmdStartReplication, CmdEdit, CmdRemove},
	PhaseStarting:          {CmdPause, CmdStop, CmdSet},
	PhaseFullReplication:   {CmdPause, CmdStop, CmdSet},
	PhaseRealTime:          {CmdDrill, CmdFailover, CmdMarkPoint, CmdPause, CmdStop, CmdEdit, CmdSet},
	PhaseFailingOver:       decisions,
	PhaseFailedOver:        {CmdCommit, CmdSwitchPoint, CmdCancel},
	PhaseFailoverComplete:  {CmdReverseRegister, CmdResumeProtection, CmdRemove, CmdEdit},
	PhaseReverseRegistered: {CmdReverseStart, CmdUnregister, CmdEdit},
	PhaseReverseStarting:   {CmdPause, CmdStop, CmdSet},
	PhaseReverseFull:       {CmdPause, CmdStop, CmdSet},
	PhaseReverseRealTime:   {CmdFailback, CmdDrill, CmdPause, CmdStop, CmdSet, CmdMarkPoint},
	PhaseFailingBack:       decisions,
	PhaseFailedBack:        {CmdRegister, CmdCleanUp},
	PhaseRemoved:           {},
}

// why says, for a phase, what has to happen before most other commands make sense.
var why = map[Phase]string{
	PhaseInstalling:        "the server is still being examined and joined",
	PhaseInitFailed:        "joining failed: see last_error, mend it, then initialize again",
	PhaseInitialized:       "nothing is replicated yet: start replication first",
	PhaseStarting:          "there is no complete copy yet: wait for real-time",
	PhaseFullReplication:   "there is no complete copy yet: wait for real-time",
	PhaseRealTime:          "the server is protected and runs at the primary site",
	PhaseFailingOver:       "a failover is running",
	PhaseFailedOver:        "the failover waits for commit, switch-point or cancel",
	PhaseFailoverComplete:  "the server runs at the recovery site, unprotected: reverse-register it first",
	PhaseReverseRegistered: "reverse replication has not been started",
	PhaseReverseStarting:   "there is no complete copy at the primary site yet: wait for reverse-real-time",
	PhaseReverseFull:       "there is no complete copy at the primary site yet: wait for reverse-real-time",
	PhaseReverseRealTime:   "the server runs at the recovery site and is protected in reverse: failback leads home",
	PhaseFailingBack:       "a failback is running",
	PhaseFailedBack:        "the server is home again: register it to protect it",
	PhaseRemoved:           "the server was removed from protection",
}

// allCommands in a fixed order.
var allCommands = func() []string {
	seen := map[string]bool{CmdResume: true, CmdCleanDrill: true}
	for _, cmds := range legal {
		for _, c := range cmds {
			seen[c] = true
		}
	}
	all := make([]string, 0, len(seen))
	for c := range seen {
		all = append(all, c)
	}
	sort.Strings(all)
	return all
}()

// Refuse returns why a command is illegal now, or "" when it is legal.
func (s *ServerState) Refuse(command string) string {
	replicating := s.Stream != nil
	switch {
	case command == CmdCleanDrill:
		return unless(s.Drill != DrillNone, "no drill exists")
	case command == CmdResume:
		stopped := s.Health == HealthPaused || s.Health == HealthInterrupted
		return unless(replicating && stopped, "replication is neither paused nor interrupted")
	case !slices.Contains(legal[s.Phase], command):
		return fmt.Sprintf("the phase is %s: %s", s.Phase, why[s.Phase])
	case s.Busy != "" && !slices.Contains(decisions, command):
		return s.Busy + " is running; wait for its end"
	case s.Operation != "" && !slices.Contains(decisions, command):
		return "operation " + s.Operation + " is running; wait for its end"
	case command == CmdDrill && s.Drill != DrillNone:
		return "drill " + s.DrillID + " exists; clean it first"
	case command == CmdPause && s.Health == HealthPaused:
		return "replication is paused already"
	case (command == CmdDrill || command == CmdSwitchPoint) && len(s.Points) == 0:
		return "there is no recovery point yet"
	}
	return ""
}

// Allowed lists the legal commands, sorted.
func (s *ServerState) Allowed() []string {
	allowed := []string{}
	for _, c := range allCommands {
		if s.Refuse(c) == "" {
			allowed = append(allowed, c)
		}
	}
	return allowed
}

// refusal makes the typed error of a validator.
func (s *ServerState) refusal(command string) error {
	reason := s.Refuse(command)
	if reason == "" {
		return nil
	}
	return Refused(Refusal{Subject: s.Plan + "/" + s.Spec.Name, Phase: s.Phase,
		Reason: command + " is refused: " + reason, Allowed: s.Allowed()})
}

// Refused makes the error that leads to exit status 3.
func Refused(r Refusal) error {
	return temporal.NewApplicationErrorWithOptions(r.Subject+": "+r.Reason, ErrRefused,
		temporal.ApplicationErrorOptions{NonRetryable: true, Details: []any{r}})
}

// invalid makes the error that leads to exit status 2.
func invalid(format string, args ...any) error {
	return temporal.NewNonRetryableApplicationError(fmt.Sprintf(format, args...), ErrInvalid, nil)
}

func unless(ok bool, reason string) string {
	if ok {
		return ""
	}
	return reason
}
