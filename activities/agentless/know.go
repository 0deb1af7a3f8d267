package agentless

import (
	"context"

	"lifeboat/activities/cloud"
)

// Know makes points usable of a stream that another engine ran, which may be gone: the
// stream is not run by it, and its source is not asked. A stream of which the target site
// knows nothing is [replication.ErrUnknownStream]; one that this engine has is fine.
func (e *Engine) Know(ctx context.Context, name string, target cloud.Site) error {
	defer e.lockStream(name)()
	if _, err := e.stream(name); err == nil {
		return nil
	}
	s := e.newStream(name, target)
	if _, err := s.refresh(ctx); err != nil {
		return err
	}
	if err := e.registry.put(ctx, name, target); err != nil {
		return err
	}
	e.mu.Lock()
	e.streams[name] = s
	e.mu.Unlock()
	s.show()
	s.start()
	return nil
}
