package main

import (
	"context"
	"io"
	"os"
	"runtime"
	"runtime/debug"

	"github.com/spf13/cobra"
	"github.com/spf13/cobra/doc"
	"go.temporal.io/sdk/temporal"

	"lifeboat/internal/temporalserver"
)

// versionInfo is what `version -o json` prints.
type versionInfo struct {
	Version        string `json:"version"`
	Revision       string `json:"revision,omitempty"`
	Go             string `json:"go"`
	TemporalSDK    string `json:"temporal_sdk"`
	TemporalServer string `json:"temporal_server"` // that `lifeboat dev` runs
}

func newVersionCommand(a *app) *cobra.Command {
	cmd := &cobra.Command{
		Use: "version", Short: "Print the version",
		Long:    "Version prints the version of this program and of the Temporal that it is made for.",
		Example: "  lifeboat version -o json",
		Args:    cobra.NoArgs,
	}
	return a.runs(cmd, func(context.Context, []string) error {
		v := versionInfo{Version: "(devel)", Go: runtime.Version(), TemporalSDK: temporal.SDKVersion, TemporalServer: temporalserver.ServerVersion}
		if build, ok := debug.ReadBuildInfo(); ok {
			if build.Main.Version != "" {
				v.Version = build.Main.Version
			}
			for _, s := range build.Settings {
				if s.Key == "vcs.revision" {
					v.Revision = s.Value
				}
			}
		}
		return a.print(v, func(w io.Writer) {
			row(w, "lifeboat", v.Version, v.Revision)
			row(w, "Go", v.Go)
			row(w, "Temporal SDK", v.TemporalSDK)
			row(w, "Temporal server", v.TemporalServer)
		})
	})
}

//go:generate go run . gendocs ../docs/cli

// newGenDocsCommand writes the pages of docs/cli. It is hidden: it is for the
// repository, and a package main cannot be imported by a generator.
func newGenDocsCommand(a *app) *cobra.Command {
	cmd := &cobra.Command{Use: "gendocs DIR", Short: "Write a Markdown page for every command", Args: cobra.ExactArgs(1), Hidden: true}
	return a.runs(cmd, func(_ context.Context, args []string) error {
		if err := os.MkdirAll(args[0], 0o755); err != nil {
			return failf("gendocs: %v", err)
		}
		root := cmd.Root()
		root.InitDefaultCompletionCmd()
		return doc.GenMarkdownTree(root, args[0])
	})
}
