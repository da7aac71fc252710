package alerts_test

import (
	"strings"
	"testing"

	"github.com/denywatch/denywatch/alerts"
	"github.com/denywatch/denywatch/internal/incident"
)

// TestTemplates: a template's text replaces the default one, is escaped as values are,
// and leaves the default where it fails.
func TestTemplates(t *testing.T) {
	tr := step("a1", 1, incident.Opened)
	tr.Incident.Journey, tr.Incident.Scope.Role = "Upgrade", "member<!channel>"
	over := tr
	over.Kind, over.Incident.State, over.Incident.Resolution = incident.ResolvedKind, incident.Resolved, incident.Recovered
	for _, c := range []struct {
		t    alerts.Templates
		tr   incident.Transition
		want string // headline | reason | next
	}{
		{alerts.Templates{}, tr, "/billing/upgrade refuses role member&lt;!channel> | None of their requests are refused (usually none). | compare the permission check of this route before and after 10:08"},
		{alerts.Templates{Headline: "{{.Journey}}: {{.Role}} < {{.Identities}}\n*{{.Severity}}*"}, tr,
			"Upgrade: member&lt;!channel> &lt; 100 *high* | None of their requests are refused (usually none). | compare the permission check of this route before and after 10:08"},
		{alerts.Templates{Headline: "{{if .Over}}Done{{else}}{{.Headline}}!{{end}}", Reason: "{{.Kind}} {{.Rate}}", Next: "{{.Next}}, <here>"}, tr,
			"/billing/upgrade refuses role member&lt;!channel>! | opened 0 % | compare the permission check of this route before and after 10:08, &lt;here>"},
		{alerts.Templates{Headline: "{{if .Over}}Done{{else}}{{.Headline}}!{{end}}", Next: "Do it"}, over, "Done | None of their requests were refused (usually none). | "},
		{alerts.Templates{Headline: "{{slice .Headline 0 20}}"}, step("a1", 1, incident.Opened), "/billing/upgrade ref | None of their requests are refused (usually none). | compare the permission check of this route before and after 10:08"},
	} {
		if err := c.t.Validate(); err != nil {
			t.Errorf("%+v: %v", c.t, err)
		}
		c.tr.Words = alerts.NewWording(c.t).Words(&c.tr)
		x := alerts.Style{Escape: strings.NewReplacer("<", "&lt;").Replace}.Render(c.tr)
		if got := x.Headline + " | " + x.Reason + " | " + x.Next; got != c.want {
			t.Errorf("%+v\ngot  %s\nwant %s", c.t, got, c.want)
		}
	}
}

func TestBadTemplates(t *testing.T) {
	for bad, want := range map[string]string{
		"{{.Headline":                      "unclosed action",
		"{{.Nobody}}":                      "can't evaluate field Nobody",
		"{{range 10000}}0123456789{{end}}": "it writes too much",
		"{{index .Headline 9999}}":         "out of range",
		"{{if .Over}}x{{end}}":             "writes nothing for an incident that opened",
		strings.Repeat("x", 5000):          "longer than",
	} {
		err := (&alerts.Templates{Headline: bad}).Validate()
		if err == nil || !strings.HasPrefix(err.Error(), "headline: ") || !strings.Contains(err.Error(), want) || strings.Contains(err.Error(), "\n") {
			t.Errorf("%.40q: %v, want %q", bad, err, want)
		}
	}
}

// TestTemplatesAreHarmless: whatever logs hold, what templates make of it is one clean,
// bounded line.
func TestTemplatesAreHarmless(t *testing.T) {
	w := alerts.NewWording(alerts.Templates{Headline: "{{.Route}}{{.Role}}{{.Team}}\n{{.Headline}}{{.Headline}}{{.Headline}}", Next: "{{.Version}}\u202e"})
	for _, v := range nasty {
		tr := fill(v)
		tr.Words = w.Words(&tr)
		checkHarmless(t, "template", alerts.Render(tr))
	}
}
