package parsers

import (
	"strings"
	"testing"
)

// TestAdviceIsUnderstood: what is recommended can be read, and then there is
// nothing left to recommend.
func TestAdviceIsUnderstood(t *testing.T) {
	for _, c := range []Config{{Format: "combined"}, {Format: "apache", LogFormat: "common"}} {
		f, err := Compile(c)
		if err != nil {
			t.Fatal(err)
		}
		advice, gains := f.Advice()
		if advice == "" || len(gains) == 0 {
			t.Fatalf("%v: nothing is recommended", c)
		}
		better, err := Compile(Config{Format: f.config.Format, LogFormat: advice})
		if err != nil {
			t.Fatalf("%s: %v", advice, err)
		}
		if a, gains := better.Advice(); a != "" {
			t.Errorf("%s still lacks %s", advice, strings.Join(gains, ", "))
		}
	}
	f, err := Compile(Config{Format: "json"})
	if err != nil {
		t.Fatal(err)
	}
	if a, _ := f.Advice(); a != "" {
		t.Errorf("JSON: %s", a)
	}
}
