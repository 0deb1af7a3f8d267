package measure

import (
	"os"
	"strings"
	"testing"
	"time"
)

func TestARunCountsItsChildren(t *testing.T) {
	t.Parallel()
	// The shell waits for a child that computes.
	s, outs, err := Run(t.Context(), nil, Command{Args: []string{"sh", "-c", "(i=0; while [ $i -lt 100000 ]; do i=$((i+1)); done); echo done"}})
	if err != nil {
		t.Fatal(err)
	}
	if string(outs[0]) != "done\n" || s.CPU < 0.01 || s.Wall < s.CPU/2 {
		t.Fatalf("got %+v, output %q", s, outs[0])
	}
	if s.RSS < 100<<10 {
		t.Fatalf("memory of %d bytes: too little for a shell", s.RSS)
	}
}

func TestWhenOneFailsTheOthersEnd(t *testing.T) {
	t.Parallel()
	start := time.Now()
	_, _, err := Run(t.Context(), nil,
		Command{Args: []string{"sleep", "60"}},
		Command{Args: []string{"sh", "-c", "echo what is wrong >&2; exit 3"}})
	if err == nil || !strings.Contains(err.Error(), "what is wrong") {
		t.Fatalf("got %v", err)
	}
	if took := time.Since(start); took > 30*time.Second {
		t.Fatalf("took %s", took)
	}
}

func TestAfterCountsAndItsErrorIsReturned(t *testing.T) {
	t.Parallel()
	_, _, err := Run(t.Context(), func() error { return os.ErrInvalid }, Command{Args: []string{"true"}})
	if err == nil {
		t.Fatal("the error was lost")
	}
}

func TestFiguresOfProcesses(t *testing.T) {
	t.Parallel()
	if PeakRSS(os.Getpid()) < 1<<20 {
		t.Errorf("this process has %d bytes", PeakRSS(os.Getpid()))
	}
	if PeakRSS(0) != 0 {
		t.Error("no process has memory")
	}
	if Busy() <= 0 {
		t.Error("the machine was never busy")
	}
}
