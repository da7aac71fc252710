package slack

import (
	"slices"
	"strings"
	"unicode"
	"unicode/utf16"

	slackgo "github.com/slack-go/slack"

	"github.com/denywatch/denywatch/alerts"
	"github.com/denywatch/denywatch/internal/incident"
)

// The limits of Block Kit, in UTF-16 units (docs.slack.dev, reference/block-kit).
const (
	maxHeader  = 150
	maxSection = 3000
	maxField   = 2000
	maxText    = 4000 // the length that Slack recommends for text
)

// The colours of the bar beside the message.
const (
	colorUrgent = "#d92d20"
	colorMild   = "#f79009"
	colorOver   = "#12b76a"
)

// content is what a message shows, whole and as plain text.
type content struct {
	text   string // escaped
	blocks []slackgo.Block
	bar    []slackgo.Block
	color  string
}

// options are the library's for the whole content.
func (c *content) options() []slackgo.MsgOption {
	o := []slackgo.MsgOption{slackgo.MsgOptionText(c.text, false)}
	if c.blocks != nil {
		o = append(o, slackgo.MsgOptionBlocks(c.blocks...), slackgo.MsgOptionAttachments(c.attachments()...))
	}
	return o
}

// plain are the options for text only; they clear blocks of an edited message.
func (c *content) plain() []slackgo.MsgOption {
	return []slackgo.MsgOption{slackgo.MsgOptionText(c.text, false), slackgo.MsgOptionDisableMarkdown(),
		slackgo.MsgOptionBlocks(), slackgo.MsgOptionAttachments([]slackgo.Attachment{}...)}
}

func (c *content) attachments() []slackgo.Attachment {
	return []slackgo.Attachment{{Color: c.color, Blocks: slackgo.Blocks{BlockSet: c.bar}}}
}

// webhook is the whole content for an incoming webhook.
func (c *content) webhook() *slackgo.WebhookMessage {
	off := false
	return &slackgo.WebhookMessage{Text: c.text, Blocks: &slackgo.Blocks{BlockSet: c.blocks}, Attachments: c.attachments(),
		Parse: "none", UnfurlLinks: &off, UnfurlMedia: &off}
}

// card is the incident's message after t: what broke and for whom as header;
// beside the bar why we think so, since when, and what next.
func card(t incident.Transition) content {
	x := alerts.Style{Escape: mrkdwn}.Render(t)
	head := alerts.Style{Escape: plainValue}.Render(t).Headline
	c := content{color: colorMild}
	switch {
	case t.Kind == incident.ResolvedKind:
		c.color = colorOver
	case t.Incident.Severity == incident.Critical, t.Incident.Severity == incident.High:
		c.color = colorUrgent
	}
	no := false
	c.blocks = []slackgo.Block{slackgo.NewHeaderBlock(&slackgo.TextBlockObject{Type: slackgo.PlainTextType, Text: cut(head, maxHeader), Emoji: &no})}
	section := func(parts ...string) {
		if s := sentences(parts...); s != "" {
			c.bar = append(c.bar, slackgo.NewSectionBlock(markdown(s, maxSection), nil, nil))
		}
	}
	people := x.People
	if people != "" {
		people = "*" + strings.TrimSuffix(people, ".") + ".*"
	}
	step := ""
	if t.Kind == incident.ResolvedKind {
		step = "*" + x.StepSentence() + "*"
		people = ""
	}
	section(step, x.Reason, people, x.Back, x.Contrast)
	section(x.Since, x.Layer, x.Sure)
	var fields []*slackgo.TextBlockObject
	for _, f := range [][2]string{{"Likely", x.Likely}, {"Next", x.Next}} {
		if f[1] != "" {
			fields = append(fields, markdown("*"+f[0]+"*\n"+f[1], maxField))
		}
	}
	if fields != nil {
		c.bar = append(c.bar, slackgo.NewSectionBlock(nil, fields, nil))
	}
	if x.Check != "" {
		c.bar = append(c.bar, slackgo.NewSectionBlock(markdown("*For your tests*\n```\n"+controls(strings.ReplaceAll(x.Check, "`", "ˋ"))+"```", maxSection), nil, nil))
	}
	var tags []string
	if x.Badge != "" {
		tags = append(tags, x.Badge)
	}
	tags = append(tags, x.Where...)
	tags = append(tags, "incident "+mrkdwn(alerts.Clean(t.Incident.ID, 40)))
	if x.Note != "" {
		tags = append(tags, x.Note)
	}
	c.bar = append(c.bar, slackgo.NewContextBlock("", markdown(strings.Join(tags, " · "), maxSection)))

	flat := alerts.Style{Escape: controls}.Render(t)
	parts := []string{flat.Headline + ".", flat.Reason, flat.People, flat.Contrast, flat.Since, flat.Layer}
	if t.Kind == incident.ResolvedKind {
		parts = []string{flat.Headline + ".", flat.StepSentence()}
	} else if flat.Likely != "" {
		parts = append(parts, "Likely: "+flat.Likely+".")
	}
	if flat.Next != "" {
		parts = append(parts, "Next: "+flat.Next+".")
	}
	c.text = cut(sentences(parts...), maxText)
	return c
}

// threadLine is t as a line of the time line: "10:15 grew to 480 people".
func threadLine(t incident.Transition) content {
	x := alerts.Style{Escape: mrkdwn}.Render(t)
	return content{text: cut(x.Clock+" "+x.Step, maxText)}
}

func sentences(parts ...string) string {
	var b strings.Builder
	for _, p := range parts {
		if p == "" {
			continue
		}
		if b.Len() > 0 {
			b.WriteByte(' ')
		}
		b.WriteString(p)
	}
	return b.String()
}

// markdown is a text object in which nothing is linked of itself.
func markdown(s string, limit int) *slackgo.TextBlockObject {
	return &slackgo.TextBlockObject{Type: slackgo.MarkdownType, Text: cut(s, limit), Verbatim: true}
}

// cut cuts s to limit UTF-16 units, never inside a character or an entity.
func cut(s string, limit int) string {
	n := 0
	for i, r := range s {
		k := utf16.RuneLen(r)
		if k < 0 {
			k = 1
		}
		if n += k; n <= limit {
			continue
		}
		// Make room for the ellipsis.
		for i > 0 && len(utf16.Encode([]rune(s[:i]))) > limit-1 {
			i--
			for i > 0 && s[i]&0xc0 == 0x80 {
				i--
			}
		}
		if amp := strings.LastIndexByte(s[:i], '&'); amp >= 0 && !strings.Contains(s[amp:i], ";") && i-amp < len("&amp;") {
			i = amp
		}
		return s[:i] + "…"
	}
	return s
}

// controls escapes the three characters that begin Slack's control sequences
// (links, mentions, dates; docs.slack.dev, formatting message text).
var controlEscaper = strings.NewReplacer("&", "&amp;", "<", "&lt;", ">", "&gt;")

func controls(s string) string { return controlEscaper.Replace(s) }

// plainValue is for plain_text objects, where nothing is escaped: angle brackets
// become look-alikes, so that no client can take them for a control sequence.
func plainValue(s string) string { return plainReplacer.Replace(s) }

var plainReplacer = strings.NewReplacer("<", "‹", ">", "›")

// mrkdwn makes a value inert in Slack's markup. Slack has no way to escape its
// formatting characters, so where one could begin or end formatting a look-alike
// stands for it; a '_' inside a word ("billing_admin") is left alone, for Slack
// leaves it alone too.
func mrkdwn(s string) string {
	rs := []rune(s)
	var b strings.Builder
	b.Grow(len(s) + 8)
	for i, r := range rs {
		switch r {
		case '&':
			b.WriteString("&amp;")
		case '<':
			b.WriteString("&lt;")
		case '>':
			if i == 0 {
				b.WriteRune('›') // would begin a quotation
			} else {
				b.WriteString("&gt;")
			}
		case '*':
			b.WriteRune('∗')
		case '~':
			b.WriteRune('∼')
		case '`':
			b.WriteRune('ˋ')
		case ':':
			if slices.Contains(rs[i+1:], ':') {
				b.WriteRune('꞉') // could begin an emoji's name
			} else {
				b.WriteRune(r)
			}
		case '_':
			if i > 0 && i+1 < len(rs) && word(rs[i-1]) && word(rs[i+1]) {
				b.WriteRune(r)
			} else {
				b.WriteRune('ˍ')
			}
		case '@', '#':
			// A word joiner keeps a name from following the sign.
			b.WriteRune(r)
			b.WriteRune('\u2060')
		default:
			b.WriteRune(r)
		}
	}
	return b.String()
}

func word(r rune) bool { return unicode.IsLetter(r) || unicode.IsDigit(r) || r == '_' }
