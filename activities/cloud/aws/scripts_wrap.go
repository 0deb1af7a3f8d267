package aws

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"maps"
	"regexp"
	"slices"
	"strings"

	"lifeboat/activities/cloud"
)

const (
	// scriptSize bounds what is sent. A document of Systems Manager has at most 64 KB with its parameters
	// (https://docs.aws.amazon.com/general/latest/gr/ssm.html); the wrapper needs a part of it.
	scriptSize = 48 << 10
	// scriptOutput is how much of the end of the output is kept, as the contract says. GetCommandInvocation
	// gives the first 24,000 characters.
	scriptOutput = 16 << 10
	wrapTimeout  = "lifeboat: the time limit has passed"
	wrapBroken   = "lifeboat: cannot run the script"
)

var shellName = regexp.MustCompile(`^[A-Za-z_][A-Za-z0-9_]*$`)

// wrapScript makes the text that the agent runs: it exports the environment, writes the script to a file, runs
// that by its own interpreter, and prints the end of its output. It keeps the time limit itself, since of a command
// that the agent ended there is no output (API_GetCommandInvocation.html), and the whole group of processes has to
// end. Systems Manager replaces {{ssm:NAME}} in the text by parameters.
func wrapScript(op string, in cloud.RunScript) (string, error) {
	resource := "script for server " + in.Server
	switch {
	case strings.TrimSpace(in.Content) == "":
		return "", invalid(op, resource, "is empty", "give it a content")
	case strings.ContainsRune(in.Content, 0):
		return "", invalid(op, resource, "has a zero byte", "take it out")
	case in.Timeout < 0 || in.Timeout > scriptMax-scriptGrace:
		return "", invalid(op, resource, "its time limit is not between 0 and 48 hours", "correct it, or give none for "+scriptLimit.String())
	}
	limit := seconds(in.Timeout)
	var b strings.Builder
	b.WriteString("#!/bin/sh\n")
	for _, name := range slices.Sorted(maps.Keys(in.Env)) {
		if !shellName.MatchString(name) || strings.ContainsRune(in.Env[name], 0) {
			return "", invalid(op, resource, fmt.Sprintf("the variable %q is not valid", name), "use letters, digits and _ in its name, and no zero byte in its value")
		}
		fmt.Fprintf(&b, "export %s=%s\n", name, shellQuote(in.Env[name]))
	}
	sum := sha256.Sum256([]byte(in.Content))
	end := "LIFEBOAT_" + hex.EncodeToString(sum[:16])
	b.WriteString("lifeboat_dir=$(mktemp -d) || { echo '" + wrapBroken + "' >&2; exit 125; }\n" +
		"trap 'rm -rf \"$lifeboat_dir\"' EXIT\n" +
		"cat >\"$lifeboat_dir/script\" <<'" + end + "' || { echo '" + wrapBroken + "' >&2; exit 125; }\n")
	b.WriteString(strings.TrimSuffix(in.Content, "\n") + "\n" + end + "\n")
	limiter := fmt.Sprintf("timeout -k 5 %d ", limit)
	fmt.Fprintf(&b, "lifeboat_start=$(date +%%s)\n"+
		"if command -v timeout >/dev/null; then\n  %s%s \"$lifeboat_dir/script\" >\"$lifeboat_dir/output\" 2>&1 </dev/null\n"+
		"else\n  %s \"$lifeboat_dir/script\" >\"$lifeboat_dir/output\" 2>&1 </dev/null\nfi\n", limiter, interpreter(in.Content), interpreter(in.Content))
	fmt.Fprintf(&b, "lifeboat_code=$?\n"+
		"tail -c %d \"$lifeboat_dir/output\"\n"+
		"case $lifeboat_code in 124|137) [ $(($(date +%%s) - lifeboat_start)) -lt %d ] || echo '%s' >&2;; esac\n"+
		"exit $lifeboat_code\n", scriptOutput, limit, wrapTimeout)
	if b.Len() > scriptSize {
		return "", invalid(op, resource, fmt.Sprintf("has more than %d KiB with its environment", scriptSize>>10), "let a shorter script fetch what it needs")
	}
	return b.String(), nil
}

// interpreter is the command that a script is run by: what its first line names, as the kernel reads it, or a shell.
func interpreter(content string) string {
	line, _, _ := strings.Cut(content, "\n")
	named, ok := strings.CutPrefix(line, "#!")
	if named = strings.Trim(named, " \t\r"); !ok || named == "" {
		return "/bin/sh"
	}
	program, argument, _ := strings.Cut(strings.ReplaceAll(named, "\t", " "), " ")
	if argument = strings.TrimSpace(argument); argument == "" {
		return shellQuote(program)
	}
	return shellQuote(program) + " " + shellQuote(argument)
}

// shellQuote makes one word of a POSIX shell of any text without zero bytes.
func shellQuote(s string) string { return "'" + strings.ReplaceAll(s, "'", `'\''`) + "'" }
