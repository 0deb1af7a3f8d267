package main

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"slices"
	"sync"
	"time"

	"go.temporal.io/sdk/client"
	"go.temporal.io/sdk/worker"
	"go.uber.org/zap"

	"lifeboat/activities"
	"lifeboat/activities/agentless"
	"lifeboat/activities/cloud"
	"lifeboat/internal/dial"
	"lifeboat/internal/logging"
	"lifeboat/workflows"
	"lifeboat/workflows/plan"
)

// stopTimeout is how long running activities may take to yield when the process ends.
const stopTimeout = 10 * time.Second

// process is one worker process with its roles.
type process struct {
	options
	log      *zap.Logger
	sites    map[string]cloud.Site // local ones, by name
	clouds   []cloud.Site          // provider, account and region
	timing   workflows.Timing
	poll     activities.Timing
	provider *activities.Sites
}

func newProcess(o options) (*process, error) {
	log, err := logging.New(o.logLevel)
	if err != nil {
		return nil, err
	}
	p := &process{options: o, log: log, sites: map[string]cloud.Site{}}
	for _, s := range o.sites {
		name, dir, err := splitSite(s)
		if err != nil {
			return nil, err
		}
		if dir, err = filepath.Abs(dir); err != nil {
			return nil, fmt.Errorf("--site %s: %w", s, err)
		}
		p.sites[name] = cloud.Site{Name: name, Provider: "local", Directory: dir}
	}
	for _, c := range o.clouds {
		read, err := plan.ParseCloud(c)
		if err != nil {
			return nil, fmt.Errorf("--cloud %w", err)
		}
		site := cloud.Site{Provider: read.Provider, Account: read.Account, Region: read.Region}
		if !slices.Contains(p.clouds, site) {
			p.clouds = append(p.clouds, site)
		}
	}
	switch o.timeouts {
	case "standard":
		p.timing, p.poll = workflows.Standard(), activities.LocalTiming() // clouds: see pollOf
	case "fast":
		p.timing, p.poll = workflows.Fast(), activities.FastTiming()
	default:
		return nil, fmt.Errorf("--timeouts %q: choose standard or fast", o.timeouts)
	}
	for _, r := range o.roles {
		if !slices.Contains([]string{"control", "cloud", "agent"}, r) {
			return nil, fmt.Errorf("--roles %q: choose from control, cloud, agent", r)
		}
	}
	p.provider = activities.NewSites(p.openAny)
	return p, nil
}

func (p *process) has(role string) bool { return slices.Contains(p.roles, role) }

// run serves all roles until ctx ends. The engines start first and do not need Temporal.
func (p *process) run(ctx context.Context) (err error) {
	defer func() {
		if cerr := p.provider.Close(); err == nil {
			err = cerr
		}
	}()
	var host *activities.Host
	if p.has("agent") {
		engine, stop, err := p.startEngine(ctx)
		if err != nil {
			return err
		}
		defer stop()
		host = activities.NewHost(engine)
	}
	engines, stopEngines, err := p.startEngines(ctx)
	if err != nil {
		return err
	}
	defer stopEngines()
	c, err := p.connect(ctx)
	if err != nil {
		if ctx.Err() != nil {
			return nil // asked to end before Temporal answered
		}
		return err
	}
	defer c.Close()
	if p.has("control") {
		if err := checkSearchAttributes(ctx, c, p.namespaceOf()); err != nil {
			return err
		}
	}
	fatal := make(chan error, 1)
	workers := p.workers(c, host, engines, fatal)
	for _, w := range workers {
		if err := w.Start(); err != nil {
			return fmt.Errorf("worker: %w", err)
		}
	}
	p.log.Info("taking tasks", zap.Strings("roles", p.roles), zap.String("agent", p.agent))
	select {
	case <-ctx.Done():
	case err = <-fatal:
	}
	stopAll(workers)
	return err
}

// connect dials Temporal, and keeps trying while it does not answer: an agent's engine
// works without, and the other roles may be started before the server.
func (p *process) connect(ctx context.Context) (client.Client, error) {
	pause := 200 * time.Millisecond
	for {
		c, err := dial.Client(ctx, dial.Options{Address: p.address, Namespace: p.namespace, Profile: p.profile, Logger: p.log})
		var away *dial.UnreachableError
		if err == nil || !errors.As(err, &away) {
			return c, err
		}
		p.log.Warn("Temporal does not answer; trying again", zap.Bool("replication_goes_on", p.has("agent")), zap.Error(err))
		timer := time.NewTimer(pause)
		select {
		case <-ctx.Done():
			timer.Stop()
			return nil, ctx.Err()
		case <-timer.C:
		}
		pause = min(2*pause, 10*time.Second)
	}
}

// workers of all roles, one for each task queue.
func (p *process) workers(c client.Client, host *activities.Host, engines map[string]*agentless.Engine, fatal chan<- error) []worker.Worker {
	options := worker.Options{WorkerStopTimeout: stopTimeout, OnFatalError: func(err error) {
		select {
		case fatal <- err:
		default:
		}
	}}
	activitiesOnly := options
	activitiesOnly.DisableWorkflowWorker = true
	var all []worker.Worker
	if p.has("control") {
		w := worker.New(c, workflows.TaskQueue, options)
		workflows.Register(w, p.timing)
		activities.RegisterControl(w, &activities.Control{Client: c})
		all = append(all, w)
	}
	if p.has("cloud") {
		all = append(all, p.cloudWorkers(c, engines, activitiesOnly)...)
	}
	if host != nil {
		w := worker.New(c, workflows.HostQueue(p.agent), activitiesOnly)
		activities.RegisterHost(w, host)
		all = append(all, w)
	}
	return all
}

func stopAll(workers []worker.Worker) {
	var wg sync.WaitGroup
	for _, w := range workers {
		wg.Go(w.Stop)
	}
	wg.Wait()
}
