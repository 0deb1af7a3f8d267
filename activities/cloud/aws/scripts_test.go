package aws

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os/exec"
	"strings"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/service/ssm"
	"github.com/aws/aws-sdk-go-v2/service/ssm/types"
	"github.com/stretchr/testify/require"

	"lifeboat/activities/cloud"
	"lifeboat/activities/cloud/aws/awstest"
)

// runWrapped runs a wrapped script as the agent does, and reads the result as GetCommandInvocation gives it.
func runWrapped(t *testing.T, in cloud.RunScript) cloud.ScriptRun {
	t.Helper()
	text, err := wrapScript("test", in)
	require.NoError(t, err)
	var out, said bytes.Buffer
	c := exec.CommandContext(t.Context(), "/bin/sh", "-c", text)
	c.Stdout, c.Stderr = &out, &said
	status := types.CommandInvocationStatusSuccess
	if c.Run() != nil {
		status = types.CommandInvocationStatusFailed
	}
	stdout, stderr := out.String(), said.String()
	return scriptRun("c/i", &ssm.GetCommandInvocationOutput{Status: status, ResponseCode: int32(c.ProcessState.ExitCode()), StandardOutputContent: &stdout, StandardErrorContent: &stderr})
}

func TestAScriptRunsAsWritten(t *testing.T) {
	t.Parallel()
	values := map[string]string{"PLAIN": "x", "QUOTES": `it's "this" $HOME $(exit 9) ` + "`id`" + ` \n`, "LINES": "one\n two\n", "EMPTY": "", "_X1": "é;&|<>*"}
	run := runWrapped(t, cloud.RunScript{Timeout: time.Minute, Env: values,
		Content: "#!/bin/sh\nset -u\nprintf '%s|' \"$PLAIN\" \"$QUOTES\" \"$LINES\" \"$EMPTY\" \"$_X1\"\necho warning >&2\nexit 7"})
	require.Equal(t, cloud.Available, run.State, run.Message)
	require.Equal(t, 7, run.ExitCode)
	require.Equal(t, values["PLAIN"]+"|"+values["QUOTES"]+"|"+values["LINES"]+"|"+values["EMPTY"]+"|"+values["_X1"]+"|warning\n", run.Output)

	run = runWrapped(t, cloud.RunScript{Timeout: time.Minute, Content: "#!/bin/sh -e\nfalse\necho unreached\n"})
	require.Equal(t, 1, run.ExitCode, "the argument of the first line counts")
	require.Empty(t, run.Output)
	run = runWrapped(t, cloud.RunScript{Timeout: time.Minute, Env: map[string]string{"A": "b"}, Content: "#!/usr/bin/env cat\nnot $A shell\nEOF\n"})
	require.Equal(t, "#!/usr/bin/env cat\nnot $A shell\nEOF\n", run.Output, "another interpreter gets the text as it is")
	run = runWrapped(t, cloud.RunScript{Timeout: time.Minute, Content: "exit 124"})
	require.Equal(t, 124, run.ExitCode, "that is no time limit")
	require.Equal(t, cloud.Available, run.State)
	run = runWrapped(t, cloud.RunScript{Timeout: time.Minute, Content: "i=0; while [ $i -lt 3000 ]; do echo \"line $i\"; i=$((i+1)); done"})
	require.LessOrEqual(t, len(run.Output), scriptOutput)
	require.True(t, strings.HasSuffix(run.Output, "line 2999\n"))
	run = runWrapped(t, cloud.RunScript{Timeout: time.Minute, Content: "#!/missing/interpreter\n"})
	require.Equal(t, 127, run.ExitCode)
	begun := time.Now()
	run = runWrapped(t, cloud.RunScript{Timeout: time.Second, Content: "echo begun\nsleep 3600 &\nsleep 3600\n"})
	require.Equal(t, cloud.Failing, run.State)
	require.Equal(t, "begun\n", run.Output)
	require.Contains(t, run.Message, "time limit")
	require.Less(t, time.Since(begun), 30*time.Second)
}

func TestScriptsThatCanNeverRunAreRefused(t *testing.T) {
	t.Parallel()
	for _, in := range []cloud.RunScript{{Content: " \n"}, {Content: "a\x00"}, {Content: "true", Timeout: -1}, {Content: "true", Timeout: 50 * time.Hour},
		{Content: "true", Env: map[string]string{"not a name": ""}}, {Content: "true", Env: map[string]string{"A": "\x00"}}, {Content: strings.Repeat("x", scriptSize)}} {
		in.Token = "token"
		_, err := wrapScript("test", in)
		require.Equal(t, cloud.InvalidInput, cloud.CodeOf(err), "%.40v", in)
	}
}

func TestStatesOfCommands(t *testing.T) {
	t.Parallel()
	text := func(s string) *string { return &s }
	for status, want := range map[types.CommandInvocationStatus]cloud.State{
		types.CommandInvocationStatusPending: cloud.Running, types.CommandInvocationStatusInProgress: cloud.Running, types.CommandInvocationStatusDelayed: cloud.Running,
		types.CommandInvocationStatusCancelling: cloud.Running, types.CommandInvocationStatusSuccess: cloud.Available, types.CommandInvocationStatusFailed: cloud.Available,
		types.CommandInvocationStatusTimedOut: cloud.Failing, types.CommandInvocationStatusCancelled: cloud.Failing,
	} {
		run := scriptRun("c/i", &ssm.GetCommandInvocationOutput{Status: status, ResponseCode: 1, StatusDetails: text("Undeliverable")})
		require.Equal(t, want, run.State, status)
		require.Equal(t, want == cloud.Failing, run.Message != "", status)
	}
	run := scriptRun("c/i", &ssm.GetCommandInvocationOutput{Status: types.CommandInvocationStatusFailed, ResponseCode: -1, StandardErrorContent: text("no shell")})
	require.Equal(t, cloud.Failing, run.State)
	require.Contains(t, run.Message, "no shell")
}

// becomes waits until done says so, and tells the last error when that takes too long.
func becomes(t *testing.T, what string, done func() (bool, error)) {
	t.Helper()
	var err error
	for end := time.Now().Add(time.Minute); time.Now().Before(end); {
		var ok bool
		if ok, err = done(); ok {
			return
		}
		require.NoError(t, wait(t.Context(), 2*time.Millisecond))
	}
	require.Failf(t, "waited in vain", "%s: %v", what, err)
}

// scriptServer is a running server of a double, launched through the provider.
func scriptServer(t *testing.T, d *double, p *Provider) cloud.Server {
	t.Helper()
	ctx := t.Context()
	create := func(token string) cloud.Create { return cloud.Create{Token: token, Name: token} }
	disk, err := p.StartCreateDisk(ctx, cloud.CreateDisk{Create: create("disk"), Bytes: gib})
	require.NoError(t, err)
	becomes(t, "disk", func() (bool, error) { v, err := p.Disk(ctx, disk.ID); return v.State == cloud.Available, err })
	cut, err := p.StartSnapshots(ctx, cloud.CreateSnapshots{Create: create("cut"), Disks: []string{disk.ID}})
	require.NoError(t, err)
	becomes(t, "cut", func() (bool, error) { v, err := p.Snapshot(ctx, cut[0].ID); return v.State == cloud.Available, err })
	image, err := p.RegisterImage(ctx, create("image"), []cloud.ImageDisk{{SnapshotID: cut[0].ID, Boot: true}})
	require.NoError(t, err)
	becomes(t, "image", func() (bool, error) { v, err := p.Image(ctx, image.ID); return v.State == cloud.Available, err })
	network, err := p.StartCreateNetwork(ctx, cloud.CreateNetwork{Create: create("network"), CIDR: d.ip(0, 0) + "/24"})
	require.NoError(t, err)
	server, err := p.StartLaunch(ctx, cloud.LaunchServer{Create: create("server"), Image: image.ID, Network: network.ID, Type: testType, Ports: []int{testPort}})
	require.NoError(t, err)
	becomes(t, "server", func() (bool, error) {
		v, err := p.Server(ctx, server.ID)
		return v.State == cloud.Running, errors.Join(err, fmt.Errorf("is %s %s", v.State, v.Message))
	})
	return server
}

// started calls StartScript until the server takes it, and waits for its end.
func started(t *testing.T, p *Provider, in cloud.RunScript) cloud.ScriptRun {
	t.Helper()
	var run cloud.ScriptRun
	var err error
	becomes(t, "that a script is taken", func() (bool, error) {
		run, err = p.StartScript(t.Context(), in)
		return err == nil || cloud.ClassOf(err) != cloud.Wait && cloud.ClassOf(err) != cloud.Retry, err
	})
	require.NoError(t, err)
	becomes(t, "the end of a script", func() (bool, error) {
		run, err = p.ScriptRun(t.Context(), run.ID)
		return cloud.IgnoreNotFound(err) != nil || err == nil && run.State != cloud.Running, err
	})
	require.NoError(t, err)
	return run
}

func TestAScriptRunsOnceWhateverAnswerIsLost(t *testing.T) {
	t.Parallel()
	d := doubleOf(t, likeReal)
	p := d.open("home").(*Provider)
	server := scriptServer(t, d, p)
	counter := t.TempDir() + "/runs"
	lost := &awstest.Error{Code: "InternalServerError", Message: "lost", Status: 500}
	refused := &awstest.Error{Code: "ThrottlingException", Message: "slow down"}
	for i, rule := range []awstest.Rule{
		{},
		{Service: "ssm", Operation: "SendCommand", Times: 1, Error: lost, After: true},
		{Service: "ssm", Operation: "SendCommand", Times: 1, Drop: true, After: true},
		{Service: "ssm", Operation: "SendCommand", Times: 1, Drop: true},
		{Service: "ssm", Operation: "SendCommand", Times: 3, Error: refused},
		{Service: "s3", Operation: "PutObject", Times: 1, Drop: true, After: true},
	} {
		remove := func() {}
		if rule.Service != "" {
			remove = d.cloud.Inject(rule)
		}
		in := cloud.RunScript{Token: strings.Repeat("t", i+1), Server: server.ID, Timeout: time.Minute,
			Env: map[string]string{"COUNTER": counter}, Content: "echo run >>\"$COUNTER\"\nwc -l <\"$COUNTER\"\n"}
		run := started(t, p, in)
		require.Equal(t, cloud.Available, run.State, "%d %s", i, run.Message)
		require.Zero(t, run.ExitCode, run.Output)
		again := started(t, d.open("home").(*Provider), in)
		require.Equal(t, run.ID, again.ID, "another process finds it")
		require.Equal(t, run.Output, again.Output)
		require.Equal(t, i+1, atoi(t, run.Output), "%+v", rule)
		remove()
	}
}

func atoi(t *testing.T, s string) (n int) {
	t.Helper()
	for _, c := range strings.TrimSpace(s) {
		require.True(t, c >= '0' && c <= '9', s)
		n = n*10 + int(c-'0')
	}
	return n
}

func TestAServerWhoseAgentIsAwayIsNotReady(t *testing.T) {
	t.Parallel()
	d := doubleOf(t, likeReal)
	p := d.open("home").(*Provider)
	server := scriptServer(t, d, p)
	started(t, p, cloud.RunScript{Token: "first", Server: server.ID, Content: "true"})
	in := cloud.RunScript{Token: "second", Server: server.ID, Content: "true"}
	require.NoError(t, p.StopServer(t.Context(), server.ID, true))
	becomes(t, "that it stops", func() (bool, error) { v, err := p.Server(t.Context(), server.ID); return v.State == cloud.Stopped, err })
	_, err := p.StartScript(t.Context(), in)
	require.Equal(t, cloud.Conflict, cloud.CodeOf(err), "a stopped server takes none")
	require.NoError(t, p.StartServer(t.Context(), server.ID))
	started(t, p, in)
	remove := d.cloud.Inject(awstest.Rule{Service: "ssm", Operation: "SendCommand", Times: 1, Error: &awstest.Error{Code: "InvalidInstanceId", Message: "not in a valid state"}})
	defer remove()
	in.Token = "third"
	_, err = p.StartScript(t.Context(), in)
	require.Equal(t, cloud.NotReady, cloud.CodeOf(err))
	require.ErrorContains(t, err, "AmazonSSMManagedInstanceCore")
	started(t, p, in)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	_, err = p.StartScript(ctx, in)
	require.Equal(t, cloud.Unavailable, cloud.CodeOf(err))
}

func FuzzWrapScript(f *testing.F) {
	f.Add("#!/bin/sh\necho x", "NAME", "it's")
	f.Add("LIFEBOAT_", "A", "\n'\\''")
	f.Fuzz(func(t *testing.T, content, name, value string) {
		text, err := wrapScript("test", cloud.RunScript{Content: content, Env: map[string]string{name: value}, Timeout: time.Second})
		if err != nil {
			if cloud.CodeOf(err) != cloud.InvalidInput {
				t.Fatal(err)
			}
			return
		}
		quoted := shellQuote(value)
		if inner := quoted[1 : len(quoted)-1]; strings.ReplaceAll(inner, `'\''`, "'") != value || strings.Contains(strings.ReplaceAll(inner, `'\''`, ""), "'") {
			t.Fatalf("%q is not %q", quoted, value)
		}
		if !strings.Contains(text, strings.TrimSuffix(content, "\n")+"\n") {
			t.Fatal("the script is not in the text")
		}
	})
}
