package web

import (
	"fmt"
	"net/netip"
	"strings"

	"github.com/denywatch/denywatch/ingest/markers"
	"github.com/denywatch/denywatch/internal/secret"
)

// Config says who may announce changes. The zero value names nobody: markers are
// then taken on a loopback listener only, from programs on the same host.
type Config struct {
	// Tokens are the callers that send a bearer token.
	Tokens []Token `yaml:"tokens"`
	// HMAC are the callers that sign their requests.
	HMAC []Key `yaml:"hmac"`
	// Hosts are further names, without ports, by which the API is read on a
	// loopback listener: those of a proxy that passes the Host header on.
	Hosts []string `yaml:"hosts"`
	// Deployments says which deployments that GitHub, GitLab and Argo CD tell of
	// are markers.
	Deployments markers.Config `yaml:"deployments"`
}

// Token is a caller that sends "Authorization: Bearer <token>".
type Token struct {
	// Name stands for the caller in the log.
	Name  string        `yaml:"name"`
	Token secret.String `yaml:"token"`
}

// Key is a caller that sends the header Denywatch-Signature, made with Secret.
type Key struct {
	// Name stands for the caller in the log.
	Name   string        `yaml:"name"`
	Secret secret.String `yaml:"secret"`
}

// Problem is a value of a Config that cannot be used. It shows no secret.
type Problem struct {
	// Path is the field as in YAML, such as "tokens[0].token".
	Path string
	// Msg says what is wrong and how to mend it.
	Msg string
}

// Error implements error.
func (p Problem) Error() string { return p.Path + ": " + p.Msg }

const (
	// minSecret is the least length of a token or secret: shorter ones can be
	// guessed.
	minSecret = 16
	// maxSecret keeps a token well inside the header limit.
	maxSecret  = 1024
	maxCallers = 100
	maxName    = 64
)

// Validate returns all problems of c at once. It does no I/O.
func (c Config) Validate() []Problem {
	var ps []Problem
	bad := func(path, format string, args ...any) {
		ps = append(ps, Problem{Path: path, Msg: fmt.Sprintf(format, args...)})
	}
	names, secrets := map[string]string{}, map[secret.String]string{}
	check := func(at, field, name string, value secret.String) {
		switch {
		case name == "":
			bad(at+".name", "is missing; it stands for the caller in the log")
		case len(name) > maxName || !printable(name):
			bad(at+".name", "must be at most %d printable ASCII characters without spaces", maxName)
		case names[name] != "":
			bad(at+".name", "is the name of %s already; every caller has its own", names[name])
		default:
			names[name] = at
		}
		path := at + "." + field
		switch raw := value.Reveal(); {
		case raw == "":
			bad(path, "is missing; make one with: openssl rand -hex 24")
		case len(raw) < minSecret:
			bad(path, "is shorter than %d characters and could be guessed; make one with: openssl rand -hex 24", minSecret)
		case len(raw) > maxSecret:
			bad(path, "is longer than %d characters", maxSecret)
		case !printable(raw):
			bad(path, "holds spaces, control or non-ASCII characters, which a request header cannot carry")
		case secrets[value] != "":
			bad(path, "is the same as that of %s; every caller has its own", secrets[value])
		default:
			secrets[value] = at
		}
	}
	for i, t := range c.Tokens {
		check(fmt.Sprintf("tokens[%d]", i), "token", t.Name, t.Token)
	}
	for i, k := range c.HMAC {
		check(fmt.Sprintf("hmac[%d]", i), "secret", k.Name, k.Secret)
	}
	// Every request is compared with every key, so their number is bounded.
	if len(c.Tokens) > maxCallers {
		bad("tokens", "more than %d", maxCallers)
	}
	if len(c.HMAC) > maxCallers {
		bad("hmac", "more than %d", maxCallers)
	}
	for i, h := range c.Hosts {
		at := fmt.Sprintf("hosts[%d]", i)
		switch _, err := netip.ParseAddr(h); {
		case err == nil:
			bad(at, "addresses are always accepted; take it out")
		case h == "" || len(h) > 253 || !printable(h) || strings.ContainsAny(h, ":/*"):
			bad(at, "must be a host name such as denywatch.internal, without scheme, port or wildcard")
		}
	}
	for _, p := range c.Deployments.Validate() {
		bad("deployments."+p.Path, "%s", p.Msg)
	}
	return ps
}

// printable reports whether s is visible ASCII throughout.
func printable(s string) bool {
	return !strings.ContainsFunc(s, func(r rune) bool { return r <= ' ' || r >= 0x7f })
}
