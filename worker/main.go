// Command lifeboat-worker runs the parts of Lifeboat that do the work: workflows
// (role control), calls of providers (role cloud) and the replication engine next to
// disks (role agent). One process may have several roles.
package main

import (
	"context"
	"fmt"
	"os"
	"os/signal"
	"strings"
	"syscall"

	"github.com/spf13/cobra"

	"lifeboat/activities/cloud/local"
)

func main() {
	local.RunHelper()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if err := newCommand().ExecuteContext(ctx); err != nil {
		fmt.Fprintln(os.Stderr, "lifeboat-worker:", err)
		os.Exit(1)
	}
}

// options of a worker process.
type options struct {
	roles     []string
	address   string
	namespace string
	profile   string
	sites     []string
	clouds    []string
	agent     string
	data      string
	listen    string
	timeouts  string
	logLevel  string
}

func newCommand() *cobra.Command {
	var o options
	cmd := &cobra.Command{
		Use:   "lifeboat-worker",
		Short: "Run workflows, provider calls or a replication agent",
		Long: "lifeboat-worker takes tasks from Temporal. Role control runs the workflows, role cloud calls the providers of the given sites\n" +
			"and clouds, and makes recovery points by snapshots into them; credentials come from the environment, as the provider's tools take them.\n" +
			"Role agent copies the disks of its host; an agent goes on copying while Temporal is away. `lifeboat dev` starts workers by itself.",
		Example: "  lifeboat-worker --roles control,cloud --site primary=/srv/primary --site recovery=/srv/recovery\n" +
			"  lifeboat-worker --roles cloud --cloud aws/123456789012/eu-west-1 --data /var/lib/lifeboat\n" +
			"  lifeboat-worker --roles agent --agent primary --site primary=/srv/primary --data /var/lib/lifeboat",
		Args: cobra.NoArgs, SilenceUsage: true, SilenceErrors: true,
		RunE: func(cmd *cobra.Command, _ []string) error {
			w, err := newProcess(o)
			if err != nil {
				return err
			}
			return w.run(cmd.Context())
		},
	}
	f := cmd.Flags()
	f.StringSliceVar(&o.roles, "roles", []string{"control", "cloud"}, "what this process does: control, cloud, agent")
	f.StringVar(&o.address, "address", "", "Temporal server, host:port (default: Temporal's environment configuration)")
	f.StringVar(&o.namespace, "namespace", "", "Temporal namespace")
	f.StringVar(&o.profile, "profile", "", "profile of Temporal's environment configuration")
	f.StringArrayVar(&o.sites, "site", nil, "local site as NAME=DIR; repeatable")
	f.StringArrayVar(&o.clouds, "cloud", nil, "account and region of a cloud as aws/ACCOUNT/REGION; repeatable")
	f.StringVar(&o.agent, "agent", "", "name of the agent; its site is the one of the same name")
	f.StringVar(&o.data, "data", "", "directory for the state of the agent, and of recovery points by snapshots")
	f.StringVar(&o.listen, "listen", "127.0.0.1:0", "address on which the agent receives replication")
	f.StringVar(&o.timeouts, "timeouts", "standard", "time-outs of all activities: standard (real clouds) or fast (local sites, tests)")
	f.StringVar(&o.logLevel, "log-level", "info", "debug, info, warn or error")
	return cmd
}

// site splits NAME=DIR.
func splitSite(s string) (name, dir string, err error) {
	name, dir, ok := strings.Cut(s, "=")
	if !ok || name == "" || dir == "" {
		return "", "", fmt.Errorf("--site %q: write NAME=DIR, for example primary=/srv/primary", s)
	}
	return name, dir, nil
}
