package file

import (
	"fmt"
	"os"
	"syscall"
)

// Magic numbers of the file systems that nxadm/tail may watch (statfs(2)). The
// library ends the process when a stat fails, so only those are here whose stat
// answers from memory and cannot fail on an open file. Network and FUSE file
// systems can; XFS does once it has shut down after an I/O error; overlayfs asks
// what is under it, which may be XFS.
const (
	magicExt   = 0xEF53
	magicBtrfs = 0x9123683E
	magicTmpfs = 0x01021994
	magicF2fs  = 0xF2F52010
)

// followable returns a descriptor of its own for f and the name under which it
// can be opened whatever happens to f's path.
func followable(f *os.File) (*os.File, string, error) {
	var sfs syscall.Statfs_t
	if err := syscall.Fstatfs(int(f.Fd()), &sfs); err != nil {
		return nil, "", err
	}
	switch uint32(sfs.Type) {
	case magicExt, magicBtrfs, magicTmpfs, magicF2fs:
	default:
		return nil, "", errNoTail
	}
	// Opened, not duplicated: the copy has its own offset and closes by itself.
	// It fails where /proc is not mounted, and tells so before tail tries.
	own, err := os.Open(fmt.Sprintf("/proc/self/fd/%d", f.Fd()))
	if err != nil {
		return nil, "", err
	}
	return own, fmt.Sprintf("/proc/self/fd/%d", own.Fd()), nil
}
