package delta

import (
	"bytes"
	"context"
	"encoding/json"
	"net"
	"os"
	"path/filepath"
	"testing"
	"time"

	"lifeboat/replication/block"
	"lifeboat/replication/index"
	"lifeboat/replication/volume"

	"github.com/stretchr/testify/require"
)

// fuzzSize has a short last piece and block.
const fuzzSize = 2*block.Region + 3*block.Piece + 5000

var fuzzGeo = block.Geometry{Size: fuzzSize}

// exampleFrame is a data frame as a lane makes it.
func exampleFrame(p block.Proof) []byte {
	data := bytes.Repeat([]byte("data"), block.Size/4)
	d := block.DigestOf(data)
	pieces := []dataPiece{{piece: 3, data: 1 << 2, zero: 1 << 5, hash: block.Hash{1}}}
	h := dataHeader{flags: dataFlush, payload: len(data), wire: len(data)}
	return append(appendTables(nil, p, h, []zeroRun{{first: 1, count: 2}}, pieces, d[:]), data...)
}

// No bytes make the parser of data frames panic, and what it accepts is written again as it was.
func FuzzDataFrame(f *testing.F) {
	for _, p := range []block.Proof{block.BLAKE3, block.Fast} {
		f.Add(byte(p), exampleFrame(p))
		f.Add(byte(p), exampleFrame(p)[:40])
	}
	f.Fuzz(func(t *testing.T, proof byte, raw []byte) {
		p := block.Proof(proof)
		if !p.Valid() || len(raw) < dataHeaderSize {
			return
		}
		h, err := parseDataHeader(raw, p, 1)
		if err != nil {
			return
		}
		require.LessOrEqual(t, dataHeaderSize+h.tables, maxTables)
		rest := raw[dataHeaderSize:]
		if h.flags&dataZstd != 0 || len(rest) < h.tables+h.payload {
			return
		}
		fr := dataFrame{payload: rest[h.tables : h.tables+h.payload]}
		if fr.parseTables(h, rest[:h.tables], p, fuzzGeo) != nil {
			return
		}
		digests := fr.payloadDigests(nil, fuzzGeo)
		again := appendTables(nil, p, h, fr.zeros, fr.pieces, digests)
		// Pages of hashes are longer than those of one proof: the check is of what was read.
		require.Equal(t, raw[:24], again[:24])
		require.Equal(t, raw[dataHeaderSize:dataHeaderSize+h.tables], again[dataHeaderSize:])
	})
}

// No bytes make the reader of control frames panic or take more than the limit.
func FuzzControlFrame(f *testing.F) {
	for _, pack := range []bool{false, true} {
		w, err := encodeFrame(framePage, bytes.Repeat([]byte("page"), 1200), pack)
		require.NoError(f, err)
		f.Add(append(w.head[:], w.body...))
	}
	f.Fuzz(func(t *testing.T, raw []byte) {
		fr, n, err := readFrame(bytes.NewReader(raw), 8<<10)
		if err != nil {
			return
		}
		require.LessOrEqual(t, n, len(raw))
		require.LessOrEqual(t, len(fr.body), 8<<10)
		w, err := encodeFrame(fr.typ, fr.body, false)
		require.NoError(t, err)
		again, _, err := readFrame(bytes.NewReader(append(w.head[:], w.body...)), 8<<10)
		require.NoError(t, err)
		require.Equal(t, fr.typ, again.typ)
		require.True(t, bytes.Equal(fr.body, again.body))
	})
}

// No bytes make the parsers of messages panic, and what they accept is written again as it was.
func FuzzMessages(f *testing.F) {
	f.Add(pageID{0, 1, 0}.marshal())
	f.Add(blocksID{0, 34}.marshal())
	f.Add(marshalCounts([]laneCount{{3, 7}, {0, 1}}))
	f.Fuzz(func(t *testing.T, raw []byte) {
		geos := []block.Geometry{fuzzGeo}
		if id, rest, err := parsePageID(raw, geos); err == nil {
			require.Equal(t, raw, append(id.marshal(), rest...))
		}
		if id, rest, err := parseBlocksID(raw, geos); err == nil {
			require.Equal(t, raw, append(id.marshal(), rest...))
		}
		if counts, err := parseCounts(raw); err == nil {
			require.True(t, bytes.Equal(raw, marshalCounts(counts)))
		}
	})
}

// An intent log of any bytes is read to an end; what is whole in it is found again.
func FuzzIntents(f *testing.F) {
	one := marshalIntents([]intent{{0, intentPieces, 3, 2}, {1, intentFresh, 0, freshPieces}})
	f.Add(one)
	f.Add(append(append([]byte{}, one...), one[:30]...))
	f.Add(append(append([]byte("LBI2"), one...), one...))
	f.Fuzz(func(t *testing.T, raw []byte) {
		open, complete := parseIntents(raw)
		require.LessOrEqual(t, len(open)*intentItemSize, len(raw))
		again, whole := parseIntents(marshalIntents(open))
		require.True(t, whole)
		require.Len(t, again, len(open))
		if complete && len(open) == 0 {
			require.False(t, containsBatch(raw))
		}
		for i := range open {
			require.Equal(t, open[i], again[i])
		}
	})
}

// frames cuts bytes into control frames that are whole, so that fuzzing reaches what is behind the
// checksums: a type, a length, and the body.
func frames(raw []byte, conn net.Conn) {
	for len(raw) >= 2 {
		n := min(int(raw[1]), len(raw)-2)
		w, err := encodeFrame(frameType(raw[0]), raw[2:2+n], false)
		if err != nil {
			return
		}
		if _, err := conn.Write(append(w.head[:], w.body...)); err != nil {
			return
		}
		raw = raw[2+n:]
	}
}

// fuzzTime bounds a session with somebody who talks nonsense and leaves.
const fuzzTime = 20 * time.Second

// fuzzHandler lets anybody write to a new volume.
type fuzzHandler struct{ dir string }

func (h fuzzHandler) Admit(context.Context, *Session, Hello, Fingerprint) (a Admission, err error) {
	path := filepath.Join(h.dir, "volume")
	if err := PrepareTarget(path, fuzzSize); err != nil {
		return a, err
	}
	v, err := volume.OpenTarget(path)
	if err != nil {
		return a, err
	}
	x, _, err := index.Open(filepath.Join(h.dir, "target"), index.Options{Size: fuzzSize, Proof: block.BLAKE3})
	if err != nil {
		return a, err
	}
	return Admission{
		Replicas: []Replica{{Name: "disk", Volume: v, Index: x}}, Dir: h.dir,
		Finish:  func(context.Context, []string, json.RawMessage) (any, error) { return struct{}{}, nil },
		Release: func(error) error { return x.Close() },
	}, nil
}

// A receiver outlives any sender: the session ends, and the next hello is answered.
func FuzzReceiver(f *testing.F) {
	f.Add([]byte{byte(framePageWanted), 12, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0}, exampleFrame(block.BLAKE3))
	f.Add([]byte{byte(frameFlush), 10, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, byte(frameFinish), 2, '{', '}'}, []byte{})
	f.Fuzz(func(t *testing.T, control, data []byte) {
		ctx, cancel := context.WithTimeout(t.Context(), fuzzTime)
		defer cancel()
		sv := NewServer(fuzzHandler{t.TempDir()}, time.Second)
		ours, theirs := net.Pipe()
		ended := make(chan error, 2)
		go func() { ended <- sv.Serve(ctx, theirs) }()
		l := newLink(ctx, ours, time.Second)
		defer l.close()
		require.NoError(t, l.sendJSON(frameHello, Hello{MinVersion: minVersion, MaxVersion: maxVersion,
			Proof: block.BLAKE3.String(), Disks: []DiskInfo{{"disk", fuzzSize}}}))
		fr, err := l.receive(maxBody)
		require.NoError(t, err)
		require.Equal(t, frameWelcome, fr.typ)
		var w welcomeMessage
		require.NoError(t, decodeJSON(fr, &w))
		go func() { // what it answers is of no interest
			for {
				if _, err := l.receive(maxBody); err != nil {
					return
				}
			}
		}()
		lane, theirLane := net.Pipe()
		go func() { ended <- sv.Serve(ctx, theirLane) }()
		ll := newLink(ctx, lane, time.Second)
		require.NoError(t, ll.sendJSON(frameJoin, joinMessage{Session: w.Session, Lane: 0}))
		_, _ = lane.Write(data) // it may hang up before the end
		frames(control, ours)
		ll.close()
		l.close()
		<-ended
		<-ended
		require.NoError(t, ctx.Err())
	})
}

// A sender outlives any target: what it hears is an end, with an error unless the roots are right.
func FuzzSender(f *testing.F) {
	f.Add([]byte{byte(frameAck), 10, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, byte(frameFinished), 2, '{', '}'})
	f.Add([]byte{byte(framePage), 4, 0, 0, 0, 0})
	f.Add([]byte{byte(frameError), 2, '{', '}'})
	f.Fuzz(func(t *testing.T, answers []byte) {
		ctx, cancel := context.WithTimeout(t.Context(), fuzzTime)
		defer cancel()
		dir := t.TempDir()
		path := filepath.Join(dir, "source")
		require.NoError(t, os.WriteFile(path, bytes.Repeat([]byte("source"), 50<<10), 0o600))
		v, err := volume.Open(path)
		require.NoError(t, err)
		defer func() { require.NoError(t, v.Close()) }()
		x, _, err := index.Open(filepath.Join(dir, "x"), index.Options{Size: v.Size(), Proof: block.BLAKE3, Digests: true})
		require.NoError(t, err)
		defer func() { require.NoError(t, x.Close()) }()
		s, err := Connect(ctx, SenderConfig{Disks: []SourceDisk{{"disk", x}}, Lanes: 1, Timeout: time.Second, Dial: babbler(ctx, answers)})
		if err != nil {
			return
		}
		defer s.Close()
		if s.Compare(nil) == nil && s.Pass(ctx, Pass{Volumes: []volume.Source{v}}) == nil {
			_, _ = s.Finish(nil, nil) // whatever it says, it ends
		}
		require.NoError(t, ctx.Err())
	})
}

// babbler is a target that welcomes, says what it was told to say, takes everything and hangs up.
func babbler(ctx context.Context, answers []byte) func(context.Context) (net.Conn, error) {
	first := true
	return func(context.Context) (net.Conn, error) {
		ours, theirs := net.Pipe()
		context.AfterFunc(ctx, func() { _ = ours.Close() })
		welcoming := first
		first = false
		go func() {
			l := newLink(ctx, ours, time.Second)
			defer l.close()
			if welcoming {
				if _, err := l.receive(maxBody); err != nil {
					return
				}
				if l.sendJSON(frameWelcome, welcomeMessage{Version: maxVersion, Roots: []string{"blake3:unknown"}}) != nil {
					return
				}
				go frames(answers, ours)
			}
			var b [4096]byte
			for end := time.Now().Add(50 * time.Millisecond); time.Now().Before(end); {
				_ = ours.SetReadDeadline(end) // a closed pipe ends the reading, too
				if _, err := ours.Read(b[:]); err != nil {
					return
				}
			}
		}()
		return theirs, nil
	}
}
