package main

import (
	"context"
	"fmt"
	"io"
	"strings"
	"sync"
	"time"

	"github.com/vbauerster/mpb/v8"
	"github.com/vbauerster/mpb/v8/decor"
	"golang.org/x/sys/unix"

	"lifeboat/activities"
	"lifeboat/internal/logging"
	"lifeboat/workflows"
)

// watch shows the progress of servers on standard error, as bars for a person
// and as lines elsewhere, until done says so or the context ends.
func (a *app) watch(ctx context.Context, h house, find func(context.Context) ([]target, error),
	done func([]workflows.ServerView) (bool, error)) ([]workflows.ServerView, error) {
	var show display = &lines{out: a.Err, said: map[string]string{}, now: a.now}
	if hasWidth(a.Err) {
		show = newBars(a.Err)
	}
	defer show.close()
	calm := patience{app: a}
	for looks := 0; ; looks++ {
		states, err := look(ctx, h, find)
		if ctx.Err() != nil {
			return states, ctx.Err()
		}
		if forgiven := calm.forgives(err); err != nil && !forgiven {
			return states, err
		}
		if err == nil {
			show.update(states)
			if over, err := done(states); over || err != nil {
				return states, err
			}
		}
		if err := a.pause(ctx, looks); err != nil {
			return states, err
		}
	}
}

// hasWidth tells whether out is a terminal on which a bar can be drawn.
func hasWidth(out io.Writer) bool {
	f, ok := out.(interface{ Fd() uintptr })
	if !ok || !logging.IsTerminal(out) {
		return false
	}
	size, err := unix.IoctlGetWinsize(int(f.Fd()), unix.TIOCGWINSZ)
	return err == nil && size.Col > 0
}

// look asks once for the states of servers.
func look(ctx context.Context, h house, find func(context.Context) ([]target, error)) ([]workflows.ServerView, error) {
	targets, err := find(ctx)
	if err != nil {
		return nil, err
	}
	return forEach(ctx, targets, func(ctx context.Context, t target) (workflows.ServerView, error) { return liveView(ctx, h, t) })
}

// liveView is the state of a server with the live progress of its stream.
func liveView(ctx context.Context, h house, t target) (workflows.ServerView, error) {
	view, err := serverView(ctx, h, t)
	if err != nil || view.Stream == "" {
		return view, err
	}
	status, err := h.Following(ctx, workflows.ServerID(t.Plan, t.Server))
	if err != nil || status == nil || status.Stream != view.Stream || status.Epoch != view.Epoch {
		return view, err
	}
	return withStatus(view, *status), nil
}

// withStatus puts what the follower of the stream sees at the moment over what
// the entity was told last.
func withStatus(view workflows.ServerView, s activities.StreamStatus) workflows.ServerView {
	view.Replication = workflows.ReplicationView{
		Stage: s.Stage, BytesTotal: s.BytesTotal, BytesDone: s.BytesDone, Percent: s.Percent,
		RateBytesPerSecond: s.RateBytesPerSecond, ETASeconds: s.ETA.Seconds(), LagSeconds: s.Lag.Seconds(),
		BytesScanned: s.BytesScanned, BytesSent: s.BytesSent, Bottleneck: s.Bottleneck,
		CutMethod: s.CutMethod, PauseSeconds: s.LastPause.Seconds(),
	}
	if s.Health != "" {
		view.Health, view.HealthReason = workflows.Health(s.Health), s.HealthReason
	}
	if s.LastPoint != nil {
		view.LastPoint = &workflows.PointRef{ID: s.LastPoint.ID, Time: s.LastPoint.Time}
	}
	return view
}

// display shows the states of servers, again and again.
type display interface {
	update([]workflows.ServerView)
	close()
}

// lines writes a line for a server whenever something worth a line changes.
type lines struct {
	out  io.Writer
	said map[string]string
	now  func() time.Time
}

func (l *lines) update(states []workflows.ServerView) {
	for _, s := range states {
		name := s.Plan + "/" + s.Name
		// Every twentieth of a copy, and every change of state.
		news := fmt.Sprint(s.Phase, s.Health, s.HealthReason, s.Drill, s.Replication.Stage, int(s.Replication.Percent/5))
		if l.said[name] == news {
			continue
		}
		l.said[name] = news
		fmt.Fprintf(l.out, "%s  %s  %s\n", l.now().Format(time.TimeOnly), name, progressText(s))
	}
}

func (l *lines) close() {}

// progressText is the progress of a server in one line.
func progressText(s workflows.ServerView) string {
	parts := []string{string(s.Phase)}
	if s.Health != workflows.HealthOK && s.Health != "" {
		health := string(s.Health)
		if s.HealthReason != "" {
			health += ": " + s.HealthReason
		}
		parts = append(parts, health)
	}
	r := s.Replication
	switch r.Stage {
	case "":
	case "real-time":
		parts = append(parts, "lag "+seconds(r.LagSeconds), size(int64(r.RateBytesPerSecond))+"/s")
	default:
		parts = append(parts, fmt.Sprintf("%.1f %%", r.Percent), size(r.BytesDone)+" of "+size(r.BytesTotal), size(int64(r.RateBytesPerSecond))+"/s")
		if r.ETASeconds > 0 {
			parts = append(parts, "left "+seconds(r.ETASeconds))
		}
	}
	if r.Bottleneck != "" {
		parts = append(parts, "waits for "+r.Bottleneck)
	}
	return strings.Join(parts, "  ")
}

// bars draws one bar a server.
type bars struct {
	progress *mpb.Progress
	mu       sync.Mutex
	states   map[string]workflows.ServerView
	drawn    map[string]*mpb.Bar
}

// barScale is the resolution of a bar: hundredths of a percent.
const barScale = 10000

func newBars(out io.Writer) *bars {
	return &bars{
		progress: mpb.New(mpb.WithOutput(out), mpb.WithWidth(40), mpb.WithRefreshRate(150*time.Millisecond)),
		states:   map[string]workflows.ServerView{}, drawn: map[string]*mpb.Bar{},
	}
}

func (b *bars) update(states []workflows.ServerView) {
	for _, s := range states {
		name := s.Plan + "/" + s.Name
		b.mu.Lock()
		b.states[name] = s
		b.mu.Unlock()
		bar := b.drawn[name]
		if bar == nil {
			// A total of 0 keeps the bar from ending by itself at 100 %.
			bar = b.progress.AddBar(0,
				mpb.PrependDecorators(decor.Name(name, decor.WCSyncSpaceR)),
				mpb.AppendDecorators(decor.Any(func(decor.Statistics) string {
					b.mu.Lock()
					defer b.mu.Unlock()
					return progressText(b.states[name])
				})))
			b.drawn[name] = bar
		}
		bar.SetTotal(barScale, false)
		bar.SetCurrent(int64(percentOf(s) * barScale / 100))
	}
}

// percentOf is how full the bar of a server is: full once it is in real time.
func percentOf(s workflows.ServerView) float64 {
	if s.Replication.Stage == "real-time" {
		return 100
	}
	return min(max(s.Replication.Percent, 0), 100)
}

func (b *bars) close() {
	for _, bar := range b.drawn {
		bar.Abort(false)
	}
	b.progress.Wait()
}
