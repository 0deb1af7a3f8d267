package chaos

import (
	"context"
	"fmt"
	"net/http"

	"lifeboat/activities"
	"lifeboat/activities/cloud"
	"lifeboat/internal/demo/stage"
	"lifeboat/workflows"
)

// Providers that a campaign can run on.
const (
	Local = "local" // two directories, data moved by agents
	AWS   = "aws"   // two regions of the double of AWS, data moved by snapshots
)

// site is a place of a campaign, as its owner sees it.
type site interface {
	cloud.Provider
	cloud.Servers
	cloud.Disks
	cloud.Ledger
}

// theatre is where a campaign happens: two sites of a provider, and what the owner of
// the servers does there himself.
type theatre interface {
	// open makes the sites; of the world, at least the site of names is open then.
	open(ctx context.Context) (*stage.World, error)
	primary() site
	recovery() site
	// cast are the programs of Lifeboat, and which of them, beside Temporal, can be killed.
	cast() (*programs, []victim)
	// createServer makes the server that is protected, and tells its address.
	createServer(ctx context.Context) (m machine, ip string, err error)
	// plan writes the plan and returns its path.
	plan() (string, error)
	// marks tells that recovery points are too rare to wait for, and are asked for.
	marks() bool
	// keptBySource are the roles of what replication has at the source, where nobody asks for
	// its deletion while the source is down.
	keptBySource() []string
	// inPlace tells whether the way back may use the original disks.
	inPlace() bool
	// kill ends the process of a server by SIGKILL; false when none runs.
	kill(ctx context.Context, id string) (bool, error)
	// start starts a server again, as its owner does who finds it down.
	start(ctx context.Context, p site, id string) error
	// revive does what happens to a server that was killed on its way up, beside what Lifeboat does.
	revive(ctx context.Context, p site, id string) error
	// inside gives a client that stands in a network of a site.
	inside(p site, network string) *http.Client
	// checkDisks compares disks that nobody has written to yet with their recovery point;
	// point is nil when it is not listed any more.
	checkDisks(ctx context.Context, p site, s cloud.Server, r workflows.ServerReport, point *activities.Point) error
	// outputs are the files of what servers have said.
	outputs() ([]string, error)
	// close ends what open has made.
	close(ctx context.Context) error
}

// newTheatre prepares the one of the options.
func newTheatre(c *campaign) (theatre, error) {
	switch c.Provider {
	case Local, "":
		return &localTheatre{campaign: c}, nil
	case AWS:
		return newAWSTheatre(c), nil
	}
	return nil, fmt.Errorf("provider %q: there are %s and %s", c.Provider, Local, AWS)
}

func (c *campaign) bothSites() []site { return []site{c.theatre.primary(), c.theatre.recovery()} }

// serversOf lists the servers that an operation made at a site.
func serversOf(ctx context.Context, p site, operation string) ([]cloud.Server, error) {
	return p.Servers(ctx, cloud.Filter{Tags: map[string]string{cloud.TagOperation: operation}})
}
