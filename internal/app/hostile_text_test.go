package app

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"net/http/httptest"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"
	"unicode"
	"unicode/utf8"

	"github.com/denywatch/denywatch/alerts"
	"github.com/denywatch/denywatch/alerts/alertmanager"
	"github.com/denywatch/denywatch/alerts/chart"
	"github.com/denywatch/denywatch/alerts/console"
	"github.com/denywatch/denywatch/alerts/email"
	"github.com/denywatch/denywatch/alerts/pagerduty"
	"github.com/denywatch/denywatch/alerts/shoutrrr"
	"github.com/denywatch/denywatch/alerts/slack"
	"github.com/denywatch/denywatch/alerts/slack/slackfake"
	"github.com/denywatch/denywatch/alerts/webhook"
	"github.com/denywatch/denywatch/configs"
	"github.com/denywatch/denywatch/internal/client"
	"github.com/denywatch/denywatch/internal/incident"
	"github.com/denywatch/denywatch/internal/marker"
	"github.com/denywatch/denywatch/internal/secret"
)

// evils are what logs can hold where names are expected, each with a word to find it by.
var evils = []string{
	"evil0<!channel> <@U1> <https://evil.example|click> @here @everyone",
	"evil1</script><script>alert(1)</script><img src=x onerror=y>",
	"evil2\r\nBcc: evil@example.com\r\n\r\n.\r\nMAIL FROM:<evil@example.com>",
	"evil3\x1b]0;owned\x07\x1b[2J\x1b[31mred\x00\x9b1m",
	"evil4\u202egnp.exe\u2066\u200b\ufeff\u2028",
	"evil5 [x](https://evil.example) **b** `c` ||d|| ~~e~~ # f",
	"evil6\xff\xfe\xc0\xaf\"}],\"event_action\":\"resolve",
	"evil7" + strings.Repeat("ü", 700),
	"evil8 {{.Headline}} ${IFS} %s%n =?utf-8?q?=0aBcc:?=",
}

// evilLog is three hours of a log with one role for each of evils, on a route and with
// other names of the same making, beside members. One after the other the roles are refused.
func evilLog() []byte {
	var b bytes.Buffer
	begin := time.Date(2026, 11, 17, 6, 0, 0, 0, time.UTC)
	quote := func(s string) string { // keeps what is no UTF-8, as sloppy loggers do
		text, err := json.Marshal(strings.ToValidUTF8(s, "\x01"))
		if err != nil {
			return `""`
		}
		return strings.ReplaceAll(string(text), `\u0001`, "\xff")
	}
	for minute := range 3 * 60 {
		for i, evil := range evils {
			for k := range 6 {
				status, role := 200, "member"
				if k < 3 {
					role = evil
				}
				if since := minute - 55 - 13*i; k < 3 && since >= 0 && since < 12 {
					status = 403
				}
				fmt.Fprintf(&b, `{"time":%q,"method":"GET","path":"/evil%d","route":%s,"status":%d,"user":"u%d","account":%s,"role":%s,"plan":%s,"flags":{%s:true},"reason":%s,"version":%s,"user_agent":%[12]s}`+"\n",
					begin.Add(time.Duration(minute)*time.Minute+time.Duration(k*10)*time.Second).Format(time.RFC3339), i, quote("/"+evil), status, (minute*6+k)%97, quote(evil), quote(role), quote(evil), quote(evil), quote(evil), quote(evil), quote(evil))
			}
		}
	}
	return b.Bytes()
}

// harmless reports what of an output could harm whoever reads it: what a terminal, a
// mail program or an editor obeys, or what is longer than anybody reads.
func harmless(t *testing.T, what, text string) {
	t.Helper()
	if !utf8.ValidString(text) {
		t.Errorf("%s is not UTF-8: %.300q", what, text)
	}
	for _, r := range text {
		if unicode.IsControl(r) && r != '\n' && r != '\t' || r == '\u2028' || r == '\u200b' || r == '\ufeff' || r == '\u202e' || r == '\u2066' {
			t.Errorf("%s holds %q: %.500q", what, r, text)
			return
		}
	}
	if len(text) > 64<<10 {
		t.Errorf("%s has %d bytes", what, len(text))
	}
}

// values are all strings of JSON documents that follow each other, with the names of
// their fields.
func values(t *testing.T, text string) (out []string) {
	t.Helper()
	var walk func(v any)
	walk = func(v any) {
		switch v := v.(type) {
		case string:
			out = append(out, v)
		case []any:
			for _, x := range v {
				walk(x)
			}
		case map[string]any:
			for k, x := range v {
				out = append(out, k)
				walk(x)
			}
		}
	}
	for d := json.NewDecoder(strings.NewReader(text)); d.More(); {
		var v any
		if err := d.Decode(&v); err != nil {
			t.Fatalf("no JSON: %v: %.500q", err, text)
		}
		walk(v)
	}
	return out
}

// TestHostileText: names of a log that would mention, link, format, end a header, clear a
// terminal or turn the text around do nothing of that in any sink, digest or command.
func TestHostileText(t *testing.T) {
	path := filepath.Join(t.TempDir(), "app.log")
	if err := os.WriteFile(path, evilLog(), 0o600); err != nil {
		t.Fatal(err)
	}
	cfg := configs.Default()
	cfg.Detection.Dimensions = append(cfg.Detection.Dimensions, "plan")
	opt := ReplayOptions{Files: []string{path}, Format: "json", Log: slog.New(slog.DiscardHandler)}
	c, inputs, incidents, err := opt.run(context.Background(), cfg)
	if err != nil {
		t.Fatal(err)
	}
	var out bytes.Buffer
	if err := timeline(&out, false, inputs, c, incidents); err != nil {
		t.Fatal(err)
	}
	outputs := map[string]string{"the time line": out.String(), "the list": DescribeIncidents(incidents, false)}

	// What a log can not do to an incident, a person or a marker can.
	evil := strings.Join(evils[:7], " ")
	at := time.Date(2026, 11, 17, 11, 0, 0, 0, time.UTC)
	act := &incident.Act{By: evil, ID: evil, Via: evil, At: at, Until: at.Add(time.Hour), Other: evil}
	var told []incident.Transition
	var worst []*incident.Transition
	for _, id := range c.order {
		told = append(told, c.timelines[id]...)
	}
	if len(told) == 0 {
		t.Fatalf("no incident:\n%s", out.String())
	}
	last := told[len(told)-1]
	for i, kind := range []incident.Kind{incident.Acknowledged, incident.Silenced, incident.Unsilenced, incident.Assigned, incident.Escalated, incident.MergedKind, incident.Split, incident.ResolvedKind, incident.Reopened} {
		x := last
		x.Seq, x.Kind, x.At, x.Act = last.Seq+1+i, kind, at, act
		in := &x.Incident
		in.Team, in.Journey, in.Marker, in.Fix, in.Acknowledged, in.Silenced = evil, evil, evil, evil, act, act
		in.MarkerInfo = &incident.MarkerInfo{Kind: evil, Service: evil, Version: evil, Previous: evil, Time: at}
		in.FixInfo, in.Causes, in.Version, in.Rules = in.MarkerInfo, append(evils, in.Causes...), evil, []incident.RuleCount{{Name: evil, Denials: 7}}
		in.AccessRule = &incident.AccessRule{Text: evil, Routes: []string{evil}, Roles: []string{evil}, Hint: evil}
		in.Merged, in.MergedInto = []incident.Part{{ID: evil, Scope: in.Scope}}, evil
		if kind == incident.ResolvedKind {
			in.State, in.Resolution, in.ResolvedAt = incident.Resolved, incident.Merged, &at
		}
		told = append(told, x)
	}
	for i := range told {
		worst = append(worst, &told[i])
	}
	sum := alerts.Summary{ID: "d", Team: evil, From: at.Add(-24 * time.Hour), To: at, Incidents: worst, Series: 3, Routes: 2,
		Sources: []alerts.SourceSummary{{Name: evil, Lines: 10, Unparsed: 9, Suspended: true}}, Valid: []alerts.ValidSummary{{Route: evil, Role: evil, N: 7}},
		Scans: []incident.Scan{{From: at.Add(-time.Hour), To: at, TopRoute: evil, Denials: 9, Scope: incident.Scope{Service: evil, Route: evil}}}}
	digest := alerts.Digest(&sum)

	talk := slackfake.New(t)
	b := &bin{bodies: map[string]string{}}
	world := httptest.NewServer(b)
	t.Cleanup(world.Close)
	var term bytes.Buffer
	sinks := map[string]alerts.Notifier{"console": console.New(&term, console.Options{})}
	add := func(name string, n alerts.Notifier, err error) {
		if err != nil {
			t.Fatal(err)
		}
		sinks[name] = n
	}
	chat, err := slack.New(slack.Config{Token: slackfake.Token, Channel: "#access-walls", APIURL: talk.URL()}, slack.Options{Pace: slack.NewPace(time.Microsecond)})
	add("slack", chat, err)
	t.Cleanup(chat.Close)
	hook, err := webhook.New(webhook.Config{URL: secret.String(world.URL + "/hook"), Secret: "0123456789abcdef"})
	add("hook", hook, err)
	am, err := alertmanager.New(alertmanager.Config{URLs: []string{world.URL + "/am"}})
	add("am", am, err)
	pager, err := pagerduty.New(pagerduty.Config{URL: world.URL, RoutingKey: "0123456789abcdef0123456789abcdef"})
	add("pager", pager, err)
	mail, err := email.New(email.Config{Server: b.mailbox(t), TLS: email.None, From: "d@example.com", To: []string{"o@example.com"}}, email.Options{})
	add("mail", mail, err)
	shout, err := shoutrrr.New(shoutrrr.Config{URL: secret.String(strings.Replace(world.URL, "http://", "generic+http://", 1) + "/shout")})
	add("shout", shout, err)
	for name, n := range sinks {
		memory := map[string]json.RawMessage{}
		for _, x := range told {
			d := alerts.NewDelivery(x, alerts.Dest{Sink: name})
			d.QueuedAt, d.Memory = time.Now(), memory[x.Incident.ID]
			m, err := n.Notify(t.Context(), &d)
			if err != nil {
				t.Fatalf("%s: %v", name, err)
			}
			if m != nil {
				memory[x.Incident.ID] = m
			}
		}
		if p, ok := n.(alerts.Poster); ok {
			d := alerts.NewPost(digest, alerts.Dest{Sink: name})
			if _, err := p.Post(t.Context(), &d); err != nil {
				t.Fatalf("%s: %v", name, err)
			}
		}
	}

	outputs["the console"] = term.String()
	outputs["a time line"] = DescribeTimeline(&last.Incident, told, false)
	outputs["silences"] = DescribeSilences([]incident.Silencing{{ID: evil, Scope: &last.Incident.Scope, Act: *act}, {ID: "b", Incident: evil, Act: *act}})
	outputs["dead letters"] = DescribeDeadLetters([]client.DeadLetter{{ID: evil, Sink: evil, Target: evil, Incident: evil, What: evil, Reason: evil, At: at}})
	outputs["who"] = DescribeRefused(&client.Refused{Since: at, Refusals: []client.Refusal{{Vantage: evil, Service: evil, Route: evil, Role: evil, Geo: evil, Class: evil, Layer: evil, Cause: evil, From: at, To: at, Denials: 3, Incidents: []string{evil}}}})
	outputs["a verdict"] = DescribeVerdict(&marker.Verdict{Marker: marker.Marker{ID: evil, Kind: marker.Kind(evil), Version: evil, Service: evil}, Reason: evil, Incidents: []marker.Broken{{ID: evil, Direction: incident.Up, Class: evil, Scope: last.Incident.Scope}}, Suspended: []string{evil}}, false)
	for _, name := range []string{"shout", "mail"} {
		outputs[name] = strings.ReplaceAll(b.got(name), "\r\n", "\n")
	}
	for name, text := range outputs {
		for line := range strings.Lines(text) {
			harmless(t, name, line)
		}
		if !strings.Contains(text, "evil") {
			t.Errorf("%s says nothing of it: %.300q", name, text)
		}
	}
	for _, name := range []string{"am", "v2"} {
		for _, v := range values(t, b.got(name)) {
			harmless(t, "sink "+name, v)
		}
	}
	for _, v := range values(t, b.got("hook")) { // what people and markers are called goes on as it is
		if !utf8.ValidString(v) {
			t.Errorf("the webhook says %.100q", v)
		}
	}
	for _, x := range incidents {
		for _, v := range []string{x.Scope.Service, x.Scope.Route, x.Scope.Role, x.Scope.Plan, x.Version} {
			// What cannot be seen may stay: a role with a zero-width space is another role.
			if strings.ContainsFunc(v, unicode.IsControl) || !utf8.ValidString(v) || utf8.RuneCountInString(v) > 300 {
				t.Errorf("an incident has a name of %d runes: %.300q", utf8.RuneCountInString(v), v)
			}
		}
	}
	for _, m := range talk.Messages() {
		for _, m := range append(talk.Thread(m.TS), m) {
			raw, err := json.Marshal(m)
			if err != nil {
				t.Fatal(err)
			}
			for _, v := range values(t, string(raw)) {
				harmless(t, "Slack", v)
				if strings.ContainsAny(v, "<>") {
					t.Errorf("Slack may take this for a link or a mention: %.300q", v)
				}
			}
		}
	}
	_, shouted, _ := strings.Cut(b.got("shout"), "]")
	for _, bad := range []string{"@here", "@everyone", "](", "`", "||", "**", "<"} {
		if strings.Contains(shouted, bad) {
			t.Errorf("%q in a text to a chat", bad)
		}
	}
	pages := regexp.MustCompile(`(?s)<!doctype html>.*?</html>`).FindAllString(outputs["mail"], -1)
	if len(pages) < 3 || strings.Contains(strings.Join(pages, ""), "<script") || strings.Contains(strings.Join(pages, ""), "<img src=x") {
		t.Errorf("%d mails, of which one holds markup of the log's", len(pages))
	}
	for _, bad := range []string{"\nBcc:", "\nMAIL FROM", "\n.\n"} {
		if strings.Contains(outputs["mail"], bad) {
			t.Errorf("%q in a mail", bad)
		}
	}
	if verbs := regexp.MustCompile(`"event_action":"resolve"`).FindAllString(b.got("v2"), -1); len(verbs) > len(told) {
		t.Errorf("%d resolutions", len(verbs))
	}
	// A picture of it can be drawn.
	trace, ok := c.det.Trace(last.Incident.ID)
	if !ok {
		t.Fatal("there is no trace")
	}
	trace.Markers = []incident.TraceMarker{{ID: evil, MarkerInfo: incident.MarkerInfo{Kind: evil, Version: evil, Time: last.Incident.StartedAt}}}
	if _, err := chart.Draw(&trace, nil); err != nil {
		t.Error(err)
	}
}
