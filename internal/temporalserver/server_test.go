package temporalserver

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"go.temporal.io/api/workflowservice/v1"
	"go.temporal.io/sdk/client"
	sdklog "go.temporal.io/sdk/log"
	"go.temporal.io/sdk/temporal"
)

var planKey = temporal.NewSearchAttributeKeyKeyword("LifeboatPlan")

func dial(t *testing.T, s *Server, namespace string) client.Client {
	t.Helper()
	c, err := client.Dial(client.Options{HostPort: s.Address, Namespace: namespace, Logger: sdklog.NewStructuredLogger(silent())})
	require.NoError(t, err)
	t.Cleanup(c.Close)
	return c
}

func TestServesOnLoopbackAlone(t *testing.T) {
	t.Parallel()
	s := start(t, Options{DataDir: t.TempDir(), Namespace: "branch", SearchAttributes: []string{"LifeboatPlan"}})

	page, err := http.Get(s.UIURL)
	require.NoError(t, err)
	body, err := io.ReadAll(page.Body)
	require.NoError(t, err)
	require.NoError(t, page.Body.Close())
	require.Contains(t, string(body), "sveltekit")

	c := dial(t, s, "branch")
	r, err := c.WorkflowService().DescribeNamespace(t.Context(), &workflowservice.DescribeNamespaceRequest{Namespace: "branch"})
	require.NoError(t, err)
	require.Equal(t, 90*24*time.Hour, r.Config.WorkflowExecutionRetentionTtl.AsDuration())

	listening := listeners(t, s.PID)
	require.GreaterOrEqual(t, len(listening), 6, "frontend, its HTTP, history, matching, worker, metrics, UI")
	for _, address := range listening {
		require.True(t, address.IP.IsLoopback(), "listens on %s", address)
	}
	frontend, err := net.ResolveTCPAddr("tcp", s.Address)
	require.NoError(t, err)
	require.Contains(t, addresses(listening), frontend.String())
}

func TestGoesOnAfterKill(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	opts := Options{DataDir: dir, SearchAttributes: []string{"LifeboatPlan"}}
	first := start(t, opts)
	_, err := dial(t, first, "default").ExecuteWorkflow(t.Context(), client.StartWorkflowOptions{
		ID: "plan/shop", TaskQueue: "lifeboat", TypedSearchAttributes: temporal.NewSearchAttributes(planKey.ValueSet("shop")),
	}, "Plan", "input")
	require.NoError(t, err)

	require.NoError(t, syscall.Kill(first.PID, syscall.SIGKILL))
	ended(t, first)
	require.ErrorContains(t, first.Err(), "killed")

	second := start(t, opts)
	require.Equal(t, first.Address, second.Address, "workers know the address")
	require.Equal(t, first.UIURL, second.UIURL)
	c := dial(t, second, "default")
	history := c.GetWorkflowHistory(t.Context(), "plan/shop", "", false, 0)
	require.True(t, history.HasNext())
	event, err := history.Next()
	require.NoError(t, err)
	require.Equal(t, "Plan", event.GetWorkflowExecutionStartedEventAttributes().GetWorkflowType().GetName())
	n, err := c.CountWorkflow(t.Context(), &workflowservice.CountWorkflowExecutionsRequest{Query: "LifeboatPlan = 'shop'"})
	require.NoError(t, err)
	require.EqualValues(t, 1, n.Count)
}

func TestEndsWithItsKilledParent(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	parent := exec.Command(os.Args[0])
	parent.Env = append(os.Environ(), helperDir+"="+dir)
	parent.Stderr = os.Stderr
	out, err := parent.StdoutPipe()
	require.NoError(t, err)
	require.NoError(t, parent.Start())
	line, err := bufio.NewReader(out).ReadString('\n')
	require.NoError(t, err)

	require.NoError(t, parent.Process.Kill())
	require.Error(t, parent.Wait())
	// The next start takes the directory's lock, which the server held, and
	// its ports, on which it listened: both are free only when it is gone.
	s := start(t, Options{DataDir: dir})
	require.NotEqual(t, strings.TrimSpace(line), fmt.Sprint(s.PID))
	_, err = os.Readlink(filepath.Join("/proc", strings.TrimSpace(line), "exe"))
	require.Error(t, err, "the first server still runs a program")
}

func TestOneServerPerDirectory(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	s := start(t, Options{DataDir: dir})
	ctx, cancel := context.WithTimeout(t.Context(), 200*time.Millisecond)
	defer cancel()
	_, err := Start(ctx, Options{DataDir: dir})
	require.ErrorIs(t, err, ErrInUse)
	require.ErrorContains(t, err, fmt.Sprint(s.PID))
	require.ErrorContains(t, err, "another --data directory")
}

func TestRegistersAttributesOfALaterRelease(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	s := start(t, Options{DataDir: dir, SearchAttributes: []string{"LifeboatPlan"}})
	require.NoError(t, s.Stop(t.Context()))
	require.NoError(t, s.Err())

	s = start(t, Options{DataDir: dir, SearchAttributes: []string{"LifeboatPlan", "LifeboatSite"}})
	c := dial(t, s, "default")
	_, err := c.CountWorkflow(t.Context(), &workflowservice.CountWorkflowExecutionsRequest{Query: "LifeboatSite = 'west'"})
	require.NoError(t, err)
}

func TestKilledInItsFirstSecond(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	require.NoError(t, writeState(dir, state{ServerVersion: ServerVersion}))
	require.NoError(t, os.WriteFile(filepath.Join(dir, databaseFile), []byte("half a schema"), 0o600))
	start(t, Options{DataDir: dir, Durable: true})
	st, ok, err := readState(dir)
	require.NoError(t, err)
	require.True(t, ok)
	require.True(t, st.Initialized)
}

func TestRefusesDataItMayNotOpen(t *testing.T) {
	t.Parallel()
	tool := script(t, filepath.Join(t.TempDir(), "temporal"), `echo "temporal version 1.5.1 (Server 1.29.1, UI 2.42.1)"`)
	for name, c := range map[string]struct {
		file, content string
		is            error
		says          []string
	}{
		"of a newer server": {stateFile, `{"format":1,"server_version":"1.30.0","port":1,"ui_port":2,"initialized":true}`,
			ErrNewerData, []string{"1.30.0", "1.29.1", EnvPath}},
		"of a newer lifeboat": {stateFile, `{"format":2,"shards":4}`, nil, []string{stateFile, "format 2", "newer lifeboat"}},
		"with a torn state":   {stateFile, `{"format":1,`, nil, []string{stateFile, "not readable", "restore it"}},
		"without a state":     {databaseFile, "data", nil, []string{stateFile, "restore that file"}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			dir := t.TempDir()
			require.NoError(t, os.WriteFile(filepath.Join(dir, c.file), []byte(c.content), 0o600))
			_, err := Start(t.Context(), Options{DataDir: dir, Path: tool})
			require.Error(t, err)
			if c.is != nil {
				require.ErrorIs(t, err, c.is)
			}
			for _, want := range append(c.says, dir) {
				require.ErrorContains(t, err, want)
			}
			kept, err := os.ReadFile(filepath.Join(dir, c.file))
			require.NoError(t, err)
			require.Equal(t, c.content, string(kept), "nothing may be changed")
		})
	}
}

func TestTellsWhyItDidNotStart(t *testing.T) {
	t.Parallel()
	version := `[ "$1" = --version ] && { echo "temporal version 1.5.1 (Server 1.29.1, UI 2.42.1)"; exit; }`
	t.Run("it ends at once", func(t *testing.T) {
		t.Parallel()
		tool := script(t, filepath.Join(t.TempDir(), "temporal"), version+"\necho no room for the database >&2; exit 3")
		_, err := Start(t.Context(), Options{DataDir: t.TempDir(), Path: tool})
		require.ErrorContains(t, err, "exit status 3")
		require.ErrorContains(t, err, "no room for the database")
	})
	t.Run("it never answers", func(t *testing.T) {
		t.Parallel()
		tool := script(t, filepath.Join(t.TempDir(), "temporal"), version+"\nexec sleep 600")
		ctx, cancel := context.WithTimeout(t.Context(), 500*time.Millisecond)
		defer cancel()
		_, err := Start(ctx, Options{DataDir: t.TempDir(), Path: tool})
		require.ErrorContains(t, err, "waited in vain until its frontend answers")
	})
	t.Run("its port is taken", func(t *testing.T) {
		t.Parallel()
		l, err := net.Listen("tcp", "127.0.0.1:0")
		require.NoError(t, err)
		defer l.Close()
		tool := script(t, filepath.Join(t.TempDir(), "temporal"), version)
		port := l.Addr().(*net.TCPAddr).Port
		_, err = Start(t.Context(), Options{DataDir: t.TempDir(), Path: tool, Port: port})
		require.ErrorContains(t, err, fmt.Sprintf("port %d is not free", port))
		require.True(t, errors.Is(err, syscall.EADDRINUSE))
	})
	t.Run("ports inside it are taken again and again", func(t *testing.T) {
		t.Parallel()
		tool := script(t, filepath.Join(t.TempDir(), "temporal"), version+"\necho listen: address already in use; exit 1")
		dir := t.TempDir()
		_, err := Start(t.Context(), Options{DataDir: dir, Path: tool})
		require.ErrorContains(t, err, "address already in use")
		said, err := os.ReadFile(filepath.Join(dir, logFile))
		require.NoError(t, err)
		require.Equal(t, startAttempts, strings.Count(string(said), "\n"))
	})
}

// A start may be cut off anywhere: while the schema is made, while the server
// comes up, after it answered. The next one works, and what was once answered stays.
func TestKilledAnywhereInItsStart(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	for delay := 10 * time.Millisecond; delay < 500*time.Millisecond; delay = delay * 3 / 2 {
		parent := exec.Command(os.Args[0])
		parent.Env = append(os.Environ(), helperDir+"="+dir)
		parent.Stderr = os.Stderr
		require.NoError(t, parent.Start())
		kill := time.AfterFunc(delay, func() { _ = parent.Process.Kill() })
		require.ErrorContains(t, parent.Wait(), "signal: killed", "it ended by itself, %s after its start", delay)
		kill.Stop()
	}
	s := start(t, Options{DataDir: dir})
	_, err := dial(t, s, "default").CountWorkflow(t.Context(), &workflowservice.CountWorkflowExecutionsRequest{})
	require.NoError(t, err)
}

// Two that choose the same free port at the same moment must not take each other's
// server for their own.
func TestServersThatStartTogetherKeepApart(t *testing.T) {
	t.Parallel()
	type started struct {
		server *Server
		err    error
	}
	const count = 3
	all := make(chan started, count)
	for range count {
		dir := t.TempDir()
		go func() {
			s, err := Start(t.Context(), Options{DataDir: dir, StandardPorts: true})
			all <- started{s, err}
		}()
	}
	addresses := map[string]bool{}
	for range count {
		s := <-all
		require.NoError(t, s.err)
		t.Cleanup(func() { require.NoError(t, s.server.Stop(context.Background())) })
		addresses[s.server.Address] = true
		require.Nil(t, s.server.Err())
	}
	require.Len(t, addresses, count)
}
