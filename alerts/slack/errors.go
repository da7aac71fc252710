package slack

import (
	"errors"
	"fmt"
	"strings"

	slackgo "github.com/slack-go/slack"

	"github.com/denywatch/denywatch/alerts"
)

// errGone marks that the message or thread does not exist any more.
var errGone = errors.New("the message was deleted")

func gone(err error) bool { return errors.Is(err, errGone) }

// code returns Slack's error code, empty if err is none of Slack's.
func code(err error) string {
	if r, ok := errors.AsType[slackgo.SlackErrorResponse](err); ok {
		return r.Err
	}
	return ""
}

// mayNotLook tells whether err keeps the bot from reading a channel that it may post to.
// What keeps it from both passes, or is mended, before anything is posted again.
func mayNotLook(err error) bool {
	switch code(err) {
	case "missing_scope", "no_permission", "access_denied", "not_in_channel", "method_not_supported_for_channel_type":
		return true
	}
	return false
}

// isPayload tells whether Slack objects to the message itself, so that a plainer
// one may do.
func isPayload(err error) bool {
	switch code(err) {
	case "invalid_blocks", "invalid_blocks_format", "invalid_attachments", "too_many_attachments", "msg_too_long",
		"msg_blocks_too_long", "no_text", "invalid_arguments", "invalid_arg_name", "invalid_array_arg", "invalid_charset",
		"invalid_metadata_format", "invalid_metadata_schema", "metadata_too_large", "markdown_text_conflict":
		return true
	}
	return false
}

// mend says how to mend what makes Slack refuse everything (error codes of
// docs.slack.dev, methods chat.postMessage and chat.update).
var mend = map[string]string{
	"invalid_auth":                             "the token is not valid; copy the Bot User OAuth Token from the app's page again",
	"not_authed":                               "the token is missing; give the app's Bot User OAuth Token",
	"token_revoked":                            "the token was revoked; install the app again and use its new token",
	"token_expired":                            "the token has expired; use a token without rotation, or the new one",
	"account_inactive":                         "the app or its workspace was deactivated; install the app again",
	"not_allowed_token_type":                   "the token is of the wrong kind; use the Bot User OAuth Token (xoxb-...)",
	"no_permission":                            "the token lacks permissions; install the app again with the scopes of configs/deploy/slack-manifest.yaml",
	"access_denied":                            "access is denied; ask an administrator of the workspace to approve the app",
	"team_access_not_granted":                  "the app has no access to this workspace; ask an administrator to approve it",
	"org_login_required":                       "the organisation is being moved; ask an administrator of the workspace",
	"ekm_access_denied":                        "an administrator has suspended posting; ask one of the workspace",
	"channel_not_found":                        "the channel does not exist or the bot cannot see it; check the name, and invite the bot: /invite @denywatch",
	"not_in_channel":                           "the bot is not in the channel; invite it there: /invite @denywatch",
	"is_archived":                              "the channel is archived; unarchive it or choose another",
	"restricted_action":                        "a rule of the workspace keeps the bot from posting; ask an administrator",
	"restricted_action_read_only_channel":      "the channel is read-only; let the bot post there or choose another",
	"restricted_action_thread_only_channel":    "the channel allows replies only; choose another",
	"restricted_action_non_threadable_channel": "the channel allows no threads; choose another",
	"restricted_action_thread_locked":          "the thread is locked; unlock it",
	"posting_to_channel_denied":                "a rule of the channel keeps the bot from posting; let it post there or choose another",
	"enterprise_is_restricted":                 "the app may not be used across the organisation; install it in the workspace of the channel",
	"two_factor_setup_required":                "the workspace demands two-factor authentication of who installed the app; set it up",
	"accesslimited":                            "the workspace limits who may use it; ask an administrator",
	"team_added_to_org":                        "the workspace is being moved into an organisation; try again in a while",
	"file_uploads_disabled":                    "an administrator has turned off uploads of files; ask for them",
	"messages_tab_disabled":                    "the app's Messages tab is off; turn it on or choose a channel",
	"method_not_supported_for_channel_type":    "the channel is of a kind that the bot cannot use; choose another",
}

// mendApp says the same of app_token, which only the connection for clicks uses (error
// codes of apps.connections.open).
var mendApp = map[string]string{ //nolint:gosec // words about tokens are none
	"invalid_auth":           "app_token is not valid; copy the App-Level Token from the app's page (Basic Information) again",
	"not_authed":             "app_token is missing; give the App-Level Token of the app's page (Basic Information)",
	"token_revoked":          "app_token was revoked; generate another on the app's page (Basic Information)",
	"not_allowed_token_type": "app_token is of the wrong kind; use an App-Level Token (xapp-...)",
	"no_permission":          "app_token lacks the scope connections:write; generate one with it",
	"missing_scope":          "app_token lacks the scope connections:write; generate one with it on the app's page (Basic Information)",
	"forbidden_team":         "the app may not be used in this workspace; ask an administrator",
}

// classifyApp is classify for calls with app_token.
func classifyApp(err error) error {
	if c := code(err); mendApp[c] != "" {
		return &alerts.Error{Kind: alerts.Misconfigured, Refused: true, Err: fmt.Errorf("slack: %s: %s", c, mendApp[c])}
	}
	return classify(err)
}

// classify says what to do about an error of a call; nil stays nil. The result
// holds no token, no URL and nothing of the message.
func classify(err error) error {
	if err == nil {
		return nil
	}
	if e, ok := errors.AsType[*alerts.Error](err); ok {
		return &alerts.Error{Kind: e.Kind, RetryAfter: e.RetryAfter, Refused: e.Refused, Err: fmt.Errorf("slack: %w", e.Err)}
	}
	if r, ok := errors.AsType[*slackgo.RateLimitedError](err); ok {
		return &alerts.Error{Kind: alerts.Temporary, RetryAfter: r.RetryAfter, Refused: true, Err: errors.New("slack: too many requests")}
	}
	r, ok := errors.AsType[slackgo.SlackErrorResponse](err)
	if !ok {
		// The answer was cut off or is no JSON; the call may have worked.
		return &alerts.Error{Kind: alerts.Temporary, Err: errors.New("slack: the answer cannot be read")}
	}
	c := alerts.Clean(r.Err, 60)
	e := &alerts.Error{Refused: true, Err: fmt.Errorf("slack: %s: https://docs.slack.dev/reference/methods says what it means", c)}
	switch {
	case r.Err == "message_not_found", r.Err == "thread_not_found", r.Err == "cant_update_message", r.Err == "edit_window_closed",
		r.Err == "cannot_reply_to_message":
		e.Kind, e.Err = alerts.Temporary, fmt.Errorf("slack: %s: %w", c, errGone)
	case r.Err == "missing_scope":
		e.Kind = alerts.Misconfigured
		needed := "scopes of configs/deploy/slack-manifest.yaml"
		if r.Needed != "" {
			needed = "scope " + strings.ReplaceAll(alerts.Clean(r.Needed, 100), ",", " or ")
		}
		e.Err = fmt.Errorf("slack: missing_scope: add the %s to the app and install it again", needed)
	case mend[r.Err] != "":
		e.Kind, e.Err = alerts.Misconfigured, fmt.Errorf("slack: %s: %s", c, mend[r.Err])
	case isPayload(err):
		e.Kind, e.Err = alerts.Permanent, fmt.Errorf("slack: %s: Slack does not take the message; that is a mistake of denywatch, please report it", c)
	case r.Err == "fatal_error", r.Err == "internal_error", r.Err == "request_timeout", r.Err == "service_unavailable":
		// "Some aspect of the operation may have succeeded", say the docs.
		e.Refused, e.Err = false, fmt.Errorf("slack: %s: Slack has trouble of its own; try again in a while", c)
	}
	return e
}
