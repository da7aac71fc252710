package collect

import (
	"fmt"
	"slices"
	"testing"

	"github.com/denywatch/denywatch/ingest"
	"github.com/denywatch/denywatch/internal/event"
)

// TestFieldsBesideLines: what a source says of its lines wins over them, for the
// batch it says it of.
func TestFieldsBesideLines(t *testing.T) {
	g := newRig(t, nil, nil)
	g.clock.Move(1 << 62)
	deliver := func(fields ...ingest.Field) {
		lines := [][]byte{[]byte("60 200 /a"), []byte("nonsense"), []byte("61 200 /b")}
		b := &ingest.Batch{Lines: lines, Start: ingest.Position{Offset: g.at}, End: ingest.Position{Offset: g.at + 3}, Fields: fields}
		if err := g.h.Batch(t.Context(), b); err != nil {
			t.Fatal(err)
		}
		g.at += 3
	}
	deliver()
	deliver(ingest.Field{Key: event.KeyService, Value: []byte("pay")}, ingest.Field{Key: event.KeyRole, Value: []byte("viewer, admin")})
	deliver(ingest.Field{Key: event.KeyGeo, Value: []byte("de")})
	if err := g.h.CaughtUp(t.Context()); err != nil {
		t.Fatal(err)
	}
	if err := g.h.Close(t.Context(), false); err != nil {
		t.Fatal(err)
	}
	g.drain()
	var got []string
	for _, k := range g.keys {
		got = append(got, fmt.Sprintf("%s %s %s %s", k.Service, k.Route, k.Role, k.Geo))
	}
	want := []string{"shop /a  ", "shop /b  ", "pay /a admin+viewer ", "pay /b admin+viewer ", "shop /a  DE", "shop /b  DE"}
	if !slices.Equal(got, want) {
		t.Errorf("%q, want %q", got, want)
	}
	if g.stats.Unparsed != 3 {
		t.Errorf("%d lines are not understood, want 3", g.stats.Unparsed)
	}
}
