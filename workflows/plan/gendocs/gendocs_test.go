package main

import (
	"bytes"
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/santhosh-tekuri/jsonschema/v6"
	"github.com/stretchr/testify/require"
	"go.yaml.in/yaml/v3"
)

const root = "../../.."

func TestCommittedDocumentsAreTheGeneratedOnes(t *testing.T) {
	t.Parallel()
	files, err := generate(root)
	require.NoError(t, err)
	for name, want := range files {
		have, err := os.ReadFile(filepath.Join(root, name))
		require.NoError(t, err)
		require.Equal(t, string(want), string(have), "%s is out of date: run go generate ./workflows/plan", name)
	}
}

func TestEveryTypeAndKeyIsExplained(t *testing.T) {
	t.Parallel()
	structs, err := readTypes(filepath.Join(root, "workflows/plan/types.go"))
	require.NoError(t, err)
	require.Greater(t, len(structs), 15)
	for _, s := range structs {
		require.NotEmpty(t, s.doc, s.name)
		for _, f := range s.fields {
			require.NotEmpty(t, f.doc, s.name+"."+f.name)
		}
	}
}

func compile(t *testing.T) *jsonschema.Schema {
	t.Helper()
	text, err := os.ReadFile(filepath.Join(root, "docs/plan-schema.json"))
	require.NoError(t, err)
	doc, err := jsonschema.UnmarshalJSON(bytes.NewReader(text))
	require.NoError(t, err)
	c := jsonschema.NewCompiler()
	require.NoError(t, c.AddResource("plan-schema.json", doc))
	s, err := c.Compile("plan-schema.json")
	require.NoError(t, err)
	return s
}

// asJSON brings YAML into the values that the schema checks.
func asJSON(t *testing.T, text []byte) any {
	t.Helper()
	var v any
	require.NoError(t, yaml.Unmarshal(text, &v))
	out, err := json.Marshal(v)
	require.NoError(t, err)
	doc, err := jsonschema.UnmarshalJSON(bytes.NewReader(out))
	require.NoError(t, err)
	return doc
}

func TestExamplesFitTheSchema(t *testing.T) {
	t.Parallel()
	s := compile(t)
	files, err := filepath.Glob(filepath.Join(root, "examples/plans/*.yaml"))
	require.NoError(t, err)
	require.NotEmpty(t, files)
	for _, file := range files {
		text, err := os.ReadFile(file)
		require.NoError(t, err)
		require.NoError(t, s.Validate(asJSON(t, text)), file)
	}
}

func TestTheSchemaRefusesWhatThePlanRefuses(t *testing.T) {
	t.Parallel()
	s := compile(t)
	example, err := os.ReadFile(filepath.Join(root, "examples/plans/local.yaml"))
	require.NoError(t, err)
	for name, change := range map[string][2]string{
		"unknown key":           {"cpu: 1", "cores: 1"},
		"duration without unit": {"every: 30s", "every: 30"},
		"size without unit":     {"memory: 512MiB", "memory: 512"},
		"missing key":           {"      source: web", "      # source: web"},
		"unknown strategy":      {"strategy: replicate", "strategy: hope"},
		"bad name":              {"name: gold", "name: Gold!"},
		"zero count":            {"count: 24", "count: 0"},
		"port":                  {"port: 8080", "port: 80800"},
		"number for a name":     {"name: local", "name: 5"},
	} {
		require.Contains(t, string(example), change[0], name)
		require.Error(t, s.Validate(asJSON(t, []byte(strings.Replace(string(example), change[0], change[1], 1)))), name)
	}
}
