package web

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/denywatch/denywatch/internal/secret"
)

func TestValidate(t *testing.T) {
	const good, other = "0123456789abcdef", "fedcba9876543210"
	for _, c := range []struct {
		name string
		cfg  Config
		want []string // the paths, with a word of the message
	}{
		{"nothing", Config{}, nil},
		{"good", Config{
			Tokens: []secret.Token{{Name: "ci", Token: good}}, HMAC: []Key{{"bot", other}}, Hosts: []string{"denywatch.internal"},
		}, nil},
		{"all at once", Config{
			Tokens: []secret.Token{{Name: "", Token: ""}, {Name: "ci", Token: "short"}, {Name: "a b", Token: "with space 12345678"}},
			HMAC:   []Key{{"ci", good}, {"x", good}},
			Hosts:  []string{"", "https://a", "a:80", "*.a", "127.0.0.1", "::1"},
		}, []string{
			"tokens[0].name: is missing", "tokens[0].token: is missing", "tokens[1].token: is shorter",
			"tokens[2].name: must be", "tokens[2].token: holds spaces",
			"hmac[0].name: is the name of tokens[1]", "hmac[1].secret: is the same as that of hmac[0]",
			"hosts[0]: must be", "hosts[1]: must be", "hosts[2]: must be", "hosts[3]: must be",
			"hosts[4]: addresses are always", "hosts[5]: addresses are always",
		}},
		{"long", Config{Tokens: []secret.Token{{Name: strings.Repeat("n", 65), Token: secret.String(strings.Repeat("t", 1025))}}},
			[]string{"tokens[0].name: must be", "tokens[0].token: is longer"}},
		{"many", Config{Tokens: slices.Repeat([]secret.Token{{Name: "ci", Token: good}}, 101)}, []string{"tokens: more than 100"}},
	} {
		got := c.cfg.Validate()
		var texts []string
		for _, p := range got {
			texts = append(texts, p.Error())
		}
		all := strings.Join(texts, "\n")
		for _, w := range c.want {
			if !strings.Contains("\n"+all, "\n"+w) {
				t.Errorf("%s: no problem %q in:\n%s", c.name, w, all)
			}
		}
		if c.name != "many" && len(got) != len(c.want) {
			t.Errorf("%s: %d problems, want %d:\n%s", c.name, len(got), len(c.want), all)
		}
		for _, leak := range []string{good, other, "short\"", "with space"} {
			if strings.Contains(all, leak) {
				t.Errorf("%s: the problems show %q", c.name, leak)
			}
		}
		if s := fmt.Sprintf("%v %+v", c.cfg.Tokens, c.cfg.HMAC); strings.Contains(s, good) {
			t.Errorf("%s: printing the configuration shows a token", c.name)
		}
	}
}
