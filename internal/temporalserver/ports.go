package temporalserver

import (
	"fmt"
	"math/rand/v2"
	"net"
	"strconv"
)

// Ports are looked for below the range from which the kernel takes the local
// end of outgoing connections: a remembered port is then free at the next start.
const (
	firstPort = 20000
	lastPort  = 32000
)

// choosePort gives the port asked for, else the remembered one, else the
// standard one when wanted and free, else any free one but taken.
func choosePort(asked, remembered, standard int, opts Options, taken int) (int, error) {
	for _, fixed := range []struct {
		port int
		mend string
	}{
		{asked, "end what listens there, or ask for another port"},
		{remembered, "end what listens there, or ask for another port: it is the one of the last start, which workers may know"},
	} {
		if fixed.port == 0 {
			continue
		}
		if err := portFree(fixed.port); err != nil {
			return 0, fmt.Errorf("port %d is not free: %w; %s", fixed.port, err, fixed.mend)
		}
		return fixed.port, nil
	}
	if opts.StandardPorts && portFree(standard) == nil {
		return standard, nil
	}
	for range 1000 {
		port := firstPort + rand.IntN(lastPort-firstPort)
		if port != taken && portFree(port) == nil {
			return port, nil
		}
	}
	return 0, fmt.Errorf("no free port found on %s between %d and %d", loopback, firstPort, lastPort)
}

func portFree(port int) error {
	l, err := net.Listen("tcp", net.JoinHostPort(loopback, strconv.Itoa(port)))
	if err != nil {
		return err
	}
	return l.Close()
}
