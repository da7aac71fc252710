//go:build race

package app_test

// raceOn tells that the race detector is on, with which allocations cannot be counted.
const raceOn = true
