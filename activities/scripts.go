package activities

import (
	"context"
	"strings"
	"time"

	"lifeboat/activities/cloud"
)

// newestWrite begins the line by which a script reports what it found.
const newestWrite = "LIFEBOAT_NEWEST_WRITE="

// RunScript runs a script on a server to its end. Its exit status is part of the
// result; one that could not be run to its end is the error ScriptFailed.
func (c *Cloud) RunScript(ctx context.Context, in RunScriptInput) (ScriptResult, error) {
	return run(ctx, func(ctx context.Context) (ScriptResult, error) {
		scripts, err := capability[cloud.Scripts](ctx, c, in.Scope.Site, "scripts")
		if err != nil {
			return ScriptResult{}, err
		}
		r, err := scripts.StartScript(ctx, cloud.RunScript{Token: clientToken("script", in.Scope, in.Step, in.ServerID, 0),
			Server: in.ServerID, Content: in.Content, Env: in.Env, Timeout: in.Timeout})
		if cloud.CodeOf(err) == cloud.Conflict {
			// The server does not run, and will not by itself: somebody has to decide.
			_, message, _ := Explain(Err(err))
			return ScriptResult{}, fatal(ScriptFailed, "script on "+in.ServerID, message, "see why the server ended; start it and retry, or skip the step")
		}
		if err != nil {
			return ScriptResult{}, err
		}
		var missing stopwatch
		err = c.Timing.until(ctx, func() (bool, error) {
			if r.State == cloud.Available || r.State == cloud.Failing {
				return true, nil
			}
			note(ctx, "the script is running")
			now, err := scripts.ScriptRun(ctx, r.ID)
			switch {
			case err == nil:
				r = now
				missing.reset()
			case cloud.IsNotFound(err) && missing.running() <= c.Timing.Visible:
				err = nil // it was sent a moment ago
			}
			return false, err
		})
		if err != nil {
			return ScriptResult{}, err
		}
		if r.State == cloud.Failing {
			return ScriptResult{}, fatal(ScriptFailed, "script on "+in.ServerID, r.Message+lastOutput(r.Output), "correct the script or its time limit, then retry or skip the step")
		}
		return ScriptResult{ExitCode: r.ExitCode, Output: r.Output, NewestWrite: newestWriteIn(r.Output)}, nil
	})
}

func lastOutput(output string) string {
	const most = 300
	output = strings.TrimSpace(output)
	if output == "" {
		return ""
	}
	if len(output) > most {
		output = "…" + strings.ToValidUTF8(output[len(output)-most:], "")
	}
	return "; its last output: " + output
}

// newestWriteIn finds the last line that reports the newest application write.
func newestWriteIn(output string) *time.Time {
	var newest *time.Time
	for line := range strings.Lines(output) {
		value, ok := strings.CutPrefix(strings.TrimSpace(line), newestWrite)
		if !ok {
			continue
		}
		if t, err := time.Parse(time.RFC3339Nano, value); err == nil {
			t = t.UTC()
			newest = &t
		}
	}
	return newest
}
