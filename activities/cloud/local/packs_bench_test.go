package local

import (
	"fmt"
	"os"
	"testing"
	"time"

	"lifeboat/activities/cloud"
)

// BenchmarkSnapshot measures a snapshot of a 100 GiB sparse disk with 1 GiB of
// data of which 1 % has changed since the last one, stored in packs.
func BenchmarkSnapshot(b *testing.B) {
	p, err := Open(b.Context(), cloud.Site{Name: "site", Directory: b.TempDir()}, Options{})
	if err != nil {
		b.Fatal(err)
	}
	defer p.Close()
	p.clones = false
	d, err := p.StartCreateDisk(b.Context(), cloud.CreateDisk{Create: cloud.Create{Token: "d"}, Bytes: 100 << 30})
	if err != nil {
		b.Fatal(err)
	}
	f, err := os.OpenFile(d.Path, os.O_WRONLY, 0)
	if err != nil {
		b.Fatal(err)
	}
	defer f.Close()
	write := func(seed uint64, at int64, n int) {
		if _, err := f.WriteAt(randomBytes(seed, n), at); err != nil {
			b.Fatal(err)
		}
	}
	for i := range uint64(64) {
		write(i, int64(i)*(3<<29), 16<<20)
	}
	cut := func(n int) {
		if _, err := p.StartSnapshots(b.Context(), cloud.CreateSnapshots{Create: cloud.Create{Token: fmt.Sprint("s", n)}, Disks: []string{d.ID}}); err != nil {
			b.Fatal(err)
		}
	}
	cut(-1)
	round := 0
	for b.Loop() {
		b.StopTimer()
		write(1000+uint64(round), int64(round%64)*(3<<29), 10<<20)
		b.StartTimer()
		cut(round)
		round++
	}
}

// BenchmarkUpdate measures one durable transaction of the store.
func BenchmarkUpdate(b *testing.B) {
	s, err := openStore(b.Context(), b.TempDir(), stateName, time.Second)
	if err != nil {
		b.Fatal(err)
	}
	for b.Loop() {
		if err := s.update(b.Context(), func(t *tx) error { return t.put("b", "x", 1) }); err != nil {
			b.Fatal(err)
		}
	}
}
