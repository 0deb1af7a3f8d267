package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"os/signal"
	"strconv"
	"syscall"
	"time"

	"github.com/spf13/cobra"

	"lifeboat/internal/demo"
	"lifeboat/internal/demo/numbers"
	"lifeboat/workflows/plan"
)

func newDemoCommand(a *app) *cobra.Command {
	var o demo.Options
	var size string
	cmd := &cobra.Command{
		Use: "demo", Short: "The whole life cycle on real data, with the measured RPO and RTO",
		Long: `Demo starts ` + "`lifeboat dev`" + ` in a directory of its own, makes a server with a database
under constant writes, and takes it through its life cycle by the commands that a person
types: protect, replicate, drill, failover after a kill -9, switch of the recovery point,
commit, reverse replication, failback and registration. RPO and losses are measured in the
recovered databases. As root the sites are on a btrfs or xfs file system and their networks
are isolated; otherwise it says what is missing. It exits with 1 when a promise was not kept.`,
		Example: "  lifeboat demo\n  lifeboat demo --size 1GiB --data /var/tmp/story --keep",
		Args:    cobra.NoArgs,
	}
	flags := cmd.Flags()
	flags.StringVar(&o.Data, "data", "", "directory for everything (default: a temporary one)")
	flags.BoolVar(&o.Keep, "keep", false, "leave servers, mounts and the directory as they are at the end")
	flags.StringVar(&size, "size", "256MiB", "size of the database's disk")
	return a.runs(cmd, func(ctx context.Context, _ []string) error {
		bytes, err := plan.ParseSize(size)
		if err != nil {
			return usagef("--size: %v", err)
		}
		if int64(bytes) < 16<<20 {
			return usagef("--size %s: the database needs at least 16MiB", size)
		}
		if o.Executable, err = os.Executable(); err != nil {
			return fmt.Errorf("find the running program: %w", err)
		}
		o.Size, o.Out = int64(bytes), a.Out
		if err := demo.Run(ctx, o); errors.Is(err, demo.ErrBroken) {
			return failf("demo: %v (see above)", err)
		} else if err != nil {
			return failf("demo: %v", err)
		}
		return nil
	})
}

// newNumbersCommands are the programs that run on the demo's server and beside it.
func newNumbersCommands(a *app) []*cobra.Command {
	return []*cobra.Command{newNumbersServerCommand(a), newNumbersClientCommand(a), newNumbersNewestCommand(a)}
}

func newNumbersServerCommand(a *app) *cobra.Command {
	var port, payload int
	var keep uint64
	cmd := &cobra.Command{Use: "__numbers-server", Hidden: true, Args: cobra.NoArgs,
		Short: "A server with a database that acknowledges numbered writes, as the command of a local server"}
	cmd.Flags().IntVar(&port, "port", 8080, "port to listen on")
	cmd.Flags().IntVar(&payload, "bytes", 4096, "payload of a write")
	cmd.Flags().Uint64Var(&keep, "keep", 0, "newest numbers to keep (default: what fits)")
	return a.runs(cmd, func(ctx context.Context, _ []string) error {
		o, err := numbers.OptionsFromEnvironment(port)
		if err != nil {
			return usagef("%v", err)
		}
		o.Payload, o.Keep = payload, keep
		return numbers.Serve(ctx, o)
	})
}

func newNumbersClientCommand(a *app) *cobra.Command {
	var o numbers.ClientOptions
	cmd := &cobra.Command{Use: "__numbers-client", Hidden: true, Args: cobra.NoArgs,
		Short: "A client that writes through a DNS name and notes what was acknowledged"}
	flags := cmd.Flags()
	flags.StringVar(&o.Name, "name", "", "DNS name of the server")
	flags.StringVar(&o.Resolver, "resolver", "", "host:port of the name server")
	flags.IntVar(&o.Port, "port", 8080, "port of the server")
	flags.DurationVar(&o.Every, "every", 20*time.Millisecond, "between writes")
	flags.IntVar(&o.Bytes, "bytes", 4096, "payload of a write")
	flags.StringVar(&o.Log, "log", "", "file that acknowledged writes are appended to")
	for _, name := range []string{"name", "resolver", "log"} {
		if err := cmd.MarkFlagRequired(name); err != nil {
			panic(err) // a flag of the lines above
		}
	}
	return a.runs(cmd, func(ctx context.Context, _ []string) error {
		ctx, stop := signal.NotifyContext(ctx, syscall.SIGTERM, os.Interrupt)
		defer stop()
		return numbers.RunClient(ctx, o)
	})
}

func newNumbersNewestCommand(a *app) *cobra.Command {
	var limit time.Duration
	cmd := &cobra.Command{Use: "__numbers-newest [URL]", Hidden: true, Args: cobra.MaximumNArgs(1),
		Short: "Print the newest write of a numbers server, as a post-start script does"}
	cmd.Flags().DurationVar(&limit, "for", 20*time.Second, "how long to wait for an answer")
	return a.runs(cmd, func(ctx context.Context, args []string) error {
		url := "http://" + net.JoinHostPort(os.Getenv("LIFEBOAT_ADDRESS"), strconv.Itoa(8080))
		if len(args) > 0 {
			url = args[0]
		}
		ctx, cancel := context.WithTimeout(ctx, limit)
		defer cancel()
		n, err := numbers.AskNewest(ctx, url)
		if err != nil {
			return failf("%s: %v", url, err)
		}
		fmt.Fprintf(a.Out, "newest number %d\nLIFEBOAT_NEWEST_WRITE=%s\n", n.Number, n.Time.Format(time.RFC3339Nano))
		return nil
	})
}
