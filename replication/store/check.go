package store

import (
	"bytes"
	"encoding/binary"
	"fmt"

	bolt "go.etcd.io/bbolt"

	"lifeboat/replication/block"
)

// checker counts references.
type checker struct {
	tx     *bolt.Tx
	pages  map[block.Hash]uint32
	slots  map[slot]uint32
	blocks map[block.Hash]slot
}

func check(tx *bolt.Tx) error {
	k := &checker{tx, map[block.Hash]uint32{}, map[slot]uint32{}, map[block.Hash]slot{}}
	for _, step := range []func() error{k.roots, k.nodes, k.references, k.packs, k.pieces} {
		if err := step(); err != nil {
			return err
		}
	}
	return nil
}

func (k *checker) each(bucket string, fn func(key, value []byte) error) error {
	return k.tx.Bucket([]byte(bucket)).ForEach(fn)
}

func (k *checker) roots() error {
	err := k.each("points", func(key, raw []byte) error {
		r, err := decodePoint(string(key), raw)
		if err == nil && !block.Hash(r.Top).IsZero() {
			k.pages[block.Hash(r.Top)]++
		}
		return err
	})
	if err != nil {
		return err
	}
	return k.each("heads", func(key, raw []byte) error {
		r, err := decodeHead(string(key), raw)
		if err == nil && !block.Hash(r.Top).IsZero() {
			k.pages[block.Hash(r.Top)]++
		}
		return err
	})
}

func (k *checker) nodes() error {
	return k.each("nodes", func(key, raw []byte) error {
		n, err := decodeNode(raw)
		if err != nil || !bytes.Equal(hashBytes(n), key) {
			return fmt.Errorf("page %x is damaged: %w", key, err)
		}
		for i, h := range n.hashes {
			switch {
			case h.IsZero():
			case n.level > 0:
				k.pages[h]++
			case k.blocks[h] != 0 && k.blocks[h] != n.slots[i]:
				return fmt.Errorf("piece %x is in two slots", h)
			default:
				k.slots[n.slots[i]]++
				k.blocks[h] = n.slots[i]
			}
		}
		return nil
	})
}

func hashBytes(n *node) []byte { h := n.hash(); return h[:] }

// references compares those of pages; ones that nobody refers to must be doomed.
func (k *checker) references() error {
	doomed := map[block.Hash]bool{}
	err := k.each("doomed", func(key, _ []byte) error {
		_, h, err := decodeDoomed(key)
		doomed[h] = true
		return err
	})
	if err != nil {
		return err
	}
	err = k.each("refs", func(key, raw []byte) error {
		h := block.Hash(key)
		if got := binary.BigEndian.Uint32(raw); got != k.pages[h] {
			return fmt.Errorf("page %x has %d references, counted are %d", h, got, k.pages[h])
		}
		delete(k.pages, h)
		if k.tx.Bucket([]byte("nodes")).Get(key) == nil {
			return fmt.Errorf("page %x is referred to and missing", h)
		}
		return nil
	})
	if err != nil {
		return err
	}
	for h := range k.pages {
		return fmt.Errorf("page %x has no count of references", h)
	}
	return k.each("nodes", func(key, _ []byte) error {
		if k.tx.Bucket([]byte("refs")).Get(key) == nil && !doomed[block.Hash(key)] {
			return fmt.Errorf("page %x is left over", key)
		}
		return nil
	})
}

func (k *checker) packs() error {
	err := k.each("packs", func(key, raw []byte) error {
		r, err := decodePack(raw)
		if err != nil {
			return err
		}
		pack := binary.BigEndian.Uint64(key)
		if !r.open && r.empty() && k.tx.Bucket([]byte("empty")).Get(key) == nil {
			return fmt.Errorf("pack %s is left over", packName(pack))
		}
		for i, n := range r.refs {
			s := slotOf(pack, i)
			if n != k.slots[s] {
				return fmt.Errorf("slot %d of pack %s has %d references, counted are %d", i, packName(pack), n, k.slots[s])
			}
			delete(k.slots, s)
		}
		return nil
	})
	if err != nil {
		return err
	}
	for s := range k.slots {
		return fmt.Errorf("slot %d of pack %s is referred to and missing", s.place(), packName(s.pack()))
	}
	return nil
}

func (k *checker) pieces() error {
	err := k.each("blocks", func(key, raw []byte) error {
		n, err := decodeNumber(raw)
		if err != nil || k.blocks[block.Hash(key)] != slot(n) {
			return fmt.Errorf("piece %x is said to be where no page has it: %w", key, err)
		}
		delete(k.blocks, block.Hash(key))
		return nil
	})
	if err != nil {
		return err
	}
	for h := range k.blocks {
		return fmt.Errorf("piece %x is not known", h)
	}
	return nil
}
