package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/spf13/cobra"
	"go.uber.org/zap"

	"lifeboat/activities"
	"lifeboat/internal/dial"
	"lifeboat/internal/logging"
	"lifeboat/internal/temporalserver"
	"lifeboat/workflows"
	"lifeboat/workflows/plan"
)

// devOptions are the flags of dev.
type devOptions struct {
	data         string
	sites        []string
	clouds       []string
	port, uiPort int
	timeouts     string
	worker       string
	durable      bool
}

// How long dev waits for things that take seconds.
const (
	pollersPatience = 60 * time.Second
	stopPatience    = 45 * time.Second
)

func newDevCommand(a *app) *cobra.Command {
	var o devOptions
	cmd := &cobra.Command{
		Use: "dev", Short: "Run Temporal, its Web UI, workers and local sites in the foreground",
		Long: `Dev runs all of Lifeboat on this machine until it is interrupted: a Temporal server with
a database file, its Web UI, a worker and an agent for every local site. Started again on
the same data directory everything goes on, also after kill -9. There are three sites:
primary, recovery, and names, which serves DNS and which no disaster takes; --site adds
others, which are remembered. Everything listens on 127.0.0.1 alone. Ctrl-C stops the
workers, then Temporal; a second one kills them. Servers of local sites go on running:
` + "`lifeboat local destroy`" + ` ends them.`,
		Example: `  lifeboat dev
  lifeboat dev --data /srv/lifeboat --site branch=/srv/branch
  LIFEBOAT_DATA=/srv/lifeboat lifeboat status        # in a second terminal`,
		Args: cobra.NoArgs,
	}
	flags := cmd.Flags()
	flags.StringVar(&o.data, "data", "", "data directory (default $LIFEBOAT_DATA, else .lifeboat)")
	flags.StringArrayVar(&o.sites, "site", nil, "NAME=DIR of one more local site (repeatable)")
	flags.StringArrayVar(&o.clouds, "cloud", nil, "aws/ACCOUNT/REGION that the worker serves, too, with the credentials of the environment (repeatable)")
	flags.IntVar(&o.port, "port", 0, "port of Temporal (default: as before, else 7233 or a free one)")
	flags.IntVar(&o.uiPort, "ui-port", 0, "port of the Web UI (default: as before, else 8233 or a free one)")
	flags.StringVar(&o.timeouts, "timeouts", "standard", "time-outs of the workers: standard or fast (for trying out failures)")
	flags.StringVar(&o.worker, "worker", "", "lifeboat-worker to run (default: beside this program, else on PATH)")
	flags.BoolVar(&o.durable, "durable", false, "wait for the disk at every step, so that a power cut loses nothing (slower)")
	completeValues(cmd, "timeouts", "standard", "fast")
	return a.runs(cmd, func(ctx context.Context, _ []string) error { return a.dev(ctx, o) })
}

// dev runs until ctx ends.
func (a *app) dev(ctx context.Context, o devOptions) error {
	d, err := a.prepareDev(o)
	if err != nil {
		return err
	}
	defer d.lock.Close()
	if err := d.startTemporal(ctx); err != nil {
		return err
	}
	d.startWorkers()
	err = d.awaitPollers(ctx)
	if err == nil {
		d.announce()
		err = d.keepTemporal(ctx)
	}
	if ctx.Err() != nil {
		err = nil // stopping is how dev ends
	}
	// From here on, before anything is said of stopping, a second Ctrl-C is heard.
	kill := make(chan os.Signal, 2)
	signal.Notify(kill, os.Interrupt, syscall.SIGTERM)
	defer signal.Stop(kill)
	return errors.Join(err, d.stop(kill))
}

// devRun is a running dev.
type devRun struct {
	*app
	options devOptions
	dir     string
	lock    *os.File
	log     *zap.Logger
	worker  string
	state   devState

	temporal *temporalserver.Server
	children []*child
	ended    sync.WaitGroup
	stopAll  context.CancelFunc
}

// prepareDev checks what can be checked before anything starts.
func (a *app) prepareDev(o devOptions) (*devRun, error) {
	if o.data == "" {
		o.data = a.env(dataEnv)
	}
	if o.data == "" {
		o.data = devHome
	}
	dir, err := filepath.Abs(o.data)
	if err != nil {
		return nil, usagef("--data: %v", err)
	}
	asked, err := parseSites(o.sites)
	if err != nil {
		return nil, err
	}
	for _, c := range o.clouds {
		if _, err := plan.ParseCloud(c); err != nil {
			return nil, usagef("--cloud %v", err)
		}
	}
	if o.timeouts != "standard" && o.timeouts != "fast" {
		return nil, usagef("--timeouts %q: there are standard and fast", o.timeouts)
	}
	worker, err := findWorker(o.worker)
	if err != nil {
		return nil, err
	}
	level := a.logLevel
	if level == "warn" {
		level = "info" // what happens at the start is worth a line
	}
	log, err := logging.NewWriter(a.Err, level)
	if err != nil {
		return nil, err
	}
	lock, err := lockDev(dir)
	if err != nil {
		return nil, err
	}
	before, err := readDev(dir)
	if err != nil {
		lock.Close()
		return nil, err
	}
	namespace := a.namespace
	if namespace == "" {
		namespace = "default"
	}
	return &devRun{app: a, options: o, dir: dir, lock: lock, log: log, worker: worker,
		state: devState{Namespace: namespace, PID: os.Getpid(), Sites: sitesOfDev(dir, before, asked)}}, nil
}

// findWorker gives the path of lifeboat-worker.
func findWorker(asked string) (string, error) {
	const name = "lifeboat-worker"
	if asked != "" {
		path, err := exec.LookPath(asked)
		if err != nil {
			return "", usagef("--worker: %v", err)
		}
		return filepath.Abs(path)
	}
	if self, err := os.Executable(); err == nil {
		if self, err = filepath.EvalSymlinks(self); err == nil {
			if path, err := exec.LookPath(filepath.Join(filepath.Dir(self), name)); err == nil {
				return path, nil
			}
		}
	}
	path, err := exec.LookPath(name)
	if err != nil {
		return "", usagef("%s: neither beside this program nor on PATH (build it with `make build`, or name it with --worker)", name)
	}
	return filepath.Abs(path)
}

// startTemporal starts the server; ports are kept from start to start.
func (d *devRun) startTemporal(ctx context.Context) error {
	server, err := temporalserver.Start(ctx, temporalserver.Options{
		DataDir: filepath.Join(d.dir, "temporal"), Port: d.options.port, UIPort: d.options.uiPort, StandardPorts: true,
		Namespace: d.state.Namespace, SearchAttributes: workflows.SearchAttributes(), Durable: d.options.durable, Log: d.log,
	})
	if err != nil {
		return failf("%v", err)
	}
	d.temporal = server
	d.state.Address, d.state.UI = server.Address, server.UIURL
	if err := writeDev(d.dir, d.state); err != nil {
		return errors.Join(failf("data directory %s: %v", d.dir, err), server.Stop(ctx))
	}
	return nil
}

// startWorkers starts one worker for workflows and cloud calls, and one agent a site.
func (d *devRun) startWorkers() {
	common := []string{"--address", d.state.Address, "--namespace", d.state.Namespace, "--data", d.dir,
		"--timeouts", d.options.timeouts, "--log-level", "info"}
	control := append([]string{"--roles", "control,cloud"}, common...)
	names := sortedKeys(d.state.Sites)
	for _, name := range names {
		control = append(control, "--site", name+"="+d.state.Sites[name])
	}
	for _, c := range d.options.clouds {
		control = append(control, "--cloud", c)
	}
	d.addChild("worker", control)
	for _, name := range names {
		agent := append([]string{"--roles", "agent", "--agent", name}, common...)
		d.addChild("agent-"+name, append(agent, "--site", name+"="+d.state.Sites[name]))
	}
	ctx, cancel := context.WithCancel(context.Background())
	d.stopAll = cancel
	for _, c := range d.children {
		d.ended.Add(1)
		go func() {
			defer d.ended.Done()
			c.keep(ctx)
		}()
	}
}

func (d *devRun) addChild(name string, args []string) {
	d.children = append(d.children, &child{name: name, program: d.worker, args: args, firstPause: restartPause,
		log: filepath.Join(d.dir, logsDir, name+".log"), say: d.say})
}

// awaitPollers waits until every task queue is served.
func (d *devRun) awaitPollers(ctx context.Context) error {
	waiting, cancel := context.WithTimeout(ctx, pollersPatience)
	defer cancel()
	h, err := d.connect(waiting, dial.Options{Address: d.state.Address, Namespace: d.state.Namespace, Logger: d.log})
	if err != nil {
		return err
	}
	defer h.Close()
	type queue struct {
		name       string
		activities bool
	}
	queues := []queue{{workflows.TaskQueue, false}, {workflows.TaskQueue, true}}
	for _, name := range sortedKeys(d.state.Sites) {
		site := plan.Site{Name: name, Provider: plan.ProviderLocal}
		queues = append(queues, queue{workflows.CloudQueue(activities.Site{Name: name, Provider: site.Provider}), true},
			queue{workflows.HostQueue(name), true}, queue{workflows.HostQueue(plan.AgentlessName(site)), true})
	}
	for looks := 0; len(queues) > 0; looks++ {
		polled, err := h.Polled(waiting, queues[0].name, queues[0].activities)
		if err == nil && polled {
			queues = queues[1:]
			continue
		}
		if err := d.pause(waiting, looks); err != nil {
			return failf("task queue %s: no worker takes its tasks after %s (see the logs in %s)", queues[0].name, pollersPatience, filepath.Join(d.dir, logsDir))
		}
	}
	return nil
}

// announce says that everything is ready, and what to do with it.
func (d *devRun) announce() {
	var b strings.Builder
	fmt.Fprintf(&b, "\nLifeboat is ready.\n")
	fmt.Fprintf(&b, "  Temporal   %s, namespace %s, server %s\n", d.state.Address, d.state.Namespace, d.temporal.Version)
	fmt.Fprintf(&b, "  Web UI     %s\n", d.state.UI)
	for _, name := range sortedKeys(d.state.Sites) {
		fmt.Fprintf(&b, "  site       %s in %s\n", name, d.state.Sites[name])
	}
	fmt.Fprintf(&b, "  logs       %s and %s\n", filepath.Join(d.dir, logsDir), d.temporal.LogFile)
	fmt.Fprintf(&b, "Stop it with Ctrl-C. In a second terminal:\n")
	if here, err := os.Getwd(); err != nil || d.dir != here && d.dir != filepath.Join(here, devHome) {
		fmt.Fprintf(&b, "  export %s=%s\n", dataEnv, d.dir)
	}
	fmt.Fprintf(&b, "  lifeboat local create-server --help    # a server to protect\n")
	fmt.Fprintf(&b, "  lifeboat plan init -f plan.yaml        # propose a plan for it\n")
	fmt.Fprintf(&b, "  lifeboat plan apply -f plan.yaml\n")
	fmt.Fprint(d.Out, b.String())
}

// keepTemporal starts the server again whenever it dies, until ctx ends. Workers
// connect again by themselves.
func (d *devRun) keepTemporal(ctx context.Context) error {
	for pause := restartPause; ; pause = min(2*pause, restartMost) {
		began := time.Now()
		select {
		case <-ctx.Done():
			return nil
		case <-d.temporal.Done():
		}
		if time.Since(began) > goodLife {
			pause = restartPause
		}
		d.say("Temporal ended: %v; starting it again", d.temporal.Err())
		for {
			err := d.startTemporal(ctx)
			if err == nil {
				d.say("Temporal is back at %s", d.state.Address)
				break
			}
			if ctx.Err() != nil {
				return nil
			}
			d.say("Temporal did not start: %s; trying again in %s", oneLine(err), length(pause))
			if d.pauseFor(ctx, pause) != nil {
				return nil
			}
			pause = min(2*pause, restartMost)
		}
	}
}

func (d *devRun) pauseFor(ctx context.Context, pause time.Duration) error {
	timer := time.NewTimer(pause)
	defer timer.Stop()
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-timer.C:
		return nil
	}
}

// stop ends the workers, then Temporal. A signal on kill ends all at once.
func (d *devRun) stop(kill <-chan os.Signal) error {
	d.say("stopping the workers, then Temporal (Ctrl-C again kills them)")
	d.stopAll()
	for _, c := range d.children {
		c.signal(syscall.SIGTERM)
	}
	gone := make(chan struct{})
	go func() {
		d.ended.Wait()
		close(gone)
	}()
	late := time.NewTimer(stopPatience)
	defer late.Stop()
	killed := false
	select {
	case <-gone:
	case <-kill:
		killed = true
	case <-late.C:
		d.say("the workers did not stop within %s: killing them", stopPatience)
	}
	for _, c := range d.children {
		c.signal(syscall.SIGKILL)
	}
	<-gone
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	if killed {
		cancel() // an ended context kills
	}
	go func() {
		select {
		case <-kill:
			cancel()
		case <-ctx.Done():
		}
	}()
	if err := d.temporal.Stop(ctx); err != nil {
		return failf("%v", err)
	}
	d.say("stopped; `lifeboat dev` on %s goes on from here", d.dir)
	return nil
}
