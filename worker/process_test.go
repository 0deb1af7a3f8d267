package main

import (
	"context"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"lifeboat/activities/cloud"
)

// agentOptions are those of an agent whose Temporal server is away.
func agentOptions(dir string) options {
	return options{roles: []string{"agent"}, agent: "primary", sites: []string{"primary=" + filepath.Join(dir, "site")}, data: dir,
		listen: "127.0.0.1:0", timeouts: "fast", logLevel: "error", address: "127.0.0.1:1"}
}

func TestWrongOptionsSayWhatIsRight(t *testing.T) {
	t.Parallel()
	for want, change := range map[string]func(*options){
		"write NAME=DIR":                      func(o *options) { o.sites = []string{"primary"} },
		"choose standard or fast":             func(o *options) { o.timeouts = "slow" },
		"choose from control, cloud, agent":   func(o *options) { o.roles = []string{"boss"} },
		"use one of [debug info warn error]":  func(o *options) { o.logLevel = "loud" },
		"--agent NAME --site NAME=DIR":        func(o *options) { o.agent = "elsewhere" },
		"a directory for its state with --da": func(o *options) { o.data = "" },
		"write aws/ACCOUNT/REGION":            func(o *options) { o.clouds = []string{"aws/1234/eu-west-1"} },
		"which servers it takes snapshots of": func(o *options) {
			o.roles, o.data, o.clouds = []string{"cloud"}, "", []string{"aws/123456789012/eu-west-1"}
		},
	} {
		o := agentOptions(t.TempDir())
		change(&o)
		p, err := newProcess(o)
		if err == nil {
			err = p.run(t.Context())
		}
		assert.ErrorContains(t, err, want)
	}
}

func TestAnAgentWorksWithoutTemporalAndIsAloneInItsDirectory(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	start := func(ctx context.Context) <-chan error {
		p, err := newProcess(agentOptions(dir))
		require.NoError(t, err)
		done := make(chan error, 1)
		go func() { done <- p.run(ctx) }()
		return done
	}
	ctx, stop := context.WithCancel(t.Context())
	defer stop()
	first := start(ctx)
	require.Eventually(t, func() bool { // its engine has state beside the lock
		files, err := os.ReadDir(filepath.Join(dir, "agent", "primary"))
		return err == nil && len(files) > 1
	}, 30*time.Second, 5*time.Millisecond)
	require.ErrorContains(t, <-start(t.Context()), "another process works in")
	select {
	case err := <-first:
		require.Fail(t, "the agent ended because Temporal is away", "%v", err)
	default:
	}
	stop()
	require.NoError(t, <-first, "an end that was asked for is no failure")
	unlock, err := lockDir(filepath.Join(dir, "agent", "primary"))
	require.NoError(t, err, "the directory is free again")
	unlock()
}

func TestAWorkerServesOnlyTheSitesThatItWasGiven(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	p, err := newProcess(agentOptions(dir))
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, p.provider.Close()) })
	for code, site := range map[cloud.Code]cloud.Site{
		cloud.Unsupported:  {Name: "unknown", Provider: "local", Directory: dir},
		cloud.InvalidInput: {Name: "primary", Provider: "local", Directory: "/"},
	} {
		_, err := p.provider.Open(t.Context(), site)
		assert.Equal(t, code, cloud.CodeOf(err), "%v", err)
	}
	_, err = p.provider.Open(t.Context(), cloud.Site{Name: "primary", Provider: "local"})
	assert.NoError(t, err)
}

func TestACloudWorkerServesItsAccountsAndRegionsAndReadsFromOthers(t *testing.T) {
	t.Parallel()
	o := agentOptions(t.TempDir())
	o.roles, o.clouds = []string{"cloud"}, []string{"aws/123456789012/eu-west-1", "aws/123456789012/eu-west-1", "aws/210987654321/eu-central-1"}
	p, err := newProcess(o)
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, p.provider.Close()) })
	require.Len(t, p.clouds, 2, "what is said twice is served once")
	mine := cloud.Site{Name: "recovery", Provider: "aws", Account: "123456789012", Region: "eu-west-1", Zone: "eu-west-1b", Bucket: "b"}
	other := mine
	other.Region, other.Zone = "eu-central-1", "eu-central-1a"
	opened, err := p.open(t.Context(), mine)
	require.NoError(t, err)
	assert.Equal(t, mine, opened.Site())
	_, err = p.open(t.Context(), other)
	assert.Equal(t, cloud.Unsupported, cloud.CodeOf(err), "the account is served, but not in this region")
	assert.ErrorContains(t, err, "--cloud aws/123456789012/eu-central-1")
	source, err := p.provider.Open(t.Context(), other)
	require.NoError(t, err, "snapshots are copied from sites that others serve")
	assert.Equal(t, other, source.Site())
}

// The engines of streams without agents work without Temporal, one for each queue.
func TestACloudWorkerOpensItsEnginesAndIsAloneInTheirDirectories(t *testing.T) {
	t.Parallel()
	o := agentOptions(t.TempDir())
	o.roles, o.clouds = []string{"cloud"}, []string{"aws/123456789012/eu-west-1"}
	p, err := newProcess(o)
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, p.provider.Close()) })
	engines, stop, err := p.startEngines(t.Context())
	require.NoError(t, err)
	assert.Contains(t, engines, "host.aws.123456789012.eu-west-1")
	assert.Contains(t, engines, "host.local.primary")
	_, _, err = p.startEngines(t.Context())
	require.ErrorContains(t, err, "another process works in")
	stop()
	engines, stop, err = p.startEngines(t.Context())
	require.NoError(t, err)
	assert.Len(t, engines, 2)
	stop()
}
