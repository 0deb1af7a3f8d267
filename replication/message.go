package replication

import "time"

// What an engine adds to the messages of package delta, as JSON. Unknown keys are ignored, so
// that later versions may add some.

// helloBody goes with the hello: who sends what.
type helloBody struct {
	Stream string `json:"stream"`
	Epoch  int64  `json:"epoch"`
}

// pointMessage asks for a point at the end of a pass.
type pointMessage struct {
	ID        string        `json:"id"`
	Time      time.Time     `json:"time"`
	Label     string        `json:"label,omitempty"`
	Kind      PointKind     `json:"kind"`
	CutMethod string        `json:"cut_method"`
	Pause     time.Duration `json:"pause_ns"`
	// Requests are the ids of the marks that this point answers.
	Requests []string `json:"requests,omitempty"`
}

// pointDone answers it, with the point of each request.
type pointDone struct {
	Point    *Point           `json:"point,omitempty"`
	Requests map[string]Point `json:"requests,omitempty"`
}
