package main

import (
	"context"
	"errors"
	"fmt"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"go.temporal.io/api/serviceerror"
	"go.temporal.io/sdk/temporal"

	"lifeboat/activities/cloud"
	"lifeboat/internal/dial"
	"lifeboat/workflows"
	"lifeboat/workflows/plan"
)

func TestExitStatusSaysWhatKindOfErrorItWas(t *testing.T) {
	t.Parallel()
	invalid := temporal.NewNonRetryableApplicationError("db: no such disk", workflows.ErrInvalid, nil)
	for name, c := range map[string]struct {
		err  error
		want int
	}{
		"none":                          {nil, statusDone},
		"anything":                      {errors.New("boom"), statusFailed},
		"failed operation":              {failf("failover/shop/2: failed"), statusFailed},
		"usage":                         {usagef("write PLAN"), statusUsage},
		"invalid plan":                  {fmt.Errorf("load: %w", plan.Errors{{Message: "no name"}}), statusUsage},
		"invalid request":               {invalid, statusUsage},
		"invalid input of a local site": {cloud.E(cloud.InvalidInput, "StartLaunch", "server db", "no command", "", nil), statusUsage},
		"refused":                       {refused("shop/db", "no complete copy"), statusRefused},
		"refused, with subject":         {about("shop/db", refused("shop/db", "no complete copy")), statusRefused},
		"wait ran out":                  {errWaitOver(time.Minute, context.DeadlineExceeded), statusWaitOver},
		"Temporal not there":            {&dial.UnreachableError{Address: "127.0.0.1:1"}, statusUnreachable},
		"Temporal gone":                 {serviceerror.NewUnavailable("connection closed"), statusUnreachable},
		"no worker":                     {unreachablef(nil, "no worker"), statusUnreachable},
		"interrupted":                   {errInterrupted, statusInterrupted},
		"all refused":                   {severalErrors{refused("a/b", "x"), refused("a/c", "y")}, statusRefused},
		"refused and failed":            {severalErrors{refused("a/b", "x"), errors.New("boom")}, statusFailed},
	} {
		require.Equal(t, c.want, exitStatus(c.err), name)
	}
}

func TestARefusalNamesTheReasonAndWhatIsLegal(t *testing.T) {
	t.Parallel()
	h := fleetHouse()
	h.updates["plan/shop drill"] = refused("shop/web", "drill is refused: the phase is full-replication: there is no complete copy yet", "pause", "stop")
	r := run(t, h, "drill", "start", "shop")
	require.Equal(t, statusRefused, r.status)
	require.Empty(t, r.out)
	require.Equal(t, "lifeboat: shop/web: drill is refused: the phase is full-replication: there is no complete copy yet (legal now: pause, stop)\n", r.err)
}

func TestWrongUsageShowsTheRightOne(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		args []string
		says string
	}{
		{[]string{"frobnicate"}, "unknown command"},
		{[]string{"plan", "frobnicate"}, "no such verb; there are: apply, delete, init"},
		{[]string{"plan", "show"}, "usage: lifeboat plan show PLAN"},
		{[]string{"plan", "apply"}, `required flag(s) "file" not set`},
		{[]string{"plan", "show", "shop", "--nosuch"}, "unknown flag: --nosuch"},
		{[]string{"plan", "show", "shop", "-o", "xml"}, "use table, json or yaml"},
		{[]string{"plan", "show", "shop", "--log-level", "loud"}, "no such level"},
		{[]string{"plan", "show", "shop", "--timeout", "-3s"}, "cannot be negative"},
		{[]string{"plan", "show", "shop/db"}, "a plan is meant"},
		{[]string{"plan", "show", "nosuch"}, "plan nosuch: there is none"},
		{[]string{"server", "show", "shop"}, "one server is meant"},
		{[]string{"server", "show", "shop/db/x"}, "write PLAN or PLAN/SERVER"},
		{[]string{"server", "show", "shop/nosuch"}, "server shop/nosuch: it is not protected"},
		{[]string{"replication", "start", "shop", "--wait=nowhere"}, "no such phase; there are: installing"},
		{[]string{"replication", "set", "shop"}, "at least one of the flags"},
		{[]string{"replication", "set", "shop", "--bandwidth", "50"}, "with its unit"},
		{[]string{"replication", "set", "shop", "--bandwidth", "mon-fri 8-18 20MiB/s"}, "neither days"},
		{[]string{"replication", "set", "shop", "--bandwidth", "0B"}, "nothing could be sent"},
		{[]string{"replication", "set", "shop", "--interval", "1ms"}, "less than a second"},
		{[]string{"drill", "start", "shop", "--cpu", "2"}, "[memory]"},
		{[]string{"drill", "start", "shop", "--memory", "4", "--cpu", "2"}, "with its unit"},
		{[]string{"drill", "start", "shop", "--server", "db", "--server", "web", "--ip", "10.0.0.1"}, "name it with --server"},
		{[]string{"drill", "start", "shop", "--script", "/nonexistent"}, "--script"},
		{[]string{"drill", "clean", "shop", "x"}, "not the number of a drill"},
		{[]string{"failover", "start", "shop", "--declared-at", "yesterday"}, "RFC 3339"},
		{[]string{"failover", "switch-point", "shop"}, "which point?"},
		{[]string{"failover", "show", "shop", "--operation", "-1"}, "numbered from 1"},
		{[]string{"reverse", "start", "shop", "--in-place"}, "one server at a time"},
		{[]string{"reverse", "start", "shop/db", "--in-place"}, "--confirm db"},
		{[]string{"reverse", "start", "shop/db", "--in-place", "--confirm", "web"}, "--confirm db"},
		{[]string{"reverse", "start", "shop/db", "--confirm", "db"}, "nothing to confirm"},
		{[]string{"report", "show", "shop"}, "KIND/PLAN/NUMBER"},
		{[]string{"local", "list"}, "no local site is known"},
		{[]string{"local", "create-server", "x", "--site-dir", "/tmp/x"}, "needs --command"},
		{[]string{"local", "create-server", "x", "--site-dir", "/tmp/x", "--command", "c", "--initrd", "i"}, "only a qemu server"},
		{[]string{"plan", "validate", "-f", "/nonexistent.yaml"}, "cannot be read"},
	} {
		r := run(t, fleetHouse(), c.args...)
		require.Equal(t, statusUsage, r.status, "%v: %s", c.args, r.err)
		require.Contains(t, r.err, c.says, "%v", c.args)
		require.Empty(t, r.out, "%v", c.args)
	}
}

func TestTheWaitThatRanOutIsNotAFailure(t *testing.T) {
	t.Parallel()
	r := run(t, fleetHouse(), "replication", "start", "shop/web", "--wait", "--timeout", "30ms")
	require.Equal(t, statusWaitOver, r.status, r.err)
	require.Contains(t, r.err, "not done after 30ms")
}

func TestAnInterruptedCommandSaysSo(t *testing.T) {
	t.Parallel()
	ctx, cancel := context.WithCancel(t.Context())
	h := fleetHouse()
	h.onUpdate = func(call) { cancel() }
	a := newApp(Streams{In: nil, Out: discard{}, Err: discard{}})
	a.connect = func(context.Context, dial.Options) (house, error) { return h, nil }
	require.Equal(t, statusInterrupted, a.execute(ctx, []string{"replication", "start", "shop/web", "--wait"}))
}

type discard struct{}

func (discard) Write(p []byte) (int, error) { return len(p), nil }

func TestNoTemporalIsUnreachable(t *testing.T) {
	t.Parallel()
	r := run(t, nil, "status", "--address", "127.0.0.1:1")
	require.Equal(t, statusUnreachable, r.status)
	require.Contains(t, r.err, "lifeboat dev")
}

func TestNoWorkerIsUnreachable(t *testing.T) {
	t.Parallel()
	h := fleetHouse()
	h.unpolled[workflows.TaskQueue] = true
	r := run(t, h, "status", "-o", "json")
	require.Equal(t, statusUnreachable, r.status)
	require.Contains(t, r.out, `"workers": false`)
	require.Contains(t, r.err, "no worker is running")
}
