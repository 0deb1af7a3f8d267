package temporalserver

import (
	"bufio"
	"fmt"
	"os"
	"path/filepath"
	"strings"
)

// listens is nil when the process itself listens on a TCP port: on one that was
// taken meanwhile, another server may answer in its place for a while, also one
// of the same kind.
func (p *process) listens(port int) error {
	pid := p.cmd.Process.Pid
	inodes, err := socketsOf(pid)
	if err != nil {
		return err
	}
	const listening = "0A"
	suffix := fmt.Sprintf(":%04X", port)
	for _, table := range []string{"tcp", "tcp6"} {
		found, err := inTable(fmt.Sprintf("/proc/%d/net/%s", pid, table), func(f []string) bool {
			return strings.HasSuffix(f[1], suffix) && f[3] == listening && inodes[f[9]]
		})
		if found || err != nil {
			return err
		}
	}
	return fmt.Errorf("the server does not listen on port %d yet", port)
}

// inTable tells whether a line of a kernel's table of sockets is as wanted. A table
// that is not there (no IPv6) has no lines.
func inTable(path string, wanted func(fields []string) bool) (bool, error) {
	file, err := os.Open(path)
	if os.IsNotExist(err) {
		return false, nil
	}
	if err != nil {
		return false, err
	}
	defer file.Close()
	lines := bufio.NewScanner(file)
	for lines.Scan() {
		if f := strings.Fields(lines.Text()); len(f) > 9 && wanted(f) {
			return true, nil
		}
	}
	return false, lines.Err()
}

// socketsOf gives the inodes of the sockets of a process.
func socketsOf(pid int) (map[string]bool, error) {
	files, err := filepath.Glob(fmt.Sprintf("/proc/%d/fd/*", pid))
	if err != nil {
		return nil, err
	}
	inodes := map[string]bool{}
	for _, file := range files {
		// A file that was closed meanwhile is no socket to look for.
		if to, err := os.Readlink(file); err == nil && strings.HasPrefix(to, "socket:[") {
			inodes[strings.Trim(strings.TrimPrefix(to, "socket:"), "[]")] = true
		}
	}
	return inodes, nil
}
