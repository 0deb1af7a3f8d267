package replicationtest

import (
	"bytes"
	"errors"
	"io"
	"testing"

	"lifeboat/replication"
)

// ConformSource checks what package replication expects of a source. make gives a
// fresh volume that holds contents.
func ConformSource(t *testing.T, make func(t *testing.T, contents []byte) replication.SourceVolume) {
	t.Run("reads what is there, at any place and of any length", func(t *testing.T) {
		want := pattern(3*replication.PieceSize + 4096)
		v := make(t, want)
		for _, r := range []struct{ off, n int }{{0, len(want)}, {4096, 4096}, {1, 5}, {len(want) - 4096, 4096}, {len(want) - 3, 3}} {
			got := bytes.Repeat([]byte{0xaa}, r.n)
			if n, err := v.ReadAt(got, int64(r.off)); n != r.n || err != nil && !errors.Is(err, io.EOF) {
				t.Fatalf("read %d at %d: %d, %v", r.n, r.off, n, err)
			}
			if !bytes.Equal(got, want[r.off:r.off+r.n]) {
				t.Fatalf("read %d at %d gives other bytes", r.n, r.off)
			}
		}
		if v.Size() != int64(len(want)) {
			t.Fatalf("size %d, want %d", v.Size(), len(want))
		}
	})
	t.Run("a read across the end is short and says so", func(t *testing.T) {
		v := make(t, pattern(8192))
		if n, err := v.ReadAt(bytes.Repeat([]byte{1}, 8192), 4096); n != 4096 || err == nil {
			t.Fatalf("got %d, %v", n, err)
		}
	})
	t.Run("data ranges ascend, cover all data and end", func(t *testing.T) {
		want := pattern(4 << 20)
		clear(want[1<<20 : 3<<20])
		v := make(t, want)
		covered := bytes.Repeat([]byte{0}, len(want))
		for off := int64(0); ; {
			start, end, err := v.NextData(off)
			if errors.Is(err, io.EOF) {
				break
			}
			if err != nil || start < off || end <= start || end > v.Size() {
				t.Fatalf("data after %d: %d to %d, %v", off, start, end, err)
			}
			copy(covered[start:end], want[start:end])
			off = end
		}
		if !bytes.Equal(covered, want) {
			t.Fatal("data outside of the ranges")
		}
	})
}

// ConformTarget checks what package replication expects of a target. make gives a
// fresh volume of zeros; reopen the same one as after a restart.
func ConformTarget(t *testing.T, make func(t *testing.T, size int64) (v replication.TargetVolume, reopen func() replication.TargetVolume)) {
	const size = 2<<20 + 4096
	t.Run("a synced write is there after a restart", func(t *testing.T) {
		v, reopen := make(t, size)
		want := pattern(size)
		must(t, writeAll(v, want, 0))
		must(t, v.Sync())
		must(t, v.Close())
		v = reopen()
		got := bytes.Repeat([]byte{1}, size)
		if n, err := v.ReadAt(got, 0); n != size {
			t.Fatalf("read %d, %v", n, err)
		}
		if !bytes.Equal(got, want) {
			t.Fatal("other bytes after a restart")
		}
	})
	t.Run("zeroed ranges read as zeros, their neighbours stay", func(t *testing.T) {
		v, _ := make(t, size)
		want := pattern(size)
		must(t, writeAll(v, want, 0))
		must(t, v.Zero(8192, 1<<20))
		must(t, v.Zero(size-4096, 4096))
		clear(want[8192 : 8192+1<<20])
		clear(want[size-4096:])
		got := bytes.Repeat([]byte{1}, size)
		if n, err := v.ReadAt(got, 0); n != size {
			t.Fatalf("read %d, %v", n, err)
		}
		if !bytes.Equal(got, want) {
			t.Fatal("other bytes than zeroed")
		}
	})
	t.Run("writes beyond the end are refused", func(t *testing.T) {
		v, _ := make(t, size)
		if err := writeAll(v, pattern(8192), size-4096); err == nil {
			t.Fatal("it grew")
		}
		if err := v.Zero(size-4096, 8192); err == nil {
			t.Fatal("it grew")
		}
	})
}

func writeAll(v replication.TargetVolume, p []byte, off int64) error {
	n, err := v.WriteAt(p, off)
	if err == nil && n < len(p) {
		err = io.ErrShortWrite
	}
	return err
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// pattern gives bytes that differ from block to block and are never zero.
func pattern(n int) []byte {
	b := make([]byte, n)
	for i := range b {
		b[i] = byte(1 + (i/4096*31+i*7)%255)
	}
	return b
}
