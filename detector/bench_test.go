package detector

import (
	"fmt"
	"runtime"
	"testing"
	"time"
	"unsafe"

	"github.com/denywatch/denywatch/detector/slots"
	"github.com/denywatch/denywatch/internal/event"
	"github.com/denywatch/denywatch/internal/marker"
	"github.com/denywatch/denywatch/internal/tally"
)

// grid is a slot in which every one of routes x roles x geos leaves is seen.
func grid(routes, roles, geos int) *slots.Closed {
	c := &slots.Closed{Vantage: event.App, Step: 60}
	for r := range routes {
		for o := range roles {
			for g := range geos {
				l := slots.Leaf{Key: tally.Key{Service: "shop", Route: fmt.Sprintf("/a%03d/r%04d", r/10, r), Role: fmt.Sprintf("role%d", o), Geo: fmt.Sprintf("G%02d", g)}}
				l.Status[tally.S2xx] = 20
				for i := range uint64(5) {
					l.Entered = append(l.Entered, uint64(r*1000+o*100+g)<<32+i)
				}
				if (r+o+g)%10 == 0 {
					l.Status[tally.S403], l.Denied[event.Refused] = 1, 1
					l.Hits = []slots.Hit{{Class: event.Refused, Identity: uint64(r*1000+o*100+g) << 32, Requests: 1, Denials: 1}}
				}
				c.Leaves = append(c.Leaves, l)
			}
		}
	}
	return c
}

// next makes the following slot, with other people.
func next(c *slots.Closed) {
	c.Start += 60
	for i := range c.Leaves {
		for k := range c.Leaves[i].Hits {
			c.Leaves[i].Hits[k].Identity += 1 << 20
		}
	}
}

// BenchmarkClose measures what judging a slot costs, in which every cell is
// touched; ns/series is the figure to watch.
func BenchmarkClose(b *testing.B) {
	for _, size := range [][3]int{{200, 5, 12}, {50, 1, 20}} {
		b.Run(fmt.Sprint(size), func(b *testing.B) {
			c := grid(size[0], size[1], size[2])
			d := New(Defaults())
			for range 200 {
				next(c)
				d.Close(c)
			}
			b.ReportAllocs()
			for b.Loop() {
				next(c)
				d.Close(c)
			}
			b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N)/float64(d.Stats().Series), "ns/series")
			b.ReportMetric(float64(d.Stats().Series), "series")
		})
	}
}

// BenchmarkCloseOnProbation is BenchmarkClose with markers whose probation never
// ends; the difference is what verdicts cost.
func BenchmarkCloseOnProbation(b *testing.B) {
	for _, marks := range []int{0, 1, 5} {
		b.Run(fmt.Sprint(marks), func(b *testing.B) {
			c := grid(200, 5, 12)
			d := New(Defaults())
			for range 200 {
				next(c)
				d.Close(c)
			}
			for i := range marks {
				d.Mark(marker.Marker{ID: fmt.Sprint("m", i), Time: time.Unix(c.Start, 0), Service: "shop"})
			}
			for b.Loop() {
				next(c)
				d.Close(c)
				for _, t := range d.live {
					t.until = c.Start + probation
				}
			}
			b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N)/float64(d.Stats().Series), "ns/series")
		})
	}
}

type discard struct{ n int }

func (w *discard) Put(_ string, v []byte) error { w.n += len(v); return nil }

// BenchmarkSave measures a cut in which everything changed.
func BenchmarkSave(b *testing.B) {
	c := grid(200, 5, 12)
	d := New(Defaults())
	for range 200 {
		next(c)
		d.Close(c)
	}
	w := &discard{}
	for b.Loop() {
		d.Rewrite()
		if err := d.Save(w); err != nil {
			b.Fatal(err)
		}
	}
	b.ReportMetric(float64(w.n)/float64(b.N), "bytes/cut")
}

// TestMemory holds the budget of 200 bytes for a cell and for a series, maps
// included, apart from the detailed past, which is bounded.
func TestMemory(t *testing.T) {
	if s, c := unsafe.Sizeof(series{}), unsafe.Sizeof(cell{}); s > 160 || c > 160 {
		t.Errorf("a series takes %d bytes, a cell %d", s, c)
	}
	heap := func() uint64 {
		runtime.GC()
		var m runtime.MemStats
		runtime.ReadMemStats(&m)
		return m.HeapAlloc
	}
	c := grid(400, 5, 12)
	New(Defaults()).Close(grid(1, 1, 1)) // tables that are made once
	before := heap()
	d := New(Defaults())
	for range 3 {
		next(c)
		d.Close(c)
	}
	for _, j := range d.judges {
		j.past, j.slot, j.acc, j.sumOf, j.visitors = past{}, nil, nil, nil, nil
	}
	*d.visits = nil // bounded by itself
	used, s := heap()-before, d.Stats()
	per := float64(used) / float64(s.Cells+s.Series)
	t.Logf("%d cells, %d series: %.0f bytes each", s.Cells, s.Series, per)
	if per > 200 {
		t.Errorf("%.0f bytes for a cell or series", per)
	}
	runtime.KeepAlive(c)
}

// TestSteadySlotsDoNotAllocate: judging known cells must not feed the collector.
func TestSteadySlotsDoNotAllocate(t *testing.T) {
	c := grid(20, 3, 4)
	d := New(Defaults())
	for range 500 {
		next(c)
		d.Close(c)
	}
	if n := testing.AllocsPerRun(20, func() { next(c); d.Close(c) }); n > 12 {
		t.Errorf("%v allocations a slot", n)
	}
}
