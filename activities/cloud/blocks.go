package cloud

import "context"

// BlockCopy asks the receiving site for a snapshot that is made of the blocks of a snapshot of
// another site.
type BlockCopy struct {
	Create
	From       Site   `json:"from"`
	SnapshotID string `json:"snapshot_id"`
	// FromBase is an earlier snapshot of the same disk at From, and Base its copy here: only what
	// changed between FromBase and SnapshotID is read and written then. Both or none are set; none
	// is a full copy. The copy is the same with any base: they are no parameters of the resource.
	FromBase string `json:"from_base,omitempty"`
	Base     string `json:"base,omitempty"`
	// Bytes is the size of the copy; 0 is that of the source. It may be larger, never smaller.
	Bytes int64 `json:"bytes,omitempty"`
	// Key is the encryption key of the receiving site; empty = the site's default. A copy on a
	// Base has the key of that.
	Key string `json:"key,omitempty"`
	// State is a directory of this process's machine that remembers what was written, so that a
	// copy that was broken off goes on there. Its loss costs writing blocks again, nothing else. It
	// is no parameter of the resource.
	State string `json:"-"`
}

// BlockCopier copies snapshots by reading and writing their blocks from here: through any network,
// between any accounts and regions whose blocks this process may read and write, at a cost of what
// changed, and as fast as the service takes blocks.
type BlockCopier interface {
	// CopyBlocks copies a snapshot that is Available and returns when the copy is. Each block is
	// checked when it is read and when it is written, and the copy as a whole when it is sealed:
	// bytes that do not fit are Corrupt, never in the copy. Time is that of the original. A base
	// that is gone, or of another disk, costs a full copy.
	//
	// The call takes as long as the blocks do. It may be broken off at any point and made again:
	// the same token goes on with the same snapshot, or begins anew where the service gave that
	// up, and what it leaves over is deleted. report hears of progress, in bytes of blocks; total
	// is an estimate until all blocks are listed. It may be nil.
	CopyBlocks(ctx context.Context, in BlockCopy, report func(done, total int64)) (Snapshot, error)
}
