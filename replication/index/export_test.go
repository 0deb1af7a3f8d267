package index

// Disk and OpenOn let tests put faults and power losses between an index and its files.
type Disk = disk

// OpenOn is Open with each file's disk wrapped.
func OpenOn(path string, o Options, wrap func(name string, d Disk) Disk) (*Index, Report, error) {
	return open(path, o, wrap)
}

// ParseHeader reads a header slot and writes it again.
func ParseHeader(b []byte) ([]byte, error) {
	h, err := parseHeader(b)
	if err != nil {
		return nil, err
	}
	return h.marshal(), nil
}
