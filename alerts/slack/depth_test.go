package slack_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"log/slog"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/denywatch/denywatch/alerts"
	"github.com/denywatch/denywatch/alerts/slack"
	"github.com/denywatch/denywatch/alerts/slack/slackfake"
	"github.com/denywatch/denywatch/internal/incident"
	"github.com/denywatch/denywatch/internal/secret"
)

// painter counts the pictures it makes; each is another.
type painter struct {
	mu   sync.Mutex
	n    int
	fail error
}

func (p *painter) draw(context.Context, string) ([]byte, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.n++
	return bytes.Repeat([]byte{byte(p.n)}, 100), p.fail
}

// whole opens a notifier with all there is: pictures and buttons.
func whole(t *testing.T, s *slackfake.Server, p *painter, log *slog.Logger) *slack.Notifier {
	t.Helper()
	conf := slack.Config{Token: slackfake.Token, Channel: "#access-walls", APIURL: s.URL(), SigningSecret: secret.String(strings.Repeat("0a", 16))}
	n, err := slack.New(conf, slack.Options{Pace: slack.NewPace(time.Microsecond), Log: log, Chart: p.draw})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(n.Close)
	return n
}

// lived is a life with what people do: acknowledged, silenced, and so on.
func lived() []incident.Transition {
	at := start1004.Add(17 * time.Minute)
	ada := &incident.Act{By: "ada <!channel>", ID: "U024BE7LH", Via: "slack", At: at}
	quiet := &incident.Act{By: "grace", ID: "U1", Via: "slack", At: at.Add(time.Minute), Until: at.Add(61 * time.Minute)}
	opened, acknowledged := step("i1", 1, incident.Opened), step("i1", 2, incident.Acknowledged)
	acknowledged.Act, acknowledged.At, acknowledged.Incident.Acknowledged = ada, at, ada
	silenced := acknowledged
	silenced.Seq, silenced.Kind, silenced.Act, silenced.At, silenced.Incident.Silenced = 3, incident.Silenced, quiet, quiet.At, quiet
	dismissed := step("i1", 3, incident.ResolvedKind)
	dismissed.Seq, dismissed.Act, dismissed.Incident.Resolution = 4, ada, incident.Dismissed
	dismissed.Incident.Vantages, opened.Incident.Vantages = []string{"app", "web"}, []string{"app", "web"}
	reopened := step("i1", 4, incident.Reopened)
	reopened.Seq, reopened.Act = 5, quiet
	return []incident.Transition{opened, acknowledged, silenced, dismissed, reopened}
}

func TestLookOfADecidedIncident(t *testing.T) {
	s, p := slackfake.New(t), &painter{}
	n := whole(t, s, p, nil)
	var mem json.RawMessage
	for i, name := range []string{"opened_whole", "acknowledged", "silenced", "dismissed", "reopened_by"} {
		mem = tell(t, n, mem, lived()[i])
		m := s.Messages()[0]
		golden(t, name+".golden", "thread: "+strings.Join(lines(s.Thread(m.TS)), "\n")+"\n"+pretty(m.Blocks, m.Attachments))
	}
	if p.n != 3 {
		t.Errorf("%d pictures, want one at the opening, the end and the reopening", p.n)
	}
}

// TestLookOfMergedIncidents: the one says where it is told now, the other what it holds.
func TestLookOfMergedIncidents(t *testing.T) {
	s := slackfake.New(t)
	n := whole(t, s, &painter{}, nil)
	by := func(other string) *incident.Act {
		return &incident.Act{By: "ada", ID: "U024BE7LH", Via: "slack", At: start1004.Add(20 * time.Minute), Other: other}
	}
	over := step("i1", 3, incident.ResolvedKind)
	over.Seq, over.Act, over.Incident.Resolution, over.Incident.MergedInto, over.Incident.GotInAgain = 2, by("i2"), incident.Merged, "i2", nil
	tell(t, n, nil, step("i1", 1, incident.Opened), over)
	grown, apart := step("i2", 2, incident.MergedKind), step("i2", 3, incident.Split)
	grown.Act, apart.Act = by("i1"), by("i1")
	grown.Incident.Merged = []incident.Part{{ID: "i1", Scope: incident.Scope{Service: "shop", Route: "/billing/plans", Role: "editor"}}}
	mem := tell(t, n, nil, step("i2", 1, incident.Opened), grown)
	for i, name := range []string{"merged_into", "merged"} {
		m := s.Messages()[i]
		golden(t, name+".golden", "text: "+m.Text+"\nthread: "+strings.Join(lines(s.Thread(m.TS)), "\n")+"\n"+pretty(m.Blocks, m.Attachments))
	}
	tell(t, n, mem, apart)
	if got := lines(s.Thread(s.Messages()[1].TS)); got[2] != "10:44 now without incident i1, parted by ada: 1,104 people on 122 accounts" {
		t.Errorf("the thread says %q", got)
	}
}

func TestPictureIsRefreshedAndTheOldOneDeleted(t *testing.T) {
	s, p := slackfake.New(t), &painter{}
	s.SetLooks(1)
	n := whole(t, s, p, nil)
	var mem json.RawMessage
	for i, tr := range life("i1") {
		mem = tell(t, n, mem, tr)
		fs, ms := s.Files(), s.Messages()
		if len(fs) != 1 || !fs[0].Done || !bytes.Equal(fs[0].Content, bytes.Repeat([]byte{byte(i + 1)}, 100)) {
			t.Fatalf("after %s: files %+v", tr.Kind, fs)
		}
		if !strings.Contains(string(ms[0].Attachments), `"slack_file":{"id":"`+fs[0].ID+`"}`) || len(ms) != 1 {
			t.Errorf("after %s the message shows %s", tr.Kind, ms[0].Attachments)
		}
		if p := ms[0].Payload; p["seq"] != float64(tr.Seq) {
			t.Errorf("metadata %v", p)
		}
	}
	// Told once more, nothing is drawn again.
	tell(t, n, mem, life("i1")[3])
	if p.n != 4 {
		t.Errorf("%d pictures", p.n)
	}
	// Somebody deletes the file: the message goes on without it.
	next := life("i1")[3]
	next.Seq, next.Kind, next.Act = 5, incident.Acknowledged, &incident.Act{By: "ada", Via: "slack"}
	for _, f := range s.Files() {
		s.DeleteFile(f.ID)
	}
	tell(t, n, mem, next)
	if m := s.Messages()[0]; strings.Contains(string(m.Attachments), "slack_file") || m.Payload["seq"] != float64(5) {
		t.Errorf("message %s %s", m.Blocks, m.Attachments)
	}
}

func TestTroubleWithThePictureStopsNothing(t *testing.T) {
	for name, c := range map[string]struct {
		prepare func(*slackfake.Server, *painter)
		says    string
	}{
		"no scope":       {func(s *slackfake.Server, _ *painter) { s.Without("files:write") }, "add the scope files:write"},
		"no picture":     {func(_ *slackfake.Server, p *painter) { p.fail = errors.New("nothing to draw") }, ""},
		"upload refused": {func(s *slackfake.Server, _ *painter) { s.Fail(slackfake.Fault{Method: "upload", Status: 500}) }, "500"},
		"upload dropped": {func(s *slackfake.Server, _ *painter) { s.Fail(slackfake.Fault{Method: "upload", Drop: true}) }, "EOF"},
		"not completed": {func(s *slackfake.Server, _ *painter) {
			s.Fail(slackfake.Fault{Method: "files.completeUploadExternal", Body: `{"ok":true,"files":[]}`})
		}, "cannot be uploaded"},
		"never shown": {func(s *slackfake.Server, _ *painter) {
			s.Fail(slackfake.Fault{Method: "chat.update", Error: "invalid_blocks"})
		}, "cannot be shown"},
	} {
		t.Run(name, func(t *testing.T) {
			s, p := slackfake.New(t), &painter{}
			var log bytes.Buffer
			n := whole(t, s, p, slog.New(slog.NewTextHandler(&log, nil)))
			c.prepare(s, p)
			for _, id := range []string{"i1", "i2"} {
				tell(t, n, nil, life(id)[0])
			}
			ms := s.Messages()
			if len(ms) != 2 || len(s.Thread(ms[1].TS)) != 1 {
				t.Errorf("messages %+v", ms)
			}
			if !strings.Contains(log.String(), c.says) || strings.Count(log.String(), "level=WARN") > 1 {
				t.Errorf("log:\n%s", log.String())
			}
			if name == "never shown" && len(s.Files()) != 0 {
				t.Errorf("files are left: %+v", s.Files())
			}
		})
	}
}

// TestHangingUploadDelaysNobody: people were told before, and a try that ends meanwhile is
// no failure.
func TestHangingUploadDelaysNobody(t *testing.T) {
	s := slackfake.New(t)
	n := whole(t, s, &painter{}, nil)
	s.Fail(slackfake.Fault{Method: "upload", Hang: true})
	d := alerts.NewDelivery(life("i1")[0], alerts.Dest{Sink: "slack"})
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	go func() {
		for !slices.Contains(s.Calls(), "upload") {
			time.Sleep(time.Millisecond)
		}
		cancel() // as the outbox does when the time for a try is over
	}()
	mem, err := n.Notify(ctx, &d)
	if err != nil || mem == nil {
		t.Errorf("memory %s, err = %v", mem, err)
	}
	if ms := s.Messages(); len(ms) != 1 || len(s.Thread(ms[0].TS)) != 1 {
		t.Errorf("messages %+v", ms)
	}
}

func TestMentions(t *testing.T) {
	s := slackfake.New(t)
	n := open(t, s, nil, nil)
	say := func(mem json.RawMessage, tr incident.Transition, mention ...string) json.RawMessage {
		d := alerts.NewDelivery(tr, alerts.Dest{Sink: "slack"}, mention...)
		d.QueuedAt, d.Memory = time.Now(), mem
		m, err := n.Notify(context.Background(), &d)
		if err != nil {
			t.Fatal(err)
		}
		return m
	}
	mem := say(nil, life("i1")[0], "S0614TZR7", "<!channel>", "U024BE7LH", "@here")
	m := s.Messages()[0]
	if want := "<!subteam^S0614TZR7> <@U024BE7LH>"; !strings.HasPrefix(m.Text, want+" ") || !strings.Contains(text(t, m.Blocks), want+"\n") || strings.Contains(text(t, m.Blocks), "channel") {
		t.Errorf("%s\n%s", m.Text, m.Blocks)
	}
	mem = say(mem, life("i1")[1], "S0614TZR7")
	say(mem, life("i1")[2])
	m = s.Messages()[0]
	if strings.Contains(m.Text+string(m.Blocks), "subteam") {
		t.Errorf("the edited message calls again: %s", m.Text)
	}
	got := lines(s.Thread(m.TS))
	if strings.Contains(got[0], "subteam") || !strings.HasPrefix(got[1], "<!subteam^S0614TZR7> 10:15 grew") || strings.Contains(got[2], "subteam") {
		t.Errorf("thread %q", got)
	}
}

func TestTargetsAreChannelsOfTheirOwn(t *testing.T) {
	s := slackfake.New(t)
	growth := s.AddChannel("growth-oncall")
	n := open(t, s, nil, nil)
	for _, target := range []string{"", "#growth-oncall", growth} {
		var mem json.RawMessage
		for i, tr := range life("i1")[:2] {
			d := alerts.NewDelivery(tr, alerts.Dest{Sink: "slack", Target: target})
			d.QueuedAt, d.Memory, d.Uncertain = time.Now(), mem, i == 1
			m, err := n.Notify(context.Background(), &d)
			if err != nil {
				t.Fatal(err)
			}
			mem = m
		}
	}
	var to []string
	for _, m := range s.Messages() {
		to = append(to, m.Channel)
	}
	if want := []string{"C0ACCESSWALLS", growth, growth}; !slices.Equal(to, want) {
		t.Errorf("messages in %v, want %v", to, want)
	}
}

func TestTooManyRequestsHoldsEverything(t *testing.T) {
	s := slackfake.New(t)
	pace := slack.NewPace(time.Microsecond)
	var ns []*slack.Notifier
	for range 2 { // two sinks of one app
		n, err := slack.New(slack.Config{Token: slackfake.Token, Channel: "#access-walls", APIURL: s.URL()}, slack.Options{Pace: pace})
		if err != nil {
			t.Fatal(err)
		}
		defer n.Close()
		ns = append(ns, n)
	}
	s.Fail(slackfake.Fault{Method: "chat.postMessage", Status: 429, RetryAfter: "900", Times: 1})
	if _, err := try(ns[0], nil, false, life("i1")[0]); err == nil {
		t.Fatal("no error")
	}
	calls := len(s.Calls())
	_, err := try(ns[1], nil, false, life("i2")[0])
	if e, ok := errors.AsType[*alerts.Error](err); !ok || !e.Refused || e.RetryAfter < 800*time.Second || len(s.Calls()) != calls {
		t.Errorf("err = %v, calls %v", err, s.Calls()[calls:])
	}
}

// TestPaceIsPerChannel: a channel that gets much holds up no other.
func TestPaceIsPerChannel(t *testing.T) {
	s := slackfake.New(t)
	s.AddChannel("other")
	n, err := slack.New(slack.Config{Token: slackfake.Token, Channel: "#access-walls", APIURL: s.URL()}, slack.Options{Pace: slack.NewPace(time.Hour)})
	if err != nil {
		t.Fatal(err)
	}
	defer n.Close()
	say := func(id, target string) error {
		ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
		defer cancel()
		d := alerts.NewPost(&alerts.Post{ID: id, Headline: id}, alerts.Dest{Sink: "slack", Target: target})
		_, err := n.Post(ctx, &d)
		return err
	}
	for i, want := range []bool{true, true, true, false} {
		if err := say(string(rune('a'+i)), ""); (err == nil) != want {
			t.Errorf("post %d: %v", i, err)
		}
	}
	if err := say("e", "#other"); err != nil {
		t.Error(err)
	}
}

func TestPosts(t *testing.T) {
	s := slackfake.New(t)
	n := open(t, s, nil, nil)
	p := &alerts.Post{ID: "digest-growth-2026-11-19", At: start1004, Headline: "Nothing wrong yesterday <!channel>",
		Parts: []alerts.Part{{Lines: []string{"3 sources, 48 million lines"}}, {Title: "Valid refusals", Lines: []string{"/admin/** role *viewer*: 12", strings.Repeat("ש", 5000)}}}}
	for range 60 {
		p.Parts = append(p.Parts, alerts.Part{Title: "More", Lines: []string{"x"}})
	}
	d := alerts.NewPost(p, alerts.Dest{Sink: "slack"}, "S0614TZR7")
	d.QueuedAt = time.Now()
	s.Fail(slackfake.Fault{Method: "chat.postMessage", Drop: true, Times: 1})
	if _, err := n.Post(context.Background(), &d); err == nil {
		t.Fatal("no error")
	}
	d.Uncertain = true
	if _, err := n.Post(context.Background(), &d); err != nil {
		t.Fatal(err)
	}
	ms := s.Messages()
	if len(ms) != 1 || len(s.Thread(ms[0].TS)) != 0 {
		t.Fatalf("messages %+v", ms)
	}
	if got := text(t, ms[0].Blocks); !strings.Contains(got, "Nothing wrong yesterday ‹!channel›") || !strings.Contains(got, "role ∗viewer∗") || !strings.Contains(got, "<!subteam^S0614TZR7>") {
		t.Errorf("post %s", alerts.Clip(got, 500))
	}
	hook := open(t, s, func(c *slack.Config) { *c = slack.Config{Webhook: secret.String(s.WebhookURL())} }, nil)
	if _, err := hook.Post(context.Background(), &d); err != nil || len(s.Messages()) != 2 {
		t.Errorf("webhook: %v", err)
	}
}
