package parsers_test

import (
	"errors"
	"fmt"
	"net"
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

// apacheReadings are the access logs of the Apache under test and the ways in
// which they are read.
func apacheReadings() []reading {
	own := func(name, carries, format string) reading {
		return reading{name: name, carries: carries, config: parsers.Config{Format: "apache", LogFormat: `LogFormat "` + format + `" ` + name}}
	}
	fine := func(r reading) reading { r.fine = true; return r }
	mapped := func(r reading, key, directive string) reading {
		r.config.Mapping = map[string]string{key: directive}
		return r
	}
	const all = "status client user"
	return []reading{
		own("common", all+" request", `%h %l %u %t \"%r\" %>s %b`),
		{name: "common_by_name", log: "common", config: parsers.Config{Format: "common"}, carries: all + " request"},
		own("combined", all+" request agent", `%h %l %u %t \"%r\" %>s %b \"%{Referer}i\" \"%{User-Agent}i\"`),
		own("vhost_combined", all+" server request agent", `%v:%p %h %l %u %t \"%r\" %>s %O \"%{Referer}i\" \"%{User-Agent}i\"`),
		{name: "vhost_combined_by_name", log: "vhost_combined", config: parsers.Config{Format: "vhost_combined"}, carries: all + " server request agent"},
		own("combinedio", all+" request agent", `%h %l %u %t \"%r\" %>s %b \"%{Referer}i\" \"%{User-Agent}i\" %I %O`),
		own("modifiers", "status client request", `%a %{c}a %t %s %<s %>s \"%r\" %X %k %P %{tid}P %B %D %T %{ms}T`),
		own("original", "first client request", `%{c}a %t %s \"%r\"`),
		mapped(own("conditions", all+" request agent_of_refused role", `%a \"%u\" %t \"%r\" %>s \"%!200,304,302{User-Agent}i\" %400,403{Referer}i \"%{X-Role}i\"`), "role", "%{X-Role}i"),
		fine(own("stamps", all+" uri", `[%{%d/%b/%Y:%T}t.%{msec_frac}t %{%z}t] [%{end:%s}t] %m %a %>s %u \"%U%q\" %H`)),
		fine(own("epoch", "status client request", `%{sec}t %{msec}t %{usec}t %a \"%r\" %>s`)),
		{name: "ends", carries: "status client request", config: parsers.Config{LogFormat: `LogFormat "[%{end:%Y-%m-%dT%H:%M:%S%z}t] %a \"%r\" %>s" ends`}},
		own("by_hand", all+" uri host_header agent role", `{\"t\":\"%{%Y-%m-%dT%H:%M:%S%z}t\",\"host\":\"%{Host}i\",\"m\":\"%m\",\"p\":\"%U%q\",\"status\":%>s,\"ip\":\"%a\",\"user\":\"%u\",\"ua\":\"%{User-Agent}i\",\"role\":\"%{X-Role}i\",\"us\":%D}`),
		fine(own("pairs", all+" request agent role id", `time=%{usec}t ip=%a user=%u status=%>s req=\"%r\" ua=\"%{User-Agent}i\" role=%{X-Role}i id=%L`)),
		own("tabs", all+" uri agent id", `%{%Y-%m-%dT%H:%M:%S%z}t\t%a\t%u\t%m\t%U%q\t%>s\t%{User-Agent}i\t%L`),
		own("advised", all+" request agent id answer", `%h %l %u %t \"%r\" %>s %O \"%{Referer}i\" \"%{User-Agent}i\" id=%L role=\"%{X-Role}o\"`),
	}
}

// apacheErrorFormats are what the servers under test write into their error logs.
func apacheErrorFormats() map[string]string {
	return map[string]string{
		"default": "",
		"with_id": `ErrorLogFormat "[%{u}t] [%-m:%l] [pid %P:tid %T] [%L] %7F: %E: [client\ %a] %M% ,\ referer:\ %{Referer}i"`,
		"threads": `ErrorLogFormat "[%{cu}t] [%-m:%-l] [R:%L] [C:%{C}L] %7F: %E: [client\ %a] %M"`,
	}
}

// TestApacheRoundTrip drives a real Apache through everything that it refuses for.
func TestApacheRoundTrip(t *testing.T) {
	apache := servertest.Need(t, "apache2")
	modules := "/usr/lib/apache2/modules"
	if _, err := os.Stat(modules); err != nil {
		servertest.Lack(t, "Apache's modules are not in "+modules)
	}
	for name, format := range apacheErrorFormats() {
		t.Run(name, func(t *testing.T) { apacheRoundTrip(t, apache, modules, name, format) })
	}
}

func apacheRoundTrip(t *testing.T, apache, modules, name, errorFormat string) {
	dir := folder(t)
	port := servertest.FreePort(t)
	readings := apacheReadings()
	var logs, load strings.Builder
	for i := range readings {
		if r := &readings[i]; r.log == "" {
			fmt.Fprintf(&logs, "%s\nCustomLog %s/log/%s.log %[3]s\n", r.config.LogFormat, dir, r.name)
		}
	}
	for _, m := range []string{"mpm_event", "authz_core", "authz_host", "authz_user", "authn_core", "authn_file", "auth_basic", "access_compat",
		"alias", "dir", "autoindex", "mime", "setenvif", "rewrite", "proxy", "proxy_http", "cgid", "ssl", "headers"} {
		fmt.Fprintf(&load, "LoadModule %s_module %s/mod_%[1]s.so\n", m, modules)
	}
	steps, firewall := apacheSteps(), ""
	t.Run("ModSecurity", func(t *testing.T) {
		if name == "with_id" {
			t.Skip("mod_unique_id, which it needs, would make the ids; here the server makes them")
		}
		if _, err := os.Stat(filepath.Join(modules, "mod_security2.so")); err != nil {
			servertest.Lack(t, "Apache has no mod_security2")
		}
		fmt.Fprintf(&load, "LoadModule unique_id_module %s/mod_unique_id.so\nLoadModule security2_module %[1]s/mod_security2.so\n", modules)
		firewall = "<Location /waf>\n" + firewallRules("'") + "</Location>\n"
		steps = append(steps, firewallSteps()...)
	})
	user := ""
	if name, group, ok := servertest.Unprivileged(); ok {
		user = "User " + name + "\nGroup " + group + "\n"
	}
	listen6 := ""
	if loopback6() {
		listen6 = fmt.Sprintf("Listen [::1]:%d", port)
	}
	www := filepath.Join(dir, "www")
	for _, page := range []string{"index.html", "page.html", "denied/page.html", "denied/page é.html", "ip/page.html", "old/page.html", "bots/page.html", "user/page.html", "basic/page.html",
		"strict/page.html", "empty/page.html", "listed/page.html", "unreadable.html", "closed/page.html", "shut/page.html", "links/page.html", "tree/a/b/page.html",
		"own/page.html", "limit/page.html", "norewrite/page.html", "scripts/run.cgi", "tls/page.html", "paged/page.html", "lost/page.html", "moved/page.html", "waf/page.html", ".env"} {
		place(t, filepath.Join(www, page), "hello")
	}
	place(t, filepath.Join(dir, "elsewhere", "page.html"), "hello")
	place(t, filepath.Join(www, "tree", ".htaccess"), "Require all denied\n")
	place(t, filepath.Join(www, "own", ".htaccess"), "<Files page.html>\nRequire all denied\n</Files>\n")
	place(t, filepath.Join(www, "norewrite", ".htaccess"), "RewriteEngine on\nRewriteRule ^x$ /page.html\n")
	if err := errors.Join(
		os.Mkdir(filepath.Join(dir, "log"), 0o755),
		os.Symlink("page.html", filepath.Join(www, "links", "linked.html")),
		os.Symlink("nowhere.html", filepath.Join(www, "dangling.html")),
		os.Chmod(filepath.Join(www, "scripts", "run.cgi"), 0o755),
	); err != nil {
		t.Fatal(err)
	}
	l, err := net.Listen("unix", filepath.Join(www, "socket"))
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	chmod(t, filepath.Join(www, "unreadable.html"), 0)
	chmod(t, filepath.Join(www, "closed"), 0)
	chmod(t, filepath.Join(www, "shut"), 0)
	chmod(t, filepath.Join(www, "listed"), 0o311)
	place(t, filepath.Join(dir, "htpasswd"), "ann:{SHA}"+sha+"\nann bee:{SHA}"+sha+"\nbob:{SHA}"+sha+"\n")
	place(t, filepath.Join(dir, "mime.types"), "text/html html\n")
	conf := place(t, filepath.Join(dir, "httpd.conf"), fmt.Sprintf(`ServerRoot %[1]s
DefaultRuntimeDir %[1]s
PidFile %[1]s/httpd.pid
TypesConfig %[1]s/mime.types
Mutex file:%[1]s default
ScriptSock %[1]s/cgi.sock
%[2]s%[3]s
ServerName %[4]s
Listen 127.0.0.1:%[5]d
%[6]s
ErrorLog %[1]s/log/error.log
%[7]s
LogLevel warn
%[8]s
DocumentRoot %[9]s
DirectoryIndex index.html
ServerLimit 1
StartServers 1
ThreadsPerChild 4
MaxRequestWorkers 4
MinSpareThreads 1
MaxSpareThreads 4
<Directory />
  AllowOverride None
  Require all denied
</Directory>
<Directory %[9]s>
  AllowOverride All
  Options FollowSymLinks
  Require all granted
</Directory>
<Directory %[1]s/elsewhere>
  Require all denied
</Directory>
Alias /other %[1]s/elsewhere
<Directory %[9]s/shut>
  AllowOverride None
</Directory>
<FilesMatch "^\.(env|ht)">
  Require all denied
</FilesMatch>
<Location /denied>
  Require all denied
</Location>
<Directory %[9]s/ip>
  Require ip 192.0.2.0/24 127.0.0.9
</Directory>
<Directory %[9]s/old>
  Order Allow,Deny
  Allow from all
  Deny from 127.0.0.66
</Directory>
SetEnvIfNoCase User-Agent badbot bad_bot
<Directory %[9]s/bots>
  <RequireAll>
    Require all granted
    Require not env bad_bot
  </RequireAll>
</Directory>
<DirectoryMatch ^%[9]s/(basic|user|strict)>
  AuthType Basic
  AuthName staff
  AuthUserFile %[1]s/htpasswd
</DirectoryMatch>
<Directory %[9]s/basic>
  Require valid-user
</Directory>
<Directory %[9]s/user>
  Require user ann
</Directory>
<Directory %[9]s/strict>
  Require user ann
  AuthzSendForbiddenOnFailure On
</Directory>
<Directory %[9]s/listed>
  Options +Indexes
</Directory>
<Directory %[9]s/links>
  Options -FollowSymLinks
</Directory>
<Directory %[9]s/norewrite>
  Options None
</Directory>
<Directory %[9]s/scripts>
  AddHandler cgi-script .cgi
</Directory>
<Directory %[9]s/limit>
  <LimitExcept GET HEAD>
    Require all denied
  </LimitExcept>
</Directory>
<Directory %[9]s/tls>
  SSLRequireSSL
</Directory>
RewriteEngine on
RewriteRule ^/rewritten - [F]
Redirect 403 /redirected
ProxyPass /app/ http://%[10]s/
ProxyPass /blocked/ http://%[10]s/blocked/
<Proxy "http://%[10]s/blocked/*">
  Require all denied
</Proxy>
RequestHeader set X-Forwarded-Role "%%{X-Role}i"
%[11]s
<Location /paged>
  ErrorDocument 403 /page.html
  Require all denied
</Location>
<Location /lost>
  ErrorDocument 403 /nowhere.html
  Require all denied
</Location>
<Location /moved>
  ErrorDocument 403 http://shop.test/sorry
  Require all denied
</Location>
`, dir, load.String(), user, siteHost, port, listen6, errorFormat, logs.String(), www, application(t), firewall))
	server := servertest.Serve(t, exec.Command(apache, "-f", conf, "-DFOREGROUND"), zoneEnv)
	x := newSite(t, server, port, filepath.Join(dir, "log"), "error.log", readings)
	for _, s := range steps {
		if strings.Contains(s.from, ":") && listen6 == "" {
			continue
		}
		x.do(&s)
	}
	x.ids = errorFormat != ""
	x.check(readings, errorlog.Config{Server: errorlog.Apache, Location: zone})
}

// sha is "right", as htpasswd -s writes it.
const sha = "0nofEXcSAJSXFLGvmfBIpBb11vQ="

func apacheSteps() []step {
	const web = event.LayerWeb
	return []step{
		{name: "page", target: "/page.html", status: 200},
		{name: "page with query", target: "/page.html?a=b&c=%22d%22", status: 200, referer: "https://shop.test/?q=1", role: "viewer"},
		{name: "missing", target: "/missing.html", status: 404},
		{name: "head", method: "HEAD", target: "/denied/head.html", status: 403, cause: "acl", layer: web, ruling: 403},

		{name: "all denied", target: "/denied/page.html?x=y", status: 403, cause: "acl", layer: web, ruling: 403, role: "editor, billing admin", referer: "https://r.test/"},
		{name: "address", target: "/ip/page.html", status: 403, cause: "acl", layer: web, ruling: 403},
		{name: "address lets in", target: "/ip/page.html", from: "127.0.0.9", status: 200},
		{name: "old rules", target: "/old/page.html", from: "127.0.0.66", status: 403, cause: "acl", layer: web, ruling: 403},
		{name: "old rules let in", target: "/old/page.html", status: 200},
		{name: "variable", target: "/bots/page.html", agent: "BadBot/1.0", status: 403, cause: "acl", layer: web, ruling: 403},
		{name: "dot file", target: "/.env", status: 403, cause: "acl", layer: web, ruling: 403},
		{name: "elsewhere", target: "/other/page.html", apart: true, status: 403, cause: "acl", layer: web, ruling: 403},
		{name: "elsewhere, folder", target: "/other/", apart: true, status: 403, cause: "acl", layer: web, ruling: 403},
		{name: ".htaccess", target: "/own/page.html", status: 403, cause: "acl", layer: web, ruling: 403},
		{name: ".htaccess of a parent", target: "/tree/a/b/page.html", status: 403, cause: "acl", layer: web, ruling: 403},
		{name: ".htaccess of a parent, folder", target: "/tree/a/", status: 403, cause: "acl", layer: web, ruling: 403},
		{name: ".htaccess itself", target: "/own/.htaccess", status: 403, cause: "acl", layer: web, ruling: 403},
		{name: "no index", target: "/empty/", status: 403, cause: "directory_index", layer: web, ruling: 403},
		{name: "unreadable folder", target: "/listed/", status: 403, cause: "fs_permission", layer: web, ruling: 403},
		{name: "file mode", target: "/unreadable.html", status: 403, cause: "fs_permission", layer: web, ruling: 403},
		{name: "folder mode, .htaccess", target: "/closed/page.html", status: 403, cause: "fs_permission", layer: web, ruling: 403},
		{name: "folder mode, .htaccess, index", target: "/closed/", status: 403, cause: "fs_permission", layer: web, ruling: 403},
		{name: "folder mode", target: "/shut/page.html", status: 403, cause: "fs_permission", layer: web, ruling: 403},
		{name: "symlink", target: "/links/linked.html", status: 403, cause: "symlink", layer: web, ruling: 403},
		{name: "dangling symlink", target: "/dangling.html", status: 403, cause: "symlink", layer: web, ruling: 403},
		{name: "socket", target: "/socket", status: 403, cause: "not_regular_file", layer: web, ruling: 403},
		{name: "name too long", target: "/" + strings.Repeat("n", 300), status: 403, cause: "name_too_long", layer: web, ruling: 403},
		{name: "rewriting forbidden", target: "/norewrite/page.html", status: 403, cause: "rewrite_forbidden", layer: web, ruling: 403},
		{name: "script", target: "/scripts/run.cgi", status: 403, cause: "exec_forbidden", layer: web, ruling: 403},
		{name: "LimitExcept lets in", target: "/limit/page.html", status: 200},
		{name: "LimitExcept", method: "POST", target: "/limit/page.html", status: 403, cause: "acl", layer: web, ruling: 403},
		{name: "TLS", target: "/tls/page.html", status: 403, cause: "tls_required", layer: web, ruling: 403},
		{name: "rewritten", target: "/rewritten/x", status: 403},
		{name: "redirected", target: "/redirected/x", status: 403},

		{name: "no password", target: "/basic/page.html", status: 401},
		{name: "wrong password", target: "/basic/page.html", login: "ann:wrong", status: 401},
		{name: "right password", target: "/basic/page.html", login: "ann:right", status: 200},
		{name: "user with a space", target: "/basic/page.html", login: "ann bee:right", status: 200},
		{name: "user with quotes", target: "/basic/page.html", login: `mal"lo\ry, referer: x:x`, status: 401},
		{name: "user with a newline", target: "/basic/page.html", login: "mal\nlory [x]:x", status: 401},
		{name: "user in UTF-8", target: "/basic/page.html", login: "zoë:x", status: 401},
		{name: "empty user", target: "/basic/page.html", login: ":x", status: 401},
		{name: "another user", target: "/user/page.html", login: "bob:right", status: 401, cause: "authz", layer: web},
		{name: "another user, 403", target: "/strict/page.html", login: "bob:right", status: 403, cause: "authz", layer: web},
		{name: "the user", target: "/strict/page.html", login: "ann:right", status: 200},
		{name: "user where nobody asks", target: "/denied/user.html", login: "eve:x", noUser: true, status: 403, cause: "acl", layer: web, ruling: 403},

		{name: "application", target: "/app/reports/7?full=1", role: "viewer", header: []string{"X-Want: 403"}, status: 403, upstream: 403},
		{name: "application lets in", target: "/app/reports/7?full=1", role: "owner;admin", status: 200, upstream: 200},
		{name: "proxy block", target: "/blocked/x", status: 403, cause: "acl", layer: web, ruling: 403},
		{name: "error page", target: "/paged/page.html", status: 403, cause: "acl", layer: web, ruling: 403},
		{name: "lost error page", target: "/lost/page.html", told: 403, status: 404, first: 403, cause: "acl", layer: web, ruling: 403},
		{name: "error page elsewhere", target: "/moved/page.html", status: 302, cause: "acl", layer: web, ruling: 403},

		{name: "encoded", target: "/denied/page%20%C3%A9.html?q=%22", uri: "/denied/page é.html?q=%22", status: 403, cause: "acl", layer: web, ruling: 403},
		{name: "encoded, .htaccess", target: "/tree/a%20b/%C3%A9.html", uri: "/tree/a b/é.html", status: 403, cause: "acl", layer: web, ruling: 403},
		{name: "quotes", target: `/denied/a"b'c?d="e"`, status: 403, cause: "acl", layer: web, ruling: 403},
		{name: "backslash", target: `/denied/a\b\x22c\`, status: 403, cause: "acl", layer: web, ruling: 403},
		{name: "UTF-8", target: "/denied/é/日本", status: 403, cause: "acl", layer: web, ruling: 403},
		{name: "not UTF-8", target: "/denied/\xff\xfe", status: 403, cause: "acl", layer: web, ruling: 403},
		{name: "dots", target: "/app/../denied/./x//y", uri: "/denied/x/y", status: 403, cause: "acl", layer: web, ruling: 403},
		{name: "deep", target: "/denied/a/b/c", apart: true, status: 403, cause: "acl", layer: web, ruling: 403},
		{name: "long", target: "/denied/" + strings.Repeat("l", 3000), status: 403, cause: "name_too_long", layer: web, ruling: 403},
		{name: "long query", target: "/denied/long?" + strings.Repeat("q=1&", 1000), status: 403, cause: "acl", layer: web, ruling: 403},
		{name: "absolute form", target: "http://Other.Test/denied/abs?y", uri: "/denied/abs?y", vhost: "other.test", status: 403, cause: "acl", layer: web, ruling: 403},
		{name: "HTTP/1.0", target: "/denied/10", proto: "HTTP/1.0", status: 403, cause: "acl", layer: web, ruling: 403},
		{name: "HTTP/0.9", target: "/denied/09", proto: "HTTP/0.9", status: 403, cause: "acl", layer: web, ruling: 403},
		{name: "unknown method", method: "BREW", target: "/denied/v", status: 403, cause: "acl", layer: web, ruling: 403},
		{name: "lower case", method: "get", target: "/denied/low", status: 403, cause: "acl", layer: web, ruling: 403},
		{name: "IPv6", target: "/denied/6", from: "::1", status: 403, cause: "acl", layer: web, ruling: 403},
		{name: "first on a connection", target: "/denied/k1", keep: true, status: 403, cause: "acl", layer: web, ruling: 403},
		{name: "second on a connection", target: "/shut/page.html", from: "127.0.0.1", status: 403, cause: "fs_permission", layer: web, ruling: 403},

		{name: "no agent", target: "/redirected", agent: noHeader, status: 403},
		{name: "agent with quotes", target: "/redirected", agent: `a "b" \c\x22 'd' {"e":1}`, status: 403},
		{name: "agent with fields", target: "/redirected", agent: `x" 200 5 "-" "y" id="200"`, status: 403},
		{name: "agent with a tab", target: "/redirected", agent: "a\tb", status: 403},
		{name: "agent in UTF-8", target: "/redirected", agent: "Zoë 日本 🦊", status: 403},
		{name: "agent not in UTF-8", target: "/redirected", agent: "a\xffb\xc3", status: 403},
		{name: "referer with quotes", target: "/denied/r", referer: `https://r.test/?a="b", referer: "c"`, status: 403, cause: "acl", layer: web, ruling: 403},

		{name: "garbage", line: "\x16\x03\x01\x02\x01\x01\x01\x01\xfc", taken: "\x16\x03\x01\x02\x01\x01\x01\x01\xfc /", status: 400},
		{name: "one word", line: "hello", taken: "hello /", status: 400},
		{name: "another protocol", line: "t3 12.1.2", taken: "t3 12.1.2", status: 400},
		{name: "space in the target", line: "GET /denied/a b HTTP/1.1", method: "GET", target: "/denied/a b", taken: "GET /denied/a", status: 400},
	}
}
