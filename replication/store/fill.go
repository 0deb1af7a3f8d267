package store

import (
	"context"
	"errors"
	"io"

	"lifeboat/replication/block"
	"lifeboat/replication/volume"
)

// fillStep is read at once, fillReport how much is looked at between two calls of progress.
const (
	fillStep   = 1 << 20
	fillReport = 64 << 20
)

// Fill makes the head equal to a volume of its size: what is the same already is read
// and compared, not written. It is not durable before Sync or Point. progress gets the
// position; its error ends the work.
func (h *Head) Fill(ctx context.Context, from volume.Source, progress func(done int64) error) error {
	buffer := volume.Buffer(fillStep)
	done, reported := int64(0), int64(0)
	for done < h.Size() {
		start, end, err := from.NextData(done)
		if errors.Is(err, io.EOF) {
			start, end = h.Size(), h.Size()
		} else if err != nil {
			return err
		}
		// Whole pieces: an extent may begin and end anywhere.
		start = max(done, start/block.Piece*block.Piece)
		end = min((end+block.Piece-1)/block.Piece*block.Piece, h.Size())
		if err := h.Zero(done, start-done); err != nil {
			return err
		}
		for done = start; done < end; {
			if err := ctx.Err(); err != nil {
				return err
			}
			n := min(fillStep, end-done)
			if err := volume.ReadFull(from, buffer[:n], done); err != nil {
				return err
			}
			if _, err := h.WriteAt(buffer[:n], done); err != nil {
				return err
			}
			if done += n; done-reported >= fillReport {
				reported = done
				if err := progress(done); err != nil {
					return err
				}
			}
		}
	}
	return errors.Join(ctx.Err(), progress(done))
}
