package local

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"

	"lifeboat/activities/cloud"
)

// helperArgument is the hidden first argument with which a program that uses
// this package starts itself again as a helper.
const helperArgument = "local-helper"

// Roles of helpers, the second argument. The next are the name and the
// directory of the site, then what the role needs.
const (
	roleServer = "server" // ID RUN: keeps one run of a server
	roleScript = "script" // ID: keeps one run of a script
	roleGuest  = "guest"  // ID: runs a script within a virtual machine
	roleHold   = "hold"   // ID MAX: holds a server still while its standard input is open
	roleDaemon = "daemon" // forwards public addresses and answers DNS
)

// helpersReady tells that this program has called RunHelper: only then is it
// safe to start it again with helperArgument.
var helpersReady atomic.Bool

// RunHelper must be the first call in main (and TestMain) of every program that
// opens local sites. Servers, forwarders and DNS of a local site are processes
// that outlive the program, and are this same program started again: in such a
// process RunHelper does the helper's work and never returns.
func RunHelper() {
	if len(os.Args) < 2 || os.Args[1] != helperArgument {
		helpersReady.Store(true)
		return
	}
	if err := runHelper(os.Args[2:]); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	os.Exit(0)
}

func runHelper(args []string) error {
	if len(args) < 3 {
		return fmt.Errorf("usage: %s ROLE SITE DIRECTORY …", helperArgument)
	}
	site := cloud.Site{Name: args[1], Directory: args[2], Provider: "local"}
	rest := args[3:]
	// A helper that comes late must not make a site anew that was destroyed.
	if _, err := os.Stat(filepath.Join(site.Directory, stateName+".db")); err != nil {
		return fmt.Errorf("site %s: %w", site.Name, err)
	}
	switch {
	case args[0] == roleServer && len(rest) == 2:
		run, err := strconv.Atoi(rest[1])
		if err != nil {
			return fmt.Errorf("run %q: %w", rest[1], err)
		}
		return superviseServer(site, rest[0], run)
	case args[0] == roleScript && len(rest) == 1:
		return superviseScript(site, rest[0])
	case args[0] == roleGuest && len(rest) == 1:
		return runGuestScript(site, rest[0])
	case args[0] == roleHold && len(rest) == 2:
		return holdServer(site, rest[0], rest[1])
	case args[0] == roleDaemon && len(rest) == 0:
		return runDaemon(site)
	}
	return fmt.Errorf("no such helper: %q", args)
}

// helper prepares the command for a helper of this site.
func (p *Provider) helper(role string, args ...string) (*exec.Cmd, error) {
	program := p.options.Executable
	if program == "" {
		if !helpersReady.Load() {
			return nil, cloud.E(cloud.Unsupported, "Helper", "site "+p.site.Name,
				"this program cannot start the helpers of a local site", "call local.RunHelper first in main", nil)
		}
		// Unlike its path, this stays right when the file is replaced.
		program = "/proc/self/exe"
	}
	cmd := exec.Command(program, append([]string{helperArgument, role, p.site.Name, p.site.Directory}, args...)...)
	if exe, err := os.Executable(); err == nil && program == "/proc/self/exe" {
		cmd.Args[0] = exe // what ps shows
	}
	cmd.Dir = "/"
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
	return cmd, nil
}

// helpers of this process by the directory of what they keep and their
// arguments. Whoever polls while one is on its way need not start another: it
// would only end at once.
var helpers struct {
	sync.Mutex
	running map[string]bool
}

// detach starts a helper that outlives this process, unless the same one that
// this process started for dir is still there. What it says goes to a log in dir,
// which is made when it is missing.
func (p *Provider) detach(dir, role string, args ...string) error {
	cmd, err := p.helper(role, args...)
	if err != nil {
		return err
	}
	helpers.Lock()
	defer helpers.Unlock()
	key := strings.Join(append([]string{dir, role}, args...), "\x00")
	if helpers.running[key] {
		return nil
	}
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return osError("Helper", dir, err)
	}
	path := filepath.Join(dir, "helper.log")
	log, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_APPEND, 0o600)
	if err != nil {
		return osError("Helper", path, err)
	}
	defer log.Close()
	cmd.Stdout, cmd.Stderr = log, log
	if err := cmd.Start(); err != nil {
		return osError("Helper", cmd.Path, err)
	}
	if helpers.running == nil {
		helpers.running = map[string]bool{}
	}
	helpers.running[key] = true
	go func() {
		cmd.Wait() //nolint:errcheck // its files say how it ended
		helpers.Lock()
		defer helpers.Unlock()
		delete(helpers.running, key)
	}()
	return nil
}

// helpersLeft counts the helpers of the site that this process started.
func (p *Provider) helpersLeft() (left int) {
	helpers.Lock()
	defer helpers.Unlock()
	for key := range helpers.running {
		if strings.HasPrefix(key, p.path(runDir)+string(filepath.Separator)) {
			left++
		}
	}
	return left
}
