package replication

import (
	"lifeboat/replication/volume"

	"go.uber.org/zap"
)

// tokens asks the tracker to name this moment, for the pass after the coming one.
func (ss *sourceSession) tokens() map[string]string {
	tracker := ss.s.engine.config.Tracker
	if tracker == nil {
		return nil
	}
	out := map[string]string{}
	for _, d := range ss.spec.Disks {
		if c, err := tracker.Changes(ss.ctx, ss.s.name, d, ""); err == nil && c.Token != "" {
			out[d.Name] = c.Token
		}
	}
	return out
}

// tracked gives the ranges that may have changed, by disk; nil, for all or for one, means that
// everything is to be read. The tracker is believed about disks whose index was, when both ends were
// compared, as the tracker's last moment left it. From then on only our own passes change
// the index, and only in ranges that the tracker names.
func (ss *sourceSession) tracked() [][]Extent {
	tracker, marks := ss.s.engine.config.Tracker, ss.s.snapshot().Trackers
	if tracker == nil || len(marks) == 0 {
		return nil
	}
	changed := make([][]Extent, len(ss.spec.Disks))
	for i, d := range ss.spec.Disks {
		mark, ok := marks[d.Name]
		if !ok || mark.Root != ss.roots[i] {
			continue
		}
		c, err := tracker.Changes(ss.ctx, ss.s.name, d, mark.Token)
		if err == nil && c.Known { // else it does not know: the disk is scanned
			changed[i] = append([]Extent{}, c.Extents...)
		}
	}
	return changed
}

// baseState is the cut of the last verified pass. Its clones are kept, so that the maps of the
// next ones can be compared with theirs: that says what changed, and costs what the maps cost.
type baseState struct {
	Cuts []string `json:"cuts"`
	// Marks say how the clones were when they were made.
	Marks []volume.Identity `json:"marks"`
	Roots []string          `json:"roots"`
}

// begunWith says for which disks the target had, when a pass began, what the clones of the base have.
func (ss *sourceSession) begunWith(base *baseState) []bool {
	out := make([]bool, len(ss.spec.Disks))
	if base == nil || len(base.Cuts) != len(out) || len(base.Marks) != len(out) || len(base.Roots) != len(out) {
		return out
	}
	for i := range out {
		out[i] = base.Roots[i] == ss.roots[i]
	}
	return out
}

// sinceBase gives the ranges in which a cut may differ from the last verified one, with the doubts
// of the comparison; nil for disks that have to be read.
func (ss *sourceSession) sinceBase(pass *passState) [][]Extent {
	base := ss.s.snapshot().Base
	if base == nil || len(pass.Tracked) != len(ss.spec.Disks) || ss.lost || ss.doubts.many {
		return nil
	}
	changed := make([][]Extent, len(ss.spec.Disks))
	for i, believed := range pass.Tracked {
		if !believed || !untouched(base.Cuts[i], base.Marks[i]) {
			continue
		}
		extents, known, err := volume.Diff(ss.ctx, base.Cuts[i], pass.Cuts[i])
		if err != nil {
			// A tracker that fails costs a scan, and nothing else.
			ss.s.engine.log.Warn("changes since the last cut are not known; the disk is scanned", zap.String("stream", ss.s.name),
				zap.String("disk", ss.spec.Disks[i].Name), zap.Error(err))
		}
		if err != nil || !known {
			continue
		}
		changed[i] = append(append([]Extent{}, extents...), ss.doubts.extents(i)...)
	}
	return changed
}

// untouched tells that a clone is as it was made. It is in a directory of our own, where
// nobody writes; a mistake shows in the times of the file.
func untouched(path string, mark volume.Identity) bool {
	id, err := volume.Identify(path)
	return err == nil && id.SameVolume(mark) && id.Size == mark.Size && id.Mtime == mark.Mtime && id.Ctime == mark.Ctime
}
