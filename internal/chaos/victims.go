package chaos

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"time"

	"golang.org/x/sys/unix"

	"lifeboat/activities/cloud"
	"lifeboat/internal/demo/stage"
)

// victim is what a kill is aimed at.
type victim string

// The victims. Production is the server that serves; standby the one that an
// operation is bringing up.
const (
	killTemporal victim = "temporal"
	killWorker   victim = "worker"
	killPrimary  victim = "agent-primary"
	killRecovery victim = "agent-recovery"
	killHere     victim = "cloud-primary"
	killThere    victim = "cloud-recovery"
	killServing  victim = "production server"
	killStandby  victim = "standby server"
)

// The programs that can be killed.
var (
	localVictims = []victim{killTemporal, killWorker, killPrimary, killRecovery}
	awsVictims   = []victim{killTemporal, killWorker, killHere, killThere}
)

// serverPID finds the process of a server of a local site by its environment; 0 when none runs.
func serverPID(id string) int {
	mark := []byte("LIFEBOAT_SERVER_ID=" + id + "\x00")
	dirs, err := filepath.Glob("/proc/[0-9]*")
	if err != nil {
		return 0
	}
	for _, dir := range dirs {
		command, err := os.ReadFile(filepath.Join(dir, "cmdline"))
		if err != nil || !bytes.Contains(command, []byte("__numbers-server\x00")) {
			continue // gone meanwhile, or another program
		}
		environment, err := os.ReadFile(filepath.Join(dir, "environ"))
		if err == nil && bytes.Contains(append(environment, 0), mark) {
			pid, err := strconv.Atoi(filepath.Base(dir))
			if err == nil {
				return pid
			}
		}
	}
	return 0
}

// killServer kills the process of a server and waits until it is gone; false when none runs.
func killServer(ctx context.Context, id string) (bool, error) {
	pid := serverPID(id)
	if pid == 0 {
		return false, nil
	}
	err := unix.Kill(pid, unix.SIGKILL)
	if errors.Is(err, unix.ESRCH) {
		return false, nil
	}
	if err != nil {
		return false, err
	}
	return true, stage.Poll(ctx, 10*time.Second, func() (bool, error) { return serverPID(id) != pid, nil })
}

// startServer starts a server again, as its owner does who finds it down.
func startServer(ctx context.Context, p site, id string) error {
	var state cloud.Server
	err := stage.Poll(ctx, 20*time.Second, func() (bool, error) {
		var err error
		if state, err = p.Server(ctx, id); err != nil {
			return false, err
		}
		switch state.State {
		case cloud.Running:
			return serverPID(id) != 0, nil
		case cloud.Stopped, cloud.Failing:
			return false, p.StartServer(ctx, id)
		}
		return false, nil
	})
	if err != nil {
		return fmt.Errorf("start server %s again (%s, %s): %w", id, state.State, state.Message, err)
	}
	return nil
}
