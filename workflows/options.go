package workflows

import (
	"time"

	"go.temporal.io/sdk/temporal"
	"go.temporal.io/sdk/workflow"
)

// Timing holds the time-outs of all activity classes. It is a setting of the
// worker: replaying a history under another Timing is safe, since time-outs are
// not part of what replay compares.
type Timing struct {
	Read          time.Duration // one attempt of a describing call
	Mutate        time.Duration // one attempt of a changing call
	Await         time.Duration // one attempt of waiting for a state
	AwaitTotal    time.Duration // all attempts of waiting for a state
	MutateTotal   time.Duration // all attempts of a changing call
	Heartbeat     time.Duration // silence after which a waiting or following activity is lost
	HostStart     time.Duration // how long a host's agent may leave a task untaken
	RetryInitial  time.Duration
	RetryMax      time.Duration
	Follow        time.Duration // longest time one Follow activity runs
	Fence         time.Duration // longest time for stopping a source server
	ScriptDefault time.Duration // time limit of a script that names none
	HealthDefault time.Duration // time limit of a health check that names none
}

// taskTimeout is how soon Temporal gives a workflow's next decision to another worker
// when one was killed in the middle of it: half of the default, since it counts in the RTO.
const taskTimeout = 5 * time.Second

// Standard is the profile for real clouds and real disasters.
func Standard() Timing {
	return Timing{
		Read: 30 * time.Second, Mutate: time.Minute, Await: 10 * time.Minute, AwaitTotal: 6 * time.Hour, MutateTotal: 30 * time.Minute,
		Heartbeat: 30 * time.Second, HostStart: 30 * time.Second, RetryInitial: time.Second, RetryMax: 30 * time.Second,
		Follow: 10 * time.Minute, Fence: 5 * time.Minute, ScriptDefault: 5 * time.Minute, HealthDefault: 5 * time.Minute,
	}
}

// Fast is the profile for local sites and tests: a kill costs seconds.
func Fast() Timing {
	return Timing{
		Read: 5 * time.Second, Mutate: 20 * time.Second, Await: time.Minute, AwaitTotal: 5 * time.Minute, MutateTotal: 2 * time.Minute,
		Heartbeat: 3 * time.Second, HostStart: 15 * time.Second, RetryInitial: 100 * time.Millisecond, RetryMax: time.Second,
		Follow: time.Minute, Fence: 20 * time.Second, ScriptDefault: time.Minute, HealthDefault: time.Minute,
	}
}

func (t Timing) retry() *temporal.RetryPolicy {
	return &temporal.RetryPolicy{InitialInterval: t.RetryInitial, BackoffCoefficient: 2, MaximumInterval: t.RetryMax}
}

// read is for describing calls.
func (t Timing) read(ctx workflow.Context, queue, summary string) workflow.Context {
	return workflow.WithActivityOptions(ctx, workflow.ActivityOptions{TaskQueue: queue, Summary: summary,
		StartToCloseTimeout: t.Read, ScheduleToCloseTimeout: t.MutateTotal, ScheduleToStartTimeout: t.HostStart, RetryPolicy: t.retry()})
}

// mutate is for changing calls that answer at once.
func (t Timing) mutate(ctx workflow.Context, queue, summary string) workflow.Context {
	return workflow.WithActivityOptions(ctx, workflow.ActivityOptions{TaskQueue: queue, Summary: summary,
		StartToCloseTimeout: t.Mutate, ScheduleToCloseTimeout: t.MutateTotal, ScheduleToStartTimeout: t.HostStart,
		WaitForCancellation: true, RetryPolicy: t.retry()})
}

// await is for steps that wait for a state inside the activity.
func (t Timing) await(ctx workflow.Context, queue, summary string) workflow.Context {
	return workflow.WithActivityOptions(ctx, workflow.ActivityOptions{TaskQueue: queue, Summary: summary,
		StartToCloseTimeout: t.Await, ScheduleToCloseTimeout: t.AwaitTotal, HeartbeatTimeout: t.Heartbeat,
		WaitForCancellation: true, RetryPolicy: t.retry()})
}

// within is await with the caller's own limit for one attempt.
func (t Timing) within(ctx workflow.Context, queue, summary string, limit time.Duration) workflow.Context {
	return workflow.WithActivityOptions(ctx, workflow.ActivityOptions{TaskQueue: queue, Summary: summary,
		StartToCloseTimeout: limit + t.Mutate, ScheduleToCloseTimeout: 2*limit + t.AwaitTotal, HeartbeatTimeout: t.Heartbeat,
		WaitForCancellation: true, RetryPolicy: t.retry()})
}

// bounded is for steps that must have an answer, good or bad, within limit.
func (t Timing) bounded(ctx workflow.Context, queue, summary string, limit time.Duration) workflow.Context {
	return workflow.WithActivityOptions(ctx, workflow.ActivityOptions{TaskQueue: queue, Summary: summary,
		StartToCloseTimeout: limit, ScheduleToCloseTimeout: limit, HeartbeatTimeout: t.Heartbeat, WaitForCancellation: true, RetryPolicy: t.retry()})
}

// follow is for the supervision of a stream. A cancel detaches, so nothing is waited for.
func (t Timing) follow(ctx workflow.Context, queue, summary string) workflow.Context {
	return workflow.WithActivityOptions(ctx, workflow.ActivityOptions{TaskQueue: queue, Summary: summary,
		StartToCloseTimeout: t.Follow + t.Mutate, ScheduleToStartTimeout: t.HostStart, HeartbeatTimeout: t.Heartbeat, RetryPolicy: t.retry()})
}

// critical is for what must happen in the end: undo, clean-up, traffic after the
// point of no return. It is retried without limit.
func (t Timing) critical(ctx workflow.Context, queue, summary string) workflow.Context {
	return workflow.WithActivityOptions(ctx, workflow.ActivityOptions{TaskQueue: queue, Summary: summary,
		StartToCloseTimeout: t.Await, HeartbeatTimeout: t.Heartbeat, WaitForCancellation: true, RetryPolicy: t.retry()})
}

// control is for updates of entity workflows; the entity may work for long in one.
func (t Timing) control(ctx workflow.Context, summary string) workflow.Context {
	return workflow.WithActivityOptions(ctx, workflow.ActivityOptions{TaskQueue: TaskQueue, Summary: summary,
		StartToCloseTimeout: t.Await, HeartbeatTimeout: t.Heartbeat, WaitForCancellation: true, RetryPolicy: t.retry()})
}

// bestEffort is for calls to a site that may be gone: two attempts, then the caller goes on.
func (t Timing) bestEffort(ctx workflow.Context, queue, summary string) workflow.Context {
	return workflow.WithActivityOptions(ctx, workflow.ActivityOptions{TaskQueue: queue, Summary: summary,
		StartToCloseTimeout: t.Mutate, ScheduleToStartTimeout: t.HostStart, ScheduleToCloseTimeout: 2 * t.Mutate,
		HeartbeatTimeout: t.Heartbeat, WaitForCancellation: true, RetryPolicy: t.retry()})
}
