package floor

import (
	"io"
	"math/rand/v2"
	"net"
	"os"
	"sync/atomic"

	"github.com/zeebo/blake3"
	"github.com/zeebo/xxh3"

	"lifeboat/tools/bench/measure"
	"lifeboat/tools/bench/workload"
)

// The stages of a copy whose limits Limit measures.
const (
	StageRead   = "read, 256 KiB calls"
	StageScan   = "read and XXH3-128 of each 4 KiB"
	StageBLAKE3 = "BLAKE3 of 64 KiB pieces"
	StageTCP    = "TCP over loopback, 256 KiB writes, both ends"
	StageTLS    = "TLS 1.3 over loopback, 256 KiB writes, both ends"
	StageWrite  = "write, new pages, 256 KiB calls"
)

// Stages are all of them, in the order of a copy.
func Stages() []string {
	return []string{StageRead, StageScan, StageBLAKE3, StageTCP, StageTLS, StageWrite}
}

// Limit measures how fast a single stage can be with n workers (or
// connections), on an image of which es is data; scratch is a file that it
// writes and removes. It returns bytes a second.
func Limit(stage string, n int, image string, es []workload.Extent, scratch string) (float64, measure.Sample, error) {
	total := min(workload.Sum(es), 1<<30)
	var s measure.Sample
	var err error
	switch stage {
	case StageRead:
		total = workload.Sum(es)
		s, err = pieces(es, n, func() (func(p []byte, off int64) error, func() error, error) {
			f, err := os.Open(image)
			if err != nil {
				return nil, nil, err
			}
			return func(p []byte, off int64) error { _, err := f.ReadAt(p, off); return err }, f.Close, nil
		})
	case StageScan:
		total = workload.Sum(es)
		s, err = Scan(image, es, n)
	case StageBLAKE3:
		s, err = pieces(line(total), n, func() (func(p []byte, off int64) error, func() error, error) {
			return func(p []byte, off int64) error {
				for o := 0; o+64<<10 <= len(p); o += 64 << 10 {
					h := blake3.Sum256(p[o : o+64<<10])
					sink.Add(uint64(h[0]))
				}
				return nil
			}, func() error { return nil }, nil
		})
	case StageTCP, StageTLS:
		s, err = network(total, n, stage == StageTLS)
	case StageWrite:
		defer os.Remove(scratch)
		s, err = pieces(line(total), n, func() (func(p []byte, off int64) error, func() error, error) {
			f, err := os.OpenFile(scratch, os.O_CREATE|os.O_WRONLY, 0o600)
			if err != nil {
				return nil, nil, err
			}
			return func(p []byte, off int64) error { _, err := f.WriteAt(p, off); return err }, f.Close, nil
		})
	}
	return float64(total) / s.Wall, s, err
}

func line(n int64) []workload.Extent { return []workload.Extent{{Length: n}} }

// random returns a piece of random bytes.
func random() []byte {
	p := make([]byte, piece)
	r := rand.New(rand.NewPCG(1, 2))
	for i := range p {
		p[i] = byte(r.Uint32())
	}
	sink.Add(xxh3.Hash(p))
	return p
}

// pieces lets n workers take pieces of 256 KiB of the extents in turn.
func pieces(es []workload.Extent, n int, open func() (do func(p []byte, off int64) error, end func() error, err error)) (measure.Sample, error) {
	es = workload.Split(es, piece)
	buffers := make([][]byte, n)
	for i := range buffers {
		buffers[i] = random()
	}
	return timed(func() error {
		var next atomic.Int64
		return parallel(n, func(i int) error {
			do, end, err := open()
			if err != nil {
				return err
			}
			for k := next.Add(1) - 1; k < int64(len(es)); k = next.Add(1) - 1 {
				if err := do(buffers[i][:es[k].Length], es[k].Offset); err != nil {
					_ = end() // the first error counts
					return err
				}
			}
			return end()
		})
	})
}

// network sends total bytes over n connections; the other ends drop them.
func network(total int64, n int, secure bool) (measure.Sample, error) {
	wrap, err := newWrapper(secure)
	if err != nil {
		return measure.Sample{}, err
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return measure.Sample{}, err
	}
	defer l.Close()
	data := random()
	return timed(func() error {
		return parallel(2*n, func(i int) error {
			if i%2 == 0 {
				c, err := l.Accept()
				if err != nil {
					return err
				}
				defer c.Close()
				_, err = io.CopyBuffer(struct{ io.Writer }{io.Discard}, struct{ io.Reader }{wrap.server(c)}, make([]byte, piece))
				return err
			}
			raw, err := net.Dial("tcp", l.Addr().String())
			if err != nil {
				return err
			}
			c := wrap.client(raw)
			for sent := int64(0); sent < total/int64(n); sent += piece {
				if _, err := c.Write(data); err != nil {
					raw.Close()
					return err
				}
			}
			return c.Close()
		})
	})
}
