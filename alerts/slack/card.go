package slack

import (
	"regexp"
	"slices"
	"strings"
	"time"
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
	colorQuiet  = "#98a2b3"
)

// content is what a message shows, whole and as plain text.
type content struct {
	text   string // escaped
	blocks []slackgo.Block
	bar    []slackgo.Block
	color  string
	file   string // of the picture, if there is one
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

// without is the content without its picture.
func (c *content) without() *content {
	o := *c
	o.file = ""
	o.bar = slices.DeleteFunc(slices.Clone(c.bar), func(b slackgo.Block) bool { return b.BlockType() == slackgo.MBTImage })
	return &o
}

// mentionID is what Slack calls user groups (S) and users (U, W).
var mentionID = regexp.MustCompile(`^[SUW][A-Z0-9]{5,20}$`)

// mention calls user groups and users by name.
func (c *content) mention(ids []string) {
	var calls []string
	for _, id := range ids {
		switch {
		case !mentionID.MatchString(id):
		case id[0] == 'S':
			calls = append(calls, "<!subteam^"+id+">")
		default:
			calls = append(calls, "<@"+id+">")
		}
	}
	if len(calls) == 0 {
		return
	}
	s := strings.Join(calls[:min(len(calls), maxMentions)], " ")
	c.text = s + " " + c.text
	if c.blocks != nil {
		c.blocks = append(c.blocks, slackgo.NewSectionBlock(markdown(s, maxSection), nil, nil))
	}
}

// maxMentions bounds those who are called at once.
const maxMentions = 20

func (c *content) attachments() []slackgo.Attachment {
	if c.bar == nil {
		return nil
	}
	return []slackgo.Attachment{{Color: c.color, Blocks: slackgo.Blocks{BlockSet: c.bar}}}
}

// webhook is the whole content for an incoming webhook.
func (c *content) webhook() *slackgo.WebhookMessage {
	off := false
	return &slackgo.WebhookMessage{Text: c.text, Blocks: &slackgo.Blocks{BlockSet: c.blocks}, Attachments: c.attachments(),
		Parse: "none", UnfurlLinks: &off, UnfurlMedia: &off}
}

// altText says what the picture is to those who do not see it.
const altText = "Share of requests refused over time, against its usual range"

// card is the incident's message after t: what broke and for whom as header, beside the
// bar why we think so, since when, the picture file, what next, and buttons.
func (n *Notifier) card(t incident.Transition, file string) content {
	in := &t.Incident
	x := alerts.Style{Escape: mrkdwn}.Render(t)
	head := alerts.Style{Escape: plainValue}.Render(t).Headline
	over := in.State == incident.Resolved || t.Kind == incident.ResolvedKind
	c := content{color: colorMild, file: file}
	switch {
	case over && in.Resolution == incident.Merged:
		c.color = colorQuiet
	case over:
		c.color = colorOver
	case in.Silenced != nil:
		c.color = colorQuiet
	case in.Severity == incident.Critical, in.Severity == incident.High:
		c.color = colorUrgent
	}
	c.blocks = []slackgo.Block{header(head)}
	section := func(parts ...string) {
		if s := sentences(parts...); s != "" {
			c.bar = append(c.bar, slackgo.NewSectionBlock(markdown(s, maxSection), nil, nil))
		}
	}
	small := func(parts ...string) {
		if s := strings.Join(slices.DeleteFunc(parts, func(s string) bool { return s == "" }), " · "); s != "" {
			c.bar = append(c.bar, slackgo.NewContextBlock("", markdown(s, maxSection)))
		}
	}
	badge := x.Badge
	if badge != "" {
		badge = "*" + badge + "*"
	}
	small(append([]string{badge}, x.Where...)...)
	people := x.People
	if people != "" {
		people = "*" + strings.TrimSuffix(people, ".") + ".*"
	}
	step := ""
	if over {
		step = "*" + x.StepSentence() + "*"
		people = ""
	}
	section(step, x.Reason, people, x.Back, x.Contrast)
	section(x.Since, x.Layer)
	if file != "" {
		alt := cut(sentences(altText+".", alerts.Style{Escape: plainValue}.Render(t).Reason), maxField)
		c.bar = append(c.bar, slackgo.NewImageBlockSlackFile(&slackgo.SlackFileObject{ID: file}, alt, "", nil))
	}
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
	small(x.Evidence, strings.TrimSuffix(x.Sure, "."), x.Note, "incident "+mrkdwn(alerts.Clean(in.ID, 40)))
	if !over {
		section(acted("Acknowledged", in.Acknowledged, t), acted("Silenced", in.Silenced, t))
	}
	c.bar = append(c.bar, n.buttons(in, over)...)

	flat := alerts.Style{Escape: controls}.Render(t)
	parts := []string{flat.Headline + ".", flat.Reason, flat.People, flat.Contrast, flat.Since, flat.Layer}
	if over {
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

func header(s string) *slackgo.HeaderBlock {
	no := false
	return slackgo.NewHeaderBlock(&slackgo.TextBlockObject{Type: slackgo.PlainTextType, Text: cut(s, maxHeader), Emoji: &no})
}

// maxActor bounds a person's name, in runes.
const maxActor = 40

// acted says who did what and when, empty for nobody.
func acted(what string, a *incident.Act, t incident.Transition) string {
	if a == nil {
		return ""
	}
	s := "*" + what + "*"
	if a.By != "" {
		s += " by " + mrkdwn(alerts.Clean(a.By, maxActor))
	}
	clock := func(at time.Time) string {
		at = at.UTC()
		if at.Truncate(24 * time.Hour).Equal(t.At.UTC().Truncate(24 * time.Hour)) {
			return at.Format("15:04 MST")
		}
		return at.Format("2 Jan 15:04 MST")
	}
	s += ", " + clock(a.At)
	if !a.Until.IsZero() {
		s += ", until " + clock(a.Until)
	}
	return s + "."
}

// The limits of a post: sections, and lines of one.
const maxParts = 40

// postCard is a post: a headline and parts with titles.
func postCard(p *alerts.Post) content {
	c := content{blocks: []slackgo.Block{header(plainValue(alerts.Clean(p.Headline, maxHeader)))}}
	all := []string{controls(p.Headline)}
	for i, part := range p.Parts {
		var lines []string
		if part.Title != "" {
			lines = append(lines, "*"+mrkdwn(part.Title)+"*")
			all = append(all, controls(part.Title))
		}
		for _, l := range part.Lines {
			lines = append(lines, mrkdwn(l))
			all = append(all, controls(l))
		}
		if i < maxParts && len(lines) > 0 {
			c.blocks = append(c.blocks, slackgo.NewSectionBlock(markdown(strings.Join(lines, "\n"), maxSection), nil, nil))
		}
	}
	c.text = cut(strings.Join(all, "\n"), maxText)
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
