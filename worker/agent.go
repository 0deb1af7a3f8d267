package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"go.temporal.io/api/operatorservice/v1"
	"go.temporal.io/sdk/client"
	"go.uber.org/zap"
	"golang.org/x/sys/unix"

	"lifeboat/activities"
	"lifeboat/replication"
	"lifeboat/workflows"
)

// startEngine opens the replication engine of this agent: it resumes its streams at
// once, whether Temporal answers or not.
func (p *process) startEngine(ctx context.Context) (*replication.Engine, func(), error) {
	site, ok := p.sites[p.agent]
	if !ok {
		return nil, nil, fmt.Errorf("agent %q: name the site next to its disks with --agent NAME --site NAME=DIR", p.agent)
	}
	if p.data == "" {
		return nil, nil, fmt.Errorf("agent %s: give it a directory for its state with --data DIR", p.agent)
	}
	dir := filepath.Join(p.data, "agent", p.agent)
	unlock, err := lockDir(dir)
	if err != nil {
		return nil, nil, err
	}
	provider, err := p.provider.Open(ctx, site)
	if err != nil {
		unlock()
		return nil, nil, err
	}
	engine, err := replication.Open(ctx, replication.Config{Dir: dir, Listen: p.listen, Log: p.log.With(zap.String("agent", p.agent)),
		Pauser: activities.SitePauser{Provider: provider}, Points: activities.SitePoints{Provider: provider, Timing: p.poll}})
	if err != nil {
		unlock()
		return nil, nil, err
	}
	if d, ok := provider.(interface{ KeepDaemon(context.Context) error }); ok {
		go func() { // forwards addresses and answers DNS; ends with ctx
			if err := d.KeepDaemon(ctx); err != nil && ctx.Err() == nil {
				p.log.Error("the daemon of the site is not kept alive", zap.String("site", site.Name), zap.Error(err))
			}
		}()
	}
	p.log.Info("replication engine is open", zap.String("agent", p.agent), zap.String("listens", engine.Address()))
	return engine, func() {
		if err := engine.Close(); err != nil {
			p.log.Error("the replication engine did not close cleanly", zap.Error(err))
		}
		unlock()
	}, nil
}

// lockDir makes sure that one process at a time uses a directory of state.
func lockDir(dir string) (unlock func(), err error) {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, fmt.Errorf("directory of state: %w", err)
	}
	f, err := os.OpenFile(filepath.Join(dir, "lock"), os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return nil, fmt.Errorf("directory of state: %w", err)
	}
	if err := unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB); err != nil {
		return nil, errors.Join(fmt.Errorf("another process works in %s already; stop it first", dir), f.Close())
	}
	return func() { _ = f.Close() }, nil // closing releases the lock; nothing was written
}

func (p *process) namespaceOf() string {
	if p.namespace != "" {
		return p.namespace
	}
	return client.DefaultNamespace
}

// checkSearchAttributes refuses to run without the search attributes: a workflow that
// sets an unknown one would hang for ever.
func checkSearchAttributes(ctx context.Context, c client.Client, namespace string) error {
	answer, err := c.OperatorService().ListSearchAttributes(ctx, &operatorservice.ListSearchAttributesRequest{Namespace: namespace})
	if err != nil {
		return fmt.Errorf("search attributes of namespace %s: %w", namespace, err)
	}
	for _, name := range workflows.SearchAttributes() {
		if _, ok := answer.GetCustomAttributes()[name]; !ok {
			return fmt.Errorf("namespace %s lacks search attribute %s; run `lifeboat init` once", namespace, name)
		}
	}
	return nil
}
