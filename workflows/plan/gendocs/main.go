// Command gendocs writes what is generated from the plan's types: the JSON Schema
// docs/plan-schema.json and the reference docs/plan.md. `go generate` runs it.
package main

import (
	"flag"
	"fmt"
	"os"
	"path/filepath"
)

func main() {
	root := flag.String("root", ".", "root directory of the repository")
	flag.Parse()
	if err := write(*root); err != nil {
		fmt.Fprintln(os.Stderr, "gendocs:", err)
		os.Exit(1)
	}
}

func write(root string) error {
	files, err := generate(root)
	if err != nil {
		return err
	}
	for name, text := range files {
		path := filepath.Join(root, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			return err
		}
		if err := os.WriteFile(path, text, 0o644); err != nil {
			return err
		}
	}
	return nil
}

// generate returns the generated files by their path from the root.
func generate(root string) (map[string][]byte, error) {
	source := filepath.Join(root, "workflows", "plan", "types.go")
	structs, err := readTypes(source)
	if err != nil {
		return nil, fmt.Errorf("comments of %s: %w", source, err)
	}
	schema, err := schema(structs)
	if err != nil {
		return nil, fmt.Errorf("JSON Schema: %w", err)
	}
	example, err := os.ReadFile(filepath.Join(root, "examples", "plans", "three-servers.yaml"))
	if err != nil {
		return nil, err
	}
	return map[string][]byte{
		"docs/plan-schema.json": schema,
		"docs/plan.md":          reference(structs, example),
	}, nil
}
