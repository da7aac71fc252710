//go:build race

package app_test

// raceOn tells that the race detector makes everything ten times slower.
const raceOn = true
