package awstest

import (
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/ssm"
	"github.com/aws/aws-sdk-go-v2/service/ssm/types"

	"lifeboat/activities/cloud"
)

// ssmWork is what goes on in the background.
type ssmWork struct{ background }

// ssmBackground gives it. The lock is held.
func (c *Cloud) ssmBackground() *ssmWork {
	w := part[ssmWork](c.region("", "ssm"))
	if w.ctx == nil {
		w.ctx, w.cancel = context.WithCancel(context.Background())
		c.closers = append(c.closers, func() error {
			w.cancel()
			w.work.Wait()
			return nil
		})
	}
	return w
}

// ssmPoll is how often agents and scripts are looked at.
const ssmPoll = 5 * time.Millisecond

// run takes a command to an instance in the background. The lock is held.
func (c *Call) run(k *ssmCommand, instance string) {
	w, cloud := c.ssmBackground(), c.Cloud
	w.work.Go(func() {
		w.wait(cloud.Delay("script"))
		if !cloud.deliver(w.ctx, k, instance) {
			return
		}
		done, err := cloud.execute(w.ctx, k, instance)
		if w.ctx.Err() != nil {
			return // the double ends
		}
		if err != nil {
			done = ssmRun{status: types.CommandInvocationStatusFailed, details: "Failed", code: -1, stderr: err.Error()}
		}
		cloud.change(k, instance, func(r *ssmRun) {
			done.start, done.end = r.start, time.Now()
			*r = done
		})
	})
}

// change changes an invocation.
func (c *Cloud) change(k *ssmCommand, instance string, f func(*ssmRun)) {
	c.mu.Lock()
	defer c.mu.Unlock()
	f(k.runs[instance])
}

// deliver waits until the agent takes the command, as long as TimeoutSeconds says: then it is TimedOut, with the
// detail DeliveryTimedOut (https://docs.aws.amazon.com/systems-manager/latest/userguide/monitor-commands.html).
func (c *Cloud) deliver(ctx context.Context, k *ssmCommand, instance string) bool {
	end := time.NewTimer(time.Until(k.requested.Add(time.Duration(k.timeout) * time.Second)))
	defer end.Stop()
	again := time.NewTicker(ssmPoll)
	defer again.Stop()
	for !c.guestAlive(ctx, instance) {
		select {
		case <-ctx.Done():
			return false
		case <-end.C:
			c.change(k, instance, func(r *ssmRun) { r.status, r.details = types.CommandInvocationStatusTimedOut, "DeliveryTimedOut" })
			return false
		case <-again.C:
		}
	}
	c.change(k, instance, func(r *ssmRun) {
		r.status, r.details, r.start = types.CommandInvocationStatusInProgress, "InProgress", time.Now()
	})
	return ctx.Err() == nil
}

// execute runs the script on the guest to its end.
func (c *Cloud) execute(ctx context.Context, k *ssmCommand, instance string) (ssmRun, error) {
	dir := filepath.Join(c.Directory, "ssm", k.id, instance)
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return ssmRun{}, err
	}
	poll, err := guestScript(ctx, c, instance, k.id+"-"+instance, shellScript(dir, k.parameters), nil, k.execution)
	if err != nil {
		return ssmRun{}, err
	}
	began := time.Now()
	again := time.NewTicker(ssmPoll)
	defer again.Stop()
	for {
		run, err := poll(ctx)
		if err != nil {
			return ssmRun{}, err
		}
		if run.State == cloud.Running {
			select {
			case <-ctx.Done():
				return ssmRun{}, ctx.Err()
			case <-again.C:
			}
			continue
		}
		return outcome(dir, run, time.Since(began) >= k.execution)
	}
}

// outcome is how an invocation ended, and what the script wrote.
func outcome(dir string, run cloud.ScriptRun, late bool) (ssmRun, error) {
	r := ssmRun{status: types.CommandInvocationStatusSuccess, details: "Success", code: int32(run.ExitCode)}
	switch {
	case run.State == cloud.Failing && late:
		r.status, r.details, r.code = types.CommandInvocationStatusTimedOut, "ExecutionTimedOut", -1
	case run.State == cloud.Failing, run.ExitCode != 0:
		r.status, r.details = types.CommandInvocationStatusFailed, "Failed"
	}
	var err, err2 error
	r.stdout, err = firstOf(filepath.Join(dir, "stdout"), maxOutput)
	r.stderr, err2 = firstOf(filepath.Join(dir, "stderr"), maxErrorOutput)
	r.stdout += run.Output // of a guest that does not see the directory
	if r.stderr += run.Message; r.status == types.CommandInvocationStatusFailed && r.code > 0 {
		r.stderr = strings.TrimSuffix(r.stderr, "\n") + fmt.Sprintf("\nfailed to run commands: exit status %d", r.code)
	}
	return r, errors.Join(err, err2)
}

// firstOf reads the beginning of a file, which need not be there.
func firstOf(path string, characters int) (string, error) {
	f, err := os.Open(path)
	if errors.Is(err, os.ErrNotExist) {
		return "", nil
	}
	if err != nil {
		return "", err
	}
	defer f.Close()
	b, err := io.ReadAll(io.LimitReader(f, int64(4*characters)))
	return cut(string(b), characters), err
}

// cut keeps the first characters of a text.
func cut(s string, characters int) string {
	n := 0
	for i := range s {
		if n == characters {
			return s[:i]
		}
		n++
	}
	return s
}

// shellScript is what runs on the guest for the document AWS-RunShellScript: the commands as one script, in the
// working directory. What it writes goes to two files of a directory, where a guest sees that; others give both
// outputs as one.
func shellScript(dir string, parameters map[string][]string) string {
	script := strings.Join(parameters["commands"], "\n")
	interpreter := "/bin/sh "
	if strings.HasPrefix(script, "#!") {
		interpreter = ""
	}
	in := ":"
	if d := parameters["workingDirectory"]; len(d) == 1 && d[0] != "" {
		in = "cd " + quoted(d[0])
	}
	return fmt.Sprintf(`#!/bin/sh
script=%[1]s/_script.sh
if [ -d %[1]s ]; then exec >%[1]s/stdout 2>%[1]s/stderr; else script=$(mktemp) || exit 1; fi
printf %%s %[2]s | base64 -d >"$script" && chmod 700 "$script" && %[3]s || exit 1
%[4]s"$script"
code=$?
rm -f "$script"
exit $code
`, quoted(dir), base64.StdEncoding.EncodeToString([]byte(script)), in, interpreter)
}

// quoted is one word of a shell.
func quoted(s string) string { return "'" + strings.ReplaceAll(s, "'", `'\''`) + "'" }

// getCommandInvocation tells how a command goes on an instance. Right after SendCommand it does not know it
// (API_GetCommandInvocation.html).
func getCommandInvocation(c *Call, in *ssm.GetCommandInvocationInput) (*ssm.GetCommandInvocationOutput, error) {
	all, err := c.ssmCommands(in.CommandId, in.InstanceId, nil)
	if err != nil {
		return nil, err
	}
	if len(all) == 0 || in.CommandId == nil || in.InstanceId == nil {
		return nil, fault("InvocationDoesNotExist", "")
	}
	if p := aws.ToString(in.PluginName); p != "" && p != shellPlugin {
		return nil, fault("InvalidPluginName", "")
	}
	k := all[0]
	r := k.runs[*in.InstanceId]
	out := &ssm.GetCommandInvocationOutput{CommandId: in.CommandId, InstanceId: in.InstanceId, Comment: aws.String(k.comment), DocumentName: aws.String(k.document),
		DocumentVersion: aws.String("$DEFAULT"), PluginName: aws.String(shellPlugin), ResponseCode: r.code, Status: r.status, StatusDetails: aws.String(r.details),
		StandardOutputContent: aws.String(r.stdout), StandardErrorContent: aws.String(r.stderr)}
	if !r.start.IsZero() {
		out.ExecutionStartDateTime = aws.String(r.start.UTC().Format("2006-01-02T15:04:05.000Z"))
	}
	if !r.end.IsZero() {
		out.ExecutionEndDateTime = aws.String(r.end.UTC().Format("2006-01-02T15:04:05.000Z"))
		out.ExecutionElapsedTime = aws.String(fmt.Sprintf("PT%.3fS", r.end.Sub(r.start).Seconds()))
	}
	return out, nil
}

// shellPlugin is the plugin of the document AWS-RunShellScript.
const shellPlugin = "aws:runShellScript"

func (k *ssmCommand) invocation(instance string, details bool) types.CommandInvocation {
	r := k.runs[instance]
	out := types.CommandInvocation{CommandId: aws.String(k.id), InstanceId: aws.String(instance), Comment: aws.String(k.comment), DocumentName: aws.String(k.document),
		RequestedDateTime: aws.Time(k.requested), Status: r.status, StatusDetails: aws.String(r.details)}
	if details {
		out.CommandPlugins = []types.CommandPlugin{{Name: aws.String(shellPlugin), ResponseCode: r.code, Status: types.CommandPluginStatus(r.status),
			StatusDetails: aws.String(r.details), Output: aws.String(cut(r.stdout+r.stderr, maxListedOutput))}}
	}
	return out
}

func init() {
	on(ssmService, "SendCommand", sendCommand)
	on(ssmService, "GetCommandInvocation", getCommandInvocation)
	on(ssmService, "ListCommands", func(c *Call, in *ssm.ListCommandsInput) (*ssm.ListCommandsOutput, error) {
		all, err := c.ssmCommands(in.CommandId, in.InstanceId, in.Filters)
		if err != nil {
			return nil, err
		}
		some, next, err := page(c, all, ssmPage(in.MaxResults), in.NextToken)
		out := &ssm.ListCommandsOutput{Commands: []types.Command{}, NextToken: next}
		for _, k := range some {
			out.Commands = append(out.Commands, *k.describe())
		}
		return out, err
	})
	on(ssmService, "ListCommandInvocations", func(c *Call, in *ssm.ListCommandInvocationsInput) (*ssm.ListCommandInvocationsOutput, error) {
		commands, err := c.ssmCommands(in.CommandId, in.InstanceId, in.Filters)
		if err != nil {
			return nil, err
		}
		var all []types.CommandInvocation
		for _, k := range commands {
			for _, id := range k.instances {
				if in.InstanceId == nil || *in.InstanceId == id {
					all = append(all, k.invocation(id, in.Details))
				}
			}
		}
		some, next, err := page(c, all, ssmPage(in.MaxResults), in.NextToken)
		return &ssm.ListCommandInvocationsOutput{CommandInvocations: some, NextToken: next}, err
	})
	on(ssmService, "DescribeInstanceInformation", describeInstanceInformation)
}

// describeInstanceInformation lists the instances whose agent has ever answered (API_DescribeInstanceInformation.html).
func describeInstanceInformation(c *Call, in *ssm.DescribeInstanceInformationInput) (*ssm.DescribeInstanceInformationOutput, error) {
	if err := c.ping(); err != nil {
		return nil, err
	}
	s := ssmOf(c.Region)
	var all []types.InstanceInformation
	for _, id := range sortedKeys(s.nodes) {
		a, i := s.nodes[id], c.compute().instances[id]
		info := types.InstanceInformation{InstanceId: aws.String(id), PingStatus: types.PingStatusConnectionLost, PlatformType: types.PlatformTypeLinux,
			ResourceType: types.ResourceTypeEc2Instance, AgentVersion: aws.String("3.3.0.0"), IsLatestVersion: aws.Bool(true),
			RegistrationDate: aws.Time(a.registered), LastPingDateTime: aws.Time(a.pinged)}
		if a.online {
			info.PingStatus = types.PingStatusOnline
		}
		if i.iface != nil {
			info.IPAddress = aws.String(i.iface.ip.String())
		}
		ok := true
		for _, f := range in.Filters {
			value := map[string]string{"InstanceIds": id, "PingStatus": string(info.PingStatus), "PlatformTypes": string(info.PlatformType),
				"ResourceType": string(info.ResourceType)}[aws.ToString(f.Key)]
			if value == "" {
				return nil, fault("InvalidFilterKey", "The specified key %s isn't valid.", aws.ToString(f.Key))
			}
			ok = ok && slices.Contains(f.Values, value)
		}
		if ok {
			all = append(all, info)
		}
	}
	some, next, err := page(c, all, ssmPage(in.MaxResults), in.NextToken)
	return &ssm.DescribeInstanceInformationOutput{InstanceInformationList: some, NextToken: next}, err
}
