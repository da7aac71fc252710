package slots

import (
	"slices"
	"testing"

	"github.com/denywatch/denywatch/internal/event"
)

// TestHitsAreOneSample: how finely the refused are sampled depends on how many there are,
// not on how often they were told of, nor on when cuts added them up.
func TestHitsAreOneSample(t *testing.T) {
	const most = 1000
	for name, c := range map[string]struct {
		people  int
		sampled uint8
	}{"few, told often": {900, 0}, "as many as are kept": {1000, 0}, "too many": {1001, 1}, "far too many": {7000, 3}} {
		t.Run(name, func(t *testing.T) {
			run := func(cut int) *openSlot {
				s := &openSlot{leaves: []*leafAcc{{}, {}}}
				for round := range 3 {
					for i := range c.people {
						a := s.leaves[i/2%2]
						a.Hits = append(a.Hits, Hit{Class: event.Refused, Identity: uint64(i)*0x9e3779b97f4a7c15 + 1, Requests: 2, Denials: 1})
						if s.hits++; s.hits > most+most/4 {
							s.sample(most)
						}
						if cut > 0 && (round*c.people+i)%cut == 0 { // as Save does
							for _, a := range s.leaves {
								n := len(a.Hits)
								a.mergeHits()
								s.hits -= n - len(a.Hits)
							}
						}
					}
				}
				s.sample(most)
				s.hits = 0
				for _, a := range s.leaves { // as close does
					a.mergeHits()
					a.Hits = slices.DeleteFunc(a.Hits, func(h Hit) bool { return !kept(h.Identity, s.sampled) })
					s.hits += len(a.Hits)
				}
				return s
			}
			want := run(0)
			if want.hits == 0 || want.hits > most || want.sampled < c.sampled || want.sampled > c.sampled+1 || c.sampled == 0 && want.sampled != 0 {
				t.Fatalf("sampled %d, %d hits", want.sampled, want.hits)
			}
			for _, cut := range []int{1, 7, 400, 2999} {
				got := run(cut)
				if got.sampled != want.sampled {
					t.Fatalf("cuts every %d: sampled %d instead of %d", cut, got.sampled, want.sampled)
				}
				for i := range got.leaves {
					if !slices.Equal(got.leaves[i].Hits, want.leaves[i].Hits) {
						t.Fatalf("cuts every %d: other hits are kept", cut)
					}
				}
			}
		})
	}
}
