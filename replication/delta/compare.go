package delta

import (
	"fmt"

	"lifeboat/replication/block"
	"lifeboat/replication/index"
)

// pagesInFlight are asked for at once, so that a long link is used.
const pagesInFlight = 64

// Compare makes the indexes say what the target really has. Equal roots are enough; else pages
// of hashes are compared from the top down, and where pieces differ, the target's hash
// is taken over: the next pass sends what the source has there. found, which may be nil, is
// called with each such piece.
func (s *Sender) Compare(found func(disk int, piece int64)) error {
	for disk, d := range s.disks {
		root, err := d.Index.Root()
		if err != nil {
			return err
		}
		if root.Known() && s.proof.RootString(root) == s.welcome.Roots[disk] {
			continue
		}
		if err := s.compareDisk(disk, found); err != nil {
			return s.cause(fmt.Errorf("compare disk %s with the target: %w", d.Name, err))
		}
	}
	return nil
}

// Equal tells whether the target has, by its own account, what the indexes say.
func (s *Sender) Equal() (bool, error) {
	for disk, d := range s.disks {
		root, err := d.Index.Root()
		if err != nil || !root.Known() || s.proof.RootString(root) != s.welcome.Roots[disk] {
			return false, err
		}
	}
	return true, nil
}

// compareDisk walks down where hashes differ. Answers come in any order.
func (s *Sender) compareDisk(disk int, found func(int, int64)) error {
	x := s.disks[disk].Index
	// Deepest first, so that the list stays short.
	todo := []pageID{{disk, s.geos[disk].Levels() - 1, 0}}
	asked := map[pageID]bool{}
	var updates []index.PieceHash
	for len(todo)+len(asked) > 0 {
		for len(todo) > 0 && len(asked) < pagesInFlight {
			id := todo[len(todo)-1]
			todo = todo[:len(todo)-1]
			asked[id] = true
			if err := s.link.send(framePageWanted, id.marshal(), false); err != nil {
				return err
			}
		}
		f, err := s.reply(framePage)
		if err != nil {
			return err
		}
		id, theirs, err := parsePageID(f.body, s.geos)
		if err != nil {
			return err
		}
		if !asked[id] || len(theirs) != block.PageSize {
			return fmt.Errorf("%w: a page that was not asked for", ErrProtocol)
		}
		delete(asked, id)
		var ours [block.PageSize]byte
		if err := x.Page(id.level, id.page, &ours); err != nil {
			return err
		}
		below := differing(&ours, theirs)
		if id.level > 0 {
			for _, i := range below {
				if child := id.page*block.Fanout + int64(i); child < s.geos[disk].Pages(id.level-1) {
					todo = append(todo, pageID{disk, id.level - 1, child})
				}
			}
			continue
		}
		updates = updates[:0]
		for _, i := range below {
			u := index.PieceHash{Piece: id.page*block.Fanout + int64(i), Hash: block.Hash(theirs[i*32:])}
			if u.Piece >= s.geos[disk].Pieces() {
				return fmt.Errorf("%w: a piece behind the end of disk %d", ErrProtocol, disk)
			}
			updates = append(updates, u)
			if found != nil {
				found(disk, u.Piece)
			}
		}
		if err := x.SetPieces(updates); err != nil {
			return SpaceError("index of the source", err)
		}
	}
	_, err := x.Commit()
	return SpaceError("index of the source", err)
}

// differing gives the entries of two pages that differ or are not known, the last first.
func differing(ours *[block.PageSize]byte, theirs []byte) (out []int) {
	for i := block.Fanout - 1; i >= 0; i-- {
		a, b := block.Hash(ours[i*32:]), block.Hash(theirs[i*32:])
		if a != b || !a.Known() {
			out = append(out, i)
		}
	}
	return out
}
