package local

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"strings"

	"lifeboat/activities/cloud"
)

// processRuntime runs a server as an ordinary process of this machine, in the
// network of the server. Settings: command, dir, stop_timeout.
type processRuntime struct{}

func (processRuntime) check(op, resource string, in cloud.LaunchServer) error {
	if _, err := parseCommand(in.Launch["command"]); err != nil {
		return invalid(op, resource, "launch setting command: "+err.Error(), `write it as a JSON list, like ["/usr/bin/server","--verbose"], or as a line`)
	}
	if _, err := graceOf(in.Launch); err != nil {
		return invalid(op, resource, "launch setting "+err.Error(), "write it like 30s")
	}
	return nil
}

func (processRuntime) program(l launch) (program, error) {
	args, err := parseCommand(l.Launch["command"])
	if err != nil {
		return program{}, err
	}
	userData, err := writeUserData(l)
	if err != nil {
		return program{}, err
	}
	dir := l.Launch["dir"]
	if dir == "" {
		dir = l.dir
	}
	return program{path: args[0], args: args, dir: dir, env: serverEnv(l, userData)}, nil
}

// serverEnv is what a server and its scripts are told about themselves. Of the
// environment of whoever started them they get only what programs need to run.
func serverEnv(l launch, userData string) []string {
	var env []string
	for _, name := range []string{"PATH", "HOME", "USER", "LANG", "LC_ALL", "TZ", "TMPDIR"} {
		if value, found := os.LookupEnv(name); found {
			env = append(env, name+"="+value)
		}
	}
	ports := make([]string, len(l.Ports))
	for i, port := range l.Ports {
		ports[i] = fmt.Sprint(port)
	}
	env = append(env, "LIFEBOAT_SERVER="+l.Name, "LIFEBOAT_SERVER_ID="+l.ID, "LIFEBOAT_ADDRESS="+l.IP, "LIFEBOAT_PORTS="+strings.Join(ports, ","))
	if userData != "" {
		env = append(env, "LIFEBOAT_USER_DATA="+userData)
	}
	disks := make([]string, len(l.disks))
	for i, d := range l.disks {
		disks[i] = d.Name + "=" + d.Path
		env = append(env, "LIFEBOAT_DISK_"+envName(d.Name)+"="+d.Path)
	}
	return append(env, "LIFEBOAT_DISKS="+strings.Join(disks, ","))
}

// envName turns the name of a disk into a part of the name of a variable.
func envName(name string) string {
	return strings.Map(func(r rune) rune {
		switch {
		case r >= 'a' && r <= 'z':
			return r - 'a' + 'A'
		case r >= 'A' && r <= 'Z', r >= '0' && r <= '9':
			return r
		}
		return '_'
	}, name)
}

// parseCommand reads a command: a JSON list of strings, or a line whose words
// may be quoted as in a shell. No shell runs and nothing is replaced.
func parseCommand(command string) ([]string, error) {
	var args []string
	if strings.HasPrefix(strings.TrimSpace(command), "[") {
		if err := json.Unmarshal([]byte(command), &args); err != nil {
			return nil, fmt.Errorf("is not a JSON list of strings: %w", err)
		}
	} else {
		var err error
		if args, err = splitWords(command); err != nil {
			return nil, err
		}
	}
	if len(args) == 0 || args[0] == "" {
		return nil, errors.New("names no program")
	}
	for _, a := range args {
		if strings.ContainsRune(a, 0) {
			return nil, errors.New("contains a zero byte")
		}
	}
	return args, nil
}

// splitWords splits a line at blanks outside of quotes.
func splitWords(line string) ([]string, error) {
	var words []string
	var word strings.Builder
	var quote rune
	inWord, escaped := false, false
	for _, r := range line {
		switch {
		case escaped:
			word.WriteRune(r)
			escaped = false
		case r == '\\' && quote != '\'':
			inWord, escaped = true, true
		case quote != 0 && r == quote:
			quote = 0
		case quote != 0:
			word.WriteRune(r)
		case r == '\'' || r == '"':
			inWord, quote = true, r
		case r == ' ' || r == '\t' || r == '\n':
			if inWord {
				words = append(words, word.String())
				word.Reset()
			}
			inWord = false
		default:
			inWord = true
			word.WriteRune(r)
		}
	}
	if quote != 0 || escaped {
		return nil, errors.New("ends within a quotation")
	}
	if inWord {
		words = append(words, word.String())
	}
	return words, nil
}
