package web

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"

	"github.com/denywatch/denywatch/ingest/markers"
	"github.com/denywatch/denywatch/internal/secret"
)

// Config says who may announce changes. The zero value names nobody: markers are
// then taken on a loopback listener only, from programs on the same host.
type Config struct {
	// Tokens are the callers that send a bearer token.
	Tokens []secret.Token `yaml:"tokens"`
	// HMAC are the callers that sign their requests.
	HMAC []Key `yaml:"hmac"`
	// Operators are the names of those Tokens that may change incidents too:
	// acknowledge, silence, accept and dismiss them.
	Operators []string `yaml:"operators,one"`
	// Hosts are further names, without ports, by which the API is read on a
	// loopback listener: those of a proxy that passes the Host header on.
	Hosts []string `yaml:"hosts"`
	// Deployments says which deployments that GitHub, GitLab and Argo CD tell of
	// are markers.
	Deployments markers.Config `yaml:"deployments"`
}

// Key is a caller that sends the header Denywatch-Signature, made with Secret. It may
// announce changes only: the signature does not say what is to be done with the body.
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

// Validate returns all problems of c at once. It does no I/O.
func (c Config) Validate() []Problem {
	var ps []Problem
	bad := func(path, format string, args ...any) {
		ps = append(ps, Problem{Path: path, Msg: fmt.Sprintf(format, args...)})
	}
	check := secret.Checker{Bad: func(path, msg string) { bad(path, "%s", msg) }}
	check.Tokens("tokens", c.Tokens)
	check.Count("hmac", len(c.HMAC))
	for i, k := range c.HMAC {
		check.Caller(fmt.Sprintf("hmac[%d]", i), "secret", k.Name, k.Secret)
	}
	for i, name := range c.Operators {
		if !slices.ContainsFunc(c.Tokens, func(t secret.Token) bool { return t.Name == name }) {
			bad(fmt.Sprintf("operators[%d]", i), "is the name of none of tokens")
		}
	}
	for i, h := range c.Hosts {
		at := fmt.Sprintf("hosts[%d]", i)
		switch _, err := netip.ParseAddr(h); {
		case err == nil:
			bad(at, "addresses are always accepted; take it out")
		case h == "" || len(h) > 253 || !secret.Sendable(h) || strings.ContainsAny(h, ":/*"):
			bad(at, "must be a host name such as denywatch.internal, without scheme, port or wildcard")
		}
	}
	for _, p := range c.Deployments.Validate() {
		bad("deployments."+p.Path, "%s", p.Msg)
	}
	return ps
}
