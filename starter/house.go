package main

import (
	"context"
	"time"

	"lifeboat/activities"
	"lifeboat/workflows"
)

// house is all that the commands ask of Temporal. Errors name what is not
// there; an *statusError with statusUnreachable says that nobody answers.
type house interface {
	// Update asks a running workflow to do something, waits for the answer and
	// puts it into result (nil drops it). The same id is executed once.
	Update(ctx context.Context, workflowID, name, id string, argument, result any) error
	// Apply creates or changes the entity of a plan.
	Apply(ctx context.Context, plan, id string, request workflows.ApplyRequest) (workflows.PlanView, error)
	// Query reads the state of a workflow, running or closed.
	Query(ctx context.Context, workflowID, query string, result any) error
	// Closed tells whether a workflow has ended.
	Closed(ctx context.Context, workflowID string) (bool, error)
	// Workflows lists the running entities that match a visibility query.
	Workflows(ctx context.Context, query string) ([]string, error)
	// Following gives what the follower of a stream reported last, beside the
	// workflow that waits for it; nil when none runs.
	Following(ctx context.Context, workflowID string) (*activities.StreamStatus, error)
	// Polled tells whether somebody takes workflow tasks (activities: false) or
	// activity tasks from a queue.
	Polled(ctx context.Context, queue string, activities bool) (bool, error)
	// RegisterSearchAttributes makes those that are missing, and returns them.
	RegisterSearchAttributes(ctx context.Context, names []string) ([]string, error)
	// Schedules lists the schedules of drills.
	Schedules(ctx context.Context) ([]scheduleView, error)
	// Schedule acts on the schedule of a plan.
	Schedule(ctx context.Context, plan string, action scheduleAction, note string) error
	// Place names the server and namespace, for messages.
	Place() string
	Close()
}

// scheduleAction is what a command does to a schedule.
type scheduleAction string

const (
	schedulePause   scheduleAction = "pause"
	scheduleResume  scheduleAction = "resume"
	scheduleTrigger scheduleAction = "trigger"
)

// scheduleView is what `schedule list -o json` prints, one a plan.
type scheduleView struct {
	Plan      string       `json:"plan"`
	Schedule  string       `json:"schedule"`
	Paused    bool         `json:"paused"`
	Note      string       `json:"note,omitempty"`
	Calendars []string     `json:"calendars"`
	TimeZone  string       `json:"time_zone,omitempty"`
	Next      []time.Time  `json:"next"`
	Recent    []pastAction `json:"recent"`
}

// pastAction is one run that a schedule started.
type pastAction struct {
	Time       time.Time `json:"time"`
	WorkflowID string    `json:"workflow_id"`
}
