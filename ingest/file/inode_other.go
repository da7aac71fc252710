//go:build !unix

package file

import "io/fs"

// inode knows no numbers here: files are told apart by their first bytes.
func inode(fs.FileInfo) (dev, ino uint64) { return 0, 0 }

// unlinked takes a file whose path is gone as deleted; the system does not say.
func unlinked(fs.FileInfo) bool { return true }
