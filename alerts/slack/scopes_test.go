package slack_test

import (
	"context"
	"encoding/json"
	"go/ast"
	"go/parser"
	"go/token"
	"maps"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	slackgo "github.com/slack-go/slack"
	"go.yaml.in/yaml/v4"

	"github.com/denywatch/denywatch/alerts"
	"github.com/denywatch/denywatch/alerts/slack"
	"github.com/denywatch/denywatch/alerts/slack/slackfake"
	"github.com/denywatch/denywatch/internal/incident"
)

// methods are the calls of the client library that the sink makes: which methods of the
// Web API they are, and the scopes that docs.slack.dev/reference/methods lists for each,
// for public and for private channels; a bot is in no other conversations.
var methods = map[string]struct{ names, scopes []string }{
	"AuthTestContext":               {[]string{"auth.test"}, nil},
	"SendMessageContext":            {[]string{"chat.postMessage", "chat.update"}, []string{"chat:write"}},
	"DeleteMessageContext":          {[]string{"chat.delete"}, []string{"chat:write"}},
	"GetUploadURLExternalContext":   {[]string{"files.getUploadURLExternal"}, []string{"files:write"}},
	"CompleteUploadExternalContext": {[]string{"files.completeUploadExternal"}, []string{"files:write"}},
	"DeleteFileContext":             {[]string{"files.delete"}, []string{"files:write"}},
	"GetConversationsContext":       {[]string{"conversations.list"}, []string{"channels:read", "groups:read"}},
	"GetConversationHistoryContext": {[]string{"conversations.history"}, []string{"channels:history", "groups:history"}},
	"GetConversationRepliesContext": {[]string{"conversations.replies"}, []string{"channels:history", "groups:history"}},
	"StartSocketModeContext":        {[]string{"apps.connections.open"}, []string{appScope}},
}

// appScope is that of the app-level token, which no manifest can ask for.
const appScope = "connections:write"

// called are the calls that the sink's source makes.
func called(t *testing.T) map[string]bool {
	t.Helper()
	client := reflect.TypeFor[*slackgo.Client]()
	found := map[string]bool{}
	files, err := filepath.Glob("*.go")
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range files {
		if strings.HasSuffix(name, "_test.go") {
			continue
		}
		f, err := parser.ParseFile(token.NewFileSet(), name, nil, 0)
		if err != nil {
			t.Fatal(err)
		}
		ast.Inspect(f, func(n ast.Node) bool {
			if s, ok := n.(*ast.SelectorExpr); ok && strings.HasSuffix(s.Sel.Name, "Context") {
				if _, ok := client.MethodByName(s.Sel.Name); ok {
					found[s.Sel.Name] = true
				}
			}
			return true
		})
	}
	return found
}

// TestManifest: the app that the README lets people make has the scopes that the sink's
// calls need, and no other; what needs the app-level token's says so.
func TestManifest(t *testing.T) {
	raw, err := os.ReadFile("../../configs/deploy/slack-manifest.yaml")
	if err != nil {
		t.Fatal(err)
	}
	var manifest struct {
		OAuth struct {
			Scopes map[string][]string `yaml:"scopes"`
		} `yaml:"oauth_config"`
		Settings struct {
			Interactivity struct {
				Enabled bool `yaml:"is_enabled"`
			} `yaml:"interactivity"`
			SocketMode bool `yaml:"socket_mode_enabled"`
		} `yaml:"settings"`
	}
	if err := yaml.Unmarshal(raw, &manifest); err != nil {
		t.Fatal(err)
	}
	calls, need := called(t), map[string]bool{}
	for name := range calls {
		m, ok := methods[name]
		if !ok {
			t.Errorf("nobody says which scopes %s needs", name)
		}
		for _, s := range m.scopes {
			need[s] = true
		}
	}
	for name := range methods {
		if !calls[name] {
			t.Errorf("%s is not called any more: drop it, and its scopes if nothing else needs them", name)
		}
	}
	if !need[appScope] || !strings.Contains(string(raw), appScope) {
		t.Errorf("nothing says that app_token needs the scope %s", appScope)
	}
	delete(need, appScope)
	got := slices.Sorted(slices.Values(manifest.OAuth.Scopes["bot"]))
	if want := slices.Sorted(maps.Keys(need)); !slices.Equal(got, want) || len(manifest.OAuth.Scopes) != 1 {
		t.Errorf("the manifest asks for %v, the calls need %v", manifest.OAuth.Scopes, want)
	}
	if !manifest.Settings.Interactivity.Enabled || !manifest.Settings.SocketMode {
		t.Errorf("buttons do not work: %+v", manifest.Settings)
	}
	readme, err := os.ReadFile("../../README.md")
	if err != nil {
		t.Fatal(err)
	}
	for _, s := range []string{"configs/deploy/slack-manifest.yaml", appScope, "/invite @denywatch", "check --send-test"} {
		if !strings.Contains(string(readme), s) {
			t.Errorf("the README does not mention %s", s)
		}
	}
}

// TestFakeKnowsTheScopes: the fake takes every method that is called, and no other
// scopes than Slack.
func TestFakeKnowsTheScopes(t *testing.T) {
	s := slackfake.New(t)
	all := map[string]bool{}
	for _, m := range methods {
		for _, sc := range m.scopes {
			all[sc] = true
		}
	}
	s.Without(slices.Collect(maps.Keys(all))...)
	for _, m := range methods {
		for _, name := range m.names {
			tok := slackfake.Token
			if name == "apps.connections.open" {
				tok = slackfake.AppToken
			}
			resp, err := http.PostForm(s.URL()+name, url.Values{"token": {tok}})
			if err != nil {
				t.Fatal(err)
			}
			var got struct{ Error, Needed string }
			if err := json.NewDecoder(resp.Body).Decode(&got); err != nil {
				t.Error(err)
			}
			_ = resp.Body.Close()
			if got.Error != "" && got.Error != "missing_scope" || (got.Needed == "") != (m.scopes == nil) || got.Needed != "" && !slices.Contains(m.scopes, got.Needed) {
				t.Errorf("%s: the fake answers %+v", name, got)
			}
		}
	}
}

// codes are errors that the methods are documented to answer with, and one that nobody
// knows yet.
var codes = []string{
	"access_denied", "accesslimited", "account_inactive", "channel_not_found", "deprecated_endpoint", "ekm_access_denied", "enterprise_is_restricted", "fatal_error",
	"file_uploads_disabled", "forbidden_team", "internal_error", "invalid_arguments", "invalid_auth", "invalid_blocks", "is_archived", "messages_tab_disabled", "method_deprecated",
	"missing_scope", "msg_too_long", "no_permission", "not_allowed_token_type", "not_authed", "not_in_channel", "org_login_required", "posting_to_channel_denied", "request_timeout",
	"restricted_action", "service_unavailable", "team_access_not_granted", "team_added_to_org", "token_expired", "token_revoked", "two_factor_setup_required", "news_to_us",
}

// TestProbeSaysHowToMend: whatever Slack answers to which call of a test, what it says
// tells more than the code, and names the token that is meant.
func TestProbeSaysHowToMend(t *testing.T) {
	s := slackfake.New(t)
	conf := slack.Config{Token: slackfake.Token, AppToken: slackfake.AppToken, Channel: "#access-walls", APIURL: s.URL()}
	for _, method := range []string{"auth.test", "chat.postMessage", "conversations.history", "conversations.list", "files.getUploadURLExternal", "apps.connections.open", "chat.delete"} {
		for _, code := range codes {
			s.Clear()
			s.Fail(slackfake.Fault{Method: method, Error: code})
			n, err := slack.New(conf, slack.Options{Pace: slack.NewPace(time.Microsecond)})
			if err != nil {
				t.Fatal(err)
			}
			_, err = n.Test(context.Background(), "")
			n.Close()
			if err == nil {
				t.Errorf("%s answers %s, and nobody is told", method, code)
				continue
			}
			_, hint, ok := strings.Cut(err.Error(), "slack: "+code+": ")
			if !ok || len(hint) < 20 || strings.Contains(err.Error(), "fakefakefake") {
				t.Errorf("%s answers %s, which is told as %q", method, code, err)
			}
			if app := method == "apps.connections.open"; strings.Contains(hint, "Token") && strings.Contains(hint, "App-Level") != app {
				t.Errorf("%s answers %s: %q is about another token", method, code, hint)
			}
		}
	}
}

// TestOnlyKnownCalls: over the life of an incident and a test nothing is called that
// needs a scope which nobody told people to give.
func TestOnlyKnownCalls(t *testing.T) {
	s, p := slackfake.New(t), &painter{}
	n := whole(t, s, p, nil)
	var mem json.RawMessage
	for _, tr := range lived() {
		mem = tell(t, n, mem, tr)
	}
	if _, err := try(n, nil, true, step("i2", 1, incident.Opened)); err != nil {
		t.Fatal(err)
	}
	d := alerts.NewPost(&alerts.Post{ID: "p", Headline: "many"}, alerts.Dest{Sink: "slack"})
	if _, err := n.Post(t.Context(), &d); err != nil {
		t.Fatal(err)
	}
	if _, err := n.Test(t.Context(), ""); err != nil {
		t.Fatal(err)
	}
	known := []string{"upload"}
	for _, m := range methods {
		known = append(known, m.names...)
	}
	for _, call := range s.Calls() {
		if !slices.Contains(known, call) {
			t.Errorf("%s is called, and nobody says which scope it needs", call)
		}
	}
}
