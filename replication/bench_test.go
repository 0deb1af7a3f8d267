package replication_test

import (
	"os"
	"path/filepath"
	"testing"
	"time"

	"lifeboat/replication"
	"lifeboat/replication/replicationtest"
)

// BenchmarkFullPass copies a disk of 256 MiB, half of it data that does not compress, over
// TLS on loopback, to a verified point.
func BenchmarkFullPass(b *testing.B) {
	const size = 256 << 20
	dir := b.TempDir()
	disk := filepath.Join(dir, "disk")
	f, err := os.Create(disk)
	check(b, err)
	check(b, f.Truncate(size))
	chunk := make([]byte, 1<<20)
	for off := int64(0); off < size; off += 2 << 20 {
		for i := range chunk {
			chunk[i] = byte(i*i>>3) ^ byte(off>>21) ^ byte(i>>7)
		}
		_, err := f.WriteAt(chunk, off)
		check(b, err)
	}
	check(b, f.Close())
	b.SetBytes(size / 2)
	for b.Loop() {
		run := b.TempDir()
		check(b, onePass(b, run, disk, size))
		check(b, os.RemoveAll(run))
	}
}

func check(b *testing.B, err error) {
	b.Helper()
	if err != nil {
		b.Fatal(err)
	}
}

func onePass(b *testing.B, dir, disk string, size int64) error {
	target, err := replication.Open(b.Context(), replication.Config{Dir: filepath.Join(dir, "t")})
	if err != nil {
		return err
	}
	defer target.Close()
	source, err := replication.Open(b.Context(), replication.Config{Dir: filepath.Join(dir, "s"), Pauser: &replicationtest.Pauser{}})
	if err != nil {
		return err
	}
	defer source.Close()
	info, err := target.PrepareTarget(b.Context(), replication.TargetSpec{Stream: testStream, Peer: source.Fingerprint(),
		Disks: []replication.Disk{{Name: "vda", Path: filepath.Join(dir, "replica"), Size: size}}})
	if err != nil {
		return err
	}
	err = source.StartSource(b.Context(), replication.SourceSpec{Stream: testStream, Disks: []replication.Disk{{Name: "vda", Path: disk}},
		TargetAddress: info.Address, TargetFingerprint: info.Fingerprint, Settings: replication.Settings{Interval: time.Hour}})
	if err != nil {
		return err
	}
	_, err = source.Mark(b.Context(), testStream, "first", "")
	return err
}
