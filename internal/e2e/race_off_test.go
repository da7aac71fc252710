//go:build !race

package e2e

// raceDetector tells that the tests are built with the race detector.
const raceDetector = false
