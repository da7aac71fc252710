//go:build unix

package detector

import (
	"maps"
	"math"
	"math/rand/v2"
	"runtime"
	"slices"
	"syscall"
	"testing"
	"time"

	"github.com/denywatch/denywatch/detector/slots"
	"github.com/denywatch/denywatch/internal/tally"
)

// cpuTime is what the process used so far, on all cores.
func cpuTime(b *testing.B) time.Duration {
	var r syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &r); err != nil {
		b.Fatal(err)
	}
	return time.Duration(r.Utime.Nano() + r.Stime.Nano())
}

// BenchmarkMillionCells measures a product of a million cells: bytes for a cell or
// series, and CPU time of a normal slot, of a learning period and of a cut after either.
// In a normal slot 300,000 requests are spread over the cells as people's interest is
// (Zipf), over routes, roles and countries alike; as many visitors are told as a ledger
// tells. It takes half a minute and 2 GB.
func BenchmarkMillionCells(b *testing.B) {
	const routes, roles, geos, requests = 20_000, 5, 10, 300_000
	all := grid(routes, roles, geos)
	heap := func() uint64 {
		runtime.GC()
		var m runtime.MemStats
		runtime.ReadMemStats(&m)
		return m.HeapAlloc
	}
	cfg := Defaults()
	cfg.MaxCells = maxCells
	before := heap()
	d := New(cfg)
	all.Start, all.Numbering = 600_000, 1
	for i := range all.Leaves {
		all.Leaves[i].Number = uint32(i) + 1
	}
	d.Close(all)
	s := d.Stats()
	for _, j := range d.judges {
		j.past.drop(len(j.past.slots)) // it is bounded by itself
		j.past.spare, j.slot, j.acc, j.sumOf = pastSlot{}, nil, nil, nil
	}
	used := heap() - before - uint64(s.KnownBytes)

	rng := rand.New(rand.NewPCG(1, 2))
	order := rng.Perm(routes)
	pick := func(n int) int { return int(math.Pow(float64(n), rng.Float64())) - 1 } // Zipf, exponent 1
	slot := func(start int64) *slots.Closed {
		c := &slots.Closed{Vantage: all.Vantage, Step: 60, Start: start, Numbering: 1}
		seen := map[int]uint32{}
		for range requests {
			seen[(order[pick(routes)]*roles+pick(roles))*geos+pick(geos)]++
		}
		for _, at := range slices.Sorted(maps.Keys(seen)) {
			l := all.Leaves[at]
			l.Status[0] = seen[at]
			if l.Entered = l.Entered[:1]; rng.IntN(len(seen)) >= tally.MaxEntered {
				l.Entered = nil
			}
			c.Leaves = append(c.Leaves, l)
		}
		return c
	}
	w := &discard{}
	if err := d.Save(w); err != nil {
		b.Fatal(err)
	}
	var closing, turning, cutting, cutTurn time.Duration
	var touched, closes, turns, bytes int
	start := all.Start
	for b.Loop() {
		start += 60
		c := slot(start)
		at := cpuTime(b)
		d.Close(c)
		closed := cpuTime(b)
		w.n = 0
		if err := d.Save(w); err != nil {
			b.Fatal(err)
		}
		cut := cpuTime(b)
		if d.judges[0].turned {
			turns++
			turning += closed - at
			cutTurn += cut - closed
			continue
		}
		closes++
		closing += closed - at
		cutting += cut - closed
		touched += len(d.judges[0].sumOf)
		bytes += w.n
	}
	n := float64(max(closes, 1))
	b.ReportMetric(float64(used)/float64(s.Cells+s.Series), "B/cell-or-series")
	b.ReportMetric(float64(s.Cells), "cells")
	b.ReportMetric(float64(s.Series), "series")
	b.ReportMetric(float64(touched)/n, "touched-series/slot")
	b.ReportMetric(float64(closing.Nanoseconds())/float64(max(touched, 1)), "cpu-ns/touched-series")
	b.ReportMetric(cutting.Seconds()/n, "cpu-s/cut")
	b.ReportMetric(float64(bytes)/n, "B/cut")
	if turns > 0 {
		b.ReportMetric(turning.Seconds()/float64(turns), "cpu-s/turn")
		b.ReportMetric(cutTurn.Seconds()/float64(turns), "cpu-s/cut-after-turn")
	}
	runtime.KeepAlive(d)
}
