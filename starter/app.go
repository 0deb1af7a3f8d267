package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"sync"
	"time"

	"github.com/spf13/cobra"
	"go.uber.org/zap"

	"lifeboat/internal/dial"
	"lifeboat/internal/logging"
)

// Streams are where a command reads and writes. Results go to Out; progress,
// questions, logs and errors to Err.
type Streams struct {
	In  io.Reader
	Out io.Writer
	Err io.Writer
}

// app is what all commands share: streams, common flags and the way to Temporal.
type app struct {
	Streams

	// Common flags.
	address, namespace, profile string
	output, logLevel            string
	timeout                     time.Duration
	requestID                   string
	requestOnce                 sync.Once

	env     func(string) string
	now     func() time.Time
	connect func(ctx context.Context, o dial.Options) (house, error)
	// pace is the shortest pause between two looks at something that is waited for.
	pace time.Duration
	// began tells that flags and arguments were right and the command runs:
	// an error before that is one of usage.
	began bool
}

// Execute runs one command line and returns its exit status. It is all that
// main does, and all that tests need.
func Execute(ctx context.Context, args []string, streams Streams) int {
	return newApp(streams).execute(ctx, args)
}

func newApp(streams Streams) *app {
	return &app{
		Streams: streams,
		env:     os.Getenv,
		now:     time.Now,
		connect: connectTemporal,
		pace:    250 * time.Millisecond,
	}
}

func (a *app) execute(ctx context.Context, args []string) int {
	root := newRootCommand(a)
	root.SetArgs(args)
	root.SetIn(a.In)
	root.SetOut(a.Out)
	root.SetErr(a.Err)
	cmd, err := root.ExecuteContextC(ctx)
	if err != nil && !a.began {
		err = asUsage(cmd, err)
	}
	if ctx.Err() != nil && err != nil && !saysHowToGoOn(err) {
		err = errInterrupted
	}
	for _, line := range explain(err) {
		fmt.Fprintln(a.Err, line)
	}
	return exitStatus(err)
}

const rootLong = `Lifeboat keeps copies of servers at another place, proves by drills that they
can be started there, and does it when disaster strikes: failover, switch of
the recovery point, commit, reverse replication and failback, each a durable
Temporal workflow that goes on after any crash.

Commands find Temporal by --address, else by Temporal's own environment
configuration (TEMPORAL_ADDRESS, the profile of --profile), else by the
dev.json that ` + "`lifeboat dev`" + ` writes: in $LIFEBOAT_DATA, the working directory
or .lifeboat below it; else at 127.0.0.1:7233.

Exit status:
  0    done
  1    the operation failed
  2    wrong usage, an invalid plan, or a name that does not exist
  3    refused in this phase: the reason and the legal operations are printed
  4    the wait (--timeout) ran out while the operation goes on
  5    Temporal or workers are not reachable
  130  interrupted; what was accepted goes on`

const rootExample = `  lifeboat dev                                  # Temporal, Web UI, workers and three local sites
  lifeboat plan apply -f plan.yaml              # in a second terminal: protect what the plan names
  lifeboat replication start shop --wait        # full copy, then real time
  lifeboat drill start shop                     # start a copy in an isolated network
  lifeboat drill clean shop
  lifeboat failover start shop --source-down    # disaster`

func newRootCommand(a *app) *cobra.Command {
	root := &cobra.Command{
		Use:               "lifeboat",
		Short:             "Disaster recovery as durable workflows",
		Long:              rootLong,
		Example:           rootExample,
		SilenceErrors:     true,
		SilenceUsage:      true,
		DisableAutoGenTag: true,
		PersistentPreRunE: func(*cobra.Command, []string) error { return a.checkCommonFlags() },
	}
	flags := root.PersistentFlags()
	flags.StringVar(&a.address, "address", "", "host:port of Temporal's frontend")
	flags.StringVar(&a.namespace, "namespace", "", "Temporal namespace (default \"default\")")
	flags.StringVar(&a.profile, "profile", "", "profile of Temporal's environment configuration")
	flags.StringVarP(&a.output, "output", "o", outputTable, "form of the result: table, json or yaml")
	flags.StringVar(&a.logLevel, "log-level", "warn", "least severe log line on standard error: "+strings.Join(logging.Levels(), ", "))
	flags.DurationVar(&a.timeout, "timeout", 0, "longest time to wait, e.g. 10m (default: as long as it takes)")
	completeValues(root, "output", outputTable, outputJSON, outputYAML)
	completeValues(root, "log-level", logging.Levels()...)
	root.AddCommand(
		newDevCommand(a), newDemoCommand(a), newLocalCommand(a), newInitCommand(a), newStatusCommand(a), newPlanCommand(a),
		newServerCommand(a), newReplicationCommand(a), newPointCommand(a), newReadinessCommand(a), newDrillCommand(a), newFailoverCommand(a),
		newReverseCommand(a), newFailbackCommand(a), newScheduleCommand(a), newReportCommand(a), newVersionCommand(a),
		newCopyCommand(a), newCompareCommand(a), newGenDocsCommand(a),
	)
	root.AddCommand(newNumbersCommands(a)...)
	return root
}

func (a *app) checkCommonFlags() error {
	switch a.output {
	case outputTable, outputJSON, outputYAML:
	default:
		return usagef("--output %q: no such form; use table, json or yaml", a.output)
	}
	if a.timeout < 0 {
		return usagef("--timeout %s: a time to wait cannot be negative", a.timeout)
	}
	_, err := logging.NewWriter(a.Err, a.logLevel)
	return err
}

// noun makes the command that holds the verbs of a noun.
func noun(use, short, long string, verbs ...*cobra.Command) *cobra.Command {
	cmd := &cobra.Command{Use: use, Short: short, Long: long}
	cmd.AddCommand(verbs...)
	// Without this, cobra prints the help of the noun and reports success.
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		if len(args) == 0 {
			return cmd.Help()
		}
		var names []string
		for _, verb := range cmd.Commands() {
			if !verb.Hidden {
				names = append(names, verb.Name())
			}
		}
		return usagef("%s %s: no such verb; there are: %s", cmd.CommandPath(), args[0], strings.Join(names, ", "))
	}
	cmd.Args = cobra.ArbitraryArgs
	return cmd
}

// runs sets what a command does. The context given to it ends with --timeout.
func (a *app) runs(cmd *cobra.Command, run func(ctx context.Context, args []string) error) *cobra.Command {
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		a.began = true
		ctx := cmd.Context()
		if a.timeout > 0 {
			var cancel context.CancelFunc
			ctx, cancel = context.WithTimeout(ctx, a.timeout)
			defer cancel()
		}
		err := run(ctx, args)
		if ctx.Err() == context.DeadlineExceeded && errors.Is(err, context.DeadlineExceeded) {
			return errWaitOver(a.timeout, err)
		}
		return err
	}
	return cmd
}

// withHouse is runs for a command that talks to Temporal.
func (a *app) withHouse(cmd *cobra.Command, run func(ctx context.Context, h house, args []string) error) *cobra.Command {
	return a.runs(cmd, func(ctx context.Context, args []string) error {
		h, err := a.dial(ctx)
		if err != nil {
			return err
		}
		defer h.Close()
		return run(ctx, h, args)
	})
}

// dial connects to Temporal by flags, environment or dev.json.
func (a *app) dial(ctx context.Context) (house, error) {
	log, err := a.log()
	if err != nil {
		return nil, err
	}
	o := dial.Options{Address: a.address, Namespace: a.namespace, Profile: a.profile, Logger: log}
	if dev, _, err := a.findDev(); err != nil {
		return nil, err
	} else if dev != nil {
		o.Fallback = dev.Address
	}
	return a.connect(ctx, o)
}

func (a *app) log() (*zap.Logger, error) { return logging.NewWriter(a.Err, a.logLevel) }

// say tells a person what happens, on standard error.
func (a *app) say(format string, args ...any) { fmt.Fprintf(a.Err, format+"\n", args...) }

// interactive tells whether a person can answer a question.
func (a *app) interactive() bool { return logging.IsTerminal(a.In) && logging.IsTerminal(a.Err) }
