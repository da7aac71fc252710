package collect

import (
	"bytes"
	"context"
	"fmt"
	"log/slog"
	"strings"
	"testing"

	"github.com/denywatch/denywatch/ingest"
	"github.com/denywatch/denywatch/internal/access"
	"github.com/denywatch/denywatch/internal/event"
	"github.com/denywatch/denywatch/internal/tally"
	"github.com/denywatch/denywatch/parsers"
)

// peopleParser reads "SECONDS STATUS PATH METHOD key=value ...".
type peopleParser struct{}

func (peopleParser) Parse(line []byte, e *event.Event) error {
	if err := (testParser{}).Parse(line, e); err != nil {
		return err
	}
	f := bytes.Fields(line)
	e.User, e.Method = nil, f[3]
	for _, w := range f[4:] {
		k, v, _ := bytes.Cut(w, []byte("="))
		switch string(k) {
		case "user":
			e.User = v
		case "role":
			e.Roles = append(e.Roles, v)
		case "plan":
			e.Plan = v
		case "flag":
			e.Flags = append(e.Flags, v)
		case "geo":
			e.Geo = v
		}
	}
	return nil
}

// accessRules are: members get in everywhere in /billing but to what is for the pro
// plan; nobody but admins into /admin; only with the flag into /beta.
func accessRules(t testing.TB) *access.Model {
	m, bad := access.New([]access.Rule{
		{Route: []string{"/billing/**"}, Role: []string{"member"}, Allow: "true"},
		{Route: []string{"/billing/export"}, Plan: []string{"free"}, Allow: "false"},
		{Route: []string{"/admin/**"}, Allow: "false"},
		{Route: []string{"/admin/**"}, Role: []string{"admin"}, Allow: "true"},
		{Route: []string{"/beta"}, Flag: []string{"beta"}, Allow: "true"},
		{Route: []string{"/embargo"}, Geo: []string{"KP"}, Allow: "false"},
	})
	if len(bad) > 0 {
		t.Fatal(bad)
	}
	return m
}

// TestAccessModel: what becomes of one event by the declared rules, as it is counted
// and as `denywatch parse` explains it.
func TestAccessModel(t *testing.T) {
	for _, c := range []struct {
		line, want string
		vantage    event.Vantage
	}{
		{"403 /billing/plans GET user=u role=member", "refused breaks 0", event.App},
		{"200 /billing/plans GET user=u role=member", "let in", event.App},
		{"403 /billing/plans GET user=u role=viewer", "refused", event.App},
		{"403 /billing/export GET user=u role=member plan=free", "valid by 1", event.App},
		{"403 /billing/export GET user=u role=member plan=pro", "refused breaks 0", event.App},
		{"403 /billing/export GET user=u role=member", "refused", event.App}, // on which plan?
		{"403 /admin/users GET user=u role=viewer", "valid by 2", event.App},
		{"403 /admin/users GET user=u role=admin", "refused breaks 3", event.App},
		{"403 /admin/users GET user=u role=viewer role=admin", "refused breaks 3", event.App},
		{"401 /admin/users GET user=u role=admin", "unauthorized", event.App}, // may sign in and come again
		{"200 /admin/users GET user=u role=viewer", "let in breaks 2", event.App},
		{"302 /admin/users GET user=u role=viewer", "let in", event.App}, // to the log-in
		{"500 /admin/users GET user=u role=viewer", "let in", event.App},
		{"204 /admin/users OPTIONS user=u role=viewer", "let in", event.App},
		{"200 /admin/users GET", "let in breaks 2 presumed", event.App},
		{"200 /admin/users GET user=u", "let in", event.App}, // whose role is not logged
		{"200 /admin/users GET", "let in", event.Web},
		{"403 /admin/users GET", "refused", event.Web},
		{"403 /beta GET user=u flag=beta flag=dark", "refused breaks 4", event.App},
		{"403 /beta GET user=u flag=dark", "refused", event.App},
		{"200 /embargo GET geo=KP", "let in breaks 5", event.Web},
		{"451 /embargo GET geo=KP", "valid by 5", event.Edge},
		{"200 /embargo GET geo=DE", "let in", event.Web},
	} {
		m := accessRules(t)
		var cfg *Config
		g := newRig(t, nil, func(c2 *Config) {
			c2.Access, c2.Vantage, c2.Denied[451] = m, c.vantage, true
			c2.NewParser = func(string, [][]byte) (parsers.Parser, error) { return peopleParser{}, nil }
			cfg = c2
		})
		g.clock.Move(1 << 62)
		if err := g.h.Batch(context.Background(), &ingest.Batch{Data: []byte("6000 " + c.line + "\n")}); err != nil {
			t.Fatal(err)
		}
		if err := g.h.CaughtUp(context.Background()); err != nil {
			t.Fatal(err)
		}
		g.drain()
		got := "let in"
		for class, n := range g.leaves[0].Denied {
			if n > 0 {
				got = event.Denial(class).String()
			}
		}
		explained := got
		for _, h := range g.hits {
			if h.Rule == 0 {
				continue
			}
			n, _ := m.Find(h.Rule)
			if h.Class == event.Valid {
				got += fmt.Sprint(" by ", n)
			} else {
				got += fmt.Sprint(" breaks ", n)
			}
			if h.Presumed {
				got += " presumed"
			}
			if leak := h.Class == event.NotDenied; leak != (g.leaves[0].Leaked == 1) || h.Denials != 1 || h.Named != strings.Contains(c.line, "user=") {
				t.Errorf("%s: hit %+v of %+v", c.line, h, g.leaves[0])
			}
		}
		if got != c.want {
			t.Errorf("%v %s: got %q, want %q", c.vantage, c.line, got, c.want)
		}
		if explained == "valid" && (len(g.hits) != 1 || g.hits[0].Class != event.Valid || len(g.splits) != 1) {
			t.Errorf("%s: a valid refusal has hits %v, splits %v", c.line, g.hits, g.splits)
		}
		var e event.Event
		e.Reset()
		if err := (peopleParser{}).Parse([]byte("6000 "+c.line), &e); err != nil {
			t.Fatal(err)
		}
		if x := cfg.Explain(&e); x.Denial != explained && !(x.Denial == "" && explained == "let in") {
			t.Errorf("%s is counted as %q and explained as %q", c.line, explained, x.Denial)
		}
	}
}

// TestAccessByLeaf: a verdict that is kept for a leaf is only used for events that it
// is true of.
func TestAccessByLeaf(t *testing.T) {
	m := accessRules(t)
	g := newRig(t, nil, func(c *Config) {
		c.Access, c.RolePriority = m, []string{"member"}
		c.NewParser = func(string, [][]byte) (parsers.Parser, error) { return peopleParser{}, nil }
	})
	g.clock.Move(1 << 62)
	lines := []string{
		"6000 200 /admin/users GET user=a role=member",            // leaks
		"6000 200 /admin/users GET user=b role=member role=admin", // of the same leaf, and may
		"6000 200 /admin/users OPTIONS user=c role=member",
		"6000 200 /admin/users GET user=d role=member", // leaks
		"6000 403 /admin/users GET user=d role=member", // valid
	}
	if err := g.h.Batch(context.Background(), &ingest.Batch{Data: []byte(strings.Join(lines, "\n") + "\n")}); err != nil {
		t.Fatal(err)
	}
	if err := g.h.CaughtUp(context.Background()); err != nil {
		t.Fatal(err)
	}
	g.drain()
	if len(g.leaves) != 1 || g.leaves[0].Leaked != 2 || g.leaves[0].Denied[event.Valid] != 1 || len(g.hits) != 3 || g.leaves[0].Status[tally.S2xx] != 4 {
		t.Fatalf("got %+v, %+v", g.leaves, g.hits)
	}
}

func TestAccessDoesNotAllocate(t *testing.T) {
	m := accessRules(t)
	g := newRig(t, nil, func(c *Config) {
		c.Access = m
		c.NewParser = func(string, [][]byte) (parsers.Parser, error) { return jsonish{}, nil }
	})
	g.clock.Move(1 << 62)
	b := &ingest.Batch{Data: []byte(strings.Repeat("x\n", 500)), End: ingest.Position{Offset: 1000}}
	g.steady(t, b)
}

// jsonish makes the same event of every line, whose verdict cannot be kept.
type jsonish struct{}

var (
	flagged                   = []byte("beta")
	betaPath, client, getVerb = []byte("/beta"), []byte("192.0.2.1"), []byte("GET")
)

func (jsonish) Parse(_ []byte, e *event.Event) error {
	e.Time, e.Status, e.Path, e.Client, e.Method = 6000e9, 403, betaPath, client, getVerb
	e.Flags = append(e.Flags, flagged)
	return nil
}

// TestRolesAreMissed: once, and only where rules name roles and an application's log,
// read far enough, shows none.
func TestRolesAreMissed(t *testing.T) {
	ctx := context.Background()
	anybody, bad := access.New([]access.Rule{{Route: []string{"/admin/**"}, Allow: "false"}})
	if len(bad) > 0 {
		t.Fatal(bad)
	}
	for name, x := range map[string]struct {
		rules   *access.Model
		vantage event.Vantage
		lines   int
		role    string
		want    int
	}{
		"no roles":             {accessRules(t), event.App, 2 * roleLines, "", 1},
		"roles":                {accessRules(t), event.App, 2 * roleLines, " role=member", 0},
		"too few lines":        {accessRules(t), event.App, roleLines / 2, "", 0},
		"a web server's log":   {accessRules(t), event.Web, 2 * roleLines, "", 0},
		"rules without a role": {anybody, event.App, 2 * roleLines, "", 0},
		"no rules":             {nil, event.App, 2 * roleLines, "", 0},
	} {
		t.Run(name, func(t *testing.T) {
			var log bytes.Buffer
			g := newRig(t, nil, func(c *Config) {
				c.Access, c.Vantage = x.rules, x.vantage
				c.NewParser = func(string, [][]byte) (parsers.Parser, error) { return peopleParser{}, nil }
				c.Log = slog.New(slog.NewTextHandler(&log, nil))
			})
			g.clock.Move(1 << 62)
			for i := range 4 {
				lines := make([]string, x.lines/4)
				for k := range lines {
					lines[k] = fmt.Sprintf("%d 200 /billing GET user=u%d", 600+60*i, k)
				}
				lines[0] += x.role
				if err := g.batch(ctx, lines...); err != nil {
					t.Fatal(err)
				}
				if err := g.h.CaughtUp(ctx); err != nil {
					t.Fatal(err)
				}
			}
			g.drain()
			if n := strings.Count(log.String(), "access rules name roles"); n != x.want {
				t.Errorf("it is told %d times:\n%s", n, log.String())
			}
		})
	}
}
