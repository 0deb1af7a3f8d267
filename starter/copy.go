package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"runtime/debug"
	"time"

	"github.com/spf13/cobra"

	"lifeboat/replication/block"
	"lifeboat/replication/delta"
	"lifeboat/replication/volume"
	"lifeboat/workflows/plan"
)

const copyLong = `Copy makes a file or block device equal to another one, here or at a host where
` + "`lifeboat copy receive`" + ` runs, without Temporal. It reads the source, sends what
differs, and ends when all of it is durable at the target and proved to be equal by
one root over both.

With --state DIR it remembers what the target has. The next copy with the same DIR
sends only what changed, and one that was broken off goes on where it was.

DST is a path, or HOST:PORT. A path with a colon is written with a slash (./a:1), as
are sources named like a verb (./key).`

// copyFlags are the flags of `copy`.
type copyFlags struct {
	linkFlags
	state      string
	compress   string
	changes    string
	since      string
	bandwidth  string
	ioPriority string
	lanes      int
	retry      time.Duration
	json       bool
}

func newCopyCommand(a *app) *cobra.Command {
	var f copyFlags
	cmd := &cobra.Command{
		Use: "copy SRC DST", Short: "Copy a volume, then only what changed", Long: copyLong,
		Example: "  lifeboat copy /dev/vg/db /backup/db.img --state ~/db.state     # local; again later: a delta\n" +
			"  lifeboat copy key ~/.config/lifeboat/copy.key                  # at both ends: prints a fingerprint\n" +
			"  lifeboat copy receive /dev/vg/db --listen :7480 --peer sha256:…\n" +
			"  lifeboat copy /dev/vg/db standby:7480 --peer sha256:… --state /var/lib/db.state",
		Args: cobra.ExactArgs(2),
	}
	cmd.AddCommand(newCopyReceiveCommand(a), newCopyKeyCommand(a))
	f.add(cmd)
	flags := cmd.Flags()
	flags.StringVar(&f.state, "state", "", "directory that remembers what the target has")
	flags.StringVar(&f.compress, "compress", string(delta.CompressAuto), "pack what is sent: auto (where that is faster), always or never")
	flags.StringVar(&f.changes, "changes", "", "file of lines OFFSET LENGTH, in bytes: only these ranges may have changed since --since")
	flags.StringVar(&f.since, "since", "", "root that the volume had before --changes, as the copy then printed it")
	flags.StringVar(&f.bandwidth, "bandwidth", "", "most that is sent a second, e.g. 50MiB/s, or by day and time: \"mon-fri 08:00-18:00 20MiB/s, else unlimited\"")
	flags.StringVar(&f.ioPriority, "io-priority", string(delta.IONormal), "of reading the source: normal, low or idle, where the disk's scheduler knows it")
	flags.IntVar(&f.lanes, "lanes", 0, "connections that read and send at once (default: by the link)")
	flags.DurationVar(&f.retry, "retry", time.Minute, "how long to try again when the receiver cannot be reached")
	flags.BoolVar(&f.json, "json", false, "print the result as one line of JSON")
	completeValues(cmd, "io-priority", string(delta.IONormal), string(delta.IOLow), string(delta.IOIdle))
	completeValues(cmd, "compress", string(delta.CompressAuto), string(delta.CompressAlways), string(delta.CompressNever))
	return a.runs(cmd, func(ctx context.Context, args []string) error { return a.copyVolume(ctx, &f, args[0], args[1]) })
}

// copyVolume is the command once its line was read.
func (a *app) copyVolume(ctx context.Context, f *copyFlags, source, target string) error {
	boundCopyMemory()
	c, err := f.config(source)
	if err != nil {
		return err
	}
	c.Notice = func(s string) { a.say("lifeboat: %s", s) }
	way, err := f.toReceiver(source, target)
	if err != nil {
		return err
	}
	c.Dial, c.Proof = way.dial, way.proof
	copying, stop := context.WithCancel(ctx)
	defer stop()
	if c.Throttle, err = f.throttle(copying); err != nil {
		return err
	}
	shown := func() {}
	if !f.json {
		shown = a.startProgress(&c, way)
	}
	began := time.Now()
	res, err := delta.Send(ctx, c)
	shown()
	if closed := way.close(); err == nil {
		err = closed
	}
	if err != nil {
		return copyError(ctx, f.state, err)
	}
	return a.printCopy(f.json, newCopyResult(res, c.Meter.Read(), time.Since(began)))
}

// config checks the flags.
func (f *copyFlags) config(source string) (c delta.SendConfig, err error) {
	c = delta.SendConfig{Path: source, State: f.state, Lanes: f.lanes, Retry: f.retry, Since: f.since, Meter: new(delta.Meter)}
	switch c.Compress = delta.Compression(f.compress); c.Compress {
	case delta.CompressAuto, delta.CompressAlways, delta.CompressNever:
	default:
		return c, usagef("--compress %q: no such choice; use auto, always or never", f.compress)
	}
	if f.lanes < 0 || f.lanes > delta.MaxLanes {
		return c, usagef("--lanes %d: there can be 1 to %d", f.lanes, delta.MaxLanes)
	}
	if f.retry < 0 {
		return c, usagef("--retry %s: a time cannot be negative", f.retry)
	}
	switch c.IOPriority = delta.IOPriority(f.ioPriority); c.IOPriority {
	case delta.IONormal, delta.IOLow, delta.IOIdle:
	default:
		return c, usagef("--io-priority %q: no such choice; use normal, low or idle", f.ioPriority)
	}
	if (f.changes == "") != (f.since == "") {
		return c, usagef("--changes and --since go together: a list of changes counts from the root that the volume had then")
	}
	if f.changes == "" {
		return c, nil
	}
	if _, _, err := block.ParseRoot(f.since); err != nil {
		return c, usagef("--since: %v", err)
	}
	if f.state == "" {
		return c, usagef("--changes needs --state: without it nobody knows what the target had")
	}
	c.Changes, err = readChanges(f.changes)
	return c, err
}

// throttle reads --bandwidth; a calendar is followed until the context ends.
func (f *copyFlags) throttle(ctx context.Context) (*delta.Throttle, error) {
	if f.bandwidth == "" {
		return nil, nil
	}
	calendar, err := parseBandwidth(f.bandwidth)
	if err != nil {
		return nil, err
	}
	t := delta.NewThrottle(calendar.LimitAt(time.Now()))
	if len(calendar.Rules) > 0 {
		go t.Follow(ctx, calendar)
	}
	return t, nil
}

// parseBandwidth reads what stands after --bandwidth: a rate, or rates by day and time.
func parseBandwidth(text string) (*delta.Calendar, error) {
	calendar, err := delta.ParseCalendar(text, func(s string) (int64, error) {
		n, err := plan.ParseSize(s)
		return int64(n), err
	})
	if err != nil {
		return nil, usagef("--bandwidth: %v", err)
	}
	return calendar, nil
}

// saysHowToGoOn tells an interruption that is explained from all others.
func saysHowToGoOn(err error) bool {
	var known *statusError
	return errors.As(err, &known) && known.status == statusInterrupted
}

// copyError says what a person does about a copy that failed.
func copyError(ctx context.Context, state string, err error) error {
	if ctx.Err() != nil && !errors.Is(ctx.Err(), context.DeadlineExceeded) {
		mend := "run the same command again; --state DIR would let it go on where it was"
		if state != "" {
			mend = "run the same command again and it goes on where it was"
		}
		return &statusError{status: statusInterrupted, message: "interrupted; " + mend, err: err}
	}
	return err
}

// copyMemory is what the heap of one end may grow to before garbage is collected at once: both
// ends together are to stay within 64 MiB, and 12 of each are the program.
const copyMemory = 18 << 20

// boundCopyMemory tells the collector what a copy is: a process that lives for a moment and has few
// things on its heap. With the default of 100 it ran two or three times in the first 50 ms, on the
// cores that copy: a sixth of the time of a small pass.
func boundCopyMemory() {
	debug.SetMemoryLimit(copyMemory)
	debug.SetGCPercent(400)
}

// copyResult is what `copy -o json` and `copy --json` print. Counts are bytes.
type copyResult struct {
	Root    string `json:"root"`
	Scanned int64  `json:"scanned"`
	Changed int64  `json:"changed"`
	Sent    int64  `json:"sent"`
	Skipped int64  `json:"skipped"`
	// Seconds from the start of the copy to its proof.
	Seconds float64 `json:"seconds"`
	Tracked bool    `json:"tracked"`
	Resumed bool    `json:"resumed"`
	// SourceChanged: it was written to during the copy.
	SourceChanged bool `json:"source_changed"`
}

func newCopyResult(res delta.SendResult, n delta.Counters, took time.Duration) copyResult {
	return copyResult{
		Root: res.Root, Scanned: n.Scanned, Changed: n.Changed, Sent: n.Sent, Skipped: n.Skipped,
		Seconds: took.Seconds(), Tracked: res.Tracked, Resumed: res.Resumed, SourceChanged: res.Stirred,
	}
}

func (a *app) printCopy(line bool, r copyResult) error {
	if line {
		raw, err := json.Marshal(r)
		if err != nil {
			return fmt.Errorf("write the result: %w", err)
		}
		_, err = a.Out.Write(append(raw, '\n'))
		return err
	}
	return a.print(r, func(w io.Writer) {
		row(w, "READ", "CHANGED", "SENT", "TIME")
		row(w, size(r.Scanned), size(r.Changed), size(r.Sent), seconds(r.Seconds))
		if r.Resumed {
			fmt.Fprintln(w, "went on where an earlier copy was broken off")
		}
		fmt.Fprintln(w, r.Root)
		if r.SourceChanged {
			fmt.Fprintln(w, "The source was written to meanwhile, so this is not its state of one instant:\ncopy a snapshot of it, or run the command again while nobody writes.")
		}
	})
}

// readChanges reads a list of changed ranges.
func readChanges(path string) ([]volume.Extent, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, usagef("--changes: %v", err)
	}
	defer f.Close()
	changes, err := parseChanges(f)
	if err != nil {
		return nil, usagef("--changes %s: %v", path, err)
	}
	return changes, nil
}
