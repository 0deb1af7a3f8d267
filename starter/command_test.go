package main

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"lifeboat/activities"
	"lifeboat/workflows"
)

func TestServerCommandsAreUpdatesOfTheServersEntity(t *testing.T) {
	t.Parallel()
	for args, update := range map[string]string{
		"server initialize shop/db":                                              workflows.UpdateInitialize,
		"server register shop/db":                                                workflows.UpdateRegister,
		"server cleanup shop/db":                                                 workflows.UpdateCleanUp,
		"server remove shop/db --yes":                                            workflows.UpdateRemove,
		"replication start shop/db":                                              workflows.UpdateStartReplication,
		"replication pause shop/db":                                              workflows.UpdatePause,
		"replication resume shop/db":                                             workflows.UpdateResume,
		"replication stop shop/db":                                               workflows.UpdateStop,
		"replication set shop/db --bandwidth 1MiB/s":                             workflows.UpdateSet + ` {"bytes_per_second":1048576}`,
		"replication set shop/db --bandwidth unlimited":                          workflows.UpdateSet + ` {"bytes_per_second":0}`,
		"replication set shop/db --interval 30s":                                 workflows.UpdateSet + ` {"interval":30000000000}`,
		"replication set shop/db --auto-resume=false":                            workflows.UpdateSet + ` {"auto_resume":false}`,
		"failover commit shop/db":                                                workflows.UpdateCommit,
		"failover cancel shop/db":                                                workflows.UpdateCancel,
		"failover resume-protection shop/db":                                     workflows.UpdateResumeProtection,
		"reverse register shop/db":                                               workflows.UpdateReverseRegister,
		"reverse stop shop/db":                                                   workflows.UpdateStop,
		"reverse unregister shop/db":                                             workflows.UpdateReverseUnregister,
		"point lock shop/db p-17":                                                workflows.UpdateLockPoint + ` {"id":"p-17","locked":true}`,
		"point unlock shop/db p-17":                                              workflows.UpdateLockPoint + ` {"id":"p-17","locked":false}`,
		"point mark shop/db --label before-upgrade --request-id r1 --timeout 1m": workflows.UpdateMarkPoint + ` {"label":"before-upgrade","request_id":"r1/mark/shop/db"}`,
	} {
		h := fleetHouse()
		run(t, h, strings.Fields(args)...).done(t)
		require.Len(t, h.calls, 1, args)
		require.Equal(t, "server/shop/db", h.calls[0].Workflow, args)
		require.Equal(t, update, strings.TrimSpace(h.calls[0].Update+" "+h.calls[0].Argument), args)
	}
}

func TestALimitByDayAndTimeIsSentAsTextOfPlainBytes(t *testing.T) {
	t.Parallel()
	h := fleetHouse()
	run(t, h, "replication", "set", "shop/db", "--bandwidth", "mon-fri 08:00-18:00 20MB/s").done(t)
	require.Equal(t, `{"calendar":"mon-fri 08:00-18:00 20000000B/s, else unlimited"}`, strings.TrimSpace(h.calls[0].Argument))
}

func TestACommandOnAPlanActsOnAllItsServersOneLineEach(t *testing.T) {
	t.Parallel()
	h := fleetHouse()
	h.updates["server/shop/web pause"] = refused("shop/web", "pause is refused: replication is paused already", "resume")
	r := run(t, h, "replication", "pause", "shop")
	require.Equal(t, statusRefused, r.status)
	require.Equal(t, "shop/db  real-time  lagging: writes 41 MB/s, link 28 MB/s\n", r.out)
	require.Equal(t, "lifeboat: shop/web: pause is refused: replication is paused already (legal now: resume)\n", r.err)
	require.Len(t, h.calls, 2)
}

func TestTheSameRequestIDGivesTheSameUpdateID(t *testing.T) {
	t.Parallel()
	ids := map[string]bool{}
	for range 2 {
		h := fleetHouse()
		run(t, h, "replication", "start", "shop/db", "--request-id", "ticket-1").done(t)
		ids[h.calls[0].ID] = true
	}
	require.Equal(t, map[string]bool{"ticket-1/shop/db": true}, ids)
	h := fleetHouse()
	run(t, h, "replication", "start", "shop/db").done(t)
	run(t, h, "replication", "start", "shop/db").done(t)
	require.NotEqual(t, h.calls[0].ID, h.calls[1].ID, "two invocations are two requests")
}

func TestWaitShowsProgressUntilThePhaseIsReached(t *testing.T) {
	t.Parallel()
	there := webServer()
	there.Phase, there.Replication.Stage = workflows.PhaseRealTime, "real-time"
	h := newFakeHouse().withServer(webServer(), webServer(), there)
	r := run(t, h, "replication", "start", "shop/web", "--wait").done(t)
	require.Contains(t, r.err, "shop/web  full-replication  25.0 %  1GiB of 4GiB  100MiB/s  left 31.0s\n")
	require.Contains(t, r.err, "shop/web  real-time  lag 0.0s")
	require.Contains(t, r.out, "shop/web  real-time")
}

func TestWaitIsContentWithAPhaseThatCameAfter(t *testing.T) {
	t.Parallel()
	there := webServer()
	there.Phase = workflows.PhaseRealTime
	run(t, newFakeHouse().withServer(there), "replication", "start", "shop/web", "--wait=full-replication").done(t)
}

func TestWaitEndsWhereThePhaseCannotComeByItself(t *testing.T) {
	t.Parallel()
	for says, change := range map[string]func(*workflows.ServerView){
		"joining failed: no disk data": func(s *workflows.ServerView) { s.Phase, s.LastError = workflows.PhaseInitFailed, "no disk data" },
		"replication is paused":        func(s *workflows.ServerView) { s.Health = workflows.HealthPaused },
		"it was removed":               func(s *workflows.ServerView) { s.Phase = workflows.PhaseRemoved },
	} {
		s := webServer()
		change(&s)
		r := run(t, newFakeHouse().withServer(s), "replication", "status", "shop/web", "--wait")
		require.Equal(t, statusFailed, r.status)
		require.Contains(t, r.err, says)
	}
}

func TestWaitOutlastsARestartOfWorkers(t *testing.T) {
	t.Parallel()
	there := webServer()
	there.Phase = workflows.PhaseRealTime
	h := newFakeHouse()
	h.answers["server/shop/web status"] = []any{webServer(), unreachablef(nil, "no worker is running"), unreachablef(nil, "no worker is running"), there}
	r := run(t, h, "replication", "start", "shop/web", "--wait").done(t)
	require.Equal(t, 1, strings.Count(r.err, "waiting for it to come back"), r.err)
}

func TestServersAreAddedInTens(t *testing.T) {
	t.Parallel()
	view := shopPlan()
	view.Servers, view.Spec.Servers = nil, nil
	for i := range 23 {
		view.Spec.Servers = append(view.Spec.Servers, shopPlan().Spec.Servers[0])
		view.Spec.Servers[i].Name = fmt.Sprintf("s%02d", i)
	}
	h := newFakeHouse().withPlan(view)
	for _, s := range view.Spec.Servers {
		v := webServer()
		v.Name = s.Name
		h.withServer(v)
	}
	run(t, h, "server", "add", "shop").done(t)
	require.Len(t, h.calls, 3)
	require.Equal(t, `{"servers":["s20","s21","s22"]}`, h.calls[2].Argument)
}

const planText = "../examples/plans/local.yaml"

func TestApplySaysWhatChangedAndWhichQueuesNobodyServes(t *testing.T) {
	t.Parallel()
	resolved, err := loadPlan(planText)
	require.NoError(t, err)
	h := newFakeHouse()
	h.unpolled[workflows.HostQueue("recovery")] = true
	r := run(t, h, "plan", "apply", "-f", planText).done(t)
	require.Contains(t, r.err, "plan "+resolved.Name+": created")
	require.Contains(t, r.err, "plan "+resolved.Name+": added ")
	require.Contains(t, r.err, "task queue host.recovery: no worker takes its tasks")
	require.Equal(t, []string{workflows.UpdateApply, workflows.UpdateAddServers}, []string{h.calls[0].Update, h.calls[1].Update})

	h = newFakeHouse().withPlan(workflows.PlanView{Name: resolved.Name, Spec: *resolved})
	r = run(t, h, "plan", "apply", "-f", planText, "--no-add").done(t)
	require.Contains(t, r.err, "unchanged")
	require.Len(t, h.calls, 1)

	before := *resolved
	before.Hash, before.Servers = "other", nil
	r = run(t, newFakeHouse().withPlan(workflows.PlanView{Name: resolved.Name, Spec: before}), "plan", "apply", "-f", planText, "--no-add").done(t)
	require.Contains(t, r.err, "changed: +"+resolved.Servers[0].Name)
}

func TestApplyNamesTheQueuesOfCloudWorkers(t *testing.T) {
	t.Parallel()
	const file = "../workflows/plan/testdata/aws.yaml"
	h := newFakeHouse()
	h.unpolled["cloud.aws.123456789012.eu-central-1"] = true
	h.unpolled["host.aws.210987654321.eu-west-1"] = true
	r := run(t, h, "plan", "apply", "-f", file, "--no-add").done(t)
	require.Contains(t, r.err, "task queue cloud.aws.123456789012.eu-central-1: no worker takes its tasks (start `lifeboat-worker --roles cloud --cloud aws/123456789012/eu-central-1 --data DIR`)")
	require.Contains(t, r.err, "task queue host.aws.210987654321.eu-west-1: no worker takes its tasks (start `lifeboat-worker --roles cloud --cloud aws/210987654321/eu-west-1 --data DIR`)")
	resolved, err := loadPlan(file)
	require.NoError(t, err)
	var names []string
	for _, q := range queuesOf(*resolved) {
		names = append(names, q.name)
	}
	require.Equal(t, []string{"cloud.local.office", "cloud.aws.123456789012.eu-central-1", "cloud.aws.210987654321.eu-west-1",
		"host.aws.123456789012.eu-central-1", "host.aws.210987654321.eu-west-1"}, names, "each once; nobody needs an agent")
}

func TestAnInvalidPlanIsTellingAndNothingIsAsked(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "plan.yaml")
	require.NoError(t, os.WriteFile(path, []byte("apiVersion: lifeboat/v1\nkind: RecoveryPlan\nmetadata:\n  nam: shop\n"), 0o600))
	h := newFakeHouse()
	for _, verb := range []string{"validate", "apply"} {
		r := run(t, h, "plan", verb, "-f", path)
		require.Equal(t, statusUsage, r.status)
		require.Contains(t, r.err, path+":4:3: metadata.nam")
	}
	require.Empty(t, h.calls)
	r := run(t, h, "plan", "validate", "-f", planText).done(t)
	require.Contains(t, r.out, "is valid")
}

func TestDeletingAPlan(t *testing.T) {
	t.Parallel()
	h := fleetHouse()
	run(t, h, "plan", "delete", "shop", "--force", "--yes").done(t)
	require.Equal(t, `{"force":true}`, h.calls[0].Argument)
}

func TestScheduleVerbs(t *testing.T) {
	t.Parallel()
	h := newFakeHouse()
	run(t, h, "schedule", "pause", "shop", "--note", "holidays").done(t)
	runIn(t, h, map[string]string{"USER": "operator"}, "schedule", "resume", "shop").done(t)
	run(t, h, "schedule", "trigger", "shop").done(t)
	require.Equal(t, `pause shop "holidays"`, h.actions[0])
	require.Equal(t, `resume shop "resumed with lifeboat by operator"`, h.actions[1])
	require.True(t, strings.HasPrefix(h.actions[2], "trigger shop"))
}

func TestQuestionsAreAnsweredWithYes(t *testing.T) {
	t.Parallel()
	for answer, ok := range map[string]bool{"y\n": true, "YES\n": true, "n\n": false, "\n": false, "": false} {
		a := newApp(Streams{In: strings.NewReader(answer), Err: discard{}})
		err := a.ask("Fail %s over?", "shop")
		require.Equal(t, ok, err == nil, "%q", answer)
	}
}

func TestInitNamesWhatItRegistered(t *testing.T) {
	t.Parallel()
	h := newFakeHouse()
	h.missing = []string{"LifeboatPlan"}
	r := run(t, h, "init", "-o", "json").done(t)
	require.Contains(t, r.out, `"registered": [
    "LifeboatPlan"
  ]`)
}

func TestMarkedPointsArePrinted(t *testing.T) {
	t.Parallel()
	h := fleetHouse()
	h.updates["server/shop/db mark-point"] = activities.Point{ID: "p-18", Stream: "shop/db", Time: noon, Kind: "marked", Label: "x"}
	r := run(t, h, "point", "mark", "shop/db", "--label", "x").done(t)
	require.Contains(t, r.out, "p-18")
}
