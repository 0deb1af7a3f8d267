// Package store keeps recovery points of volumes in a directory, and a volume that is written
// as their head. A point costs what changed since the last one, whatever the file system can.
// It knows neither clouds nor workflows.
//
// # Words
//
//   - A piece is 64 KiB of a volume, known by its BLAKE3 hash (package block). Pieces of zeros
//     are not stored; equal ones are stored once.
//   - A pack is a file of slots of 64 KiB. A slot holds a piece; it is written once and never
//     used again.
//   - A page is 128 hashes. The pages of a volume are the tree of package block: the root
//     of a point is the root that a copy of the volume is proved by.
//   - A point is the page at the top of such a tree, with a name. It never changes.
//   - A head is a volume that is written (volume.Target). It is a tree as well, and shares with
//     points what they have in common. Head.Point freezes it.
//
// # Files
//
// packs/<number>.pack, and index.db, a transactional file (package txfile) that several
// processes may use at once, with these buckets:
//
//	points   id → JSON: volume, size, root, top page, labels, time
//	heads    name → JSON: size, top page, the pack that is being written
//	nodes    hash of a page → the page; those of level 0 also say in which slots the pieces are
//	refs     hash of a page → how many pages, points and heads refer to it
//	blocks   hash of a piece → slot
//	packs    pack → for each slot, how many pages refer to it
//	punch    slots that nothing refers to, to be given back to the file system
//	empty    packs without such slots, to be removed
//	doomed   pages that nothing refers to, to be taken apart
//
// # Rules
//
//  1. A slot is written and synced before a transaction refers to it.
//  2. What was synced is there after a kill at any moment; what was not may be there or not, piece
//     by piece. A point is whole or absent.
//  3. Taking apart a point or a large zeroed range is done in bounded transactions. What is
//     interrupted is gone on with by the next Open of a head, or Delete.
//  4. A piece is checked against its hash before a byte of it is handed out, a page whenever it is
//     read. Damage is an error that names point or head, offset, file and slot; the rest stays readable.
//     When a damaged piece is written again, its slot is mended for all who refer to it.
//  5. A head has one writer, held by a lock that the kernel lets go when its process dies.
//
// # Memory
//
// A head has at most two batches of 16 MiB, while it is written, and 1 MiB of pages. Nothing
// grows with the volume.
package store
