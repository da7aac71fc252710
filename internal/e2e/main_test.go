package e2e

import (
	"flag"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"sync"
	"testing"
)

// bin holds the binaries under test. Each is built once, by TestMain or by the
// first test that needs it.
var bin struct {
	dir    string
	normal string
	// raced has the race detector if the tests have it. It is slow, so it serves
	// the tests in which most parts of a daemon meet.
	raced string
	crash func() (string, error)
}

func TestMain(m *testing.M) { os.Exit(run(m)) }

func run(m *testing.M) int {
	if job := os.Getenv(bareLoop); job != "" {
		if err := fetchAll(job); err != nil {
			fmt.Fprintln(os.Stderr, "e2e:", err)
			return 1
		}
		return 0
	}
	flag.Parse()
	// These tests wait for other processes most of the time: more of them may run
	// at once than there are processors.
	if f := flag.Lookup("test.parallel"); f.Value.String() == strconv.Itoa(runtime.GOMAXPROCS(0)) {
		if err := f.Value.Set("8"); err != nil {
			fmt.Fprintln(os.Stderr, "e2e:", err)
			return 1
		}
	}
	var err error
	if bin.dir, err = os.MkdirTemp("", "denywatch-e2e-"); err != nil {
		fmt.Fprintln(os.Stderr, "e2e:", err)
		return 1
	}
	defer func() { _ = os.RemoveAll(bin.dir) }()
	if bin.normal, err = build("denywatch"); err != nil {
		fmt.Fprintln(os.Stderr, "e2e:", err)
		return 1
	}
	bin.raced = bin.normal
	if raceDetector {
		if bin.raced, err = build("denywatch-race", "-race"); err != nil {
			fmt.Fprintln(os.Stderr, "e2e:", err)
			return 1
		}
	}
	bin.crash = sync.OnceValues(func() (string, error) { return build("denywatch-crash", "-tags", "crashpoints") })
	return m.Run()
}

// build compiles the command into the folder of the binaries.
func build(name string, flags ...string) (string, error) {
	out := filepath.Join(bin.dir, name)
	args := append([]string{"build", "-buildvcs=false", "-o", out}, flags...)
	cgo := "CGO_ENABLED=0"
	if slices.Contains(flags, "-race") {
		cgo = "CGO_ENABLED=1"
	}
	cmd := exec.Command("go", append(args, "./cmd/denywatch")...)
	cmd.Dir = filepath.Join("..", "..")
	cmd.Env = append(os.Environ(), cgo)
	if b, err := cmd.CombinedOutput(); err != nil {
		return "", fmt.Errorf("build %s: %w\n%s", name, err, b)
	}
	return out, nil
}
