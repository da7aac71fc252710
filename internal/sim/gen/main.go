// Command gen writes a large access log of the simulated world to standard
// output, for benchmarks: go run ./internal/sim/gen -format combined -bytes 1000000000 > access.log
package main

import (
	"bufio"
	"flag"
	"fmt"
	"os"

	"github.com/denywatch/denywatch/internal/sim"
)

func main() {
	format := flag.String("format", string(sim.BulkCombined), "combined, appjson or cloudflare")
	size := flag.Int64("bytes", 1_000_000_000, "stop after this many bytes")
	seed := flag.Uint64("seed", 1, "seed of every random choice")
	rate := flag.Int("rate", 1000, "lines per second of event time")
	flag.Parse()
	w := bufio.NewWriterSize(os.Stdout, 1<<20)
	_, err := sim.WriteBulk(w, sim.Bulk(*format), *size, *seed, *rate)
	if err == nil {
		err = w.Flush()
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "gen:", err)
		os.Exit(1)
	}
}
