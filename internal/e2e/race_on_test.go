//go:build race

package e2e

// raceDetector tells that the tests, and therefore the binaries under test, are
// built with the race detector.
const raceDetector = true
