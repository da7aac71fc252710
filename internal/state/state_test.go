package state_test

import (
	"errors"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"go.etcd.io/bbolt"

	"github.com/denywatch/denywatch/internal/state"
)

var quiet = slog.New(slog.DiscardHandler)

func readAll(t *testing.T, s *state.Store, bucket string) map[string]string {
	t.Helper()
	m := map[string]string{}
	if err := s.View(bucket, func(k string, v []byte) error { m[k] = string(v); return nil }); err != nil {
		t.Fatal(err)
	}
	return m
}

func TestCutIsWhole(t *testing.T) {
	dir := t.TempDir()
	s, err := state.Open(dir, quiet, nil)
	if err != nil {
		t.Fatal(err)
	}
	put := func(kv map[string]string, fail error) error {
		return s.Update(func(tx *state.Tx) error {
			for k, v := range kv {
				if err := tx.Put("b", k, []byte(v)); err != nil {
					return err
				}
			}
			return fail
		})
	}
	if err := put(map[string]string{"a": "1", "c": ""}, nil); err != nil {
		t.Fatal(err)
	}
	if err := put(map[string]string{"a": "2", "b": "2"}, io.ErrUnexpectedEOF); !errors.Is(err, io.ErrUnexpectedEOF) {
		t.Fatalf("a failing cut returned %v", err)
	}
	if err := s.Update(func(tx *state.Tx) error { return tx.Delete("none", "x") }); err != nil {
		t.Fatal(err)
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	if s, err = state.Open(dir, quiet, nil); err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	if got := readAll(t, s, "b"); len(got) != 2 || got["a"] != "1" || got["c"] != "" {
		t.Fatalf("after a failed cut and a restart the bucket holds %v", got)
	}
}

func TestSecondProcessIsRefused(t *testing.T) {
	dir := t.TempDir()
	s, err := state.Open(dir, quiet, nil)
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	if _, err := state.Open(dir, quiet, nil); !errors.Is(err, state.ErrLocked) {
		t.Fatalf("a second opener got %v, want ErrLocked", err)
	}
}

func TestDamageIsSetAside(t *testing.T) {
	for name, harm := range map[string]func([]byte) []byte{
		"text":      func([]byte) []byte { return []byte("this is no database\n") },
		"truncated": func(b []byte) []byte { return b[:len(b)/8] },
		"torn pages": func(b []byte) []byte {
			for i := 2 * 4096; i < len(b); i++ {
				b[i] = 0xa5
			}
			return b
		},
		"zeroes": func(b []byte) []byte { clear(b); return b },
		"flipped": func(b []byte) []byte {
			i := strings.Index(string(b), "precious")
			b[i] ^= 1
			return b
		},
	} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			s, err := state.Open(dir, quiet, nil)
			if err != nil {
				t.Fatal(err)
			}
			if err := s.Update(func(tx *state.Tx) error { return tx.Put("b", "k", []byte("precious")) }); err != nil {
				t.Fatal(err)
			}
			path := s.Path()
			if err := s.Close(); err != nil {
				t.Fatal(err)
			}
			b, err := os.ReadFile(path)
			if err != nil {
				t.Fatal(err)
			}
			b = harm(b)
			if err := os.WriteFile(path, b, 0o600); err != nil {
				t.Fatal(err)
			}
			var log strings.Builder
			s, err = state.Open(dir, slog.New(slog.NewTextHandler(&log, nil)), func(s *state.Store) error {
				return s.View("b", func(string, []byte) error { return nil })
			})
			if err != nil {
				t.Fatal(err)
			}
			defer s.Close()
			kept, err := os.ReadFile(s.SetAside)
			if err != nil || string(kept) != string(b) {
				t.Fatalf("the damaged file was not kept: %v", err)
			}
			if !strings.Contains(log.String(), "set aside") || !strings.Contains(log.String(), filepath.Base(s.SetAside)) {
				t.Fatalf("the log does not say what happened: %s", log.String())
			}
			if got := readAll(t, s, "b"); len(got) != 0 {
				t.Fatalf("the new store holds %v", got)
			}
		})
	}
}

// TestNoVersion: a store that holds something but its version is damaged, and kept as
// it is.
func TestNoVersion(t *testing.T) {
	dir := t.TempDir()
	db, err := bbolt.Open(filepath.Join(dir, "denywatch.db"), 0o600, nil)
	if err != nil {
		t.Fatal(err)
	}
	if err := db.Update(func(tx *bbolt.Tx) error { _, err := tx.CreateBucket([]byte("b")); return err }); err != nil {
		t.Fatal(err)
	}
	if err := db.Close(); err != nil {
		t.Fatal(err)
	}
	b, err := os.ReadFile(filepath.Join(dir, "denywatch.db"))
	if err != nil {
		t.Fatal(err)
	}
	s, err := state.Open(dir, quiet, nil)
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	if kept, err := os.ReadFile(s.SetAside); err != nil || string(kept) != string(b) {
		t.Errorf("the store was changed before it was set aside as %q: %v", s.SetAside, err)
	}
}

func TestUnwritableFolder(t *testing.T) {
	dir := t.TempDir()
	file := filepath.Join(dir, "file")
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	_, err := state.Open(filepath.Join(file, "state"), quiet, nil)
	if err == nil || !strings.Contains(err.Error(), "state:") {
		t.Fatalf("got %v, want an error that says how to mend it", err)
	}
}

func TestWriteFile(t *testing.T) {
	path := filepath.Join(t.TempDir(), "key")
	for _, s := range []string{"one", "two"} {
		if err := state.WriteFile(path, []byte(s), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	fi, err := os.Stat(path)
	if err != nil || fi.Mode().Perm() != 0o600 {
		t.Fatalf("mode %v, %v", fi.Mode(), err)
	}
	b, _ := os.ReadFile(path)
	if string(b) != "two" {
		t.Fatalf("got %q", b)
	}
	if m, _ := filepath.Glob(filepath.Join(filepath.Dir(path), ".*")); len(m) != 0 {
		t.Fatalf("left behind: %v", m)
	}
}

// TestReplicate: whoever decides about changes gets all of an update at once, and
// what he applies is what the store holds.
func TestReplicate(t *testing.T) {
	s, err := state.Open(t.TempDir(), quiet, nil)
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	if err := s.Update(func(tx *state.Tx) error {
		return errors.Join(tx.Put("b", "old", []byte("1")), tx.Put("own", "place", []byte("7")))
	}); err != nil {
		t.Fatal(err)
	}
	var got []state.Change
	var verdict error
	s.Replicate(func(changes []state.Change) error { got = changes; return verdict })
	buf := []byte("new")
	change := func(tx *state.Tx) error {
		err := tx.Put("b", "k", buf)
		copy(buf, "xxx") // the store must not keep the bytes
		return errors.Join(err, tx.Put("b", "empty", nil), tx.Delete("b", "old"))
	}
	verdict = io.ErrClosedPipe
	if err := s.Update(change); !errors.Is(err, verdict) {
		t.Fatalf("got %v", err)
	}
	if all := readAll(t, s, "b"); len(all) != 1 || all["old"] != "1" || len(got) != 3 {
		t.Fatalf("a refused update left %v; %d changes were handed over", all, len(got))
	}
	if err := s.Apply(got, false); err != nil {
		t.Fatal(err)
	}
	if all := readAll(t, s, "b"); len(all) != 2 || all["k"] != "new" {
		t.Fatalf("the store holds %q", all)
	}
	if v, err := s.Get("b", "k"); err != nil || string(v) != "new" {
		t.Errorf("Get: %q, %v", v, err)
	}
	if v, err := s.Get("b", "empty"); err != nil || v == nil {
		t.Errorf("an empty value is %v, %v", v, err)
	}
	if v, err := s.Get("none", "k"); err != nil || v != nil {
		t.Errorf("nothing is %q, %v", v, err)
	}
	all, err := s.All("own")
	if err != nil || len(all) != 2 {
		t.Fatalf("All: %v, %v", all, err)
	}
	if err := s.Apply([]state.Change{{Bucket: "c", Key: "only", Value: []byte("z")}}, true, "own"); err != nil {
		t.Fatal(err)
	}
	if b, c, own := readAll(t, s, "b"), readAll(t, s, "c"), readAll(t, s, "own"); len(b) != 0 || len(c) != 1 || own["place"] != "7" {
		t.Fatalf("after a whole state: %v %v %v", b, c, own)
	}
}
