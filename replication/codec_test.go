package replication

import (
	"bytes"
	"encoding/binary"
	"errors"
	"io"
	"math/rand/v2"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"
	"go.etcd.io/bbolt"
)

func FuzzReadFrame(f *testing.F) {
	for _, body := range [][]byte{nil, []byte("{}"), bytes.Repeat([]byte("text "), 1000)} {
		for _, pack := range []bool{false, true} {
			w, err := encodeFrame(frameData, body, pack)
			require.NoError(f, err)
			f.Add(append(bytes.Clone(w.head[:]), w.body...))
		}
	}
	f.Fuzz(func(t *testing.T, raw []byte) {
		fr, n, err := readFrame(bytes.NewReader(raw), maxBody)
		if err != nil {
			if !errors.Is(err, ErrCorruptFrame) && !errors.Is(err, ErrProtocol) && !errors.Is(err, io.EOF) && !errors.Is(err, io.ErrUnexpectedEOF) {
				t.Fatalf("untyped error %v", err)
			}
			return
		}
		if n > len(raw) || len(fr.body) > maxBody {
			t.Fatalf("%d bytes read of %d, body %d", n, len(raw), len(fr.body))
		}
	})
}

var fuzzDisks = []geometry{{1 << 20}, {RegionSize*2 + 70001}}

// FuzzTargetBodies feeds bodies to what the target parses.
func FuzzTargetBodies(f *testing.F) {
	m := &dataMessage{rangeMessage: rangeMessage{disk: 1, first: 2, count: 1}, pieces: []dataPiece{{piece: 0, data: 1, zero: 6}, {piece: 1, data: 2}},
		payload: make([]byte, BlockSize+70001-PieceSize-BlockSize)}
	f.Add(m.marshal())
	f.Add(rangeMessage{disk: 0, first: 0, count: 1}.marshal())
	f.Fuzz(func(t *testing.T, body []byte) {
		var r rangeMessage
		if rest, err := r.parse(body, fuzzDisks); err == nil && (r.disk > 1 || r.first+int64(r.count) > fuzzDisks[r.disk].regions() || len(rest) > len(body)) {
			t.Fatalf("range %+v", r)
		}
		m, err := parseData(body, fuzzDisks)
		if err != nil {
			if !errors.Is(err, ErrCorruptFrame) {
				t.Fatalf("untyped error %v", err)
			}
			return
		}
		if !bytes.Equal(m.marshal(), body) {
			t.Fatal("data does not survive a round trip")
		}
		sum := 0
		for _, p := range m.pieces {
			off, n := fuzzDisks[m.disk].piece(m.first, p.piece)
			if off < 0 || n <= 0 || off+int64(n) > fuzzDisks[m.disk].size {
				t.Fatalf("piece beyond the end: %d+%d", off, n)
			}
			sum += dataBytes(p.data, n)
		}
		if sum != len(m.payload) {
			t.Fatalf("%d bytes for %d", sum, len(m.payload))
		}
		u := updateOf(m, fuzzDisks[m.disk], nil)
		u.apply(&record{digests: make([]digest, blocksPerRegion)})
	})
}

// FuzzSourceBodies feeds bodies to what the source parses.
func FuzzSourceBodies(f *testing.F) {
	it := digestItem{piece: 3, hash: hash{1}, digests: [16]digest{{2}}}
	f.Add(it.marshal(nil))
	f.Add(ackMessage{7}.marshal())
	f.Add([]byte(`{"code":"no-space","message":"full"}`))
	f.Add([]byte(`{"id":"x","point":{"id":"y"},"requests":{"r":{"id":"z"}}}`))
	f.Fuzz(func(t *testing.T, body []byte) {
		if items, err := parseDigestItems(body); err == nil {
			var out []byte
			for _, it := range items {
				out = it.marshal(out)
			}
			if !bytes.Equal(out, body) {
				t.Fatal("digests do not survive a round trip")
			}
		}
		if ack, err := parseAck(body); err == nil {
			w := newWindow()
			if _, err := w.peek(ack.frames); err == nil && ack.frames != 0 {
				t.Fatal("acknowledged what was never sent")
			}
		}
		var welcome welcomeMessage
		var done passDoneMessage
		for _, v := range []any{&welcome, &done} {
			if err := decodeJSON(frame{typ: frameWelcome, body: body}, v); err != nil && !errors.Is(err, ErrCorruptFrame) {
				t.Fatal(err)
			}
		}
		if asError(frame{typ: frameError, body: body}) == nil {
			t.Fatal("an error frame is always an error")
		}
	})
}

func FuzzIndex(f *testing.F) {
	rec := &record{digests: make([]digest, blocksPerRegion)}
	rec.pieces[5] = hash{1, 2}
	rec.dirty.set(9)
	f.Add(indexHeader{size: 1 << 30, digests: true}.marshal(), uint16(7), byte(1))
	f.Add(rec.marshal(0), uint16(70000%65536), byte(4))
	f.Fuzz(func(t *testing.T, raw []byte, at uint16, flip byte) {
		if h, err := parseIndexHeader(raw); err == nil && !bytes.Equal(h.marshal(), raw[:indexHeaderSize]) {
			t.Fatal("header does not survive a round trip")
		}
		for _, digests := range []bool{false, true} {
			good := &record{}
			if digests {
				good.digests = make([]digest, blocksPerRegion)
			}
			for i := range good.pieces {
				if len(raw) > 0 {
					good.pieces[i][0] = raw[i%len(raw)]
				}
			}
			b := good.marshal(3)
			if flip != 0 {
				b[int(at)%len(b)] ^= flip
				back, err := parseRecord(b, 3, digests)
				if !errors.Is(err, ErrDamagedState) || !back.dirty.has(0) || !back.dirty.has(255) {
					t.Fatalf("damage at %d went unnoticed: %v", int(at)%len(b), err)
				}
				continue
			}
			back, err := parseRecord(b, 3, digests)
			if err != nil || back.pieces != good.pieces {
				t.Fatalf("record does not survive a round trip: %v", err)
			}
		}
	})
}

func FuzzIntents(f *testing.F) {
	one := marshalIntents([]intent{{disk: 1, region: 77, pieces: bitmap256{3}}})
	f.Add(one)
	f.Add(append(bytes.Clone(one), one[:20]...))
	f.Fuzz(func(t *testing.T, raw []byte) {
		before, ok := parseIntents(raw)
		for _, it := range before {
			if it.disk < 0 {
				t.Fatal("negative disk")
			}
		}
		// What was synced before a torn or damaged tail is never lost.
		all, complete := parseIntents(append(bytes.Clone(one), raw...))
		if len(all) < 1 || all[0].region != 77 || ok && (len(all) != len(before)+1 || !complete) {
			t.Fatal("an intent got lost")
		}
		// A valid entry behind damage is damage.
		if !ok {
			return
		}
		if _, complete := parseIntents(append(append([]byte("junk"), raw...), one...)); complete {
			t.Fatal("damage before a valid entry went unnoticed")
		}
	})
}

func FuzzStoredState(f *testing.F) {
	good, err := seal(sourceState{Spec: SourceSpec{Stream: "a/b", Epoch: 3}})
	require.NoError(f, err)
	f.Add(good)
	newer := bytes.Clone(good)
	binary.LittleEndian.PutUint32(newer, storeFormat+1)
	f.Add(newer)
	f.Fuzz(func(t *testing.T, raw []byte) {
		for _, v := range []any{&sourceState{}, &targetState{}, &pointEntry{}} {
			if err := unseal("state", raw, v); err != nil && !errors.Is(err, ErrDamagedState) && !errors.Is(err, ErrNewerState) {
				t.Fatalf("untyped error %v", err)
			}
		}
	})
}

func TestTornLastIntentIsFineAndDamageIsNot(t *testing.T) {
	t.Parallel()
	a, b := marshalIntents([]intent{{region: 1}}), marshalIntents([]intent{{region: 2}})
	both := append(bytes.Clone(a), b...)
	open, complete := parseIntents(both[:len(both)-3])
	require.True(t, complete)
	require.Len(t, open, 1)
	both[10] ^= 1
	_, complete = parseIntents(both)
	require.False(t, complete)
}

func TestFrameLimitsAndChecksum(t *testing.T) {
	t.Parallel()
	w, err := encodeFrame(frameData, bytes.Repeat([]byte{7}, 5000), true)
	require.NoError(t, err)
	require.Less(t, len(w.body), 500)
	raw := append(bytes.Clone(w.head[:]), w.body...)
	_, _, err = readFrame(bytes.NewReader(raw), 4999)
	require.ErrorIs(t, err, ErrCorruptFrame, "the unpacked size counts as well")
	for i := range raw {
		bad := bytes.Clone(raw)
		bad[i] ^= 0x10
		_, _, err := readFrame(bytes.NewReader(bad), maxBody)
		require.Error(t, err, "bit flipped in byte %d", i)
	}
}

func TestNewerAndDamagedStateAreNamed(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), storeFile)
	s, err := openStore(path)
	require.NoError(t, err)
	raw, err := seal(targetState{})
	require.NoError(t, err)
	put := func(raw []byte) {
		require.NoError(t, s.db.Update(func(tx *bbolt.Tx) error { return tx.Bucket(bucketTargets).Put([]byte("x"), raw) }))
	}
	binary.LittleEndian.PutUint32(raw, storeFormat+1)
	put(raw)
	_, err = s.get(bucketTargets, "x", &targetState{})
	require.ErrorIs(t, err, ErrNewerState)
	require.ErrorContains(t, err, path)
	binary.LittleEndian.PutUint32(raw, storeFormat)
	raw[12] ^= 1
	put(raw)
	_, err = s.get(bucketTargets, "x", &targetState{})
	require.ErrorIs(t, err, ErrDamagedState)
	require.ErrorContains(t, err, path)
	require.NoError(t, s.close())

	h := indexHeader{size: 5}.marshal()
	binary.LittleEndian.PutUint32(h[8:], indexVersion+1)
	_, err = parseIndexHeader(h)
	require.ErrorIs(t, err, ErrNewerState)
}

func TestRootSeesEveryByteAndTheSize(t *testing.T) {
	t.Parallel()
	rng := rand.New(rand.NewPCG(1, 1))
	seen := map[hash]bool{}
	for range 50 {
		size := rng.Int64N(3*RegionSize) + 1
		root := rootHash(size, func(int64) hash { return hash{} })
		require.False(t, seen[root], "zeros of another size have another root")
		seen[root] = true
	}
	var pieces [piecesPerRegion]hash
	require.Equal(t, hash{}, nodeHash(&pieces))
	pieces[255] = hash{1}
	a := nodeHash(&pieces)
	pieces[255], pieces[254] = hash{}, hash{1}
	require.NotEqual(t, a, nodeHash(&pieces))
}
