// Package slack tells a Slack channel about incidents: one message an incident,
// edited as the incident grows, recovers and reopens, with a time line in its
// thread.
//
// Slack has no idempotency key. Every message carries its incident and the
// transition's number as metadata, and a try after an uncertain one looks into
// the channel's history, and the thread's replies, before it posts again; so a
// transition is shown exactly once. That takes the scopes channels:history (or
// groups:history for a private channel) and, if the channel is configured by
// name, channels:read (groups:read); without them a try whose outcome is not
// known is repeated, and a warning says so.
//
// With an incoming webhook instead of a token nothing can be edited or looked
// up: opening, recovery and reopening are posted, at least once each.
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
	"strconv"
	"strings"
	"sync"
	"time"
	"unicode"
	"unicode/utf8"

	slackgo "github.com/slack-go/slack"
	"golang.org/x/time/rate"

	"github.com/denywatch/denywatch/alerts"
	"github.com/denywatch/denywatch/internal/incident"
	"github.com/denywatch/denywatch/internal/secret"
)

// Config is one channel.
type Config struct {
	// Token is the bot token (xoxb-...) of a Slack app with the scope chat:write.
	Token secret.String `yaml:"token,omitempty"`
	// Channel is "#name" or a channel id.
	Channel string `yaml:"channel,omitempty"`
	// APIURL is the API's base address, for proxies; empty means Slack's own.
	APIURL string `yaml:"api_url,omitempty"`
	// Webhook is the address of an incoming webhook, instead of token and
	// channel: the simple mode.
	Webhook secret.String `yaml:"webhook,omitempty"`
}

var channelID = regexp.MustCompile(`^[CGD][A-Z0-9]{8,20}$`)

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
		return errors.Join(errs...)
	case !strings.HasPrefix(c.Token.Reveal(), "xoxb-"):
		bad("token: is not a bot token; it begins with xoxb- (Slack: OAuth & Permissions, Bot User OAuth Token)")
	case strings.ContainsFunc(c.Token.Reveal(), func(r rune) bool { return r <= ' ' || r > '~' }):
		bad("token: contains a space, a line break or a character that no token has")
	}
	if err := ValidateChannel(c.Channel); err != nil {
		bad("channel: " + err.Error())
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

// Options tune a notifier; the zero value is right for production but for Log.
type Options struct {
	// Log gets what the operator should know; nil discards it.
	Log *slog.Logger
	// Pace is the time between two messages in the long run; 1 s if 0, Slack's
	// documented limit for one channel. Three may come at once.
	Pace time.Duration
}

// Notifier tells one channel. It is safe for concurrent use.
type Notifier struct {
	conf    Config
	log     *slog.Logger
	client  *http.Client
	api     *slackgo.Client // nil in webhook mode
	limiter *rate.Limiter

	mu      sync.Mutex
	channel string // the channel's id, once known
	blind   bool   // it was logged that the history cannot be read
}

// burst is how many messages may come at once.
const burst = 3

// New returns a notifier for a valid configuration. It sends nothing.
func New(conf Config, opt Options) (*Notifier, error) {
	if err := conf.Validate(); err != nil {
		return nil, fmt.Errorf("slack: %w", err)
	}
	if opt.Log == nil {
		opt.Log = slog.New(slog.DiscardHandler)
	}
	if opt.Pace <= 0 {
		opt.Pace = time.Second
	}
	n := &Notifier{conf: conf, log: opt.Log.With("component", "alerts/slack"), client: alerts.NewHTTPClient(),
		limiter: rate.NewLimiter(rate.Every(opt.Pace), burst)}
	if channelID.MatchString(conf.Channel) {
		n.channel = conf.Channel
	}
	if conf.Token != "" {
		options := []slackgo.Option{slackgo.OptionHTTPClient(&doer{n.client})}
		if conf.APIURL != "" {
			// The library joins the method's name without a slash.
			options = append(options, slackgo.OptionAPIURL(strings.TrimSuffix(conf.APIURL, "/")+"/"))
		}
		n.api = slackgo.New(conf.Token.Reveal(), options...)
	}
	return n, nil
}

// Close gives back idle connections. The notifier must not be used after it.
func (n *Notifier) Close() { n.client.CloseIdleConnections() }

// memory is what the notifier remembers of an incident.
type memory struct {
	// Channel and TS are the address of the incident's message.
	Channel string `json:"channel"`
	TS      string `json:"ts"`
	// Seq is the transition that the message shows, Thread the last one that is
	// in its thread.
	Seq    int `json:"seq"`
	Thread int `json:"thread"`
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
		found, err := n.find(ctx, d, part{thread: "", lost: lost})
		if err != nil {
			return err
		}
		if found.ts != "" {
			*m = memory{Channel: found.channel, TS: found.ts, Seq: found.seq}
			if err := n.edit(ctx, d, m); !gone(err) {
				return err
			}
			*m = memory{}
		}
	}
	channel, ts, err := n.send(ctx, d, n.target(), card(d.Transition), partMessage, slackgo.MsgOptionPost())
	if err != nil {
		return err
	}
	n.learn(channel)
	*m = memory{Channel: channel, TS: ts, Seq: d.Transition.Seq}
	return nil
}

// edit brings the message to d's transition, if it is behind.
func (n *Notifier) edit(ctx context.Context, d *alerts.Delivery, m *memory) error {
	if m.Seq >= d.Transition.Seq {
		return nil
	}
	if _, _, err := n.send(ctx, d, m.Channel, card(d.Transition), partMessage, slackgo.MsgOptionUpdate(m.TS)); err != nil {
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
		found, err := n.find(ctx, d, part{thread: m.TS, channel: m.Channel})
		if err != nil {
			return err
		}
		if found.ts != "" {
			m.Thread = d.Transition.Seq
			return nil
		}
	}
	if _, _, err := n.send(ctx, d, m.Channel, threadLine(d.Transition), partThread, slackgo.MsgOptionPost(), slackgo.MsgOptionTS(m.TS)); err != nil {
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
)

// send makes one chat call. If Slack does not take the blocks, it sends plain
// text instead: an ugly alert is better than none.
func (n *Notifier) send(ctx context.Context, d *alerts.Delivery, channel string, c content, partName string, how ...slackgo.MsgOption) (toChannel, ts string, err error) {
	if err := n.limiter.Wait(ctx); err != nil {
		return "", "", &alerts.Error{Kind: alerts.Temporary, Refused: true, Err: errors.New("slack: too many messages are waiting for their turn")}
	}
	common := append(how,
		slackgo.MsgOptionMetadata(slackgo.SlackMetadata{EventType: eventType, EventPayload: map[string]any{
			"incident": d.Transition.Incident.ID, "seq": d.Transition.Seq, "part": partName, "sink": d.Sink}}),
		slackgo.MsgOptionParse(false),
		slackgo.MsgOptionDisableLinkUnfurl(),
		slackgo.MsgOptionDisableMediaUnfurl(),
	)
	toChannel, ts, _, err = n.api.SendMessageContext(ctx, channel, append(common, c.options()...)...)
	if isPayload(err) {
		n.log.Warn("Slack does not take the message's layout; it is sent as plain text", "delivery", d.Key, "code", code(err))
		toChannel, ts, _, err = n.api.SendMessageContext(ctx, channel, append(common, c.plain()...)...)
	}
	return toChannel, ts, classify(err)
}

// target is where to post: the id if it is known.
func (n *Notifier) target() string {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.channel != "" {
		return n.channel
	}
	return n.conf.Channel
}

func (n *Notifier) learn(channel string) {
	n.mu.Lock()
	defer n.mu.Unlock()
	if channelID.MatchString(channel) {
		n.channel = channel
	}
}

// part says what find looks for: the incident's message (but not the lost one),
// or with a thread the line of the transition in it.
type part struct {
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
		if channel, err = n.resolve(ctx); err != nil {
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
	if meta.EventPayload["incident"] != d.Transition.Incident.ID || meta.EventPayload["sink"] != d.Sink {
		return 0, false
	}
	if p.thread != "" {
		return seq, meta.EventPayload["part"] == partThread && seq == d.Transition.Seq
	}
	return seq, meta.EventPayload["part"] == partMessage
}

// looking turns an error of a search into one of the delivery, or into none if
// looking is not allowed.
func (n *Notifier) looking(d *alerts.Delivery, err error) error {
	e := classify(err)
	if typed, ok := errors.AsType[*alerts.Error](e); ok && typed.Kind == alerts.Misconfigured {
		n.mu.Lock()
		told := n.blind
		n.blind = true
		n.mu.Unlock()
		if !told {
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

// resolve returns the id of the configured channel, empty if there is none.
func (n *Notifier) resolve(ctx context.Context) (string, error) {
	if id := n.target(); id != n.conf.Channel || channelID.MatchString(id) {
		return id, nil
	}
	name := strings.TrimPrefix(n.conf.Channel, "#")
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
					n.learn(channels[i].ID)
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
	case incident.Opened, incident.ResolvedKind, incident.Reopened, incident.Escalated:
	default:
		return nil // it cannot be edited in, and a message each is noise
	}
	if err := n.limiter.Wait(ctx); err != nil {
		return &alerts.Error{Kind: alerts.Temporary, Refused: true, Err: errors.New("slack: too many messages are waiting for their turn")}
	}
	c := card(d.Transition)
	err := n.postHook(ctx, c.webhook())
	if e, ok := errors.AsType[*alerts.Error](err); ok && e.Kind == alerts.Permanent {
		n.log.Warn("Slack does not take the message's layout; it is sent as plain text", "delivery", d.Key)
		err = n.postHook(ctx, &slackgo.WebhookMessage{Text: c.text})
	}
	return err
}

func (n *Notifier) postHook(ctx context.Context, m *slackgo.WebhookMessage) error {
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
		return classify(alerts.StatusError(resp.StatusCode, resp.Header, time.Now()))
	}
	return nil
}

// doer sends requests for the library: it bounds what is read of an answer, and
// says what to do about failures below Slack's own error codes.
type doer struct{ client *http.Client }

// maxAnswer bounds an answer: a page of history with 200 messages of blocks.
const maxAnswer = 16 << 20

// Do implements the library's HTTP client. An answer that is not one of Slack's
// is an error here, for the library takes any JSON without an error code for a
// success.
func (c *doer) Do(req *http.Request) (*http.Response, error) {
	resp, err := c.client.Do(req)
	if err != nil {
		return nil, alerts.TransportError(err)
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		_, _ = io.CopyN(io.Discard, resp.Body, 4<<10)
		return nil, alerts.StatusError(resp.StatusCode, resp.Header, time.Now())
	}
	body, err := io.ReadAll(io.LimitReader(resp.Body, maxAnswer))
	if err != nil {
		return nil, alerts.TransportError(err)
	}
	var answer struct {
		OK    *bool  `json:"ok"`
		Error string `json:"error"`
	}
	if json.Unmarshal(body, &answer) != nil || answer.OK == nil || !*answer.OK && answer.Error == "" {
		return nil, &alerts.Error{Kind: alerts.Temporary, Err: errors.New("the answer is not one of Slack's; is there a proxy in between?")}
	}
	resp.Body = io.NopCloser(bytes.NewReader(body))
	return resp, nil
}
