package local

import (
	"os"
	"os/exec"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"
)

func TestProcessIsNeverConfusedWithAnother(t *testing.T) {
	t.Parallel()
	self, err := identify(os.Getpid())
	require.NoError(t, err)
	assert.True(t, self.alive())
	for _, other := range []process{
		{PID: self.PID, Start: self.Start - 1, Boot: self.Boot}, // the number was used again
		{PID: self.PID, Start: self.Start, Boot: "another"},     // the machine was restarted
		{},
	} {
		assert.False(t, other.alive())
		require.NoError(t, other.signal(unix.SIGKILL), "the signal goes nowhere")
	}
	cmd := exec.Command("sleep", "1000")
	require.NoError(t, cmd.Start())
	child, err := identify(cmd.Process.Pid)
	require.NoError(t, err)
	require.NoError(t, child.signal(unix.SIGKILL))
	waitFor(t, func() (string, bool) { return "dead although not reaped", !child.alive() })
	cmd.Wait() //nolint:errcheck // was killed
	assert.False(t, child.alive())
}

func FuzzParseStat(f *testing.F) {
	raw, err := os.ReadFile("/proc/self/stat")
	require.NoError(f, err)
	f.Add(raw)
	f.Add([]byte("7 (a) b (c)) S 1 7 7 0 -1 4 0 0 0 0 0 0 0 0 20 0 1 0 99 0 0"))
	f.Fuzz(func(t *testing.T, raw []byte) {
		if s, err := parseStat(raw); err == nil && s.state == 0 {
			t.Fatal("no state")
		}
	})
}

func FuzzParseCommand(f *testing.F) {
	for _, seed := range []string{`["a","b c"]`, `a 'b c' "d \" e" f\ g`, "", "[", "'"} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, line string) {
		if args, err := parseCommand(line); err == nil && (len(args) == 0 || args[0] == "") {
			t.Fatal("no program")
		}
	})
}

func TestCommandIsSplitAsAShellWould(t *testing.T) {
	t.Parallel()
	for line, want := range map[string][]string{
		`["a", "b c"]`:           {"a", "b c"},
		`a  b	c`:                 {"a", "b", "c"},
		`a 'b "c' "d 'e" f\ g`:   {"a", `b "c`, "d 'e", "f g"},
		`a "" ''`:                {"a", "", ""},
		`a --x="y z" 'b\c' "\""`: {"a", "--x=y z", `b\c`, `"`},
	} {
		got, err := parseCommand(line)
		require.NoError(t, err, line)
		assert.Equal(t, want, got, line)
	}
	for _, line := range []string{"", "  ", "[]", `[""]`, "[1]", "'a", `a\`, "a\x00"} {
		_, err := parseCommand(line)
		assert.Error(t, err, "%q", line)
	}
}
