package awstest

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/ec2"
	ec2types "github.com/aws/aws-sdk-go-v2/service/ec2/types"
	"github.com/aws/aws-sdk-go-v2/service/ssm"
	"github.com/aws/aws-sdk-go-v2/service/ssm/types"
	"github.com/stretchr/testify/require"
)

// shell is an instance that takes commands.
type shell struct {
	*storage
	client   *ssm.Client
	instance string
}

// newShell launches a guest at the first address of a network of its own.
func newShell(t *testing.T, network int, o Options) *shell {
	t.Helper()
	o.Guest = guestProgram("TestServeGuest")
	c := New(t, o)
	s := clients(t, c, "eu-west-1")
	subnet := s.subnetOf(fmt.Sprintf("127.%d.0.0/16", network), fmt.Sprintf("127.%d.1.0/24", network))
	ip := fmt.Sprintf("127.%d.1.7", network)
	i := s.run(guestLaunch(s.image("web", "one!"), subnet, ip))
	h := &shell{storage: s, client: ssm.NewFromConfig(sdk(c, "eu-west-1", "key")), instance: *i.InstanceId}
	until(t, "the agent is online", func() bool { return h.ping() == types.PingStatusOnline })
	return h
}

func (h *shell) ping() types.PingStatus {
	h.t.Helper()
	out := must(h.client.DescribeInstanceInformation(h.t.Context(), &ssm.DescribeInstanceInformationInput{
		Filters: []types.InstanceInformationStringFilter{{Key: aws.String("InstanceIds"), Values: []string{h.instance}}}}))(h.t)
	if len(out.InstanceInformationList) == 0 {
		return ""
	}
	return out.InstanceInformationList[0].PingStatus
}

func (h *shell) send(change func(*ssm.SendCommandInput), commands ...string) (string, error) {
	in := &ssm.SendCommandInput{DocumentName: aws.String("AWS-RunShellScript"), InstanceIds: []string{h.instance}, Parameters: map[string][]string{"commands": commands}}
	if change != nil {
		change(in)
	}
	out, err := h.client.SendCommand(h.t.Context(), in)
	if err != nil {
		return "", err
	}
	return *out.Command.CommandId, nil
}

// ended waits for a command.
func (h *shell) ended(id string) *ssm.GetCommandInvocationOutput {
	h.t.Helper()
	var out *ssm.GetCommandInvocationOutput
	until(h.t, "the command has ended", func() bool {
		var err error
		out, err = h.client.GetCommandInvocation(h.t.Context(), &ssm.GetCommandInvocationInput{CommandId: &id, InstanceId: &h.instance})
		if refused(err) == "InvocationDoesNotExist" {
			return false
		}
		require.NoError(h.t, err)
		return out.Status != types.CommandInvocationStatusPending && out.Status != types.CommandInvocationStatusInProgress
	})
	return out
}

func TestCommandsRunOnTheGuest(t *testing.T) {
	t.Parallel()
	h := newShell(t, 160, Options{PageSize: 2})
	h.c.mu.Lock()
	h.c.Lag = 50 * time.Millisecond
	h.c.mu.Unlock()
	id := must(h.send(func(in *ssm.SendCommandInput) { in.Comment = aws.String("token-1") }, `echo "of $LIFEBOAT_ADDRESS"`, "echo bad >&2", "exit 3"))(t)
	_, err := h.client.GetCommandInvocation(t.Context(), &ssm.GetCommandInvocationInput{CommandId: &id, InstanceId: &h.instance})
	wantCode(t, err, "InvocationDoesNotExist")
	out := h.ended(id)
	require.Equal(t, types.CommandInvocationStatusFailed, out.Status)
	require.EqualValues(t, 3, out.ResponseCode)
	require.Equal(t, "of 127.160.1.7\n", *out.StandardOutputContent)
	require.Equal(t, "bad\nfailed to run commands: exit status 3", *out.StandardErrorContent)

	long := h.ended(must(h.send(func(in *ssm.SendCommandInput) { in.Parameters["workingDirectory"] = []string{"/"} }, "#!/bin/sh", "pwd; head -c 30000 /dev/zero | tr '\\0' ä"))(t))
	require.Equal(t, types.CommandInvocationStatusSuccess, long.Status)
	require.True(t, strings.HasPrefix(*long.StandardOutputContent, "/\n"))
	require.Equal(t, maxOutput, len([]rune(*long.StandardOutputContent)))

	late := h.ended(must(h.send(func(in *ssm.SendCommandInput) { in.Parameters["executionTimeout"] = []string{"1"} }, "sleep 60"))(t))
	require.Equal(t, types.CommandInvocationStatusTimedOut, late.Status)
	require.Equal(t, "ExecutionTimedOut", *late.StatusDetails)

	var comments []string
	pages := ssm.NewListCommandsPaginator(h.client, &ssm.ListCommandsInput{InstanceId: &h.instance, Filters: []types.CommandFilter{{Key: types.CommandFilterKeyInvokedAfter, Value: aws.String("2026-01-01T00:00:00Z")}}})
	for pages.HasMorePages() {
		for _, k := range must(pages.NextPage(t.Context()))(t).Commands {
			comments = append(comments, aws.ToString(k.Comment)+" "+string(k.Status))
		}
	}
	require.Equal(t, []string{" TimedOut", " Success", "token-1 Failed"}, comments, "the newest first")
	runs := must(h.client.ListCommandInvocations(t.Context(), &ssm.ListCommandInvocationsInput{CommandId: &id, Details: true}))(t)
	require.Len(t, runs.CommandInvocations, 1)
	require.Equal(t, "of 127.160.1.7\nbad\nfailed to run commands: exit status 3", *runs.CommandInvocations[0].CommandPlugins[0].Output)
}

func TestCommandsNeedAnAgent(t *testing.T) {
	t.Parallel()
	h := newShell(t, 161, Options{})
	_, err := h.send(func(in *ssm.SendCommandInput) { in.InstanceIds = []string{"i-00000000000000000"} }, "true")
	wantCode(t, err, "InvalidInstanceId")
	require.NoError(t, h.c.KillGuest(t.Context(), h.instance))
	require.Equal(t, types.PingStatusConnectionLost, h.ping())
	id := must(h.send(nil, "true"))(t)
	status := func() types.CommandInvocationStatus {
		return must(h.client.GetCommandInvocation(t.Context(), &ssm.GetCommandInvocationInput{CommandId: &id, InstanceId: &h.instance}))(t).Status
	}
	require.Equal(t, types.CommandInvocationStatusPending, status())
	must(h.ec2.RebootInstances(t.Context(), &ec2.RebootInstancesInput{InstanceIds: []string{h.instance}}))(t)
	require.Equal(t, types.CommandInvocationStatusSuccess, h.ended(id).Status, "the agent takes it when it is back")
	must(h.ec2.StopInstances(t.Context(), &ec2.StopInstancesInput{InstanceIds: []string{h.instance}}))(t)
	h.instanceIs(h.instance, ec2types.InstanceStateNameStopped)
	_, err = h.send(nil, "true")
	wantCode(t, err, "InvalidInstanceId")
}

func TestCommandsThatSSMRefuses(t *testing.T) {
	t.Parallel()
	c := New(t, Options{})
	h := &shell{storage: clients(t, c, "eu-west-1"), client: ssm.NewFromConfig(sdk(c, "eu-west-1", "key")), instance: "i-00000000000000000"}
	for code, change := range map[string]func(*ssm.SendCommandInput){
		"ValidationException": func(in *ssm.SendCommandInput) { in.Comment = aws.String(strings.Repeat("ä", 101)) },
		"InvalidDocument":     func(in *ssm.SendCommandInput) { in.DocumentName = aws.String("AWS-Other") },
		"InvalidParameters":   func(in *ssm.SendCommandInput) { in.Parameters["other"] = []string{"x"} },
		"InvalidInstanceId":   func(in *ssm.SendCommandInput) { in.Comment = aws.String(strings.Repeat("ä", 100)) },
	} {
		_, err := h.send(change, "true")
		wantCode(t, err, code)
	}
}
