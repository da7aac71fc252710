package markers

import (
	"encoding/base64"
	"fmt"
	"maps"
	"path"
	"slices"
	"strings"

	"github.com/denywatch/denywatch/internal/secret"
)

// Config says which deployments are markers, and who may tell of them. The zero
// value takes none from GitHub and GitLab.
type Config struct {
	// Environments are the names of those that users see; * stands for any text
	// without a slash. Empty stands for DefaultEnvironments, and for what the tool
	// itself calls production.
	Environments []string `yaml:"environments"`
	// Services maps repositories (owner/name) and Argo CD applications to the
	// services of the logs. Empty: each deployment concerns every service. If any
	// is named, deployments of others are no markers.
	Services map[string]string `yaml:"services"`
	// GitHub are the webhooks of repositories or organisations.
	GitHub []GitHub `yaml:"github"`
	// GitLab are the webhooks of projects or groups.
	GitLab []GitLab `yaml:"gitlab"`
}

// GitHub is a webhook of GitHub.
type GitHub struct {
	// Name stands for the webhook in the log.
	Name string `yaml:"name"`
	// Secret is the webhook's "Secret": deliveries are signed with it.
	Secret secret.String `yaml:"secret"`
}

// GitLab is a webhook of GitLab. It has one of Token and SigningToken.
type GitLab struct {
	// Name stands for the webhook in the log.
	Name string `yaml:"name"`
	// Token is the webhook's "Secret token", sent with each delivery.
	Token secret.String `yaml:"token"`
	// SigningToken is the webhook's "Signing token" (whsec_...): deliveries are
	// signed with it.
	SigningToken secret.String `yaml:"signing_token"`
}

// DefaultEnvironments are the names that mean production to most people.
func DefaultEnvironments() []string { return []string{"production", "prod", "live"} }

// Problem is a value of a Config that cannot be used. It shows no secret.
type Problem struct {
	// Path is the field as in YAML, such as "github[0].secret", Msg says what is
	// wrong and how to mend it.
	Path, Msg string
}

const (
	// minSecret is the least length of a secret: shorter ones can be guessed.
	minSecret = 16
	maxSecret = 1024
	maxHooks  = 100
	maxNames  = 1000
	maxName   = 200

	signingPrefix = "whsec_"
	// signingKey is the length in bytes of the key in a signing token.
	signingKey = 32
)

// Validate returns all problems of c at once. It does no I/O.
func (c Config) Validate() []Problem {
	var ps []Problem
	bad := func(at, format string, args ...any) { ps = append(ps, Problem{at, fmt.Sprintf(format, args...)}) }
	if len(c.Environments) > maxNames {
		bad("environments", "more than %d", maxNames)
	}
	for i, e := range c.Environments {
		at := fmt.Sprintf("environments[%d]", i)
		switch _, err := path.Match(e, ""); {
		case e == "" || len(e) > maxName || !visible(e):
			bad(at, "is no name of an environment; write it as GitHub or GitLab show it, such as production or prod-*")
		case err != nil:
			bad(at, "is no pattern: a bracket is not closed; * stands for any text without a slash")
		}
	}
	if len(c.Services) > maxNames {
		bad("services", "more than %d", maxNames)
	}
	lower := map[string]string{}
	for _, name := range slices.Sorted(maps.Keys(c.Services)) {
		at := "services." + name
		switch other := lower[strings.ToLower(name)]; {
		case name == "" || len(name) > maxName || !visible(name):
			bad("services", "a name of a repository or application is empty, too long or not printable")
			continue
		case other != "":
			bad(at, "is the same as %s: case makes no difference", other)
		case c.Services[name] == "" || len(c.Services[name]) > maxName || !visible(c.Services[name]):
			bad(at, "names no service; give the one that the logs have, as in %s: shop", name)
		}
		lower[strings.ToLower(name)] = name
	}
	names, secrets := map[string]string{}, map[string]string{}
	named := func(at, name string) {
		switch {
		case name == "":
			bad(at+".name", "is missing; it stands for the webhook in the log")
		case len(name) > maxName || !visible(name) || strings.Contains(name, " "):
			bad(at+".name", "must be at most %d printable characters without spaces", maxName)
		case names[name] != "":
			bad(at+".name", "is the name of %s already; every webhook has its own", names[name])
		default:
			names[name] = at
		}
	}
	hidden := func(at string, value secret.String) {
		switch raw := value.Reveal(); {
		case len(raw) < minSecret:
			bad(at, "is shorter than %d characters and could be guessed; make one with: openssl rand -hex 24", minSecret)
		case len(raw) > maxSecret:
			bad(at, "is longer than %d characters", maxSecret)
		case secrets[raw] != "":
			bad(at, "is the same as %s; every webhook has its own", secrets[raw])
		default:
			secrets[raw] = at
		}
	}
	if len(c.GitHub) > maxHooks {
		bad("github", "more than %d", maxHooks)
	}
	for i, g := range c.GitHub {
		at := fmt.Sprintf("github[%d]", i)
		named(at, g.Name)
		if g.Secret == "" {
			bad(at+".secret", "is missing; make one with: openssl rand -hex 24, and give it to GitHub as the webhook's secret")
			continue
		}
		hidden(at+".secret", g.Secret)
	}
	if len(c.GitLab) > maxHooks {
		bad("gitlab", "more than %d", maxHooks)
	}
	for i, g := range c.GitLab {
		at := fmt.Sprintf("gitlab[%d]", i)
		named(at, g.Name)
		switch {
		case g.Token == "" && g.SigningToken == "":
			bad(at, "has neither token nor signing_token; give the one that the webhook has")
		case g.Token != "" && g.SigningToken != "":
			bad(at+".token", "is not needed beside signing_token, which is safer; take it out")
		case g.Token != "":
			hidden(at+".token", g.Token)
		default:
			if _, ok := decodeSigning(g.SigningToken); !ok {
				bad(at+".signing_token", "is not whsec_ and %d bytes in base64; copy it from the webhook's settings in GitLab", signingKey)
				continue
			}
			hidden(at+".signing_token", g.SigningToken)
		}
	}
	return ps
}

// decodeSigning returns the key in a signing token.
func decodeSigning(s secret.String) ([]byte, bool) {
	text, ok := strings.CutPrefix(s.Reveal(), signingPrefix)
	key, err := base64.StdEncoding.DecodeString(text)
	return key, ok && err == nil && len(key) == signingKey
}

// visible reports whether s has no control characters.
func visible(s string) bool {
	return !strings.ContainsFunc(s, func(r rune) bool { return r < ' ' || r == 0x7f || r == 0xfffd })
}
