// Command genpolicy writes the IAM policies of docs/aws, see package policy. `go generate` runs it.
package main

import (
	"flag"
	"fmt"
	"os"
	"path/filepath"

	"lifeboat/activities/cloud/aws/policy"
)

func main() {
	root := flag.String("root", ".", "root directory of the repository")
	flag.Parse()
	if err := write(*root); err != nil {
		fmt.Fprintln(os.Stderr, "genpolicy:", err)
		os.Exit(1)
	}
}

func write(root string) error {
	calls, err := policy.Calls(root)
	if err != nil {
		return err
	}
	files, err := policy.Generate(calls)
	if err != nil {
		return err
	}
	for name, text := range files {
		if err := os.MkdirAll(filepath.Dir(filepath.Join(root, name)), 0o755); err != nil {
			return err
		}
		if err := os.WriteFile(filepath.Join(root, name), text, 0o644); err != nil {
			return err
		}
	}
	return nil
}
