package delta

import (
	"crypto/ed25519"
	"crypto/rand"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/hex"
	"encoding/pem"
	"errors"
	"fmt"
	"io/fs"
	"math/big"
	"os"
	"path/filepath"
	"strings"
	"time"
)

// Fingerprint names a public key: "sha256:" and the hex SHA-256 of its
// SubjectPublicKeyInfo.
type Fingerprint string

func fingerprintOf(cert *x509.Certificate) Fingerprint {
	sum := sha256.Sum256(cert.RawSubjectPublicKeyInfo)
	return Fingerprint("sha256:" + hex.EncodeToString(sum[:]))
}

// ParseFingerprint reads what a Fingerprint is written as.
func ParseFingerprint(s string) (Fingerprint, error) {
	digits, ok := strings.CutPrefix(s, "sha256:")
	if raw, err := hex.DecodeString(digits); !ok || err != nil || len(raw) != sha256.Size {
		return "", fmt.Errorf("%w: %q is not a fingerprint; one looks like sha256:<64 hex digits>", ErrInvalidSpec, s)
	}
	return Fingerprint(strings.ToLower(s)), nil
}

// Identity is the key of one end. It never leaves its file.
type Identity struct {
	cert        tls.Certificate
	fingerprint Fingerprint
}

// Fingerprint names the public key.
func (id *Identity) Fingerprint() Fingerprint { return id.fingerprint }

// LoadIdentity reads a key from a file, or makes one where there is no file.
func LoadIdentity(path string) (*Identity, error) {
	raw, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		raw, err = createKey(path)
	}
	if err != nil {
		return nil, fmt.Errorf("replication key: %w", err)
	}
	block, _ := pem.Decode(raw)
	if block == nil {
		return nil, fmt.Errorf("%w: key file %s holds no PEM block; restore it, or remove it, so that a new key is made, and tell the other ends its fingerprint", ErrDamagedState, path)
	}
	key, err := x509.ParsePKCS8PrivateKey(block.Bytes)
	signer, ok := key.(ed25519.PrivateKey)
	if err != nil || !ok {
		return nil, fmt.Errorf("%w: key file %s holds no Ed25519 key (%v); restore it, or remove it, so that a new key is made, and tell the other ends its fingerprint", ErrDamagedState, path, err)
	}
	return selfSigned(signer)
}

func createKey(path string) ([]byte, error) {
	_, key, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		return nil, err
	}
	der, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		return nil, err
	}
	raw := pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der})
	return raw, writeFileSynced(path, raw)
}

// selfSigned wraps the key into a certificate, which TLS wants; only its public
// key is ever looked at.
func selfSigned(key ed25519.PrivateKey) (*Identity, error) {
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1),
		Subject:      pkix.Name{CommonName: "lifeboat replication"},
		NotBefore:    time.Unix(0, 0),
		NotAfter:     time.Date(9999, 12, 31, 23, 59, 59, 0, time.UTC),
		KeyUsage:     x509.KeyUsageDigitalSignature,
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		return nil, err
	}
	leaf, err := x509.ParseCertificate(der)
	if err != nil {
		return nil, err
	}
	return &Identity{
		cert:        tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key, Leaf: leaf},
		fingerprint: fingerprintOf(leaf),
	}, nil
}

// TLS is common to both roles; accept judges the peer's fingerprint.
// Names and authorities play no part: a peer is its key.
func (id *Identity) TLS(accept func(Fingerprint) error) *tls.Config {
	return &tls.Config{
		MinVersion:             tls.VersionTLS13,
		Certificates:           []tls.Certificate{id.cert},
		ClientAuth:             tls.RequireAnyClientCert,
		InsecureSkipVerify:     true, // replaced by the pinned key below
		SessionTicketsDisabled: true,
		VerifyConnection: func(cs tls.ConnectionState) error {
			if len(cs.PeerCertificates) == 0 {
				return fmt.Errorf("%w: it showed no key", ErrWrongPeer)
			}
			return accept(fingerprintOf(cs.PeerCertificates[0]))
		},
	}
}

// writeFileSynced writes a private file so that it is whole or absent after a crash.
func writeFileSynced(path string, data []byte) error {
	tmp := path + ".tmp"
	f, err := os.OpenFile(tmp, os.O_CREATE|os.O_WRONLY|os.O_TRUNC, 0o600)
	if err != nil {
		return err
	}
	_, err = f.Write(data)
	if err == nil {
		err = f.Sync()
	}
	if err = errors.Join(err, f.Close()); err != nil {
		return err
	}
	if err := os.Rename(tmp, path); err != nil {
		return err
	}
	return syncDir(filepath.Dir(path))
}

func syncDir(dir string) error {
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}
