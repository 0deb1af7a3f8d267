package cloudtest

import (
	"context"
	"math/rand/v2"
	"sync"
	"time"

	"lifeboat/activities/cloud"
)

// Plan says which faults a wrapped provider has. The same seed and the same
// calls give the same faults.
type Plan struct {
	Seed uint64
	// Probabilities of a call. Lost calls have their effect; the answer is lost.
	Throttle, Unavailable, Lost float64
	// Hide is for how many looks a new resource is NotFound and not listed.
	Hide int
	// Refuse has errors for the first calls of a method, in order.
	Refuse map[string][]cloud.Code
	// Die is the number of the call at which the calling process dies: this call has
	// its effect only when DieLate is set, and all later ones fail. 0 = never.
	Die     int
	DieLate bool
}

// FaultyProvider is a provider with faults. Capabilities that the provider
// beneath lacks are Unsupported when they are called.
type FaultyProvider struct {
	cloud.Provider
	plan   Plan
	hidden *hidden

	mu     sync.Mutex
	random *rand.Rand
	calls  int
	faults int
	seen   map[string]int
}

// hidden is what the cloud does not show yet; it outlives the calling process.
type hidden struct {
	mu    sync.Mutex
	looks map[string]int
}

// Faulty wraps a provider.
func Faulty(p cloud.Provider, plan Plan) *FaultyProvider {
	return &FaultyProvider{Provider: p, plan: plan, hidden: &hidden{looks: map[string]int{}},
		random: rand.New(rand.NewPCG(plan.Seed, 1)), seen: map[string]int{}}
}

// Restart returns the provider as another process sees it: what the cloud hides
// is the same, the plan is a new one.
func (f *FaultyProvider) Restart(plan Plan) *FaultyProvider {
	next := Faulty(f.Provider, plan)
	next.hidden = f.hidden
	return next
}

// Counts returns how many calls were made and how many of them had a fault.
func (f *FaultyProvider) Counts() (calls, faults int) {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.calls, f.faults
}

// Dead tells whether the calling process has died by plan.
func (f *FaultyProvider) Dead() bool {
	calls, _ := f.Counts()
	return f.plan.Die > 0 && calls >= f.plan.Die
}

// before decides on a call; lost says that its answer will not arrive.
func (f *FaultyProvider) before(op string) (lost bool, err error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.calls++
	n := f.seen[op]
	f.seen[op]++
	fault := func(code cloud.Code, message string) error {
		f.faults++
		e := cloud.E(code, op, "injected fault", message, "", nil)
		if code == cloud.Throttled {
			e.RetryAfter = time.Millisecond
		}
		return e
	}
	if d := f.plan.Die; d > 0 && f.calls >= d {
		if f.calls == d && f.plan.DieLate {
			f.faults++
			return true, nil
		}
		return false, fault(cloud.Unavailable, "the calling process is dead")
	}
	if refuse := f.plan.Refuse[op]; n < len(refuse) {
		return false, fault(refuse[n], "refused by plan")
	}
	switch dice := f.random.Float64(); {
	case dice < f.plan.Throttle:
		return false, fault(cloud.Throttled, "too many requests")
	case dice < f.plan.Throttle+f.plan.Unavailable:
		return false, fault(cloud.Unavailable, "the service did not answer")
	case dice < f.plan.Throttle+f.plan.Unavailable+f.plan.Lost:
		f.faults++
		return true, nil
	}
	return false, nil
}

// look tells whether a resource is hidden, and counts the look.
func (h *hidden) look(id string) bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.looks[id] > 0 {
		h.looks[id]--
		return true
	}
	return false
}

// is tells whether a resource is hidden, without a look.
func (h *hidden) is(id string) bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.looks[id] > 0
}

// made hides a new resource.
func (h *hidden) made(id string, looks int) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if _, known := h.looks[id]; !known {
		h.looks[id] = looks
	}
}

func lostAnswer(op string) error {
	return cloud.E(cloud.Unavailable, op, "injected fault", "the answer was lost", "", context.DeadlineExceeded)
}

func hiddenError(op, id string) error {
	return cloud.E(cloud.NotFound, op, id, "is not visible yet", "", nil)
}

// use makes a call of capability C.
func use[C, T any](f *FaultyProvider, op string, call func(C) (T, error)) (T, error) {
	var none T
	c, err := cloud.As[C](f.Provider, op)
	if err != nil {
		return none, err
	}
	lost, err := f.before(op)
	if err != nil {
		return none, err
	}
	v, err := call(c)
	if err == nil && lost {
		return none, lostAnswer(op)
	}
	return v, err
}

// making is use for a call that makes resources: they are hidden at first.
func making[C, T any](f *FaultyProvider, op string, ids func(T) []string, call func(C) (T, error)) (T, error) {
	return use(f, op, func(c C) (T, error) {
		v, err := call(c)
		if err == nil {
			for _, id := range ids(v) {
				f.hidden.made(id, f.plan.Hide)
			}
		}
		return v, err
	})
}

// looking is use for a call that describes a resource.
func looking[C, T any](f *FaultyProvider, op, id string, call func(C) (T, error)) (T, error) {
	return use(f, op, func(c C) (T, error) {
		if f.hidden.look(id) {
			var none T
			return none, hiddenError(op, id)
		}
		return call(c)
	})
}

// changing is use for a call that changes resources.
func changing[C any](f *FaultyProvider, op string, ids []string, call func(C) error) error {
	_, err := use(f, op, func(c C) (struct{}, error) {
		for _, id := range ids {
			if f.hidden.is(id) {
				return struct{}{}, hiddenError(op, id)
			}
		}
		return struct{}{}, call(c)
	})
	return err
}

// listing is use for a call that lists resources.
func listing[C, T any](f *FaultyProvider, op string, id func(T) string, call func(C) ([]T, error)) ([]T, error) {
	return use(f, op, func(c C) ([]T, error) {
		all, err := call(c)
		shown := make([]T, 0, len(all))
		for _, v := range all {
			if !f.hidden.look(id(v)) {
				shown = append(shown, v)
			}
		}
		return shown, err
	})
}
