//go:build crashpoints

package crash

import (
	"os"
	"strconv"
	"strings"
	"sync/atomic"
	"syscall"
)

var visits atomic.Int64

// Point kills the process with SIGKILL when DENYWATCH_CRASH_AT is "name" or
// "name:n", the n-th visit counting from 1.
func Point(name string) {
	want, nth, _ := strings.Cut(os.Getenv("DENYWATCH_CRASH_AT"), ":")
	if want != name {
		return
	}
	n, err := strconv.ParseInt(nth, 10, 64)
	if err != nil {
		n = 1
	}
	if visits.Add(1) >= n {
		_ = syscall.Kill(os.Getpid(), syscall.SIGKILL)
		select {}
	}
}
