package aws

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"

	awssdk "github.com/aws/aws-sdk-go-v2/aws"
	ec2types "github.com/aws/aws-sdk-go-v2/service/ec2/types"
	"github.com/aws/aws-sdk-go-v2/service/ssm"
	"github.com/aws/aws-sdk-go-v2/service/ssm/types"

	"lifeboat/activities/cloud"
)

// Scripts by Run Command of Systems Manager. SendCommand has no token, so a claim in the site's bucket keeps a
// script from running twice; a call that was cut off looks for its command by the comment, which holds the token.

const (
	kindScript    = cloud.Kind("script")
	scriptLimit   = 10 * time.Minute // when the caller gives none
	scriptMax     = 48 * time.Hour   // executionTimeout of AWS-RunShellScript
	scriptSend    = 20 * time.Second // for one request of SendCommand
	deliverWithin = 600              // seconds until the agent has to have begun (SendCommand, TimeoutSeconds)
	// What the agent is given beyond the limit, which the script keeps itself: see wrapScript.
	scriptGrace = 60 * time.Second
	document    = "AWS-RunShellScript"
)

// StartScript begins a script as root. The agent of Systems Manager has to run on the server, which needs an
// instance profile with AmazonSSMManagedInstanceCore.
func (p *Provider) StartScript(ctx context.Context, in cloud.RunScript) (cloud.ScriptRun, error) {
	const op = "StartScript"
	if in.Timeout == 0 {
		in.Timeout = scriptLimit
	}
	text, err := wrapScript(op, in)
	if err != nil {
		return cloud.ScriptRun{}, err
	}
	hash, err := hashOf(in)
	if err != nil {
		return cloud.ScriptRun{}, err
	}
	mine, found, err := p.findClaim(ctx, op, kindScript, in.Token, hash)
	switch {
	case err != nil:
		return cloud.ScriptRun{}, err
	case mine.ID != "":
		return p.runOf(ctx, mine.ID)
	case found:
		if err := p.findCommand(ctx, op, in, &mine); err != nil || mine.ID != "" {
			return cloud.ScriptRun{ID: mine.ID, State: cloud.Running}, err
		}
	default:
		mine = claim{Token: in.Token, Hash: hash}
	}
	if err := p.takesScripts(ctx, op, in.Server); err != nil {
		return cloud.ScriptRun{}, err
	}
	mine.At = time.Now().UTC()
	if err := p.putClaim(ctx, op, kindScript, &mine); err != nil {
		return cloud.ScriptRun{}, err // Conflict: another call has begun it
	}
	return p.sendCommand(ctx, op, in, text, mine)
}

// comment of a command: at most 100 characters, of which a token has 64.
func scriptComment(token, hash string) string { return "lifeboat " + token + " " + hash }

// sendCommand sends the command once: the SDK must not repeat what may have been done.
func (p *Provider) sendCommand(ctx context.Context, op string, in cloud.RunScript, text string, mine claim) (cloud.ScriptRun, error) {
	sending, cancel := context.WithTimeout(ctx, scriptSend)
	defer cancel()
	out, err := p.ssm().SendCommand(sending, &ssm.SendCommandInput{
		DocumentName: awssdk.String(document), InstanceIds: []string{in.Server}, Comment: awssdk.String(scriptComment(in.Token, mine.Hash)),
		TimeoutSeconds: awssdk.Int32(deliverWithin),
		Parameters: map[string][]string{"commands": {text},
			"executionTimeout": {strconv.Itoa(seconds(in.Timeout + scriptGrace))}},
	}, func(o *ssm.Options) { o.Retryer = awssdk.NopRetryer{} })
	if err != nil {
		failed := awsError(op, "script for server "+in.Server, err)
		if cloud.CodeOf(failed) == cloud.Unavailable {
			// It may have been sent: the next call looks for it, and needs not wait for this one any more.
			mine.At = time.Now().Add(-scriptSend).UTC()
			return cloud.ScriptRun{}, errors.Join(failed, p.putClaim(context.WithoutCancel(ctx), op, kindScript, &mine))
		}
		if err := p.dropClaim(ctx, op, kindScript, mine); err != nil {
			return cloud.ScriptRun{}, err
		}
		if apiCode(err) == "InvalidInstanceId" { // it was online a moment ago
			return cloud.ScriptRun{}, notOnline(op, in.Server, "not known to Systems Manager", err)
		}
		return cloud.ScriptRun{}, failed
	}
	mine.ID = runID(awssdk.ToString(out.Command.CommandId), in.Server)
	return cloud.ScriptRun{ID: mine.ID, State: cloud.Running}, p.putClaim(ctx, op, kindScript, &mine)
}

// findCommand looks for a command that an earlier call may have sent. While listings may lag behind and nothing is
// found it is NotReady; after that nothing was sent.
func (p *Provider) findCommand(ctx context.Context, op string, in cloud.RunScript, mine *claim) error {
	pages := ssm.NewListCommandsPaginator(p.ssm(), &ssm.ListCommandsInput{InstanceId: &in.Server,
		Filters: []types.CommandFilter{{Key: types.CommandFilterKeyInvokedAfter, Value: awssdk.String(mine.At.Add(-time.Hour).UTC().Format(time.RFC3339))}}})
	for pages.HasMorePages() {
		page, err := pages.NextPage(ctx)
		if apiCode(err) == "InvalidInstanceId" {
			break
		}
		if err != nil {
			return awsError(op, "script for server "+in.Server, err)
		}
		for _, c := range page.Commands {
			if awssdk.ToString(c.Comment) == scriptComment(in.Token, mine.Hash) {
				mine.ID = runID(awssdk.ToString(c.CommandId), in.Server)
				return p.putClaim(ctx, op, kindScript, mine)
			}
		}
	}
	if left := time.Until(mine.At.Add(scriptSend + p.options.LookFor)); left > 0 {
		e := cloud.E(cloud.NotReady, op, "script for server "+in.Server, "another call may just have sent it", "wait until that is known", nil)
		e.RetryAfter = min(left, 5*time.Second)
		return e
	}
	return nil
}

// takesScripts tells whether a server can run scripts now.
func (p *Provider) takesScripts(ctx context.Context, op, server string) error {
	i, err := p.instance(ctx, op, server)
	if err != nil {
		return err
	}
	switch state := stateOf(i); state {
	case ec2types.InstanceStateNameRunning:
	case ec2types.InstanceStateNamePending:
		return cloud.E(cloud.NotReady, op, "server "+server, "is starting", "wait until it runs", nil)
	case ec2types.InstanceStateNameShuttingDown:
		return notFound(op, cloud.KindServer, server)
	default:
		return cloud.E(cloud.Conflict, op, "server "+server, "is "+string(state)+", scripts need a running server", "start it", nil)
	}
	info, err := p.ssm().DescribeInstanceInformation(ctx, &ssm.DescribeInstanceInformationInput{
		Filters: []types.InstanceInformationStringFilter{{Key: awssdk.String("InstanceIds"), Values: []string{server}}}})
	if err != nil && apiCode(err) != "InvalidInstanceId" {
		return awsError(op, "server "+server, err)
	}
	if err != nil || len(info.InstanceInformationList) == 0 {
		return notOnline(op, server, "not known to Systems Manager", err)
	}
	agent := info.InstanceInformationList[0]
	switch {
	case agent.PingStatus != types.PingStatusOnline:
		return notOnline(op, server, string(agent.PingStatus), nil)
	case agent.PlatformType == types.PlatformTypeWindows:
		return cloud.E(cloud.Unsupported, op, "server "+server, "runs Windows, scripts are for a POSIX shell", "leave the script out for this server", nil)
	}
	return nil
}

func notOnline(op, server, status string, cause error) error {
	return cloud.E(cloud.NotReady, op, "server "+server, "its agent of Systems Manager is "+status,
		"wait until it has booted; when it has, see that the agent is installed, that the instance profile has AmazonSSMManagedInstanceCore, and that it reaches Systems Manager", cause)
}

func seconds(d time.Duration) int { return int((d + time.Second - 1) / time.Second) }

// runID names a command on one server.
func runID(command, server string) string { return command + "/" + server }

// runOf is ScriptRun for a command that was sent: Systems Manager may not show it yet.
func (p *Provider) runOf(ctx context.Context, id string) (cloud.ScriptRun, error) {
	run, err := p.ScriptRun(ctx, id)
	if cloud.IsNotFound(err) {
		return cloud.ScriptRun{ID: id, State: cloud.Running}, nil
	}
	return run, err
}

// ScriptRun tells how far a script is.
func (p *Provider) ScriptRun(ctx context.Context, id string) (cloud.ScriptRun, error) {
	const op = "ScriptRun"
	command, server, ok := strings.Cut(id, "/")
	if !ok {
		return cloud.ScriptRun{ID: id}, notFound(op, kindScript, id)
	}
	out, err := p.ssm().GetCommandInvocation(ctx, &ssm.GetCommandInvocationInput{CommandId: &command, InstanceId: &server})
	if err != nil {
		return cloud.ScriptRun{ID: id}, awsError(op, "script "+id, err)
	}
	return scriptRun(id, out), nil
}

// scriptRun reads an invocation. https://docs.aws.amazon.com/systems-manager/latest/userguide/monitor-commands.html
func scriptRun(id string, out *ssm.GetCommandInvocationOutput) cloud.ScriptRun {
	run := cloud.ScriptRun{ID: id, ExitCode: int(out.ResponseCode), Output: awssdk.ToString(out.StandardOutputContent)}
	said := awssdk.ToString(out.StandardErrorContent)
	switch out.Status {
	case types.CommandInvocationStatusPending, types.CommandInvocationStatusInProgress, types.CommandInvocationStatusDelayed,
		types.CommandInvocationStatusCancelling:
		run.State, run.ExitCode = cloud.Running, 0
	case types.CommandInvocationStatusSuccess:
		run.State = cloud.Available
	case types.CommandInvocationStatusFailed:
		switch {
		case strings.Contains(said, wrapTimeout):
			run.State, run.ExitCode, run.Message = cloud.Failing, -1, "the script was ended at its time limit"
		case strings.Contains(said, wrapBroken):
			run.State, run.ExitCode, run.Message = cloud.Failing, -1, "the script could not be run: "+clean(said)
		case out.ResponseCode < 0:
			run.State, run.Message = cloud.Failing, "the agent could not run the script: "+clean(said)
		default:
			run.State = cloud.Available
		}
	default: // TimedOut, Cancelled: also not delivered in time
		run.State, run.ExitCode = cloud.Failing, -1
		run.Message = fmt.Sprintf("the script ended as %s", awssdk.ToString(out.StatusDetails))
	}
	return run
}
