package app

import (
	"encoding/json"
	"fmt"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kgo"
)

// canaryRequest is a request of which everything that is no route, role or code is a
// canary.
type canaryRequest struct {
	at                     time.Time
	user, addr, path, args string
	status                 int
}

func (r canaryRequest) uri() string { return r.path + "?" + r.args }

// canaryFormats are logs of the last half hour in every format that is understood, by
// the name of their source.
func canaryFormats(now time.Time) map[string]struct{ config, text string } {
	const (
		agent   = "Mozilla/5.0 (cnry)"
		referer = "https://cnry.example.com/?cnryref"
		cookie  = "session=cnrysession; token=cnrytoken"
		slashed = "02/Jan/2006:15:04:05 -0700"
	)
	out := map[string]struct{ config, text string }{}
	add := func(name, config, head string, line func(r canaryRequest) string) {
		var b strings.Builder
		b.WriteString(head)
		for i := range 90 {
			r := canaryRequest{
				at: now.Add(time.Duration(i-100) * 18 * time.Second).UTC(), user: fmt.Sprintf("cnry.%d@example.com", i), addr: fmt.Sprintf("198.51.100.%d", i),
				path: fmt.Sprintf("/reports/cnry%016x/files", uint64(i+1)*0x9e3779b97f4a7c15), args: "token=cnrytoken&mail=cnry@example.com", status: 200,
			}
			if i%10 == 0 {
				r.status = 403
			}
			b.WriteString(line(r) + "\n")
		}
		b.WriteString("cnry 198.51.100.9 \"GET /cnry?cnry\" cnry.9@example.com\n") // not understood
		out[name] = struct{ config, text string }{config, b.String()}
	}
	object := func(v map[string]any) string {
		text, err := json.Marshal(v)
		if err != nil {
			return err.Error()
		}
		return string(text)
	}
	add("nginx-own", `format: nginx, log_format: '$remote_addr - $remote_user [$time_local] "$request" $status "$http_referer" "$http_user_agent" "$http_cookie" "$http_authorization" "$request_id"'`, "", func(r canaryRequest) string {
		return fmt.Sprintf(`%s - %s [%s] "GET %s HTTP/1.1" %d %q %q %q "Bearer cnrybearer" "cnryid"`, r.addr, r.user, r.at.Format(slashed), r.uri(), r.status, referer, agent, cookie)
	})
	add("apache-own", `format: apache, log_format: '%h %l %u %t "%r" %>s %b "%{Referer}i" "%{User-Agent}i" "%{Cookie}i" %L'`, "", func(r canaryRequest) string {
		return fmt.Sprintf(`%s - %s [%s] "GET %s HTTP/1.1" %d 12 %q %q %q cnryid`, r.addr, r.user, r.at.Format(slashed), r.uri(), r.status, referer, agent, cookie)
	})
	add("json-odd", "format: json", "", func(r canaryRequest) string { // names of fields are as hostile as their values
		return object(map[string]any{"@timestamp": r.at.Format(time.RFC3339Nano), "http": map[string]any{"request": map[string]any{"method": "GET", "headers": map[string]any{"authorization": "Bearer cnrybearer", "cookie": cookie}},
			"response": map[string]any{"status_code": r.status}}, "url": map[string]any{"path": r.path, "query": r.args}, "user": map[string]any{"id": r.user, "email": r.user, "roles": []string{"viewer"}}, "client": map[string]any{"ip": r.addr},
			"cnry.key <!channel>\x1b[31m\n": "cnry", "cnry\x00key": map[string]any{"cnry": []any{"cnry", 1, nil}}, "error": map[string]any{"stack_trace": "cnry at /srv/cnry.go:7\n\tcnry " + r.user, "message": "cnry " + r.uri()}})
	})
	add("logfmt", "format: logfmt", "", func(r canaryRequest) string {
		return fmt.Sprintf(`ts=%s level=info method=GET path=%q status=%d user=%s role=viewer remote_ip=%s user_agent=%q referer=%q token=cnrytoken cnrykey="cnry \"cnry\"" msg="cnry %s"`, r.at.Format(time.RFC3339Nano), r.uri(), r.status, r.user, r.addr, agent, referer, r.user)
	})
	add("caddy", "format: caddy", "", func(r canaryRequest) string {
		return object(map[string]any{"level": "info", "ts": float64(r.at.UnixMilli()) / 1000, "logger": "http.log.access", "msg": "handled request", "status": r.status, "user_id": r.user,
			"request":      map[string]any{"remote_ip": r.addr, "client_ip": r.addr, "method": "GET", "host": "shop.example", "uri": r.uri(), "headers": map[string]any{"User-Agent": []string{agent}, "Cookie": []string{cookie}, "Authorization": []string{"Bearer cnrybearer"}}},
			"resp_headers": map[string]any{"Set-Cookie": []string{cookie}, "Location": []string{referer}}})
	})
	add("traefik", "format: traefik", "", func(r canaryRequest) string {
		return fmt.Sprintf(`%s - %s [%s] "GET %s HTTP/2.0" %d 9 %q %q 4102 "app@kubernetes" "http://10.4.0.7:8080" 2ms`, r.addr, r.user, r.at.Format(slashed), r.uri(), r.status, referer, agent)
	})
	add("envoy", "format: envoy", "", func(r canaryRequest) string {
		return fmt.Sprintf(`[%s] "GET %s HTTP/2" %d - via_upstream - "-" 21 0 4 3 "%s" "%s" "cnryid" "shop.example" "10.4.0.7:8080" inbound|8080|| - 10.4.0.7:8080 %s:0 - default`, r.at.Format("2006-01-02T15:04:05.000Z"), r.uri(), r.status, r.addr, agent, r.addr)
	})
	add("haproxy", "format: haproxy", "", func(r canaryRequest) string {
		return fmt.Sprintf(`%s:41016 [%s] www app/s1 0/0/0/3/3 %d 194 cnrycookie cnrycookie ---- 1/1/0/0/0 0/0 {shop.example|Mozilla/5.0 cnry} {cnry} "GET %s HTTP/1.1"`, r.addr, r.at.Format("02/Jan/2006:15:04:05.000"), r.status, r.uri())
	})
	add("iis", "format: iis", "#Fields: date time s-ip cs-method cs-uri-stem cs-uri-query s-port cs-username c-ip cs(User-Agent) cs(Referer) cs(Cookie) sc-status sc-substatus sc-win32-status time-taken\n", func(r canaryRequest) string {
		return fmt.Sprintf(`%s 10.0.0.4 GET %s %s 443 SHOP\%s %s %s %s session=cnry %d 0 0 15`, r.at.Format("2006-01-02 15:04:05"), r.path, r.args, r.user, r.addr, "Mozilla/5.0+(cnry)", referer, r.status)
	})
	add("alb", "format: alb", "", func(r canaryRequest) string {
		at := r.at.Format("2006-01-02T15:04:05.000000Z")
		return fmt.Sprintf(`https %s app/shop/0123456789abcdef %s:2817 10.4.0.7:8080 0.000 0.001 0.000 %d %d 34 366 "GET https://shop.example:443%s HTTP/1.1" "%s" ECDHE-RSA-AES128-GCM-SHA256 TLSv1.2 arn:aws:elasticloadbalancing:eu-central-1:000000000000:targetgroup/web/0123456789abcdef "Root=1-cnry" "shop.example" "session-reused" 0 %s "forward" "https://cnry.example.com/?cnry" "-" "10.4.0.7:8080" "%d" "-" "-"`,
			at, r.addr, r.status, r.status, r.uri(), agent, at, r.status)
	})
	add("cloudfront", "format: cloudfront", "#Version: 1.0\n#Fields: date time x-edge-location sc-bytes c-ip cs-method cs(Host) cs-uri-stem sc-status cs(Referer) cs(User-Agent) cs-uri-query cs(Cookie) x-edge-result-type x-edge-request-id x-host-header x-edge-detailed-result-type c-country\n", func(r canaryRequest) string {
		return strings.Join([]string{r.at.Format("2006-01-02"), r.at.Format("15:04:05"), "FRA1-C1", "900", r.addr, "GET", "d0example.cloudfront.net", r.path, fmt.Sprint(r.status), url.PathEscape(referer), "Mozilla/5.0%20(cnry)", r.args, "session=cnry", "Miss", "cnryid", "shop.example", "Miss", "DE"}, "\t")
	})
	add("s3", "format: s3", "", func(r canaryRequest) string {
		return fmt.Sprintf(`c0ffee00aa11 shop-assets [%s] %s arn:aws:iam::000000000000:user/%s 5D3A0F12 REST.GET.OBJECT %s "GET %s HTTP/1.1" %d - 243 - 7 - %q %q - cnryhost= - TLS_AES_128_GCM_SHA256 - shop-assets.s3.example TLSv1.3 - -`, r.at.Format(slashed), r.addr, r.user, strings.TrimPrefix(r.path, "/"), r.uri(), r.status, referer, agent)
	})
	add("gcp", "format: gcp", "", func(r canaryRequest) string {
		return object(map[string]any{"httpRequest": map[string]any{"requestMethod": "GET", "requestUrl": "https://shop.example" + r.uri(), "status": r.status, "userAgent": agent, "referer": referer, "remoteIp": r.addr, "protocol": "HTTP/2"}, "insertId": "cnryid",
			"jsonPayload": map[string]any{"@type": "type.googleapis.com/google.cloud.loadbalancing.type.LoadBalancerLogEntry", "statusDetails": "response_sent_by_backend"}, "resource": map[string]any{"type": "http_load_balancer", "labels": map[string]any{"backend_service_name": "web"}},
			"timestamp": r.at.Format(time.RFC3339Nano), "trace": "projects/shop/traces/cnryid"})
	})
	add("akamai", "format: akamai", "", func(r canaryRequest) string {
		return object(map[string]any{"version": 1, "cp": "200300", "reqId": "cnryid", "reqTimeSec": fmt.Sprint(r.at.Unix()), "cliIP": r.addr, "statusCode": fmt.Sprint(r.status), "reqHost": "shop.example", "reqMethod": "GET", "reqPath": url.PathEscape(strings.TrimPrefix(r.path, "/")),
			"queryStr": url.QueryEscape(r.args), "UA": url.QueryEscape(agent), "referer": url.QueryEscape(referer), "cookie": url.QueryEscape(cookie), "country": "DE"})
	})
	add("awswaf", "format: awswaf", "", func(r canaryRequest) string {
		action := map[bool]string{true: "ALLOW", false: "BLOCK"}[r.status == 200]
		return object(map[string]any{"timestamp": r.at.UnixMilli(), "formatVersion": 1, "webaclId": "arn:aws:wafv2:eu-central-1:000000000000:regional/webacl/shop/1", "terminatingRuleId": "Default_Action", "terminatingRuleType": "REGULAR", "action": action, "httpSourceName": "ALB",
			"terminatingRuleMatchDetails": []any{map[string]any{"conditionType": "SQL_INJECTION", "location": "QUERY_STRING", "matchedData": []string{"cnry", "1=1"}}},
			"httpRequest":                 map[string]any{"clientIp": r.addr, "country": "DE", "uri": r.path, "args": r.args, "httpMethod": "GET", "requestId": "cnryid", "headers": []any{map[string]any{"name": "User-Agent", "value": agent}, map[string]any{"name": "Cookie", "value": cookie}, map[string]any{"name": "X-Cnry", "value": "cnry"}}}})
	})
	add("cloudflare", "format: cloudflare", "", func(r canaryRequest) string {
		return object(map[string]any{"ClientCountry": "de", "ClientIP": r.addr, "ClientRequestHost": "shop.example", "ClientRequestMethod": "GET", "ClientRequestPath": r.path, "ClientRequestURI": r.uri(), "ClientRequestReferer": referer, "ClientRequestUserAgent": agent,
			"Cookies": map[string]any{"session": "cnry"}, "RequestHeaders": map[string]any{"authorization": "Bearer cnrybearer", "x-user-id": r.user}, "EdgeResponseStatus": r.status, "OriginResponseStatus": r.status, "EdgeStartTimestamp": r.at.Format(time.RFC3339), "RayID": "cnryid", "SecurityAction": "", "SecurityActions": []string{}})
	})
	return out
}

// canaryModSecurity is an error log with what a firewall quotes of requests.
func canaryModSecurity(now time.Time) string {
	var b strings.Builder
	for i := range 50 {
		at := now.Add(time.Duration(i-60) * 20 * time.Second).UTC()
		fmt.Fprintf(&b, "[%s] [security2:error] [pid 71:tid 90] [client 198.51.100.%d:51000] ModSecurity: Access denied with code 403 (phase 2). Pattern match \"cnry\" at ARGS:cnry. [file \"/etc/waf.conf\"] [line \"7\"] [id \"77001\"] [msg \"No evil\"] [data \"Matched Data: cnry found within ARGS:mail: cnry.%d@example.com\"] [hostname \"shop\"] [uri \"/reports/cnry%016x\"] [unique_id \"cnryid\"], referer: https://cnry.example.com/?cnry\n",
			at.Format("Mon Jan 02 15:04:05.000000 2006"), i, i, i)
		fmt.Fprintf(&b, "[%s] [php:error] [pid 71:tid 90] [client 198.51.100.%d:51000] PHP Fatal error:  Uncaught cnry: cnry.%d@example.com in /srv/cnry/app.php:7\n", at.Format("Mon Jan 02 15:04:05.000000 2006"), i, i)
	}
	return b.String()
}

// canaryTopics returns a broker with a topic of lines, whose keys and headers are as
// personal as what is in them, and one of markers.
func canaryTopics(t *testing.T, now time.Time) (broker string) {
	t.Helper()
	cluster, err := kfake.NewCluster(kfake.NumBrokers(1), kfake.SeedTopics(1, "logs", "releases"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(cluster.Close)
	producer, err := kgo.NewClient(kgo.SeedBrokers(cluster.ListenAddrs()...))
	if err != nil {
		t.Fatal(err)
	}
	defer producer.Close()
	var rs []*kgo.Record
	for line := range strings.Lines(canaryFormats(now)["logfmt"].text) {
		rs = append(rs, &kgo.Record{Topic: "logs", Key: []byte("cnry.key@example.com"), Value: []byte(line), Headers: []kgo.RecordHeader{{Key: "user", Value: []byte("cnry.header@example.com")}, {Key: "cnry-header", Value: []byte("cnry")}}})
	}
	rs = append(rs, &kgo.Record{Topic: "logs", Key: []byte("cnry"), Value: []byte{0xff, 0xfe, 0, 'c', 'n', 'r', 'y'}},
		&kgo.Record{Topic: "releases", Key: []byte("cnry"), Value: []byte(`{"kind":"release","cnry":"cnrytoken"`)},
		&kgo.Record{Topic: "releases", Value: []byte(`{"kind":"cnry","version":"cnry"}`)})
	if err := producer.ProduceSync(t.Context(), rs...).FirstErr(); err != nil {
		t.Fatal(err)
	}
	return cluster.ListenAddrs()[0]
}

// canaryDeployment is what GitHub tells of a deployment, with the addresses it carries.
const canaryDeployment = `{"action":"created","deployment_status":{"id":7,"state":"success","environment":"production","description":"cnry","target_url":"https://ci.example.com/?token=cnrytoken","log_url":"https://cnry.example.com/","environment_url":"https://cnry:cnry@shop.example","creator":{"login":"cnry","email":"cnry@example.com"},"created_at":%[1]q,"updated_at":%[1]q},
"deployment":{"id":8,"ref":"v7.1.0","sha":"6dcb09b5b57875f334f61aebed695e2e4193db5e","task":"deploy","environment":"production","production_environment":true,"description":"cnry","payload":{"token":"cnrytoken"},"creator":{"login":"cnry"},"created_at":%[1]q},"repository":{"name":"shop","full_name":"acme/shop","clone_url":"https://cnry@example.com"},"sender":{"login":"cnry"}}`
