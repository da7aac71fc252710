package file

import (
	"bytes"
	"errors"
	"math"
	"testing"
)

func TestMark(t *testing.T) {
	for _, id := range []identity{
		{},
		{dev: 1, ino: 2},
		identify(math.MaxUint64, math.MaxUint64, bytes.Repeat([]byte("x"), headMax)),
		identify(64769, 9977937, []byte("first line\n")),
	} {
		got, err := decodeIdentity(id.encode())
		if err != nil || got != id {
			t.Errorf("%+v came back as %+v, %v", id, got, err)
		}
	}
	if len(identify(math.MaxUint64, math.MaxUint64, make([]byte, headMax)).encode()) > 40 {
		t.Error("a mark is longer than 40 bytes")
	}
	good := identify(1, 2, []byte("head")).encode()
	for name, b := range map[string][]byte{
		"empty":          {},
		"other version":  append([]byte{9}, good[1:]...),
		"truncated":      good[:len(good)-1],
		"trailing":       append(bytes.Clone(good), 0),
		"only a version": {markVersion},
		"long varint":    {markVersion, 255, 255, 255, 255, 255, 255, 255, 255, 255, 255, 255, 255},
		"huge head":      append([]byte{markVersion, 1, 1, 255, 255, 3}, good[4:]...),
	} {
		if _, err := decodeIdentity(b); !errors.Is(err, errMark) {
			t.Errorf("%s: error is %v", name, err)
		}
	}
}

func TestMarkMatchesHead(t *testing.T) {
	id := identify(1, 2, []byte("first"))
	if !id.matchesHead([]byte("first line")) || id.matchesHead([]byte("fir")) || id.matchesHead([]byte("other line")) {
		t.Error("heads are told apart wrongly")
	}
	if identify(1, 2, nil).matchesHead([]byte("anything")) {
		t.Error("an unknown head matches")
	}
}

func FuzzMark(f *testing.F) {
	f.Add([]byte{})
	f.Add(identify(1, 2, []byte("head")).encode())
	f.Fuzz(func(t *testing.T, b []byte) {
		id, err := decodeIdentity(b)
		if err != nil {
			if !errors.Is(err, errMark) || id != (identity{}) {
				t.Fatalf("%v, %+v", err, id)
			}
			return
		}
		if id.n < 0 || id.n > headMax {
			t.Fatalf("head of %d bytes", id.n)
		}
		if again, err := decodeIdentity(id.encode()); err != nil || again != id {
			t.Fatalf("%+v came back as %+v, %v", id, again, err)
		}
	})
}
