package slack

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	slackgo "github.com/slack-go/slack"

	"github.com/denywatch/denywatch/alerts"
)

// Test implements alerts.Tester: it posts a message and deletes it again, and tries what
// else the app may be asked for, scope by scope. Nothing is left in the channel, unless
// the message comes through an incoming webhook, or cannot be deleted.
func (n *Notifier) Test(ctx context.Context, target string) (string, error) {
	d := &alerts.Delivery{Dest: alerts.Dest{Target: target}, QueuedAt: time.Now(), Post: &alerts.Post{ID: "test", At: time.Now().UTC(), Headline: alerts.TestText}}
	c := postCard(d.Post)
	if n.api == nil {
		if err := n.postHook(ctx, d, c); err != nil {
			return "", err
		}
		return "posted a test message, which an incoming webhook cannot delete", nil
	}
	who, err := n.api.AuthTestContext(ctx)
	if err != nil {
		return "", classify(err)
	}
	channel, ts, err := n.send(ctx, d, n.target(d), c, partPost, slackgo.MsgOptionPost())
	if err != nil {
		return "", err
	}
	n.learn(d, channel)
	did := []string{"posted as " + alerts.Clean(who.User, maxActor) + " in " + alerts.Clean(who.Team, maxActor)}
	var bad []error
	try := func(err error, works, otherwise string) {
		if err == nil {
			did = append(did, works)
			return
		}
		bad = append(bad, fmt.Errorf("%s: %w", otherwise, classify(err)))
	}
	_, err = n.api.GetConversationHistoryContext(ctx, &slackgo.GetConversationHistoryParameters{ChannelID: channel, Limit: 1})
	try(err, "the channel can be searched", "the channel cannot be searched, so that a message may come twice when the connection broke")
	if name, isName := strings.CutPrefix(n.channelName(d), "#"); isName {
		list := func(kind string) error {
			_, _, err := n.api.GetConversationsContext(ctx, &slackgo.GetConversationsParameters{Limit: 1, ExcludeArchived: true, Types: []string{kind}})
			return err
		}
		try(list("public_channel"), "channels are found by name", "the channel "+alerts.Clean(name, maxChannelName)+" cannot be found by its name for that; or configure its id")
		if code(list("private_channel")) == "missing_scope" { // which who has none may leave out
			did = append(did, "private ones are not, without the scope groups:read")
		}
	}
	_, err = n.api.GetUploadURLExternalContext(ctx, slackgo.GetUploadURLExternalParameters{FileName: "test.png", FileSize: 1, AltTxt: altText})
	try(err, "pictures can be sent", "messages have no picture")
	switch {
	case n.conf.AppToken != "":
		_, _, err = n.conf.api("", n.client, n.opt.Pace, slackgo.OptionAppLevelToken(n.conf.AppToken.Reveal())).StartSocketModeContext(ctx)
		try(classifyApp(err), "clicks on buttons come in", "clicks on buttons do not come in")
	case n.conf.SigningSecret != "":
		did = append(did, "whether Slack reaches POST /v1/slack/interactions only a click can tell")
	default:
		did = append(did, "without app_token or signing_secret there are no buttons")
	}
	if _, _, err = n.api.DeleteMessageContext(ctx, channel, ts); err == nil {
		did = append(did, "deleted the message")
	} else {
		_, _, _, uerr := n.api.SendMessageContext(ctx, channel, slackgo.MsgOptionUpdate(ts), slackgo.MsgOptionText(alerts.TestText+" (over)", false), slackgo.MsgOptionParse(false), slackgo.MsgOptionBlocks())
		try(errors.Join(err, uerr), "", "the message could not be deleted; it says that it was a test")
	}
	return strings.Join(did, "; "), errors.Join(bad...)
}
