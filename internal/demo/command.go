package demo

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"strings"
	"time"
)

// cli runs commands of the product as a person would, and shows them.
type cli struct {
	executable string
	env        []string
	out        *page
}

// commandError is a command that did not end well.
type commandError struct {
	command string
	said    string
	err     error
}

func (e *commandError) Error() string {
	return fmt.Sprintf("%s: %v: %s", e.command, e.err, strings.TrimSpace(e.said))
}

func (e *commandError) Unwrap() error { return e.err }

// run shows and runs one command line and decodes its JSON result into result
// (nil = not looked at). The result lines are the caller's.
func (c *cli) run(ctx context.Context, result any, args ...string) error {
	began := time.Now()
	c.out.command(shown(args))
	err := c.quiet(ctx, result, args...)
	c.out.took(time.Since(began))
	return err
}

// quiet is run without a word.
func (c *cli) quiet(ctx context.Context, result any, args ...string) error {
	cmd := exec.CommandContext(ctx, c.executable, append(args, "--output", "json")...)
	cmd.Env = c.env
	// A command that was interrupted says so itself; it is not killed at once.
	cmd.Cancel = func() error { return cmd.Process.Signal(os.Interrupt) }
	cmd.WaitDelay = 5 * time.Second
	var stdout, stderr bytes.Buffer
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	if err := cmd.Run(); err != nil {
		return &commandError{command: shown(args), said: lastLines(stderr.String(), 12), err: err}
	}
	if result == nil {
		return nil
	}
	if err := json.Unmarshal(stdout.Bytes(), result); err != nil {
		return &commandError{command: shown(args), said: stdout.String(), err: err}
	}
	return nil
}

// shown is a command line as a person would type it.
func shown(args []string) string {
	words := []string{"lifeboat"}
	for _, a := range args {
		if a == "" || strings.ContainsAny(a, " \"'[]$*") {
			a = "'" + a + "'"
		}
		words = append(words, a)
	}
	return strings.Join(words, " ")
}

func lastLines(text string, n int) string {
	lines := strings.Split(strings.TrimSpace(text), "\n")
	return strings.Join(lines[max(0, len(lines)-n):], "\n")
}

// environment of the commands: a Temporal that somebody configured for other work
// is not the one of the demo.
func environment(data string) []string {
	var env []string
	for _, v := range os.Environ() {
		if !strings.HasPrefix(v, "TEMPORAL_") && !strings.HasPrefix(v, "LIFEBOAT_DATA=") {
			env = append(env, v)
		}
	}
	return append(env, "LIFEBOAT_DATA="+data)
}
