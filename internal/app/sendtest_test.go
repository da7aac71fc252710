package app

import (
	"bytes"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"strings"
	"testing"

	"github.com/denywatch/denywatch/alerts/slack/slackfake"
	"github.com/denywatch/denywatch/configs"
)

// TestSlackFromReadme: what the README says of Slack, word for word, works at once with
// the tokens that it names.
func TestSlackFromReadme(t *testing.T) {
	readme, err := os.ReadFile("../../README.md")
	if err != nil {
		t.Fatal(err)
	}
	_, section, _ := strings.Cut(string(readme), "\n## Set up Slack\n")
	_, section, _ = strings.Cut(section, "```yaml\n")
	text, _, ok := strings.Cut(section, "```")
	if !ok {
		t.Fatal("the README shows no configuration for Slack")
	}
	s := slackfake.New(t)
	text = fmt.Sprintf("state: %s\nsources: [{ files: /var/log/nginx/access.log }]\n%s", t.TempDir(), strings.Replace(text, "channel:", "api_url: "+s.URL()+", channel:", 1))
	cfg, _, err := configs.Parse([]byte(text), "test.yaml", func(name string) (string, bool) {
		v, ok := map[string]string{"SLACK_TOKEN": slackfake.Token, "SLACK_APP_TOKEN": slackfake.AppToken}[name]
		return v, ok
	})
	if err != nil {
		t.Fatal(err)
	}
	var out bytes.Buffer
	if err := SendTest(t.Context(), cfg, &out); err != nil || !strings.Contains(out.String(), "slack: works: posted as denywatch in fake; the channel can be searched; channels are found by name; pictures can be sent; clicks on buttons come in; deleted the message\n") {
		t.Errorf("%v\n%s", err, out.String())
	}
}

// TestSendTest: every place is told, each says what to mend, and nothing is left.
func TestSendTest(t *testing.T) {
	s := slackfake.New(t)
	s.AddChannel("growth")
	status := http.StatusOK
	hook := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(status) }))
	defer hook.Close()
	text := fmt.Sprintf(`
state: %s
sources: [{ files: /var/log/nginx/access.log }]
sinks:
  slack: { token: %s, channel: "#access-walls", api_url: %s }
  webhook: { url: %s, secret: 0123456789abcdef }
teams:
  growth: { slack: "#growth" }
  lost: { slack: "#nowhere" }
owners:
  - { match: "**", team: growth }
  - { match: "/lost/**", team: lost }
`, t.TempDir(), slackfake.Token, s.URL(), hook.URL)
	cfg, _, err := configs.Parse([]byte(text), "test.yaml", os.LookupEnv)
	if err != nil {
		t.Fatal(err)
	}
	run := func() (string, string) {
		var out bytes.Buffer
		err := SendTest(t.Context(), cfg, &out)
		if err == nil {
			return out.String(), ""
		}
		return out.String(), err.Error()
	}
	out, failed := run()
	for _, want := range []string{
		"slack: works: posted as denywatch in fake; the channel can be searched; channels are found by name; pictures can be sent; without app_token or signing_secret there are no buttons; deleted the message\n",
		"slack #growth: works: ", "slack #nowhere: does not work\n    slack: channel_not_found: the channel does not exist or the bot cannot see it; check the name, and invite the bot: /invite @denywatch\n",
		"webhook: works: the server took a transition of kind test\n",
	} {
		if !strings.Contains(out, want) {
			t.Errorf("no %q in\n%s", want, out)
		}
	}
	if failed != "1 of 4 places have to be mended" {
		t.Errorf("error %q", failed)
	}
	s.Without("files:write", "channels:history")
	status = http.StatusUnauthorized
	out, failed = run()
	for _, want := range []string{
		"slack: works in part: ", "    messages have no picture: slack: missing_scope: add the scope files:write to the app and install it again\n",
		"    the channel cannot be searched, so that a message may come twice when the connection broke: slack: missing_scope: add the scope channels:history to the app and install it again\n",
		"webhook: does not work\n    webhook: the server answered 401",
	} {
		if !strings.Contains(out, want) {
			t.Errorf("no %q in\n%s", want, out)
		}
	}
	if failed != "4 of 4 places have to be mended" {
		t.Errorf("error %q", failed)
	}
	if ms, fs := s.Messages(), s.Files(); len(ms) != 0 {
		t.Errorf("left behind: %d messages, %d files", len(ms), len(fs))
	}
}
