package workflows

import (
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"sync"
	"time"

	"go.temporal.io/sdk/temporal"

	"lifeboat/activities"
	"lifeboat/replication"
)

// world is a pair of sites with agents, small enough for a test: what exists is what
// a test asks for. Every activity is recorded, and can be made to fail by name.
type world struct {
	mu      sync.Mutex
	called  []string
	fail    map[string]error // activity → error it returns from now on
	onCall  func(name string)
	servers map[string]string // id → state
	disks   map[string]string // id → operation that made it
	streams map[string]int64  // stream → epoch being sent
	stage   string
	points  []activities.Point
	updates []activities.CallInput
	dns     map[string]string
	refuse  map[string]error // workflow ID → error of updates
	starts  []activities.StartSourceInput
	cleaned []activities.CleanUpInput
	kept    []activities.KeepInput
	// fromImage: disks come with the launch.
	fromImage bool
}

func newWorld() *world {
	at := time.Date(2026, 1, 2, 3, 0, 0, 0, time.UTC)
	w := &world{fail: map[string]error{}, servers: map[string]string{"srv-db": "running"}, disks: map[string]string{}, streams: map[string]int64{},
		stage: "real-time", dns: map[string]string{}, refuse: map[string]error{}}
	for i := range 3 {
		w.points = append(w.points, activities.Point{ID: fmt.Sprintf("p%d", 3-i), Time: at.Add(-time.Duration(i) * time.Minute), Verified: true,
			Disks: []replication.PointDisk{{Name: "data", Bytes: 1 << 20, Root: fmt.Sprintf("root%d", 3-i), Snapshot: fmt.Sprintf("snap%d", 3-i)}}})
	}
	return w
}

// enter records a call and returns the injected error, if any.
func (w *world) enter(name string) error {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.called = append(w.called, name)
	if w.onCall != nil {
		w.onCall(name)
	}
	return w.fail[name]
}

func (w *world) breaks(name string) {
	w.fail[name] = temporal.NewNonRetryableApplicationError(name+" is broken", "Broken", nil)
}

func (w *world) mends(name string) {
	w.mu.Lock()
	defer w.mu.Unlock()
	delete(w.fail, name)
}

func (w *world) count(name string) int {
	w.mu.Lock()
	defer w.mu.Unlock()
	n := 0
	for _, c := range w.called {
		if c == name {
			n++
		}
	}
	return n
}

func (w *world) CheckSite(context.Context, activities.Site) error { return w.enter("CheckSite") }

func (w *world) InspectServer(_ context.Context, in activities.InspectServerInput) (activities.ServerInfo, error) {
	return w.info(in.Server), w.enter("InspectServer")
}

func (w *world) info(id string) activities.ServerInfo {
	if id == "db" {
		id = "srv-db"
	}
	return activities.ServerInfo{ID: id, Name: "db", State: "running", Network: "prod", CIDR: "10.20.0.0/24", IP: "10.20.0.10", Ports: []int{8080},
		Disks: []activities.DiskInfo{{Name: "data", DiskID: "disk-" + id, Bytes: 1 << 20, Path: "/disks/" + id}}}
}

func (w *world) EnsureNetwork(_ context.Context, in activities.EnsureNetworkInput) (activities.NetworkInfo, error) {
	return activities.NetworkInfo{ID: "net-" + in.Name, Name: in.Name, CIDR: in.CIDR, Isolated: true}, w.enter("EnsureNetwork")
}

func (w *world) CheckAddress(context.Context, activities.CheckAddressInput) error {
	return w.enter("CheckAddress")
}

func (w *world) EnsureAddress(context.Context, activities.EnsureAddressInput) (activities.AddressInfo, error) {
	return activities.AddressInfo{ID: "addr", Public: "127.77.0.1"}, w.enter("EnsureAddress")
}

func (w *world) CreateDisks(_ context.Context, in activities.CreateDisksInput) ([]activities.DiskInfo, error) {
	if err := w.enter("CreateDisks"); err != nil {
		return nil, err
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	out := slices.Clone(in.Disks)
	if w.fromImage {
		return out, nil
	}
	for i := range out {
		out[i].DiskID = "disk-" + in.Scope.Operation + "-" + in.Step + "-" + out[i].Name
		w.disks[out[i].DiskID] = in.Scope.Operation
	}
	return out, nil
}

func (w *world) LaunchServer(_ context.Context, in activities.LaunchServerInput) (activities.ServerInfo, error) {
	if err := w.enter("LaunchServer"); err != nil {
		return activities.ServerInfo{}, err
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	id := "srv-" + in.Scope.Operation + "-" + in.Step
	w.servers[id] = "running"
	w.disks[id] = in.Scope.Operation
	if w.fromImage {
		in.Disks = slices.Clone(in.Disks)
		for i := range in.Disks {
			in.Disks[i].DiskID = "disk-of-" + id + "-" + in.Disks[i].Name
			w.disks[in.Disks[i].DiskID] = in.Scope.Operation
		}
	}
	return activities.ServerInfo{ID: id, Name: in.Name, State: "running", NetworkID: in.NetworkID, IP: in.IP, Ports: in.Ports, Disks: in.Disks}, nil
}

func (w *world) state(id, state string) activities.ServerInfo {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.servers[id] = state
	return w.info(id)
}

func (w *world) StartServer(_ context.Context, in activities.ServerInput) (activities.ServerInfo, error) {
	if err := w.enter("StartServer"); err != nil {
		return activities.ServerInfo{}, err
	}
	return w.state(in.ServerID, "running"), nil
}

func (w *world) StopServer(_ context.Context, in activities.ServerInput) (activities.ServerInfo, error) {
	if err := w.enter("StopServer"); err != nil {
		return activities.ServerInfo{}, err
	}
	return w.state(in.ServerID, "stopped"), nil
}

func (w *world) TerminateServer(_ context.Context, in activities.ServerInput) error {
	if err := w.enter("TerminateServer"); err != nil {
		return err
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	delete(w.servers, in.ServerID)
	delete(w.disks, in.ServerID)
	return nil
}

func (w *world) RunScript(context.Context, activities.RunScriptInput) (activities.ScriptResult, error) {
	return activities.ScriptResult{Output: "ok"}, w.enter("RunScript")
}

func (w *world) CheckHealth(context.Context, activities.CheckHealthInput) (activities.Seen, error) {
	return activities.Seen{}, w.enter("CheckHealth")
}

func (w *world) MoveAddress(_ context.Context, in activities.MoveAddressInput) (activities.AddressInfo, error) {
	return activities.AddressInfo{ID: "addr", Public: "127.77.0.1"}, w.enter("MoveAddress")
}

func (w *world) GetNames(context.Context, activities.NamesInput) ([]activities.Record, error) {
	return nil, w.enter("GetNames")
}

func (w *world) SetNames(_ context.Context, in activities.SetNamesInput) (activities.Seen, error) {
	if err := w.enter("SetNames"); err != nil {
		return activities.Seen{}, err
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, r := range in.Records {
		w.dns[r.Name] = r.Values[0]
	}
	return activities.Seen{}, nil
}

func (w *world) CheckServing(context.Context, activities.CheckServingInput) (activities.Seen, error) {
	return activities.Seen{}, w.enter("CheckServing")
}

func (w *world) CleanUp(_ context.Context, in activities.CleanUpInput) (activities.Counts, error) {
	if err := w.enter("CleanUp"); err != nil {
		return activities.Counts{}, err
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	w.cleaned = append(w.cleaned, in)
	var c activities.Counts
	for id, op := range w.disks {
		if in.Scope.Operation != "" && op == in.Scope.Operation {
			delete(w.disks, id)
			delete(w.servers, id)
			c.Deleted++
		}
	}
	return c, nil
}

func (w *world) CountResources(_ context.Context, s activities.Scope) (activities.Counts, error) {
	if err := w.enter("CountResources"); err != nil {
		return activities.Counts{}, err
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	var c activities.Counts
	for id, op := range w.disks {
		if op == s.Operation {
			c.Created++
			c.LeftOver = append(c.LeftOver, "resource "+id)
		}
	}
	return c, nil
}

// cleanedRoles lists the roles of all clean-ups of a role.
func (w *world) cleanedRoles() (roles []string) {
	for _, in := range w.cleaned {
		if in.Scope.Role != "" {
			roles = append(roles, in.Scope.Role)
		}
	}
	return roles
}

// cleanedSites lists where.
func (w *world) cleanedSites() (sites []string) {
	for _, in := range w.cleaned {
		sites = append(sites, in.Scope.Site.Name)
	}
	return sites
}

func (w *world) KeepResources(_ context.Context, in activities.KeepInput) error {
	w.mu.Lock()
	w.kept = append(w.kept, in)
	w.mu.Unlock()
	return w.enter("KeepResources")
}

func (w *world) Identity(context.Context) (activities.IdentityResult, error) {
	return activities.IdentityResult{Fingerprint: "sha256:00"}, w.enter("Identity")
}

func (w *world) PrepareTarget(context.Context, activities.PrepareTargetInput) (activities.PrepareTargetResult, error) {
	return activities.PrepareTargetResult{Address: "127.0.0.1:1", Fingerprint: "sha256:01"}, w.enter("PrepareTarget")
}

func (w *world) StartSource(_ context.Context, in activities.StartSourceInput) error {
	if err := w.enter("StartSource"); err != nil {
		return err
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	w.streams[in.Stream] = in.Epoch
	w.starts = append(w.starts, in)
	return nil
}

// Follow reports each stage once, then answers nothing until the caller detaches.
func (w *world) Follow(ctx context.Context, in activities.FollowInput) (activities.StreamStatus, error) {
	if err := w.enter("Follow"); err != nil {
		return activities.StreamStatus{}, err
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	if in.After >= 1 {
		return activities.StreamStatus{}, temporal.NewNonRetryableApplicationError("nothing more", "Quiet", nil)
	}
	return activities.StreamStatus{Stream: in.Stream, Version: 1, Stage: w.stage, Health: "ok", Percent: 100, LastPoint: &w.points[0]}, nil
}

func (w *world) SetStream(context.Context, activities.SetStreamInput) error {
	return w.enter("SetStream")
}
func (w *world) PauseStream(context.Context, activities.StreamInput) error {
	return w.enter("PauseStream")
}
func (w *world) ResumeStream(context.Context, activities.StreamInput) error {
	return w.enter("ResumeStream")
}
func (w *world) StopSource(_ context.Context, in activities.StreamInput) error {
	w.mu.Lock()
	delete(w.streams, in.Stream)
	w.mu.Unlock()
	return w.enter("StopSource")
}
func (w *world) StopTarget(context.Context, activities.StreamInput) error {
	return w.enter("StopTarget")
}
func (w *world) ForgetTarget(context.Context, activities.StreamInput) error {
	return w.enter("ForgetTarget")
}

func (w *world) MarkPoint(_ context.Context, in activities.MarkPointInput) (activities.Point, error) {
	p := w.points[0]
	if in.Final {
		p.ID, p.Kind = "p-final", "current-time"
		p.Time = p.Time.Add(time.Minute)
		w.mu.Lock()
		w.points = append([]activities.Point{p}, w.points...)
		w.mu.Unlock()
	}
	return p, w.enter("MarkPoint")
}

func (w *world) ListPoints(context.Context, activities.StreamInput) ([]activities.Point, error) {
	return w.points, w.enter("ListPoints")
}

func (w *world) SelectPoint(_ context.Context, in activities.SelectPointInput) (activities.Point, error) {
	if err := w.enter("SelectPoint"); err != nil {
		return activities.Point{}, err
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, p := range w.points {
		if in.Selector == "latest" || in.Selector == p.ID || in.Selector == string(p.Kind) {
			return p, nil
		}
	}
	return activities.Point{}, temporal.NewNonRetryableApplicationError("no point "+in.Selector, "NotFound", nil)
}

func (w *world) ReleasePoint(context.Context, activities.PointInput) error {
	return w.enter("ReleasePoint")
}
func (w *world) LockPoint(context.Context, activities.PointInput) error { return w.enter("LockPoint") }
func (w *world) TestedPoint(context.Context, activities.PointInput) error {
	return w.enter("TestedPoint")
}

func (w *world) Call(_ context.Context, in activities.CallInput) (json.RawMessage, error) {
	if err := w.enter("Call:" + in.Update); err != nil {
		return nil, err
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	if err := w.refuse[in.WorkflowID]; err != nil {
		return nil, err
	}
	w.updates = append(w.updates, in)
	if in.Update == updateActivate {
		return json.RawMessage("7"), nil
	}
	return json.RawMessage("{}"), nil
}

func (w *world) SyncSchedule(context.Context, activities.ScheduleInput) error {
	return w.enter("SyncSchedule")
}
