package parsers

import (
	"bytes"
	"errors"
	"flag"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/denywatch/denywatch/internal/event"
)

var update = flag.Bool("update", false, "write the golden files anew")

// Every testdata/*.log is a log whose format is recognised, or named by its first
// line ("# format: log_format"); its .golden holds what was understood.
func TestGolden(t *testing.T) {
	logs, err := filepath.Glob("testdata/*.log")
	if err != nil || len(logs) == 0 {
		t.Fatal("no logs in testdata", err)
	}
	for _, path := range logs {
		t.Run(filepath.Base(path), func(t *testing.T) {
			b, err := os.ReadFile(path)
			if err != nil {
				t.Fatal(err)
			}
			var c Config
			if rest, ok := bytes.CutPrefix(b, []byte("# ")); ok {
				var head []byte
				head, b, _ = bytes.Cut(rest, []byte("\n"))
				c.Format, c.LogFormat, _ = strings.Cut(string(head), ": ")
			}
			lines := bytes.Split(bytes.TrimSuffix(b, []byte("\n")), []byte("\n"))
			c, why, err := c.Resolve(lines, path)
			if err != nil {
				t.Fatal(err)
			}
			f, err := Compile(c)
			if err != nil {
				t.Fatal(err)
			}
			var out strings.Builder
			out.WriteString("# " + f.String() + ", " + f.Vantage().String() + ": " + why + "\n")
			p := f.New()
			var e event.Event
			for _, l := range lines {
				e.Reset()
				switch err := p.Parse(l, &e); {
				case errors.Is(err, ErrSkip):
					out.WriteString("skipped\n")
				case err != nil:
					out.WriteString("bad: " + err.Error() + "\n")
				default:
					out.WriteString(show(&e) + "\n")
				}
			}
			golden := strings.TrimSuffix(path, ".log") + ".golden"
			if *update {
				if err := os.WriteFile(golden, []byte(out.String()), 0o644); err != nil {
					t.Fatal(err)
				}
				return
			}
			want, err := os.ReadFile(golden)
			if err != nil {
				t.Fatal(err)
			}
			if out.String() != string(want) {
				t.Errorf("differs from %s (go test -update writes it):\n%s", golden, out.String())
			}
		})
	}
}
