//go:build !race

package detector_test

const raceOn = false
