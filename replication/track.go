package replication

// tokens asks the tracker to name this moment, for the pass after the coming one.
func (ss *sourceSession) tokens() map[string]string {
	tracker := ss.s.engine.config.Tracker
	if tracker == nil {
		return nil
	}
	out := map[string]string{}
	for _, d := range ss.spec.Disks {
		if c, err := tracker.Changes(ss.link.ctx, ss.s.name, d, ""); err == nil && c.Token != "" {
			out[d.Name] = c.Token
		}
	}
	return out
}

// trustTracker decides, once both ends are compared, for which disks the tracker's word
// counts: those whose index is as the tracker's last moment left it. From then on
// only our own passes change the index, and only in ranges that the tracker names.
func (ss *sourceSession) trustTracker() {
	ss.tracking = map[string]bool{}
	marks := ss.s.snapshot().Trackers
	for i, d := range ss.spec.Disks {
		mark, ok := marks[d.Name]
		ss.tracking[d.Name] = ok && mark.Root == rootString(ss.indexes[i].root())
	}
}

// tracked gives the regions that may have changed, where a tracker knows; nil means all.
func (ss *sourceSession) tracked() []map[int64]bool {
	tracker, marks := ss.s.engine.config.Tracker, ss.s.snapshot().Trackers
	if tracker == nil || len(marks) == 0 {
		return nil
	}
	only := make([]map[int64]bool, len(ss.spec.Disks))
	for i, d := range ss.spec.Disks {
		mark, ok := marks[d.Name]
		if !ok || !ss.tracking[d.Name] {
			continue
		}
		c, err := tracker.Changes(ss.link.ctx, ss.s.name, d, mark.Token)
		if err != nil || !c.Known {
			continue // it does not know: the disk is scanned
		}
		only[i] = map[int64]bool{}
		for _, x := range c.Extents {
			for r := x.Offset / RegionSize; r*RegionSize < x.Offset+x.Length; r++ {
				only[i][r] = true
			}
		}
	}
	return only
}
