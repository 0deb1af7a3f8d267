package main

import (
	"encoding/json"
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"

	"lifeboat/activities/cloud"
	"lifeboat/workflows/plan"
)

func TestAServerOfALocalSiteFromCreationToDestruction(t *testing.T) {
	t.Parallel()
	dir := filepath.Join(t.TempDir(), "primary")
	adopted := filepath.Join(t.TempDir(), "disk.img")
	require.NoError(t, os.WriteFile(adopted, make([]byte, 1<<20), 0o600))
	site := []string{"--site-dir", dir}
	t.Cleanup(func() { run(t, nil, append([]string{"local", "destroy", "--yes"}, site...)...) })

	create := append([]string{"local", "create-server", "db", "--command", "sleep 1000", "--network", "main", "--cidr", "127.20.0.0/24", "--ip", "127.20.0.10",
		"--port", "8080", "--disk", "data=1MiB", "--disk", "log=" + adopted, "--public", "-o", "json"}, site...)
	r := run(t, nil, create...).done(t)
	var server cloud.Server
	require.NoError(t, json.Unmarshal([]byte(r.out), &server))
	require.Equal(t, cloud.Running, server.State)
	require.Equal(t, "127.20.0.10", server.IP)
	require.NotEmpty(t, server.Public)
	require.Len(t, server.Disks, 2)
	require.True(t, server.Disks[0].Boot)

	r = run(t, nil, create...)
	require.Equal(t, statusUsage, r.status)
	require.Contains(t, r.err, "server db: the site has one already")
	r = run(t, nil, append([]string{"local", "create-server", "web", "--command", "sleep 1000", "--cidr", "127.30.0.0/24"}, site...)...)
	require.Equal(t, statusUsage, r.status)
	require.Contains(t, r.err, "network main is there already with 127.20.0.0/24")

	r = run(t, nil, append([]string{"local", "list"}, site...)...).done(t)
	require.Contains(t, r.out, "127.20.0.10")
	require.Contains(t, r.out, "data=1MiB, log=1MiB")

	// A server that cannot start takes its disks and addresses away with it.
	r = run(t, nil, append([]string{"local", "create-server", "bad", "--command", "/nonexistent/program", "--disk", "data=1MiB"}, site...)...)
	require.Equal(t, statusFailed, r.status, r.err)
	r = run(t, nil, append([]string{"local", "list", "-o", "json"}, site...)...).done(t)
	var sites []localSite
	require.NoError(t, json.Unmarshal([]byte(r.out), &sites))
	require.Len(t, sites[0].Servers, 1)
	require.Len(t, sites[0].Disks, 2)

	r = run(t, nil, append([]string{"local", "destroy"}, site...)...)
	require.Equal(t, statusUsage, r.status, "nobody can be asked, and --yes was not said")
	run(t, nil, append([]string{"local", "destroy", "--yes"}, site...)...).done(t)
	r = run(t, nil, append([]string{"local", "list", "-o", "json"}, site...)...).done(t)
	sites = nil
	require.NoError(t, json.Unmarshal([]byte(r.out), &sites))
	require.Empty(t, sites[0].Servers)
	require.Empty(t, sites[0].Networks)
	_, err := os.Stat(adopted)
	require.NoError(t, err, "an adopted file stays")
}

func TestPlanInitProposesAPlanThatIsValid(t *testing.T) {
	t.Parallel()
	base := t.TempDir()
	primary, recovery := filepath.Join(base, "primary"), filepath.Join(base, "recovery")
	t.Cleanup(func() { run(t, nil, "local", "destroy", "--yes", "--site-dir", primary) })
	run(t, nil, "local", "create-server", "db", "--site-dir", primary, "--command", "sleep 1000", "--cidr", "127.21.0.0/24", "--port", "8080", "--disk", "data=1MiB").done(t)

	file := filepath.Join(base, "plan.yaml")
	args := []string{"plan", "init", "--name", "shop", "--site", "primary=" + primary, "--site", "recovery=" + recovery}
	run(t, nil, append(args, "-f", file)...).done(t)
	p, err := plan.Load(file)
	require.NoError(t, err)
	require.Equal(t, "shop", p.Metadata.Name)
	require.Equal(t, "db", p.Spec.Servers[0].Name)
	run(t, nil, "plan", "validate", "-f", file).done(t)

	text, err := os.ReadFile(file)
	require.NoError(t, err)
	require.Equal(t, string(text), run(t, nil, args...).done(t).out)
	r := run(t, nil, append(args, "-f", file)...)
	require.Equal(t, statusUsage, r.status, "a file that is there is not overwritten")
}

func TestTheChosenSiteMustBeOneOfDev(t *testing.T) {
	t.Parallel()
	data := t.TempDir()
	require.NoError(t, writeDev(data, devState{Address: "127.0.0.1:1", Sites: sitesOfDev(data, nil, nil)}))
	env := map[string]string{dataEnv: data}
	r := runIn(t, nil, env, "local", "create-server", "db", "--command", "sleep 1")
	require.Equal(t, statusUsage, r.status)
	require.Contains(t, r.err, "at which site? Choose one with --site (names, primary, recovery)")
	r = runIn(t, nil, env, "local", "list", "--site", "moon")
	require.Equal(t, statusUsage, r.status)
	require.Contains(t, r.err, "there are: names, primary, recovery")
	r = runIn(t, nil, env, "plan", "list")
	require.Equal(t, statusUnreachable, r.status)
	require.Contains(t, r.err, "127.0.0.1:1", "the address of dev.json is used")
}
