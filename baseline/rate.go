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

// Scans is the number of changes that are tried when a change is located: the
// first half moves the log-odds, the second half lets a wall refuse a share of
// those who used to pass (a fall: pass a share of those who used to be refused).
const Scans = 18

// ScanGrid is the shifts of the log-odds, to be multiplied by the direction.
var ScanGrid = [Scans / 2]float64{0.3, 0.6, 1, 1.6, 2.3, 3.2, 4.3, 5.6, 7.5}

// WallGrid is the shares of a wall.
var WallGrid = [Scans / 2]float64{0.005, 0.015, 0.04, 0.1, 0.2, 0.35, 0.55, 0.75, 0.95}

// rateRow is all that is ever computed from a rate.
type rateRow struct {
	p float32
	// tilt is log(1 + p(e^d - 1)) for every alternative d.
	tilt [Shifts]float32
	// up and down are, for every change of a scan, the log-likelihood ratio of a
	// request that was refused and of one that was not.
	up, down [2][Scans]float32
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
		for j := range Scans {
			for dir, to := range map[int8]*[2][Scans]float32{Up: &t[i].up, Down: &t[i].down} {
				after := changed(p, dir, j)
				to[0][j] = float32(math.Log(after / p))
				to[1][j] = float32(math.Log((1 - after) / (1 - p)))
			}
		}
	}
	return t
})

// changed is the rate p after change number j of a scan in direction dir.
func changed(p float64, dir int8, j int) float64 {
	if j >= Scans/2 {
		return Wall(p, dir, WallGrid[j-Scans/2])
	}
	o := p / (1 - p) * math.Exp(ScanGrid[j]*float64(dir))
	return o / (1 + o)
}

// Wall is the rate p after a wall came up that refuses share of those who used to
// pass, or came down for share of those who used to be refused.
func Wall(p float64, dir int8, share float64) float64 {
	if dir == Down {
		return p * (1 - share)
	}
	return p + (1-p)*share
}
