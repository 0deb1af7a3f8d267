package activities

import (
	"context"
	"errors"
	"sync"
	"time"

	"go.temporal.io/sdk/activity"
	"go.temporal.io/sdk/temporal"
	"go.temporal.io/sdk/worker"

	"lifeboat/activities/cloud"
)

// Progress is what a waiting activity heartbeats: shown in the Web UI, and read by
// the next attempt.
type Progress struct {
	Note string `json:"note,omitempty"` // what it waits for, in words
	// Before is what an address pointed to before this activity moved it.
	Before *string `json:"before,omitempty"`
	// Devices of disks, by name, where a server had them before this activity changed it.
	Devices map[string]string `json:"devices,omitempty"`
}

// tracker holds the progress of one running activity.
type tracker struct {
	mu       sync.Mutex
	progress Progress
}

type trackerKey struct{}

// note says what the activity is doing now.
func note(ctx context.Context, text string) {
	track(ctx, func(p *Progress) { p.Note = text })
}

// track changes the progress of the activity and heartbeats it at once, for a later
// attempt may need it.
func track(ctx context.Context, change func(*Progress)) {
	t, ok := ctx.Value(trackerKey{}).(*tracker)
	if !ok {
		return
	}
	t.mu.Lock()
	change(&t.progress)
	t.mu.Unlock()
	t.beat(ctx)
}

func (t *tracker) beat(ctx context.Context) {
	t.mu.Lock()
	p := t.progress
	t.mu.Unlock()
	activity.RecordHeartbeat(ctx, p)
}

// progressOf returns the progress of this activity, as an earlier attempt left it.
func progressOf(ctx context.Context) Progress {
	t, ok := ctx.Value(trackerKey{}).(*tracker)
	if !ok {
		return Progress{}
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.progress
}

// run is the frame of every activity that talks to a site: it heartbeats while
// work runs, and turns what work returns into errors that Temporal understands.
// How long a hung call may last is the limit of the attempt, set by the workflow.
func run[T any](ctx context.Context, work func(ctx context.Context) (T, error)) (T, error) {
	t := &tracker{}
	if activity.HasHeartbeatDetails(ctx) {
		if err := activity.GetHeartbeatDetails(ctx, &t.progress); err != nil {
			var none T
			return none, temporal.NewNonRetryableApplicationError("the progress of the attempt before cannot be read", BadCheckpoint, err)
		}
	}
	stop := t.beatWhile(ctx)
	result, err := work(context.WithValue(ctx, trackerKey{}, t))
	err = answer(ctx, err) // before the last heartbeat can change what ctx says
	stop()
	return result, err
}

// do is run for work without a result.
func do(ctx context.Context, work func(ctx context.Context) error) error {
	_, err := run(ctx, func(ctx context.Context) (struct{}, error) { return struct{}{}, work(ctx) })
	return err
}

// beatWhile heartbeats in the background until stop is called.
func (t *tracker) beatWhile(ctx context.Context) (stop func()) {
	every := activity.GetInfo(ctx).HeartbeatTimeout / 3
	if every <= 0 {
		return func() {}
	}
	beating, cancel := context.WithCancel(ctx)
	var done sync.WaitGroup
	done.Go(func() {
		ticker := time.NewTicker(every)
		defer ticker.Stop()
		for {
			// Not with beating: a heartbeat that is cut off by the end of the work
			// would count as one that did not get through, and end the activity.
			t.beat(ctx)
			select {
			case <-beating.Done():
				return
			case <-ticker.C:
			}
		}
	})
	return func() { cancel(); done.Wait() }
}

// answer tells why work was cut short when it was, else maps its error.
func answer(ctx context.Context, err error) error {
	if err == nil || ctx.Err() == nil {
		return Err(err)
	}
	cause := context.Cause(ctx)
	var canceled *temporal.CanceledError
	switch {
	case errors.As(cause, &canceled):
		return canceled
	case errors.Is(cause, worker.ErrWorkerShutdown):
		return yield()
	}
	return Err(cloud.E(cloud.Unavailable, "", "", "the attempt was cut short: "+cause.Error(), "", nil))
}

// yield ends an attempt because the worker ends; the next one begins at once.
func yield() error {
	return temporal.NewApplicationErrorWithOptions("the worker is ending, another one goes on", Yield,
		temporal.ApplicationErrorOptions{NextRetryDelay: 100 * time.Millisecond, Category: temporal.ApplicationErrorCategoryBenign})
}
