package app

import (
	"strings"
	"testing"

	"github.com/denywatch/denywatch/configs"
)

// grown is the configuration of a team that uses most of what there is, in its
// shortest words.
const grown = `
service: store
state: STATE

sources:
  - name: cdn
    vantage: edge
    push: { token: ${CDN_TOKEN} }
    format: cloudflare
  - name: nginx
    vantage: web
    files: [STATE/*access*.log, STATE/error.log]
    format: nginx
    log_format: '$remote_addr - $remote_user [$time_local] "$request" $status $body_bytes_sent "$http_referer" "$http_user_agent" us="$upstream_status"'
  - name: api
    vantage: app
    kafka: { brokers: [broker-1:9092], topics: [store.api], group: denywatch }
    format: json
    mapping: { role: auth.role, plan: customer.plan, account: customer.id, flags: toggles }

routes:
  - /boards/{id}/print
  - /~{owner}/**

ignore:
  - user_agent: "uptime-check/*"
  - client: 192.168.0.0/16

denials:
  statuses: [403, 451]
  concealed_404: true

detection:
  alerts_per_week: 1
  dimensions: [role, geo, plan]

markers:
  tokens: [{ name: pipeline, token: ${PIPELINE_TOKEN} }]

journeys:
  - name: Checkout
    steps: [/basket, /basket/address, "POST /basket/pay"]
    importance: critical
    owner: sales

access:
  - { route: "/staff/**", allow: false }
  - { route: "/staff/**", role: [owner, admin], allow: true }
  - { route: "/reports/**", plan: [free], allow: false, hint: "Reports are part of Pro" }

owners:
  - { match: "**", team: core }
  - { match: "/basket/**", team: sales }
  - { layer: edge, team: guards }

teams:
  sales: { slack: "#sales-oncall", pagerduty: ${PAGER_KEY} }
  guards: { slack: "#guards" }
  core: { slack: "#core" }

sinks:
  slack: { token: ${CHAT_TOKEN}, channel: "#core" }
`

// TestGrown: a grown configuration in its shortest words is valid and can be built.
func TestGrown(t *testing.T) {
	env := map[string]string{
		"CDN_TOKEN": "0123456789abcdef-cdn", "PIPELINE_TOKEN": "0123456789abcdef-pipe",
		"PAGER_KEY": "0123456789abcdef0123456789abcdef", "CHAT_TOKEN": "xoxb-12-34-abcdefghijkl",
	}
	cfg, _, err := configs.Parse([]byte(strings.ReplaceAll(grown, "STATE", t.TempDir())), "denywatch.yaml", func(name string) (string, bool) {
		v, ok := env[name]
		return v, ok
	})
	if err != nil {
		t.Fatal(err)
	}
	if tokens := cfg.Sources[0].Take().Tokens; len(tokens) != 1 || tokens[0].Token.Reveal() != env["CDN_TOKEN"] {
		t.Errorf("who may push: %v", tokens)
	}
	var out strings.Builder
	if err := Check(cfg, &out); err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{"POST /v1/ingest/cdn", "store.api (Kafka)", "The configuration is valid."} {
		if !strings.Contains(out.String(), want) {
			t.Errorf("it does not say %q:\n%s", want, &out)
		}
	}
	for name, secret := range env {
		if strings.Contains(out.String(), secret) {
			t.Errorf("it shows %s", name)
		}
	}
}
