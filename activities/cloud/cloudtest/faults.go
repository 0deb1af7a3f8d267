package cloudtest

import (
	"context"
	"fmt"
	"time"

	"github.com/stretchr/testify/require"

	"lifeboat/activities/cloud"
)

// story makes four resources that depend on each other, the way a drill does.
func (e *env) story(c *Caller) (made []cloud.Resource, err error) {
	disks, snapshots := c.Provider.(cloud.Disks), c.Provider.(cloud.Snapshots)
	var disk, cut cloud.Resource
	steps := []Step{
		{Name: "replica", Kind: cloud.KindDisk, Ready: cloud.Available, Create: func(ctx context.Context, in cloud.Create) (cloud.Resource, error) {
			v, err := disks.StartCreateDisk(ctx, cloud.CreateDisk{Create: in, Bytes: e.f.DiskBytes})
			return v.Resource, err
		}},
		{Name: "point", Kind: cloud.KindSnapshot, Ready: cloud.Available, Create: func(ctx context.Context, in cloud.Create) (cloud.Resource, error) {
			v, err := snapshots.StartSnapshots(ctx, cloud.CreateSnapshots{Create: in, Disks: []string{disk.ID}})
			if err != nil {
				return cloud.Resource{}, err
			}
			return v[0].Resource, nil
		}},
		{Name: "recovered", Kind: cloud.KindDisk, Ready: cloud.Available, Create: func(ctx context.Context, in cloud.Create) (cloud.Resource, error) {
			v, err := disks.StartCreateDisk(ctx, cloud.CreateDisk{Create: in, SnapshotID: cut.ID})
			return v.Resource, err
		}},
		{Name: "network", Kind: cloud.KindNetwork, Ready: cloud.Available, Create: func(ctx context.Context, in cloud.Create) (cloud.Resource, error) {
			v, err := c.Provider.(cloud.Networks).StartCreateNetwork(ctx, cloud.CreateNetwork{Create: in, CIDR: e.f.CIDR})
			return v.Resource, err
		}},
	}
	for _, s := range steps {
		r, err := c.Make(e.ctx(), s)
		if err != nil {
			return made, err
		}
		made = append(made, r)
		switch s.Name {
		case "replica":
			disk = r
		case "point":
			cut = r
		}
	}
	return made, nil
}

// storyLength is how many resources a story makes.
const storyLength = 4

func (e *env) caller(p cloud.Provider, operation string) *Caller {
	look := time.Millisecond
	if e.c.Slow {
		look = e.c.Within / 6000
	}
	return &Caller{Provider: p, Plan: "plan", Operation: e.run + operation, Patience: 8, Attempts: 60, Pause: look}
}

// faulty wraps the provider of a behaviour; false when it lacks what a story needs.
func (e *env) faulty(plan Plan) (*FaultyProvider, bool) {
	for _, kind := range []cloud.Kind{cloud.KindDisk, cloud.KindSnapshot, cloud.KindNetwork} {
		if _, err := handleOf(e.p, kind); err != nil {
			return nil, false
		}
	}
	_, ok := has[cloud.Ledger](e, "Ledger")
	return Faulty(e.p, plan), ok
}

// once requires that each resource of a story is there exactly once.
func (e *env) once(operation string) {
	e.Helper()
	honest := e.caller(e.p, operation)
	n, err := honest.count(e.ctx())
	require.NoError(e, err)
	require.Equal(e, storyLength, n)
	for name, kind := range map[string]cloud.Kind{"replica": cloud.KindDisk, "point": cloud.KindSnapshot, "recovered": cloud.KindDisk, "network": cloud.KindNetwork} {
		h, err := handleOf(e.p, kind)
		require.NoError(e, err)
		list, err := h.list(e.ctx(), cloud.Filter{Tags: map[string]string{cloud.TagToken: honest.Token(name)}})
		require.NoError(e, err)
		require.Len(e, list, 1, name)
	}
}

// clean requires that a clean-up through p leaves nothing.
func (e *env) clean(p cloud.Provider, operation string) {
	e.Helper()
	left, err := e.caller(p, operation).CleanUp(e.ctx())
	require.NoError(e, err)
	require.Zero(e, left)
	left, err = e.caller(e.p, operation).count(e.ctx())
	require.NoError(e, err)
	require.Zero(e, left, "also without faults nothing is seen")
}

func (e *env) rounds(fast, slow int) int {
	if e.c.Slow {
		return slow
	}
	return fast
}

var faultBehaviours = []behaviour{
	{"Faults", "under throttling, lost answers and late visibility each resource is made once and cleaned up", func(e *env) {
		total := 0
		for seed := range uint64(e.rounds(6, 2)) {
			f, ok := e.faulty(Plan{Seed: seed, Throttle: 0.15, Unavailable: 0.15, Lost: 0.25, Hide: int(seed % 5)})
			if !ok {
				return
			}
			operation := fmt.Sprintf("drill/plan/%d", seed)
			made, err := e.story(e.caller(f, operation))
			require.NoError(e, err)
			require.Len(e, made, storyLength)
			e.once(operation)
			e.clean(f, operation)
			_, faults := f.Counts()
			total += faults
		}
		require.Positive(e, total)
	}},
	{"Faults", "a caller that is killed at any call goes on and makes nothing twice", func(e *env) {
		for _, late := range []bool{false, true} {
			for die := 1; ; die += e.rounds(1, 5) {
				f, ok := e.faulty(Plan{Hide: 2, Die: die, DieLate: late})
				if !ok {
					return
				}
				operation := fmt.Sprintf("drill/plan/%v-%d", late, die)
				c := e.caller(f, operation)
				c.Attempts = 15
				_, err := e.story(c)
				if !f.Dead() {
					require.NoError(e, err)
					e.clean(e.p, operation)
					break
				}
				next := f.Restart(Plan{Hide: 2})
				_, err = e.story(e.caller(next, operation))
				require.NoError(e, err)
				e.once(operation)
				e.clean(next, operation)
			}
		}
	}},
	{"Faults", "a clean-up that is killed at any call goes on and leaves nothing", func(e *env) {
		for die := 1; ; die += e.rounds(3, 10) {
			f, ok := e.faulty(Plan{Hide: 2})
			if !ok {
				return
			}
			operation := fmt.Sprintf("drill/plan/clean-%d", die)
			_, err := e.story(e.caller(f, operation))
			require.NoError(e, err)
			killed := f.Restart(Plan{Die: die, DieLate: die%2 == 0})
			c := e.caller(killed, operation)
			c.Attempts = 3
			if _, err := c.CleanUp(e.ctx()); !killed.Dead() {
				require.NoError(e, err)
				return
			}
			e.clean(f.Restart(Plan{}), operation)
		}
	}},
	{"Faults", "what only a person can change is told at once and leaves nothing", func(e *env) {
		for _, code := range []cloud.Code{cloud.Capacity, cloud.Denied, cloud.Quota, cloud.Billing} {
			f, ok := e.faulty(Plan{Refuse: map[string][]cloud.Code{"StartCreateDisk": {code}}})
			if !ok {
				return
			}
			operation := "drill/plan/" + string(code)
			made, err := e.story(e.caller(f, operation))
			e.code(code, err)
			require.Equal(e, cloud.AskPerson, cloud.ClassOf(err))
			require.Empty(e, made)
			_, faults := f.Counts()
			require.Equal(e, 1, faults, "it was not tried again")
			_, err = e.story(e.caller(f, operation)) // the person has acted
			require.NoError(e, err)
			e.once(operation)
			e.clean(f, operation)
		}
	}},
	{"Faults", "throttling is waited out", func(e *env) {
		many := []cloud.Code{cloud.Throttled, cloud.Throttled, cloud.Throttled, cloud.Throttled, cloud.Throttled}
		f, ok := e.faulty(Plan{Refuse: map[string][]cloud.Code{"StartCreateDisk": many, "StartSnapshots": many, "Disk": many, "Intend": many}})
		if !ok {
			return
		}
		_, err := e.story(e.caller(f, "drill/plan/throttled"))
		require.NoError(e, err)
		e.once("drill/plan/throttled")
		e.clean(f, "drill/plan/throttled")
	}},
	{"Faults", "the faults are real: a caller that takes a new token after a lost answer makes two", func(e *env) {
		f, ok := e.faulty(Plan{Die: 1, DieLate: true, Hide: 3})
		if !ok {
			return
		}
		tags := map[string]string{cloud.TagOperation: "naive"}
		for i := range 2 {
			_, err := f.StartCreateDisk(e.ctx(), cloud.CreateDisk{Create: cloud.Create{Token: fmt.Sprint("naive-", i), Tags: tags}, Bytes: e.f.DiskBytes})
			require.Equal(e, i == 0, cloud.CodeOf(err) == cloud.Unavailable, "%v", err)
			list, err := f.Restart(Plan{}).Disks(e.ctx(), cloud.Filter{Tags: tags})
			require.NoError(e, err)
			require.Empty(e, list, "its look before the second creation shows nothing")
			f = f.Restart(Plan{Hide: 3})
		}
		e.until("that both can be seen", func() (bool, error) {
			list, err := e.p.(cloud.Disks).Disks(e.ctx(), cloud.Filter{Tags: tags})
			return len(list) == 2, err
		})
	}},
}
