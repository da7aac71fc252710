package collect

import (
	"bytes"
	"net/netip"
	"strings"

	"github.com/denywatch/denywatch/internal/event"
	"github.com/denywatch/denywatch/internal/geo"
)

// Ignore is a rule for requests of the team's own making: synthetic probes,
// tests, scanners that were ordered. A request that matches is counted as ignored
// and nowhere else. All fields that are set must match; a rule without any matches
// nothing.
type Ignore struct {
	// UserAgent, User, Account, Role, Host and Path are patterns in which * stands
	// for any text, also none. Path is matched without its query string.
	UserAgent, User, Account, Role, Host, Path string
	// Client is an address range.
	Client netip.Prefix
}

// Ignores reports whether e is of the team's own making, by rule.
func (c *Config) Ignores(e *event.Event) bool {
	for i := range c.Ignore {
		if c.Ignore[i].matches(e) {
			return true
		}
	}
	return false
}

// matches reports whether e is one of the rule's requests.
func (r *Ignore) matches(e *event.Event) bool {
	any := false
	for _, f := range [...]struct {
		pattern string
		value   []byte
	}{{r.UserAgent, e.UserAgent}, {r.User, e.User}, {r.Account, e.Account}, {r.Host, e.Host}} {
		if f.pattern == "" {
			continue
		}
		if !glob(f.pattern, f.value) {
			return false
		}
		any = true
	}
	if r.Path != "" {
		path := e.Path
		for i, c := range path {
			if c == '?' {
				path = path[:i]
				break
			}
		}
		if !glob(r.Path, path) {
			return false
		}
		any = true
	}
	if r.Role != "" {
		has := false
		for _, role := range e.Roles {
			has = has || glob(r.Role, role)
		}
		if !has {
			return false
		}
		any = true
	}
	if r.Client.IsValid() {
		a, ok := geo.Parse(e.Client)
		if !ok || !r.Client.Contains(a) {
			return false
		}
		any = true
	}
	return any
}

// glob matches s against a pattern in which * stands for any text.
func glob(pattern string, s []byte) bool {
	head, rest, more := strings.Cut(pattern, "*")
	if !more {
		return string(s) == pattern
	}
	if len(s) < len(head) || string(s[:len(head)]) != head {
		return false
	}
	s = s[len(head):]
	for {
		part, after, more := strings.Cut(rest, "*")
		if !more {
			return len(s) >= len(part) && string(s[len(s)-len(part):]) == part
		}
		i := bytes.Index(s, []byte(part))
		if i < 0 {
			return false
		}
		s, rest = s[i+len(part):], after
	}
}
