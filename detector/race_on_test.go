//go:build race

package detector_test

// raceOn tells that the race detector makes everything ten times slower. A
// Detector starts no goroutines, so that long runs show it nothing new.
const raceOn = true
