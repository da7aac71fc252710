package main

import (
	"math"
	"os"
	"runtime"
	"runtime/debug"
)

const (
	// firstHeap is the memory in bytes that a replay may fill before garbage is
	// collected for the first time.
	firstHeap = 64 << 20
	// heapPercent is what GOGC is afterwards.
	heapPercent = 80
)

// letHeapGrow spares a replay, which lives for seconds and whose heap only grows, the
// collections of the first megabytes, in which there is hardly any garbage. Whoever set
// GOGC or GOMEMLIMIT knows better.
func letHeapGrow() {
	if os.Getenv("GOGC") != "" || os.Getenv("GOMEMLIMIT") != "" {
		return
	}
	debug.SetGCPercent(-1)
	debug.SetMemoryLimit(firstHeap)
	// What nobody holds is found by the first collection.
	runtime.AddCleanup(new(*byte), func(limit int64) {
		debug.SetGCPercent(heapPercent)
		debug.SetMemoryLimit(limit)
	}, math.MaxInt64)
}
