package local

import (
	"fmt"
	"path/filepath"
	"time"

	"golang.org/x/sys/unix"
)

// Files in the directory of a supervised program (a server or a script). A
// directory of its own keeps what is known about it when everybody is dead.
const (
	lockFile   = "lock"       // held by the supervisor as long as it lives
	runFile    = "run.json"   // runInfo: written before the program is started
	exitFile   = "exit.json"  // exitInfo: written after it ended
	outputFile = "output.log" // its standard output and error
	pauseFile  = "pause.json" // pauseInfo: written before it is held still
	pauseLock  = "pause.lock" // held by the helper that holds it still
)

// runInfo says who runs. Runs of one directory are numbered; each number is
// started at most once, however many helpers try.
type runInfo struct {
	Run        int     `json:"run"`
	Supervisor process `json:"supervisor"`
	Child      process `json:"child"`             // the program; zero until it runs
	Machine    string  `json:"machine,omitempty"` // qemu: its run state, "running" when all is well
}

// exitInfo says how a run ended.
type exitInfo struct {
	Run      int       `json:"run"`
	Error    string    `json:"error,omitempty"` // why it could not be started
	Code     int       `json:"code"`
	Signal   string    `json:"signal,omitempty"`
	Asked    bool      `json:"asked,omitempty"`     // somebody asked it to stop
	TimedOut bool      `json:"timed_out,omitempty"` // it ran over its limit
	Time     time.Time `json:"time"`
}

// text says in words how a run ended by itself.
func (e exitInfo) text() string {
	switch {
	case e.Error != "":
		return "could not be started: " + e.Error
	case e.TimedOut:
		return "ran over its time limit and was killed"
	case e.Signal != "":
		return "was ended by signal " + e.Signal
	}
	return fmt.Sprintf("ended by itself with exit status %d", e.Code)
}

// phase is where a run is, as its files and locks show.
type phase int

const (
	phaseIdle     phase = iota // not started: the helper is still to be started
	phaseStarting              // a supervisor is there
	phaseRunning               // the program runs
	phaseEnded                 // it ended, and exitInfo says how
	phaseLost                  // its supervisor was killed, or the machine was restarted
)

// observation is what the files of a run show.
type observation struct {
	phase phase
	run   runInfo
	exit  exitInfo
}

// observeRun looks at one run. Nothing is changed, and it needs no store.
func observeRun(dir string, number int) (o observation, err error) {
	lock := filepath.Join(dir, lockFile)
	for {
		held, err := isLocked(lock)
		if err != nil {
			return o, err
		}
		o = observation{}
		if _, err := readJSON(filepath.Join(dir, runFile), &o.run); err != nil {
			return o, err
		}
		// Read after the lock: what a supervisor wrote is there before it ends.
		if _, err := readJSON(filepath.Join(dir, exitFile), &o.exit); err != nil {
			return o, err
		}
		switch {
		case held && o.run.Run == number && o.run.Child.PID != 0:
			o.phase = phaseRunning
		case held:
			o.phase = phaseStarting
		case o.exit.Run == number:
			o.phase = phaseEnded
		case o.run.Run == number:
			// Lost, unless a supervisor came or went between the looks.
			again, err := isLocked(lock)
			if err != nil {
				return o, err
			}
			var exit exitInfo
			if _, err := readJSON(filepath.Join(dir, exitFile), &exit); err != nil {
				return o, err
			}
			if again || exit.Run == number {
				continue
			}
			o.phase = phaseLost
		}
		return o, nil
	}
}

// ask tells the supervisor of a run to end it: in good order, or by force.
// Asking again is fine; a run that is gone is nil.
func (o observation) ask(force bool) error {
	if force {
		return o.run.Supervisor.signal(unix.SIGUSR1)
	}
	return o.run.Supervisor.signal(unix.SIGTERM)
}

// lostText is what is known when the supervisor is gone without a word.
const lostText = "was lost: it was killed together with its supervisor, or the machine was restarted"
