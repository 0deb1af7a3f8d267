package local

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"strconv"
	"strings"
	"sync"
	"time"

	"golang.org/x/sys/unix"
)

// process identifies a process for good: numbers are used again, but not with
// the same start in the same boot.
type process struct {
	PID   int    `json:"pid"`
	Start uint64 `json:"start"` // clock ticks since boot
	Boot  string `json:"boot"`
}

// identify returns the identity of a process that runs at the moment.
func identify(pid int) (process, error) {
	stat, err := readStat(pid)
	if err != nil {
		return process{}, err
	}
	return process{PID: pid, Start: stat.start, Boot: bootID()}, nil
}

// alive tells whether the process is there and not just waiting to be reaped.
func (p process) alive() bool {
	if p.PID <= 0 || p.Boot != bootID() {
		return false
	}
	stat, err := readStat(p.PID)
	return err == nil && stat.start == p.Start && !stat.ended()
}

// signal sends a signal to exactly this process; one that is gone is nil.
func (p process) signal(s unix.Signal) error {
	if p.PID <= 0 {
		return nil
	}
	fd, err := unix.PidfdOpen(p.PID, 0)
	if errors.Is(err, unix.ESRCH) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("process %d: %w", p.PID, err)
	}
	defer unix.Close(fd)
	// The descriptor is fixed to one process by now: look whether it is ours.
	if !p.alive() {
		return nil
	}
	if err := unix.PidfdSendSignal(fd, s, nil, 0); err != nil && !errors.Is(err, unix.ESRCH) {
		return fmt.Errorf("signal %s to process %d: %w", s, p.PID, err)
	}
	return nil
}

var bootID = sync.OnceValue(func() string {
	raw, err := os.ReadFile("/proc/sys/kernel/random/boot_id")
	if err != nil {
		return ""
	}
	return strings.TrimSpace(string(raw))
})

// procStat is what is needed of /proc/PID/stat.
type procStat struct {
	pid     int
	state   byte
	parent  int
	session int
	threads int
	start   uint64
}

// ended tells whether a process just waits to be reaped. Its first thread may
// have ended while others still hold files and sockets.
func (s procStat) ended() bool {
	return s.state == 'X' || (s.state == 'Z' && s.threads <= 1)
}

func readStat(pid int) (procStat, error) {
	raw, err := os.ReadFile("/proc/" + strconv.Itoa(pid) + "/stat")
	if err != nil {
		return procStat{}, err
	}
	s, err := parseStat(raw)
	if err != nil {
		return s, fmt.Errorf("process %d: %w", pid, err)
	}
	return s, nil
}

// parseStat reads a line of /proc/PID/stat. The name of the program is in
// parentheses and may itself contain blanks and parentheses.
func parseStat(raw []byte) (procStat, error) {
	open, end := bytes.IndexByte(raw, '('), bytes.LastIndexByte(raw, ')')
	if open < 1 || end < open {
		return procStat{}, errors.New("stat without a name")
	}
	fields := strings.Fields(string(raw[end+1:]))
	if len(fields) < 20 || len(fields[0]) != 1 {
		return procStat{}, errors.New("stat is too short")
	}
	s := procStat{state: fields[0][0]}
	var errs [5]error
	s.pid, errs[0] = strconv.Atoi(strings.TrimSpace(string(raw[:open])))
	s.parent, errs[1] = strconv.Atoi(fields[1])
	s.session, errs[2] = strconv.Atoi(fields[3])
	s.start, errs[3] = strconv.ParseUint(fields[19], 10, 64)
	s.threads, errs[4] = strconv.Atoi(fields[17])
	return s, errors.Join(errs[:]...)
}

// processes lists what runs, without what just waits to be reaped.
func processes() ([]procStat, error) {
	entries, err := os.ReadDir("/proc")
	if err != nil {
		return nil, err
	}
	var all []procStat
	for _, e := range entries {
		pid, err := strconv.Atoi(e.Name())
		if err != nil {
			continue
		}
		// One that ended since the listing is none of ours.
		if s, err := readStat(pid); err == nil && !s.ended() {
			all = append(all, s)
		}
	}
	return all, nil
}

// family lists the processes of a server: its first process, all of its
// session, the children of its supervisor (0 = it is gone), and all their
// descendants. The first process may be gone.
func family(first process, supervisor int) ([]process, error) {
	if first.PID <= 0 || first.Boot != bootID() {
		return nil, nil
	}
	all, err := processes()
	if err != nil {
		return nil, err
	}
	member := map[int]bool{}
	for _, s := range all {
		switch {
		case s.pid == first.PID && s.start != first.Start:
			return nil, nil // the number is another's by now, so nothing of the session was left
		case s.session == first.PID && s.start >= first.Start:
			member[s.pid] = true
		case supervisor > 0 && s.parent == supervisor:
			member[s.pid] = true
		}
	}
	for grown := true; grown; {
		grown = false
		for _, s := range all {
			if !member[s.pid] && member[s.parent] {
				member[s.pid], grown = true, true
			}
		}
	}
	var found []process
	for _, s := range all {
		if member[s.pid] {
			found = append(found, process{PID: s.pid, Start: s.start, Boot: first.Boot})
		}
	}
	return found, nil
}

// killFamily kills all processes of a server and waits until they are gone.
func killFamily(first process, supervisor int, wait time.Duration) error {
	deadline := time.Now().Add(wait)
	for pause := time.Millisecond; ; pause = min(2*pause, 50*time.Millisecond) {
		members, err := family(first, supervisor)
		if err != nil || len(members) == 0 {
			return err
		}
		for _, m := range members {
			if err := m.signal(unix.SIGKILL); err != nil {
				return err
			}
		}
		if time.Now().After(deadline) {
			return fmt.Errorf("process %d does not end although it was killed", members[0].PID)
		}
		<-time.After(pause)
	}
}
