package replication

import (
	"bytes"
	"crypto/x509"
	"io"
)

// FingerprintOf, EncodeFrameForTest and ReadFrameForTest let tests play a strange peer.
func FingerprintOf(cert *x509.Certificate) Fingerprint { return fingerprintOf(cert) }

func EncodeFrameForTest(typ byte, body []byte) []byte {
	w, err := encodeFrame(frameType(typ), body, false)
	if err != nil {
		panic(err)
	}
	return append(bytes.Clone(w.head[:]), w.body...)
}

func ReadFrameForTest(r io.Reader) (typ byte, body []byte, err error) {
	f, _, err := readFrame(r, maxBody)
	return byte(f.typ), f.body, err
}
