package local

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net/netip"
	"os"
	"path/filepath"
	"time"

	"lifeboat/activities/cloud"
)

// superviseServer is the helper that keeps one run of a server.
func superviseServer(site cloud.Site, id string, run int) error {
	ctx := context.Background()
	p, err := Open(ctx, site, Options{})
	if err != nil {
		return err
	}
	defer p.Close() //nolint:errcheck // ends with the process
	return supervise(p.serverDir(id), run, func() (program, error) {
		l, _, err := p.loadServer(ctx, "Start", id)
		if err != nil {
			return program{}, err
		}
		if l.Wish != wishRunning || l.Run != run {
			return program{}, fmt.Errorf("it is to be %s by now", l.Wish)
		}
		runtime, err := runtimeOf(l.Launch)
		if err != nil {
			return program{}, err
		}
		prog, err := runtime.program(l)
		if err != nil {
			return program{}, err
		}
		if prog.grace, err = graceOf(l.Launch); err != nil {
			return program{}, err
		}
		return prog, p.intoNetwork(ctx, l, &prog)
	})
}

// graceOf returns how long a server may take to stop in good order.
func graceOf(settings map[string]string) (time.Duration, error) {
	if settings["stop_timeout"] == "" {
		return defaultGrace, nil
	}
	grace, err := time.ParseDuration(settings["stop_timeout"])
	if err != nil || grace <= 0 {
		return 0, fmt.Errorf("stop_timeout %q is not a duration like 30s", settings["stop_timeout"])
	}
	return grace, nil
}

// intoNetwork puts a program into the network of a server, with its address.
func (p *Provider) intoNetwork(ctx context.Context, l launch, prog *program) error {
	if l.network.Namespace == "" {
		return nil
	}
	ip, err := netip.ParseAddr(l.IP)
	if err != nil {
		return err
	}
	if err := p.ensureNetwork(ctx, l.network.ID); err != nil {
		return err
	}
	if err := setAddress(l.network.Namespace, ip, true); err != nil {
		return err
	}
	prog.enter = func() error { return enterNamespace(l.network.Namespace) }
	after := prog.after
	prog.after = func() {
		if after != nil {
			after()
		}
		err := setAddress(l.network.Namespace, ip, false)
		if _, serr := os.Stat(p.site.Directory); errors.Is(serr, fs.ErrNotExist) {
			err = deleteNamespace(l.network.Namespace) // nobody else will
		}
		if err != nil {
			fmt.Fprintln(os.Stderr, err)
		}
	}
	return nil
}

// writeUserData writes the user data of a server to a file for it.
func writeUserData(l launch) (path string, err error) {
	if l.UserData == "" {
		return "", nil
	}
	path = filepath.Join(l.dir, "user-data")
	return path, writeFile(path, []byte(l.UserData), 0o600)
}
