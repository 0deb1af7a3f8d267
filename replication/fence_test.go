package replication_test

import (
	"crypto/ed25519"
	"crypto/rand"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/binary"
	"encoding/hex"
	"encoding/json"
	"io"
	"math/big"
	"os"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"lifeboat/replication"

	"github.com/stretchr/testify/require"
	"github.com/zeebo/xxh3"
)

func TestSenderWithAnotherKeyIsRefused(t *testing.T) {
	t.Parallel()
	p := newPair(t, 1<<20)
	spec := p.targetSpec()
	spec.Peer = "sha256:0000"
	_, err := p.target.PrepareTarget(t.Context(), spec)
	require.NoError(t, err)
	require.NoError(t, p.source.StartSource(t.Context(), p.sourceSpec()))
	st := p.waitFor(func(s replication.Status) bool { return s.Health == replication.HealthStalled })
	require.Contains(t, st.HealthReason, "wrong peer")
	require.Contains(t, st.HealthReason, string(p.source.Fingerprint()))

	p.prepare() // the mend that the reason names
	p.waitFor(func(s replication.Status) bool { return s.LastPoint != nil })
}

func TestTargetWithAnotherKeyGetsNothing(t *testing.T) {
	t.Parallel()
	p := newPair(t, 1<<20)
	p.prepare()
	spec := p.sourceSpec()
	spec.TargetFingerprint = "sha256:1111"
	require.NoError(t, p.source.StartSource(t.Context(), spec))
	st := p.waitFor(func(s replication.Status) bool { return s.Health == replication.HealthStalled })
	require.Contains(t, st.HealthReason, "wrong peer")
	require.Zero(t, st.BytesSent)
}

func TestKeyIsPrivateAndStays(t *testing.T) {
	t.Parallel()
	p := newPair(t, 1<<20)
	fi, err := os.Stat(filepath.Join(p.dir, "source", "key.pem"))
	require.NoError(t, err)
	require.EqualValues(t, 0o600, fi.Mode().Perm())
	before, address := p.target.Fingerprint(), p.target.Address()
	require.NotEqual(t, before, p.source.Fingerprint())
	require.NoError(t, p.target.Close())
	p.openTarget()
	require.Equal(t, before, p.target.Fingerprint())
	require.Equal(t, address, p.target.Address(), "the port is remembered")
}

func TestStaleEpochIsRefusedEverywhere(t *testing.T) {
	t.Parallel()
	p := newPair(t, 1<<20)
	p.epoch = 5
	p.start()

	p.epoch = 4
	_, err := p.target.PrepareTarget(t.Context(), p.targetSpec())
	require.ErrorIs(t, err, replication.ErrStaleEpoch)
	require.ErrorIs(t, p.source.StartSource(t.Context(), p.sourceSpec()), replication.ErrStaleEpoch)
	require.ErrorIs(t, p.target.StopTarget(t.Context(), testStream, 4), replication.ErrStaleEpoch)

	p.epoch = 6 // the target moves on; the source still has 5
	p.prepare()
	st := p.waitFor(func(s replication.Status) bool { return s.Health == replication.HealthStalled })
	require.Contains(t, st.HealthReason, "stale epoch")
	require.NoError(t, p.source.StartSource(t.Context(), p.sourceSpec()))
	p.waitFor(func(s replication.Status) bool { return s.Epoch == 6 && s.LastPoint != nil && s.LastPoint.Epoch == 6 })
}

func TestStoppedTargetRefusesItsSenderAndKeepsPoints(t *testing.T) {
	t.Parallel()
	p := newPair(t, 1<<20)
	first := p.start()
	require.NoError(t, p.target.StopTarget(t.Context(), testStream, 1))
	require.NoError(t, p.target.StopTarget(t.Context(), testStream, 1))
	p.waitFor(func(s replication.Status) bool { return s.Health == replication.HealthStalled })
	require.NoError(t, p.target.Close())
	p.openTarget()
	points, err := p.target.Points(testStream)
	require.NoError(t, err)
	require.Len(t, points, 1)
	require.Equal(t, first.ID, points[0].ID)

	p.prepare() // started again with the same epoch
	p.mark("again")

	require.NoError(t, p.target.ForgetTarget(t.Context(), testStream))
	require.NoError(t, p.target.ForgetTarget(t.Context(), testStream))
	_, err = p.target.Points(testStream)
	require.ErrorIs(t, err, replication.ErrUnknownStream)
}

// A sender that is cut off while epochs change hands never writes again.
func TestEpochRaceHasOneWriter(t *testing.T) {
	t.Parallel()
	p := newPair(t, 8<<20)
	p.settings.Interval = time.Millisecond
	p.start()
	var wg sync.WaitGroup
	for epoch := int64(2); epoch <= 6; epoch++ {
		p.epoch = epoch
		spec := p.targetSpec()
		wg.Go(func() {
			if _, err := p.target.PrepareTarget(t.Context(), spec); err != nil {
				require.ErrorIs(t, err, replication.ErrStaleEpoch)
			}
		})
	}
	wg.Wait()
	p.epoch = 6
	p.prepare()
	before, err := replication.RootOfFile(t.Context(), p.replicas[0])
	require.NoError(t, err)
	f, err := os.OpenFile(p.disks[0], os.O_WRONLY, 0)
	require.NoError(t, err)
	_, err = f.WriteAt([]byte("epoch 1 writes this"), 4096)
	require.NoError(t, err)
	require.NoError(t, f.Close())
	p.waitFor(func(s replication.Status) bool { return s.Health == replication.HealthStalled })
	after, err := replication.RootOfFile(t.Context(), p.replicas[0])
	require.NoError(t, err)
	require.Equal(t, before, after)
}

// strangeSender speaks TLS with a pinned key, but what it likes.
func strangeSender(t *testing.T, p *pair) *tls.Conn {
	t.Helper()
	public, key, err := ed25519.GenerateKey(rand.Reader)
	require.NoError(t, err)
	template := &x509.Certificate{SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "x"}, NotAfter: time.Now().Add(time.Hour)}
	der, err := x509.CreateCertificate(rand.Reader, template, template, public, key)
	require.NoError(t, err)
	leaf, err := x509.ParseCertificate(der)
	require.NoError(t, err)
	spec := p.targetSpec()
	spec.Peer = fingerprintOf(leaf)
	_, err = p.target.PrepareTarget(t.Context(), spec)
	require.NoError(t, err)
	dialer := &tls.Dialer{Config: &tls.Config{InsecureSkipVerify: true, MinVersion: tls.VersionTLS13,
		Certificates: []tls.Certificate{{Certificate: [][]byte{der}, PrivateKey: key}}}}
	conn, err := dialer.DialContext(t.Context(), "tcp", p.target.Address())
	require.NoError(t, err)
	t.Cleanup(func() { _ = conn.Close() })
	return conn.(*tls.Conn)
}

// fingerprintOf names a key as engines do.
func fingerprintOf(cert *x509.Certificate) replication.Fingerprint {
	sum := sha256.Sum256(cert.RawSubjectPublicKeyInfo)
	return replication.Fingerprint("sha256:" + hex.EncodeToString(sum[:]))
}

// frame makes a control frame, as docs/replication.md specifies it.
func frame(typ byte, body []byte) []byte {
	b := append([]byte{'L', 'B', 2, typ, 0, 0, 0, 0}, make([]byte, 16)...)
	binary.LittleEndian.PutUint32(b[8:], uint32(len(body)))
	binary.LittleEndian.PutUint32(b[12:], uint32(len(body)))
	binary.LittleEndian.PutUint64(b[16:], xxh3.HashSeed(body, xxh3.Hash(b[:16])))
	return append(b, body...)
}

// readFrame reads the next one that is not a ping.
func readFrame(t *testing.T, r io.Reader) (typ byte, body []byte) {
	t.Helper()
	for {
		head := make([]byte, 24)
		_, err := io.ReadFull(r, head)
		require.NoError(t, err)
		body := make([]byte, binary.LittleEndian.Uint32(head[8:]))
		_, err = io.ReadFull(r, body)
		require.NoError(t, err)
		if head[3] != 4 {
			return head[3], body
		}
	}
}

func sayHello(t *testing.T, conn io.Writer, epoch int) {
	t.Helper()
	hello, err := json.Marshal(map[string]any{"min_version": 2, "max_version": 2, "proof": "blake3",
		"disks": []map[string]any{{"name": "vda", "size": 1 << 20}}, "body": map[string]any{"stream": testStream, "epoch": epoch}})
	require.NoError(t, err)
	_, err = conn.Write(frame(1, hello))
	require.NoError(t, err)
}

func TestCorruptFrameEndsTheSessionAndChangesNothing(t *testing.T) {
	t.Parallel()
	p := newPair(t, 1<<20)
	conn := strangeSender(t, p)
	sayHello(t, conn, 1)
	typ, _ := readFrame(t, conn)
	require.EqualValues(t, 2, typ, "welcome")

	bad := frame(10, []byte(`{"roots":["x"]}`)) // finish
	bad[len(bad)-1] ^= 1
	_, err := conn.Write(bad)
	require.NoError(t, err)
	for err == nil {
		_, err = conn.Read(make([]byte, 64))
	}
	points, err := p.target.Points(testStream)
	require.NoError(t, err)
	require.Empty(t, points)
}

// The epoch is checked before anything else, and the reason comes before the end.
func TestStaleEpochIsRefusedBeforeTheFirstByte(t *testing.T) {
	t.Parallel()
	p := newPair(t, 1<<20)
	p.epoch = 5
	conn := strangeSender(t, p)
	sayHello(t, conn, 4)
	typ, body := readFrame(t, conn)
	require.EqualValues(t, 3, typ, "error")
	require.Contains(t, string(body), `"stale-epoch"`)
}
