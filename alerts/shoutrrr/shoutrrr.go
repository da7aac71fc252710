// Package shoutrrr tells places that have no sink of their own, by the URLs of the
// library of that name: Discord, Google Chat, Gotify, Matrix, Mattermost, ntfy,
// Opsgenie, Pushover, Rocket.Chat, Teams, Telegram, Zulip and more
// (https://shoutrrr.nickfedor.com).
//
// It sends short plain texts, one when an incident opens, comes back, gets worse or is
// over, and when somebody takes care of it. Nothing is edited, and what only grows a
// little is not sent.
//
// The library says little about what went wrong, and its services know no idempotency
// key: a text that may have been taken is sent again, at least once. Where there is a
// sink of our own, it is the better one.
package shoutrrr

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/nicholas-fedor/shoutrrr/pkg/router"
	"github.com/nicholas-fedor/shoutrrr/pkg/types"

	"github.com/denywatch/denywatch/alerts"
	"github.com/denywatch/denywatch/internal/incident"
	"github.com/denywatch/denywatch/internal/secret"
)

// Config is one place.
type Config struct {
	// URL is the library's address of it, such as ntfy://ntfy.sh/topic. It is a
	// secret, for most hold a token.
	URL secret.String `yaml:"url"`
}

// Validate reports all problems, each with the field it is in. It does no I/O.
func (c *Config) Validate() error {
	if c.URL == "" {
		return errors.New("url: is missing; give a shoutrrr URL, such as ntfy://ntfy.sh/topic")
	}
	u, err := url.Parse(c.URL.Reveal())
	if err != nil || u.Scheme == "" {
		return errors.New("url: is not a shoutrrr URL, such as ntfy://ntfy.sh/topic")
	}
	known := services()
	if name, _, _ := strings.Cut(u.Scheme, "+"); !slices.Contains(known, name) {
		return fmt.Errorf("url: begins with no service of shoutrrr; use one of %s", strings.Join(known, ", "))
	}
	return nil
}

// services are the names of those that reach somebody.
func services() []string {
	list := (&router.ServiceRouter{}).ListServices()
	list = slices.DeleteFunc(list, func(s string) bool { return s == "logger" })
	slices.Sort(list)
	return list
}

// Notifier sends texts to one place. It is safe for concurrent use.
type Notifier struct {
	conf    Config
	timeout time.Duration
	// turn is free while nothing is being sent. The library knows no context: a text
	// that hangs keeps it, so that no more than one does.
	turn chan struct{}
}

var _ alerts.Poster = (*Notifier)(nil)

// New returns a notifier for a valid configuration. It sends nothing.
func New(conf Config) (*Notifier, error) {
	if err := conf.Validate(); err != nil {
		return nil, fmt.Errorf("shoutrrr: %w", err)
	}
	return &Notifier{conf: conf, timeout: 20 * time.Second, turn: make(chan struct{}, 1)}, nil
}

// memory is what is remembered of an incident: the severity it was last told at.
type memory struct {
	Severity incident.Severity `json:"severity"`
}

// style writes texts that are safe in the markup of every service.
var style = alerts.Style{Escape: alerts.Inert}

// maxText bounds a text, in runes: several services take little more.
const maxText = 1000

// Notify implements alerts.Notifier.
func (n *Notifier) Notify(ctx context.Context, d *alerts.Delivery) (json.RawMessage, error) {
	t := &d.Transition
	var told memory
	if len(d.Memory) > 0 {
		_ = json.Unmarshal(d.Memory, &told) // told once more if it cannot be read
	}
	if t.Kind == incident.Grew && told.Severity != "" && !alerts.Worse(t.Incident.Severity, told.Severity) {
		return nil, nil
	}
	x := style.Render(*t)
	lines := []string{"[" + x.Badge + "] " + x.Headline}
	if t.Kind == incident.Opened || t.Kind == incident.Reopened {
		lines = append(lines, join(x.Reason, x.People, x.Contrast), join(x.Since, x.Layer))
	} else {
		lines = append(lines, join(x.StepSentence(), x.Reason, x.Back))
	}
	if x.Next != "" {
		lines = append(lines, "Next: "+x.Next)
	}
	lines = append(lines, strings.Join(x.Where, " · "))
	if err := n.send(ctx, lines); err != nil {
		return nil, err
	}
	b, err := json.Marshal(memory{t.Incident.Severity})
	if err != nil {
		return nil, nil //nolint:nilerr // it is delivered; strings can be encoded
	}
	return b, nil
}

// Post implements alerts.Poster.
func (n *Notifier) Post(ctx context.Context, d *alerts.Delivery) (json.RawMessage, error) {
	lines := []string{d.Post.Headline}
	for _, part := range d.Post.Parts {
		if part.Title != "" {
			lines = append(lines, part.Title+":")
		}
		lines = append(lines, part.Lines...)
	}
	for i, l := range lines {
		lines[i] = alerts.Inert(l)
	}
	return nil, n.send(ctx, lines)
}

// Test implements alerts.Tester: it sends a text.
func (n *Notifier) Test(ctx context.Context, _ string) (string, error) {
	if err := n.send(ctx, []string{alerts.TestText}); err != nil {
		return "", err
	}
	return "the service took a text", nil
}

func join(parts ...string) string {
	return strings.Join(strings.Fields(strings.Join(parts, " ")), " ")
}

// send sends lines as one text, cut where it is too long.
func (n *Notifier) send(ctx context.Context, lines []string) error {
	text := strings.Join(slices.DeleteFunc(lines, func(l string) bool { return l == "" }), "\n")
	if r := []rune(text); len(r) > maxText {
		text = string(r[:maxText-1]) + "…"
	}
	ctx, cancel := context.WithTimeout(ctx, n.timeout)
	defer cancel()
	select {
	case n.turn <- struct{}{}:
	case <-ctx.Done():
		return &alerts.Error{Kind: alerts.Temporary, Refused: true, Err: errors.New("shoutrrr: the service has not answered an earlier text yet")}
	}
	done := make(chan error, 1)
	go func() {
		defer func() { <-n.turn }()
		done <- n.post(text)
	}()
	select {
	case err := <-done:
		return err
	case <-ctx.Done():
		return &alerts.Error{Kind: alerts.Temporary, Err: errors.New("shoutrrr: no answer in time (deadline exceeded)")}
	}
}

// post hands a text to the library.
func (n *Notifier) post(text string) error {
	service, err := (&router.ServiceRouter{}).Locate(n.conf.URL.Reveal())
	if err != nil {
		// The error may show the URL, which holds a token.
		return &alerts.Error{Kind: alerts.Misconfigured, Refused: true, Err: errors.New("shoutrrr: the URL cannot be used, or its service lets nobody in with it; compare it with https://shoutrrr.nickfedor.com")}
	}
	if err := service.Send(text, &types.Params{}); err != nil {
		return explain(err)
	}
	return nil
}

// status finds an HTTP status in what the library says: nothing else tells what went
// wrong. A port, behind a colon, and a number of bytes or of an address are none.
var status = regexp.MustCompile(`(?:^|[\s(\[="'])([345][0-9]{2})(?:$|[\s)\],;"'])`)

// explain makes an error of the library fit to be shown: its text may hold the URL and
// what the server answered.
func explain(err error) *alerts.Error {
	if found := status.FindStringSubmatch(err.Error()); found != nil {
		if code, convErr := strconv.Atoi(found[1]); convErr == nil && http.StatusText(code) != "" {
			e := alerts.StatusError(code, nil, time.Time{})
			e.Err = fmt.Errorf("shoutrrr: %w", e.Err)
			return e
		}
	}
	e := alerts.TransportError(err)
	if e.Kind == alerts.Temporary {
		e.Err = errors.New("the service was not reached, or did not take the text")
	}
	e.Err = fmt.Errorf("shoutrrr: %w", e.Err)
	return e
}
