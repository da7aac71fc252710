package e2e

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/denywatch/denywatch/internal/servertest"
	"github.com/denywatch/denywatch/internal/web"
)

// TestHostileSources runs the daemon on logs that are none beside one that is,
// whose format then becomes unknown for a while.
func TestHostileSources(t *testing.T) {
	long(t)
	dir := t.TempDir()
	x := newTraffic(3)
	count := newWritten()
	access := &log{path: filepath.Join(dir, "log", "web.log")}
	put := func(n int) {
		t.Helper()
		for range n {
			r := x.next(time.Now())
			if err := access.append(r.combined()); err != nil {
				t.Fatal(err)
			}
			count.lines["web"]++
			p := &product{count: newWritten()}
			p.add(&r)
			for k, n := range p.count.columns {
				if k.vantage == "web" {
					count.columns[k] += n
				}
			}
		}
	}
	junk := func(n int) {
		t.Helper()
		for range n {
			if err := access.append("it|works|on|my|machine\n"); err != nil {
				t.Fatal(err)
			}
			count.lines["web"]++
			count.unparsed["web"]++
		}
	}
	write(t, access.path, "")
	put(500)

	var wide bytes.Buffer
	wide.WriteString("\xff\xfe")
	for range 200 {
		r := x.next(time.Now())
		for _, c := range []byte(r.combined()) {
			wide.Write([]byte{c, 0})
		}
	}
	write(t, filepath.Join(dir, "log", "utf16.log"), wide.String())
	count.lines["utf16"], count.unparsed["utf16"] = 200, 200 // the rest of the last newline is no line yet
	write(t, filepath.Join(dir, "log", "garbage.log"), strings.Repeat("it works on my machine\n", 100_000))
	count.lines["garbage"], count.unparsed["garbage"] = 100_000, 100_000
	write(t, filepath.Join(dir, "log", "binary.log"), strings.Repeat("\x00\x01\x02\n", 100_000))
	count.lines["binary"], count.unparsed["binary"] = 100_000, 100_000
	huge, err := os.Create(filepath.Join(dir, "log", "huge.log"))
	if err != nil {
		t.Fatal(err)
	}
	for range 100 {
		if _, err := huge.Write(bytes.Repeat([]byte("x"), 1<<20)); err != nil {
			t.Fatal(err)
		}
	}
	if err := huge.Close(); err != nil {
		t.Fatal(err)
	}
	count.lines["huge"] = 0

	conf := fmt.Sprintf("service: %s\nstate: %s/state\nlisten: 127.0.0.1:0\nslot: 10s\nsources:\n", service, dir)
	for _, name := range []string{"web", "garbage", "utf16", "binary", "huge"} {
		format := "combined"
		if name == "garbage" || name == "utf16" {
			format = "auto"
		}
		conf += fmt.Sprintf("  - {name: %s, files: %s/log/%[1]s.log, format: %[3]s, vantage: web, lateness: 0s}\n", name, dir, format)
	}
	d := serve(t, bin.normal, write(t, filepath.Join(dir, "denywatch.yaml"), conf))
	d.read(t, count)
	d.exact(t, count)

	problem := func(texts ...string) {
		t.Helper()
		servertest.Await(t, fmt.Sprint("/readyz to tell of ", texts), func() (bool, string) {
			status, body, err := d.get("/readyz")
			for _, s := range texts {
				if !strings.Contains(body, s) {
					return false, fmt.Sprint(status, body, err, d.Stderr.Tail())
				}
			}
			return true, ""
		})
	}
	problem("source garbage: ", "source utf16: ", "UTF-16", "source binary: ", "binary data")
	if rss := d.rss(t); rss > 200<<10 {
		t.Errorf("%d KB of memory, want at most 200 MB", rss)
	}

	source := func() (s web.SourceStatus) {
		st, err := d.status()
		if err != nil {
			t.Fatal(err)
		}
		for _, s := range st.Sources {
			if s.Name == "web" {
				return s
			}
		}
		t.Fatal("no source web")
		return s
	}
	if s := source(); !s.SuspendedSince.IsZero() {
		t.Fatalf("the good source is suspended: %+v", s)
	}
	junk(1000)
	problem("source web: judging is suspended since ", "1,000 of ")
	d.said(t, "judging of the source is suspended")
	if got := d.metric(t, `denywatch_source_suspended{source="web"}`); got != "1" {
		t.Errorf("the metric is %s", got)
	}
	if s := source(); s.SuspendedSince.IsZero() || s.Reasons["short"]+s.Reasons["mismatch"] != 1000 {
		t.Errorf("got %+v", s)
	}
	servertest.Await(t, "the source to be judged again", func() (bool, string) {
		put(20)
		return source().SuspendedSince.IsZero(), d.Stderr.Tail()
	})
	d.said(t, "the source is judged again")
	d.read(t, count)
	d.exact(t, count)
	d.stop(t)
}
