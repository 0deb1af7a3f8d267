package delta

import "context"

// bell wakes those who wait for a change. Its owner's mutex guards it. Where nobody waits, which is
// nearly always so while data flows, ringing costs nothing.
type bell struct{ waiting chan struct{} }

// heard gives a channel that the next ring closes.
func (b *bell) heard() <-chan struct{} {
	if b.waiting == nil {
		b.waiting = make(chan struct{})
	}
	return b.waiting
}

func (b *bell) ring() {
	if b.waiting != nil {
		close(b.waiting)
		b.waiting = nil
	}
}

// waitUntil looks again whenever the channel that it was given is closed, until what it waits for
// is so.
func waitUntil(ctx context.Context, look func() (ok bool, changed <-chan struct{})) error {
	for {
		ok, changed := look()
		if ok {
			return nil
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
}
