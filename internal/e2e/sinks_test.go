package e2e

import (
	"fmt"
	"net/http"
	"strings"
	"testing"

	"github.com/denywatch/denywatch/alerts/slack/slackfake"
	"github.com/denywatch/denywatch/internal/servertest"
)

// TestSinkTrouble lets one sink fail in every way that lasts: the other is told
// at once, the daemon says what is wrong, and nothing is lost.
func TestSinkTrouble(t *testing.T) {
	said := func(t *testing.T, d *daemon, sink, state, trouble string) {
		t.Helper()
		servertest.Await(t, fmt.Sprintf("sink %s to be %s", sink, state), func() (bool, string) {
			s, err := d.status()
			if err != nil {
				return false, err.Error()
			}
			for _, k := range s.Sinks {
				if k.Name == sink && k.State == state && strings.Contains(k.Trouble, trouble) && k.Waiting > 0 {
					return true, ""
				}
			}
			return false, fmt.Sprintf("%+v\n%s", s.Sinks, d.Stderr.Tail())
		})
		servertest.Await(t, "/readyz to be 200, for logs are read and the other sink is told, with a line about "+sink, func() (bool, string) {
			status, body, err := d.get("/readyz")
			return status == http.StatusOK && strings.Contains(body, "sink "+sink+" is "+state), fmt.Sprint(status, body, err)
		})
	}
	end := func(t *testing.T, h *host, d *daemon) {
		t.Helper()
		servertest.Await(t, "the notifications", d.quiet)
		d.told(t, h.resolved(t, d), h.receiver, h.slack)
		d.read(t, h.feed.count())
		d.exact(t, h.feed.count())
		d.stop(t)
	}
	for name, x := range map[string]struct {
		fault          slackfake.Fault
		state, trouble string
	}{
		"channel not found": {slackfake.Fault{Error: "channel_not_found"}, "misconfigured", "channel_not_found"},
		"token revoked":     {slackfake.Fault{Error: "token_revoked"}, "misconfigured", "token_revoked"},
		"rate limited":      {slackfake.Fault{Status: http.StatusTooManyRequests, RetryAfter: "2"}, "retrying", "429"},
		"server error":      {slackfake.Fault{Status: http.StatusInternalServerError}, "retrying", "500"},
		"no answer":         {slackfake.Fault{Hang: true}, "retrying", ""},
		"not Slack":         {slackfake.Fault{Body: "<html>hotel log-in</html>"}, "retrying", "proxy"},
	} {
		t.Run("slack "+name, func(t *testing.T) {
			long(t)
			h := newHost(t)
			h.slack.Fail(x.fault)
			d := serve(t, bin.normal, h.config)
			all := h.resolved(t, d)
			servertest.Await(t, "the webhook to be told", func() (bool, string) {
				n := 0
				for _, s := range h.receiver.stories() {
					n += len(s)
				}
				want := 0
				for _, in := range all {
					want += len(d.timeline(t, in.ID))
				}
				return n == want, fmt.Sprintf("%d of %d transitions\n%s", n, want, d.Stderr.Tail())
			})
			said(t, d, "slack", x.state, x.trouble)
			if strings.Contains(d.Stderr.String(), slackfake.Token) {
				t.Error("the log shows the token")
			}
			h.slack.Clear()
			end(t, h, d)
		})
	}
	t.Run("webhook", func(t *testing.T) {
		long(t)
		h := newHost(t)
		h.receiver.set(1)
		d := serve(t, bin.raced, h.config)
		h.resolved(t, d)
		servertest.Await(t, "Slack to be told", func() (bool, string) {
			return len(h.slack.Messages()) == len(h.walls), fmt.Sprintf("%+v\n%s", h.slack.Messages(), d.Stderr.Tail())
		})
		said(t, d, "webhook", "retrying", "")
		h.receiver.set(0)
		end(t, h, d)
	})
}
