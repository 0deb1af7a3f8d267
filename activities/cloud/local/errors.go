package local

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/user"

	"golang.org/x/sys/unix"

	"lifeboat/activities/cloud"
)

// causes is the one table from errors of the operating system to the contract's.
// The first that matches counts.
var causes = []struct {
	err     error
	code    cloud.Code
	message string
	mend    string
}{
	{unix.ENOSPC, cloud.NoSpace, "no space left on the file system", "free space, or move the site to a larger file system"},
	{unix.EDQUOT, cloud.NoSpace, "the disk quota of the user is used up", "free space, or raise the quota"},
	{unix.EFBIG, cloud.NoSpace, "the file system does not hold files of this size", "use a file system for large files (ext4, xfs, btrfs)"},
	{fs.ErrPermission, cloud.Denied, "permission denied", "give the user access, or run as the user who owns it"},
	{unix.EROFS, cloud.Denied, "the file system is read-only", "mount it for writing, or use another directory"},
	{fs.ErrNotExist, cloud.NotFound, "does not exist", "check the path"},
	{unix.ENOTDIR, cloud.InvalidInput, "a part of the path is not a directory", "check the path"},
	{unix.EISDIR, cloud.InvalidInput, "is a directory", "name a file or a block device"},
	{unix.ENAMETOOLONG, cloud.InvalidInput, "the name is too long", "use a shorter path"},
	{unix.EIO, cloud.Corrupt, "the storage reported an input/output error", "check the disk (dmesg, smartctl)"},
	{unix.EMFILE, cloud.Unavailable, "too many open files", "raise the limit of open files (ulimit -n)"},
	{unix.ENFILE, cloud.Unavailable, "too many open files on this machine", "end programs that are not needed"},
	{unix.ENOMEM, cloud.Unavailable, "out of memory", "free memory"},
	{unix.EBUSY, cloud.InUse, "is in use", "end what uses it"},
	{unix.ETXTBSY, cloud.InUse, "is in use", "end what uses it"},
	{context.Canceled, cloud.Unavailable, "the call was cancelled", ""},
	{context.DeadlineExceeded, cloud.Unavailable, "the call ran out of time", ""},
}

// osError turns an error of the operating system about a path into one of the
// contract; errors of the contract pass unchanged.
func osError(op, path string, err error) error {
	if err == nil || cloud.CodeOf(err) != "" {
		return err
	}
	for _, c := range causes {
		if errors.Is(err, c.err) {
			message := c.message
			if c.code == cloud.Denied {
				message += " for user " + userName()
			}
			return cloud.E(c.code, op, path, message, c.mend, err)
		}
	}
	return cloud.E(cloud.Unavailable, op, path, err.Error(), "", err)
}

// userName names the user that this process runs as.
func userName() string {
	if u, err := user.Current(); err == nil {
		return u.Username
	}
	return fmt.Sprintf("%d", os.Getuid())
}

// isAny tells whether err is one of the given errors.
func isAny(err error, targets ...error) bool {
	for _, t := range targets {
		if errors.Is(err, t) {
			return true
		}
	}
	return false
}

// notFound is the error for a resource that is not there.
func notFound(op string, kind cloud.Kind, id string) error {
	return cloud.E(cloud.NotFound, op, fmt.Sprintf("%s %s", kind, id), "there is no such "+string(kind)+" at this site", "", nil)
}

// invalid is the error for a request that can never be right.
func invalid(op, resource, message, mend string) error {
	return cloud.E(cloud.InvalidInput, op, resource, message, mend, nil)
}
