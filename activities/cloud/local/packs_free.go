package local

import (
	"bytes"
	"context"
	"encoding/binary"
	"fmt"
	"os"

	"golang.org/x/sys/unix"
)

// freePacks removes the manifest of a snapshot and every page, block and pack
// that nothing else refers to. It may be called again after an interruption.
// The caller holds the job lock of the snapshot.
func (p *Provider) freePacks(ctx context.Context, snapshot string) error {
	for more := true; more; {
		err := p.index.update(ctx, func(t *tx) error {
			return t.s.guard(func() (err error) {
				more, err = freePart(t, snapshot)
				return err
			})
		})
		if err != nil {
			return err
		}
	}
	// Packs that a killed writer did not commit.
	var pending []uint64
	err := p.index.view(ctx, func(t *tx) error {
		return t.each(packBucket, func(id string, raw []byte) error {
			var r packRecord
			if err := t.decode(packBucket, id, raw, &r); err != nil || !r.Pending || r.Owner != snapshot {
				return err
			}
			pack, err := parsePackKey(id)
			pending = append(pending, pack)
			return err
		})
	})
	if err != nil {
		return err
	}
	for _, pack := range pending {
		if err := p.dropPack(ctx, pack); err != nil {
			return err
		}
	}
	return p.sweepPacks(ctx)
}

// freePart removes one part of a manifest; more is false when there was none.
func freePart(t *tx, snapshot string) (more bool, err error) {
	manifests, err := t.bucket(manifestBucket)
	if err != nil {
		return false, err
	}
	key, raw := manifests.Cursor().Seek([]byte(snapshot + "/"))
	if key == nil || !bytes.HasPrefix(key, []byte(snapshot+"/")) {
		return false, nil
	}
	hashes, err := decodeHashes(raw)
	if err != nil {
		return false, t.s.corrupt("the manifest of snapshot "+snapshot+" is damaged", err)
	}
	freed := map[uint64]int{}
	for _, h := range hashes {
		if h == (hash{}) {
			continue
		}
		if err := freePage(t, h, freed); err != nil {
			return false, err
		}
	}
	for pack, slots := range freed {
		var r packRecord
		found, err := t.get(packBucket, packKey(pack), &r)
		if err != nil {
			return false, err
		}
		if !found || r.Live < slots {
			return false, t.s.corrupt(fmt.Sprintf("pack %s does not hold what the index says", packKey(pack)), nil)
		}
		r.Live -= slots
		if err := t.put(packBucket, packKey(pack), r); err != nil {
			return false, err
		}
	}
	return true, manifests.Delete(bytes.Clone(key))
}

// freePage takes one reference from a page and, with the last, from its blocks.
func freePage(t *tx, h hash, freed map[uint64]int) error {
	pages, err := t.bucket(pageBucket)
	if err != nil {
		return err
	}
	blocks, err := t.bucket(blockBucket)
	if err != nil {
		return err
	}
	refs, encoded, err := decodeCounted(pages.Get(h[:]))
	if err != nil {
		return t.s.corrupt(fmt.Sprintf("page %x is damaged", h), err)
	}
	if refs > 1 {
		return pages.Put(h[:], encodeCounted(refs-1, encoded))
	}
	pg, err := decodePage(encoded)
	if err != nil {
		return t.s.corrupt(fmt.Sprintf("page %x is damaged", h), err)
	}
	for _, b := range pg {
		if b == (hash{}) {
			continue
		}
		l, err := decodeLocation(blocks.Get(b[:]))
		if err != nil {
			return t.s.corrupt(fmt.Sprintf("the place of block %x is damaged", b), err)
		}
		if l.refs--; l.refs > 0 {
			err = blocks.Put(b[:], l.encode())
		} else if err = blocks.Delete(b[:]); err == nil {
			freed[l.pack]++
			err = punchLater(t, l.pack, l.slot)
		}
		if err != nil {
			return err
		}
	}
	return pages.Delete(h[:])
}

// punchLater notes a slot whose space can be given back once the transaction is
// durable. Slots are never used again.
func punchLater(t *tx, pack uint64, slot uint32) error {
	b, err := t.bucket(punchBucket)
	if err != nil {
		return err
	}
	return b.Put(binary.BigEndian.AppendUint32(binary.BigEndian.AppendUint64(nil, pack), slot), []byte{1})
}

// sweepPacks gives space back to the file system: holes for dead slots, whole
// packs when none is live. Everything that it does may be done twice.
func (p *Provider) sweepPacks(ctx context.Context) error {
	dead, slots, err := p.garbage(ctx)
	if err != nil || len(dead)+len(slots) == 0 {
		return err
	}
	for pack, list := range slots {
		if dead[pack] {
			continue
		}
		if err := p.punch(pack, list); err != nil {
			return osError("Sweep", p.packPath(pack), err)
		}
	}
	for pack := range dead {
		if err := remove(p.path(packDir), p.packPath(pack)); err != nil {
			return osError("Sweep", p.packPath(pack), err)
		}
	}
	return p.index.update(ctx, func(t *tx) error {
		b, err := t.bucket(punchBucket)
		if err != nil {
			return err
		}
		for pack, list := range slots {
			for _, slot := range list {
				if err := b.Delete(binary.BigEndian.AppendUint32(binary.BigEndian.AppendUint64(nil, pack), slot)); err != nil {
					return err
				}
			}
		}
		for pack := range dead {
			if err := t.del(packBucket, packKey(pack)); err != nil {
				return err
			}
		}
		return nil
	})
}

// garbage lists committed packs without a live slot, and dead slots by pack.
func (p *Provider) garbage(ctx context.Context) (dead map[uint64]bool, slots map[uint64][]uint32, err error) {
	dead, slots = map[uint64]bool{}, map[uint64][]uint32{}
	err = p.index.view(ctx, func(t *tx) error {
		err := t.each(packBucket, func(id string, raw []byte) error {
			var r packRecord
			if err := t.decode(packBucket, id, raw, &r); err != nil || r.Pending || r.Live > 0 {
				return err
			}
			pack, err := parsePackKey(id)
			dead[pack] = true
			return err
		})
		if err != nil {
			return err
		}
		return t.each(punchBucket, func(id string, _ []byte) error {
			if len(id) != 12 {
				return t.s.corrupt("the list of dead blocks is damaged", nil)
			}
			pack := binary.BigEndian.Uint64([]byte(id))
			slots[pack] = append(slots[pack], binary.BigEndian.Uint32([]byte(id[8:])))
			return nil
		})
	})
	return dead, slots, err
}

func (p *Provider) punch(pack uint64, slots []uint32) error {
	file, err := os.OpenFile(p.packPath(pack), os.O_RDWR, 0)
	if os.IsNotExist(err) {
		return nil
	}
	if err != nil {
		return err
	}
	defer file.Close()
	for _, slot := range slots {
		err := unix.Fallocate(int(file.Fd()), unix.FALLOC_FL_PUNCH_HOLE|unix.FALLOC_FL_KEEP_SIZE, int64(slot)*blockSize, blockSize)
		if isAny(err, unix.EOPNOTSUPP, unix.ENOSYS) {
			return nil // the space comes back with the whole pack
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// dropPack removes a pack that was never committed: the file first, so that the
// index knows of every file.
func (p *Provider) dropPack(ctx context.Context, pack uint64) error {
	var r packRecord
	err := p.index.view(ctx, func(t *tx) error {
		_, err := t.get(packBucket, packKey(pack), &r)
		return err
	})
	if err != nil || !r.Pending {
		return err
	}
	if err := remove(p.path(packDir), p.packPath(pack)); err != nil {
		return osError("Sweep", p.packPath(pack), err)
	}
	return p.index.update(ctx, func(t *tx) error { return t.del(packBucket, packKey(pack)) })
}

func parsePackKey(id string) (pack uint64, err error) {
	if _, err := fmt.Sscanf(id, "%016x", &pack); err != nil || packKey(pack) != id {
		return 0, fmt.Errorf("pack name %q: %w", id, err)
	}
	return pack, nil
}
