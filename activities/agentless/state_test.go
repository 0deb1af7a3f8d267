package agentless

import (
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"lifeboat/activities/cloud"
	"lifeboat/replication"
)

func testSpec(epoch int64) Spec {
	return Spec{Stream: "shop/db", Epoch: epoch, Transfer: TransferSnapshots, Plan: "shop", Server: "db", Operation: "op",
		Source: cloud.Site{Name: "a", Directory: "/a"}, Target: cloud.Site{Name: "b", Directory: "/b"}, ServerID: "srv",
		Disks: []Disk{{Name: "root", ID: "d1"}, {Name: "data", ID: "d2"}}, Keep: replication.Keep{Count: 2}}
}

// Whatever happens in whatever order: every snapshot that was ever announced is a point's, the base,
// of the cut under way, or doomed, and never two of them; no token is used twice.
func TestEverySnapshotIsAccountedFor(t *testing.T) {
	t.Parallel()
	random := rand.New(rand.NewPCG(1, 2))
	for range 60 {
		st, now, epoch := &state{}, time.Unix(1000, 0), int64(1)
		require.NoError(t, st.adopt(testSpec(epoch), "me", now))
		announced := map[string]bool{}
		for step := range 60 {
			now = now.Add(time.Second)
			switch random.IntN(8) {
			case 0, 1:
				if st.Cut == nil && !st.Finished {
					st.announce(now)
					for _, s := range append(append([]Snap{}, st.Cut.Snaps...), st.Cut.Copies...) {
						require.False(t, announced[s.Token], "a token is used twice")
						announced[s.Token] = true
					}
				}
			case 2, 3, 4:
				if st.Cut != nil {
					for i := range st.Cut.Snaps {
						st.Cut.Snaps[i].ID = fmt.Sprint("cut-", step, i)
						st.Cut.Copies[i].ID = fmt.Sprint("copy-", step, i)
						st.Cut.Point.Disks = append(st.Cut.Point.Disks, replication.PointDisk{Name: st.Cut.Disks[i].Name})
					}
					st.Cut.Made, st.Cut.Point.Time = true, now
					st.complete(now)
				}
			case 5:
				st.abandon(now)
			case 6:
				spec := testSpec(epoch)
				if random.IntN(2) == 0 {
					epoch++
					spec.Epoch = epoch
				}
				if random.IntN(3) == 0 {
					spec.Disks[1].ID = fmt.Sprint("d", step)
				}
				require.NoError(t, st.adopt(spec, "me", now))
			case 7:
				if len(st.Points) > 0 {
					st.Points[random.IntN(len(st.Points))].Point.Locked = random.IntN(2) == 0
				}
				st.prune(now)
			}
			requireAccounted(t, st, announced)
			next, err := st.clone()
			require.NoError(t, err)
			require.True(t, next.same(st))
			st = next
		}
	}
}

func requireAccounted(t *testing.T, st *state, announced map[string]bool) {
	t.Helper()
	seen := map[string]bool{}
	add := func(where string, snaps []Snap) {
		for _, s := range snaps {
			require.False(t, seen[s.Token], "%s: %s belongs to two", where, s.Token)
			seen[s.Token] = true
		}
	}
	for _, p := range st.Points {
		add("point", p.Snaps)
	}
	if st.Base != nil {
		add("base", st.Base.Snaps)
	}
	if st.Cut != nil {
		add("cut", st.Cut.Snaps)
		add("copies", st.Cut.Copies)
	}
	for _, d := range st.Doomed {
		add("doomed", d.Snaps)
	}
	require.Equal(t, len(announced), len(seen))
}

func TestStateOfANewerProgramAndDamageAreToldApart(t *testing.T) {
	t.Parallel()
	_, err := decodeState("x", []byte(`{"format":2,"spec":[]}`))
	require.ErrorIs(t, err, replication.ErrNewerState)
	for _, raw := range []string{"", "{", "[]", "{}", `{"format":1}`, `{"format":1,"spec":{"stream":7}}`,
		`{"format":1,"spec":{"stream":"s"},"cut":{}}`, `{"format":1,"spec":{"stream":"s"},"cut":{"disks":[{}],"snaps":[{}],"made":true}}`,
		`{"format":1,"spec":{"stream":"s"},"base":{"disks":[{}]}}`, `{"format":1,"spec":{"stream":"s"},"doomed":[{}]}`} {
		_, err := decodeState("x", []byte(raw))
		require.ErrorIs(t, err, replication.ErrDamagedState, raw)
	}
}

// Whatever is found where a state should be: it is refused, or goes on as a state does.
func FuzzState(f *testing.F) {
	st := &state{}
	now := time.Unix(1000, 0)
	if err := st.adopt(testSpec(1), "me", now); err != nil {
		f.Fatal(err)
	}
	st.announce(now)
	raw, err := st.encode()
	if err != nil {
		f.Fatal(err)
	}
	f.Add(raw)
	f.Add([]byte(`{"format":1,"spec":{"stream":"s"},"points":null,"cut":{}}`))
	f.Fuzz(func(t *testing.T, raw []byte) {
		st, err := decodeState("x", raw)
		if err != nil {
			return
		}
		if err := st.adopt(testSpec(st.Spec.Epoch), "me", now); err != nil {
			t.Fatal(err)
		}
		if st.Cut != nil && st.Cut.ready() {
			st.complete(now)
		}
		st.prune(now)
		st.trim()
		next, err := st.clone()
		if err != nil || !next.same(st) {
			t.Fatalf("a state does not survive storing: %v", err)
		}
		if again, err := json.Marshal(next); err != nil || len(again) == 0 {
			t.Fatal(err)
		}
	})
}
