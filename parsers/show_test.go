package parsers

import (
	"fmt"
	"strings"
	"time"

	"github.com/denywatch/denywatch/internal/event"
)

// show writes an event as "key=value" words, empty fields left out. A user who
// is only claimed has a '?'.
func show(e *event.Event) string {
	var b strings.Builder
	add := func(k string, v []byte) {
		if len(v) > 0 {
			fmt.Fprintf(&b, " %s=%s", k, quoteIfOdd(v))
		}
	}
	if e.Time != event.NoTime {
		add("time", []byte(time.Unix(0, e.Time).UTC().Format(time.RFC3339Nano)))
	}
	add("service", e.Service)
	add("host", e.Host)
	add("method", e.Method)
	add("path", e.Path)
	add("route", e.Route)
	if e.Status != 0 {
		fmt.Fprintf(&b, " status=%d", e.Status)
	}
	if e.OriginalStatus != 0 {
		fmt.Fprintf(&b, " original=%d", e.OriginalStatus)
	}
	switch e.Upstream {
	case event.UpstreamNone:
		b.WriteString(" upstream=none")
	case event.UpstreamAnswered:
		fmt.Fprintf(&b, " upstream=%d", e.UpstreamStatus)
	}
	add("client", e.Client)
	if e.UserClaimed {
		add("user?", e.User)
	} else {
		add("user", e.User)
	}
	add("account", e.Account)
	for _, r := range e.Roles {
		add("role", r)
	}
	add("plan", e.Plan)
	add("geo", e.Geo)
	for _, f := range e.Flags {
		add("flag", f)
	}
	add("id", e.RequestID)
	if e.Conn != 0 {
		fmt.Fprintf(&b, " conn=%d", e.Conn)
	}
	add("cause", e.Cause)
	add("rule", e.Rule)
	if e.Layer != event.LayerUnknown {
		b.WriteString(" layer=" + e.Layer.String())
	}
	if e.Denial != event.NotDenied {
		b.WriteString(" denial=" + e.Denial.String())
	}
	if e.Weight > 1 {
		fmt.Fprintf(&b, " weight=%d", e.Weight)
	}
	if e.CauseOnly {
		b.WriteString(" cause_only")
	}
	add("agent", e.UserAgent)
	return strings.TrimSpace(b.String())
}

func quoteIfOdd(v []byte) string {
	for _, c := range v {
		if c <= ' ' || c == '"' || c >= 0x7f {
			return fmt.Sprintf("%q", v)
		}
	}
	return string(v)
}

// parseOnce compiles a config and parses one line.
func parseOnce(c Config, line string) (string, error) {
	p, err := New(c)
	if err != nil {
		return "", fmt.Errorf("compile: %w", err)
	}
	var e event.Event
	e.Reset()
	if err := p.Parse([]byte(line), &e); err != nil {
		return "", err
	}
	return show(&e), nil
}
