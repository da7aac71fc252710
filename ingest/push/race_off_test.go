//go:build !race

package push

const raceOn = false
