package parsers

import (
	"errors"
	"strings"
	"testing"

	"github.com/denywatch/denywatch/internal/event"
)

func TestValidate(t *testing.T) {
	for _, c := range []struct {
		name string
		c    Config
		want []string // "path: part of the message"
	}{
		{"nothing", Config{}, nil},
		{"auto", Config{Format: "auto", Mapping: map[string]string{"role": "user.role"}}, nil},
		{"nginx", Config{Format: "nginx"}, nil},
		{"apache", Config{Format: "apache"}, nil},
		{"main", Config{Format: "main"}, nil},
		{"json", Config{Format: "json", Timezone: "+02:00"}, nil},
		{"zone", Config{Timezone: "Europe/Berlin"}, nil},
		{"unknown format", Config{Format: "ngnix"}, []string{`format: "ngnix" is unknown, did you mean "nginx"?`}},
		{"format of another kind", Config{Format: "squid"}, []string{`format: "squid" is unknown; known are auto, nginx`}},
		{"log_format without a family", Config{LogFormat: "custom"}, []string{`log_format: "custom" does not tell whose`}},
		{"log_format for json", Config{Format: "json", LogFormat: "combined"}, []string{"log_format: means nothing with format json"}},
		{"everything at once", Config{
			Format: "nginx", LogFormat: "$remote_addr $status $http_x_role", Timezone: "../etc/passwd",
			Mapping: map[string]string{"rolle": "x", "plan": " ", "role": "$http_x_rol", "account": "$http_x_role", "user": "$http_x_role"},
		}, []string{
			"log_format: has no time",
			`mapping.plan: is empty`,
			`mapping.role: "$http_x_rol" is not in log_format, did you mean "$http_x_role"?`,
			`mapping.rolle: unknown key, did you mean "role"?`,
			`mapping.user: "$http_x_role" is already taken for account`,
			`timezone: "../etc/passwd" is no zone`,
		}},
		{"a json path in nginx", Config{Format: "combined", Mapping: map[string]string{"role": "user.role"}},
			[]string{`mapping.role: "user.role" is not in log_format`}},
		{"too long", Config{Format: "json", Mapping: map[string]string{"role": strings.Repeat("x", 65)}},
			[]string{"mapping.role: is longer than"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			ps := c.c.Validate()
			for _, want := range c.want {
				found := false
				for _, p := range ps {
					found = found || strings.HasPrefix(p.Error(), want)
				}
				if !found {
					t.Errorf("no %q in %v", want, ps)
				}
			}
			if len(ps) != len(c.want) {
				t.Errorf("%d problems, want %d: %v", len(ps), len(c.want), ps)
			}
			if len(c.want) > 0 {
				if _, err := Compile(c.c); err == nil {
					t.Error("compiled all the same")
				}
			}
		})
	}
}

func TestCompileErrors(t *testing.T) {
	var p Problem
	if _, err := Compile(Config{Format: "auto"}); !errors.As(err, &p) || p.Path != "format" {
		t.Errorf("auto: %v", err)
	}
	if _, err := New(Config{Format: "nginx", Timezone: "Europe/Atlantis"}); !errors.As(err, &p) || p.Path != "timezone" {
		t.Errorf("zone: %v", err)
	}
}

// Parsers of one Format share nothing that changes.
func TestParsersOfOneFormat(t *testing.T) {
	for _, s := range streams {
		f, err := Compile(s.config)
		if err != nil {
			t.Fatal(err)
		}
		lines := stream(s.name)
		done := make(chan bool)
		for k := range 4 {
			go func() {
				p := f.New()
				var e event.Event
				ok := true
				for i := range lines {
					e.Reset()
					ok = ok && p.Parse(lines[(i*7+k)%len(lines)], &e) == nil
				}
				done <- ok
			}()
		}
		for range 4 {
			if !<-done {
				t.Error(s.name, "failed")
			}
		}
	}
}

func TestErrorsHoldNoText(t *testing.T) {
	for _, e := range []*LineError{ErrShort, ErrMismatch, ErrTime, ErrStatus, ErrNotObject, ErrSyntax} {
		if e.Reason == "" || strings.ContainsAny(e.Reason, " \"") || e.Error() == "" {
			t.Errorf("%q %q", e.Reason, e.Error())
		}
	}
}
