// Command lifeboat is the command line of Lifeboat. Commands are Temporal
// Updates and Queries: the program keeps no state of its own and may be
// interrupted at any time.
package main

import (
	"context"
	"os"
	"os/signal"
	"syscall"

	"lifeboat/activities/cloud/local"
)

func main() {
	// Servers, forwarders and DNS of a local site are this program started again.
	local.RunHelper()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	os.Exit(Execute(ctx, os.Args[1:], Streams{In: os.Stdin, Out: os.Stdout, Err: os.Stderr}))
}
