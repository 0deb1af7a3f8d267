package replication

import (
	"context"
	"errors"
	"fmt"
	"io"
	"runtime"
	"sync"
	"time"

	"lifeboat/replication/block"
	"lifeboat/replication/delta"
	"lifeboat/replication/index"
	"lifeboat/replication/volume"

	"go.uber.org/zap"
)

const (
	// DefaultScrubEvery is how long a round takes in which all replicas are read once, to find
	// what their disks lost: a terabyte is read at 1.8 MB/s then.
	DefaultScrubEvery = 7 * 24 * time.Hour
	// scrubWait is the longest rest between two regions. So that small disks make headway, too,
	// where sessions are short; they are read sooner then, and the round ends with a wait.
	scrubWait = time.Minute
	// scrubSave is how often the position is made durable.
	scrubSave = time.Minute
	// maxSuspects bounds what waits for confirmation; there is more to find in the next round.
	maxSuspects = 1024
)

// scrubState is how far a round is.
type scrubState struct {
	Began  time.Time `json:"began"`
	Disk   int       `json:"disk"`
	Region int64     `json:"region"`
}

// scrub reads the replicas of a session slowly, and compares them with the index. What a sender
// just wrote is in the index only when it is durable, so a piece that differs is a suspect at
// first. It is confirmed at the end of a pass, when everything is durable and nothing is written:
// before a point is made of it.
type scrub struct {
	s       *targetSession
	every   time.Duration
	disks   []SourceVolume
	regions int64     // that have data
	counted time.Time // regions
	at      scrubState
	saved   time.Time
	cancel  context.CancelFunc
	ended   chan struct{}

	mu       sync.Mutex
	suspects map[suspect]struct{}
}

type suspect struct {
	disk  int
	piece int64
}

// startScrub goes on with the round; nil when there shall be none.
func (s *targetSession) startScrub() *scrub {
	e := s.t.engine
	if e.config.ScrubEvery <= 0 {
		return nil
	}
	ctx, cancel := context.WithCancel(s.ctx)
	c := &scrub{s: s, every: e.config.ScrubEvery, at: s.t.snapshot().Scrub, saved: time.Now(), cancel: cancel,
		ended: make(chan struct{}), suspects: map[suspect]struct{}{}}
	go func() {
		defer close(c.ended)
		// The thread ends with the goroutine, so that nothing else runs with its priority.
		runtime.LockOSThread()
		err := volume.SetIOPriority(volume.IOIdle, 0)
		if err == nil {
			err = c.run(ctx)
		}
		if err != nil { // the copy goes on without it; the next session tries again
			e.log.Warn("replicas are not scrubbed", zap.String("stream", s.t.name), zap.Error(err))
		}
	}()
	return c
}

// stop ends the reading, and keeps the position.
func (c *scrub) stop() error {
	if c == nil {
		return nil
	}
	c.cancel()
	<-c.ended
	return c.save()
}

func (c *scrub) save() error {
	c.saved = time.Now()
	return c.s.t.change(func(s *targetState) { s.Scrub = c.at })
}

// run reads round after round.
func (c *scrub) run(ctx context.Context) (err error) {
	closeDisks, err := c.open()
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, closeDisks()) }()
	now := c.s.t.engine.now
	for ctx.Err() == nil {
		if c.at.Began.IsZero() {
			c.at.Began = now()
		}
		if c.at.Disk >= len(c.disks) {
			if rest(ctx, c.at.Began.Add(c.every).Sub(now())) {
				c.at = scrubState{Began: now()}
			}
			continue
		}
		if err := c.step(ctx); err != nil {
			return err
		}
		if time.Since(c.saved) > scrubSave {
			if err := c.save(); err != nil {
				return err
			}
		}
	}
	return nil
}

// step waits, and looks at one region.
func (c *scrub) step(ctx context.Context) error {
	region, err := c.next()
	if errors.Is(err, io.EOF) {
		c.at.Disk, c.at.Region = c.at.Disk+1, 0
		return nil
	}
	if err != nil {
		return err
	}
	if err := c.count(); err != nil {
		return err
	}
	if !rest(ctx, min(c.every/time.Duration(c.regions), scrubWait)) {
		return nil
	}
	if err := c.region(region); err != nil {
		return err
	}
	c.at.Region = region + 1
	return nil
}

// rest waits; false means that the context ended.
func rest(ctx context.Context, d time.Duration) bool {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return true
	case <-ctx.Done():
		return false
	}
}

// open opens the replicas past the page cache, which may have what the disk has not.
func (c *scrub) open() (closeDisks func() error, err error) {
	var own []SourceVolume
	closeDisks = func() error {
		var errs []error
		for _, v := range own {
			errs = append(errs, v.Close())
		}
		return errors.Join(errs...)
	}
	for i, d := range c.s.t.snapshot().Spec.Disks {
		var v SourceVolume = c.s.replicas[i].Volume
		if c.s.t.engine.config.ownTargets {
			if v, err = volume.Open(d.Path, volume.WithDirect(true)); err != nil {
				return nil, errors.Join(fmt.Errorf("scrub of disk %s: %w", d.Name, err), closeDisks())
			}
			own = append(own, v)
		}
		c.disks = append(c.disks, v)
	}
	return closeDisks, nil
}

// count counts the regions with data, which set the pace; once an hour.
func (c *scrub) count() error {
	if time.Since(c.counted) < time.Hour {
		return nil
	}
	c.regions, c.counted = 1, time.Now()
	for _, v := range c.disks {
		for off := int64(0); ; {
			start, end, err := v.NextData(off)
			if errors.Is(err, io.EOF) {
				break
			}
			if err != nil {
				return err
			}
			c.regions, off = c.regions+(end-start)/RegionSize, end
		}
	}
	return nil
}

// next gives the next region that has data, or should have some; io.EOF behind the last.
func (c *scrub) next() (int64, error) {
	v, x := c.disks[c.at.Disk], c.s.replicas[c.at.Disk].Index
	known, ok, err := x.NextNonZero(c.at.Region)
	if err != nil {
		return 0, err
	}
	start, _, err := v.NextData(c.at.Region * RegionSize)
	if errors.Is(err, io.EOF) || err == nil && start >= x.Size() {
		if ok {
			return known, nil
		}
		return 0, io.EOF
	}
	if region := start / RegionSize; err != nil || !ok || region < known {
		return region, err
	}
	return known, nil
}

// region compares the pieces of a region with the index, and notes those that differ.
func (c *scrub) region(region int64) error {
	v, x := c.disks[c.at.Disk], c.s.replicas[c.at.Disk].Index
	var rec index.Region
	if err := x.Region(region, &rec); err != nil {
		return err
	}
	buf := volume.Buffer(PieceSize)
	geo := x.Geometry()
	first := region * block.PiecesPerRegion
	for piece := first; piece < min(first+block.PiecesPerRegion, geo.Pieces()); piece++ {
		want := rec.Pieces[piece-first]
		b := buf[:geo.PieceBytes(piece)]
		if !want.Known() {
			continue // a comparison reads it anyway
		}
		if err := volume.ReadFull(v, b, piece*PieceSize); err == nil && proof.OfPiece(b) == want {
			continue
		}
		c.mu.Lock()
		if len(c.suspects) < maxSuspects {
			c.suspects[suspect{c.at.Disk, piece}] = struct{}{}
		}
		c.mu.Unlock()
	}
	return nil
}

// confirm looks at the suspects again. Nothing is being written now. What differs is unknown from
// now on, so that the comparison that follows this error reads it, and the sender sends it again.
func (c *scrub) confirm() error {
	if c == nil {
		return nil
	}
	c.mu.Lock()
	suspects := c.suspects
	c.suspects = map[suspect]struct{}{}
	c.mu.Unlock()
	first, rotten := "", 0
	for s := range suspects {
		r := c.s.replicas[s.disk]
		bad, err := differs(r, s.piece)
		if err != nil {
			return err
		}
		if !bad {
			continue
		}
		if err := errors.Join(r.Index.SetUnknown(s.piece, 1), r.Index.Sync()); err != nil {
			return spaceError("index of the target", err)
		}
		if rotten++; rotten == 1 {
			first = fmt.Sprintf("disk %s has other bytes at offset %d than were written there", r.Name, s.piece*PieceSize)
		}
	}
	if rotten == 0 {
		return nil
	}
	reason := fmt.Sprintf("%s (%d pieces in all); both ends are compared and they are sent again; check the disk of the target", first, rotten)
	c.s.t.damaged(reason)
	return fmt.Errorf("%w: scrub: %s", ErrRootMismatch, reason)
}

// differs tells that a piece of a replica is not what the index says, or cannot be read. It is read
// as the comparison will read it: what only the page cache still has right is found in a later round.
func differs(r delta.Replica, piece int64) (bool, error) {
	want, err := r.Index.Piece(piece)
	if err != nil || !want.Known() {
		return false, err
	}
	b := volume.Buffer(r.Index.Geometry().PieceBytes(piece))
	if err := volume.ReadFull(r.Volume, b, piece*PieceSize); err != nil {
		return true, nil // the comparison names the error
	}
	return proof.OfPiece(b) != want, nil
}

// damaged says what is wrong with a replica, until a pass is verified again.
func (t *targetStream) damaged(reason string) {
	t.mu.Lock()
	t.damage = reason
	t.mu.Unlock()
	t.hub.update(func(st *Status) { st.Health, st.HealthReason = HealthResyncing, reason })
}

// mend says that a pass was verified.
func (t *targetStream) mend() {
	t.mu.Lock()
	t.damage = ""
	t.mu.Unlock()
}

// healthy is the health of a stream whose sender is connected.
func (t *targetStream) healthy() (health, reason string) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.damage != "" {
		return HealthResyncing, t.damage
	}
	return HealthOK, ""
}
