package workflows

import (
	"encoding/json"
	"log/slog"
	"testing"
	"time"

	"github.com/stretchr/testify/mock"
	"go.temporal.io/sdk/log"
	"go.temporal.io/sdk/testsuite"

	"lifeboat/activities"
	"lifeboat/workflows/plan"
)

// lastUpdate decodes the newest update of a name into v.
func (w *world) lastUpdate(t *testing.T, update string, v any) bool {
	t.Helper()
	w.mu.Lock()
	defer w.mu.Unlock()
	for i := len(w.updates) - 1; i >= 0; i-- {
		if w.updates[i].Update == update {
			b, err := json.Marshal(w.updates[i].Argument)
			if err != nil {
				t.Fatal(err)
			}
			if err := json.Unmarshal(b, v); err != nil {
				t.Fatal(err)
			}
			return true
		}
	}
	return false
}

// env is a test environment in which the world's activities and all workflows are registered.
func (w *world) env() *testsuite.TestWorkflowEnvironment {
	var suite testsuite.WorkflowTestSuite
	suite.SetLogger(log.NewStructuredLogger(slog.New(slog.DiscardHandler)))
	env := suite.NewTestWorkflowEnvironment()
	env.RegisterActivity(w)
	Register(env, Fast())
	env.OnSignalExternalWorkflow(mock.Anything, mock.Anything, mock.Anything, mock.Anything, mock.Anything).Return(nil).Maybe()
	env.SetTestTimeout(20 * time.Second)
	return env
}

// dbSpec is the one server of the tests' plan.
func dbSpec() plan.ResolvedServer {
	names := plan.Site{Name: "names", Provider: "local", Agent: "names"}
	return plan.ResolvedServer{Name: "db", Source: "db",
		Primary:         plan.Site{Name: "primary", Provider: "local", Agent: "primary"},
		Recovery:        plan.Site{Name: "recovery", Provider: "local", Agent: "recovery"},
		RecoveryNetwork: plan.Network{Name: "dr", Site: "recovery", CIDR: "10.20.0.0/24"},
		Launch:          plan.Launch{Type: "small", PublicIP: "shop", Health: plan.Health{Port: 8080}},
		Script:          "true",
		Policy:          plan.PointPolicy{Every: plan.Duration(time.Minute)},
		Records:         []plan.Record{{Name: "db.shop.test", Zone: "shop.test", Site: "names", Server: "db"}},
		RecordSites:     []plan.Site{names}}
}

// realTime is the state of a server that is fully replicated.
func (w *world) realTime() ServerState {
	s := newServerState("shop", dbSpec(), 1)
	info := w.info("srv-db")
	s.Phase, s.Primary, s.Points = PhaseRealTime, &info, w.points
	s.Replicas = []activities.DiskInfo{{Name: "data", DiskID: "replica", Bytes: 1 << 20}}
	s.Stream = &Stream{ID: s.streamID(), Epoch: 1, Source: "primary", Target: "recovery"}
	return s
}

// input starts an operation on the one server.
func input(op Operation, s ServerState) OperationInput {
	at := time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
	return OperationInput{Operation: op, WorkflowID: OperationID(op, "shop", 1), Number: 1, Plan: "shop", Epoch: 2, Servers: []ServerState{s},
		Waves: [][]string{{"db"}}, Declared: at, Accepted: at}
}
