package baseline

import (
	"math"
	"sync"
)

// Rate is a share of requests refused, in steps of 1/64 of a nat of log-odds
// (0.8 % relative at most off), so that all logarithms come from small tables and
// a seasonal factor is an addition.
type Rate uint16

const (
	rateSpan  = 12 // log-odds from -12 to 12
	rateSteps = 64 // to a nat
	// Rates is how many values a Rate has.
	Rates = 2*rateSpan*rateSteps + 1
)

// RateOf rounds p, 0..1.
func RateOf(p float64) Rate {
	return Rate(math.Round((LogOdds(p) + rateSpan) * rateSteps))
}

// Shift moves the log-odds by steps of 1/64 nat.
func (r Rate) Shift(steps int16) Rate {
	return Rate(min(max(int(r)+int(steps), 0), Rates-1))
}

// Steps is the number of steps that a factor of the odds is worth.
func Steps(factor float64) int16 { return int16(math.Round(math.Log(factor) * rateSteps)) }

// Share is the rate as a number.
func (r Rate) Share() float32 { return rates()[r].p }

// Shifts is the number of alternatives that evidence is kept for, Ups how many of
// them, the first, are rises.
const (
	Shifts = 9
	Ups    = 5
)

// Grid is the alternatives: by how much the log-odds of a refusal may have moved.
var Grid = [Shifts]float32{0.5, 1, 2, 3.5, 5.5, -0.7, -1.5, -3, -5.5}

// Scans is the number of shifts that are tried when a change is located.
const Scans = 9

// ScanGrid is those shifts, to be multiplied by the direction.
var ScanGrid = [Scans]float64{0.3, 0.6, 1, 1.6, 2.3, 3.2, 4.3, 5.6, 7.5}

// rateRow is all that is ever computed from a rate.
type rateRow struct {
	p float32
	// tilt is log(1 + p(e^d - 1)) for every alternative d.
	tilt [Shifts]float32
	// up and down are the same for the shifts of a scan.
	up, down [Scans]float32
}

var rates = sync.OnceValue(func() *[Rates]rateRow {
	t := new([Rates]rateRow)
	for i := range t {
		o := math.Exp(float64(i)/rateSteps - rateSpan)
		p := o / (1 + o)
		t[i].p = float32(p)
		for j, d := range Grid {
			t[i].tilt[j] = float32(math.Log1p(p * math.Expm1(float64(d))))
		}
		for j, d := range ScanGrid {
			t[i].up[j] = float32(math.Log1p(p * math.Expm1(d)))
			t[i].down[j] = float32(math.Log1p(p * math.Expm1(-d)))
		}
	}
	return t
})
