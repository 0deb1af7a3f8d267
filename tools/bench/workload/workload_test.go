package workload

import (
	"crypto/sha256"
	"encoding/hex"
	"io"
	"os"
	"path/filepath"
	"testing"
)

const testSize = 64 << 20

func digest(t *testing.T, path string) string {
	t.Helper()
	f, err := os.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	h := sha256.New()
	if _, err := io.Copy(h, f); err != nil {
		t.Fatal(err)
	}
	return hex.EncodeToString(h.Sum(nil))
}

func generate(t *testing.T, size int64, share float64) (base, changed string, es []Extent) {
	t.Helper()
	dir := t.TempDir()
	base, changed = filepath.Join(dir, "base"), filepath.Join(dir, "changed")
	if err := Generate(base, size, 1); err != nil {
		t.Fatal(err)
	}
	es, err := Mutate(base, changed, share, 2)
	if err != nil {
		t.Fatal(err)
	}
	return base, changed, es
}

func TestTheMapNamesAllThatChanged(t *testing.T) {
	t.Parallel()
	base, changed, es := generate(t, testSize, 0.01)
	if got, want := Sum(es), int64(testSize/100/Block*Block); got < want || got > want+Block {
		t.Fatalf("%d bytes changed, want about %d", got, want)
	}
	if Verify(base, changed) == nil {
		t.Fatal("the changed image equals its base")
	}
	if err := CopyRanges(base, changed, es); err != nil {
		t.Fatal(err)
	}
	if err := Verify(changed, base); err != nil {
		t.Fatalf("after the mapped ranges were copied: %v", err)
	}
}

func TestImagesAreTheSameEverywhere(t *testing.T) {
	t.Parallel()
	base, changed, _ := generate(t, 256<<20, 0.01)
	for path, want := range map[string]string{
		base:    "68682dfa61229283cde9640b076ac2ee806c3e796a94048da7c1c5aa606293b5",
		changed: "0b1c5555d0cfaafe7afaa9f885dce50dba442107d65fe1d2d122e9180134737f",
	} {
		if got := digest(t, path); got != want {
			t.Errorf("%s: SHA-256 %s, want %s", filepath.Base(path), got, want)
		}
	}
}

func TestMapsAreReadAsWritten(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "map")
	want := []Extent{{0, 4096}, {1 << 40, 8192}}
	if err := WriteMap(path, want); err != nil {
		t.Fatal(err)
	}
	got, err := ReadMap(path)
	if err != nil {
		t.Fatal(err)
	}
	if len(got) != 2 || got[0] != want[0] || got[1] != want[1] {
		t.Fatalf("got %v, want %v", got, want)
	}
}

func TestSpreadKeepsTheDataAndItsChanges(t *testing.T) {
	t.Parallel()
	base, changed, es := generate(t, testSize, 0.02)
	dir := t.TempDir()
	wide, wideChanged := filepath.Join(dir, "wide"), filepath.Join(dir, "wide.changed")
	const size = 16 * testSize
	for to, from := range map[string]string{wide: base, wideChanged: changed} {
		if err := Spread(to, from, size); err != nil {
			t.Fatal(err)
		}
	}
	moved := SpreadExtents(es, testSize, size)
	if Sum(moved) != Sum(es) {
		t.Fatalf("%d bytes moved, %d changed", Sum(moved), Sum(es))
	}
	if err := CopyRanges(wide, wideChanged, moved); err != nil {
		t.Fatal(err)
	}
	if err := Verify(wideChanged, wide); err != nil {
		t.Fatal(err)
	}
}

func TestVerifyFindsOneByteInAHole(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	a, b := filepath.Join(dir, "a"), filepath.Join(dir, "b")
	for _, p := range []string{a, b} {
		if err := CreateSparse(p, 64<<20); err != nil {
			t.Fatal(err)
		}
	}
	if err := Verify(a, b); err != nil {
		t.Fatal(err)
	}
	f, err := os.OpenFile(b, os.O_WRONLY, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if _, err := f.WriteAt([]byte{1}, 33<<20); err != nil {
		t.Fatal(err)
	}
	if Verify(a, b) == nil {
		t.Fatal("a byte in a hole was not noticed")
	}
}
