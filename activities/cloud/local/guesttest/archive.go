package guesttest

import (
	"bytes"
	"fmt"
	"io/fs"
	"path"
)

// archive is an initial file system in the format that the kernel reads
// (cpio, "newc").
type archive struct {
	out   bytes.Buffer
	seen  map[string]bool
	inode int
}

const (
	typeFile = 0o100000
	typeDir  = 0o040000
	typeLink = 0o120000
)

// add adds a file and the directories above it; a name that is there stays.
func (a *archive) add(name string, content []byte, mode fs.FileMode) {
	a.entry(name, typeFile|int(mode.Perm()), content)
}

// link adds a symbolic link.
func (a *archive) link(name, target string) { a.entry(name, typeLink|0o777, []byte(target)) }

func (a *archive) entry(name string, mode int, content []byte) {
	if a.seen == nil {
		a.seen = map[string]bool{".": true}
	}
	if a.seen[name] {
		return
	}
	if dir := path.Dir(name); !a.seen[dir] {
		a.entry(dir, typeDir|0o755, nil)
	}
	a.seen[name] = true
	a.write(name, mode, content)
}

func (a *archive) write(name string, mode int, content []byte) {
	a.inode++
	// Inode, mode, user, group, links, time, size, four device numbers, length of the name, checksum.
	fmt.Fprintf(&a.out, "070701%08x%08x%08x%08x%08x%08x%08x%08x%08x%08x%08x%08x%08x", a.inode, mode, 0, 0, 1, 0, len(content), 0, 0, 0, 0, len(name)+1, 0)
	a.out.WriteString(name + "\x00")
	a.pad()
	a.out.Write(content)
	a.pad()
}

func (a *archive) pad() {
	for a.out.Len()%4 != 0 {
		a.out.WriteByte(0)
	}
}

// bytes ends the archive and returns it.
func (a *archive) bytes() []byte {
	a.write("TRAILER!!!", 0, nil)
	return a.out.Bytes()
}
