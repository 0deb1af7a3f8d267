package floor

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"math/big"
	"net"
	"time"
)

// wrapper makes the two ends of a connection secure, or leaves them as they are.
type wrapper struct{ serverConfig, clientConfig *tls.Config }

func newWrapper(secure bool) (wrapper, error) {
	if !secure {
		return wrapper{}, nil
	}
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return wrapper{}, err
	}
	template := &x509.Certificate{SerialNumber: big.NewInt(1), NotAfter: time.Now().Add(time.Hour)}
	der, err := x509.CreateCertificate(rand.Reader, template, template, &key.PublicKey, key)
	if err != nil {
		return wrapper{}, err
	}
	return wrapper{
		serverConfig: &tls.Config{Certificates: []tls.Certificate{{Certificate: [][]byte{der}, PrivateKey: key}}, MinVersion: tls.VersionTLS13},
		// Both ends are this process: there is nobody to authenticate.
		clientConfig: &tls.Config{InsecureSkipVerify: true, MinVersion: tls.VersionTLS13},
	}, nil
}

func (w wrapper) server(c net.Conn) net.Conn {
	if w.serverConfig == nil {
		return c
	}
	return tls.Server(c, w.serverConfig)
}

func (w wrapper) client(c net.Conn) net.Conn {
	if w.clientConfig == nil {
		return c
	}
	return tls.Client(c, w.clientConfig)
}
