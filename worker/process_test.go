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
	require.ErrorContains(t, <-start(t.Context()), "another process is the agent")
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
