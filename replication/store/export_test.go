package store

import "errors"

// Abandon leaves a head as a process that is killed between two batches does.
func (h *Head) Abandon() error {
	h.mu.Lock()
	defer h.mu.Unlock()
	for h.writing != nil {
		h.moved.Wait()
	}
	h.closed = true
	h.err = errors.New("abandoned")
	var err error
	if h.pack != nil {
		err = h.pack.file.Close()
	}
	return errors.Join(err, h.lock.Close())
}
