// Package index keeps what is known about one volume, on disk: the hash of every piece,
// the tree of pages above them up to the root and, if asked for, the digest of every
// block. The target keeps one about its disk; the source keeps one about what the target
// acknowledged as durable. Neither is ever held in memory as a whole.
//
// # Files
//
// PATH.tree is two header slots of 4 KiB, a bitmap with a bit for each page of level 0, and
// the pages of level 0, level 1 and so on (see block.Geometry), each at a place found by
// arithmetic. Pages of zeros are holes, so that empty space costs nothing.
// PATH.digests is a slot per region: 256 digests, the XXH3-64 of them, and the XXH3-64 of
// the 16 piece hashes that they belong to. If either sum differs from what the slot or the
// tree says now, the digests of that region are unknown. A stale, torn or damaged slot is thus
// never believed, and the file may even be removed.
//
// A piece may be unknown (block.Unknown). A bit in the bitmap says that a whole page is, whatever
// is at the page's place; so a volume of 16 TiB becomes unknown by writing 256 KiB.
// An entry of a page above says of a page with unknown pieces only that it has some,
// with a checksum of that page, so that damage of the pieces that are known is found too.
//
// # Crash rules
//
//  1. Before the first change after Open the header says "in use", durably. A run that
//     changes nothing writes nothing.
//  2. Hashes and digests are written in place and are durable after Sync. A hash is 32 bytes
//     at a multiple of 32, inside one sector: after a power loss it is the old one or the
//     new one. Which of the two is the caller's business: it marks Unknown what its
//     intent log says was being changed.
//  3. The bit of a page that is no longer wholly unknown is cleared on disk only after the
//     page is durable. Until then a crash makes it unknown again, never zeros.
//  4. The pages above level 0 are written by Commit only. After an unclean end they are not
//     believed: Open marks all pages of level 0 that are not holes as changed, and
//     the next Commit makes the pages above anew.
//  5. Close makes everything durable, then the header with the root and the state "clean".
//     From then on all is verified when it is read, each page by its entry in the page above
//     and the highest by the header. A page that does not match makes all pieces below it
//     unknown and is counted (DamagedPages). Damage costs a scan of that part, never a wrong hash.
//  6. A header is never written over the only good one. A header that cannot be read, or is of
//     another volume size or proof, makes Open start anew, and say why. A newer format is
//     refused.
//
// # Cost
//
// Opening reads two headers. A change costs the pages that it changes, and Commit costs those and
// the pages above them. Memory is at most 1 MiB of cached pages plus 16 KiB for each 256 GiB of
// volume that is looked at: 2 MiB in all for 16 TiB. Disk is 0.39 % of the used bytes for digests
// and 0.05 % for the tree.
package index
