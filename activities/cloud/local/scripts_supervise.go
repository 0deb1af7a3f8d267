package local

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"lifeboat/activities/cloud"
)

// superviseScript is the helper that keeps the run of a script.
func superviseScript(site cloud.Site, id string) error {
	ctx := context.Background()
	p, err := Open(ctx, site, Options{})
	if err != nil {
		return err
	}
	defer p.Close() //nolint:errcheck // ends with the process
	dir := p.scriptDir(id)
	return supervise(dir, 1, func() (program, error) {
		r, l, err := p.loadScript(ctx, id)
		if err != nil {
			return program{}, err
		}
		prog := program{dir: dir, limit: r.limit(), grace: defaultGrace}
		if l.Launch["runtime"] == "qemu" {
			guest, err := p.guestHelper(id)
			if err != nil {
				return program{}, err
			}
			prog.path, prog.args, prog.env = guest[0], guest[1:], os.Environ()
			return prog, nil
		}
		file := filepath.Join(dir, "script")
		if err := writeFile(file, []byte(r.Content), 0o700); err != nil {
			return program{}, err
		}
		prog.path, prog.args = file, []string{file}
		if !strings.HasPrefix(r.Content, "#!") {
			prog.path, prog.args = "/bin/sh", []string{"/bin/sh", file}
		}
		userData, err := writeUserData(l)
		if err != nil {
			return program{}, err
		}
		prog.env = append(serverEnv(l, userData), variables(r.Env)...)
		if l.network.Namespace != "" {
			prog.enter = func() error { return enterNamespace(l.network.Namespace) }
		}
		return prog, nil
	})
}

// guestHelper returns the program and the arguments that run a script in a guest.
func (p *Provider) guestHelper(id string) ([]string, error) {
	p.options.Executable = "/proc/self/exe" // this is a helper: the program knows them
	cmd, err := p.helper(roleGuest, id)
	if err != nil {
		return nil, err
	}
	return append([]string{cmd.Path}, cmd.Args...), nil
}

// runGuestScript runs a script within a virtual machine and ends with its exit
// status. It is the program that superviseScript keeps.
func runGuestScript(site cloud.Site, id string) error {
	ctx := context.Background()
	p, err := Open(ctx, site, Options{})
	if err != nil {
		return err
	}
	defer p.Close() //nolint:errcheck // ends with the process
	code, err := p.guestScript(ctx, id)
	if err != nil {
		return errors.Join(err, writeFile(filepath.Join(p.scriptDir(id), guestFailFile), []byte(err.Error()), 0o600))
	}
	os.Exit(code)
	return nil
}

func (p *Provider) guestScript(ctx context.Context, id string) (int, error) {
	r, l, err := p.loadScript(ctx, id)
	if err != nil {
		return 0, err
	}
	env := []string{"PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"}
	for _, v := range serverEnv(l, "") {
		// The paths of disks and programs are those of this machine.
		if strings.HasPrefix(v, "LIFEBOAT_") && !strings.HasPrefix(v, "LIFEBOAT_DISK") {
			env = append(env, v)
		}
	}
	return runInGuest(ctx, l.dir, r.Content, append(env, variables(r.Env)...), r.limit(), os.Stdout)
}

// loadScript reads a script and its server.
func (p *Provider) loadScript(ctx context.Context, id string) (r scriptRecord, l launch, err error) {
	err = p.store.view(ctx, func(t *tx) error {
		found, err := t.get(scriptBucket, id, &r)
		if err == nil && !found {
			err = notFound("ScriptRun", kindScript, id)
		}
		return err
	})
	if err != nil {
		return r, l, err
	}
	l, _, err = p.loadServer(ctx, "ScriptRun", r.Server)
	return r, l, err
}

// variables turns a map into the form of an environment, in a fixed order.
func variables(env map[string]string) []string {
	var all []string
	for name, value := range env {
		all = append(all, fmt.Sprintf("%s=%s", name, value))
	}
	slices.Sort(all)
	return all
}
