package main

import (
	"fmt"
	"io"
	"maps"
	"math"
	"slices"
	"text/tabwriter"

	"github.com/denywatch/denywatch/internal/sim"
)

// quantile is the value that a share of xs does not exceed; NaN if there are none.
func quantile(xs []float64, share float64) float64 {
	if len(xs) == 0 {
		return math.NaN()
	}
	s := slices.Sorted(slices.Values(xs))
	return s[min(int(share*float64(len(s))), len(s)-1)]
}

// wilson is the 95 % interval of a share of which k of n were seen (Wilson 1927).
func wilson(k, n int) (lo, hi float64) {
	if n == 0 {
		return 0, 1
	}
	const z = 1.96
	p, m := float64(k)/float64(n), float64(n)
	mid := (p + z*z/(2*m)) / (1 + z*z/m)
	half := z / (1 + z*z/m) * math.Sqrt(p*(1-p)/m+z*z/(4*m*m))
	return max(mid-half, 0), min(mid+half, 1)
}

// poissonInterval is the 95 % interval of the mean of a Poisson number of which k
// was seen (Byar's approximation of the exact one).
func poissonInterval(k int) (lo, hi float64) {
	const z = 1.96
	if x := float64(k); k > 0 {
		lo = x * math.Pow(1-1/(9*x)-z/(3*math.Sqrt(x)), 3)
	}
	y := float64(k + 1)
	return lo, y * math.Pow(1-1/(9*y)+z/(3*math.Sqrt(y)), 3)
}

func percent(k, n int) string {
	if n == 0 {
		return "-"
	}
	lo, hi := wilson(k, n)
	return fmt.Sprintf("%.1f %% [%.1f-%.1f]", 100*float64(k)/float64(n), 100*lo, 100*hi)
}

// ratios are the delays over the bounds, of which none is below a minute.
func (k *kindScore) ratios() []float64 {
	out := make([]float64, len(k.delays))
	for i, d := range k.delays {
		out[i] = d / max(k.bounds[i], 1)
	}
	return out
}

// medianInterval is the 95 % interval of the median of xs, from order statistics.
func medianInterval(xs []float64) (lo, hi float64) {
	n := float64(len(xs))
	half := 0.98 * math.Sqrt(n) / max(n, 1)
	return quantile(xs, max(0.5-half, 0)), quantile(xs, min(0.5+half, 1))
}

// report writes the judge's score and those of its rivals, if there are any.
func report(w io.Writer, s *score, order []string, rivals map[string]*score) error {
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	fmt.Fprintln(t, "kind\trecall\tmedian min\tp90\tbound\tratio\texact\tat opening\tmarker named\tover after\tp90\tearly\tstuck")
	row := func(name string, k *kindScore) {
		fmt.Fprintf(t, "%s\t%d/%d\t%.0f\t%.0f\t%.0f\t%.2f\t%d\t%d\t%d/%d\t%.0f\t%.0f\t%d\t%d\n", name, k.hits, k.n, quantile(k.delays, 0.5), quantile(k.delays, 0.9),
			quantile(k.bounds, 0.5), quantile(k.ratios(), 0.5), k.exact, k.exactFirst, k.blamed, k.marked,
			quantile(k.lasted, 0.5), quantile(k.lasted, 0.9), k.early, k.stuck)
	}
	for _, kind := range slices.Concat(sim.TrialKinds, sim.TrialNewRoutes) {
		if k := s.kinds[kind]; k != nil {
			row(string(kind), k)
		}
	}
	all := s.total()
	row("all", all)
	if err := t.Flush(); err != nil {
		return err
	}
	fmt.Fprintf(w, "\n%.1f weeks, %d incidents; false ones:", s.days/7, all.n)
	for _, k := range slices.Sorted(maps.Keys(s.during)) {
		fmt.Fprintf(w, " %d with %s,", s.during[k], k)
	}
	fmt.Fprintf(w, " %d in all, %d of them echoes; told again: %d; %d more before the test\n", s.wrong, s.echoes, s.again, s.early)
	lo, hi := medianInterval(all.delays)
	rlo, rhi := medianInterval(all.ratios())
	fmt.Fprintf(w, "median delay %.0f min [%.0f-%.0f], median ratio %.2f [%.2f-%.2f]\n\n", quantile(all.delays, 0.5), lo, hi, quantile(all.ratios(), 0.5), rlo, rhi)

	fmt.Fprintln(t, "watcher\trecall\tprecision\tfalse a week\tmedian\tp90\texact\tbytes/series\tns/series and minute\tCPU s a week")
	line := func(name string, s *score) {
		k := s.total()
		lo, hi := poissonInterval(s.wrong)
		weeks := s.days / 7
		fmt.Fprintf(t, "%s\t%s\t%s\t%.2f [%.2f-%.2f]\t%.0f\t%.0f\t%s\t", name, percent(k.hits, k.n), percent(k.hits, k.hits+s.wrong),
			float64(s.wrong)/weeks, lo/weeks, hi/weeks, quantile(k.delays, 0.5), quantile(k.delays, 0.9), percent(k.exact, k.hits))
		if s.watched == 0 {
			fmt.Fprintln(t, "-\t-\t-")
			return
		}
		fmt.Fprintf(t, "%d\t%.0f\t%.1f\n", s.bytes/max(s.series, 1), s.cpu*1e9/max(s.work, 1), s.cpu/(s.watched/7))
	}
	line("denywatch", s)
	for _, name := range order {
		line(name, rivals[name])
	}
	if err := t.Flush(); err != nil {
		return err
	}
	if s.watched > 0 {
		fmt.Fprintf(w, "making the traffic took %.1f CPU s a week\n", s.simulated/(s.watched/7))
	}
	return nil
}
