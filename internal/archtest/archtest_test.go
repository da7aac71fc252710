package archtest

import (
	"flag"
	"os"
	"slices"
	"strings"
	"testing"
	"testing/fstest"
)

var update = flag.Bool("update", false, "rewrite the golden file")

func TestModule(t *testing.T) {
	res, err := check(os.DirFS("../.."))
	if err != nil {
		t.Fatal(err)
	}
	for _, p := range res.problems {
		t.Error(p)
	}
	// Whoever moves these knows that this test must still look at everything.
	for _, pkg := range []string{"alerts", "baseline", "detector", "ingest", "ingest/file", "parsers", "internal/event", "internal/tally"} {
		if !slices.Contains(res.packages, pkg) {
			t.Errorf("the package %s was not looked at", pkg)
		}
	}
}

// TestBadModule proves that every rule finds what it is there to find.
func TestBadModule(t *testing.T) {
	res, err := check(os.DirFS("testdata/bad"))
	if err != nil {
		t.Fatal(err)
	}
	got := strings.Join(res.problems, "\n") + "\n"
	const file = "testdata/bad.golden"
	if *update {
		if err := os.WriteFile(file, []byte(got), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	if got != string(want) {
		t.Errorf("found\n%swant\n%s", got, want)
	}
	// Every row of the tables has a problem of its own, so none is dead.
	broken := func(what, why string, fits func(pkg string) bool) {
		t.Helper()
		if !slices.ContainsFunc(res.problems, func(p string) bool {
			return strings.HasSuffix(p, " ("+why+")") && strings.Contains(p, what) && fits(strings.Fields(p)[1])
		}) {
			t.Errorf("testdata/bad breaks no rule with %q and the reason %q", what, why)
		}
	}
	anywhere := func(string) bool { return true }
	broken("top level", topLevelWhy, anywhere)
	broken("init", initWhy, anywhere)
	for _, r := range importRules {
		if !slices.Contains(r.may, "...") {
			broken(" imports ", r.why, func(pkg string) bool { return matches(r.pkg, pkg) })
		}
	}
	for _, h := range homes {
		broken(" imports "+h.library, h.why, anywhere)
	}
	for _, b := range bans {
		for _, name := range b.names {
			broken("."+name+" ", b.why, anywhere)
		}
	}
}

func TestBrokenSourceIsAnError(t *testing.T) {
	if _, err := check(fstest.MapFS{"ingest/x.go": {Data: []byte("pakkage")}}); err == nil {
		t.Error("no error for a file that does not parse")
	}
}

func TestMatches(t *testing.T) {
	for _, tt := range []struct {
		pattern, pkg string
		want         bool
	}{
		{"alerts", "alerts", true},
		{"alerts", "alerts/slack", false},
		{"alerts/...", "alerts", true},
		{"alerts/...", "alerts/slack/slackfake", true},
		{"alerts/...", "alertsx", false},
		{"...", "anything/at/all", true},
	} {
		if got := matches(tt.pattern, tt.pkg); got != tt.want {
			t.Errorf("matches(%q, %q) = %v", tt.pattern, tt.pkg, got)
		}
	}
}
