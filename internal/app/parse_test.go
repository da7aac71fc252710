package app

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/denywatch/denywatch/configs"
)

// shown runs `denywatch parse` over one log.
func shown(t *testing.T, content string, opt ParseOptions) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "some.log")
	if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
		t.Fatal(err)
	}
	var out bytes.Buffer
	opt.Files, opt.Stdout, opt.Stderr, opt.Log = append(opt.Files, path), &out, &out, slog.New(slog.DiscardHandler)
	if opt.Format == "" {
		opt.Format = "auto"
	}
	if _, err := Parse(context.Background(), opt); err != nil {
		t.Fatal(err)
	}
	return out.String()
}

const accessLine = `192.0.2.7 - - [24/Nov/2026:10:00:%02d +0000] "GET /reports/%d HTTP/1.1" %d 12 "-" "probe/1"` + "\n"

func TestParseJSONHasTheKeysOfAnEvent(t *testing.T) {
	keys := strings.Fields(`time source vantage service host method path route status upstream_status client user account role plan geo flags request_id layer cause denial`)
	slices.Sort(keys)
	content := `{"time":"2026-11-24T10:00:00Z","status":403,"path":"/a<b>","roles":["b","a"],"country":"xx"}` + "\n" + `{"status":200}` + "\n"
	lines := strings.Split(strings.TrimSpace(shown(t, content, ParseOptions{JSON: true})), "\n")
	if len(lines) != 2 {
		t.Fatalf("%d objects for two events", len(lines))
	}
	var first map[string]any
	for i, l := range lines {
		var o map[string]any
		if err := json.Unmarshal([]byte(l), &o); err != nil {
			t.Fatal(err)
		}
		var got []string
		for k := range o {
			got = append(got, k)
		}
		if slices.Sort(got); !slices.Equal(got, keys) {
			t.Errorf("line %d has the keys %q, want %q", i+1, got, keys)
		}
		if i == 0 {
			first = o
		}
	}
	for k, want := range map[string]any{"status": 403.0, "role": "a+b", "geo": "XX", "denial": "refused", "user": nil, "upstream_status": nil} {
		if first[k] != want {
			t.Errorf("%s is %v, want %v", k, first[k], want)
		}
	}
	if !strings.Contains(lines[0], `"/a<b>"`) {
		t.Errorf("the path is written otherwise than in the log: %s", lines[0])
	}
}

func TestParseSaysWhatBecomesOfLines(t *testing.T) {
	var access, objects, renamed strings.Builder
	for i := range 60 {
		fmt.Fprintf(&access, accessLine, i, i, 200)
	}
	for i := range 50 {
		fmt.Fprintf(&objects, `{"time":"2026-11-24T10:00:%02dZ","status":403,"path":"/x"}`+"\n", i)
		fmt.Fprintf(&renamed, `{"time":"2026-11-24T10:00:%02dZ","outcome":403,"path":"/x"}`+"\n", i)
	}
	const both = `2026-11-24T10:00:00.1Z stdout F 192.0.2.7 - - [24/Nov/2026:10:00:00 +0000] "GET /a HTTP/1.1" 403 5 "-" "ua"
2026-11-24T10:00:00.1Z stderr F 2026/11/24 10:00:00 [error] 7#7: *501 access forbidden by rule, client: 192.0.2.7, server: shop, request: "GET /a HTTP/1.1", host: "shop"
2026-11-24T10:00:00.1Z stderr F some script says hello
`
	own := configs.Default()
	own.Ignore = []configs.Ignore{{UserAgent: "probe/*"}}
	for _, x := range []struct {
		name, content string
		opt           ParseOptions
		says          []string
	}{
		{name: "another format in the middle", content: access.String() + objects.String(), says: []string{
			"110 lines read, 90 understood, 0 no requests, 20 not understood",
			"the line does not follow the format: 20 lines, first on line 61", "another format from line 81 on: JSON"}},
		{name: "own doings", content: access.String(), opt: ParseOptions{Config: own}, says: []string{"60 understood", "ignored by your rules: 60 requests"}},
		{name: "a status of another name", content: renamed.String(), says: []string{"50 no requests", "no status, so not a request: 50 lines", "mapping: {status: FIELD}"}},
		{name: "both logs of a container", content: both, says: []string{
			"1 understood", "explains a request that another line counts: 1 line", "a line of the container's other output: 1 line", "  1  acl"}},
		{name: "both logs in one file", content: strings.ReplaceAll(strings.ReplaceAll(both, "2026-11-24T10:00:00.1Z stdout F ", ""), "2026-11-24T10:00:00.1Z stderr F ", ""),
			says: []string{"nginx (combined)", "1 understood", "explains a request that another line counts: 1 line", "  1  acl"}},
		{name: "bytes", content: access.String() + "\x01\x02\x03\n", says: []string{"this is binary data, not text: 1 line, first on line 61"}},
	} {
		x.opt.Stats = true
		got := shown(t, x.content, x.opt)
		for _, s := range x.says {
			if !strings.Contains(got, s) {
				t.Errorf("%s: %q is not said:\n%s", x.name, s, got)
			}
		}
	}
}

// TestCheckTellsOfLogs checks what is said of the logs there are: one that is not
// recognised, one without a known status, and one that is not there yet.
func TestCheckTellsOfLogs(t *testing.T) {
	dir := t.TempDir()
	source := func(name, content string) configs.Source {
		path := filepath.Join(dir, name)
		if content != "" {
			if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
				t.Fatal(err)
			}
		}
		return configs.Source{Name: name, Files: []string{path}}
	}
	for _, x := range []struct {
		source configs.Source
		says   string
		bad    bool
	}{
		{source("junk.log", strings.Repeat("it works on my machine\n", 5)), "the format of the log was not recognised", true},
		{source("renamed.log", strings.Repeat(`{"outcome":403,"path":"/x"}`+"\n", 20)), "mapping: {status: FIELD}", false},
		{source("later.log", ""), "recognised when the first lines are there", false},
	} {
		cfg := configs.Default()
		cfg.Sources = []configs.Source{x.source}
		var out bytes.Buffer
		if err := Check(cfg, &out); (err != nil) != x.bad || !strings.Contains(out.String(), x.says) {
			t.Errorf("%s: %q is not said, or error %v:\n%s", x.source.Name, x.says, err, out.String())
		}
	}
}
