package demo

import (
	"context"
	"fmt"
	"net"
	"net/http"
	"strconv"
	"time"

	"lifeboat/activities/cloud"
	"lifeboat/internal/demo/numbers"
	"lifeboat/internal/demo/stage"
	"lifeboat/workflows"
)

// Load that the client puts on the server.
const (
	writeEvery = 20 * time.Millisecond
	writeBytes = 4 << 10
	logSize    = 16 << 20
)

// build makes sites, the server that is to be protected, and its client.
func (s *story) build(ctx context.Context) (err error) {
	s.page.title("A server under constant writes")
	if s.ground, err = stage.PrepareGround(ctx, s.Data); err != nil {
		return err
	}
	began := time.Now()
	s.page.command("lifeboat dev --data " + s.Data)
	if s.house, err = startHouse(ctx, s.cli, s.Data); err != nil {
		return err
	}
	s.page.took(time.Since(began))
	s.page.say("sites primary, recovery and names, on %s", s.ground.Words)
	if s.world, err = stage.OpenWorld(ctx, s.ground.Sites, s.Executable); err != nil {
		return err
	}
	var server cloud.Server
	err = s.cli.run(ctx, &server, "local", "create-server", stage.Server, "--site", "primary", "--network", stage.Network,
		"--cidr", s.addresses.ProductionCIDR, "--ip", s.addresses.Production, "--port", strconv.Itoa(stage.Port), "--public",
		"--disk", fmt.Sprintf("data=%dMiB", s.Size>>20), "--disk", fmt.Sprintf("log=%dMiB", logSize>>20),
		"--command", fmt.Sprintf(`["%s","__numbers-server","--port","%d"]`, s.Executable, stage.Port))
	if err != nil {
		return err
	}
	if err := s.world.PointName(ctx, server.Public); err != nil {
		return err
	}
	url, err := s.world.URL(ctx)
	if err != nil {
		return err
	}
	if _, err := numbers.AskNewest(ctx, url); err != nil && err != numbers.ErrEmpty {
		return fmt.Errorf("the server does not answer: %w", err)
	}
	if err := numbers.Fill(ctx, url, s.Size/4); err != nil {
		return err
	}
	s.world.StartClient(ctx, writeEvery, writeBytes, nil)
	if _, err := s.world.WaitAcks(ctx, 20); err != nil {
		return err
	}
	s.page.say("%s at %s (public %s): a database on %s, its log on a disk of %s", stage.Server, server.IP, server.Public, size(s.Size), size(logSize))
	s.page.say("a client writes %s every %s through %s and notes what was acknowledged", size(writeBytes), writeEvery, stage.Record)
	return nil
}

// protect applies the plan and replicates until real time.
func (s *story) protect(ctx context.Context) error {
	s.page.title("Protect it: full copy, then real time")
	file, err := stage.WritePlan(s.Data, s.ground.Sites, s.Executable, s.addresses, 30*time.Second)
	if err != nil {
		return err
	}
	if err := s.cli.run(ctx, nil, "plan", "apply", "-f", file, "--wait"); err != nil {
		return err
	}
	view, err := s.replicate(ctx, "replication", "start", stage.Plan, "--wait")
	if err != nil {
		return err
	}
	s.page.say("%s read, %s sent (zeros and holes cost nothing); then a delta every 2 s, cut by %s%s",
		size(view.Replication.BytesScanned), size(view.Replication.BytesSent), view.Replication.CutMethod, pauseText(view))
	var points []workflows.PointRef
	if err := s.cli.run(ctx, &points, "point", "mark", stage.Plan+"/"+stage.Server, "--label", "before-upgrade"); err != nil {
		return err
	}
	if len(points) != 1 {
		return fmt.Errorf("point mark: %d points instead of one", len(points))
	}
	s.marked = points[0].ID
	points, err = s.waitPoints(ctx, 3)
	if err != nil {
		return err
	}
	s.page.say("recovery point %s is kept; %d points by now", s.marked, len(points))
	return nil
}

func pauseText(v workflows.ServerView) string {
	if v.Replication.CutMethod == "pause" {
		return fmt.Sprintf(" (the last one paused the server for %.0f ms)", 1000*v.Replication.PauseSeconds)
	}
	return ""
}

// replicate runs a command that starts replication and waits until it is in real
// time. The figures are asked for afterwards: they are those of the whole way.
func (s *story) replicate(ctx context.Context, args ...string) (workflows.ServerView, error) {
	if err := s.cli.run(ctx, nil, args...); err != nil {
		return workflows.ServerView{}, err
	}
	return s.server(ctx)
}

func (s *story) server(ctx context.Context) (view workflows.ServerView, err error) {
	err = s.cli.quiet(ctx, &view, "server", "show", stage.Plan+"/"+stage.Server)
	return view, err
}

// waitPoints waits until so many points newer than the marked one are there.
func (s *story) waitPoints(ctx context.Context, newer int) (points []workflows.PointRef, err error) {
	err = stage.Poll(ctx, time.Minute, func() (bool, error) {
		if err := s.cli.quiet(ctx, &points, "point", "list", stage.Plan+"/"+stage.Server); err != nil {
			return false, err
		}
		for i, p := range points { // newest first
			if p.ID == s.marked {
				return i >= newer, nil
			}
		}
		return false, fmt.Errorf("the marked point %s is gone", s.marked)
	})
	return points, err
}

// drill starts a copy in a network of its own and looks into it.
func (s *story) drill(ctx context.Context) error {
	s.page.title("Drill: does the copy start?")
	var report workflows.Report
	if err := s.cli.run(ctx, &report, "drill", "start", stage.Plan); err != nil {
		return err
	}
	if len(report.Servers) != 1 {
		return fmt.Errorf("drill: %d servers in the report", len(report.Servers))
	}
	drilled, err := s.world.Recovery.Server(ctx, report.Servers[0].ServerID)
	if err != nil {
		return err
	}
	client := stage.Inside(s.world.Recovery, drilled.Network)
	where, err := recovery(report, "http://"+net.JoinHostPort(drilled.IP, strconv.Itoa(stage.Port)), client)
	if err != nil {
		return err
	}
	where.Branch = true
	m, err := s.world.History.Measure(ctx, where)
	if err != nil {
		return err
	}
	s.page.say("%s runs a second time, at %s; %d acknowledged writes found, none from before the point is missing", stage.Server, drilled.IP, m.Found)
	if err := s.isolated(ctx, client, where.URL, drilled.Network); err != nil {
		return err
	}
	if err := s.cli.run(ctx, &report, "drill", "clean", stage.Plan); err != nil {
		return err
	}
	s.page.say("%d resources made, %d deleted, %d left", report.Resources.Created, report.Resources.Deleted, report.Resources.Left)
	s.keep(result{name: "drill", report: report, m: m}, workflows.OutcomeCleaned)
	return nil
}

// isolated shows that production goes on beside the drill and does not reach it.
func (s *story) isolated(ctx context.Context, drilled *http.Client, url, network string) error {
	before, err := numbers.AskHealth(ctx, drilled, url)
	if err != nil {
		return err
	}
	ack, err := s.world.WaitAcks(ctx, 20)
	if err != nil {
		return fmt.Errorf("the drill disturbs production: %w", err)
	}
	after, err := numbers.AskHealth(ctx, drilled, url)
	if err != nil {
		return err
	}
	if before.Newest != after.Newest {
		s.fault("the drill took a write of production: number %d became %d", before.Newest.Number, after.Newest.Number)
	}
	n, err := s.world.Recovery.Network(ctx, network)
	if err != nil {
		return err
	}
	words := "isolated in a network namespace of its own"
	if !n.Isolated {
		words = "not isolated from each other (that needs root)"
	}
	s.page.say("production goes on to number %d, the drill stays at %d: %s", ack.Number.Number, after.Newest.Number, words)
	return nil
}

// disaster kills the source server and fails over.
func (s *story) disaster(ctx context.Context) error {
	s.page.title("Disaster: the primary site is gone")
	pid, at, err := s.world.KillServing(ctx)
	if err != nil {
		return err
	}
	s.page.say("kill -9 %d: the source server; the outage is declared at %s", pid, at.Format("15:04:05.000"))
	var report workflows.Report
	if err := s.cli.run(ctx, &report, "failover", "start", stage.Plan, "--source-down", "--declared-at", at.Format(time.RFC3339Nano), "--yes"); err != nil {
		return err
	}
	if _, err := s.world.WaitAcks(ctx, 5); err != nil {
		return fmt.Errorf("the client does not reach the recovered server: %w", err)
	}
	r, err := s.measure(ctx, "failover", report)
	if err != nil {
		return err
	}
	s.tell(r)
	s.page.say("the client had no answer for %s", short(s.world.History.Silence(at.Add(-time.Second), time.Now())))
	s.keep(r, workflows.OutcomeDone)
	return nil
}

// tell says in words what a recovery has brought.
func (s *story) tell(r result) {
	s.page.say("serves again after %s; newest write found is %s old; %d acknowledged writes found, %d lost",
		seconds(r.report.RTOSeconds), short(r.m.RPO), r.m.Found, r.m.LostAfter)
	s.page.say("longest steps: %s", longest(r.report))
	if r.m.Check.OK {
		s.page.say("the database's own check passes: %d numbers without a hole, both disks of one instant", r.m.Check.Count)
	}
}

// switchPoint goes back to the point of before the upgrade.
func (s *story) switchPoint(ctx context.Context) error {
	s.page.title("Second thoughts: back to the point of before the upgrade")
	var report workflows.Report
	if err := s.cli.run(ctx, &report, "failover", "switch-point", stage.Plan, "--point", s.marked, "--yes"); err != nil {
		return err
	}
	if _, err := s.world.WaitAcks(ctx, 5); err != nil {
		return err
	}
	r, err := s.measure(ctx, "switch point", report)
	if err != nil {
		return err
	}
	s.tell(r)
	s.keep(r, workflows.OutcomeDone)
	return nil
}

// commit makes the recovered server the production server.
func (s *story) commit(ctx context.Context) error {
	if err := s.cli.run(ctx, nil, "failover", "commit", stage.Plan, "--wait"); err != nil {
		return err
	}
	s.page.say("replica disks and points are deleted, the recovered server stays in service")
	return nil
}
