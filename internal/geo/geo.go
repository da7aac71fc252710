// Package geo says in which country a client address is, from any MaxMind DB
// that holds countries: those called Country, City or Enterprise, of MaxMind,
// DB-IP, IP2Location, IPinfo or IPLocate.
//
// The file is read once, into tables of runs of neighbouring addresses with the
// same country, and then closed; a look-up never touches it. The answer is what
// a reader of the file would give for every address, whatever the length of its
// network, IPv4 and IPv6, 6to4 and Teredo included. Only an IPv4 address that is
// written as IPv6 is always looked up as IPv4.
//
// # Cost
//
// A table takes some 7 bytes for each run of IPv4 and 11 for each of IPv6, and
// 2 MB in any case. A full Country database takes about 8 MB; a City database
// takes no more, for its networks melt into the same runs. While one is loaded
// its file is in memory too. Whatever a file holds, a table stays below 160 MiB,
// and loading ends after work that is proportional to the file's size.
package geo

import (
	"context"
	"encoding/binary"
	"fmt"
	"io/fs"
	"log/slog"
	"net/netip"
	"os"
	"sync"
	"sync/atomic"
	"time"
)

// DB is an open country database. Its methods may be called by any number of
// goroutines at once; Watch by one.
type DB struct {
	path string
	log  *slog.Logger
	// opened is what the file was when Open read it.
	opened fs.FileInfo
	now    atomic.Pointer[table]

	mu  sync.Mutex
	err error // why the file at path is not what is in use
}

// Open loads the database at path, which takes some 0.2 s for each million
// networks. The error says why a file cannot be used: it is missing, broken, cut
// short, or of a kind that holds no country (ASN, Anonymous-IP, ISP and the
// like). There is nothing to close.
func Open(path string, log *slog.Logger) (*DB, error) {
	db := &DB{path: path, log: log.With("component", "geo", "path", path)}
	t, info, err := open(context.Background(), path)
	if err != nil {
		return nil, err
	}
	db.opened = info
	db.use(t)
	return db, nil
}

// open reads and flattens a file. It returns what the file was even when it is
// broken.
func open(ctx context.Context, path string) (*table, fs.FileInfo, error) {
	raw, info, err := read(path)
	if err != nil {
		return nil, info, fmt.Errorf("read country database %s: %w", path, err)
	}
	t, err := load(ctx, raw)
	if err != nil {
		return nil, info, fmt.Errorf("load country database %s: %w", path, err)
	}
	return t, info, nil
}

// Country returns the country of a client address that is written as Parse
// describes: two upper case letters or digits, as the database has them (ISO
// 3166-1, and a few user-assigned ones such as XK). It is empty when the text is
// no address or the database does not know it. Country does not allocate.
func (db *DB) Country(client []byte) string {
	a, ok := parse(client)
	if !ok {
		return ""
	}
	return db.now.Load().country(a)
}

// CountryOf is Country for an address that was parsed already.
func (db *DB) CountryOf(addr netip.Addr) string {
	if !addr.IsValid() {
		return ""
	}
	b := addr.As16()
	return db.now.Load().country(address{hi: binary.BigEndian.Uint64(b[:8]), lo: binary.BigEndian.Uint64(b[8:])})
}

// Info describes the database in use.
type Info struct {
	// Type is the database's own name for what it is, such as
	// "GeoLite2-Country". It comes from the file: escape it.
	Type string
	// Built is when its maker built it.
	Built time.Time
	// Countries is how many it knows.
	Countries int
	// Bytes is the memory its tables take.
	Bytes int
	// Err says why the file that is there now is not the one in use; nil if it
	// is.
	Err error
}

// Info returns what is in use now.
func (db *DB) Info() Info {
	t := db.now.Load()
	db.mu.Lock()
	defer db.mu.Unlock()
	return Info{
		Type: t.kind, Built: t.built, Countries: len(t.names) - 1,
		Bytes: t.size(), Err: db.err,
	}
}

// Watch looks at the file at each tick until ctx ends or ticks is closed, and
// loads it when it is another one than before (device and inode, size or time of
// change) and the same as at the last tick, so that a file that is still being
// copied is left alone. Ticks every few seconds are enough. Look-ups go on with
// the old table until the new one is complete. A file that is missing, broken or
// of the wrong kind changes nothing: it is logged once, shown by Info, and the
// next change of the file is tried again.
func (db *DB) Watch(ctx context.Context, ticks <-chan time.Time) {
	tried, seen := db.opened, db.opened
	var outcome error // of what was tried last
	for {
		select {
		case <-ctx.Done():
			return
		case _, ok := <-ticks:
			if !ok || ctx.Err() != nil {
				return
			}
		}
		info, err := os.Stat(db.path)
		if err != nil {
			seen = nil
			db.failed(fmt.Errorf("look at country database: %w", err))
			continue
		}
		settled := same(info, seen)
		seen = info
		switch {
		case !settled:
			continue
		case same(info, tried):
			db.set(outcome) // it may have been away
			continue
		}
		var t *table
		t, tried, err = open(ctx, db.path)
		if ctx.Err() != nil {
			return
		}
		outcome = err
		if err != nil {
			db.failed(err)
			continue
		}
		db.use(t)
	}
}

// set says why the file is not in use, or by nil that it is.
func (db *DB) set(err error) {
	db.mu.Lock()
	defer db.mu.Unlock()
	db.err = err
}

// failed does that and logs the first of a row of failures.
func (db *DB) failed(err error) {
	level := slog.LevelWarn
	if db.Info().Err != nil {
		level = slog.LevelDebug
	}
	db.set(err)
	db.log.Log(context.Background(), level, "country database cannot be loaded; the one before stays in use", "error", err)
}

// use makes t the table of all look-ups from now on.
func (db *DB) use(t *table) {
	db.now.Store(t)
	db.set(nil)
	db.log.Info("country database loaded", "type", t.kind, "built", t.built, "countries", len(t.names)-1, "bytes", t.size())
}
