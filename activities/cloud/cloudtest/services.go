package cloudtest

import (
	"fmt"
	"net"
	"strings"
	"time"

	"github.com/miekg/dns"
	"github.com/stretchr/testify/require"

	"lifeboat/activities/cloud"
)

func hostport(s cloud.Server) string { return net.JoinHostPort(s.IP, fmt.Sprint(s.Ports[0])) }

// setRecords changes DNS and waits until every name server has the change.
func (e *env) setRecords(n cloud.Names, records ...cloud.Record) {
	e.Helper()
	c, err := n.StartSetRecords(e.ctx(), e.f.Zone, e.token(), records)
	require.NoError(e, err)
	e.changed(n, c)
}

func (e *env) changed(n cloud.Names, c cloud.Change) {
	e.Helper()
	e.until("the change of DNS", func() (bool, error) {
		got, err := n.Change(e.ctx(), c.ID)
		return err == nil && got.State == cloud.Available, err
	})
}

// ask asks the name server of the zone.
func (e *env) ask(n cloud.Names, name string, kind uint16) *dns.Msg {
	e.Helper()
	server, err := n.Resolver(e.ctx(), e.f.Zone)
	require.NoError(e, err)
	question := new(dns.Msg)
	question.SetQuestion(dns.Fqdn(name), kind)
	var reply *dns.Msg
	e.until("an answer of DNS", func() (bool, error) {
		var err error
		reply, _, err = new(dns.Client).ExchangeContext(e.ctx(), question, server)
		return err == nil, err
	})
	return reply
}

func weight(n int) *int { return &n }

var nameBehaviours = []behaviour{
	{"Names", "records are set, replaced, answered with their time to live, and deleted", func(e *env) {
		n, ok := has[cloud.Names](e, "Names")
		if !ok {
			return
		}
		name := "www." + e.f.Zone
		for _, ip := range []string{"192.0.2.1", "192.0.2.2"} {
			want := cloud.Record{Name: name, Type: "A", TTL: 7 * time.Second, Values: []string{ip}}
			e.setRecords(n, want)
			e.setRecords(n, want)
			list, err := n.Records(e.ctx(), e.f.Zone, name)
			require.NoError(e, err)
			require.Equal(e, []cloud.Record{want}, list)
			reply := e.ask(n, name, dns.TypeA)
			require.Len(e, reply.Answer, 1)
			require.Equal(e, ip, reply.Answer[0].(*dns.A).A.String())
			require.Equal(e, uint32(7), reply.Answer[0].Header().Ttl)
		}
		c, err := n.StartDeleteRecords(e.ctx(), e.f.Zone, e.token(), []cloud.Record{{Name: name, Type: "A"}})
		require.NoError(e, err)
		e.changed(n, c)
		_, err = n.StartDeleteRecords(e.ctx(), e.f.Zone, e.token(), []cloud.Record{{Name: name, Type: "A"}})
		e.code(cloud.NotFound, err)
		require.Empty(e, e.ask(n, name, dns.TypeA).Answer)
	}},
	{"Names", "weighted records answer in proportion, weight 0 not at all", func(e *env) {
		n, ok := has[cloud.Names](e, "Names")
		if !ok {
			return
		}
		name := "app." + e.f.Zone
		record := func(set, ip string, w int) cloud.Record {
			return cloud.Record{Name: name, Type: "A", TTL: time.Second, Values: []string{ip}, SetID: set, Weight: weight(w)}
		}
		share := func() int {
			hits := 0
			for range 400 {
				reply := e.ask(n, name, dns.TypeA)
				require.Len(e, reply.Answer, 1)
				if reply.Answer[0].(*dns.A).A.String() == "192.0.2.1" {
					hits++
				}
			}
			return hits
		}
		e.setRecords(n, record("a", "192.0.2.1", 30), record("b", "192.0.2.2", 10))
		require.InDelta(e, 300, share(), 60)
		e.setRecords(n, record("a", "192.0.2.1", 0))
		require.Zero(e, share(), "the set that was not named stays, the other answers no more")
	}},
	{"Names", "weighted beside simple records are refused with the whole change", func(e *env) {
		n, ok := has[cloud.Names](e, "Names")
		if !ok {
			return
		}
		simple := cloud.Record{Name: "one." + e.f.Zone, Type: "A", TTL: time.Second, Values: []string{"192.0.2.1"}}
		e.setRecords(n, simple)
		weighted := simple
		weighted.SetID, weighted.Weight = "a", weight(1)
		other := simple
		other.Name = "two." + e.f.Zone
		_, err := n.StartSetRecords(e.ctx(), e.f.Zone, e.token(), []cloud.Record{other, weighted})
		e.code(cloud.InvalidInput, err)
		for _, bad := range []cloud.Record{
			{Name: "elsewhere.invalid", Type: "A", TTL: time.Second, Values: []string{"192.0.2.1"}},
			{Name: "x." + e.f.Zone, Type: "A", TTL: time.Second, Values: []string{"no address"}},
			{Name: "x." + e.f.Zone, Type: "A", TTL: time.Second},
		} {
			_, err := n.StartSetRecords(e.ctx(), e.f.Zone, e.token(), []cloud.Record{bad})
			e.code(cloud.InvalidInput, err)
		}
		list, err := n.Records(e.ctx(), e.f.Zone, "")
		require.NoError(e, err)
		require.Equal(e, []cloud.Record{simple}, list)
	}},
}

// script runs a script to its end.
func (e *env) script(s cloud.Scripts, in cloud.RunScript) cloud.ScriptRun {
	e.Helper()
	var run cloud.ScriptRun
	e.until("that the server takes a script", func() (bool, error) {
		var err error
		run, err = s.StartScript(e.ctx(), in)
		return err == nil, err
	})
	e.until("the end of the script", func() (bool, error) {
		var err error
		run, err = s.ScriptRun(e.ctx(), run.ID)
		return err == nil && run.State != cloud.Running, cloud.IgnoreNotFound(err)
	})
	return run
}

var scriptBehaviours = []behaviour{
	{"Scripts", "a script gets its environment, and its output and exit status are kept", func(e *env) {
		s, ok := has[cloud.Scripts](e, "Scripts")
		if !ok {
			return
		}
		server := e.server("marker", "")
		in := cloud.RunScript{Token: e.token(), Server: server.ID, Timeout: time.Minute, Env: map[string]string{"LIFEBOAT_OPERATION": "drill"},
			Content: "#!/bin/sh\necho \"this is a $LIFEBOAT_OPERATION\"\necho warning >&2\nexit 3\n"}
		run := e.script(s, in)
		require.Equal(e, cloud.Available, run.State, run.Message)
		require.Equal(e, 3, run.ExitCode)
		require.Contains(e, run.Output, "this is a drill")
		require.Contains(e, run.Output, "warning")
		again, err := s.StartScript(e.ctx(), in)
		require.NoError(e, err)
		require.Equal(e, run.ID, again.ID, "the same token runs nothing again")
		in.Content = "true"
		_, err = s.StartScript(e.ctx(), in)
		e.code(cloud.TokenMismatch, err)
		in.Token, in.Server = e.token(), "missing-1"
		_, err = s.StartScript(e.ctx(), in)
		e.code(cloud.NotFound, err)
		_, err = s.ScriptRun(e.ctx(), "missing-1")
		e.code(cloud.NotFound, err)
	}},
	{"Scripts", "a script is ended at its time limit, with what it had written", func(e *env) {
		s, ok := has[cloud.Scripts](e, "Scripts")
		if !ok {
			return
		}
		server := e.server("marker", "")
		limit := 500 * time.Millisecond
		if e.c.Slow {
			limit = 30 * time.Second
		}
		run := e.script(s, cloud.RunScript{Token: e.token(), Server: server.ID, Timeout: limit,
			Content: "#!/bin/sh\necho begun\nsleep 3600 &\nsleep 3600\n"})
		require.Equal(e, cloud.Failing, run.State)
		require.NotEmpty(e, run.Message)
		require.Contains(e, run.Output, "begun")
	}},
	{"Scripts", "of a long output the end is kept", func(e *env) {
		s, ok := has[cloud.Scripts](e, "Scripts")
		if !ok {
			return
		}
		server := e.server("marker", "")
		run := e.script(s, cloud.RunScript{Token: e.token(), Server: server.ID, Timeout: time.Minute,
			Content: "#!/bin/sh\ni=0\nwhile [ $i -lt 3000 ]; do echo \"line $i of the output\"; i=$((i+1)); done\n"})
		require.Equal(e, cloud.Available, run.State, run.Message)
		require.LessOrEqual(e, len(run.Output), 16<<10)
		require.True(e, strings.HasSuffix(strings.TrimSpace(run.Output), "line 2999 of the output"))
	}},
}

var ledgerBehaviours = []behaviour{
	{"Ledger", "entries keep their order, their identifier and their end", func(e *env) {
		l, ok := has[cloud.Ledger](e, "Ledger")
		if !ok {
			return
		}
		var tokens []string
		for i := range 12 {
			entry := cloud.Entry{Token: fmt.Sprintf("t%d", (i*7)%12), Kind: cloud.KindDisk, Plan: "plan", Server: "db", Operation: "drill/plan/1", Role: "drill"}
			got, err := l.Intend(e.ctx(), entry)
			require.NoError(e, err)
			require.False(e, got.Intended.IsZero())
			again, err := l.Intend(e.ctx(), entry)
			require.NoError(e, err)
			require.True(e, got.Intended.Equal(again.Intended))
			tokens = append(tokens, entry.Token)
		}
		list, err := must[cloud.Ledger](e, e.open(home), "Ledger").Entries(e.ctx(), cloud.LedgerFilter{Operation: "drill/plan/1"})
		require.NoError(e, err)
		for i, entry := range list {
			require.Equal(e, tokens[i], entry.Token)
		}
		require.Len(e, list, len(tokens))
		for range 2 {
			require.NoError(e, l.Made(e.ctx(), "t0", "disk-1"))
		}
		e.code(cloud.TokenMismatch, l.Made(e.ctx(), "t0", "disk-2"))
		e.code(cloud.NotFound, l.Made(e.ctx(), "unknown", "disk-1"))
		e.code(cloud.NotFound, l.Gone(e.ctx(), "unknown"))
		e.code(cloud.NotFound, l.Keep(e.ctx(), []string{"t1", "unknown"}, "recovered"))
		for range 2 {
			require.NoError(e, l.Gone(e.ctx(), "t0"))
			require.NoError(e, l.Keep(e.ctx(), []string{"t1", "t2"}, "recovered"))
		}
		list, err = l.Entries(e.ctx(), cloud.LedgerFilter{Role: "recovered"})
		require.NoError(e, err)
		require.Len(e, list, 2)
		require.True(e, list[0].Kept && list[1].Kept)
		list, err = l.Entries(e.ctx(), cloud.LedgerFilter{})
		require.NoError(e, err)
		for _, entry := range list {
			require.Equal(e, entry.Token == "t0", entry.Deleted != nil)
			require.Equal(e, entry.Token == "t0", entry.Created != nil)
		}
	}},
	{"Ledger", "a token announces one resource", func(e *env) {
		l, ok := has[cloud.Ledger](e, "Ledger")
		if !ok {
			return
		}
		entry := cloud.Entry{Token: e.token(), Kind: cloud.KindDisk, Plan: "plan", Operation: "drill/plan/1"}
		_, err := l.Intend(e.ctx(), entry)
		require.NoError(e, err)
		entry.Kind = cloud.KindServer
		_, err = l.Intend(e.ctx(), entry)
		e.code(cloud.TokenMismatch, err)
		entry.Token = ""
		_, err = l.Intend(e.ctx(), entry)
		e.code(cloud.InvalidInput, err)
		for filter, n := range map[cloud.LedgerFilter]int{{Plan: "plan"}: 1, {Plan: "other"}: 0, {Server: "db"}: 0, {Operation: "drill/plan/2"}: 0} {
			list, err := l.Entries(e.ctx(), filter)
			require.NoError(e, err)
			require.Len(e, list, n)
		}
	}},
}
