package main

import (
	"context"
	"fmt"
	"path/filepath"
	"slices"

	"go.temporal.io/sdk/client"
	"go.temporal.io/sdk/worker"
	"go.uber.org/zap"

	"lifeboat/activities"
	"lifeboat/activities/agentless"
	"lifeboat/activities/cloud"
	"lifeboat/activities/cloud/aws"
	"lifeboat/activities/cloud/local"
	"lifeboat/internal/logging"
	"lifeboat/workflows"
	"lifeboat/workflows/plan"
)

// served lists what role cloud serves: local sites, and accounts with their regions.
func (p *process) served() []cloud.Site {
	var all []cloud.Site
	for _, s := range p.sites {
		all = append(all, s)
	}
	return append(all, p.clouds...)
}

// serves tells whether the calls of a site are this process's.
func (p *process) serves(s cloud.Site) bool {
	if s.Provider == plan.ProviderLocal {
		_, ok := p.sites[s.Name]
		return ok
	}
	return slices.ContainsFunc(p.clouds, func(c cloud.Site) bool {
		return c.Provider == s.Provider && c.Account == s.Account && c.Region == s.Region
	})
}

// open opens the provider of a site that this process serves. Each account and region
// has its own queue and limits: a task of another one is not taken by mistake.
func (p *process) open(ctx context.Context, s cloud.Site) (cloud.Provider, error) {
	if !p.serves(s) {
		mend := "start lifeboat-worker (or lifeboat dev) with --site " + s.Name + "=DIR"
		if s.Provider != plan.ProviderLocal {
			mend = fmt.Sprintf("start lifeboat-worker with --cloud %s/%s/%s", s.Provider, s.Account, s.Region)
		}
		return nil, cloud.E(cloud.Unsupported, "Open", "site "+s.Name, "this worker does not serve it", mend, nil)
	}
	return p.provider.Open(ctx, s)
}

// openAny opens any site that can be reached from here. Both ends of a stream without
// agents are the target's worker's, so that it reads from sources that it does not serve.
// A local site is served only under the directory that this worker was given: a plan
// cannot reach elsewhere.
func (p *process) openAny(ctx context.Context, s cloud.Site) (cloud.Provider, error) {
	if s.Provider == plan.ProviderAWS {
		options := aws.Options{Log: logging.Slog(p.log)}
		if p.timeouts == "fast" {
			options.LookFor = p.poll.Visible
		}
		return aws.Open(ctx, s, options)
	}
	known, ok := p.sites[s.Name]
	if !ok || s.Provider != plan.ProviderLocal {
		return nil, cloud.E(cloud.Unsupported, "Open", "site "+s.Name, "this worker does not serve it",
			"start lifeboat-worker (or lifeboat dev) with --site "+s.Name+"=DIR", nil)
	}
	if s.Directory != "" && s.Directory != known.Directory {
		return nil, cloud.E(cloud.InvalidInput, "Open", "site "+s.Name,
			fmt.Sprintf("the plan says directory %s, this worker serves %s", s.Directory, known.Directory), "make the two agree", nil)
	}
	return local.Open(ctx, known, local.Options{Log: logging.Slog(p.log)})
}

// pollOf is how activities of a site wait.
func (p *process) pollOf(s cloud.Site) activities.Timing {
	if s.Provider != plan.ProviderLocal && p.timeouts != "fast" {
		return activities.StandardTiming()
	}
	return p.poll
}

// agentlessName is the queue of streams into a site, in the name of agents.
func agentlessName(s cloud.Site) string {
	return plan.AgentlessName(plan.Site{Name: s.Name, Provider: s.Provider, Account: s.Account, Region: s.Region})
}

// startAgentless opens the engine of streams without agents into one local site, or into
// one account and region: they go on at once, whether Temporal answers or not.
func (p *process) startAgentless(ctx context.Context, s cloud.Site) (*agentless.Engine, func(), error) {
	name := agentlessName(s)
	dir := filepath.Join(p.data, "agentless", name)
	unlock, err := lockDir(dir)
	if err != nil {
		return nil, nil, err
	}
	maker := activities.AgentlessSites{Open: p.provider.Open, Timing: p.pollOf(s)}
	engine, err := agentless.Open(ctx, agentless.Config{Dir: dir, Log: p.log.With(zap.String("queue", workflows.HostQueue(name))),
		Documents: maker.Documents, Maker: maker})
	if err != nil {
		unlock()
		return nil, nil, err
	}
	return engine, func() {
		if err := engine.Close(); err != nil {
			p.log.Error("the agentless engine did not close cleanly", zap.String("queue", workflows.HostQueue(name)), zap.Error(err))
		}
		unlock()
	}, nil
}

// startEngines opens the agentless engines of all that is served, by queue.
func (p *process) startEngines(ctx context.Context) (engines map[string]*agentless.Engine, stop func(), err error) {
	var stops []func()
	stop = func() {
		for _, s := range stops {
			s()
		}
	}
	engines = map[string]*agentless.Engine{}
	if !p.has("cloud") {
		return engines, stop, nil
	}
	if p.data == "" {
		if len(p.clouds) > 0 {
			return nil, nil, fmt.Errorf("--cloud: give the worker a directory with --data DIR; it remembers there which servers it takes snapshots of")
		}
		p.log.Info("without --data DIR no recovery points are made by snapshots; agents are not concerned")
		return engines, stop, nil
	}
	for _, s := range p.served() {
		engine, end, err := p.startAgentless(ctx, s)
		if err != nil {
			stop()
			return nil, nil, err
		}
		engines[workflows.HostQueue(agentlessName(s))], stops = engine, append(stops, end)
	}
	return engines, stop, nil
}

// cloudWorkers take the tasks of all that role cloud serves.
func (p *process) cloudWorkers(c client.Client, engines map[string]*agentless.Engine, options worker.Options) []worker.Worker {
	var all []worker.Worker
	for _, site := range p.served() {
		w := worker.New(c, workflows.CloudQueue(site), options)
		activities.RegisterCloud(w, &activities.Cloud{Open: p.open, Timing: p.pollOf(site)})
		all = append(all, w)
	}
	for queue, engine := range engines {
		w := worker.New(c, queue, options)
		activities.RegisterAgentless(w, activities.NewAgentless(engine))
		all = append(all, w)
	}
	return all
}
