package slack

import (
	"regexp"
	"strings"
	"time"

	slackgo "github.com/slack-go/slack"

	"github.com/denywatch/denywatch/alerts"
	"github.com/denywatch/denywatch/internal/incident"
)

// The names of what can be clicked. A button's value is the incident's id; of a choice
// it is the id and, after a space, for how long, or which other incident.
const (
	actionPrefix      = "denywatch_"
	actionAcknowledge = actionPrefix + "acknowledge"
	actionSilence     = actionPrefix + "silence"
	actionUnsilence   = actionPrefix + "unsilence"
	actionAccept      = actionPrefix + "accept"
	actionDismiss     = actionPrefix + "dismiss"
	actionReopen      = actionPrefix + "reopen"
	actionMerge       = actionPrefix + "merge"
)

// blockPrefix and the incident's id are the name of the block with the buttons: Slack says
// it when it asks which incidents can be chosen.
const blockPrefix = "denywatch/"

// silences are the times that can be chosen.
var silences = []struct {
	words string
	span  time.Duration
}{{"Silence for 1 hour", time.Hour}, {"Silence for 24 hours", 24 * time.Hour}}

// incidentID is what an incident may be called in a button.
var incidentID = regexp.MustCompile(`^[0-9A-Za-z_-]{1,64}$`)

// buttons are what can be done about an incident.
func (n *Notifier) buttons(in *incident.Incident, over bool) []slackgo.Block {
	if n.conf.AppToken == "" && n.conf.SigningSecret == "" || n.api == nil || !incidentID.MatchString(in.ID) {
		return nil
	}
	if over {
		words := "It was a problem after all"
		switch in.Resolution {
		case incident.Recovered:
			words = "It is not over"
		case incident.Merged:
			words = "It is another problem"
		}
		return []slackgo.Block{slackgo.NewActionBlock("", slackgo.NewButtonBlockElement(actionReopen, in.ID, label(words)))}
	}
	var es []slackgo.BlockElement
	button := func(action, words string) *slackgo.ButtonBlockElement {
		b := slackgo.NewButtonBlockElement(action, in.ID, label(words))
		es = append(es, b)
		return b
	}
	if in.Acknowledged == nil {
		button(actionAcknowledge, "Acknowledge").Style = slackgo.StylePrimary
	}
	if in.Silenced != nil {
		button(actionUnsilence, "End silence")
	} else {
		var options []*slackgo.OptionBlockObject
		for _, s := range silences {
			options = append(options, slackgo.NewOptionBlockObject(in.ID+" "+s.span.String(), label(s.words), nil))
		}
		es = append(es, slackgo.NewOptionsSelectBlockElement(slackgo.OptTypeStatic, label("Silence"), actionSilence, options...))
	}
	button(actionAccept, "This is the new normal").Confirm = sure("The new normal?",
		"denywatch takes today's rate as usual from now on, and tells you only of what goes beyond it. For a day you can take it back here.")
	button(actionDismiss, "Not a problem").Confirm = sure("Not a problem?",
		"The incident ends and counts as a false alert; its rate is usual from now on. For a day you can take it back here.")
	merge := slackgo.NewOptionsSelectBlockElement(slackgo.OptTypeExternal, label("Part of …"), actionMerge)
	least := 0
	merge.MinQueryLength = &least
	es = append(es, merge)
	return []slackgo.Block{slackgo.NewActionBlock(blockPrefix+in.ID, es...)}
}

func label(s string) *slackgo.TextBlockObject {
	return slackgo.NewTextBlockObject(slackgo.PlainTextType, s, false, false)
}

// sure asks again before what changes what is normal.
func sure(title, text string) *slackgo.ConfirmationBlockObject {
	return slackgo.NewConfirmationBlockObject(label(title), label(text), label("Yes"), label("Cancel"))
}

// decision is what a click asks for.
type decision struct {
	incident string
	verb     incident.Verb
	span     time.Duration // of a silence
	other    string        // of a merge
}

// decide reads a click; ok is false for what is none of ours.
func decide(a *slackgo.BlockAction) (d decision, ok bool) {
	id := a.Value
	switch a.ActionID {
	case actionAcknowledge:
		d.verb = incident.Acknowledge
	case actionUnsilence:
		d.verb = incident.Unsilence
	case actionAccept:
		d.verb = incident.Accept
	case actionDismiss:
		d.verb = incident.Dismiss
	case actionReopen:
		d.verb = incident.Reopen
	case actionSilence:
		var span string
		id, span, _ = strings.Cut(a.SelectedOption.Value, " ")
		d.verb = incident.Silence
		for _, s := range silences {
			if s.span.String() == span {
				d.span = s.span
			}
		}
		if d.span == 0 {
			return d, false
		}
	case actionMerge:
		id, d.other, _ = strings.Cut(a.SelectedOption.Value, " ")
		d.verb = incident.Merge
		if !incidentID.MatchString(d.other) {
			return d, false
		}
	default:
		return d, false
	}
	d.incident = id
	return d, incidentID.MatchString(id)
}

const (
	// maxChoices bounds the incidents to choose from: Slack drops longer answers without
	// a word. Who looks for another types a part of it.
	maxChoices = 40
	// maxChoice is Slack's limit for one of them, in UTF-16 units.
	maxChoice = 75
)

// offer is what there is to choose from; the library's own leaves an empty list out.
type offer struct {
	Options []*slackgo.OptionBlockObject `json:"options"`
}

// choices are the incidents that one can be merged into, those whose text holds what was
// typed.
func choices(id string, list []incident.Incident, typed string) *offer {
	out := &offer{Options: []*slackgo.OptionBlockObject{}}
	for i := range list {
		in := &list[i]
		head := alerts.Style{Escape: plainValue}.Render(incident.Transition{Kind: incident.Opened, At: in.OpenedAt, Incident: *in}).Headline
		if !incidentID.MatchString(in.ID) || !strings.Contains(strings.ToLower(head+" "+in.ID), strings.ToLower(typed)) {
			continue
		}
		end := " · " + in.ID
		words := label(cut(head, maxChoice-len([]rune(end))) + end)
		if out.Options = append(out.Options, slackgo.NewOptionBlockObject(id+" "+in.ID, words, nil)); len(out.Options) == maxChoices {
			break
		}
	}
	return out
}
