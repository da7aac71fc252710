package slack

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"strings"
	"sync"
	"time"

	"golang.org/x/time/rate"

	"github.com/denywatch/denywatch/alerts"
)

// Pace keeps the calls of one app to what Slack allows: each method has its limit, and
// posting one for each channel. When Slack says that it is too much, everything waits.
// It is safe for concurrent use.
type Pace struct {
	every time.Duration

	mu     sync.Mutex
	limits map[string]*rate.Limiter // by method, and channel
	until  time.Time                // nothing is sent before
}

// NewPace returns a pace with so much time between two messages to one channel in the
// long run; 0 stands for a second, Slack's documented limit. Three may come at once.
func NewPace(every time.Duration) *Pace {
	if every <= 0 {
		every = time.Second
	}
	return &Pace{every: every, limits: map[string]*rate.Limiter{}}
}

// methodPost is the method that has a limit for each channel.
const methodPost = "chat.postMessage"

// Limits in calls per minute (docs.slack.dev, apis/web-api/rate-limits: tiers 2, 3 and 4).
var perMinute = map[string]int{
	"conversations.list":           20,
	"chat.update":                  50,
	"conversations.history":        50,
	"conversations.replies":        50,
	"files.delete":                 50,
	"chat.delete":                  50,
	"files.getUploadURLExternal":   100,
	"files.completeUploadExternal": 100,
}

// How many calls may come at once: of posting, and of any other method.
const (
	burstPost  = 3
	burstOther = 10
)

// wait returns when the call may be made, or an *alerts.Error.
func (p *Pace) wait(ctx context.Context, method, channel string) error {
	key, every, burst := method, p.every*60/50, burstOther
	if n := perMinute[method]; n > 0 {
		every = p.every * 60 / time.Duration(n)
	}
	if method == methodPost {
		key, every, burst = method+" "+channel, p.every, burstPost
	}
	p.mu.Lock()
	hold := time.Until(p.until)
	l := p.limits[key]
	if l == nil {
		if len(p.limits) >= maxKnown {
			clear(p.limits)
		}
		l = rate.NewLimiter(rate.Every(every), burst)
		p.limits[key] = l
	}
	p.mu.Unlock()
	if hold > 0 {
		return &alerts.Error{Kind: alerts.Temporary, RetryAfter: hold, Refused: true, Err: errors.New("asked to wait")}
	}
	if err := l.Wait(ctx); err != nil {
		return &alerts.Error{Kind: alerts.Temporary, Refused: true, Err: errors.New("too many messages are waiting for their turn")}
	}
	return nil
}

// refused takes note of an answer that was no success.
func (p *Pace) refused(e *alerts.Error, status int) *alerts.Error {
	if status == http.StatusTooManyRequests {
		p.mu.Lock()
		defer p.mu.Unlock()
		if until := time.Now().Add(max(e.RetryAfter, p.every)); until.After(p.until) {
			p.until = until
		}
	}
	return e
}

// channelKey is the context key of the channel that is posted to.
type channelKey struct{}

// doer sends requests for the library: in our pace; it bounds what is read of an answer,
// and says what to do about failures below Slack's own error codes.
type doer struct {
	client *http.Client
	base   string // of the API's methods; files are sent elsewhere
	pace   *Pace
}

// maxAnswer bounds an answer: a page of history with 200 messages of blocks.
const maxAnswer = 16 << 20

// Do implements the library's HTTP client. An answer that is not one of Slack's
// is an error here, for the library takes any JSON without an error code for a
// success.
func (c *doer) Do(req *http.Request) (*http.Response, error) {
	method, isMethod := strings.CutPrefix(req.URL.String(), c.base)
	if isMethod {
		method, _, _ = strings.Cut(method, "?")
		channel, _ := req.Context().Value(channelKey{}).(string)
		if err := c.pace.wait(req.Context(), method, channel); err != nil {
			return nil, err
		}
	}
	resp, err := c.client.Do(req)
	if err != nil {
		return nil, alerts.TransportError(err)
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		_, _ = io.CopyN(io.Discard, resp.Body, 4<<10)
		return nil, c.pace.refused(alerts.StatusError(resp.StatusCode, resp.Header, time.Now()), resp.StatusCode)
	}
	body, err := io.ReadAll(io.LimitReader(resp.Body, maxAnswer))
	if err != nil {
		return nil, alerts.TransportError(err)
	}
	var answer struct {
		OK    *bool  `json:"ok"`
		Error string `json:"error"`
	}
	if isMethod && (json.Unmarshal(body, &answer) != nil || answer.OK == nil || !*answer.OK && answer.Error == "") {
		return nil, &alerts.Error{Kind: alerts.Temporary, Err: errors.New("the answer is not one of Slack's; is there a proxy in between?")}
	}
	resp.Body = io.NopCloser(bytes.NewReader(body))
	return resp, nil
}
