package delta

import (
	"context"
	"encoding/json"
	"time"

	"lifeboat/replication/volume"

	"golang.org/x/sync/errgroup"
)

// Pass is one comparison of volumes with the indexes.
type Pass struct {
	// Volumes to read, one for each disk.
	Volumes []volume.Source
	// Changed says, by disk, which ranges may differ; nil means that all is to be read. Where
	// the index does not know what the target has, all of a region is read.
	Changed [][]volume.Extent
	// Spans are the regions to look at; nil means all.
	Spans []Span
	// Settled is called now and then with the regions that are left; what is not among
	// them is durable at the target. It may be nil.
	Settled func(left []Span)
}

// pass is a Pass that runs.
type pass struct {
	s       *Sender
	volumes []volume.Source
	changed []*changedList
	plan    *plan
}

// prepare makes a pass ready to be handed out, and gives the regions to look at.
func (s *Sender) prepare(p Pass) (run *pass, spans []Span) {
	run, spans = &pass{s: s, volumes: p.Volumes, changed: make([]*changedList, len(s.disks))}, p.Spans
	for i := range s.disks {
		if p.Spans == nil {
			spans = append(spans, Span{Disk: i, End: s.geos[i].Regions()})
		}
		if p.Changed != nil && p.Changed[i] != nil {
			run.changed[i] = newChangedList(p.Changed[i], s.geos[i])
		}
	}
	return run, spans
}

// Pass sends what differs, and returns when all of it is durable at the target.
func (s *Sender) Pass(ctx context.Context, p Pass) error {
	run, spans := s.prepare(p)
	run.plan = newPlan(spans, s.count)
	s.plan = run.plan
	defer s.reportSettled(run.plan, p.Settled)()
	defer context.AfterFunc(ctx, func() { s.link.cancel(context.Cause(ctx)) })()
	g, lanes := errgroup.WithContext(s.link.ctx)
	for id := range s.count {
		g.Go(func() error {
			defer spend(&s.meter.Busy, time.Now())
			return newLane(run, id).run(lanes)
		})
	}
	if err := g.Wait(); err != nil {
		if IsLink(err) {
			s.hearOut()
		}
		return s.cause(err)
	}
	counts := s.window.counts()
	if len(counts) == 0 {
		return nil
	}
	defer spend(&s.meter.WaitTarget, time.Now())
	if err := s.link.send(frameFlush, marshalCounts(counts), false); err != nil {
		return s.cause(err)
	}
	return s.cause(s.window.drained(s.link.ctx))
}

// settledEvery is how often a pass says what is left.
const settledEvery = 100 * time.Millisecond

// reportSettled calls fn until the pass ends, and once more then.
func (s *Sender) reportSettled(p *plan, fn func([]Span)) (stop func()) {
	if fn == nil {
		return func() {}
	}
	ended, stopped := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(stopped)
		tick := time.NewTicker(settledEvery)
		defer tick.Stop()
		for {
			select {
			case <-ended:
				fn(p.left())
				return
			case <-tick.C:
				fn(p.left())
			}
		}
	}()
	return func() { close(ended); <-stopped }
}

// Finish asks the target to compare its roots with those of the indexes, and its handler to do
// what body says. It gives the roots.
func (s *Sender) Finish(body, reply any) (roots []string, err error) {
	var m finishMessage
	if m.Body, err = json.Marshal(body); err != nil {
		return nil, err
	}
	for _, d := range s.disks {
		root, err := d.Index.Commit()
		if err != nil {
			return nil, SpaceError("index of the source", err)
		}
		m.Roots = append(m.Roots, s.proof.RootString(root))
	}
	if err := s.link.sendJSON(frameFinish, m); err != nil {
		return nil, s.cause(err)
	}
	f, err := s.reply(frameFinished)
	if err != nil {
		return nil, err
	}
	if reply == nil {
		return m.Roots, nil
	}
	return m.Roots, decodeJSON(f, reply)
}
