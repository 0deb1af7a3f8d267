package floor

import (
	"bufio"
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"sync/atomic"

	"github.com/zeebo/blake3"
	"github.com/zeebo/xxh3"

	"lifeboat/tools/bench/measure"
	"lifeboat/tools/bench/workload"
)

// Proof is how a shipped piece is checked at the other end.
type Proof int

// No check; XXH3-64 of each piece; BLAKE3 of each 64 KiB, over TLS 1.3.
const (
	None Proof = iota
	Fast
	Secure
)

const headerSize = 48 // offset, length, hash

// Shipment is one way to bring extents of a source to a target.
type Shipment struct {
	From, To    string
	Extents     []workload.Extent
	Connections int
	SkipZeros   bool
	Proof       Proof
}

// Run sends the extents in pieces of 256 KiB over loopback connections to
// loops that write them.
func (s Shipment) Run() (measure.Sample, error) {
	es := workload.Split(s.Extents, piece)
	wrap, err := newWrapper(s.Proof == Secure)
	if err != nil {
		return measure.Sample{}, err
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return measure.Sample{}, err
	}
	defer l.Close()
	var next atomic.Int64
	return timed(func() error {
		return parallel(2*s.Connections, func(i int) error {
			if i%2 == 0 {
				c, err := l.Accept()
				if err != nil {
					return err
				}
				defer c.Close()
				return s.receive(wrap.server(c))
			}
			c, err := net.Dial("tcp", l.Addr().String())
			if err != nil {
				return err
			}
			defer c.Close()
			return s.send(wrap.client(c), es, &next)
		})
	})
}

func (s Shipment) send(c net.Conn, es []workload.Extent, next *atomic.Int64) error {
	f, err := os.Open(s.From)
	if err != nil {
		return err
	}
	defer f.Close()
	buf, zero := make([]byte, headerSize+piece), make([]byte, piece)
	for k := next.Add(1) - 1; k < int64(len(es)); k = next.Add(1) - 1 {
		p := buf[headerSize : headerSize+es[k].Length]
		if _, err := f.ReadAt(p, es[k].Offset); err != nil {
			return err
		}
		if s.SkipZeros && bytes.Equal(p, zero[:len(p)]) {
			continue
		}
		binary.LittleEndian.PutUint64(buf, uint64(es[k].Offset))
		binary.LittleEndian.PutUint64(buf[8:], uint64(len(p)))
		h := s.hash(p)
		copy(buf[16:headerSize], h[:])
		if _, err := c.Write(buf[:headerSize+len(p)]); err != nil {
			return err
		}
	}
	if err := c.(interface{ CloseWrite() error }).CloseWrite(); err != nil {
		return err
	}
	if n, err := io.Copy(io.Discard, c); err != nil || n != 1 {
		return fmt.Errorf("floor: the receiver gave up: %w", err)
	}
	return nil
}

func (s Shipment) receive(c net.Conn) error {
	d, err := os.OpenFile(s.To, os.O_WRONLY, 0)
	if err != nil {
		return err
	}
	defer d.Close()
	buf := make([]byte, headerSize+piece)
	r := bufio.NewReaderSize(c, 64<<10)
	for {
		if _, err := io.ReadFull(r, buf[:headerSize]); errors.Is(err, io.EOF) {
			if _, err := c.Write([]byte{1}); err != nil {
				return err
			}
			return c.Close()
		} else if err != nil {
			return err
		}
		p := buf[headerSize : headerSize+binary.LittleEndian.Uint64(buf[8:])]
		if _, err := io.ReadFull(r, p); err != nil {
			return err
		}
		if h := s.hash(p); !bytes.Equal(h[:], buf[16:headerSize]) {
			return errors.New("floor: wrong hash")
		}
		if _, err := d.WriteAt(p, int64(binary.LittleEndian.Uint64(buf))); err != nil {
			return err
		}
	}
}

func (s Shipment) hash(p []byte) (h [32]byte) {
	switch s.Proof {
	case Fast:
		binary.LittleEndian.PutUint64(h[:], xxh3.Hash(p))
	case Secure:
		for o := 0; o < len(p); o += 64 << 10 {
			for i, b := range blake3.Sum256(p[o:min(o+64<<10, len(p))]) {
				h[i] ^= b
			}
		}
	}
	return h
}
