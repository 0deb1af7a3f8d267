package replication_test

import (
	"math/rand/v2"
	"strings"
	"testing"
	"time"

	"lifeboat/replication"
	"lifeboat/replication/replicationtest"

	"github.com/stretchr/testify/require"
)

// throughProxy prepares, and starts a stream whose link can be cut.
func (p *pair) throughProxy() *replicationtest.Proxy {
	p.t.Helper()
	proxy := replicationtest.NewProxy(p.t, p.target.Address())
	p.prepare()
	spec := p.sourceSpec()
	spec.TargetAddress = proxy.Address
	require.NoError(p.t, p.source.StartSource(p.t.Context(), spec))
	return proxy
}

func TestWithoutAutoResumeAnInterruptionStaysUntilResume(t *testing.T) {
	t.Parallel()
	p := newPair(t, 2<<20)
	p.settings.AutoResume = false
	proxy := p.throughProxy()
	p.waitFor(func(s replication.Status) bool { return s.LastPoint != nil })
	proxy.Cut()
	st := p.waitFor(func(s replication.Status) bool { return s.Health == replication.HealthInterrupted })
	require.Contains(t, st.HealthReason, "resume the stream")
	proxy.Mend()

	require.NoError(t, p.source.Close())
	p.openSource()
	st = p.waitFor(func(s replication.Status) bool { return s.Health == replication.HealthInterrupted })
	require.Equal(t, replication.StageRealTime, st.Stage)
	asked := p.markAsync("m")
	st, err := p.source.Status(testStream)
	require.NoError(t, err)
	require.Equal(t, replication.HealthInterrupted, st.Health)
	require.NoError(t, p.source.Resume(testStream))
	<-asked
	p.mark("m")
	p.waitFor(func(s replication.Status) bool { return s.Health == replication.HealthOK })

	require.NoError(t, p.source.Close())
	p.openSource()
	st = p.waitFor(func(s replication.Status) bool { return s.Health == replication.HealthInterrupted })
	require.Contains(t, st.HealthReason, "restarted")
}

func TestWithAutoResumeItGoesOnByItself(t *testing.T) {
	t.Parallel()
	p := newPair(t, 2<<20)
	p.settings.Interval = 20 * time.Millisecond
	proxy := p.throughProxy()
	first := p.waitFor(func(s replication.Status) bool { return s.LastPoint != nil }).LastPoint
	proxy.Cut()
	p.waitFor(func(s replication.Status) bool { return s.Health == replication.HealthInterrupted })
	proxy.Mend()
	p.waitFor(func(s replication.Status) bool { return s.Health == replication.HealthOK && s.LastPoint.ID != first.ID })
}

func TestPauseIsDurableAndResumeGoesOn(t *testing.T) {
	t.Parallel()
	p := newPair(t, 2<<20)
	p.settings.Interval = 10 * time.Millisecond
	p.start()
	require.NoError(t, p.source.Pause(testStream))
	p.waitFor(func(s replication.Status) bool { return s.Health == replication.HealthPaused })
	require.NoError(t, p.source.Close())
	p.openSource()
	before := p.waitFor(func(s replication.Status) bool { return s.Health == replication.HealthPaused }).LastPoint
	require.NoError(t, p.source.Resume(testStream))
	p.waitFor(func(s replication.Status) bool {
		return s.Health == replication.HealthOK && s.LastPoint.ID != before.ID
	})

	require.NoError(t, p.source.Pause(testStream))
	final, err := p.source.Final(p.ctx(), testStream, "f")
	require.NoError(t, err, "the final pass overrides a pause")
	require.Equal(t, replication.PointCurrentTime, final.Kind)
}

func TestBandwidthChangesWhileItRuns(t *testing.T) {
	t.Parallel()
	p := newPair(t, 24<<20)
	p.settings.BytesPerSecond = 400 << 10
	began := time.Now()
	p.prepareAndStart()
	p.waitFor(func(s replication.Status) bool { return s.BytesSent > 600<<10 })
	slow := time.Since(began)
	require.Greater(t, slow, time.Second, "the limit holds")
	require.NoError(t, p.source.Set(testStream, replication.Settings{Interval: time.Hour, AutoResume: true}))
	p.waitFor(func(s replication.Status) bool { return s.LastPoint != nil })
	require.Less(t, time.Since(began)-slow, 5*time.Second, "without a limit it is soon done")
	require.NoError(t, p.source.StartSource(t.Context(), p.sourceSpec()), "a repeated start changes nothing")
}

func TestCutLinkResumesFromWhatIsAcknowledged(t *testing.T) {
	t.Parallel()
	const size = 100 << 20
	p := newPair(t)
	path := p.dir + "/disk0"
	writeRandom(t, path, size)
	p.disks, p.replicas = []string{path}, []string{p.dir + "/replica0"}
	proxy := replicationtest.NewProxy(t, p.target.Address())
	proxy.CutAfter(70 << 20)
	p.prepare()
	spec := p.sourceSpec()
	spec.TargetAddress = proxy.Address
	require.NoError(t, p.source.StartSource(t.Context(), spec))
	p.waitFor(func(s replication.Status) bool { return s.Health == replication.HealthInterrupted })
	st, err := p.source.Status(testStream)
	require.NoError(t, err)
	acknowledged := st.Durable
	require.Positive(t, acknowledged)
	sent := proxy.Sent.Load()
	proxy.Mend()
	pt := p.waitFor(func(s replication.Status) bool { return s.LastPoint != nil }).LastPoint
	p.requireSame(*pt)
	require.Less(t, proxy.Sent.Load()-sent, size-acknowledged+2<<20, "only what was not acknowledged is sent again")
}

func TestWaitReturnsAtNotableChanges(t *testing.T) {
	t.Parallel()
	p := newPair(t, 2<<20)
	p.start()
	st := p.waitFor(func(s replication.Status) bool {
		return s.Health == replication.HealthOK && s.Stage == replication.StageRealTime
	})
	got := make(chan replication.Status)
	go func() {
		st, err := p.source.Wait(p.ctx(), testStream, st.Version)
		if err == nil {
			got <- st
		}
	}()
	pt := p.mark("m")
	require.Equal(t, pt.ID, (<-got).LastPoint.ID)
	old, err := p.source.Wait(p.ctx(), testStream, 12345)
	require.NoError(t, err, "a version of before a restart returns at once")
	require.NotZero(t, old.Version)
}

func TestLagIsShownWhenWritesOutrunTheLink(t *testing.T) {
	t.Parallel()
	p := newPair(t, 8<<20)
	p.settings.Interval = 50 * time.Millisecond
	p.start()
	require.NoError(t, p.source.Set(testStream, replication.Settings{Interval: 50 * time.Millisecond, AutoResume: true, BytesPerSecond: 1 << 20}))
	rng := rand.New(rand.NewPCG(1, 2))
	var st replication.Status
	for !strings.HasPrefix(st.HealthReason, "writes ") { // a busy machine may lag for other reasons before
		p.pauser.Writes.RLock()
		scribble(t, rng, p.disks[0], 10)
		p.pauser.Writes.RUnlock()
		st = p.waitFor(func(s replication.Status) bool { return s.Passes > st.Passes })
	}
	require.Equal(t, replication.HealthLagging, st.Health)
	require.Regexp(t, `^writes [\d.]+ MB/s, link [\d.]+ MB/s$`, st.HealthReason)
	require.NoError(t, p.source.Set(testStream, replication.Settings{Interval: 50 * time.Millisecond, AutoResume: true}))
	p.waitFor(func(s replication.Status) bool { return s.Health == replication.HealthOK })
}
