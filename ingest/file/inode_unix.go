//go:build unix

package file

import (
	"io/fs"
	"syscall"
)

// inode returns the device and inode number of a file.
func inode(fi fs.FileInfo) (dev, ino uint64) {
	st, ok := fi.Sys().(*syscall.Stat_t)
	if !ok {
		return 0, 0
	}
	return uint64(st.Dev), uint64(st.Ino) //nolint:unconvert // their types differ between systems: Dev is an int32 on macOS
}

// unlinked tells that no name leads to an open file any more: it can never be
// found again.
func unlinked(fi fs.FileInfo) bool {
	st, ok := fi.Sys().(*syscall.Stat_t)
	return ok && st.Nlink == 0
}
