package email

import (
	"bytes"
	_ "embed" // the template
	"fmt"
	"html/template"
	"strings"
	"unicode"
	"unicode/utf8"

	"github.com/denywatch/denywatch/alerts"
	"github.com/denywatch/denywatch/internal/incident"
)

// page is what a message says, in plain text. The template escapes it for HTML.
type page struct {
	Subject  string
	Badge    string
	Colour   template.CSS // of the badge; never from outside
	Headline string
	Lead     []string // paragraphs
	Chart    string   // content id of the picture, if there is one
	Parts    []alerts.Part
	Check    string
	Link     string // where there is more, if anywhere
	Small    []string
}

//go:embed message.html
var messageHTML string

// Colours of badges, readable on white and on black.
const (
	red   template.CSS = "#d73a31"
	amber template.CSS = "#b7791f"
	green template.CSS = "#2e8b57"
)

// paragraphs joins texts to lines, and leaves out those that are empty.
func paragraphs(lines ...[]string) (out []string) {
	for _, parts := range lines {
		if s := strings.Join(strings.Fields(strings.Join(parts, " ")), " "); s != "" {
			out = append(out, s)
		}
	}
	return out
}

// ofIncident says a transition.
func ofIncident(t *incident.Transition) *page {
	x := alerts.Render(*t)
	p := &page{Badge: x.Badge, Colour: red, Headline: x.Headline, Check: x.Check}
	switch {
	case t.Incident.State == incident.Resolved:
		p.Colour = green
	case t.Incident.Severity == incident.Low, t.Incident.Severity == incident.Medium:
		p.Colour = amber
	}
	p.Subject = fmt.Sprintf("[%s] %s", x.Badge, x.Headline)
	switch t.Kind {
	case incident.Opened, incident.Reopened:
		p.Lead = paragraphs([]string{x.Reason, x.People, x.Contrast}, []string{x.Since, x.Layer, x.Sure})
	default:
		p.Lead = paragraphs([]string{x.StepSentence()}, []string{x.Reason, x.People, x.Back}, []string{x.Contrast}, []string{x.Since, x.Layer, x.Sure})
	}
	if x.Likely != "" {
		p.Parts = append(p.Parts, alerts.Part{Title: "Likely", Lines: []string{capital(x.Likely)}})
	}
	if x.Next != "" {
		p.Parts = append(p.Parts, alerts.Part{Title: "Next", Lines: []string{capital(x.Next)}})
	}
	p.Small = paragraphs([]string{x.Evidence, x.Note}, []string{strings.Join(x.Where, " · ")})
	return p
}

// capital begins a text of our own words with a capital.
func capital(s string) string {
	r, n := utf8.DecodeRuneInString(s)
	return string(unicode.ToUpper(r)) + s[n:]
}

// ofPost says a post.
func ofPost(post *alerts.Post) *page {
	return &page{Subject: post.Headline, Headline: post.Headline, Parts: post.Parts}
}

// text is the page as plain text.
func (p *page) text() string {
	var b strings.Builder
	para := func(s string) {
		if s != "" {
			b.WriteString(s + "\n\n")
		}
	}
	if p.Badge != "" {
		para("[" + p.Badge + "] " + p.Headline)
	} else {
		para(p.Headline)
	}
	for _, l := range p.Lead {
		para(l)
	}
	for _, part := range p.Parts {
		if part.Title != "" {
			b.WriteString(part.Title + ":\n")
		}
		for _, l := range part.Lines {
			b.WriteString("  " + l + "\n")
		}
		b.WriteByte('\n')
	}
	para(p.Check)
	para(p.Link)
	for _, l := range p.Small {
		para(l)
	}
	return strings.TrimRight(b.String(), "\n") + "\n"
}

// html is the page as HTML.
func (p *page) html(t *template.Template) (string, error) {
	var b bytes.Buffer
	if err := t.Execute(&b, p); err != nil {
		return "", err
	}
	return b.String(), nil
}
