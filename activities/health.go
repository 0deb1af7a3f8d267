package activities

import (
	"context"
	"net"
	"strconv"

	"lifeboat/activities/cloud"
)

// CheckHealth asks a server at its private address until it answers. After
// Timeout the error is NotReady, not retried, with the last answer in words.
func (c *Cloud) CheckHealth(ctx context.Context, in CheckHealthInput) (Seen, error) {
	return run(ctx, func(ctx context.Context) (Seen, error) {
		networks, err := capability[cloud.Networks](ctx, c, in.Site, "networks")
		if err != nil {
			return Seen{}, err
		}
		dial := func(ctx context.Context, hostport string) (net.Conn, error) {
			return networks.Dial(ctx, in.NetworkID, hostport)
		}
		hostport := net.JoinHostPort(in.IP, strconv.Itoa(in.Port))
		return c.patiently(ctx, in.Timeout, "health of "+hostport+in.HTTP, "see the server's console or log, then retry or skip the step",
			func(ctx context.Context) (string, error) { return probe(ctx, dial, hostport, "", in.HTTP) })
	})
}
