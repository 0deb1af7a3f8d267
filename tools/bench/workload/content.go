package workload

import (
	"encoding/binary"
	"math"
	"math/rand/v2"
	"strconv"
)

func rng(seed, stream uint64) *rand.Rand { return rand.New(rand.NewPCG(seed, stream)) }

// words is a fixed vocabulary; ids are drawn from it with a Zipf-like law, so
// that a general compressor gets about 2:1 on the text.
var words = func() [][]byte {
	r := rng(42, 42)
	const letters = "etaoinshrdlucmfwypvbgkjqxz"
	w := make([][]byte, 6000)
	for i := range w {
		b := make([]byte, 2+r.IntN(9))
		for j := range b {
			k := int(math.Abs(r.NormFloat64()) * 8)
			b[j] = letters[k%len(letters)]
		}
		w[i] = b
	}
	return w
}()

// fillText writes log-like lines: a time, words, hexadecimal ids.
func fillText(p []byte, r *rand.Rand) {
	var line [160]byte
	for n := 0; n < len(p); {
		l := line[:0]
		v := r.Uint64()
		l = append(l, "2026-"...)
		l = strconv.AppendUint(l, 10+v%3, 10)
		l = append(l, '-')
		l = strconv.AppendUint(l, 10+(v>>8)%18, 10)
		l = append(l, 'T')
		l = strconv.AppendUint(l, 10+(v>>16)%14, 10)
		l = append(l, ':')
		l = strconv.AppendUint(l, 10+(v>>24)%50, 10)
		l = append(l, '.')
		l = strconv.AppendUint(l, 100000+(v>>32)%900000, 10)
		l = append(l, ' ')
		for k := 4 + int(v>>60); k > 0 && len(l) < 110; k-- {
			u := r.Uint64()
			f := float64(u>>11) / (1 << 53)
			l = append(l, words[int(f*f*f*float64(len(words)))]...)
			if u&7 == 0 {
				l = append(l, '=')
				l = strconv.AppendUint(l, (u>>3)%1e9, 16)
			}
			l = append(l, ' ')
		}
		l = append(l, '\n')
		n += copy(p[n:], l)
	}
}

func fillRandom(p []byte, r *rand.Rand) {
	for i := 0; i+8 <= len(p); i += 8 {
		binary.LittleEndian.PutUint64(p[i:], r.Uint64())
	}
}

// fillData fills p with text or with random bytes, whole.
func fillData(p []byte, r *rand.Rand) {
	if r.Float64() < textShare {
		fillText(p, r)
	} else {
		fillRandom(p, r)
	}
}

// logUniform draws a block-aligned length between lo and hi bytes.
func logUniform(r *rand.Rand, lo, hi int64) int64 {
	v := math.Exp(math.Log(float64(lo)) + r.Float64()*(math.Log(float64(hi))-math.Log(float64(lo))))
	return max(int64(v)/Block*Block, Block)
}
