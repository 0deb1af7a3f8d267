package delta

import (
	"net"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

func TestABottleneckIsNamed(t *testing.T) {
	t.Parallel()
	const second = time.Second
	for name, c := range map[string]struct {
		now   Sample // one second after nothing
		lanes int
		limit int64
		local bool
		want  string
	}{
		"nothing moved":                 {Sample{CPU: second}, 2, 0, false, ""},
		"no lane":                       {Sample{Counters: Counters{Scanned: 1}}, 0, 0, false, ""},
		"reads, with little CPU":        {Sample{Counters: Counters{Scanned: 1}, CPU: second / 10}, 2, 0, false, WaitsForDisk},
		"reads, and computes":           {Sample{Counters: Counters{Scanned: 1}, CPU: 19 * second / 10}, 2, 0, false, WaitsForCPU},
		"one of two lanes computes":     {Sample{Counters: Counters{Scanned: 1, WaitLink: second}, CPU: second}, 2, 0, false, WaitsForCPU},
		"waits for acknowledgements":    {Sample{Counters: Counters{WaitTarget: 3 * second / 2}}, 2, 0, false, WaitsForTarget},
		"waits to send":                 {Sample{Counters: Counters{Sent: 1, WaitLink: 3 * second / 2}, LinkBusy: second}, 2, 0, false, WaitsForLink},
		"the same, of many lanes":       {Sample{Counters: Counters{Scanned: 1, WaitLink: 3 * second / 2}}, 8, 0, false, WaitsForDisk},
		"the receive window is full":    {Sample{Counters: Counters{Sent: 1, WaitLink: 2 * second}, LinkBusy: second, LinkStalled: second / 2}, 2, 0, false, WaitsForTarget},
		"it is seldom full":             {Sample{Counters: Counters{Sent: 1, WaitLink: 2 * second}, LinkBusy: second, LinkStalled: second / 4}, 2, 0, false, WaitsForLink},
		"the link is a pipe to here":    {Sample{Counters: Counters{Sent: 1, WaitLink: 2 * second}}, 2, 0, true, WaitsForTarget},
		"sends what is permitted":       {Sample{Counters: Counters{Sent: 95, WaitLink: 2 * second}}, 2, 100, false, WaitsForLimit},
		"sends less than permitted":     {Sample{Counters: Counters{Sent: 50, WaitLink: 2 * second}}, 2, 100, false, WaitsForLink},
		"limited, but the disk is slow": {Sample{Counters: Counters{Scanned: 1, Sent: 95, WaitLink: second / 2}}, 2, 100, false, WaitsForDisk},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			was := Sample{At: time.Unix(1, 0)}
			c.now.At = was.At.Add(second)
			require.Equal(t, c.want, c.now.Bottleneck(was, c.lanes, c.limit, c.local))
		})
	}
	require.Empty(t, Sample{Counters: Counters{Scanned: 1}}.Bottleneck(Sample{}, 2, 0, false), "no time passed")
}

func TestClosedConnectionsNoLongerCount(t *testing.T) {
	t.Parallel()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	defer listener.Close()
	conn, err := net.Dial("tcp", listener.Addr().String())
	require.NoError(t, err)
	var links Links
	links.Add(conn)
	near, far := net.Pipe()
	defer near.Close()
	defer far.Close()
	links.Add(near) // the kernel knows nothing about it
	links.times()
	require.Len(t, links.open, 1)
	require.NoError(t, conn.Close())
	links.times()
	require.Empty(t, links.open)
}
