// Package chaos is the fault campaign: it takes one protected server through its
// life cycle again and again, at two local sites or in two regions of the double of
// AWS, on the built programs as real processes, and kills
// one of them with SIGKILL at random moments of every operation. After each
// operation it holds the world against what was promised: the phase, the
// ledger, what is left over, the roots of recovered disks, and the database.
//
// Victims, steps and delays follow from the seed alone.
package chaos

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"sync"
	"time"

	"go.temporal.io/sdk/client"

	"lifeboat/internal/built"
	"lifeboat/internal/demo/stage"
	"lifeboat/workflows"
)

// Options of a campaign.
type Options struct {
	Provider string // Local, the default, or AWS
	Seed     uint64
	Kills    int    // stop after the operation in which this many kills are reached
	Dir      string // for everything; histories and logs are in it after a failure
	Binaries built.Programs
	Log      func(format string, args ...any)
}

// Summary of a campaign.
type Summary struct {
	Kills      map[victim]int
	Operations int
	Repeats    int // operations that a person had to start again
	Answers    int // questions that a person had to answer
	Acked      int // writes acknowledged to the client
	Took       time.Duration
}

// Total of the kills.
func (s Summary) Total() (n int) {
	for _, k := range s.Kills {
		n += k
	}
	return n
}

// campaign is a run.
type campaign struct {
	Options
	rng      *rand.Rand
	theatre  theatre
	world    *stage.World
	programs *programs
	*control
	summary Summary

	mu      sync.Mutex
	serving machine // the server that the name points to
	standby upcoming
	gate    func(ip string) bool // to which servers the client may write
}

// machine is a server at a site.
type machine struct {
	site site
	id   string
}

// upcoming is where an operation brings a server up.
type upcoming struct {
	site      site
	operation string
}

// Run runs a campaign. The error of a failure names the seed and where to look.
func Run(ctx context.Context, o Options) (Summary, error) {
	c, err := newCampaign(o)
	if err != nil {
		return Summary{}, err
	}
	began := time.Now()
	err = c.setUp(ctx)
	if err == nil {
		err = c.cycles(ctx)
	}
	c.summary.Took = time.Since(began)
	if c.world != nil {
		c.summary.Acked = c.world.History.Acked()
	}
	if err != nil {
		err = fmt.Errorf("seed %d, after %d kills in %d operations: %w\nhistories and logs: %s",
			o.Seed, c.summary.Total(), c.summary.Operations, err, o.Dir)
		err = errors.Join(err, c.keepEvidence(context.WithoutCancel(ctx)))
	}
	return c.summary, errors.Join(err, c.tearDown(context.WithoutCancel(ctx)))
}

func newCampaign(o Options) (*campaign, error) {
	c := &campaign{Options: o, rng: rand.New(rand.NewPCG(o.Seed, o.Seed)), summary: Summary{Kills: map[victim]int{}}}
	var err error
	c.theatre, err = newTheatre(c)
	return c, err
}

// cycles repeats the life cycle until there were enough kills.
func (c *campaign) cycles(ctx context.Context) error {
	for cycle := 1; c.summary.Total() < c.Kills; cycle++ {
		for _, s := range c.lifeCycle() {
			if c.summary.Total() >= c.Kills && s.mayStop {
				return nil
			}
			if err := c.perform(ctx, cycle, s); err != nil {
				return fmt.Errorf("cycle %d, %s: %w", cycle, s.name, err)
			}
		}
	}
	return nil
}

// setUp makes the world and starts the programs; nothing is killed yet.
func (c *campaign) setUp(ctx context.Context) (err error) {
	if err := os.MkdirAll(filepath.Join(c.Dir, "logs"), 0o700); err != nil {
		return err
	}
	if c.world, err = c.theatre.open(ctx); err != nil {
		return err
	}
	c.programs, _ = c.theatre.cast()
	if err := c.programs.startAll(ctx); err != nil {
		return err
	}
	temporal, err := client.Dial(client.Options{HostPort: c.programs.temporal.server.Address, Logger: silent{}})
	if err != nil {
		return err
	}
	c.control = &control{client: temporal}
	serving, ip, err := c.theatre.createServer(ctx)
	if err != nil {
		return err
	}
	c.setServing(serving)
	if err := c.world.PointName(ctx, ip); err != nil {
		return err
	}
	c.world.StartClient(ctx, 25*time.Millisecond, 1024, func(ip string) bool {
		c.mu.Lock()
		defer c.mu.Unlock()
		return c.gate == nil || c.gate(ip)
	})
	file, err := c.theatre.plan()
	if err != nil {
		return err
	}
	return c.lifeboat(ctx, "plan", "apply", "-f", file, "--wait", "--address", c.programs.temporal.server.Address)
}

// lifeboat runs a command line of the product.
func (c *campaign) lifeboat(ctx context.Context, args ...string) error {
	out, err := exec.CommandContext(ctx, c.Binaries.Lifeboat, args...).CombinedOutput()
	if err != nil {
		return fmt.Errorf("lifeboat %v: %w: %s", args, err, out)
	}
	return nil
}

// tearDown ends all that the campaign started.
func (c *campaign) tearDown(ctx context.Context) error {
	var errs []error
	if c.world != nil {
		errs = append(errs, c.world.StopClient())
	}
	if c.control != nil {
		c.client.Close()
	}
	if c.programs != nil {
		errs = append(errs, c.programs.stopAll(ctx))
	}
	if c.world != nil {
		errs = append(errs, c.world.Destroy(ctx), c.world.Close())
	}
	return errors.Join(append(errs, c.theatre.close(ctx))...)
}

func (c *campaign) killed(v victim) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.summary.Kills[v]++
}

func (c *campaign) setServing(m machine) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.serving = m
}

func (c *campaign) nowServing() machine {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.serving
}

func (c *campaign) setStandby(u upcoming) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.standby = u
}

func (c *campaign) nowStandby() upcoming {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.standby
}

// hold lets the client write only to the given address ("" = to none) until
// release: a recovered disk must be compared before it is written to.
func (c *campaign) hold(ip string) {
	c.setGate(func(to string) bool { return to == ip })
}

func (c *campaign) release() { c.setGate(nil) }

func (c *campaign) setGate(gate func(ip string) bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.gate = gate
}

// perform runs one step under fire, and checks the world afterwards.
func (c *campaign) perform(ctx context.Context, cycle int, s step) error {
	strikes := c.draw(s)
	for _, k := range strikes {
		c.Log("cycle %d, %s: kill %s after %s", cycle, s.name, k.victim, k.after.Round(time.Millisecond))
	}
	began, over := time.Now(), make(chan struct{})
	struck := make(chan error, 1)
	go func() { struck <- c.strike(ctx, s, strikes, over) }()
	err := s.do(ctx)
	close(over)
	err = errors.Join(err, <-struck)
	c.summary.Operations++
	if err != nil {
		return err
	}
	took := time.Since(began)
	if err := c.standing(ctx); err != nil {
		return err
	}
	if s.check != nil {
		if err := s.check(ctx); err != nil {
			return fmt.Errorf("check: %w", err)
		}
	}
	c.Log("cycle %d, %s: done in %s, checked in %s (%d kills)", cycle, s.name,
		took.Round(10*time.Millisecond), (time.Since(began) - took).Round(10*time.Millisecond), c.summary.Total())
	return nil
}

// standing makes sure that everything runs that should.
func (c *campaign) standing(ctx context.Context) error {
	for _, w := range c.programs.workers() {
		if err := w.alive(); err != nil {
			return err
		}
	}
	serving := c.nowServing()
	return c.theatre.start(ctx, serving.site, serving.id)
}

// answer is what a person does whom an operation asks: look at the servers it
// brings up, start those that are down, and let it try again.
func (c *campaign) answer(ctx context.Context, report workflows.Report) error {
	c.Log("  %s asks: %s", report.WorkflowID, report.Reason)
	c.summary.Answers++
	u := c.nowStandby()
	servers, err := serversOf(ctx, u.site, u.operation)
	if err != nil {
		return err
	}
	for _, s := range servers {
		if err := c.theatre.start(ctx, u.site, s.ID); err != nil {
			return err
		}
	}
	err = c.update(ctx, report.WorkflowID, workflows.UpdateRetry, workflows.DecisionRequest{By: "chaos"}, nil)
	if isRefused(err) {
		return nil // answered by an earlier try
	}
	return err
}
