package numbers

import (
	"context"
	"net"
	"net/http/httptest"
	"path/filepath"
	"strconv"
	"testing"
	"time"

	"github.com/miekg/dns"
	"github.com/stretchr/testify/require"
)

// nameServer answers every question with 127.0.0.1.
func nameServer(t *testing.T) string {
	t.Helper()
	conn, err := net.ListenPacket("udp", "127.0.0.1:0")
	require.NoError(t, err)
	server := &dns.Server{PacketConn: conn, Handler: dns.HandlerFunc(func(w dns.ResponseWriter, q *dns.Msg) {
		m := new(dns.Msg).SetReply(q)
		rr, err := dns.NewRR(q.Question[0].Name + " 0 A 127.0.0.1")
		if err == nil {
			m.Answer = []dns.RR{rr}
		}
		_ = w.WriteMsg(m)
	})}
	go server.ActivateAndServe()
	t.Cleanup(func() { _ = server.Shutdown() })
	return conn.LocalAddr().String()
}

// production is a store under constant writes of a client.
type production struct {
	store     *Store
	data, log string
	history   *History
	stop      func()
}

func startProduction(t *testing.T) *production {
	t.Helper()
	p := &production{data: disk(t, "data", 8<<20), log: disk(t, "log", 64<<10)}
	p.store = open(t, p.data, p.log)
	server := httptest.NewServer(Handler(p.store, 100))
	t.Cleanup(server.Close)
	_, port, err := net.SplitHostPort(server.Listener.Addr().String())
	require.NoError(t, err)
	number, err := strconv.Atoi(port)
	require.NoError(t, err)
	path := filepath.Join(t.TempDir(), "acks")
	p.history = NewHistory(path)
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() {
		ended <- RunClient(ctx, ClientOptions{Name: "numbers.test", Resolver: nameServer(t), Port: number,
			Every: time.Millisecond, Bytes: 100, Log: path})
	}()
	p.stop = func() { cancel(); require.NoError(t, <-ended) }
	return p
}

// waitAcks waits until the client was told of so many writes.
func (p *production) waitAcks(t *testing.T, n int) Ack {
	t.Helper()
	var newest Ack
	require.Eventually(t, func() bool {
		var err error
		newest, err = p.history.Update()
		return err == nil && len(p.history.acked) >= n
	}, 20*time.Second, 5*time.Millisecond)
	return newest
}

func recoveredURL(t *testing.T, data, log string) string {
	t.Helper()
	server := httptest.NewServer(Handler(open(t, data, log), 100))
	t.Cleanup(server.Close)
	return server.URL
}

func TestMeasureFindsWhatAPointOfAMomentAgoHasLost(t *testing.T) {
	t.Parallel()
	p := startProduction(t)
	p.waitAcks(t, 10)
	p.store.mu.Lock() // one instant for both disks
	cut := time.Now()
	data, log := clone(t, p.data), clone(t, p.log)
	p.store.mu.Unlock()
	p.waitAcks(t, 10+len(p.history.acked))
	p.stop()
	declared := time.Now()

	m, err := p.history.Measure(t.Context(), Recovery{URL: recoveredURL(t, data, log), Declared: declared, PointTime: cut})
	require.NoError(t, err)
	require.True(t, m.OK(), m.Problems)
	require.Zero(t, m.LostBefore)
	require.Positive(t, m.LostAfter)
	require.GreaterOrEqual(t, m.Found, 10)
	require.InDelta(t, declared.Sub(cut).Seconds(), m.RPO.Seconds(), 0.5)
}

func TestMeasureSaysWhenAnAcknowledgedWriteIsMissing(t *testing.T) {
	t.Parallel()
	p := startProduction(t)
	p.waitAcks(t, 5)
	p.store.mu.Lock()
	data, log := clone(t, p.data), clone(t, p.log)
	p.store.mu.Unlock()
	p.waitAcks(t, 5+len(p.history.acked))
	p.stop()

	m, err := p.history.Measure(t.Context(), Recovery{URL: recoveredURL(t, data, log), Declared: time.Now(), PointTime: time.Now()})
	require.NoError(t, err)
	require.False(t, m.OK())
	require.Positive(t, m.LostBefore)
}

func TestWhatARecoveryLostIsNotExpectedFromTheNext(t *testing.T) {
	t.Parallel()
	p := startProduction(t)
	p.waitAcks(t, 5)
	p.store.mu.Lock()
	cut := time.Now()
	data, log := clone(t, p.data), clone(t, p.log)
	p.store.mu.Unlock()
	p.waitAcks(t, 5+len(p.history.acked))
	p.stop()
	url := recoveredURL(t, data, log)
	first, err := p.history.Measure(t.Context(), Recovery{URL: url, Declared: time.Now(), PointTime: cut})
	require.NoError(t, err)
	second, err := p.history.Measure(t.Context(), Recovery{URL: url, Declared: time.Now(), PointTime: time.Now()})
	require.NoError(t, err)
	require.True(t, second.OK(), second.Problems)
	require.Equal(t, first.Found, second.Acked)
}

func TestAskNewestOfAnEmptyDatabase(t *testing.T) {
	t.Parallel()
	_, err := AskNewest(t.Context(), recoveredURL(t, disk(t, "data", 2<<20), ""))
	require.ErrorIs(t, err, ErrEmpty)
}
