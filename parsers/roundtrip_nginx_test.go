package parsers_test

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/denywatch/denywatch/internal/event"
	"github.com/denywatch/denywatch/internal/servertest"
	"github.com/denywatch/denywatch/parsers"
	"github.com/denywatch/denywatch/parsers/errorlog"
)

const (
	upstreamInfo = `log_format upstreaminfo '$remote_addr - $remote_user [$time_local] "$request" $status $body_bytes_sent "$http_referer" "$http_user_agent" '
    '$request_length $request_time [$proxy_upstream_name] [$proxy_alternative_upstream_name] $upstream_addr $upstream_response_length $upstream_response_time $upstream_status $req_id';`
	combinedNginx = `$remote_addr - $remote_user [$time_local] "$request" $status $body_bytes_sent "$http_referer" "$http_user_agent"`
)

// nginxReadings are the access logs of the nginx under test and the ways in which
// they are read.
func nginxReadings() []reading {
	own := func(name, carries, format string) reading {
		return reading{name: name, carries: carries, config: parsers.Config{Format: "nginx", LogFormat: "log_format " + name + " " + format + ";"}}
	}
	fine := func(r reading) reading { r.fine = true; return r }
	mapped := func(r reading, key, variable string) reading {
		r.config.Mapping = map[string]string{key: variable}
		return r
	}
	const all = "status client user"
	return []reading{
		{name: "combined", config: parsers.Config{Format: "combined"}, carries: all + " request agent"},
		own("forwarded", all+" request agent", `'`+combinedNginx+` "$http_x_forwarded_for"'`),
		mapped(own("upstreams", all+" request agent upstream role",
			`'`+combinedNginx+` '`+"\n"+`  'rt=$request_time ua="$upstream_addr" us="$upstream_status" urt="$upstream_response_time" "$http_x_role"'`), "role", "$http_x_role"),
		{name: "upstreaminfo", config: parsers.Config{Format: "ingress-nginx"}, carries: all + " request agent upstream"},
		{name: "upstreaminfo_statement", log: "upstreaminfo", config: parsers.Config{LogFormat: upstreamInfo}, carries: all + " request agent upstream id"},
		own("side_by_side", "status client host uri agent", `'$time_iso8601$status$request_method $scheme://$host$request_uri "$http_user_agent"[$remote_addr]'`),
		own("flat", all+" host uri agent upstream role", `escape=json '{"time":"$time_iso8601","host":"$host","method":"$request_method","uri":"$request_uri",'
   '"status":$status,"ip":"$remote_addr","remote_user":"$remote_user","us":"$upstream_status","urt":"$upstream_response_time",'
   '"ua":"$http_user_agent","referer":"$http_referer","role":"$http_x_role","bytes":$body_bytes_sent}'`),
		own("nested", "status client uri host agent upstream role", `escape=json '{"@timestamp":"$time_iso8601","http":{"request":{"method":"$request_method"},'
   '"response":{"status_code":$status}},"url":{"original":"$request_uri","domain":"$host"},"client":{"ip":"$remote_addr"},'
   '"user_agent":{"original":"$http_user_agent"},"upstream_status":"$upstream_status","user":{"roles":"$http_x_role"}}'`),
		{name: "nested_json", log: "nested", config: parsers.Config{Format: "json"}, carries: "status client uri host agent upstream role"},
		{name: "flat_json", log: "flat", config: parsers.Config{Format: "nginx", LogFormat: "json", Mapping: map[string]string{"upstream_status": "us"}}, carries: all + " uri host agent upstream role"},
		{name: "pairs_logfmt", log: "pairs", fine: true, config: parsers.Config{Format: "nginx", LogFormat: "logfmt", Mapping: map[string]string{"upstream_status": "us"}}, carries: all + " request host agent upstream role"},
		own("by_hand", all+" request agent upstream role", `'{"t":"$time_iso8601","req":"$request","status":$status,"us":$upstream_status,"urt":$upstream_response_time,'
   '"ip":"$remote_addr","user":"$remote_user","role":"$http_x_role","ua":"$http_user_agent"}'`),
		own("raw", "status client request agent upstream", `escape=none '$remote_addr [$time_local] "$request" $status us="$upstream_status" "$http_referer" "$http_user_agent"'`),
		own("tabs", all+" host uri agent upstream id", `'$time_iso8601\t$remote_addr\t$remote_user\t$host\t$request_method\t$request_uri\t$status\t$upstream_status\t$request_id\t$http_user_agent'`),
		fine(own("pairs", all+" host request agent upstream role id conn", `'time=$msec ip=$remote_addr remote_user="$remote_user" host="$host" req="$request" status=$status us="$upstream_status" '
   'role="$http_x_role" id=$request_id conn=$connection ua="$http_user_agent"'`)),
		mapped(fine(own("connection", "status client request role conn", `'[$time_iso8601] $msec $connection:$connection_requests $remote_addr:$remote_port $pipe "$request" $status role=$http_x_role rt=$request_time'`)),
			"role", "$http_x_role"),
		own("answers", "status client request upstream answer", `'$remote_addr [$time_local] "$request" $status $upstream_status "$upstream_http_x_role"'`),
	}
}

// TestNginxRoundTrip drives a real nginx through everything that it refuses for.
func TestNginxRoundTrip(t *testing.T) {
	nginx := servertest.Need(t, "nginx")
	dir := folder(t)
	port := servertest.FreePort(t)
	readings := nginxReadings()
	var formats, logs strings.Builder
	for i := range readings {
		r := &readings[i]
		switch {
		case r.log != "":
		case r.name == "combined":
			fmt.Fprintf(&logs, "  access_log %s/log/combined.log;\n", dir)
		case r.name == "upstreaminfo":
			fmt.Fprintf(&formats, "  %s\n", upstreamInfo)
			fmt.Fprintf(&logs, "  access_log %s/log/%s.log %[2]s;\n", dir, r.name)
		default:
			fmt.Fprintf(&formats, "  %s\n", r.config.LogFormat)
			fmt.Fprintf(&logs, "  access_log %s/log/%s.log %[2]s;\n", dir, r.name)
		}
	}
	user := ""
	if name, group, ok := servertest.Unprivileged(); ok {
		user = "user " + name + " " + group + ";"
	}
	listen6 := ""
	if loopback6() {
		listen6 = fmt.Sprintf("listen [::1]:%d;", port)
	}
	www := filepath.Join(dir, "www")
	for _, page := range []string{"index.html", "page.html", "empty/page.html", "closed/page.html", "rules/page.html", "unreadable.html", "limited/page.html", "kept/page.html", "waf/page.html", ".env"} {
		place(t, filepath.Join(www, page), "hello")
	}
	if err := errors.Join(os.Mkdir(filepath.Join(dir, "log"), 0o755), os.Symlink("page.html", filepath.Join(www, "linked.html"))); err != nil {
		t.Fatal(err)
	}
	chmod(t, filepath.Join(www, "unreadable.html"), 0)
	chmod(t, filepath.Join(www, "closed"), 0)
	chmod(t, filepath.Join(www, "kept"), 0o555)
	place(t, filepath.Join(dir, "htpasswd"), "ann:{PLAIN}right\nann bee:{PLAIN}right\n")
	steps, firewall, load := nginxSteps(), "", ""
	const module = "/usr/lib/nginx/modules/ngx_http_modsecurity_module.so"
	t.Run("ModSecurity", func(t *testing.T) {
		if _, err := os.Stat(module); err != nil {
			servertest.Lack(t, "nginx has no "+module)
		}
		load = "load_module " + module + ";"
		firewall = "location /waf/ { modsecurity on; modsecurity_rules '" + firewallRules(`\'`) + "'; }"
		steps = append(steps, firewallSteps()...)
	})
	conf := place(t, filepath.Join(dir, "nginx.conf"), fmt.Sprintf(`%[11]s
%[1]s
daemon off;
worker_processes 1;
pid %[2]s/nginx.pid;
error_log %[2]s/log/error.log info;
events { worker_connections 256; }
http {
  client_body_temp_path %[2]s/body;
  proxy_temp_path %[2]s/proxy;
  fastcgi_temp_path %[2]s/fastcgi;
  uwsgi_temp_path %[2]s/uwsgi;
  scgi_temp_path %[2]s/scgi;
  types { text/html html; }
  map "" $proxy_upstream_name { default shop-web-80; }
  map "" $proxy_alternative_upstream_name { default ""; }
  map $request_id $req_id { default $request_id; }
  map $http_x_flags $flagged { default 0; ~beta_wall 1; }
  geo $abroad { default 0; 127.0.0.77 1; }
  limit_conn_zone $binary_remote_addr zone=alone:1m;
  limit_req_zone $binary_remote_addr zone=calm:1m rate=1r/m;
%[3]s
%[4]s
  upstream app { server %[5]s; }
  upstream twice { server %[6]s max_fails=0; server %[5]s backup; }
  proxy_set_header X-Want $http_x_want;
  server {
    listen 127.0.0.1:%[7]d;
    %[8]s
    server_name %[9]s;
    root %[10]s;
    location /rules/ { deny 127.0.0.66; allow all; }
    location /rules/all/ { deny all; }
    location ~ /\. { deny all; }
    location = /return { return 403; }
    location /post/ { limit_except GET { deny all; } proxy_pass http://app; }
    location = /linked.html { disable_symlinks on; }
    location = /signed { secure_link $arg_s,$arg_e; secure_link_md5 "$secure_link_expires$uri secret"; if ($secure_link = "") { return 403; } return 204; }
    location = /referred { valid_referers none server_names; if ($invalid_referer) { return 403; } return 204; }
    location = /abroad { if ($abroad) { return 403; } return 204; }
    location = /flagged { if ($flagged) { return 403; } return 204; }
    location /basic/ { auth_basic "staff only"; auth_basic_user_file %[2]s/htpasswd; try_files /page.html =404; }
    location /basic/nofile/ { auth_basic "staff only"; auth_basic_user_file %[2]s/no.htpasswd; }
    location /any/ { satisfy any; deny all; auth_basic "staff only"; auth_basic_user_file %[2]s/htpasswd; try_files /page.html =404; }
    location /both/ { satisfy all; deny all; auth_basic "staff only"; auth_basic_user_file %[2]s/htpasswd; try_files /page.html =404; }
    location /asked/ { auth_request /-/ask; proxy_pass http://app; }
    location = /-/ask { internal; proxy_pass http://app; proxy_pass_request_body off; proxy_set_header Content-Length ""; }
    location /asked/mode/ { auth_request /-/mode; proxy_pass http://app; }
    location = /-/mode { internal; alias %[10]s/unreadable.html; }
    location /-/ { internal; }
    location /limited/ { limit_req zone=calm; limit_req_status 403; }
    location /calm/ { limit_req zone=calm; limit_req_status 403; deny 127.0.0.65; }
    location /alone/ { limit_conn alone 1; limit_conn_status 403; proxy_pass http://app; }
    location /kept/ { dav_methods DELETE; }
    location /app/ { proxy_pass http://app; }
    location = /app/blocked { deny all; }
    location /twice/ { proxy_pass http://twice; }
    location /masked/ { proxy_pass http://app; proxy_intercept_errors on; error_page 403 =404 /page.html; }
    location /paged/ { proxy_pass http://app; proxy_intercept_errors on; error_page 403 /page.html; }
    location /fallback/ { proxy_pass http://app; proxy_intercept_errors on; error_page 403 = @fallback; }
    location @fallback { proxy_pass http://app; proxy_set_header X-Want 200; }
    location /hidden/ { deny all; error_page 403 =404 /nowhere; }
    location /opened/ { deny all; error_page 403 =200 /page.html; }
    %[12]s
    location = /nowhere { internal; return 404; }
  }
}
`, user, dir, formats.String(), logs.String(), application(t), hangUp(t), port, listen6, siteHost, www, load, firewall))
	server := servertest.Serve(t, exec.Command(nginx, "-e", filepath.Join(dir, "start.log"), "-c", conf, "-p", dir), zoneEnv)
	x := newSite(t, server, port, filepath.Join(dir, "log"), "error.log", readings)
	for _, s := range steps {
		if strings.Contains(s.from, ":") && listen6 == "" {
			continue
		}
		x.do(&s)
	}
	x.check(readings, errorlog.Config{Server: errorlog.Nginx, Location: zone})
}

func nginxSteps() []step {
	const web = event.LayerWeb
	long := strings.Repeat("abcdefghi/", 300)
	return []step{
		{name: "page", target: "/page.html", status: 200},
		{name: "page with query", target: "/page.html?a=b&c=%22d%22", status: 200, referer: "https://shop.test/?q=1", role: "viewer"},
		{name: "missing", target: "/missing.html", status: 404},
		{name: "head", method: "HEAD", target: "/rules/all/x", status: 403, cause: "acl", layer: web, ruling: 403},

		{name: "deny an address", target: "/rules/page.html", from: "127.0.0.66", status: 403, cause: "acl", layer: web, ruling: 403},
		{name: "allow the others", target: "/rules/page.html", from: "127.0.0.67", status: 200},
		{name: "deny all", target: "/rules/all/a/b.html?x=y", status: 403, cause: "acl", layer: web, ruling: 403, role: "editor, billing admin"},
		{name: "dot file", target: "/.env", status: 403, cause: "acl", layer: web, ruling: 403},
		{name: "return 403", target: "/return", status: 403},
		{name: "no index", target: "/empty/", status: 403, cause: "directory_index", layer: web, ruling: 403},
		{name: "file mode", target: "/unreadable.html", status: 403, cause: "fs_permission", layer: web, ruling: 403},
		{name: "folder mode", target: "/closed/page.html", status: 403, cause: "fs_permission", layer: web, ruling: 403},
		{name: "folder mode, index", target: "/closed/", status: 403, cause: "fs_permission", layer: web, ruling: 403},
		{name: "delete without permission", method: "DELETE", target: "/kept/page.html", status: 403, cause: "fs_permission", layer: web, ruling: 403},
		{name: "symlink", target: "/linked.html", status: 403, cause: "symlink", layer: web, ruling: 403},
		{name: "limit_except lets in", target: "/post/x", status: 200, upstream: 200},
		{name: "limit_except", method: "POST", target: "/post/x", status: 403, cause: "acl", layer: web, ruling: 403},
		{name: "limit_except with a body", method: "PUT", target: "/post/y", body: "hello", status: 403, cause: "acl", layer: web, ruling: 403},
		{name: "secure link", target: "/signed?s=bad&e=1", status: 403},
		{name: "referer", target: "/referred", referer: `https://evil.test/"quoted"`, status: 403},
		{name: "referer lets in", target: "/referred", status: 204},
		{name: "geo", target: "/abroad", from: "127.0.0.77", status: 403},
		{name: "map", target: "/flagged", header: []string{"X-Flags: new_nav,beta_wall"}, status: 403},
		{name: "rate lets in", target: "/limited/page.html?1", from: "127.0.0.8", status: 200},
		{name: "rate", target: "/limited/page.html?2", from: "127.0.0.8", status: 403, cause: "rate_limit", rule: "calm", layer: web},
		{name: "denied before its rate is too high", target: "/calm/x", from: "127.0.0.65", status: 403, cause: "acl", layer: web, ruling: 403, twin: "rate_limit"},
		{name: "rate where denied, too", target: "/calm/x", from: "127.0.0.65", status: 403, cause: "rate_limit", layer: web, twin: "acl"},
		{name: "held", method: "POST", target: "/alone/x", body: "hello", from: "127.0.0.8", hold: true},
		{name: "second at once", target: "/alone/y", from: "127.0.0.8", status: 403, cause: "conn_limit", rule: "alone", layer: web},
		{name: "held before", method: "POST", target: "/alone/x", body: "hello", from: "127.0.0.8", release: true, status: 200, upstream: 200},
		{name: "internal", target: "/-/x", status: 404},
		{name: "concealed by the server", target: "/hidden/x", status: 404, cause: "acl", layer: web, ruling: 403},
		{name: "opened by an error page", target: "/opened/x", status: 200, cause: "acl", layer: web, ruling: 403},

		{name: "no password", target: "/basic/x", status: 401},
		{name: "wrong password", target: "/basic/x", login: "ann:wrong", status: 401},
		{name: "right password", target: "/basic/x", login: "ann:right", status: 200},
		{name: "user with a space", target: "/basic/x", login: "ann bee:right", status: 200},
		{name: "user with quotes", target: "/basic/x", login: `mal"lo\ry, client: 192.0.2.1:x`, status: 401},
		{name: "user with a newline", target: "/basic/x", login: "mal\nlory [x]:x", status: 401},
		{name: "user in UTF-8", target: "/basic/x", login: "zoë:x", status: 401},
		{name: "no file of users", target: "/basic/nofile/x", login: "ann:right", status: 403, cause: "auth_backend", layer: web},
		{name: "satisfy any, nobody", target: "/any/x", status: 401},
		{name: "satisfy any, user", target: "/any/x", login: "ann:right", status: 200},
		{name: "satisfy all", target: "/both/x", login: "ann:right", status: 403, cause: "acl", layer: web, ruling: 403},
		{name: "user where nobody asks", target: "/return", login: "eve:x", status: 403},

		{name: "auth_request lets in", target: "/asked/x", status: 200, upstream: 200},
		{name: "auth_request", target: "/asked/y", header: []string{"X-Want: 403"}, status: 403},
		{name: "auth_request, a file's mode", target: "/asked/mode/y", status: 403, cause: "fs_permission", layer: web},

		{name: "application", target: "/app/reports/7?full=1", role: "viewer", header: []string{"X-Want: 403"}, status: 403, upstream: 403},
		{name: "application lets in", target: "/app/reports/7?full=1", role: "owner;admin", status: 200, upstream: 200},
		{name: "application fails", target: "/app/boom", header: []string{"X-Want: 500"}, status: 500, upstream: 500},
		{name: "rule beside the application", target: "/app/blocked", status: 403, cause: "acl", layer: web, ruling: 403},
		{name: "application beside a rule", target: "/app/free", header: []string{"X-Want: 403"}, status: 403, upstream: 403},
		{name: "two tries", target: "/twice/x", status: 200, upstream: 200},
		{name: "two tries, refused", target: "/twice/y", header: []string{"X-Want: 403"}, status: 403, upstream: 403},
		{name: "masked", target: "/masked/x", header: []string{"X-Want: 403"}, status: 404, upstream: 403},
		{name: "error page", target: "/paged/x", header: []string{"X-Want: 403"}, status: 403, upstream: 403},
		{name: "fallback", target: "/fallback/x", header: []string{"X-Want: 403"}, status: 200, upstream: 200},

		{name: "encoded", target: "/rules/all/%C3%A9t%C3%A9%20x?q=%22", status: 403, cause: "acl", layer: web, ruling: 403},
		{name: "quotes", target: `/rules/all/a"b'c?d="e"`, status: 403, cause: "acl", layer: web, ruling: 403},
		{name: "quote and comma", target: `/rules/all/a",host:"b`, status: 403, cause: "acl", layer: web, ruling: 403},
		{name: "backslash", target: `/rules/all/a\b\x22c\`, status: 403, cause: "acl", layer: web, ruling: 403},
		{name: "UTF-8", target: "/rules/all/é/日本", status: 403, cause: "acl", layer: web, ruling: 403},
		{name: "not UTF-8", target: "/rules/all/\xff\xfe", status: 403, cause: "acl", layer: web, ruling: 403},
		{name: "dots", target: "/app/../rules/all/./x//y", status: 403, cause: "acl", layer: web, ruling: 403},
		{name: "long", target: "/rules/all/" + long, status: 403, cause: "acl", layer: web, ruling: 403},
		{name: "absolute form", target: "http://Other.Test/rules/all/x?y", uri: "/rules/all/x?y", vhost: "other.test", status: 403, cause: "acl", layer: web, ruling: 403},
		{name: "HTTP/1.0", target: "/rules/all/10", proto: "HTTP/1.0", status: 403, cause: "acl", layer: web, ruling: 403},
		{name: "HTTP/0.9", target: "/rules/all/09", proto: "HTTP/0.9", status: 403, cause: "acl", layer: web, ruling: 403},
		{name: "unknown method", method: "VERSION-CONTROL", target: "/rules/all/v", status: 403, cause: "acl", layer: web, ruling: 403},
		{name: "host with capitals and port", target: "/return", host: "SHOP.test:8080", vhost: "shop.test", status: 403},
		{name: "IPv6", target: "/rules/all/6", from: "::1", status: 403, cause: "acl", layer: web, ruling: 403},
		{name: "first on a connection", target: "/rules/all/k1", keep: true, status: 403, cause: "acl", layer: web, ruling: 403},
		{name: "second on a connection", target: "/closed/page.html", status: 403, cause: "fs_permission", layer: web, ruling: 403},

		{name: "no agent", target: "/return", agent: noHeader, status: 403},
		{name: "agent is a dash", target: "/return", agent: "-", status: 403},
		{name: "agent with quotes", target: "/return", agent: `a "b" \c\x22 'd' {"e":1}`, status: 403},
		{name: "agent with fields", target: "/return", agent: `x" 200 5 "-" "y" us="200"`, status: 403},
		{name: "agent with control bytes", target: "/return", agent: "a\x01b\x7fc\td\x1b[31m", status: 403},
		{name: "agent in UTF-8", target: "/return", agent: "Zoë 日本 🦊", status: 403},
		{name: "agent not in UTF-8", target: "/return", agent: "a\xffb\xc3", status: 403},
		{name: "long agent", target: "/return", agent: strings.Repeat("agent ", 500) + "end", status: 403},
		{name: "referer with quotes", target: "/rules/all/r", referer: `https://r.test/?a="b", host: "c"`, status: 403, cause: "acl", layer: web, ruling: 403},
		{name: "forwarded with quotes", target: "/return", header: []string{`X-Forwarded-For: "192.0.2.1", 198.51.100.2`}, status: 403},

		{name: "garbage", line: "\x16\x03\x01\x02\x00\x01\x00\x01\xfc", status: 400},
		{name: "one word", line: "hello", status: 400},
		{name: "another protocol", line: "t3 12.1.2", status: 400},
		{name: "lower case", line: "get /rules/all/x HTTP/1.1", method: "get", target: "/rules/all/x", status: 400},
		{name: "space in the target", line: "GET /rules/all/a b HTTP/1.1", method: "GET", target: "/rules/all/a b", status: 400},
		{name: "connect", line: "CONNECT shop.test:443 HTTP/1.1", method: "CONNECT", target: "shop.test:443", status: 400},
	}
}
