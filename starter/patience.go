package main

import "time"

// forgiveness is how long a command that waits puts up with silence: workers
// and Temporal may be restarted meanwhile, and what is waited for goes on.
const forgiveness = 2 * time.Minute

// patience decides about errors between two looks at something.
type patience struct {
	app   *app
	since time.Time // of the first of the failed looks in a row
}

// forgives tells whether to look again after err.
func (p *patience) forgives(err error) bool {
	if err == nil {
		p.since = time.Time{}
		return false
	}
	if exitStatus(err) != statusUnreachable {
		return false
	}
	if p.since.IsZero() {
		p.since = p.app.now()
		p.app.say("%s; waiting for it to come back", oneLine(err))
	}
	return p.app.now().Sub(p.since) < forgiveness
}
