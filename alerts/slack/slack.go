// Package slack tells Slack about incidents: one message an incident and channel,
// edited as the incident grows, recovers and reopens, with a time line in its thread, a
// picture of the rate against its usual range, and buttons.
//
// Slack has no idempotency key. Every message carries its incident and the
// transition's number as metadata, and a try after an uncertain one looks into
// the channel's history, and the thread's replies, before it posts again; so a
// transition is shown exactly once. That takes the scopes channels:history (or
// groups:history for a private channel) and, if the channel is configured by
// name, channels:read (groups:read); without them a try whose outcome is not
// known is repeated, and a warning says so.
//
// The picture is uploaded (scope files:write) after people were told, and then put
// into the message: trouble with it delays nothing and fails nothing. Slack cannot
// change a file, so that a new one takes the place of the old when the incident grew or
// ended, and the old one is deleted. A process that dies in between leaves a file behind
// that only the app can see.
//
// Buttons come with interactivity: clicks arrive as signed requests (Clicks) or, where
// Slack cannot reach us, through a connection of our own (Socket).
//
// With an incoming webhook instead of a token nothing can be edited, uploaded, clicked
// or looked up: opening, recovery, reopening and what calls somebody by name are posted, at
// least once each.
package slack

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/url"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"
	"unicode"
	"unicode/utf8"

	"github.com/denywatch/denywatch/alerts"
	"github.com/denywatch/denywatch/internal/incident"
	"github.com/denywatch/denywatch/internal/secret"
	slackgo "github.com/slack-go/slack"
)

// Config is one channel.
type Config struct {
	// Token is the bot token (xoxb-...) of a Slack app, whose scopes
	// configs/deploy/slack-manifest.yaml explains.
	Token secret.String `yaml:"token,omitempty"`
	// Channel is "#name" or a channel id: where people are told whom no team's
	// channel stands for.
	Channel string `yaml:"channel,omitempty"`
	// APIURL is the API's base address, for proxies; empty means Slack's own.
	APIURL string `yaml:"api_url,omitempty"`
	// Webhook is the address of an incoming webhook, instead of token and
	// channel: the simple mode.
	Webhook secret.String `yaml:"webhook,omitempty"`
	// AppToken is the app-level token (xapp-...) with the scope connections:write, by
	// which clicks on buttons come in where Slack cannot reach us. SigningSecret is
	// the app's signing secret, with which Slack signs clicks that it sends to
	// POST /v1/slack/interactions. Without either there are no buttons.
	AppToken      secret.String `yaml:"app_token,omitempty"`
	SigningSecret secret.String `yaml:"signing_secret,omitempty"`
}

var (
	channelID     = regexp.MustCompile(`^[CGD][A-Z0-9]{8,20}$`)
	signingSecret = regexp.MustCompile(`^[0-9a-f]{32}$`)
)

// maxChannelName is Slack's limit for channel names.
const maxChannelName = 80

// Validate reports all problems, each with the field it is in. It does no I/O.
func (c *Config) Validate() error {
	var errs []error
	bad := func(text string) { errs = append(errs, errors.New(text)) }
	switch {
	case c.Token == "" && c.Webhook == "":
		bad("token: is missing; give the app's bot token (xoxb-...), or an incoming webhook as webhook")
	case c.Token != "" && c.Webhook != "":
		bad("webhook: give either token and channel, or webhook")
	case c.Webhook != "":
		if !isHTTP(c.Webhook.Reveal()) {
			bad("webhook: is not a complete http or https address")
		}
		if c.Channel != "" {
			bad("channel: an incoming webhook posts to the channel it was made for; leave channel out")
		}
		if c.APIURL != "" {
			bad("api_url: is not used with webhook; leave it out")
		}
		if c.AppToken != "" || c.SigningSecret != "" {
			bad("webhook: messages of an incoming webhook have no buttons; give token and channel, or leave app_token and signing_secret out")
		}
		return errors.Join(errs...)
	case !strings.HasPrefix(c.Token.Reveal(), "xoxb-"):
		bad("token: is not a bot token; it begins with xoxb- (Slack: OAuth & Permissions, Bot User OAuth Token)")
	case strings.ContainsFunc(c.Token.Reveal(), func(r rune) bool { return r <= ' ' || r > '~' }):
		bad("token: contains a space, a line break or a character that no token has")
	}
	if err := ValidateChannel(c.Channel); err != nil {
		bad("channel: " + err.Error())
	}
	switch {
	case c.AppToken != "" && c.SigningSecret != "":
		bad("signing_secret: give either app_token or signing_secret: an app gets its clicks one way")
	case c.AppToken != "" && !strings.HasPrefix(c.AppToken.Reveal(), "xapp-"):
		bad("app_token: is not an app-level token; it begins with xapp- (Slack: Basic Information, App-Level Tokens, scope connections:write)")
	case c.SigningSecret != "" && !signingSecret.MatchString(c.SigningSecret.Reveal()):
		bad("signing_secret: is not a signing secret: 32 hexadecimal digits (Slack: Basic Information, App Credentials)")
	}
	if c.APIURL != "" && !isHTTP(c.APIURL) {
		bad("api_url: is not a complete http or https address")
	}
	return errors.Join(errs...)
}

// ValidateChannel checks a channel: "#name" or an id.
func ValidateChannel(s string) error {
	name, hash := strings.CutPrefix(s, "#")
	switch {
	case s == "":
		return errors.New("is missing; give \"#name\" (quoted, # begins a comment) or the channel's id")
	case !hash && !channelID.MatchString(s):
		return errors.New("is neither \"#name\" nor a channel id such as C0123456789")
	case hash && (name == "" || utf8.RuneCountInString(name) > maxChannelName || strings.ContainsFunc(name, func(r rune) bool {
		return !unicode.IsLetter(r) && !unicode.IsMark(r) && !unicode.IsDigit(r) && r != '-' && r != '_' || unicode.IsUpper(r)
	})):
		return errors.New("is not a channel name; it may hold small letters, digits, - and _")
	}
	return nil
}

func isHTTP(s string) bool {
	u, err := url.Parse(s)
	return err == nil && u.Host != "" && (u.Scheme == "https" || u.Scheme == "http")
}

// Options tune a notifier; the zero value is right for production but for Log and
// Chart.
type Options struct {
	// Log gets what the operator should know; nil discards it.
	Log *slog.Logger
	// Pace keeps all notifiers of one app to Slack's limits; nil makes one.
	Pace *Pace
	// Chart draws an incident as it is now, as a PNG. Messages have no picture if it
	// is nil, or fails.
	Chart func(ctx context.Context, incident string) ([]byte, error)
}

// Notifier tells the channels of one app. It is safe for concurrent use.
type Notifier struct {
	conf   Config
	opt    Options
	log    *slog.Logger
	client *http.Client
	api    *slackgo.Client // nil in webhook mode

	mu       sync.Mutex
	channels map[string]string // the ids of channels by name, as far as known
	told     map[string]bool   // what was logged already
}

// New returns a notifier for a valid configuration. It sends nothing.
func New(conf Config, opt Options) (*Notifier, error) {
	if err := conf.Validate(); err != nil {
		return nil, fmt.Errorf("slack: %w", err)
	}
	if opt.Log == nil {
		opt.Log = slog.New(slog.DiscardHandler)
	}
	if opt.Pace == nil {
		opt.Pace = NewPace(0)
	}
	n := &Notifier{conf: conf, opt: opt, log: opt.Log.With("component", "alerts/slack"), client: alerts.NewHTTPClient(),
		channels: map[string]string{}, told: map[string]bool{}}
	if conf.Token != "" {
		n.api = conf.api(conf.Token, n.client, opt.Pace)
	}
	return n, nil
}

// api is a client of Slack's API.
func (c *Config) api(token secret.String, client *http.Client, pace *Pace, more ...slackgo.Option) *slackgo.Client {
	base := slackgo.APIURL
	if c.APIURL != "" {
		// The library joins the method's name without a slash.
		base = strings.TrimSuffix(c.APIURL, "/") + "/"
	}
	return slackgo.New(token.Reveal(), append(more, slackgo.OptionAPIURL(base), slackgo.OptionHTTPClient(&doer{client: client, base: base, pace: pace}))...)
}

// Close gives back idle connections. The notifier must not be used after it.
func (n *Notifier) Close() { n.client.CloseIdleConnections() }

// first reports whether it is the first time that this is to be told of.
func (n *Notifier) first(what string) bool {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.told[what] || len(n.told) >= maxKnown {
		return false
	}
	n.told[what] = true
	return true
}

// memory is what the notifier remembers of an incident in one channel.
type memory struct {
	// Channel and TS are the address of the incident's message.
	Channel string `json:"channel"`
	TS      string `json:"ts"`
	// Seq is the transition that the message shows, Thread the last one that is
	// in its thread, Born the one that it was posted with.
	Seq    int `json:"seq"`
	Thread int `json:"thread"`
	Born   int `json:"born,omitempty"`
	// File is the picture in the message, of the transition FileSeq.
	File    string `json:"file,omitempty"`
	FileSeq int    `json:"file_seq,omitempty"`
}

// Notify implements alerts.Notifier.
func (n *Notifier) Notify(ctx context.Context, d *alerts.Delivery) (json.RawMessage, error) {
	if n.api == nil {
		return nil, n.hook(ctx, d)
	}
	var m memory
	if d.Memory != nil {
		if err := json.Unmarshal(d.Memory, &m); err != nil {
			n.log.Warn("what was remembered of an incident cannot be read; its message is posted anew", "delivery", d.Key)
			m = memory{}
		}
	}
	before := m
	err := n.deliver(ctx, d, &m)
	var mem json.RawMessage
	if m != before {
		b, merr := json.Marshal(m)
		if merr != nil {
			return nil, fmt.Errorf("slack: encode memory: %w", merr)
		}
		mem = b
	}
	return mem, err
}

// deliver brings the message and its thread to d's transition. m says how far
// they are, also when it fails.
func (n *Notifier) deliver(ctx context.Context, d *alerts.Delivery, m *memory) error {
	err := n.tell(ctx, d, m)
	if err == nil {
		n.picture(ctx, d, m)
	}
	return err
}

// tell is deliver without the picture.
func (n *Notifier) tell(ctx context.Context, d *alerts.Delivery, m *memory) error {
	if err := n.message(ctx, d, m); err != nil {
		return err
	}
	err := n.line(ctx, d, m)
	if !gone(err) {
		return err
	}
	// The message was deleted after it was brought up to date.
	m.Seq = 0
	if err := n.message(ctx, d, m); err != nil {
		return err
	}
	return n.line(ctx, d, m)
}

// message posts or edits the incident's message.
func (n *Notifier) message(ctx context.Context, d *alerts.Delivery, m *memory) error {
	if m.TS != "" {
		err := n.edit(ctx, d, m)
		if !gone(err) {
			return err
		}
	}
	lost := m.TS
	*m = memory{}
	if d.Uncertain {
		found, err := n.find(ctx, d, part{name: partMessage, lost: lost})
		if err != nil {
			return err
		}
		if found.ts != "" {
			*m = memory{Channel: found.channel, TS: found.ts, Seq: found.seq, Born: found.seq}
			if err := n.edit(ctx, d, m); !gone(err) {
				return err
			}
			*m = memory{}
		}
	}
	c := n.card(d.Transition, "")
	c.mention(d.Mention)
	channel, ts, err := n.send(ctx, d, n.target(d), c, partMessage, slackgo.MsgOptionPost())
	if err != nil {
		return err
	}
	n.learn(d, channel)
	*m = memory{Channel: channel, TS: ts, Seq: d.Transition.Seq, Born: d.Transition.Seq}
	return nil
}

// edit brings the message to d's transition, if it is behind.
func (n *Notifier) edit(ctx context.Context, d *alerts.Delivery, m *memory) error {
	if m.Seq >= d.Transition.Seq {
		return nil
	}
	if _, _, err := n.send(ctx, d, m.Channel, n.card(d.Transition, m.File), partMessage, slackgo.MsgOptionUpdate(m.TS)); err != nil {
		return err
	}
	m.Seq = d.Transition.Seq
	return nil
}

// line puts d's transition into the thread, if it is not there.
func (n *Notifier) line(ctx context.Context, d *alerts.Delivery, m *memory) error {
	if m.Thread >= d.Transition.Seq {
		return nil
	}
	if d.Uncertain {
		found, err := n.find(ctx, d, part{name: partThread, thread: m.TS, channel: m.Channel})
		if err != nil {
			return err
		}
		if found.ts != "" {
			m.Thread = d.Transition.Seq
			return nil
		}
	}
	c := threadLine(d.Transition)
	if m.Born != d.Transition.Seq {
		// An edited message calls nobody.
		c.mention(d.Mention)
	}
	if _, _, err := n.send(ctx, d, m.Channel, c, partThread, slackgo.MsgOptionPost(), slackgo.MsgOptionTS(m.TS)); err != nil {
		return err
	}
	m.Thread = d.Transition.Seq
	return nil
}

// The metadata of messages.
const (
	eventType   = "denywatch_incident"
	partMessage = "message"
	partThread  = "thread"
	partPost    = "post"
)

// Post implements alerts.Poster.
func (n *Notifier) Post(ctx context.Context, d *alerts.Delivery) (json.RawMessage, error) {
	c := postCard(d.Post)
	c.mention(d.Mention)
	if n.api == nil {
		return nil, n.postHook(ctx, d, c)
	}
	if d.Uncertain {
		if found, err := n.find(ctx, d, part{name: partPost}); err != nil || found.ts != "" {
			return nil, err
		}
	}
	channel, _, err := n.send(ctx, d, n.target(d), c, partPost, slackgo.MsgOptionPost())
	if err == nil {
		n.learn(d, channel)
	}
	return nil, err
}

// about is the id of what d tells of, and the number of its step.
func about(d *alerts.Delivery) (id string, seq int) {
	if d.Post != nil {
		return d.Post.ID, 0
	}
	return d.Transition.Incident.ID, d.Transition.Seq
}

// send makes one chat call. If Slack does not take the blocks, it sends plain
// text instead: an ugly alert is better than none.
func (n *Notifier) send(ctx context.Context, d *alerts.Delivery, channel string, c content, partName string, how ...slackgo.MsgOption) (toChannel, ts string, err error) {
	ctx = context.WithValue(ctx, channelKey{}, n.channelName(d))
	call := func(how []slackgo.MsgOption, o []slackgo.MsgOption) error {
		toChannel, ts, _, err = n.api.SendMessageContext(ctx, channel, append(slices.Concat(how, common(d, partName)), o...)...)
		return err
	}
	err = call(how, c.options())
	if isPayload(err) && c.file != "" {
		// It may be the picture: somebody may have deleted the file.
		err = call(how, c.without().options())
	}
	if isPayload(err) {
		n.log.Warn("Slack does not take the message's layout; it is sent as plain text", "delivery", d.Key, "code", code(err))
		err = call(how, c.plain())
	}
	return toChannel, ts, classify(err)
}

// common are the options of every message: what it is about, and nothing is linked, called
// or unfolded of itself.
func common(d *alerts.Delivery, partName string) []slackgo.MsgOption {
	id, seq := about(d)
	return []slackgo.MsgOption{
		slackgo.MsgOptionMetadata(slackgo.SlackMetadata{EventType: eventType, EventPayload: map[string]any{
			"incident": id, "seq": seq, "part": partName, "sink": d.Sink}}),
		slackgo.MsgOptionParse(false),
		slackgo.MsgOptionDisableLinkUnfurl(),
		slackgo.MsgOptionDisableMediaUnfurl(),
	}
}

// channelName is the place that d goes to, as configured.
func (n *Notifier) channelName(d *alerts.Delivery) string {
	if d.Target != "" {
		return d.Target
	}
	return n.conf.Channel
}

// target is where to post: the channel's id if it is known.
func (n *Notifier) target(d *alerts.Delivery) string {
	name := n.channelName(d)
	n.mu.Lock()
	defer n.mu.Unlock()
	if id := n.channels[name]; id != "" {
		return id
	}
	return name
}

// maxKnown bounds what is remembered: the ids of channels, what was logged, paces.
const maxKnown = 1000

func (n *Notifier) learn(d *alerts.Delivery, id string) {
	n.mu.Lock()
	defer n.mu.Unlock()
	if channelID.MatchString(id) && len(n.channels) < maxKnown {
		n.channels[n.channelName(d)] = id
	}
}

// part says what find looks for: the incident's message (but not the lost one) or the
// post, or with a thread the line of the transition in it.
type part struct {
	name    string
	thread  string
	channel string
	lost    string
}

// hit is a message that was found; ts is empty if there is none.
type hit struct {
	channel, ts string
	seq         int
}

const (
	// skew is how far Slack's clock may be behind ours.
	skew = 10 * time.Minute
	// pageSize and maxPages bound a search: 4,000 messages since the delivery
	// was queued. Behind that it counts as not found.
	pageSize, maxPages = 200, 20
	// listSize is the most channels that Slack lists at once.
	listSize = 1000
)

// find looks for a message that an earlier try of d may have posted. If Slack
// does not let us look, it reports none: twice is better than never.
func (n *Notifier) find(ctx context.Context, d *alerts.Delivery, p part) (hit, error) {
	channel := p.channel
	if channel == "" {
		var err error
		if channel, err = n.resolve(ctx, d); err != nil {
			return hit{}, n.looking(d, err)
		}
		if channel == "" {
			// There is no such channel, so nothing can have been posted there.
			return hit{}, nil
		}
	}
	since := d.QueuedAt
	if since.IsZero() {
		since = d.Transition.Incident.OpenedAt
	}
	oldest := strconv.FormatInt(since.Add(-skew).Unix(), 10)
	cursor := ""
	for range maxPages {
		var msgs []slackgo.Message
		var err error
		if p.thread != "" {
			msgs, _, cursor, err = n.api.GetConversationRepliesContext(ctx, &slackgo.GetConversationRepliesParameters{
				ChannelID: channel, Timestamp: p.thread, Oldest: oldest, Limit: pageSize, Cursor: cursor, IncludeAllMetadata: true})
		} else {
			var h *slackgo.GetConversationHistoryResponse
			h, err = n.api.GetConversationHistoryContext(ctx, &slackgo.GetConversationHistoryParameters{
				ChannelID: channel, Oldest: oldest, Limit: pageSize, Cursor: cursor, IncludeAllMetadata: true})
			if h != nil {
				msgs, cursor = h.Messages, h.ResponseMetaData.NextCursor
			}
		}
		if err != nil {
			if gone(classify(err)) {
				return hit{}, nil
			}
			return hit{}, n.looking(d, err)
		}
		for i := range msgs {
			if seq, ok := matches(&msgs[i], d, p); ok {
				return hit{channel: channel, ts: msgs[i].Timestamp, seq: seq}, nil
			}
		}
		if cursor == "" {
			return hit{}, nil
		}
	}
	n.log.Warn("the channel is too busy to look through; a message may be posted twice", "delivery", d.Key)
	return hit{}, nil
}

func matches(m *slackgo.Message, d *alerts.Delivery, p part) (seq int, ok bool) {
	meta := &m.Metadata
	if meta.EventType != eventType || m.Timestamp == p.lost {
		return 0, false
	}
	num, _ := meta.EventPayload["seq"].(float64)
	seq = int(num)
	id, at := about(d)
	if meta.EventPayload["incident"] != id || meta.EventPayload["sink"] != d.Sink || meta.EventPayload["part"] != p.name {
		return 0, false
	}
	return seq, p.thread == "" || seq == at
}

// looking turns an error of a search into one of the delivery, or into none if
// looking is not allowed.
func (n *Notifier) looking(d *alerts.Delivery, err error) error {
	e := classify(err)
	if typed, ok := errors.AsType[*alerts.Error](e); ok && mayNotLook(err) {
		if n.first("blind") {
			n.log.Warn("the channel's history cannot be read, so a message whose fate is unknown may be posted twice", "delivery", d.Key, "error", typed.Err)
		}
		return nil
	} else if ok {
		// Nothing was written; d stays as uncertain as it was.
		typed.Refused = true
		return typed
	}
	return e
}

// resolve returns the id of d's channel, empty if there is none.
func (n *Notifier) resolve(ctx context.Context, d *alerts.Delivery) (string, error) {
	id := n.target(d)
	if channelID.MatchString(id) {
		return id, nil
	}
	name := strings.TrimPrefix(id, "#")
	// Private channels take another scope; an app for a public one may lack it.
	for _, kind := range []string{"public_channel", "private_channel"} {
		cursor := ""
		for page := 0; ; page++ {
			if page == maxPages {
				return "", &alerts.Error{Kind: alerts.Misconfigured, Refused: true, Err: errors.New("the workspace has too many channels to look the name up; configure the channel's id")}
			}
			channels, next, err := n.api.GetConversationsContext(ctx, &slackgo.GetConversationsParameters{
				Cursor: cursor, Limit: listSize, ExcludeArchived: true, Types: []string{kind}})
			if err != nil {
				return "", err
			}
			for i := range channels {
				if channels[i].Name == name {
					n.learn(d, channels[i].ID)
					return channels[i].ID, nil
				}
			}
			if cursor = next; cursor == "" {
				break
			}
		}
	}
	return "", nil
}

// hook posts to an incoming webhook.
func (n *Notifier) hook(ctx context.Context, d *alerts.Delivery) error {
	switch d.Transition.Kind {
	case incident.Opened, incident.ResolvedKind, incident.Reopened, incident.Escalated, incident.MergedKind:
	default:
		if len(d.Mention) == 0 {
			return nil // it cannot be edited in, and a message each is noise
		}
	}
	c := n.card(d.Transition, "")
	c.mention(d.Mention)
	return n.postHook(ctx, d, c)
}

// postHook posts to the incoming webhook.
func (n *Notifier) postHook(ctx context.Context, d *alerts.Delivery, c content) error {
	err := n.postJSON(ctx, c.webhook())
	if e, ok := errors.AsType[*alerts.Error](err); ok && e.Kind == alerts.Permanent {
		n.log.Warn("Slack does not take the message's layout; it is sent as plain text", "delivery", d.Key)
		err = n.postJSON(ctx, &slackgo.WebhookMessage{Text: c.text})
	}
	return err
}

func (n *Notifier) postJSON(ctx context.Context, m *slackgo.WebhookMessage) error {
	if err := n.opt.Pace.wait(ctx, methodPost, "webhook"); err != nil {
		return classify(err)
	}
	b, err := json.Marshal(m)
	if err != nil {
		return &alerts.Error{Kind: alerts.Permanent, Refused: true, Err: fmt.Errorf("slack: encode: %w", err)}
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, n.conf.Webhook.Reveal(), bytes.NewReader(b))
	if err != nil {
		return &alerts.Error{Kind: alerts.Misconfigured, Refused: true, Err: errors.New("slack: the webhook's URL cannot be used")}
	}
	req.Header.Set("Content-Type", "application/json")
	resp, err := n.client.Do(req)
	if err != nil {
		return classify(alerts.TransportError(err))
	}
	defer resp.Body.Close()
	_, _ = io.CopyN(io.Discard, resp.Body, 4<<10)
	if resp.StatusCode != http.StatusOK {
		return classify(n.opt.Pace.refused(alerts.StatusError(resp.StatusCode, resp.Header, time.Now()), resp.StatusCode))
	}
	return nil
}
