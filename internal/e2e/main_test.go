package e2e

import (
	"flag"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strconv"
	"sync"
	"testing"
)

// bin holds the binaries under test. Both are built once, by TestMain and by the
// first test that needs the other.
var bin struct {
	dir    string
	normal string
	crash  func() (string, error)
}

func TestMain(m *testing.M) { os.Exit(run(m)) }

func run(m *testing.M) int {
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
	bin.crash = sync.OnceValues(func() (string, error) { return build("denywatch-crash", "-tags", "crashpoints") })
	return m.Run()
}

// build compiles the command into the folder of the binaries, with the race
// detector if the tests have it.
func build(name string, flags ...string) (string, error) {
	out := filepath.Join(bin.dir, name)
	cgo := "CGO_ENABLED=0"
	args := append([]string{"build", "-buildvcs=false", "-o", out}, flags...)
	if raceDetector {
		cgo, args = "CGO_ENABLED=1", append(args, "-race")
	}
	cmd := exec.Command("go", append(args, "./cmd/denywatch")...)
	cmd.Dir = filepath.Join("..", "..")
	cmd.Env = append(os.Environ(), cgo)
	if b, err := cmd.CombinedOutput(); err != nil {
		return "", fmt.Errorf("build %s: %w\n%s", name, err, b)
	}
	return out, nil
}
