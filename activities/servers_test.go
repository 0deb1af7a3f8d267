package activities

import (
	"context"
	"net"
	"net/http"
	"strconv"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"go.temporal.io/sdk/testsuite"

	"lifeboat/activities/cloud"
	"lifeboat/activities/cloud/local"
)

func TestAServerIsFoundByIdentifierAndByName(t *testing.T) {
	t.Parallel()
	w := newPlace(t)
	must[nothing](w, w.acts.CheckSite, w.site)
	r := w.bringUp(w.snapshot())
	byID := must[ServerInfo](w, w.acts.InspectServer, InspectServerInput{Site: w.site, Server: r.server.ID})
	byName := must[ServerInfo](w, w.acts.InspectServer, InspectServerInput{Site: w.site, Server: "db"})
	assert.Equal(t, byID, byName)
	assert.Equal(t, r.server, byID)
	_, err := attempt[ServerInfo](w, w.acts.InspectServer, InspectServerInput{Site: w.site, Server: "dc"})
	refused(w, NotFound, err)
	_, _, mend := Explain(err)
	assert.Contains(t, mend, "db ("+r.server.ID+")", "it says what there is")
}

func TestAServerIsStoppedStartedAndTerminatedOnce(t *testing.T) {
	t.Parallel()
	w := newPlace(t)
	r := w.bringUp(w.snapshot())
	in := ServerInput{Site: w.site, ServerID: r.server.ID}
	for _, step := range []struct {
		activity any
		state    string
	}{{w.acts.StopServer, "stopped"}, {w.acts.StopServer, "stopped"}, {w.acts.StartServer, "running"}, {w.acts.StartServer, "running"}} {
		s := must[ServerInfo](w, step.activity, in)
		assert.Equal(t, step.state, s.State)
		assert.Len(t, s.Disks, 2)
	}
	must[nothing](w, w.acts.TerminateServer, in)
	must[nothing](w, w.acts.TerminateServer, in)
	entries, err := w.p.Entries(t.Context(), cloud.LedgerFilter{Operation: w.scope.Operation})
	require.NoError(t, err)
	for _, e := range entries {
		assert.Equal(t, e.Kind == cloud.KindServer, e.Deleted != nil, "%s", e.Kind)
	}
	_, err = attempt[ServerInfo](w, w.acts.StopServer, in)
	refused(w, NotFound, err)

	// Its disks stay, and a server can be launched on them again.
	again := w.launchInput(r)
	again.Step, again.IP = "bring-back-1", r.server.IP
	back := must[ServerInfo](w, w.acts.LaunchServer, again)
	assert.Equal(t, r.server.Disks, back.Disks)
	assert.Equal(t, r.server.IP, back.IP)
}

func TestHealthIsWaitedForAndTheLastAnswerIsTold(t *testing.T) {
	t.Parallel()
	w := newPlace(t)
	r := w.bringUp(w.snapshot())
	in := CheckHealthInput{Site: w.site, NetworkID: r.network.ID, IP: r.server.IP, Port: port, HTTP: "/", Timeout: 30 * time.Second}
	seen := must[Seen](w, w.acts.CheckHealth, in)
	assert.Contains(t, seen.Detail, "HTTP 200")
	assert.False(t, seen.At.IsZero())
	in.HTTP = ""
	must[Seen](w, w.acts.CheckHealth, in)

	in.HTTP, in.Timeout = "/broken", 100*time.Millisecond
	_, err := attempt[Seen](w, w.acts.CheckHealth, in)
	assert.ErrorContains(t, refused(w, NotReady, err), "HTTP 500")
	in.HTTP, in.Port = "", port+1
	_, err = attempt[Seen](w, w.acts.CheckHealth, in)
	assert.ErrorContains(t, refused(w, NotReady, err), "refused")
}

func TestAScriptRunsOnceAndItsResultIsKept(t *testing.T) {
	t.Parallel()
	w := newPlace(t)
	r := w.bringUp(w.snapshot())
	in := RunScriptInput{Scope: w.scope, Step: "script-1", ServerID: r.server.ID, Timeout: 20 * time.Second, Env: map[string]string{"LIFEBOAT_POINT": "p-7"},
		Content: "date +%N; echo $LIFEBOAT_POINT; echo LIFEBOAT_NEWEST_WRITE=2026-01-02T03:04:05.5Z; exit 4"}
	first := must[ScriptResult](w, w.acts.RunScript, in)
	assert.Equal(t, 4, first.ExitCode)
	assert.Contains(t, first.Output, "p-7")
	require.NotNil(t, first.NewestWrite)
	assert.Equal(t, time.Date(2026, 1, 2, 3, 4, 5, 5e8, time.UTC), *first.NewestWrite)
	assert.Equal(t, first, must[ScriptResult](w, w.acts.RunScript, in), "the same run")

	in.Step, in.Content, in.Timeout = "script-2", "echo almost; sleep 60", 200*time.Millisecond
	_, err := attempt[ScriptResult](w, w.acts.RunScript, in)
	assert.ErrorContains(t, refused(w, ScriptFailed, err), "almost")
}

func TestTrafficFollowsAddressAndName(t *testing.T) {
	t.Parallel()
	w := newPlace(t)
	r := w.bringUp(w.snapshot())
	reserve := EnsureAddressInput{Scope: Scope{Site: w.site, Plan: "shop", Operation: "plan/shop", Role: RolePlan}, Step: "address", Name: "www"}
	address := must[AddressInfo](w, w.acts.EnsureAddress, reserve)
	assert.Equal(t, address, must[AddressInfo](w, w.acts.EnsureAddress, reserve))

	move := MoveAddressInput{Site: w.site, Name: "www", ServerID: r.server.ID}
	moved := must[AddressInfo](w, w.acts.MoveAddress, move)
	assert.Equal(t, AddressInfo{ID: address.ID, Public: address.Public}, moved, "it pointed nowhere before")
	assert.Equal(t, r.server.ID, must[AddressInfo](w, w.acts.MoveAddress, move).Server)
	now := must[ServerInfo](w, w.acts.InspectServer, InspectServerInput{Site: w.site, Server: r.server.ID})
	require.Equal(t, address.Public, now.Public)

	record := Record{Name: "shop.example.org", Type: "A", TTL: time.Second, Values: []string{address.Public}}
	must[Seen](w, w.acts.SetNames, SetNamesInput{Site: w.site, Zone: "example.org", Step: "1", Records: []Record{record}})
	assert.Equal(t, []Record{record}, must[[]Record](w, w.acts.GetNames, NamesInput{Site: w.site, Zone: "example.org", Name: record.Name}))
	in := CheckServingInput{Site: w.site, Zone: "example.org", Name: record.Name, Expect: address.Public, Port: port, HTTP: "/", Timeout: 30 * time.Second}
	assert.Contains(t, must[Seen](w, w.acts.CheckServing, in).Detail, "db")

	in.Expect, in.Timeout = "192.0.2.1", time.Second
	_, err := attempt[Seen](w, w.acts.CheckServing, in)
	assert.ErrorContains(t, refused(w, NotReady, err), "still leads to "+address.Public)

	move.ServerID = ""
	assert.Equal(t, r.server.ID, must[AddressInfo](w, w.acts.MoveAddress, move).Server)
	must[Counts](w, w.acts.CleanUp, CleanUpInput{Scope: Scope{Site: w.site, Plan: "shop", Operation: "plan/shop"}})
	_, err = w.p.Address(t.Context(), "www")
	assert.True(t, cloud.IsNotFound(err))
}

func TestAServerKeepsTheReservedAddressThatItHas(t *testing.T) {
	t.Parallel()
	w := newPlace(t)
	r := w.bringUp(w.snapshot())
	own := must[AddressInfo](w, w.acts.EnsureAddress, EnsureAddressInput{Scope: w.scope, Step: "own", Name: "own"})
	must[AddressInfo](w, w.acts.EnsureAddress, EnsureAddressInput{Scope: w.scope, Step: "address", Name: "www"})
	must[AddressInfo](w, w.acts.MoveAddress, MoveAddressInput{Site: w.site, Name: "own", ServerID: r.server.ID})
	got := must[AddressInfo](w, w.acts.MoveAddress, MoveAddressInput{Site: w.site, Name: "www", ServerID: r.server.ID})
	assert.Equal(t, AddressInfo{ID: own.ID, Public: own.Public, Server: r.server.ID}, got)
}

// The first attempt moved the address and was lost; the second one still knows from where.
func TestAnotherAttemptKnowsWhereTheAddressPointedBefore(t *testing.T) {
	t.Parallel()
	w := newPlace(t)
	r := w.bringUp(w.snapshot())
	must[AddressInfo](w, w.acts.EnsureAddress, EnsureAddressInput{Scope: w.scope, Step: "address", Name: "www"})
	must[AddressInfo](w, w.acts.MoveAddress, MoveAddressInput{Site: w.site, Name: "www", ServerID: r.server.ID})
	before := "srv-old"
	var suite testsuite.WorkflowTestSuite
	env := suite.NewTestActivityEnvironment()
	env.RegisterActivity(w.acts.MoveAddress)
	env.SetHeartbeatDetails(Progress{Before: &before})
	value, err := env.ExecuteActivity(w.acts.MoveAddress, MoveAddressInput{Site: w.site, Name: "www", ServerID: r.server.ID})
	require.NoError(t, err)
	var moved AddressInfo
	require.NoError(t, value.Get(&moved))
	assert.Equal(t, before, moved.Server)
}

func TestPrivateAddressesAreCheckedInAdvance(t *testing.T) {
	t.Parallel()
	w := newPlace(t)
	r := w.bringUp(w.snapshot())
	for ip, kind := range map[string]string{r.server.IP: AddressTaken, "10.1.2.3": InvalidInput} {
		_, err := attempt[nothing](w, w.acts.CheckAddress, CheckAddressInput{Site: w.site, Network: r.network.ID, IP: ip})
		refused(w, kind, err)
	}
}

func TestARedirectIsAnAnswer(t *testing.T) {
	t.Parallel()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	server := &http.Server{Handler: http.RedirectHandler("http://elsewhere.invalid/", http.StatusFound)}
	t.Cleanup(func() { server.Close() })
	go server.Serve(listener) //nolint:errcheck // ends with the test
	dialer := net.Dialer{}
	detail, err := probe(t.Context(), func(ctx context.Context, hostport string) (net.Conn, error) {
		return dialer.DialContext(ctx, "tcp", hostport)
	}, "127.0.0.1:"+strconv.Itoa(listener.Addr().(*net.TCPAddr).Port), "shop.example.org", "health")
	require.NoError(t, err)
	assert.Contains(t, detail, "HTTP 302")
}

// lateScripts shows what was sent only after some looks.
type lateScripts struct {
	*local.Provider
	unseen atomic.Int32
}

func (p *lateScripts) ScriptRun(ctx context.Context, id string) (cloud.ScriptRun, error) {
	if p.unseen.Add(-1) >= 0 {
		return cloud.ScriptRun{}, cloud.E(cloud.NotFound, "ScriptRun", "script "+id, "does not exist", "look", nil)
	}
	return p.Provider.ScriptRun(ctx, id)
}

func TestAScriptThatWasJustSentMayBeUnseen(t *testing.T) {
	t.Parallel()
	w := newPlace(t)
	r := w.bringUp(w.snapshot())
	late := &lateScripts{Provider: w.p}
	late.unseen.Store(3)
	w.through(late)
	in := RunScriptInput{Scope: w.scope, Step: "script-1", ServerID: r.server.ID, Timeout: 20 * time.Second, Content: "echo done"}
	result, err := attempt[ScriptResult](w, w.acts.RunScript, in)
	require.NoError(t, err)
	assert.Equal(t, "done\n", result.Output)

	late.unseen.Store(1 << 20)
	in.Step, in.Content = "script-2", "sleep 60"
	_, err = attempt[ScriptResult](w, w.acts.RunScript, in)
	assert.ErrorContains(t, err, "does not exist", "but not for ever")
}
