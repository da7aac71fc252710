package secret

import (
	"crypto/sha256"
	"crypto/subtle"
	"fmt"
	"strings"
)

// Token is a caller that sends "Authorization: Bearer <token>".
type Token struct {
	// Name stands for the caller in the log.
	Name  string `yaml:"name"`
	Token String `yaml:"token"`
}

const (
	// minSecret is the least length of a token or key: shorter ones can be guessed.
	minSecret = 16
	// maxSecret keeps a token well inside the limit of request headers.
	maxSecret = 1024
	// maxCallers bounds the callers of a list: every request is compared with each.
	maxCallers = 100
	maxName    = 64
)

// Checker finds what is wrong with the names and secrets of callers, each of which
// is to have its own. The zero value with Bad set is ready.
type Checker struct {
	// Bad is told the path of each wrong value and what is wrong with it, without
	// the secret.
	Bad func(path, message string)

	names   map[string]string
	secrets map[String]string
}

// Tokens checks a list of callers at path.
func (c *Checker) Tokens(path string, list []Token) {
	c.Count(path, len(list))
	for i, t := range list {
		c.Caller(fmt.Sprintf("%s[%d]", path, i), "token", t.Name, t.Token)
	}
}

// Count checks how many callers there are at path.
func (c *Checker) Count(path string, n int) {
	if n > maxCallers {
		c.Bad(path, fmt.Sprintf("more than %d", maxCallers))
	}
}

// Caller checks the caller at path whose secret is in the field of that name.
func (c *Checker) Caller(path, field, name string, value String) {
	if c.names == nil {
		c.names, c.secrets = map[string]string{}, map[String]string{}
	}
	bad := func(field, format string, args ...any) { c.Bad(path+"."+field, fmt.Sprintf(format, args...)) }
	switch {
	case name == "":
		bad("name", "is missing; it stands for the caller in the log")
	case len(name) > maxName || !Sendable(name):
		bad("name", "must be at most %d printable ASCII characters without spaces", maxName)
	case c.names[name] != "":
		bad("name", "is the name of %s already; every caller has its own", c.names[name])
	default:
		c.names[name] = path
	}
	switch raw := value.Reveal(); {
	case raw == "":
		bad(field, "is missing; make one with: openssl rand -hex 24")
	case len(raw) < minSecret:
		bad(field, "is shorter than %d characters and could be guessed; make one with: openssl rand -hex 24", minSecret)
	case len(raw) > maxSecret:
		bad(field, "is longer than %d characters", maxSecret)
	case !Sendable(raw):
		bad(field, "holds spaces, control or non-ASCII characters, which a request header cannot carry")
	case c.secrets[value] != "":
		bad(field, "is the same as that of %s; every caller has its own", c.secrets[value])
	default:
		c.secrets[value] = path
	}
}

// Sendable reports whether s is visible ASCII throughout.
func Sendable(s string) bool {
	return !strings.ContainsFunc(s, func(r rune) bool { return r <= ' ' || r >= 0x7f })
}

// Tokens are the tokens that callers may send, made ready to compare with. It holds
// their hashes only: comparing hashes takes the same time whatever the lengths, and
// a dump of the memory shows no token.
type Tokens []hashed

type hashed struct {
	name string
	sum  [sha256.Size]byte
}

// Hash returns the tokens of a list.
func Hash(list []Token) Tokens {
	var ts Tokens
	for _, t := range list {
		ts = append(ts, hashed{t.Name, sha256.Sum256([]byte(t.Token.Reveal()))})
	}
	return ts
}

// Caller returns the name of the caller whose token is given. Every token is
// compared, so the time says nothing.
func (ts Tokens) Caller(given string) (name string, ok bool) {
	sum := sha256.Sum256([]byte(given))
	for i := range ts {
		if subtle.ConstantTimeCompare(sum[:], ts[i].sum[:]) == 1 {
			name, ok = ts[i].name, true
		}
	}
	return name, ok && given != ""
}
