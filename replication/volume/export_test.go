package volume

import (
	"context"
	"os"
)

// What the tests need of the inside.

type Run struct {
	Start, End    int64
	Kind          byte
	Extent, Place uint64
}

const (
	KindZero    = byte(kindZero)
	KindData    = byte(kindData)
	KindUnknown = byte(kindUnknown)
)

var ErrNoMap = errNoMap

func exported(runs []run) (out []Run) {
	for _, r := range runs {
		out = append(out, Run{r.start, r.end, byte(r.kind), r.extent, r.place})
	}
	return out
}

func ParseFiemap(buf []byte, off int64) ([]Run, bool, error) {
	runs, last, err := parseFiemap(buf, off)
	return exported(runs), last, err
}

func ParseBtrfs(buf []byte, inode uint64, off int64) ([]Run, error) {
	runs, err := parseBtrfs(buf, inode, off)
	return exported(runs), err
}

// MapOf reads the map of a file by FIEMAP.
func MapOf(f *os.File) (runs []Run, err error) {
	for off := int64(0); ; {
		part, last, err := newFiemapReader(f).read(off)
		if err != nil {
			return nil, err
		}
		runs = append(runs, exported(part)...)
		if last {
			return runs, nil
		}
		off = runs[len(runs)-1].End
	}
}

// FakeMap is the map of a file that is not there; it is read in parts of so many runs.
type FakeMap struct {
	Size int64
	Runs []Run
	Part int
	Read func() // called at each read
}

func (f FakeMap) mapping() *mapping {
	return newMappingOf(f.Size, func(off int64) (runs []run, last bool, err error) {
		if f.Read != nil {
			f.Read()
		}
		for _, r := range f.Runs {
			if r.End > off && len(runs) < f.Part {
				runs = append(runs, run{r.Start, r.End, kind(r.Kind), r.Extent, r.Place})
			}
		}
		return runs, len(runs) == 0 || runs[len(runs)-1].end == f.Runs[len(f.Runs)-1].End, nil
	})
}

func DiffMaps(ctx context.Context, old, new FakeMap, limit int) ([]Extent, error) {
	return diffMappings(ctx, old.mapping(), new.mapping(), limit)
}

// DiffByFiemap is Diff as it is for others than root.
func DiffByFiemap(ctx context.Context, old, new *os.File) ([]Extent, error) {
	a, err := newFiemapMapping(old)
	if err != nil {
		return nil, err
	}
	b, err := newFiemapMapping(new)
	if err != nil {
		return nil, err
	}
	return diffMappings(ctx, a, b, MaxDiffExtents)
}

func (v *file) IsDirect() bool { return v.direct }
