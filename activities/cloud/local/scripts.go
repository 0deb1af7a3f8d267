package local

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"lifeboat/activities/cloud"
)

const (
	scriptBucket  = "scripts"
	kindScript    = cloud.Kind("script") // its tokens are apart from those of resources
	scriptLimit   = 10 * time.Minute     // when the caller gives none
	scriptSize    = 1 << 20
	scriptOutput  = 16 << 10
	guestFailFile = "guest-failure" // why a script could not be run within a virtual machine
)

// scriptRecord is a script as it is stored.
type scriptRecord struct {
	cloud.RunScript
	ID      string    `json:"id"`
	Created time.Time `json:"created"`
}

func (p *Provider) scriptDir(id string) string { return p.path(runDir, "scripts", id) }

// StartScript begins to run a script on a server: beside its process, in its
// network and environment, or within its virtual machine through the guest
// agent. A first line #! chooses the interpreter, otherwise it is /bin/sh. What
// the script leaves behind in the background is ended with it. The run goes on
// when the caller dies.
func (p *Provider) StartScript(ctx context.Context, in cloud.RunScript) (cloud.ScriptRun, error) {
	const op = "StartScript"
	if err := checkScript(op, in); err != nil {
		return cloud.ScriptRun{}, err
	}
	known := false
	err := p.store.view(ctx, func(t *tx) error {
		id, err := t.byToken(kindScript, in.Token)
		known = id != ""
		return err
	})
	if err != nil {
		return cloud.ScriptRun{}, err
	}
	if !known {
		if err := p.canRunScript(ctx, op, in.Server); err != nil {
			return cloud.ScriptRun{}, err
		}
	}
	var id string
	err = p.store.update(ctx, func(t *tx) error {
		var old bool
		if id, old, err = t.claim(op, kindScript, in.Token, in); err != nil || old {
			return err
		}
		if err := p.pruneScripts(t); err != nil {
			return err
		}
		return t.put(scriptBucket, id, scriptRecord{RunScript: in, ID: id, Created: time.Now().UTC()})
	})
	if err != nil {
		return cloud.ScriptRun{}, err
	}
	return p.ScriptRun(ctx, id)
}

// checkScript refuses what can never be run.
func checkScript(op string, in cloud.RunScript) error {
	resource := "script for server " + in.Server
	switch {
	case strings.TrimSpace(in.Content) == "":
		return invalid(op, resource, "is empty", "give it a content")
	case len(in.Content) > scriptSize || strings.ContainsRune(in.Content, 0):
		return invalid(op, resource, "has more than 1 MiB, or a zero byte", "let a shorter script fetch what it needs")
	case in.Timeout < 0:
		return invalid(op, resource, "has a negative time limit", "give a positive one, or none for "+scriptLimit.String())
	}
	for name, value := range in.Env {
		if name == "" || strings.ContainsAny(name, "=\x00") || strings.ContainsRune(value, 0) {
			return invalid(op, resource, fmt.Sprintf("the variable %q is not valid", name), "correct its name")
		}
	}
	return nil
}

// canRunScript tells whether a server can run scripts at the moment.
func (p *Provider) canRunScript(ctx context.Context, op, server string) error {
	s, err := p.settle(ctx, op, server)
	if err != nil {
		return err
	}
	resource := "server " + cmp.Or(s.Name, server)
	if s.State != cloud.Running {
		code := cloud.NotReady
		if s.State == cloud.Stopped || s.State == cloud.Failing {
			code = cloud.Conflict
		}
		return cloud.E(code, op, resource, "is "+string(s.State)+", scripts need a running server", "start it, or wait until it runs", nil)
	}
	if s.Launch["runtime"] != "qemu" {
		return nil
	}
	ctx, cancel := context.WithTimeout(ctx, 2*agentReply)
	defer cancel()
	a, err := connectAgent(ctx, p.serverDir(server))
	if err != nil {
		return cloud.E(cloud.NotReady, op, resource, "its guest agent does not answer (yet)",
			"wait until it has booted; when it has, install qemu-guest-agent in it and start that", err)
	}
	a.close()
	return nil
}

// ScriptRun tells how far a script is.
func (p *Provider) ScriptRun(ctx context.Context, id string) (cloud.ScriptRun, error) {
	const op = "ScriptRun"
	run := cloud.ScriptRun{ID: id, State: cloud.Running}
	err := p.store.view(ctx, func(t *tx) error {
		raw, err := t.raw(scriptBucket, id)
		if err == nil && raw == nil {
			err = notFound(op, kindScript, id)
		}
		return err
	})
	if err != nil {
		return run, err
	}
	dir := p.scriptDir(id)
	o, err := observeRun(dir, 1)
	if err != nil {
		return run, err
	}
	switch o.phase {
	case phaseIdle:
		return run, p.detach(dir, roleScript, id)
	case phaseLost:
		run.State, run.Message = cloud.Failing, "the script "+lostText
		if err := killFamily(o.run.Child, 0, killWait); err != nil {
			return run, err
		}
	case phaseEnded:
		endOfScript(&run, o.exit)
		failure, err := tail(filepath.Join(dir, guestFailFile), 2048)
		if err != nil {
			return run, err
		}
		if failure != "" && run.State == cloud.Available {
			run.State, run.Message = cloud.Failing, "the script could not be run in the guest: "+failure
		}
	}
	run.Output, err = tail(filepath.Join(dir, outputFile), scriptOutput)
	return run, err
}

// endOfScript says how a script ended.
func endOfScript(run *cloud.ScriptRun, exit exitInfo) {
	run.State, run.ExitCode = cloud.Available, exit.Code
	switch {
	case exit.Error != "" || exit.TimedOut:
		run.State, run.ExitCode, run.Message = cloud.Failing, -1, "the script "+exit.text()
	case exit.Asked:
		run.State, run.ExitCode, run.Message = cloud.Failing, -1, "the script was ended together with its server"
	case exit.Signal != "":
		run.ExitCode, run.Message = 128+int(unix.SignalNum(exit.Signal)), "the script "+exit.text()
	}
}

// endScripts ends the scripts of a server that is terminated.
func (p *Provider) endScripts(ctx context.Context, server string) error {
	var ids []string
	err := p.store.view(ctx, func(t *tx) error {
		return t.each(scriptBucket, func(id string, raw []byte) error {
			var r scriptRecord
			err := t.decode(scriptBucket, id, raw, &r)
			if err == nil && r.Server == server {
				ids = append(ids, id)
			}
			return err
		})
	})
	for _, id := range ids {
		o, oerr := observeRun(p.scriptDir(id), 1)
		if oerr == nil && (o.phase == phaseStarting || o.phase == phaseRunning) {
			oerr = o.ask(true)
		}
		err = errors.Join(err, oerr)
	}
	return err
}

// pruneScripts forgets scripts whose time has passed, with their output.
func (p *Provider) pruneScripts(t *tx) error {
	return t.each(scriptBucket, func(id string, raw []byte) error {
		var r scriptRecord
		if err := t.decode(scriptBucket, id, raw, &r); err != nil || time.Since(r.Created) < tokenLife {
			return err
		}
		if o, err := observeRun(p.scriptDir(id), 1); err != nil || o.phase == phaseStarting || o.phase == phaseRunning {
			return err
		}
		if err := os.RemoveAll(p.scriptDir(id)); err != nil {
			return osError("StartScript", p.scriptDir(id), err)
		}
		if err := t.retire(kindScript, r.Token); err != nil {
			return err
		}
		return t.del(scriptBucket, id)
	})
}

// limit is how long the script may take.
func (r scriptRecord) limit() time.Duration { return cmp.Or(r.Timeout, scriptLimit) }
