// Package state keeps everything denywatch must remember in one file, changed
// only in whole cuts: positions, counts, baselines, markers, incidents and the
// outbox of one instant become durable together or not at all.
//
// The store is a bbolt file in the state folder. Every value carries a CRC-32C.
// Where several members share one state, Replicate lets somebody else decide
// about each change; the file is then this member's copy.
// A store that cannot be read is set aside under a new name, never deleted, and
// Open starts an empty one and says so.
package state

import (
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"log/slog"
	"os"
	"path/filepath"
	"runtime/debug"
	"slices"
	"time"

	"go.etcd.io/bbolt"
	bolterrors "go.etcd.io/bbolt/errors"

	"github.com/denywatch/denywatch/internal/crash"
)

// Version is the version of the store's layout. A store of a newer version is
// not opened.
const Version = 1

const (
	fileName   = "denywatch.db"
	metaBucket = "meta"
	versionKey = "version"
)

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// Errors of Open and View.
var (
	// ErrLocked: another process uses the state folder.
	ErrLocked = errors.New("another denywatch uses this state folder")
	// ErrDamaged: a value's checksum is wrong or its form is unknown.
	ErrDamaged = errors.New("state is damaged")
	// ErrNewer: the store was written by a newer denywatch.
	ErrNewer = errors.New("state was written by a newer denywatch")
)

// Store is the durable state. It is safe for concurrent use; Updates are
// serialised.
type Store struct {
	db   *bbolt.DB
	path string
	// SetAside is the path that a damaged store was moved to by Open; empty if
	// all was well.
	SetAside string

	replicate func([]Change) error // nil: Update decides by itself
}

// Change is one change of the store: what lies under Key in Bucket from then on.
type Change struct {
	Bucket, Key string
	// Value is nil where the key is deleted; an empty value is not nil.
	Value []byte
}

// Open opens or creates the store in dir, creating dir (mode 0700) if needed.
// While the store is open no other process can open it. If check is not nil it
// is called on the opened store, and an error that is ErrDamaged moves the store
// aside and starts an empty one; check is where callers read what they kept.
func Open(dir string, log *slog.Logger, check func(*Store) error) (*Store, error) {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, fmt.Errorf("state folder %s cannot be created: %w (set state: in the configuration to a folder denywatch may write)", dir, err)
	}
	path := filepath.Join(dir, fileName)
	s, err := open(path)
	if err == nil && check != nil {
		err = guard(s, check)
	}
	if err == nil {
		return s, nil
	}
	if s != nil {
		_ = s.Close()
	}
	if !errors.Is(err, ErrDamaged) {
		return nil, err
	}
	aside := fmt.Sprintf("%s.damaged-%s", path, time.Now().UTC().Format("20060102T150405.000"))
	if rerr := os.Rename(path, aside); rerr != nil {
		return nil, fmt.Errorf("%w, and it cannot be set aside: %w", err, rerr)
	}
	if serr := syncDir(dir); serr != nil {
		return nil, serr
	}
	log.Error("state was unreadable and is set aside; starting cold: files are read from their beginning and baselines are learned anew",
		"error", err, "kept", aside)
	s, err = open(path)
	if err != nil {
		return nil, err
	}
	s.SetAside = aside
	if check != nil {
		if err := guard(s, check); err != nil {
			_ = s.Close()
			return nil, err
		}
	}
	return s, nil
}

// guard turns a panic of bbolt on damaged pages into ErrDamaged.
// A truncated file is mapped beyond its end, and reading there is a fault.
func guard(s *Store, check func(*Store) error) (err error) {
	defer debug.SetPanicOnFault(debug.SetPanicOnFault(true))
	defer func() {
		if p := recover(); p != nil {
			err = fmt.Errorf("%w: %v", ErrDamaged, p)
		}
	}()
	return check(s)
}

func open(path string) (s *Store, err error) {
	defer debug.SetPanicOnFault(debug.SetPanicOnFault(true))
	defer func() {
		if p := recover(); p != nil {
			s, err = nil, fmt.Errorf("%w: %v", ErrDamaged, p)
		}
	}()
	db, err := bbolt.Open(path, 0o600, &bbolt.Options{Timeout: time.Second, FreelistType: bbolt.FreelistMapType})
	switch {
	case errors.Is(err, bolterrors.ErrTimeout):
		return nil, fmt.Errorf("%s: %w; stop it, or set state: to another folder for this one", path, ErrLocked)
	case errors.Is(err, bolterrors.ErrInvalid), errors.Is(err, bolterrors.ErrChecksum), errors.Is(err, bolterrors.ErrVersionMismatch):
		return nil, fmt.Errorf("%s: %w: %w", path, ErrDamaged, err)
	case err != nil && (errors.Is(err, os.ErrPermission) || errors.Is(err, os.ErrNotExist)):
		return nil, fmt.Errorf("state file %s cannot be opened: %w (denywatch needs to read and write it)", path, err)
	case err != nil:
		var pe *os.PathError
		if errors.As(err, &pe) {
			return nil, fmt.Errorf("state file cannot be opened: %w", err)
		}
		return nil, fmt.Errorf("%s: %w: %w", path, ErrDamaged, err)
	}
	s = &Store{db: db, path: path}
	var version []byte
	err = s.View(metaBucket, func(k string, v []byte) error {
		if k == versionKey {
			version = append(version, v...)
		}
		return nil
	})
	empty := true
	if err == nil && version == nil {
		err = db.View(func(tx *bbolt.Tx) error {
			return tx.ForEach(func([]byte, *bbolt.Bucket) error { empty = false; return nil })
		})
	}
	switch {
	case err != nil:
	case version == nil && !empty:
		err = fmt.Errorf("%w: its version is missing", ErrDamaged)
	case version == nil:
		err = s.Update(func(tx *Tx) error { return tx.Put(metaBucket, versionKey, []byte{Version}) })
	case len(version) != 1:
		err = ErrDamaged
	case version[0] > Version:
		err = ErrNewer
	}
	if err != nil {
		_ = db.Close()
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	return s, nil
}

// Path is the store's file.
func (s *Store) Path() string { return s.path }

// Size is the file's size in bytes.
func (s *Store) Size() int64 {
	fi, err := os.Stat(s.path)
	if err != nil {
		return 0
	}
	return fi.Size()
}

// Close closes the store and frees its lock.
func (s *Store) Close() error { return s.db.Close() }

// Tx changes the store within Update.
type Tx struct {
	tx   *bbolt.Tx // nil while changes are only noted
	done []Change
}

// Put stores value under key in bucket, which is created if needed. The bytes
// may be reused when Put returns.
func (t *Tx) Put(bucket, key string, value []byte) error {
	if t.tx == nil {
		t.done = append(t.done, Change{bucket, key, append([]byte{}, value...)})
		return nil
	}
	b, err := t.tx.CreateBucketIfNotExists([]byte(bucket))
	if err != nil {
		return err
	}
	return b.Put([]byte(key), seal(value))
}

// Delete removes key from bucket; it is no error if it is not there.
func (t *Tx) Delete(bucket, key string) error {
	if t.tx == nil {
		t.done = append(t.done, Change{Bucket: bucket, Key: key})
		return nil
	}
	b := t.tx.Bucket([]byte(bucket))
	if b == nil {
		return nil
	}
	return b.Delete([]byte(key))
}

// Update makes all changes of fn durable together, or none if fn or the disk
// fails.
func (s *Store) Update(fn func(*Tx) error) error {
	if s.replicate != nil {
		var tx Tx
		if err := fn(&tx); err != nil {
			return err
		}
		return s.replicate(tx.done)
	}
	return s.update(fn)
}

func (s *Store) update(fn func(*Tx) error) error {
	crash.Point("cut.begin")
	err := s.db.Update(func(tx *bbolt.Tx) error {
		if err := fn(&Tx{tx: tx}); err != nil {
			return err
		}
		crash.Point("cut.filled")
		return nil
	})
	crash.Point("cut.committed")
	return err
}

// Replicate makes every Update from now on hand its changes to commit, which
// decides whether they hold and then calls Apply before it returns. It is called
// before anything else uses the store.
func (s *Store) Replicate(commit func([]Change) error) { s.replicate = commit }

// Apply makes changes durable here, all of them together or none, without asking
// whom Replicate named. With whole set they are all there is: whatever else lies in
// a bucket is removed, except in the buckets kept.
func (s *Store) Apply(changes []Change, whole bool, kept ...string) error {
	return s.update(func(tx *Tx) error {
		if whole {
			var old [][]byte
			if err := tx.tx.ForEach(func(name []byte, _ *bbolt.Bucket) error {
				if b := string(name); b != metaBucket && !slices.Contains(kept, b) {
					old = append(old, slices.Clone(name))
				}
				return nil
			}); err != nil {
				return err
			}
			for _, name := range old {
				if err := tx.tx.DeleteBucket(name); err != nil {
					return err
				}
			}
		}
		for _, c := range changes {
			var err error
			if c.Value == nil {
				err = tx.Delete(c.Bucket, c.Key)
			} else {
				err = tx.Put(c.Bucket, c.Key, c.Value)
			}
			if err != nil {
				return err
			}
		}
		return nil
	})
}

// All returns everything the store holds as changes of an empty one, but for the
// buckets left out.
func (s *Store) All(without ...string) ([]Change, error) {
	var out []Change
	err := s.db.View(func(tx *bbolt.Tx) error {
		return tx.ForEach(func(name []byte, b *bbolt.Bucket) error {
			bucket := string(name)
			if bucket == metaBucket || slices.Contains(without, bucket) {
				return nil
			}
			return b.ForEach(func(k, v []byte) error {
				p, err := unseal(v)
				if err != nil {
					return fmt.Errorf("bucket %s, key %q: %w", bucket, k, err)
				}
				out = append(out, Change{bucket, string(k), append([]byte{}, p...)})
				return nil
			})
		})
	})
	return out, err
}

// Get returns a copy of what lies under key in bucket, nil if nothing does.
func (s *Store) Get(bucket, key string) (value []byte, err error) {
	err = s.db.View(func(tx *bbolt.Tx) error {
		b := tx.Bucket([]byte(bucket))
		if b == nil {
			return nil
		}
		v := b.Get([]byte(key))
		if v == nil {
			return nil
		}
		p, err := unseal(v)
		if err != nil {
			return fmt.Errorf("bucket %s, key %q: %w", bucket, key, err)
		}
		value = append([]byte{}, p...)
		return nil
	})
	return value, err
}

// View calls fn for every key of bucket in byte order. value is valid only
// during the call. A wrong checksum is ErrDamaged.
func (s *Store) View(bucket string, fn func(key string, value []byte) error) error {
	return s.db.View(func(tx *bbolt.Tx) error {
		b := tx.Bucket([]byte(bucket))
		if b == nil {
			return nil
		}
		return b.ForEach(func(k, v []byte) error {
			p, err := unseal(v)
			if err != nil {
				return fmt.Errorf("bucket %s, key %q: %w", bucket, k, err)
			}
			return fn(string(k), p)
		})
	})
}

func seal(p []byte) []byte {
	out := make([]byte, 4+len(p))
	binary.LittleEndian.PutUint32(out, crc32.Checksum(p, castagnoli))
	copy(out[4:], p)
	return out
}

func unseal(v []byte) ([]byte, error) {
	if len(v) < 4 || crc32.Checksum(v[4:], castagnoli) != binary.LittleEndian.Uint32(v) {
		return nil, fmt.Errorf("%w: wrong checksum", ErrDamaged)
	}
	return v[4:], nil
}

// syncDir makes a rename in dir durable.
func syncDir(dir string) error {
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	defer d.Close()
	return d.Sync()
}

// WriteFile writes a small file so that after a crash it is there whole or not
// at all: temporary file, fsync, rename, fsync of the folder. mode is the file's.
func WriteFile(path string, data []byte, mode os.FileMode) error {
	dir := filepath.Dir(path)
	f, err := os.CreateTemp(dir, "."+filepath.Base(path)+".*")
	if err != nil {
		return err
	}
	tmp := f.Name()
	clean := func(err error) error {
		_ = f.Close()
		_ = os.Remove(tmp)
		return err
	}
	if err := f.Chmod(mode); err != nil {
		return clean(err)
	}
	if _, err := f.Write(data); err != nil {
		return clean(err)
	}
	crash.Point("identity.written")
	if err := f.Sync(); err != nil {
		return clean(err)
	}
	crash.Point("identity.synced")
	if err := f.Close(); err != nil {
		return clean(err)
	}
	if err := os.Rename(tmp, path); err != nil {
		_ = os.Remove(tmp)
		return err
	}
	crash.Point("identity.renamed")
	return syncDir(dir)
}
