// Package deploy checks the files with which Lifeboat is run in containers,
// where no engine is needed for it.
package deploy

import (
	"bytes"
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
	"go.yaml.in/yaml/v3"

	"lifeboat/internal/temporalserver"
)

// project is what the tests need of `docker compose config --format json`.
type project struct {
	Services map[string]service `json:"services"`
}

type service struct {
	Image string `json:"image"`
	Build *struct {
		Context string `json:"context"`
	} `json:"build"`
	Ports []struct {
		HostIP    string `json:"host_ip"`
		Published string `json:"published"`
	} `json:"ports"`
	Healthcheck *struct {
		Test    []string `json:"test"`
		Disable bool     `json:"disable"`
	} `json:"healthcheck"`
	DependsOn map[string]struct {
		Condition string `json:"condition"`
	} `json:"depends_on"`
	Environment map[string]*string `json:"environment"`
	NetworkMode string             `json:"network_mode"`
	Privileged  bool               `json:"privileged"`
	Volumes     []struct {
		Type   string `json:"type"`
		Source string `json:"source"`
	} `json:"volumes"`
}

// compose runs Compose's own `config` on the committed file.
func compose(t *testing.T, args ...string) (out []byte, said string, err error) {
	t.Helper()
	args = append([]string{"--project-directory", "..", "--file", filepath.Join("..", "docker-compose.yml")}, args...)
	cmd := exec.CommandContext(t.Context(), "docker", append([]string{"compose"}, args...)...)
	if tool := composeTool(t); tool != "" {
		cmd = exec.CommandContext(t.Context(), tool, args...)
	}
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	// A password of the person who runs the tests must not decide them.
	for _, entry := range os.Environ() {
		if !strings.HasPrefix(entry, "POSTGRES_") && !strings.HasPrefix(entry, "COMPOSE_") {
			cmd.Env = append(cmd.Env, entry)
		}
	}
	out, err = cmd.Output()
	return out, stderr.String(), err
}

// composeTool is the pinned tool where it is built, else empty when Docker has
// its own.
func composeTool(t *testing.T) string {
	t.Helper()
	if named := os.Getenv("LIFEBOAT_COMPOSE"); named != "" {
		return named
	}
	built, err := filepath.Abs(filepath.Join("..", "bin", "docker-compose"))
	require.NoError(t, err)
	if _, err := os.Stat(built); err == nil {
		return built
	}
	if exec.CommandContext(t.Context(), "docker", "compose", "version").Run() != nil {
		t.Skip("no Compose tool: `make compose` builds the pinned one")
	}
	return ""
}

func load(t *testing.T) project {
	t.Helper()
	out, said, err := compose(t, "--env-file", filepath.Join("..", ".env.example"), "config", "--format", "json")
	require.NoError(t, err, said)
	require.Empty(t, said, "Compose warns")
	var p project
	require.NoError(t, json.Unmarshal(out, &p))
	require.NotEmpty(t, p.Services)
	return p
}

// jobs are the services that others wait for to have ended.
func (p project) jobs() map[string]bool {
	found := map[string]bool{}
	for _, s := range p.Services {
		for name, d := range s.DependsOn {
			if d.Condition == "service_completed_successfully" {
				found[name] = true
			}
		}
	}
	return found
}

// pinned is an image with a version of at least two numbers.
var pinned = regexp.MustCompile(`^[a-z0-9./-]+:v?\d+\.\d+[A-Za-z0-9_.-]*(@sha256:[0-9a-f]{64})?$`)

func TestServices(t *testing.T) {
	t.Parallel()
	p := load(t)
	for _, name := range []string{"postgresql", "temporal-schema", "temporal", "temporal-ui", "worker"} {
		require.Contains(t, p.Services, name)
	}
	jobs := p.jobs()
	for name, s := range p.Services {
		require.Regexp(t, pinned, s.Image, "%s: its image has no fixed version", name)
		require.False(t, s.Privileged, name)
		require.NotEqual(t, "host", s.NetworkMode, name)
		for _, port := range s.Ports {
			require.Equal(t, "127.0.0.1", port.HostIP, "%s publishes port %s beyond loopback", name, port.Published)
		}
		if !jobs[name] {
			require.NotNil(t, s.Healthcheck, "%s has no health check", name)
			require.False(t, s.Healthcheck.Disable, name)
			require.NotEmpty(t, s.Healthcheck.Test, name)
		}
		for other, d := range s.DependsOn {
			require.NotEqual(t, "service_started", d.Condition, "%s does not wait until %s is ready", name, other)
		}
		for _, v := range s.Volumes {
			if v.Type == "bind" {
				require.FileExists(t, v.Source, name)
			}
		}
	}
	require.Equal(t, "temporalio/server:"+temporalserver.ServerVersion, p.Services["temporal"].Image,
		"the server that `lifeboat dev` runs")
	for _, name := range []string{"temporal-schema", "temporal-namespace"} {
		require.True(t, strings.HasPrefix(p.Services[name].Image, "temporalio/admin-tools:"+temporalserver.ServerVersion+"-"), name)
	}
}

func TestSecretsAreNotInTheFile(t *testing.T) {
	t.Parallel()
	_, said, err := compose(t, "--env-file", os.DevNull, "config", "--quiet")
	require.Error(t, err, "it must not start with a password that anybody knows")
	require.Contains(t, said, "copy .env.example to .env")

	p := load(t)
	seen := 0
	for name, s := range p.Services {
		for key, value := range s.Environment {
			if value != nil && (strings.Contains(key, "PASSWORD") || strings.HasSuffix(key, "_PWD")) {
				require.Equal(t, "change-me", *value, "%s: %s does not come from the environment", name, key)
				seen++
			}
		}
	}
	require.Equal(t, 3, seen)
	ignored, err := os.ReadFile(filepath.Join("..", ".gitignore"))
	require.NoError(t, err)
	require.Contains(t, strings.Split(string(ignored), "\n"), ".env")
}

func TestSameServerSettingsAsDev(t *testing.T) {
	t.Parallel()
	data, err := os.ReadFile(filepath.Join("temporal", "dynamicconfig.yaml"))
	require.NoError(t, err)
	var file map[string][]struct {
		Value       any            `yaml:"value"`
		Constraints map[string]any `yaml:"constraints"`
	}
	require.NoError(t, yaml.Unmarshal(data, &file))
	settings := map[string]any{}
	for key, values := range file {
		require.Len(t, values, 1, key)
		require.Empty(t, values[0].Constraints, key)
		settings[key] = values[0].Value
	}
	require.Equal(t, temporalserver.DynamicConfig(), settings)
}

func TestImage(t *testing.T) {
	t.Parallel()
	data, err := os.ReadFile(filepath.Join("..", "Dockerfile"))
	require.NoError(t, err)
	stages, user := map[string]bool{}, ""
	for line := range strings.Lines(string(data)) {
		words := strings.Fields(line)
		switch {
		case len(words) > 1 && words[0] == "FROM":
			require.Regexp(t, pinned, words[1])
			if len(words) == 4 {
				stages[words[3]] = true
			}
			user = "" // each stage starts as root
		case len(words) == 2 && words[0] == "USER":
			user = words[1]
		}
	}
	require.True(t, stages["build"], "the image would hold the compiler")
	require.Regexp(t, `^[1-9]\d*:[1-9]\d*$`, user, "the last stage runs as root, or as a name that an engine cannot check")
}
