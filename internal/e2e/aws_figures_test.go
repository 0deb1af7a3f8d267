package e2e

import (
	"bytes"
	"flag"
	"fmt"
	"maps"
	"os"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"lifeboat/workflows"
)

var awsFigures = flag.String("e2e.aws-figures", "", "page whose table of API calls is written anew, with the time-outs of real clouds")

// asksOnly tells whether a call of an API changes nothing.
func asksOnly(call string) bool {
	_, operation, _ := strings.Cut(call, " ")
	for _, begin := range []string{"Describe", "Get", "List", "Head"} {
		if strings.HasPrefix(operation, begin) {
			return true
		}
	}
	return false
}

// callsOf counts what was asked while do ran, by service and operation.
func (h *cloudHouse) callsOf(do func()) map[string]int {
	h.cloud.ForgetRequests()
	do()
	calls := map[string]int{}
	for _, r := range h.cloud.Requests() {
		calls[r.Service+" "+r.Operation]++
	}
	return calls
}

// column is what one operation of a server asked for.
type column struct {
	name  string
	calls map[string]int
	most  int // calls that change something
}

// What a server with two disks costs in calls that change something is bounded; those
// that ask are as many as the waiting takes.
func TestAWSCallsOfAServerAreFew(t *testing.T) {
	t.Parallel()
	var page bytes.Buffer
	for _, transfer := range []string{"snapshots", "blocks"} {
		var args []string
		if *awsFigures != "" {
			args = []string{"--timeouts", "standard"}
		}
		h := newCloudHouse(t, args...)
		_, b := h.machine("db", "root", "data")
		b.write("data", 0, randomBytes(t, 4*mib))
		h.do("plan", "apply", "-f", h.plan(transfer, "db"), "--wait")
		columns := []column{
			{"first copy", h.callsOf(func() { h.do("replication", "start", "shop", "--wait") }), 60},
			{"point", h.callsOf(func() { b.writeLine("data", 0, "news"); h.mark("shop/db", "news") }), 30},
			{"drill", h.callsOf(func() {
				drill := ask[workflows.Report](h.house, "drill", "start", "shop")
				require.Equal(t, workflows.OutcomeDone, drill.Outcome, drill.Reason)
			}), 20},
			{"clean drill", h.callsOf(func() { h.do("drill", "clean", "shop") }), 15},
		}
		h.lose("primary")
		columns = append(columns, column{"failover", h.callsOf(func() {
			over := ask[workflows.Report](h.house, "failover", "start", "shop", "--source-down", "--yes")
			require.Equal(t, workflows.OutcomeDone, over.Outcome, over.Reason)
		}), 20}, column{"commit", h.callsOf(func() { h.do("failover", "commit", "shop", "--wait") }), 30})
		h.find("primary")
		for _, c := range columns {
			changing := 0
			for call, n := range c.calls {
				if !asksOnly(call) {
					changing += n
				}
			}
			assert.LessOrEqual(t, changing, c.most, "%s by %s: %v", c.name, transfer, c.calls)
			t.Logf("%s by %s: %d calls change something: %v", c.name, transfer, changing, c.calls)
		}
		writeCalls(&page, transfer, columns)
	}
	if *awsFigures != "" {
		const begin, end = "<!-- calls: generated -->\n", "<!-- calls end -->\n"
		text, err := os.ReadFile(*awsFigures)
		require.NoError(t, err)
		head, rest, ok := strings.Cut(string(text), begin)
		_, tail, also := strings.Cut(rest, end)
		require.True(t, ok && also, "%s has no place for the table", *awsFigures)
		require.NoError(t, os.WriteFile(*awsFigures, []byte(head+begin+page.String()+end+tail), 0o644))
	}
}

// writeCalls writes a table of calls: what changes something first.
func writeCalls(page *bytes.Buffer, transfer string, columns []column) {
	all := map[string]bool{}
	fmt.Fprintf(page, "\nBy `%s`:\n\n| call |", transfer)
	for _, c := range columns {
		fmt.Fprintf(page, " %s |", c.name)
		for call := range c.calls {
			all[call] = true
		}
	}
	fmt.Fprintf(page, "\n|---|%s\n", strings.Repeat("---|", len(columns)))
	row := func(name string, of func(column) int) {
		fmt.Fprintf(page, "| %s |", name)
		for _, c := range columns {
			if n := of(c); n > 0 {
				fmt.Fprintf(page, " %d", n)
			}
			page.WriteString(" |")
		}
		page.WriteString("\n")
	}
	sum := func(asks bool) func(column) int {
		return func(c column) (n int) {
			for call, times := range c.calls {
				if asksOnly(call) == asks {
					n += times
				}
			}
			return n
		}
	}
	for _, asks := range []bool{false, true} {
		for _, call := range slices.Sorted(maps.Keys(all)) {
			if asksOnly(call) == asks {
				row(call, func(c column) int { return c.calls[call] })
			}
		}
		if asks {
			row("**all that ask**", sum(true))
		} else {
			row("**all that change something**", sum(false))
		}
	}
}
