package main

import (
	"bytes"
	"strings"
	"testing"
)

const (
	passing = `{"Action":"start","Package":"p"}
{"Action":"run","Package":"p","Test":"TestA"}
{"Action":"output","Package":"p","Test":"TestA","Output":"=== RUN   TestA\n"}
{"Action":"output","Package":"p","Test":"TestA","Output":"chatter\n"}
{"Action":"pass","Package":"p","Test":"TestA"}
{"Action":"output","Package":"p","Output":"ok  \tp\t0.1s\n"}
{"Action":"pass","Package":"p"}
`
	skipping = `{"Action":"start","Package":"q"}
{"Action":"output","Package":"q","Test":"TestB","Output":"=== RUN   TestB\n"}
{"Action":"output","Package":"q","Test":"TestB","Output":"    b_test.go:7: needs root\n"}
{"Action":"output","Package":"q","Test":"TestB","Output":"--- SKIP: TestB (0.00s)\n"}
{"Action":"skip","Package":"q","Test":"TestB"}
{"Action":"pass","Package":"q"}
`
	failing = `{"Action":"start","Package":"r"}
{"Action":"output","Package":"r","Test":"TestC","Output":"    c_test.go:9: got 1, want 2\n"}
{"Action":"fail","Package":"r","Test":"TestC"}
{"Action":"output","Package":"r","Output":"FAIL\tr\t0.1s\n"}
{"Action":"fail","Package":"r"}
`
	panicking = `{"Action":"start","Package":"s"}
{"Action":"output","Package":"s","Test":"TestD","Output":"panic: boom\n"}
{"Action":"output","Package":"s","Output":"FAIL\ts\t0.1s\n"}
{"Action":"fail","Package":"s"}
`
	notCompiling = `{"ImportPath":"t","Action":"build-output","Output":"./t.go:3:1: syntax error\n"}
{"ImportPath":"t","Action":"build-fail"}
{"Action":"start","Package":"t"}
{"Action":"output","Package":"t","Output":"FAIL\tt [build failed]\n"}
{"Action":"fail","Package":"t","FailedBuild":"t"}
`
	withoutTests = `{"Action":"start","Package":"u"}
{"Action":"output","Package":"u","Output":"?   \tu\t[no test files]\n"}
{"Action":"skip","Package":"u"}
`
	cutShort = `{"Action":"start","Package":"v"}
`
)

func TestReport(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		in      string
		noSkips bool
		status  int
		says    []string
		hides   []string
	}{
		"all pass":               {passing, true, 0, []string{"ok  \tp", "1 packages, 1 tests passed", "PASS"}, []string{"chatter"}},
		"a skip is told":         {passing + skipping, false, 0, []string{"q TestB: b_test.go:7: needs root", "1 skipped", "PASS"}, nil},
		"a skip fails on demand": {passing + skipping, true, 1, []string{"needs root", "FAIL: tests were skipped"}, nil},
		"a failure is shown":     {passing + failing, false, 1, []string{"r TestC", "got 1, want 2", "1 failed"}, []string{"PASS"}},
		"a panic is shown":       {panicking, false, 1, []string{"s TestD (did not end)", "panic: boom"}, []string{"PASS"}},
		"compiler's words":       {notCompiling, false, 1, []string{"syntax error", "[build failed]"}, []string{"PASS"}},
		"no test files":          {passing + withoutTests, true, 0, []string{"PASS"}, nil},
		"a run cut short":        {passing + cutShort, false, 1, []string{"v: the run ended before its result"}, []string{"PASS"}},
		"nothing at all":         {"", false, 1, []string{"no package was tested"}, nil},
		"words beside events":    {"go: cannot find module\n" + passing, false, 0, []string{"go: cannot find module"}, nil},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			var out bytes.Buffer
			if status := run(strings.NewReader(c.in), &out, c.noSkips, false); status != c.status {
				t.Errorf("status %d, want %d; it said:\n%s", status, c.status, &out)
			}
			for _, want := range c.says {
				if !strings.Contains(out.String(), want) {
					t.Errorf("does not say %q but:\n%s", want, &out)
				}
			}
			for _, hidden := range c.hides {
				if strings.Contains(out.String(), hidden) {
					t.Errorf("says %q in:\n%s", hidden, &out)
				}
			}
		})
	}
}
