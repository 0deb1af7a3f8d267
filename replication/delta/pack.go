package delta

import (
	"sync"
	"time"

	"github.com/klauspost/compress/zstd"
)

// Compression says when payloads are packed.
type Compression string

// The choices. Auto packs while that is faster than sending as it is.
const (
	CompressAuto   Compression = "auto"
	CompressAlways Compression = "always"
	CompressNever  Compression = "never"
)

var (
	encoder = sync.OnceValue(func() *zstd.Encoder {
		e, err := zstd.NewWriter(nil, zstd.WithEncoderLevel(zstd.SpeedFastest), zstd.WithEncoderConcurrency(2),
			zstd.WithWindowSize(1<<18), zstd.WithEncoderCRC(false), zstd.WithLowerEncoderMem(true))
		if err != nil {
			panic(err) // constant options
		}
		return e
	})
	decoder = sync.OnceValue(func() *zstd.Decoder {
		d, err := zstd.NewReader(nil, zstd.WithDecoderConcurrency(2), zstd.WithDecoderMaxMemory(maxBody),
			zstd.WithDecoderMaxWindow(maxBody), zstd.WithDecoderLowmem(true))
		if err != nil {
			panic(err) // constant options
		}
		return d
	})
)

// Auto packs one frame in probeEvery, to know what packing would bring.
const probeEvery = 64

// packer decides, frame by frame and from what it measured, whether packing pays: whether the
// time to pack and to send the rest is less than to send all. All rates are weighted means.
type packer struct {
	buf    []byte
	frames int
	link   float64 // bytes a second that the connection took, waiting included
	pack   float64 // bytes a second that are packed
	ratio  float64 // packed by unpacked
}

// try packs the payload of a lane's frame, with head bytes of room before it; ok is false
// when it is to be sent as it is.
func (p *packer) try(l *lane, head int) (packed []byte, ok bool) {
	p.frames++
	if l.n < 1<<10 || l.s.compress == CompressNever {
		return nil, false
	}
	probe := p.frames%probeEvery == probeEvery/2 && p.link > 0 && p.link < packAtMost
	if l.s.compress != CompressAlways && !probe && !p.pays() {
		return nil, false
	}
	if p.buf == nil {
		p.buf = make([]byte, head, head+maxPayload+maxPayload/8)
	}
	began := time.Now()
	p.buf = encoder().EncodeAll(l.buf[head:head+l.n], p.buf[:head])
	n := len(p.buf) - head
	mean(&p.pack, float64(l.n)/max(time.Since(began).Seconds(), 1e-6))
	mean(&p.ratio, float64(n)/float64(l.n))
	return p.buf, n < l.n-l.n/16
}

// packAtMost is the rate of a link, in bytes a second, above which packing cannot pay: zstd's
// fastest level packs 0.3 GB/s on one core.
const packAtMost = 600e6

func (p *packer) pays() bool {
	return p.ratio > 0 && p.link > 0 && 1/p.pack+p.ratio/p.link < 1/p.link
}

// wrote notes how fast the connection took a frame.
func (p *packer) wrote(n int, took time.Duration) {
	mean(&p.link, float64(n)/max(took.Seconds(), 1e-6))
}

// mean moves an exponentially weighted mean.
func mean(m *float64, v float64) {
	if *m == 0 {
		*m = v
		return
	}
	*m += (v - *m) / 8
}
