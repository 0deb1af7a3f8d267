package awstest

import (
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/aws/aws-sdk-go-v2/aws"
	ec2types "github.com/aws/aws-sdk-go-v2/service/ec2/types"
	"github.com/aws/aws-sdk-go-v2/service/ssm"
	"github.com/aws/aws-sdk-go-v2/service/ssm/types"
)

// ssmService is AWS Systems Manager, the part that runs commands:
// https://docs.aws.amazon.com/systems-manager/latest/APIReference/
var ssmService = serve("ssm", jsonWire{})

// ssmState is what an account has in a region.
type ssmState struct {
	commands []*ssmCommand        // oldest first
	nodes    map[string]*ssmAgent // instances whose agent was seen
}

// ssmAgent is an instance's agent.
type ssmAgent struct {
	registered, pinged time.Time
	online             bool
}

// ssmCommand is what SendCommand was asked for.
type ssmCommand struct {
	id, comment, document string
	instances             []string
	parameters            map[string][]string
	timeout               int32 // seconds that it may wait for an agent
	execution             time.Duration
	requested, visible    time.Time
	runs                  map[string]*ssmRun
}

// ssmRun is a command on one instance.
type ssmRun struct {
	status         types.CommandInvocationStatus
	details        string
	code           int32 // -1 until it has ended
	stdout, stderr string
	start, end     time.Time
}

func (r *ssmRun) ended() bool {
	return r.status != types.CommandInvocationStatusPending && r.status != types.CommandInvocationStatusInProgress
}

func ssmOf(r *Region) *ssmState {
	s := part[ssmState](r)
	if s.nodes == nil {
		s.nodes = map[string]*ssmAgent{}
	}
	return s
}

// Limits of a command (API_SendCommand.html), of its output (API_GetCommandInvocation.html), and of the output in
// listings (API_CommandPlugin.html), in characters.
const (
	maxComment      = 100
	maxTargets      = 50
	maxOutput       = 24000
	maxErrorOutput  = 8000
	maxListedOutput = 2500
)

// ping asks the agents of all instances of the region. Slow, and without the lock.
func (c *Call) ping() error {
	running := map[string]bool{}
	for id, i := range c.compute().instances {
		if i.state == ec2types.InstanceStateNameRunning {
			running[id] = false
		}
	}
	err := c.unlocked(func() error {
		for id := range running {
			running[id] = c.guestAlive(c.HTTP.Context(), id)
		}
		return c.HTTP.Context().Err()
	})
	s := ssmOf(c.Region)
	for id, alive := range running {
		if alive && s.nodes[id] == nil {
			s.nodes[id] = &ssmAgent{registered: c.Now}
		}
	}
	for id, a := range s.nodes {
		i := c.compute().instances[id]
		if i == nil || i.state == ec2types.InstanceStateNameTerminated {
			delete(s.nodes, id)
			continue
		}
		if a.online = running[id]; a.online {
			a.pinged = c.Now
		}
	}
	return err
}

// checkCommand checks what SendCommand is asked for (API_SendCommand.html).
func checkCommand(in *ssm.SendCommandInput) error {
	switch comment := aws.ToString(in.Comment); {
	case utf8.RuneCountInString(comment) > maxComment:
		return fault("ValidationException", "1 validation error detected: Value '%s' at 'comment' failed to satisfy constraint: Member must have length less than or equal to %d", comment, maxComment)
	case len(in.InstanceIds) > maxTargets:
		return fault("ValidationException", "1 validation error detected: Value at 'instanceIds' failed to satisfy constraint: Member must have length less than or equal to %d", maxTargets)
	case len(in.InstanceIds) == 0 || len(in.Targets) > 0:
		return fault("InvalidParameters", "This double sends commands to InstanceIds only")
	case in.TimeoutSeconds != nil && (*in.TimeoutSeconds < 30 || *in.TimeoutSeconds > 2592000):
		return fault("ValidationException", "1 validation error detected: Value '%d' at 'timeoutSeconds' failed to satisfy constraint: Member must have value between 30 and 2592000", *in.TimeoutSeconds)
	case aws.ToString(in.DocumentName) != "AWS-RunShellScript":
		return fault("InvalidDocument", "Document with name %s does not exist.", aws.ToString(in.DocumentName))
	case len(in.Parameters["commands"]) == 0:
		return fault("InvalidParameters", "Parameter \"commands\" requires a value.")
	}
	for name, values := range in.Parameters {
		if !slices.Contains([]string{"commands", "workingDirectory", "executionTimeout"}, name) {
			return fault("InvalidParameters", "Parameter provided that is not defined in document: %s", name)
		}
		if name != "commands" && len(values) != 1 {
			return fault("InvalidParameters", "Parameter \"%s\" has one value.", name)
		}
	}
	return nil
}

// executionTimeout is how long a script may run: 3,600 s unless the parameter says otherwise, to 48 h (document
// AWS-RunShellScript).
func executionTimeout(parameters map[string][]string) (time.Duration, error) {
	values := parameters["executionTimeout"]
	if len(values) == 0 {
		return time.Hour, nil
	}
	n, err := strconv.Atoi(values[0])
	if err != nil || n < 1 || n > 172800 {
		return 0, fault("InvalidParameters", "Parameter \"executionTimeout\" must match 1 to 172800 seconds, and is %q.", values[0])
	}
	return time.Duration(n) * time.Second, nil
}

// sendCommand begins to run a script on instances. All of them have to be managed and running when it is sent; one
// whose agent is silent gets it when that comes back, or never.
func sendCommand(c *Call, in *ssm.SendCommandInput) (*ssm.SendCommandOutput, error) {
	if err := checkCommand(in); err != nil {
		return nil, err
	}
	execution, err := executionTimeout(in.Parameters)
	if err != nil {
		return nil, err
	}
	if err := c.ping(); err != nil {
		return nil, err
	}
	s, instances := ssmOf(c.Region), c.compute().instances
	var not []string
	for _, id := range in.InstanceIds {
		if s.nodes[id] == nil || instances[id].state != ec2types.InstanceStateNameRunning {
			not = append(not, id)
		}
	}
	if len(not) > 0 {
		return nil, fault("InvalidInstanceId", "Instances [[%s]] not in a valid state for account %s", strings.Join(not, ", "), c.Region.Account)
	}
	c.ids++
	command := &ssmCommand{
		id: fmt.Sprintf("00000000-0000-4000-8001-%012x", c.ids), comment: aws.ToString(in.Comment), document: *in.DocumentName,
		instances: in.InstanceIds, parameters: in.Parameters, timeout: int32(cmpOr(in.TimeoutSeconds, 3600)), execution: execution,
		requested: c.Now, visible: c.Now.Add(c.Lag), runs: map[string]*ssmRun{},
	}
	for _, id := range in.InstanceIds {
		command.runs[id] = &ssmRun{status: types.CommandInvocationStatusPending, details: "Pending", code: -1}
		c.run(command, id)
	}
	s.commands = append(s.commands, command)
	return &ssm.SendCommandOutput{Command: command.describe()}, nil
}

// status is that of all invocations together (API_Command.html).
func (k *ssmCommand) status() (types.CommandStatus, string) {
	count := map[types.CommandInvocationStatus]int{}
	for _, r := range k.runs {
		count[r.status]++
	}
	switch {
	case count[types.CommandInvocationStatusPending] == len(k.runs):
		return types.CommandStatusPending, "Pending"
	case count[types.CommandInvocationStatusPending]+count[types.CommandInvocationStatusInProgress] > 0:
		return types.CommandStatusInProgress, "InProgress"
	case count[types.CommandInvocationStatusFailed] > 0:
		return types.CommandStatusFailed, "Failed"
	case count[types.CommandInvocationStatusTimedOut] > 0:
		return types.CommandStatusTimedOut, "TimedOut"
	}
	return types.CommandStatusSuccess, "Success"
}

func (k *ssmCommand) describe() *types.Command {
	status, details := k.status()
	out := &types.Command{CommandId: aws.String(k.id), DocumentName: aws.String(k.document), InstanceIds: k.instances, Parameters: k.parameters,
		Comment: aws.String(k.comment), TimeoutSeconds: aws.Int32(k.timeout), Status: status, StatusDetails: aws.String(details),
		RequestedDateTime: aws.Time(k.requested), ExpiresAfter: aws.Time(k.requested.Add(time.Duration(k.timeout)*time.Second + k.execution)),
		TargetCount: int32(len(k.instances))}
	for _, r := range k.runs {
		if r.ended() {
			out.CompletedCount++
			if r.status == types.CommandInvocationStatusFailed {
				out.ErrorCount++
			}
			if r.details == "DeliveryTimedOut" {
				out.DeliveryTimedOutCount++
			}
		}
	}
	return out
}

// ssmCommands are the commands that listings know, newest first, selected as both listings do
// (API_CommandFilter.html).
func (c *Call) ssmCommands(id, instance *string, filters []types.CommandFilter) ([]*ssmCommand, error) {
	var out []*ssmCommand
	for _, k := range slices.Backward(ssmOf(c.Region).commands) {
		ok := !c.Now.Before(k.visible) && (id == nil || *id == k.id) && (instance == nil || slices.Contains(k.instances, *instance))
		for _, f := range filters {
			fits, err := k.fits(f)
			if err != nil {
				return nil, err
			}
			ok = ok && fits
		}
		if ok {
			out = append(out, k)
		}
	}
	return out, nil
}

func (k *ssmCommand) fits(f types.CommandFilter) (bool, error) {
	value := aws.ToString(f.Value)
	switch f.Key {
	case types.CommandFilterKeyStatus:
		status, _ := k.status()
		return string(status) == value, nil
	case types.CommandFilterKeyDocumentName:
		return k.document == value, nil
	case types.CommandFilterKeyInvokedAfter, types.CommandFilterKeyInvokedBefore:
		at, err := time.Parse(time.RFC3339, value)
		if err != nil {
			return false, fault("ValidationException", "%q is no time in ISO 8601", value)
		}
		return k.requested.Before(at) == (f.Key == types.CommandFilterKeyInvokedBefore), nil
	}
	return false, fault("InvalidFilterKey", "The specified key %s isn't valid.", f.Key)
}

// ssmPage is the page size of the listings: 50 at most.
func ssmPage(max *int32) *int32 { return aws.Int32(int32(min(50, cmpOr(max, 50)))) }
