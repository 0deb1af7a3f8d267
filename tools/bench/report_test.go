package main

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"lifeboat/tools/bench/measure"
)

func timedRow(job, who, variant string, wall float64) row {
	return row{Job: job, Who: who, Variant: variant, outcome: outcome{Sample: measure.Sample{Wall: wall, CPU: 2 * wall}}}
}

func TestMediansLeaveDisturbedRunsOut(t *testing.T) {
	t.Parallel()
	disturbed := timedRow("full", productName, clearly, 9)
	disturbed.Noisy = true
	s := session{Rows: []row{timedRow("full", productName, clearly, 1), disturbed, timedRow("full", productName, clearly, 3), timedRow("full", productName, clearly, 1.5)}}
	st, ok := s.of("full", productName, clearly)
	if !ok || st.n != 3 || st.wall != 1.5 || st.least != 1 || st.most != 3 || st.noisy {
		t.Fatalf("got %+v", st)
	}
	s = session{Rows: []row{disturbed}}
	if st, _ := s.of("full", productName, clearly); !st.noisy || st.wall != 9 {
		t.Fatalf("with disturbed runs alone: got %+v", st)
	}
}

func TestGoalsAreHeldAgainstTheBestPeerAndTheFloor(t *testing.T) {
	t.Parallel()
	s := session{Rows: []row{
		timedRow("full", productName, clearly, 1.0),
		timedRow("full", "nbdcopy", "slow", 2.0), timedRow("full", "nbdcopy", "quick", 0.95),
		timedRow("full", "rsync", "one", 3.0),
		timedRow("full", floorName, ship1, 0.9), timedRow("full", floorName, ship2, 0.97),
	}}
	gs := goals()
	v, ok := gs[0].judge(s)
	if !ok || !v.met || v.peer.value != 0.95 || v.floor.value != 0.9 {
		t.Fatalf("against nbdcopy: %+v, %t", v, ok)
	}
	if !strings.Contains(v.line(), "1.05×") || !strings.Contains(v.line(), "≤ 1.07×: **no**") {
		t.Fatalf("the line says %s", v.line())
	}
	if v, ok = gs[1].judge(s); !ok || v.met || v.ratio != 3 {
		t.Fatalf("against rsync: %+v, %t", v, ok)
	}
	if _, ok = gs[2].judge(s); ok {
		t.Fatal("a goal that was not measured is judged")
	}
}

func TestBlocksyncIsReckonedThroughRsyncWhereItIsMissing(t *testing.T) {
	t.Parallel()
	s := session{Rows: []row{timedRow("inc1", "rsync", "x", 7)}}
	f, ok := blocksync("inc1", seconds)(s)
	if !ok || f.name != "blocksync-fast*" || f.value < 1.379 || f.value > 1.381 {
		t.Fatalf("got %+v, %t, want 2 × 0.69", f, ok)
	}
	s.Rows = append(s.Rows, timedRow("inc1", "blocksync-fast", "x", 0.5))
	if f, ok = blocksync("inc1", seconds)(s); !ok || f.name != "blocksync-fast" || f.value != 0.5 {
		t.Fatalf("measured: got %+v, %t", f, ok)
	}
}

func TestASessionGoesOnWithItsWholeJobs(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "results")
	a := about{Machine: "m", Size: 1, Runs: 2}
	s, err := openStore(path, a, false)
	if err != nil {
		t.Fatal(err)
	}
	for _, r := range []row{timedRow("full", "x", "", 1), timedRow("inc1", "x", "", 2)} {
		if err := s.add(r); err != nil {
			t.Fatal(err)
		}
		if r.Job == "full" {
			if err := s.finish(r.Job); err != nil {
				t.Fatal(err)
			}
		}
	}
	if _, err := s.file.WriteString(`{"row":{"job":"in`); err != nil { // as a crash leaves it
		t.Fatal(err)
	}
	if err := s.close(); err != nil {
		t.Fatal(err)
	}
	for _, again := range []struct {
		about about
		done  []string
	}{{a, []string{"full"}}, {about{Machine: "other"}, nil}} {
		s, err := openStore(path, again.about, true)
		if err != nil {
			t.Fatal(err)
		}
		if err := s.close(); err != nil {
			t.Fatal(err)
		}
		if !slices.Equal(s.Done, again.done) || len(s.Rows) != len(again.done) {
			t.Fatalf("for %+v: jobs %v, %d rows", again.about, s.Done, len(s.Rows))
		}
	}
}

func TestTablesGoBetweenTheMarkers(t *testing.T) {
	t.Parallel()
	got, err := between([]byte("a\n"+beginMark+"\nold\n"+endMark+"\nb\n"), []byte("new\n"))
	if want := "a\n" + beginMark + "\nnew\n" + endMark + "\nb\n"; err != nil || string(got) != want {
		t.Fatalf("got %q, %v", got, err)
	}
	if _, err := between([]byte("no markers"), nil); err == nil {
		t.Fatal("a document without markers was changed")
	}
}

func TestRsyncSaysItsTraffic(t *testing.T) {
	t.Parallel()
	n, err := rsyncTraffic("Number of files: 1\nTotal bytes sent: 1,234,567\nTotal bytes received: 33\n")
	if err != nil || n != 1234600 {
		t.Fatalf("got %d, %v", n, err)
	}
	if _, err := rsyncTraffic("nothing"); err == nil {
		t.Fatal("missing figures were not noticed")
	}
}

func TestSizesAreUnderstood(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]int64{"4G": 4 << 30, "512M": 512 << 20, "1073741824": 1 << 30} {
		if got, err := parseSize(text); err != nil || got != want {
			t.Errorf("%s: got %d, %v", text, got, err)
		}
	}
	for _, text := range []string{"", "G", "-1G", "1T", "1M"} {
		if _, err := parseSize(text); err == nil {
			t.Errorf("%q was taken", text)
		}
	}
}

func TestEveryJobOfAGoalExists(t *testing.T) {
	t.Parallel()
	for _, g := range goals() {
		if g.job != "" && !slices.Contains(jobNames(), g.job) {
			t.Errorf("%s: no job %q", g.what, g.job)
		}
	}
	if _, err := chooseJobs("full,nonsense"); err == nil {
		t.Error("a job that does not exist was taken")
	}
}

func TestWithoutTheProgramOnlyPeersAreMeasured(t *testing.T) {
	t.Parallel()
	p, err := findProduct(t.Context(), filepath.Join(t.TempDir(), "lifeboat"), t.TempDir())
	if err != nil || p.here() {
		t.Fatalf("got %+v, %v", p, err)
	}
	other := filepath.Join(t.TempDir(), "lifeboat")
	if err := os.WriteFile(other, []byte("#!/bin/sh\necho unknown command; exit 2\n"), 0o755); err != nil {
		t.Fatal(err)
	}
	if p, err = findProduct(t.Context(), other, t.TempDir()); err != nil || p.here() {
		t.Fatalf("an older program: got %+v, %v", p, err)
	}
}
