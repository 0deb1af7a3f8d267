package agentless

import (
	"context"
	"errors"
	"fmt"
	"reflect"

	"lifeboat/activities/cloud"
	"lifeboat/replication"
)

// cached is the state as last read or written, nil when it was not read yet.
func (s *stream) cached() *state {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.state
}

func (s *stream) forgetCached() { s.keep(nil, "") }

func (s *stream) keep(st *state, version string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.state, s.version = st, version
}

// load returns the state: what this engine knows when it runs the stream, since every
// write of another one then shows as a conflict; else what the site says.
func (s *stream) load(ctx context.Context) (*state, error) {
	if st := s.cached(); st != nil && st.Owner == s.engine.owner {
		return st, nil
	}
	return s.refresh(ctx)
}

// refresh reads what the site says, whoever runs the stream.
func (s *stream) refresh(ctx context.Context) (*state, error) {
	s.writing.Lock()
	defer s.writing.Unlock()
	st, err := s.read(ctx)
	if cloud.IsNotFound(err) {
		s.forgetCached()
		err = s.gone()
	}
	return st, err
}

func (s *stream) gone() error {
	return fmt.Errorf("%w: %s: its state is not at site %s; start it again", replication.ErrUnknownStream, s.name, s.target.Name)
}

// read asks the site; the caller holds s.writing.
func (s *stream) read(ctx context.Context) (*state, error) {
	docs, err := s.engine.config.Documents(ctx, s.target)
	if err != nil {
		return nil, s.atTarget(err)
	}
	doc, err := docs.Document(ctx, documentName(s.name))
	if cloud.IsNotFound(err) {
		return nil, err
	}
	if err != nil {
		return nil, s.atTarget(err)
	}
	st, err := decodeState(doc.Name, doc.Data)
	if err != nil {
		return nil, err
	}
	s.keep(st, doc.Version)
	return st, nil
}

func (s *stream) atTarget(err error) error {
	return fmt.Errorf("state of stream %s at site %s: %w", s.name, s.target.Name, err)
}

// changeTries bounds how often a change is begun again because others changed too.
const changeTries = 20

// change makes a changed state durable and current, and returns it. fn may be called several
// times, each time with a copy of what is there; when somebody else wrote in between, or when the
// answer of a write was lost, with what that write left. An error of fn ends it.
func (s *stream) change(ctx context.Context, fn func(*state) error) (*state, error) {
	s.writing.Lock()
	defer s.writing.Unlock()
	for range changeTries {
		st, err := s.tryChange(ctx, fn)
		if err != nil || st != nil {
			return st, err
		}
	}
	return nil, s.atTarget(cloud.E(cloud.Conflict, "PutDocument", "document "+documentName(s.name), "others change it all the time", "", nil))
}

// tryChange changes once; no state without an error means: again.
func (s *stream) tryChange(ctx context.Context, fn func(*state) error) (*state, error) {
	docs, err := s.engine.config.Documents(ctx, s.target)
	if err != nil {
		return nil, s.atTarget(err)
	}
	before := s.cached()
	fresh := before == nil
	if fresh {
		before, err = s.read(ctx)
		if cloud.IsNotFound(err) {
			before, err = &state{}, nil
			s.forgetCached()
		}
		if err != nil {
			return nil, err
		}
	}
	next, err := before.clone()
	if err != nil {
		return nil, err
	}
	if err := fn(next); err != nil {
		if !fresh && s.outdated(ctx, before) {
			return nil, nil
		}
		return nil, err
	}
	s.mu.Lock()
	version := s.version
	s.mu.Unlock()
	if next.same(before) {
		return before, nil
	}
	return s.write(ctx, docs, next, version)
}

// outdated looks whether a state that something was refused for is not the present one.
func (s *stream) outdated(ctx context.Context, before *state) bool {
	now, err := s.read(ctx)
	if cloud.IsNotFound(err) {
		s.forgetCached()
		return true
	}
	return err == nil && now.Stamp != before.Stamp
}

// write stores a state on top of a version.
func (s *stream) write(ctx context.Context, docs cloud.Documents, next *state, version string) (*state, error) {
	raw, err := next.encode()
	if err != nil {
		return nil, err
	}
	doc, err := docs.PutDocument(ctx, cloud.Document{Name: documentName(s.name), Data: raw, Version: version})
	if err == nil {
		s.keep(next, doc.Version)
		return next, nil
	}
	if class := cloud.ClassOf(err); cloud.CodeOf(err) != cloud.Conflict && class != cloud.Retry {
		return nil, s.atTarget(err)
	}
	// The write may have got through, and a conflict may be with it: the stamp tells.
	now, rerr := s.read(ctx)
	if cloud.IsNotFound(rerr) {
		s.forgetCached()
	}
	switch {
	case rerr == nil && now.Stamp == next.Stamp:
		return now, nil
	case cloud.CodeOf(err) == cloud.Conflict && (rerr == nil || cloud.IsNotFound(rerr)):
		return nil, nil
	}
	return nil, s.atTarget(errors.Join(err, rerr))
}

// own is change for the engine that runs the stream: errLost when another one does.
func (s *stream) own(ctx context.Context, fn func(*state) error) (*state, error) {
	return s.change(ctx, func(st *state) error {
		if st.Owner != s.engine.owner {
			return errLost
		}
		return fn(st)
	})
}

// known is change for a stream that has to be there.
func (s *stream) known(ctx context.Context, fn func(*state) error) (*state, error) {
	st, err := s.change(ctx, func(st *state) error {
		if st.Spec.Stream == "" {
			return s.gone()
		}
		return fn(st)
	})
	if err == nil {
		s.show()
		s.poke()
	}
	return st, err
}

func sameSpec(a, b Spec) bool { return reflect.DeepEqual(a, b) }
