package slack

import (
	"bytes"
	"cmp"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"log/slog"
	"net/http"
	"net/url"
	"strings"
	"sync"
	"time"

	slackgo "github.com/slack-go/slack"

	"github.com/denywatch/denywatch/alerts"
	"github.com/denywatch/denywatch/internal/incident"
	"github.com/denywatch/denywatch/internal/secret"
)

// Acts does what people decide about incidents.
type Acts interface {
	// Act does verb to an incident and returns when it is durable. The act says who did
	// it, and until when for a silence. The error's text is shown to that person.
	Act(ctx context.Context, incident string, verb incident.Verb, act incident.Act) error
	// Mergeable lists the open incidents that one can be merged into, the likeliest first.
	Mergeable(ctx context.Context, incident string) ([]incident.Incident, error)
}

const (
	// actTime bounds what is done after a click: Slack shows a warning after 3 s.
	actTime = 2 * time.Second
	// replyTime bounds telling the person that it failed.
	replyTime = 700 * time.Millisecond
	// suggestTime bounds what is done when Slack asks what there is to choose from.
	suggestTime = time.Second
	// maxClicks bounds the clicks in one message from Slack; there is one.
	maxClicks = 5
	// maxReply bounds the text of a failure, in runes.
	maxReply = 300
)

// clicker does what clicks ask for.
type clicker struct {
	acts   Acts
	log    *slog.Logger
	client *http.Client
	host   string // where replies may go
}

func newClicker(acts Acts, log *slog.Logger) clicker {
	if log == nil {
		log = slog.New(slog.DiscardHandler)
	}
	return clicker{acts: acts, log: log.With("component", "alerts/slack"), client: alerts.NewHTTPClient(), host: responseHost}
}

// click does what cb asks for, and tells who clicked when that fails.
func (c *clicker) click(ctx context.Context, cb *slackgo.InteractionCallback) {
	if cb.Type != slackgo.InteractionTypeBlockActions {
		return
	}
	for i, a := range cb.ActionCallback.BlockActions {
		if i == maxClicks {
			return
		}
		d, ok := decide(a)
		if !ok {
			continue
		}
		now := time.Now().UTC()
		act := incident.Act{By: alerts.Clean(cmp.Or(cb.User.Name, cb.User.Username), maxActor), ID: alerts.Clean(cb.User.ID, maxActor), Via: "slack", At: now}
		act.Other = d.other
		if d.verb == incident.Silence {
			act.Until = now.Add(d.span)
		}
		try, cancel := context.WithTimeout(ctx, actTime)
		err := c.acts.Act(try, d.incident, d.verb, act)
		cancel()
		if err != nil {
			c.log.Warn("what somebody clicked in Slack could not be done", "incident", d.incident, "verb", string(d.verb), "user", act.ID, "error", err)
			c.reply(ctx, cb.ResponseURL, "That did not work: "+alerts.Clean(err.Error(), maxReply))
			continue
		}
		c.log.Info("somebody clicked in Slack", "incident", d.incident, "verb", string(d.verb), "user", act.ID)
	}
}

// suggest returns what there is to choose from, when Slack asks for that; nil if it does
// not. Nothing can be chosen if that is not known in time.
func (c *clicker) suggest(ctx context.Context, cb *slackgo.InteractionCallback) *offer {
	if cb.Type != slackgo.InteractionTypeBlockSuggestion {
		return nil
	}
	id, ours := strings.CutPrefix(cb.BlockID, blockPrefix)
	if !ours || cb.ActionID != actionMerge || !incidentID.MatchString(id) {
		return choices(id, nil, "")
	}
	ctx, cancel := context.WithTimeout(ctx, suggestTime)
	defer cancel()
	list, err := c.acts.Mergeable(ctx, id)
	if err != nil {
		c.log.Warn("what an incident can be merged into is not known", "incident", id, "error", err)
	}
	return choices(id, list, cb.Value)
}

// responseHost is where Slack takes replies to clicks.
const responseHost = "https://hooks.slack.com/"

// reply tells only the person who clicked; it is a courtesy, so that it fails quietly.
func (c *clicker) reply(ctx context.Context, to, text string) {
	if !strings.HasPrefix(to, c.host) {
		return
	}
	ctx, cancel := context.WithTimeout(ctx, replyTime)
	defer cancel()
	off := false
	b, err := json.Marshal(&slackgo.WebhookMessage{Text: controls(text), ResponseType: slackgo.ResponseTypeEphemeral, Parse: "none", UnfurlLinks: &off})
	if err != nil {
		return
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, to, bytes.NewReader(b))
	if err != nil {
		return
	}
	req.Header.Set("Content-Type", "application/json")
	resp, err := c.client.Do(req)
	if err != nil {
		c.log.Debug("the person who clicked was not told that it failed", "error", alerts.TransportError(err))
		return
	}
	_ = resp.Body.Close()
}

const (
	// window is how old a request may be (docs.slack.dev, verifying requests from Slack);
	// within it every signature is taken once.
	window = 5 * time.Minute
	// maxSeen bounds the signatures that are remembered; only Slack can make any.
	maxSeen = 10_000
)

// Clicks takes the requests by which Slack tells of clicks on buttons. A request must be
// signed by one of the apps, within five minutes, and is taken once: a replayed one is
// refused (a new process has forgotten which were taken, but doing the same once more
// changes nothing). It is safe for concurrent use.
type Clicks struct {
	clicker

	mu      sync.Mutex
	secrets []secret.String
	seen    map[[sha256.Size]byte]time.Time // when a signature was taken
}

// NewClicks returns a handler that takes no request before SetSecrets says whose.
func NewClicks(acts Acts, log *slog.Logger) *Clicks {
	return &Clicks{clicker: newClicker(acts, log), seen: map[[sha256.Size]byte]time.Time{}}
}

// SetSecrets says whose requests are taken from now on: the signing secrets of apps.
func (c *Clicks) SetSecrets(secrets []secret.String) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.secrets = secrets
}

// Close gives back idle connections.
func (c *Clicks) Close() { c.client.CloseIdleConnections() }

// Why a request is not taken.
var (
	errUnsigned   = errors.New("the request is not signed by a configured app, or is too old")
	errReplayed   = errors.New("the request was taken before")
	errBusy       = errors.New("too many clicks at once")
	errUnreadable = errors.New("the payload cannot be read")
)

// Take takes a request and returns the HTTP status to answer, as soon as what was clicked
// is done or the person was told why not, and the answer, JSON, where Slack asked what
// there is to choose from. The error says why the request is not
// taken: 401 if it is not signed or too old, 409 if it was taken before, 400 if it cannot
// be read, 503 if there are too many.
func (c *Clicks) Take(ctx context.Context, h http.Header, body []byte) (status int, answer []byte, err error) {
	switch err := c.verify(h, body, time.Now()); {
	case errors.Is(err, errReplayed):
		return http.StatusConflict, nil, err
	case errors.Is(err, errBusy):
		return http.StatusServiceUnavailable, nil, err
	case err != nil:
		return http.StatusUnauthorized, nil, err
	}
	// The body alone is signed, not the address.
	form, err := url.ParseQuery(string(body))
	var cb slackgo.InteractionCallback
	if err != nil || json.Unmarshal([]byte(form.Get("payload")), &cb) != nil {
		return http.StatusBadRequest, nil, errUnreadable
	}
	if options := c.suggest(ctx, &cb); options != nil {
		answer, err = json.Marshal(options)
		return http.StatusOK, answer, err
	}
	c.click(ctx, &cb)
	return http.StatusOK, nil, nil
}

// verify checks who sent a request, and that it is new.
func (c *Clicks) verify(h http.Header, body []byte, now time.Time) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, s := range c.secrets {
		v, err := slackgo.NewSecretsVerifier(h, s.Reveal())
		if err != nil {
			continue
		}
		if _, err := v.Write(body); err != nil || v.Ensure() != nil {
			continue
		}
		return c.take(h.Get("X-Slack-Signature"), now)
	}
	return errUnsigned
}

// take remembers a valid signature. c.mu is held.
func (c *Clicks) take(signature string, now time.Time) error {
	var key [sha256.Size]byte
	// Hexadecimal digits may be written in two ways.
	if n, err := hex.Decode(key[:], []byte(strings.TrimPrefix(signature, "v0="))); err != nil || n != len(key) {
		return errUnsigned
	}
	if _, known := c.seen[key]; known {
		return errReplayed
	}
	if len(c.seen) >= maxSeen {
		for k, at := range c.seen {
			// Our clock and Slack's may differ by a window either way.
			if now.Sub(at) > 2*window {
				delete(c.seen, k)
			}
		}
		if len(c.seen) >= maxSeen {
			return errBusy
		}
	}
	c.seen[key] = now
	return nil
}
