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

// packer decides, frame by frame and from what it measured, whether packing pays: whether the
// time to pack and to send the rest is less than to send all. Times are seconds a byte, and
// weighted means: of rates, one frame that found room in the socket buffer would hide how slow
// the link is. How far a frame shrinks is tried on a part of it, because neighbours
// on a disk may be as different as a log and a film.
type packer struct {
	buf  []byte
	link float64 // to send
	pack float64 // to pack
}

// sampleSize is the part of a frame that is tried, twice.
const sampleSize = 4 << 10

// try packs the payload of a lane's frame, with head bytes of room before it; ok is false
// when it is to be sent as it is.
func (p *packer) try(l *lane, head int) (packed []byte, ok bool) {
	if l.n < 1<<10 || l.s.compress == CompressNever || l.s.compress != CompressAlways && p.link < 1/packAtMost {
		return nil, false
	}
	if p.buf == nil {
		p.buf = make([]byte, head, head+maxPayload+maxPayload/8)
	}
	payload := l.buf[head : head+l.n]
	if l.s.compress != CompressAlways && !p.pays(payload, head) {
		return nil, false
	}
	began := time.Now()
	n := p.encode(payload, head)
	mean(&p.pack, time.Since(began).Seconds()/float64(l.n))
	return p.buf, n < l.n-l.n/16
}

// encode packs b behind the head room, and gives its length then.
func (p *packer) encode(b []byte, head int) int {
	p.buf = encoder().EncodeAll(b, p.buf[:head])
	return len(p.buf) - head
}

// packAtMost is the rate of a lane, in bytes a second, above which packing is not even tried: zstd's
// fastest level packs 0.3 GB/s on one core and saves half at best of what disks usually hold, so it
// cannot pay above 0.15; and where both ends share busy processors a lane seems slower than the link.
const packAtMost = 80e6

// pays tries two parts of a payload.
func (p *packer) pays(payload []byte, head int) bool {
	size := min(sampleSize, len(payload))
	quarter := len(payload) / 4
	n := p.encode(payload[min(quarter, len(payload)-size):][:size], head)
	n += p.encode(payload[min(3*quarter, len(payload)-size):][:size], head)
	ratio := float64(n) / float64(2*size)
	if p.pack+ratio*p.link < p.link {
		return true
	}
	// A time that was measured while the processor was busy must not stand for ever.
	p.pack -= p.pack / 32
	return false
}

// wrote notes how long the connection took for a frame.
func (p *packer) wrote(n int, took time.Duration) {
	mean(&p.link, took.Seconds()/float64(n))
}

// mean moves an exponentially weighted mean. It is slow, because what the socket buffer, or
// the burst of a bandwidth limit, takes at once must not count for much.
func mean(m *float64, v float64) {
	if *m == 0 {
		*m = v
		return
	}
	*m += (v - *m) / 32
}
