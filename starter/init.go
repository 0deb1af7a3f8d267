package main

import (
	"context"
	"io"

	"github.com/spf13/cobra"

	"lifeboat/workflows"
)

// initResult is what `init -o json` prints.
type initResult struct {
	Place      string   `json:"place"`
	Registered []string `json:"registered"`
	Present    []string `json:"present"`
}

func newInitCommand(a *app) *cobra.Command {
	cmd := &cobra.Command{
		Use: "init", Short: "Prepare a Temporal namespace for Lifeboat",
		Long:    "Init registers the search attributes that Lifeboat needs in a namespace of a Temporal\nserver of your own. `lifeboat dev` needs no init. Doing it again is harmless.",
		Example: "  lifeboat init --address temporal.example.com:7233 --namespace dr",
		Args:    cobra.NoArgs,
	}
	return a.withHouse(cmd, func(ctx context.Context, h house, _ []string) error {
		all := workflows.SearchAttributes()
		made, err := h.RegisterSearchAttributes(ctx, all)
		if err != nil {
			return err
		}
		result := initResult{Place: h.Place(), Registered: made, Present: all}
		if made == nil {
			result.Registered = []string{}
		}
		return a.print(result, func(w io.Writer) {
			row(w, "place", result.Place)
			row(w, "registered", joined(result.Registered))
			row(w, "present", joined(result.Present))
		})
	})
}
