//go:build race

package push

// raceOn tells that the race detector makes values larger and pools leaky.
const raceOn = true
