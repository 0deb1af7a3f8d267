package main

import (
	"context"
	"fmt"
	"io"

	"github.com/spf13/cobra"
)

// copyKey is what `copy key -o json` prints.
type copyKey struct {
	File        string `json:"file"`
	Fingerprint string `json:"fingerprint"`
}

func newCopyKeyCommand(a *app) *cobra.Command {
	cmd := &cobra.Command{
		Use: "key FILE", Short: "Make the key of an end, and print its fingerprint",
		Long: "Key makes a key in FILE, readable by its owner alone, if there is none, and prints its\n" +
			"fingerprint. That is no secret: the other end needs it as --peer. The key never leaves\nits file.",
		Example: "  lifeboat copy key /etc/lifeboat/copy.key > copy.fingerprint",
		Args:    cobra.ExactArgs(1),
	}
	return a.runs(cmd, func(_ context.Context, args []string) error {
		id, err := loadKey(args[0])
		if err != nil {
			return err
		}
		k := copyKey{args[0], string(id.Fingerprint())}
		return a.print(k, func(w io.Writer) { fmt.Fprintln(w, k.Fingerprint) })
	})
}
