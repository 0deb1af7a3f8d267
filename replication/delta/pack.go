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
// time to pack and to send the rest is less than to send all. Times are seconds a byte, and
// weighted means: of rates, one frame that found room in the socket buffer would hide how slow
// the link is.
type packer struct {
	buf    []byte
	frames int
	link   float64 // to send
	pack   float64 // to pack
	ratio  float64 // packed by unpacked
}

// try packs the payload of a lane's frame, with head bytes of room before it; ok is false
// when it is to be sent as it is.
func (p *packer) try(l *lane, head int) (packed []byte, ok bool) {
	p.frames++
	if l.n < 1<<10 || l.s.compress == CompressNever {
		return nil, false
	}
	probe := p.frames%probeEvery == probeEvery/8 && p.link > 1/packAtMost
	if l.s.compress != CompressAlways && !probe && !p.pays() {
		return nil, false
	}
	if p.buf == nil {
		p.buf = make([]byte, head, head+maxPayload+maxPayload/8)
	}
	began := time.Now()
	p.buf = encoder().EncodeAll(l.buf[head:head+l.n], p.buf[:head])
	n := len(p.buf) - head
	mean(&p.pack, time.Since(began).Seconds()/float64(l.n))
	mean(&p.ratio, float64(n)/float64(l.n))
	return p.buf, n < l.n-l.n/16
}

// packAtMost is the rate of a lane, in bytes a second, above which packing cannot pay: zstd's
// fastest level packs 0.3 GB/s on one core, and saves half at best of what disks usually hold.
const packAtMost = 200e6

func (p *packer) pays() bool {
	return p.ratio > 0 && p.pack+p.ratio*p.link < p.link
}

// wrote notes how long the connection took for a frame.
func (p *packer) wrote(n int, took time.Duration) {
	mean(&p.link, took.Seconds()/float64(n))
}

// mean moves an exponentially weighted mean.
func mean(m *float64, v float64) {
	if *m == 0 {
		*m = v
		return
	}
	*m += (v - *m) / 8
}
