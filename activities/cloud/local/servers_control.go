package local

import (
	"context"

	"lifeboat/activities/cloud"
)

// StartServer starts a stopped server; one that runs or is about to is nil.
func (p *Provider) StartServer(ctx context.Context, id string) error {
	const op = "StartServer"
	for {
		l, _, err := p.loadServer(ctx, op, id)
		if err != nil {
			return err
		}
		o, err := observeRun(l.dir, l.Run)
		if err != nil {
			return err
		}
		live := o.phase == phaseStarting || o.phase == phaseRunning
		switch {
		case l.Wish == wishGone:
			return cloud.E(cloud.Conflict, op, "server "+id, "is being terminated", "", nil)
		case l.Wish == wishRunning && (live || o.phase == phaseIdle):
			_, err := p.settle(ctx, op, id)
			return err
		case live:
			return cloud.E(cloud.Conflict, op, "server "+id, "is still stopping", "wait until it is stopped", nil)
		}
		if o.phase == phaseLost {
			if err := killFamily(o.run.Child, 0, killWait); err != nil {
				return err
			}
		}
		// Between the look and the change somebody else may have started it.
		changed, err := p.changeServer(ctx, op, id, l.Run, func(r *serverRecord) {
			r.Wish, r.Force, r.Run = wishRunning, false, r.Run+1
		})
		if err != nil {
			return err
		}
		if changed {
			_, err := p.settle(ctx, op, id)
			return err
		}
	}
}

// StopServer stops a server and keeps its disks and its address.
func (p *Provider) StopServer(ctx context.Context, id string, force bool) error {
	_, err := p.changeServer(ctx, "StopServer", id, 0, func(r *serverRecord) {
		if r.Wish != wishGone {
			r.Wish, r.Force = wishStopped, force
		}
	})
	if err != nil {
		return err
	}
	_, err = p.settle(ctx, "StopServer", id)
	return cloud.IgnoreNotFound(err)
}

// TerminateServer deletes a server. Its public address is free at once, its
// private address and its disks as soon as it does not run any more.
func (p *Provider) TerminateServer(ctx context.Context, id string) error {
	var moved bool
	err := p.store.update(ctx, func(t *tx) error {
		var r serverRecord
		found, err := t.get(serverBucket, id, &r)
		if err != nil {
			return err
		}
		if !found {
			return notFound("TerminateServer", cloud.KindServer, id)
		}
		a, found, err := t.addressOf(id)
		if err != nil {
			return err
		}
		if found {
			moved = true
			if err := t.pointAddress(a, ""); err != nil {
				return err
			}
		}
		r.Wish, r.Force = wishGone, true
		return t.put(serverBucket, id, r)
	})
	if err != nil {
		return err
	}
	if moved {
		if err := p.pokeDaemon(ctx); err != nil {
			return err
		}
	}
	_, err = p.settle(ctx, "TerminateServer", id)
	return cloud.IgnoreNotFound(err)
}

// changeServer changes a server record, unless another run (0 = any) is wished by now.
func (p *Provider) changeServer(ctx context.Context, op, id string, run int, change func(*serverRecord)) (changed bool, err error) {
	err = p.store.update(ctx, func(t *tx) error {
		var r serverRecord
		found, err := t.get(serverBucket, id, &r)
		if err != nil {
			return err
		}
		if !found {
			return notFound(op, cloud.KindServer, id)
		}
		if run != 0 && r.Run != run {
			return nil
		}
		change(&r)
		changed = true
		return t.put(serverBucket, id, r)
	})
	return changed, err
}
