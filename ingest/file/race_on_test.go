//go:build race

package file

// raceOn tells that the race detector makes stacks and values larger.
const raceOn = true
