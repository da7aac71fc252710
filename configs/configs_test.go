package configs

import (
	"bytes"
	"errors"
	"flag"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"
	"unicode/utf16"
)

var update = flag.Bool("update", false, "rewrite the golden files")

// lookup is an environment.
func lookup(vars map[string]string) func(string) (string, bool) {
	return func(name string) (string, bool) {
		v, found := vars[name]
		return v, found
	}
}

var testEnv = lookup(map[string]string{
	"HOME":        "/home/ann",
	"SLACK_TOKEN": "xoxb-12-34-abcdefghijkl",
	"SLOT":        "7s-hush-hush",
	"EMPTY":       "",
	"FORMAT":      "topsecretformat",
	"NUMBER":      "many-hush",
	"A":           "x\x01y-hush-hush",
	"B":           "b",
})

// mustParse parses a configuration that is valid.
func mustParse(t *testing.T, text string, env func(string) (string, bool)) *Config {
	t.Helper()
	c, _, err := Parse([]byte(text), "/etc/denywatch/denywatch.yaml", env)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// TestMistakes compares everything that is said about the files in
// testdata/mistakes with the golden text beside each.
func TestMistakes(t *testing.T) {
	files, err := filepath.Glob("testdata/mistakes/*.yaml")
	if err != nil || len(files) < 20 {
		t.Fatalf("found %d files, %v", len(files), err)
	}
	for _, file := range files {
		t.Run(strings.TrimSuffix(filepath.Base(file), ".yaml"), func(t *testing.T) {
			data, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			_, _, err = Parse(data, "denywatch.yaml", testEnv)
			if err == nil {
				t.Fatal("accepted")
			}
			got := err.Error() + "\n"
			for _, word := range []string{"hush", "topsecret", "correct-horse", "abcdefghijkl", "reflect", "struct", "!!", "int64"} {
				if strings.Contains(got, word) {
					t.Errorf("says %q:\n%s", word, got)
				}
			}
			golden := strings.TrimSuffix(file, ".yaml") + ".golden"
			if *update {
				if err := os.WriteFile(golden, []byte(got), 0o644); err != nil {
					t.Fatal(err)
				}
			}
			want, err := os.ReadFile(golden)
			if err != nil {
				t.Fatal(err)
			}
			if got != string(want) {
				t.Errorf("got\n%s\nwant\n%s", got, want)
			}
		})
	}
}

func TestNoText(t *testing.T) {
	wide := utf16.Encode([]rune("sources:\n"))
	var le, be []byte
	for _, u := range wide {
		le, be = append(le, byte(u), byte(u>>8)), append(be, byte(u>>8), byte(u))
	}
	for name, c := range map[string]struct {
		data []byte
		want string
	}{
		"empty":              {nil, "the file is empty"},
		"null document":      {[]byte("---\n~\n"), "the file is empty"},
		"BOM alone":          {[]byte("\xef\xbb\xbf"), "the file is empty"},
		"UTF-16 with BOM":    {append([]byte{0xff, 0xfe}, le...), "UTF-16"},
		"big endian":         {append([]byte{0xfe, 0xff}, be...), "UTF-16"},
		"UTF-16 without BOM": {le, "UTF-16"},
		"big endian, bare":   {be, "UTF-16"},
		"NUL":                {[]byte("sources:\n  - files: a\x00b\n"), "f.yaml:2:13  a NUL byte"},
		"too large":          {bytes.Repeat([]byte("# padding\n"), 120_000), "larger than 1 MiB"},
	} {
		_, _, err := Parse(c.data, "f.yaml", testEnv)
		if err == nil || !strings.Contains(err.Error(), c.want) || !strings.Contains(err.Error(), "\n1 problem;") {
			t.Errorf("%s: got %v", name, err)
		}
	}
}

// TestAliasBomb unfolds to 10^9 values if nothing bounds it.
func TestAliasBomb(t *testing.T) {
	var b strings.Builder
	b.WriteString("sources:\n  - &s\n    files: &f [" + strings.Repeat("/a,", 1000) + "/a]\n")
	b.WriteString(strings.Repeat("  - *s\n", 100_000))
	_, _, err := Parse([]byte(b.String()), "f.yaml", testEnv)
	if err == nil || !strings.Contains(err.Error(), "unfold into more than") {
		t.Fatalf("got %.300v", err)
	}
	var m strings.Builder
	m.WriteString("sources:\n  - &a0 {files: /x}\n")
	for i := 1; i < 40; i++ {
		fmt.Fprintf(&m, "  - &a%d {<<: [*a%d, *a%d]}\n", i, i-1, i-1)
	}
	if _, _, err := Parse([]byte(m.String()), "f.yaml", testEnv); err == nil {
		t.Fatal("accepted")
	}
}

func TestAnchors(t *testing.T) {
	c := mustParse(t, `
sources:
  - &base {name: one, files: &f [/var/log/one.log], format: json, lateness: 2m}
  - <<: *base
    name: two
    files: /var/log/two.log
detection: {dimensions: &d [role]}
roles: {priority: *d}
`, testEnv)
	two := c.Sources[1]
	if two.Name != "two" || two.Parse.Format != "json" || two.Lateness != 2*time.Minute || !slices.Equal(two.Files, []string{"/var/log/two.log"}) {
		t.Errorf("merged source is %+v", two)
	}
	if !slices.Equal(c.Roles.Priority, []string{"role"}) {
		t.Errorf("aliased list is %v", c.Roles.Priority)
	}
}

func TestDefaults(t *testing.T) {
	data, err := os.ReadFile("minimal.yaml")
	if err != nil {
		t.Fatal(err)
	}
	flow := strings.ReplaceAll(string(data), `"${SLACK_TOKEN}"`, "${SLACK_TOKEN}")
	if flow == string(data) {
		t.Fatal("the minimal example lost its reference")
	}
	for _, text := range []string{string(data), flow, "\xef\xbb\xbf" + strings.ReplaceAll(flow, "\n", "\r\n")} {
		c := mustParse(t, text, testEnv)
		s := c.Sources[0]
		if c.Service != "" || c.Listen != "127.0.0.1:8403" || c.Slot != time.Minute || c.Detection.Judge.AlertsPerWeek != 1 {
			t.Errorf("defaults are %+v", c)
		}
		if s.Name != "nginx-access" || s.Parse.Format != "auto" || s.Lateness != time.Minute || s.MaxLine != 1<<20 || s.Vantage != "" {
			t.Errorf("source is %+v", s)
		}
		if c.Sinks.Console || len(c.Sinks.Slack) != 1 || c.Sinks.Slack[0].Name != "slack" || c.Sinks.Slack[0].Post.Token.Reveal() != "xoxb-12-34-abcdefghijkl" {
			t.Errorf("sinks are %+v", c.Sinks)
		}
		if len(c.Warnings()) != 0 {
			t.Errorf("warnings are %v", c.Warnings())
		}
		if err := c.Validate(); err != nil {
			t.Error(err)
		}
	}
	if !mustParse(t, "sources: [{files: /a.log}]", testEnv).Sinks.Console {
		t.Error("no sink, and the console is off")
	}
	for _, on := range []string{"true", "{}", ""} {
		if !mustParse(t, "sources: [{files: /a.log}]\nsinks:\n  console: "+on+"\n", testEnv).Sinks.Console {
			t.Errorf("console: %q is off", on)
		}
	}
	if err := Default().Validate(); err == nil || strings.Contains(err.Error(), ":1:1") {
		t.Errorf("the default alone: %v", err)
	}
}

func TestNames(t *testing.T) {
	c := mustParse(t, `
sources:
  - files: /var/log/nginx/access.log
  - files: /srv/a/nginx/access.log
  - {files: /srv/other.log, name: nginx-access-3}
  - files: /srv/b/nginx/access*.log
  - files: "/srv/**/*.log"
  - files: relative/app.log
`, testEnv)
	var got []string
	for _, s := range c.Sources {
		got = append(got, s.Name)
	}
	want := []string{"nginx-access", "nginx-access-2", "nginx-access-3", "nginx-access-4", "source", "relative-app"}
	if !slices.Equal(got, want) {
		t.Errorf("got %v, want %v", got, want)
	}
	if f := c.Sources[5].Files[0]; f != "/etc/denywatch/relative/app.log" {
		t.Errorf("a relative file is %s", f)
	}
}

func TestState(t *testing.T) {
	const one = "sources: [{files: /a.log}]\n"
	if got := mustParse(t, one, lookup(map[string]string{"STATE_DIRECTORY": "/var/lib/x:/y"})).State; got != "/var/lib/x" {
		t.Errorf("under systemd: %s", got)
	}
	if got := mustParse(t, one+"state: data\n", testEnv).State; got != "/etc/denywatch/data" {
		t.Errorf("relative: %s", got)
	}
	if _, err := os.Stat(systemState); os.Geteuid() != 0 && errors.Is(err, fs.ErrNotExist) {
		if got := mustParse(t, one, testEnv).State; got != "/home/ann/.local/state/denywatch" {
			t.Errorf("for a person: %s", got)
		}
		if _, _, err := Parse([]byte(one), "f.yaml", lookup(nil)); err == nil {
			t.Error("without a home: accepted")
		}
	}
}

func TestReferences(t *testing.T) {
	dir := t.TempDir()
	write := func(name, text string, mode os.FileMode) string {
		t.Helper()
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, []byte(text), mode); err != nil {
			t.Fatal(err)
		}
		if err := os.Chmod(path, mode); err != nil {
			t.Fatal(err)
		}
		return path
	}
	write("token", "xoxb-from-a-file\r\n", 0o600)
	write("open", "0123456789abcdef-open\n", 0o644)
	write("two lines", "a\nb\n\n", 0o600)
	env := lookup(map[string]string{"HOME": "/home/ann", "N": "2.5", "SLOT": "30s", "ON": "true", "HOST": "shop", "CODE": "451"})
	text := `
service: the ${HOST} of ${file:two lines}
slot: ${SLOT}
sources:
  - files: /var/log/$HOST/$${HOST}/${HOST}.log
    trust_user: ${ON}
    format: nginx
    log_format: '${remote_addr} [$time_local] "$request" $status ${HOST}'
denials: {statuses: [403, ${CODE}]}
detection: {alerts_per_week: ${N}}
markers: {tokens: [{name: ci, token: ${file:open}}]}
sinks: {slack: {token: ${file:` + dir + `/token}, channel: "#${HOST}"}}
`
	file := filepath.Join(dir, "denywatch.yaml")
	_, _, err := Parse([]byte(text), file, env)
	if err == nil || !strings.Contains(err.Error(), "service: holds control characters") || !strings.Contains(err.Error(), "\n1 problem;") {
		t.Fatalf("a service with a line break in it: %v", err)
	}
	write("two lines", "b\n", 0o600)
	c, warnings, err := Parse([]byte(text), file, env)
	if err != nil {
		t.Fatal(err)
	}
	s := c.Sources[0]
	for _, x := range []struct{ what, got, want string }{
		{"service", c.Service, "the shop of b"},
		{"slot", c.Slot.String(), "30s"},
		{"files", s.Files[0], "/var/log/$HOST/${HOST}/shop.log"},
		{"log_format", s.Parse.LogFormat, `${remote_addr} [$time_local] "$request" $status ${HOST}`},
		{"statuses", fmt.Sprint(c.Denials.Statuses), "[403 451]"},
		{"alerts", fmt.Sprint(c.Detection.Judge.AlertsPerWeek), "2.5"},
		{"trust_user", fmt.Sprint(s.TrustUser), "true"},
		{"marker token", c.Markers.HTTP.Tokens[0].Token.Reveal(), "0123456789abcdef-open"},
		{"slack token", c.Sinks.Slack[0].Post.Token.Reveal(), "xoxb-from-a-file"},
		{"channel", c.Sinks.Slack[0].Post.Channel, "#shop"},
	} {
		if x.got != x.want {
			t.Errorf("%s is %q, want %q", x.what, x.got, x.want)
		}
	}
	if len(warnings) != 1 || warnings[0].Line != 11 || !strings.Contains(warnings[0].String(), "everyone on this host can read") {
		t.Errorf("warnings are %v", warnings)
	}
}

func TestSecretFiles(t *testing.T) {
	dir := t.TempDir()
	for name, text := range map[string]string{
		"empty": "\n", "binary": "\xff\xfe\x01", "nul": "a\x00b", "huge": strings.Repeat("x", 64<<10+1), "closed": "x", "fits": strings.Repeat("x", 64<<10),
	} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.Chmod(filepath.Join(dir, "closed"), 0); err != nil {
		t.Fatal(err)
	}
	cases := map[string]string{
		"absent": "it does not exist", "empty": "is empty", "binary": "is not UTF-8 text", "nul": "is not UTF-8 text",
		"huge": "is larger than 64 KiB", ".": "is not a regular file",
	}
	if os.Geteuid() != 0 {
		cases["closed"] = "permission denied"
	}
	for name, want := range cases {
		_, _, err := Parse([]byte("sources: [{files: /a.log}]\nsinks: {slack: {channel: '#x', token: ${file:"+name+"}}}\n"), filepath.Join(dir, "f.yaml"), testEnv)
		if err == nil || !strings.Contains(err.Error(), ":2:") || !strings.Contains(err.Error(), want) || !strings.Contains(err.Error(), "1 problem;") {
			t.Errorf("%s: got %v, want %q", name, err, want)
		}
	}
	if _, _, err := Parse([]byte("sources: [{files: /a.log}]\nservice: ${file:fits}\n"), filepath.Join(dir, "f.yaml"), testEnv); err == nil || !strings.Contains(err.Error(), "longer than") {
		t.Errorf("a file of 64 KiB: %v", err)
	}
}

// TestSecretsStayHidden puts an unmistakable value, through the environment,
// into every setting in turn, as the whole value and as a part, and into all at
// once; nothing that can be printed may show it.
func TestSecretsStayHidden(t *testing.T) {
	const value = "Zq9-unmistakable\"\\value\x01"
	for _, value := range []string{value, "https://" + "zq9.unmistakable:99x/" + "a b", "Zq9 unmistakable"} {
		env := lookup(map[string]string{"X": value, "HOME": "/root"})
		check := func(text string) {
			t.Helper()
			c, warnings, err := Parse([]byte(text), "f.yaml", env)
			said := fmt.Sprint(err) + fmt.Sprint(warnings)
			if p := (*Problems)(nil); errors.As(err, &p) {
				said += p.Text(true, "")
			}
			if c != nil {
				// Only what is no secret by its nature may be printed of a
				// valid configuration; here that is what the sinks hold.
				said += fmt.Sprintf("%v %+v %#v", c.Sinks, c.Sinks, c.Sinks)
			}
			if strings.Contains(strings.ToLower(said), "unmistakable") || strings.Contains(said, fmt.Sprintf("%x", "unmistakable")) {
				t.Errorf("%s\nshows the value:\n%s", text, said)
			}
		}
		for _, ref := range []string{"${X}", "a${X}"} {
			const sources = "sources: [{files: /a.log}]\n"
			for _, text := range []string{
				sources + "service: " + ref, sources + "state: " + ref, sources + "listen: " + ref, sources + "listen: 127.0.0.1:" + ref,
				sources + "slot: " + ref, sources + "routes: [" + ref + ", '/{" + ref + "', 'POST " + ref + "']",
				sources + "roles: {priority: [" + ref + "," + ref + "]}", sources + "denials: {statuses: [" + ref + "]}",
				sources + "detection: {alerts_per_week: " + ref + ", dimensions: [" + ref + "]}",
				sources + "markers: {tokens: [{name: " + ref + ", token: " + ref + "}, {name: " + ref + ", token: " + ref + "}], hmac: [{name: a, secret: " + ref + "}]}",
				sources + "sinks: {console: " + ref + ", webhook: {name: " + ref + ", url: " + ref + ", secret: " + ref + "}, slack: {name: " + ref + ", token: " + ref + ", channel: " + ref + ", api_url: " + ref + "}}",
				sources + "sinks: {webhook: {url: " + ref + ", secret: " + ref + ", headers: {X-A: " + ref + ", '" + ref + "': b}}, slack: {channel: " + ref + ", token: " + ref + "}}",
				sources + "sinks: {webhook: " + ref + ", slack: [" + ref + ", {webhook: " + ref + "}, {token: xoxb-" + ref + ", channel: '#" + ref + "'}]}",
				"sources: " + ref, "sources: [" + ref + "]", ref, "- " + ref,
				"sources: [{files: [" + ref + "," + ref + "]}, {files: " + ref + "}]",
				"sources: [{name: " + ref + ", files: /a.log}, {name: " + ref + ", files: /a.log}]",
				"sources: [{files: '~/" + ref + "'}]", "sources: [{files: '/[" + ref + "'}]", "sources: [{files: '/x/" + ref + ".gz'}]",
				"sources: [{files: /a.log, vantage: " + ref + ", format: " + ref + ", timezone: " + ref + ", service: " + ref + ", lateness: " + ref + ", trust_user: " + ref + ", max_line: " + ref + ", grace: " + ref + "}]",
				"sources: [{files: /a.log, format: json, mapping: {role: " + ref + ", path: 'a..'," + "status: '" + ref + "'}}]",
			} {
				check(text)
			}
		}
	}
	// Secrets that stand in the file itself are not shown either.
	c := mustParse(t, "sources: [{files: /a.log}]\nsinks: {slack: {token: xoxb-1-plain-hush, channel: '#a'}}\nmarkers: {tokens: [{name: ci, token: plain-hush-plain-hush}]}\n", testEnv)
	if s := fmt.Sprintf("%v %+v %#v", c, c, c); strings.Contains(s, "hush") {
		t.Errorf("printed: %s", s)
	}
}

// TestAccessWarnings: rules that get in each other's way, or that match nothing, are
// told with the places of both.
func TestAccessWarnings(t *testing.T) {
	text := `sources: [{files: /a.log}]
routes: ["/~{user}/**"]
access:
  - { route: "/admin/**", role: [owner, admin], allow: true }
  - { route: "/admin/**", allow: false }
  - { route: "/users/8141/export", allow: true }
  - { route: ["/a", "/~{user}/files"], allow: true }
  - { route: "/a", allow: false, plan: free }
  - { route: "/a", allow: true, role: owner }
  - { route: "/b", allow: true }
  - { route: "/b", allow: either }
  - { route: "/b", allow: either, hint: "" }
`
	c, warnings, err := Parse([]byte(text), "denywatch.yaml", testEnv)
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	for _, w := range append(warnings, c.Notes()...) {
		got = append(got, w.String())
	}
	want := []string{
		`denywatch.yaml:4:5 access[0]: never decides: access[1] (line 5) comes later and matches all of it; the last match wins, so put exceptions after the rule they are of`,
		`denywatch.yaml:6:14 access[2].route: matches no request: such paths are counted as "/users/{id}/export"; write that`,
		`denywatch.yaml:7:21 access[3].route[1]: matches no request: such paths are counted as "/~{user}/**"; write that`,
		`denywatch.yaml:10:5 access[6]: says something else than access[7] (line 11) of the same requests, and the later one wins; keep one`,
		`denywatch.yaml:11:5 access[7]: says the same as access[8] (line 12); keep one`,
		`denywatch.yaml:8:5 access[4]: and access[5] (line 9) say different things of some requests; the later one wins`,
	}
	if strings.Join(got, "\n") != strings.Join(want, "\n") {
		t.Errorf("got\n%s\nwant\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
	}
	if c.Detection.Judge.Access.Len() != len(c.Access) {
		t.Error("the judge does not know the rules")
	}
}

func TestWarnings(t *testing.T) {
	path := filepath.Join(t.TempDir(), "denywatch.yaml")
	text := "listen: 0.0.0.0:8403\nsources: [{files: /a.log}]\nmarkers: {tokens: [{name: ci, token: plain-hush-plain-hush}, {name: b, token: ${SLACK_TOKEN}}]}\n"
	if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
	for mode, want := range map[os.FileMode]int{0o644: 2, 0o640: 1} {
		if err := os.Chmod(path, mode); err != nil {
			t.Fatal(err)
		}
		c, err := Load(path, testEnv)
		if err != nil {
			t.Fatal(err)
		}
		if w := c.Warnings(); len(w) != want || w[0].Path != "listen" || w[0].Line != 1 {
			t.Errorf("mode %o: warnings are %v", mode, w)
		} else if want == 2 && (w[1].Path != "markers.tokens[0].token" || w[1].Column != 38) {
			t.Errorf("mode %o: warnings are %v", mode, w)
		}
	}
}

func TestLoadUnreadable(t *testing.T) {
	dir := t.TempDir()
	_, err := Load(filepath.Join(dir, "absent.yaml"), testEnv)
	var p *Problems
	if !errors.As(err, &p) || !errors.Is(err, fs.ErrNotExist) || !strings.Contains(err.Error(), "absent.yaml  cannot be read: it does not exist") {
		t.Errorf("absent: %v", err)
	}
	if _, err := Load(dir, testEnv); err == nil || !strings.Contains(err.Error(), "it is a folder") {
		t.Errorf("folder: %v", err)
	}
}

func TestFind(t *testing.T) {
	t.Chdir(t.TempDir())
	if _, err := os.Stat(searchPath[1]); errors.Is(err, fs.ErrNotExist) {
		if _, err := Find(); err == nil || !strings.Contains(err.Error(), "--config") {
			t.Errorf("none: %v", err)
		}
	}
	if err := os.WriteFile("denywatch.yaml", nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if got, err := Find(); got != "denywatch.yaml" || err != nil {
		t.Errorf("got %q, %v", got, err)
	}
}

func TestText(t *testing.T) {
	p := &Problems{File: "f", List: []Problem{
		{File: "f", Line: 1, Column: 5, Path: "slot", Message: "is wrong"}, {File: "f", Line: 10, Column: 12, Message: "is worse"},
	}, More: 3}
	if got, want := p.Text(false, "nothing was changed"), "f:1:5    slot: is wrong\nf:10:12  is worse\n... and 3 more\n5 problems; nothing was changed"; got != want {
		t.Errorf("got\n%s\nwant\n%s", got, want)
	}
	if got := p.Text(true, ""); !strings.Contains(got, "\x1b[1mf:1:5  \x1b[0m  \x1b[31mslot\x1b[0m: is wrong\n") || !strings.HasSuffix(got, "5 problems") {
		t.Errorf("got %q", got)
	}
}

func TestManyProblems(t *testing.T) {
	_, _, err := Parse([]byte(strings.Repeat("- 5\n", 300)), "f", testEnv)
	if err == nil {
		t.Fatal("accepted")
	}
	_, _, err = Parse([]byte("sources:\n"+strings.Repeat("  - 5\n", 300)), "f", testEnv)
	var p *Problems
	if !errors.As(err, &p) || len(p.List) != 100 || p.More != 200 || !strings.Contains(err.Error(), "... and 200 more\n300 problems;") {
		t.Errorf("got %v", err)
	}
}

func TestSuggest(t *testing.T) {
	list := []string{"format", "log_format", "files", "from_end", "name"}
	for word, want := range map[string]string{
		"fromat": "format", "Format": "format", "file": "files", "log-format": "log_format", "logformat": "log_format",
		"x": "", "": "", "journeys": "", "naem": "name", "FROM-END": "from_end", "formatt": "format", "frm": "", strings.Repeat("format", 100): "",
	} {
		if got := suggest(word, list); got != want {
			t.Errorf("%q: got %q, want %q", word, got, want)
		}
	}
}

func TestSize(t *testing.T) {
	for text, want := range map[string]Size{"1MiB": 1 << 20, "64KiB": 64 << 10, "1.5 KiB": 1536, "4096": 4096, "2GiB": 2 << 30, "1MB": 1e6, "10B": 10, "0": 0} {
		got, err := ParseSize(text)
		if err != nil || got != want {
			t.Errorf("%s: got %d, %v", text, got, err)
		}
		if again, err := ParseSize(got.String()); err != nil || again != got {
			t.Errorf("%s: written as %s, read as %d, %v", text, got, again, err)
		}
	}
	for _, text := range []string{"", "MiB", "-1", "1.5", "1e300", "NaN", "Inf", "1 parsec", "0x10", "1MiBB"} {
		if got, err := ParseSize(text); err == nil {
			t.Errorf("%q is %d", text, got)
		}
	}
}

func TestDiff(t *testing.T) {
	const base = `
sources:
  - {name: web, files: /var/log/a.log}
  - {name: app, files: /var/log/b.log, format: json}
sinks: {slack: {token: ${SLACK_TOKEN}, channel: "#a"}}
`
	before := mustParse(t, base, testEnv)
	for _, c := range []struct{ change, want string }{
		{"", ""},
		{"listen: 127.0.0.1:1\nslot: 30s\nstate: /x\n", "state (needs a restart), listen (needs a restart), slot (needs a restart)"},
		{"denials: {statuses: [403]}\nroutes: [/a]\nroles: {priority: [a]}\nservice: x\n", "service (counts anew), routes (counts anew), roles.priority (counts anew), denials.statuses (counts anew)"},
		{"detection: {alerts_per_week: 2, dimensions: [role]}\n", "detection.alerts_per_week (live), detection.dimensions (counts anew)"},
		{"markers: {tokens: [{name: ci, token: 0123456789abcdef}]}\n", "markers.tokens[ci] (live)"},
	} {
		if got := Diff(before, mustParse(t, base+c.change, testEnv)).String(); got != c.want {
			t.Errorf("%s: got %s, want %s", c.change, got, c.want)
		}
	}
	after := mustParse(t, `
sources:
  - {name: app, files: [/var/log/b.log], format: json, mapping: {role: r}, lateness: 2m}
  - {name: new, files: /var/log/c.log}
sinks: {slack: {token: xoxb-other-hush, channel: "#b"}, console: true}
`, testEnv)
	changes := Diff(before, after)
	want := "sources[web] (counts anew), sources[app].mapping (counts anew), sources[app].lateness (live), sources[new] (counts anew), sinks.console (live), sinks.slack[slack].token (live), sinks.slack[slack].channel (live)"
	if changes.String() != want {
		t.Errorf("got  %s\nwant %s", changes, want)
	}
	if changes.Effect() != Recount || len(changes.Having(Recount)) != 3 || len(changes.Having(Restart)) != 0 {
		t.Errorf("effect is %v of %v", changes.Effect(), changes)
	}
}

// TestExample proves that the example is valid, shows every option, and that
// what it shows behind "#" are the defaults.
func TestExample(t *testing.T) {
	secretFile := filepath.Join(t.TempDir(), "hmac")
	if err := os.WriteFile(secretFile, []byte("0123456789abcdef-hmac\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	text := strings.ReplaceAll(string(Example), "/run/secrets/marker_hmac", secretFile)
	env := lookup(map[string]string{
		"SHOUTRRR_URL":          "ntfy://ntfy.sh/topic",
		"SMTP_PASSWORD":         "hush-mail",
		"PAGERDUTY_KEY":         "0123456789abcdef0123456789abcdef",
		"GITHUB_WEBHOOK_SECRET": "0123456789abcdef-github", "GITLAB_SIGNING_TOKEN": "whsec_BwcHBwcHBwcHBwcHBwcHBwcHBwcHBwcHBwcHBwcHBwc=", "GITLAB_WEBHOOK_TOKEN": "0123456789abcdef-gitlab",
		"HOME": "/home/ann", "IDENTITY_KEY": "0123456789abcdef0123456789abcdef-identity", "KAFKA_PASSWORD": "hush-kafka", "PUSH_TOKEN": "0123456789abcdef-push", "MARKER_TOKEN": "0123456789abcdef-token", "ONCALL_TOKEN": "0123456789abcdef-oncall", "WEBHOOK_SECRET": "0123456789abcdef-webhook", "WEBHOOK_TOKEN": "x", "ALERTMANAGER_TOKEN": "x", "SLACK_WEBHOOK": "https://hooks.slack.com/services/T/B/x", "SLACK_TOKEN": "xoxb-12-34-abcdefghijkl", "SLACK_APP_TOKEN": "xapp-1-A1-2-abcdefghijkl", "SLACK_SIGNING_SECRET": "0123456789abcdef0123456789abcdef",
	})
	cluster, err := os.ReadFile("deploy/cluster.yaml") // it cannot read the files of the other
	if err != nil {
		t.Fatal(err)
	}
	seen := map[string]bool{}
	shown(t, text, env, seen)
	shown(t, string(cluster), env, seen)
	for _, s := range Schema() {
		if !seen[s] {
			t.Errorf("the examples do not show %s", s)
		}
	}
	for i, line := range strings.Split(string(Example)+string(cluster), "\n") {
		if len(line) > 80 && !strings.Contains(line, "log_format:") {
			t.Errorf("line %d is longer than 80 characters", i+1)
		}
	}
}

// shown fails unless an example is valid and its lines behind "#" are the defaults,
// and takes down which options it shows.
func shown(t *testing.T, text string, env func(string) (string, bool), seen map[string]bool) {
	t.Helper()
	asWritten := mustParse(t, text, env)
	if len(asWritten.Warnings()) != 0 {
		t.Errorf("warnings: %v", asWritten.Warnings())
	}

	// An option that is commented out has its "#" right before its name; prose
	// has a space there.
	lines := strings.Split(text, "\n")
	for i, line := range lines {
		body := strings.TrimLeft(line, " ")
		if rest, off := strings.CutPrefix(body, "#"); off && rest != "" && rest[0] != ' ' {
			lines[i] = line[:len(line)-len(body)] + rest
		}
	}
	all := strings.Join(lines, "\n")
	c, d, err := parse([]byte(all), "/etc/denywatch/denywatch.yaml", env)
	if err != nil {
		t.Fatal(err)
	}
	c.State = asWritten.State // the default depends on the host
	if changes := Diff(asWritten, c); len(changes) != 0 {
		t.Errorf("not the defaults: %v", changes)
	}
	for path := range d.at {
		for {
			i, j := strings.IndexByte(path, '['), strings.IndexByte(path, ']')
			if i < 0 {
				break
			}
			path = path[:i] + "\x00" + path[j+1:]
		}
		path = strings.ReplaceAll(path, "\x00", "[]")
		seen[path] = true
	}
}

// TestSchemaTypes walks the schema with the decoder, so that a type it does not
// know fails here and not at a user.
func TestSchemaTypes(t *testing.T) {
	for _, s := range Schema() {
		for _, v := range []string{"5", "x", "[x]", "{x: 1}", "[{x: 1}]", "true", "", "[[x]]", "[~]", "1s"} {
			var b strings.Builder
			parts := strings.Split(s, ".")
			for i, p := range parts {
				name, list := strings.CutSuffix(p, "[]")
				b.WriteString(name + ": ")
				if i < len(parts)-1 {
					if list {
						b.WriteString("[")
					}
					b.WriteString("{")
				}
			}
			b.WriteString(v)
			for i := len(parts) - 2; i >= 0; i-- {
				b.WriteString("}")
				if strings.HasSuffix(parts[i], "[]") {
					b.WriteString("]")
				}
			}
			if _, _, err := Parse([]byte(b.String()), "f", testEnv); err == nil && !strings.HasPrefix(s, "sources") {
				t.Errorf("accepted without a source: %s", b.String())
			}
		}
	}
}

func TestUnit(t *testing.T) {
	data, err := os.ReadFile("deploy/denywatch.service")
	if err != nil {
		t.Fatal(err)
	}
	has := map[string]bool{}
	for i, line := range strings.Split(string(data), "\n") {
		has[line] = true
		if line != "" && !strings.HasPrefix(line, "#") && !strings.HasPrefix(line, "[") && !strings.Contains(line, "=") {
			t.Errorf("line %d is no directive: %q", i+1, line)
		}
	}
	for _, line := range []string{
		"ExecReload=/bin/kill -HUP $MAINPID", "StateDirectory=" + filepath.Base(systemState), "ReadOnlyPaths=/var/log",
		"ExecStart=/usr/bin/denywatch run --config " + searchPath[1],
	} {
		if !has[line] {
			t.Errorf("the unit lacks %q", line)
		}
	}
}

func FuzzParse(f *testing.F) {
	f.Add(Example)
	f.Add([]byte("a: &a [*a]\n<<: *a\n"))
	f.Add([]byte("sources: [{files: ${SLACK_TOKEN}, <<: {name: x}}]\n"))
	files, _ := filepath.Glob("testdata/mistakes/*.yaml")
	for _, name := range files {
		data, err := os.ReadFile(name)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(data)
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		if bytes.Contains(data, []byte("file:")) {
			t.Skip("would read files of this host")
		}
		c, _, err := Parse(data, "f.yaml", testEnv)
		if (c == nil) == (err == nil) {
			t.Fatalf("got %v and %v", c, err)
		}
		if err != nil {
			var p *Problems
			if !errors.As(err, &p) || len(p.List) == 0 {
				t.Fatalf("%T without problems", err)
			}
			lines := bytes.Count(data, []byte("\n")) + bytes.Count(data, []byte("\r")) + bytes.Count(data, []byte("\u0085")) + bytes.Count(data, []byte("\u2028")) + bytes.Count(data, []byte("\u2029")) + 2
			for _, x := range p.List {
				if x.Line < 1 || x.Line > lines || x.Column < 1 || x.Message == "" || strings.ContainsAny(x.Path+x.Message, "\n\r\x1b\x00") {
					t.Fatalf("%+v in %q", x, data)
				}
			}
			if strings.Contains(err.Error(), "hush") && !bytes.Contains(data, []byte("hush")) {
				t.Fatalf("%q shows a value: %v", data, err)
			}
			_, _, again := Parse(data, "f.yaml", testEnv)
			if again == nil || again.Error() != err.Error() {
				t.Fatalf("first %v\nthen %v", err, again)
			}
			return
		}
		if err := c.Validate(); err != nil {
			t.Fatalf("%q is valid at first, then %v", data, err)
		}
		again, _, err := Parse(data, "f.yaml", testEnv)
		if err != nil || !reflect.DeepEqual(c, again) || len(Diff(c, again)) != 0 {
			t.Fatalf("%q gives another configuration at the second time: %v", data, err)
		}
	})
}

func TestPublicURL(t *testing.T) {
	for text, want := range map[string]string{
		"https://denywatch.example.com":         "",
		"https://example.com/denywatch/":        "",
		"https://ann:hush@denywatch.test":       "must hold no password",
		"https://denywatch.test/?a=b":           "must hold no password and no query",
		"https://denywatch.test/#a":             "must not have a #fragment",
		"denywatch.test":                        "is not a complete http or https address; give the address that people's browsers reach",
		"https://denywatch.test/v1/":            "must end before /v1",
		"https://denywatch.test/v1/incidents/7": "must end before /v1",
	} {
		_, _, err := Parse([]byte("sources: [{files: /a.log}]\npublic_url: \""+text+"\"\n"), "denywatch.yaml", testEnv)
		if got := fmt.Sprint(err); (want == "") != (err == nil) || want != "" && !strings.Contains(got, "denywatch.yaml:2:13  public_url: "+want) || strings.Contains(got, "hush") {
			t.Errorf("%s: %v, want %q", text, err, want)
		}
	}
	c := mustParse(t, "sources: [{files: /a.log}]\npublic_url: https://localhost:8403\nmarkers: {hosts: [other.test]}\n", testEnv)
	if w := c.Warnings(); len(w) != 1 || w[0].Path != "public_url" {
		t.Errorf("an address of this host only: %v", w)
	}
	if got := c.API().Hosts; !slices.Equal(got, []string{"other.test", "localhost"}) || len(c.Markers.HTTP.Hosts) != 1 {
		t.Errorf("hosts %v, configured %v", got, c.Markers.HTTP.Hosts)
	}
}
