package delta

import (
	"crypto/tls"
	"errors"
	"fmt"
	"net"
)

// refusal recognises what a target does that does not know our key: with TLS 1.3 it
// says so only after our side of the handshake is done.
func refusal(err error) error {
	var alert tls.AlertError
	var op *net.OpError
	if errors.As(err, &alert) || errors.As(err, &op) && op.Op == "remote error" {
		return fmt.Errorf("%w: the target does not know our key; prepare the target with its fingerprint (%w)", ErrWrongPeer, err)
	}
	return err
}
