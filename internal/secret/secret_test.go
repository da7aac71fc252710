package secret_test

import (
	"bytes"
	"encoding/json"
	"fmt"
	"log/slog"
	"strings"
	"testing"

	"go.yaml.in/yaml/v4"

	"github.com/denywatch/denywatch/internal/secret"
)

type config struct {
	Token secret.String            `yaml:"token" json:"token"`
	Many  map[string]secret.String `yaml:"many" json:"many"`
	List  []secret.String          `yaml:"list" json:"list"`
}

func TestNoWayOutShowsTheSecret(t *testing.T) {
	const canary = "xoxb-canary-7261"
	c := config{Token: canary, Many: map[string]secret.String{"a": canary}, List: []secret.String{canary}}
	var outs []string
	for _, verb := range []string{"%v", "%+v", "%#v", "%s", "%q", "%x", "%X", "%d", "%T %v", "%10s", "%t"} {
		outs = append(outs, fmt.Sprintf(verb, c.Token), fmt.Sprintf(verb, c), fmt.Sprintf(verb, &c))
	}
	outs = append(outs, fmt.Sprint(c), fmt.Sprintln(c.Token), fmt.Errorf("token %v", c.Token).Error())
	var buf bytes.Buffer
	for _, l := range []*slog.Logger{slog.New(slog.NewTextHandler(&buf, nil)), slog.New(slog.NewJSONHandler(&buf, nil))} {
		l.Info("start", "token", c.Token, "config", c)
	}
	outs = append(outs, buf.String())
	j, err := json.Marshal(c)
	if err != nil {
		t.Fatal(err)
	}
	y, err := yaml.Marshal(c)
	if err != nil {
		t.Fatal(err)
	}
	outs = append(outs, string(j), string(y))
	hex := fmt.Sprintf("%x", canary)
	for i, o := range outs {
		if strings.Contains(o, "canary") || strings.Contains(strings.ToLower(o), hex) {
			t.Errorf("output %d shows the secret: %s", i, o)
		}
	}
	if !strings.Contains(string(y), secret.Redacted) {
		t.Errorf("YAML does not say that the token is set:\n%s", y)
	}
	if c.Token.Reveal() != canary {
		t.Errorf("Reveal = %q", c.Token.Reveal())
	}
}

func TestDecodesAsAString(t *testing.T) {
	var c config
	if err := yaml.Unmarshal([]byte("token: abc\nlist: [d]\n"), &c); err != nil {
		t.Fatal(err)
	}
	if c.Token.Reveal() != "abc" || c.List[0].Reveal() != "d" {
		t.Errorf("got %q %q", c.Token.Reveal(), c.List[0].Reveal())
	}
	if err := json.Unmarshal([]byte(`{"token":"xyz"}`), &c); err != nil || c.Token.Reveal() != "xyz" {
		t.Errorf("JSON: %v %q", err, c.Token.Reveal())
	}
}

func TestEmptyShowsEmpty(t *testing.T) {
	if s := fmt.Sprint(secret.String("")); s != "" {
		t.Errorf("an unset secret shows %q", s)
	}
}
