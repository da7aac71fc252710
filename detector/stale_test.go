package detector_test

import (
	"bytes"
	"encoding/json"
	"maps"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/denywatch/denywatch/detector"
	"github.com/denywatch/denywatch/internal/marker"
)

// TestSavedIsAllThatIsHeld: whatever was saved bit by bit is what a save of everything
// would have written, and what a loaded detector writes. What only memory knew would be
// gone after a restart.
func TestSavedIsAllThatIsHeld(t *testing.T) {
	cfg := detector.Defaults()
	cfg.Learn, cfg.Access = time.Hour, busyRules()
	seeds, every := []uint64{35, 35, 41}, 1
	if raceOn {
		seeds, every = seeds[:1], 7
	}
	for i, seed := range seeds {
		f := busyFeed(seed, 5)
		if i == 0 {
			f.vary(seed)
		}
		kept := blocks{}
		f.play(t, detector.New(cfg), func(i int, d *detector.Detector) *detector.Detector {
			if i%every != 0 {
				return d
			}
			full, again := blocks{}, blocks{}
			if err := d.Save(kept); err != nil {
				t.Fatal(err)
			}
			d.Rewrite()
			if err := d.Save(full); err != nil {
				t.Fatal(err)
			}
			for _, k := range slices.Sorted(maps.Keys(full)) {
				// Filters write fresh keys one by one, or all as pages.
				if !strings.HasPrefix(k, "visitors/") && !strings.HasPrefix(k, "here/") && !strings.HasPrefix(k, "prowlers/") && !bytes.Equal(full[k], kept[k]) {
					t.Fatalf("seed %d slot %d: %s was not saved when it changed", seed, i, k)
				}
			}
			if i%20 == 0 {
				n := detector.New(cfg)
				if err := n.Load(full.read); err != nil {
					t.Fatal(err)
				}
				if err := n.Save(again); err != nil {
					t.Fatal(err)
				}
				for _, k := range slices.Sorted(maps.Keys(full)) {
					if !bytes.Equal(full[k], again[k]) {
						t.Fatalf("seed %d slot %d: %s is another one after it was loaded", seed, i, k)
					}
				}
			}
			return d
		})
	}
}

// TestLateMarkerKeepsVerdicts: a marker that is told between two slots, of a time before
// others, takes nobody's verdict in what is saved before the next slot.
func TestLateMarkerKeepsVerdicts(t *testing.T) {
	cfg := detector.Defaults()
	cfg.Learn = time.Hour
	f := busyFeed(31, 4)
	f.marks = map[int][]marker.Marker{}
	d := detector.New(cfg)
	f.play(t, d, nil)
	last := time.Unix(f.slots[len(f.slots)-1].Start, 0).UTC()
	d.Mark(marker.Marker{ID: "known", Kind: marker.Release, Time: last})
	for _, c := range f.slots[len(f.slots)-3:] {
		c.Start += 3600
		d.Close(c)
	}
	want, _ := d.Verdict("known")
	if want.Verdict == "" || len(want.Evidence) == 0 {
		t.Fatalf("nothing was counted: %+v", want)
	}
	kept := blocks{}
	if err := d.Save(kept); err != nil {
		t.Fatal(err)
	}
	d.Mark(marker.Marker{ID: "late", Kind: marker.Config, Time: last.Add(-time.Hour)})
	if err := d.Save(kept); err != nil {
		t.Fatal(err)
	}
	n := detector.New(cfg)
	if err := n.Load(kept.read); err != nil {
		t.Fatal(err)
	}
	for _, id := range []string{"known", "late"} {
		want, _ := d.Verdict(id)
		got, _ := n.Verdict(id)
		a, _ := json.Marshal(want)
		b, _ := json.Marshal(got)
		if !bytes.Equal(a, b) {
			t.Errorf("%s after a restart:\n%s\nbefore:\n%s", id, b, a)
		}
	}
}
