package cloudtest

import (
	"context"
	"crypto/rand"
	"io"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"lifeboat/activities/cloud"
)

// Config says how the suite reaches a provider.
type Config struct {
	// Sites is called once for a behaviour and returns a function that opens a
	// site by name. Sites of one behaviour are empty at its start; the same name
	// again opens the same site, as another process would. Values are closed and
	// sites cleaned up through t.Cleanup.
	Sites func(t *testing.T) (open func(site string) cloud.Provider)
	// Fixture is called once for a behaviour, too. Behaviours run in parallel: where
	// sites share addresses, each gets others.
	Fixture func(t *testing.T) Fixture
	// Slow gives more time to waits and fewer rounds to searches for races, and makes tokens that
	// no other run has: a real service remembers them.
	Slow bool
	// Within bounds each wait; 0 = 30 s, with Slow 15 min.
	Within time.Duration
}

// Fixture is what the suite makes resources of.
type Fixture struct {
	DiskBytes int64  // a small disk that the provider accepts
	CIDR      string // a network that has the address IP
	IP        string
	Outside   string // an address outside of CIDR
	Other     string // a network beside CIDR, where two of one site must not overlap; "" = CIDR
	Zone      string // a DNS zone that may be changed
	// Launch completes a request with what a server needs to run. It answers each
	// TCP connection to Ports[0] with the first 16 bytes of its first disk.
	Launch func(in cloud.LaunchServer) cloud.LaunchServer
	// Write changes the content of a disk, Content opens it. Nil where a test
	// cannot reach the disks: contents are not compared then.
	Write   func(t *testing.T, d cloud.Disk, at int64, data []byte)
	Content func(t *testing.T, d cloud.Disk) io.ReaderAt
	// Source makes a file to adopt as a disk; nil where the provider adopts none.
	Source func(t *testing.T, bytes int64) string
}

// behaviour is one subtest.
type behaviour struct {
	group, name string
	test        func(e *env)
}

// Run tests every behaviour of the contract.
func Run(t *testing.T, c Config) {
	t.Helper()
	if c.Within == 0 {
		c.Within = 30 * time.Second
		if c.Slow {
			c.Within = 15 * time.Minute
		}
	}
	groups := [][]behaviour{commonBehaviours, genericBehaviours(), diskBehaviours, snapshotBehaviours, imageBehaviours, networkBehaviours,
		serverBehaviours, addressBehaviours, nameBehaviours, scriptBehaviours, ledgerBehaviours, documentBehaviours, quiesceBehaviours, faultBehaviours}
	byGroup, order := map[string][]behaviour{}, []string{}
	for _, list := range groups {
		for _, b := range list {
			if byGroup[b.group] == nil {
				order = append(order, b.group)
			}
			byGroup[b.group] = append(byGroup[b.group], b)
		}
	}
	for _, group := range order {
		t.Run(group, func(t *testing.T) {
			t.Parallel()
			for _, b := range byGroup[group] {
				t.Run(b.name, func(t *testing.T) {
					t.Parallel()
					b.test(newEnv(t, c))
				})
			}
		})
	}
}

// env is what one behaviour works with.
type env struct {
	*testing.T
	c    Config
	f    Fixture
	open func(site string) cloud.Provider
	p    cloud.Provider
	net  *cloud.Network
	next int
	run  string // what tokens begin with where a service remembers those of earlier runs
}

const home = "home" // the site that most behaviours use

func newEnv(t *testing.T, c Config) *env {
	e := &env{T: t, c: c, f: c.Fixture(t), open: c.Sites(t)}
	if c.Slow {
		e.run = rand.Text()[:8] + "-"
	}
	e.p = e.open(home)
	return e
}

func (e *env) ctx() context.Context { return e.Context() }

// has tells whether the provider of a behaviour has a capability. Where it has
// not, the absence has to be an Unsupported error that names it.
func has[T any](e *env, name string) (T, bool) {
	e.Helper()
	c, err := cloud.As[T](e.p, name)
	if err == nil {
		return c, true
	}
	require.Equal(e, cloud.Unsupported, cloud.CodeOf(err))
	require.ErrorContains(e, err, name)
	e.Logf("the provider has no %s", name)
	return c, false
}

// must is has for behaviours that cannot be tested without the capability.
func must[T any](e *env, p cloud.Provider, name string) T {
	e.Helper()
	c, err := cloud.As[T](p, name)
	require.NoError(e, err)
	return c
}

// token returns a client token that this behaviour has not used before.
func (e *env) token() string {
	e.next++
	return e.run + "token-" + string(rune('a'+e.next/26)) + string(rune('a'+e.next%26))
}

func (e *env) create(name string) cloud.Create {
	token := e.token()
	return cloud.Create{Token: token, Name: name, Tags: map[string]string{cloud.TagToken: token, cloud.TagOperation: "operation-" + e.Name()}}
}

// code requires an error of the contract with a code, and that a person can
// learn from it what it is about.
func (e *env) code(want cloud.Code, err error) {
	e.Helper()
	require.Error(e, err)
	require.Equal(e, want, cloud.CodeOf(err), "%v", err)
	require.NotEmpty(e, cloud.ClassOf(err))
	require.NotEmpty(e, err.Error())
}

// until polls until done says so; errors of class retry and wait are polled over.
func (e *env) until(what string, done func() (bool, error)) {
	e.Helper()
	deadline := time.Now().Add(e.c.Within)
	var last error
	for pause := 2 * time.Millisecond; ; pause = min(2*pause, e.c.Within/100) {
		ok, err := done()
		if err == nil && ok {
			return
		}
		if class := cloud.ClassOf(err); err != nil && class != cloud.Retry && class != cloud.Wait {
			require.NoError(e, err, what)
		}
		last = err
		if time.Now().After(deadline) {
			require.Failf(e, "waited in vain", "%s within %s: %v", what, e.c.Within, last)
		}
		select {
		case <-e.Context().Done():
			require.NoError(e, e.Context().Err())
		case <-time.After(pause):
		}
	}
}

// settled polls a resource until its state stays, and requires the wanted one.
// A resource that was just created may be NotFound for a while.
func settled[T any](e *env, want cloud.State, get func() (T, cloud.Resource, error)) T {
	e.Helper()
	var v T
	e.until("state "+string(want), func() (bool, error) {
		got, r, err := get()
		if cloud.IsNotFound(err) {
			return false, nil
		}
		if err != nil {
			return false, err
		}
		v = got
		if r.State != want {
			require.NotEqual(e, cloud.Failing, r.State, r.Message)
			return false, cloud.E(cloud.NotReady, "poll", r.ID, "is "+string(r.State)+" "+r.Message, "", nil)
		}
		return true, nil
	})
	return v
}

// gone polls until a resource is NotFound.
func (e *env) gone(get func() error) {
	e.Helper()
	e.until("that it is gone", func() (bool, error) {
		err := get()
		return cloud.IsNotFound(err), cloud.IgnoreNotFound(err)
	})
}
