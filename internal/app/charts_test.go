package app

import (
	"bytes"
	"context"
	"fmt"
	"image/png"
	"log/slog"
	"strings"
	"testing"
	"time"

	"github.com/denywatch/denywatch/alerts"
	"github.com/denywatch/denywatch/alerts/alertmanager"
	"github.com/denywatch/denywatch/alerts/email"
	"github.com/denywatch/denywatch/alerts/pagerduty"
	"github.com/denywatch/denywatch/alerts/webhook"
	"github.com/denywatch/denywatch/internal/incident"
	"github.com/denywatch/denywatch/internal/secret"
	"github.com/denywatch/denywatch/internal/state"
	"net/http/httptest"
)

// TestCharts: a picture is drawn again only when what it shows changed, and not all are
// kept.
func TestCharts(t *testing.T) {
	at := time.Date(2026, 11, 24, 10, 0, 0, 0, time.UTC)
	trace := func(id string, denials int64) *incident.Trace {
		return &incident.Trace{Incident: incident.Incident{ID: id, StartedAt: at}, Points: []incident.Point{{Time: at, Seconds: 60, Requests: 100, Denials: denials, High: 0.1}}}
	}
	var c charts
	first, err := c.draw(trace("a", 10))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := png.Decode(bytes.NewReader(first)); err != nil {
		t.Error(err)
	}
	same, err := c.draw(trace("a", 10))
	if err != nil || &same[0] != &first[0] {
		t.Errorf("the same was drawn again, %v", err)
	}
	other, err := c.draw(trace("a", 50))
	if err != nil || bytes.Equal(other, first) {
		t.Errorf("another trace has the same picture, %v", err)
	}
	for i := range maxCharts + 3 {
		if _, err := c.draw(trace(fmt.Sprint(i), 10)); err != nil {
			t.Fatal(err)
		}
	}
	if len(c.kept) != maxCharts {
		t.Errorf("%d pictures are kept, want %d", len(c.kept), maxCharts)
	}
	if _, err := c.draw(&incident.Trace{}); err == nil {
		t.Error("nothing was drawn")
	}
}

// TestLinks: sinks link to the incident if people reach the API, and to nothing else.
func TestLinks(t *testing.T) {
	for site, want := range map[alerts.Site]map[string][]string{
		"https://watch.example.com/access/": {
			"hook": {`"url":"https://watch.example.com/access/v1/incidents/wall00","chart_url":"https://watch.example.com/access/v1/incidents/wall00/chart.png"`},
			"am":   {`"generatorURL":"https://watch.example.com/access/v1/incidents/wall00"`},
			"v2":   {`"client_url":"https://watch.example.com/access/v1/incidents/wall00"`, `"links":[{"href":"https://watch.example.com/access/v1/incidents/wall00/chart.png"`},
			"mail": {"\nhttps://watch.example.com/access/v1/incidents/wall00\n", `<a href="https://watch.example.com/access/v1/incidents/wall00">`},
		},
		"": {"hook": nil, "am": nil, "v2": nil, "mail": nil},
	} {
		t.Run(string(site), func(t *testing.T) {
			b := &bin{bodies: map[string]string{}}
			web := httptest.NewServer(b)
			t.Cleanup(web.Close)
			sinks := map[string]alerts.Notifier{}
			add := func(name string, n alerts.Notifier, err error) {
				if err != nil {
					t.Fatal(err)
				}
				sinks[name] = n
			}
			hook, err := webhook.New(webhook.Config{URL: secret.String(web.URL + "/hook")})
			add("hook", hook, err)
			am, err := alertmanager.New(alertmanager.Config{URLs: []string{web.URL + "/am"}})
			add("am", am, err)
			pager, err := pagerduty.New(pagerduty.Config{URL: web.URL, RoutingKey: "0123456789abcdef0123456789abcdef"})
			add("pager", pager, err)
			mail, err := email.New(email.Config{Server: b.mailbox(t), TLS: email.None, From: "d@example.com", To: []string{"o@example.com"}}, email.Options{})
			add("mail", mail, err)
			store, err := state.Open(t.TempDir(), slog.New(slog.DiscardHandler), nil)
			if err != nil {
				t.Fatal(err)
			}
			defer store.Close()
			o, err := alerts.New(outboxStore{store}, sinks, alerts.Options{Site: site})
			if err != nil {
				t.Fatal(err)
			}
			ctx, cancel := context.WithCancel(t.Context())
			ran := make(chan error, 1)
			go func() { ran <- o.Run(ctx) }()
			var ds []alerts.Delivery
			for name := range sinks {
				ds = append(ds, alerts.NewDelivery(walls()[0], alerts.Dest{Sink: name}))
			}
			if err := (outboxStore{store}).Update(func(tx alerts.Tx) error { return o.Enqueue(tx, ds) }); err != nil {
				t.Fatal(err)
			}
			o.Add(ds)
			for name := range want {
				for b.got(name) == "" {
					time.Sleep(time.Millisecond)
				}
			}
			cancel()
			if err := <-ran; err != nil {
				t.Error(err)
			}
			for name, parts := range want {
				got := strings.ReplaceAll(b.got(name), "\r\n", "\n")
				for _, part := range parts {
					if !strings.Contains(got, part) {
						t.Errorf("%s does not hold %s:\n%s", name, part, got)
					}
				}
				if len(parts) == 0 && (strings.Contains(got, "/v1/incidents") || strings.Contains(got, "href")) {
					t.Errorf("%s links to nowhere:\n%s", name, got)
				}
			}
		})
	}
}
