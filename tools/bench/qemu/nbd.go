package qemu

import (
	"encoding/binary"
	"fmt"
	"io"
	"net"
	"os"

	"lifeboat/tools/bench/workload"
)

// The numbers of the NBD protocol that writeExtents uses:
// https://github.com/NetworkBlockDevice/nbd/blob/master/doc/proto.md
const (
	nbdOptionMagic   = "IHAVEOPT"
	nbdOptExportName = 1
	nbdRequestMagic  = 0x25609513
	nbdCmdWrite      = 1
	nbdCmdDisconnect = 2
	nbdGreeting      = 18 // bytes: two magics and flags
	nbdExportAnswer  = 10 // bytes, with NBD_FLAG_NO_ZEROES
	nbdReply         = 16 // bytes
)

// writeExtents writes the extents of image to the export of an NBD server.
func writeExtents(conn net.Conn, export, image string, es []workload.Extent) error {
	f, err := os.Open(image)
	if err != nil {
		return err
	}
	defer f.Close()
	if _, err := io.ReadFull(conn, make([]byte, nbdGreeting)); err != nil {
		return fmt.Errorf("nbd greeting: %w", err)
	}
	hello := binary.BigEndian.AppendUint32(nil, 3) // fixed newstyle, no zeroes
	hello = append(hello, nbdOptionMagic...)
	hello = binary.BigEndian.AppendUint32(hello, nbdOptExportName)
	hello = binary.BigEndian.AppendUint32(hello, uint32(len(export)))
	if _, err := conn.Write(append(hello, export...)); err != nil {
		return fmt.Errorf("nbd option: %w", err)
	}
	if _, err := io.ReadFull(conn, make([]byte, nbdExportAnswer)); err != nil {
		return fmt.Errorf("nbd export %s: %w", export, err)
	}
	reply := make([]byte, nbdReply)
	for _, e := range workload.Split(es, 1<<20) {
		data := make([]byte, e.Length)
		if _, err := f.ReadAt(data, e.Offset); err != nil {
			return err
		}
		if _, err := conn.Write(append(nbdRequest(nbdCmdWrite, e), data...)); err != nil {
			return fmt.Errorf("nbd write: %w", err)
		}
		if _, err := io.ReadFull(conn, reply); err != nil {
			return fmt.Errorf("nbd reply: %w", err)
		}
		if code := binary.BigEndian.Uint32(reply[4:]); code != 0 {
			return fmt.Errorf("nbd write at %d: error %d", e.Offset, code)
		}
	}
	_, err = conn.Write(nbdRequest(nbdCmdDisconnect, workload.Extent{}))
	return err
}

func nbdRequest(command uint16, e workload.Extent) []byte {
	b := binary.BigEndian.AppendUint32(nil, nbdRequestMagic)
	b = binary.BigEndian.AppendUint16(b, 0)
	b = binary.BigEndian.AppendUint16(b, command)
	b = binary.BigEndian.AppendUint64(b, 1) // cookie
	b = binary.BigEndian.AppendUint64(b, uint64(e.Offset))
	return binary.BigEndian.AppendUint32(b, uint32(e.Length))
}
