package parsers

import (
	"fmt"
	"strings"
)

// nginxFormats are the log_format strings that have a name of their own: the one
// built into nginx (https://nginx.org/en/docs/http/ngx_http_log_module.html), the
// one in its packaged nginx.conf, and the default of ingress-nginx.
var nginxFormats = map[string]string{
	"combined":         nginxCombined,
	"main":             nginxCombined + ` "$http_x_forwarded_for"`,
	"common":           `$remote_addr - $remote_user [$time_local] "$request" $status $body_bytes_sent`,
	"vhost_combined":   `$host:$server_port ` + nginxCombined,
	"upstreaminfo":     nginxCombined + ` $request_length $request_time [$proxy_upstream_name] [$proxy_alternative_upstream_name] $upstream_addr $upstream_response_length $upstream_response_time $upstream_status $req_id`,
	nginxJSONFormat:    "",
	"combined_timed":   nginxCombined + ` $request_time`,
	"combined_proxied": nginxCombined + ` "$http_x_forwarded_for" $request_time $upstream_response_time`,
}

// nginxJSONFormat names access logs in JSON whose log_format is not given: the
// fields are found by their names, as in the json format.
const nginxJSONFormat = "json"

// Formats without a name of their own that are recognised: a host or the clients
// in front of combined, and those that Nginx Proxy Manager
// (https://github.com/NginxProxyManager/nginx-proxy-manager, log-proxy.conf) and
// BunkerWeb (https://docs.bunkerweb.io, LOG_FORMAT) bring along.
const (
	nginxHostCombined    = `$host ` + nginxCombined
	nginxClientsCombined = `$http_x_forwarded_for` + nginxTail
	nginxHostClients     = `$host ` + nginxClientsCombined
	nginxBunkerWeb       = `$host $remote_addr - $request_id $remote_user [$time_local] "$request" $status $body_bytes_sent "$http_referer" "$http_user_agent"`
	nginxManagerProxy    = `[$time_local] $upstream_cache_status $upstream_status $status - $request_method $scheme $host "$request_uri" [Client $remote_addr] [Length $body_bytes_sent] [Gzip $gzip_ratio] [Sent-to $server] "$http_user_agent" "$http_referer"`
	nginxManagerStandard = `[$time_local] $status - $request_method $scheme $host "$request_uri" [Client $remote_addr] [Length $body_bytes_sent] [Gzip $gzip_ratio] "$http_user_agent" "$http_referer"`
)

const nginxCombined = `$remote_addr` + nginxTail

const nginxTail = ` - $remote_user [$time_local] "$request" $status $body_bytes_sent "$http_referer" "$http_user_agent"`

// nginxVariable is what is known of a variable. Those not listed are text.
type nginxVariable struct {
	shape shape
	field field
	rank  uint8
	wild  bool
}

var nginxVariables = map[string]nginxVariable{
	"remote_addr":        {shape: shapeToken, field: fieldClient},
	"realip_remote_addr": {shape: shapeToken, field: fieldClient, rank: 3},
	"proxy_protocol_addr": {
		shape: shapeToken, field: fieldClient, rank: 2},
	"remote_user":            {shape: shapeText, field: fieldUser, rank: 2, wild: true},
	"msec":                   {shape: shapeNumber, field: fieldTime},
	"time_iso8601":           {shape: shapeISO, field: fieldTime, rank: 1},
	"time_local":             {shape: shapeCLF, field: fieldTime, rank: 2},
	"request":                {shape: shapeText, field: fieldRequest, rank: 1, wild: true},
	"request_method":         {shape: shapeToken, field: fieldMethod},
	"request_uri":            {shape: shapePath, field: fieldPath},
	"uri":                    {shape: shapePath, field: fieldPath, rank: 2},
	"document_uri":           {shape: shapePath, field: fieldPath, rank: 3},
	"is_args":                {shape: shapeQuery},
	"status":                 {shape: shapeStatus, field: fieldStatus},
	"upstream_status":        {shape: shapeList, field: fieldUpstream},
	"upstream_addr":          {shape: shapeList},
	"host":                   {shape: shapeToken, field: fieldHost},
	"http_host":              {shape: shapeToken, field: fieldHost, rank: 1},
	"server_name":            {shape: shapeToken, field: fieldHost, rank: 2},
	"request_id":             {shape: shapeToken, field: fieldRequestID},
	"req_id":                 {shape: shapeToken, field: fieldRequestID, rank: 1},
	"http_x_request_id":      {shape: shapeToken, field: fieldRequestID, rank: 2},
	"http_user_agent":        {shape: shapeText, field: fieldUserAgent, wild: true},
	"http_referer":           {shape: shapeText, wild: true},
	"http_x_forwarded_for":   {shape: shapeText, field: fieldClient, rank: 5, wild: true},
	"http_cf_connecting_ip":  {shape: shapeToken, field: fieldClient, rank: 4},
	"http_true_client_ip":    {shape: shapeToken, field: fieldClient, rank: 4},
	"http_x_real_ip":         {shape: shapeToken, field: fieldClient, rank: 4},
	"http_cf_ipcountry":      {shape: shapeToken, field: fieldGeo, rank: 2},
	"scheme":                 {shape: shapeToken},
	"server_protocol":        {shape: shapeToken},
	"ssl_protocol":           {shape: shapeToken},
	"ssl_cipher":             {shape: shapeToken},
	"pipe":                   {shape: shapeToken},
	"hostname":               {shape: shapeToken},
	"server_addr":            {shape: shapeToken},
	"upstream_cache_status":  {shape: shapeToken},
	"connection":             {shape: shapeNumber, field: fieldConn},
	"connection_requests":    {shape: shapeNumber},
	"body_bytes_sent":        {shape: shapeNumber},
	"bytes_sent":             {shape: shapeNumber},
	"request_length":         {shape: shapeNumber},
	"request_time":           {shape: shapeNumber},
	"server_port":            {shape: shapeNumber},
	"remote_port":            {shape: shapeNumber},
	"content_length":         {shape: shapeNumber},
	"pid":                    {shape: shapeNumber},
	"upstream_response_time": {shape: shapeList}, "upstream_connect_time": {shape: shapeList},
	"upstream_header_time": {shape: shapeList}, "upstream_response_length": {shape: shapeList},
	"upstream_bytes_received": {shape: shapeList}, "upstream_bytes_sent": {shape: shapeList},
}

// nginxSpec is a log_format as the user gave it, taken apart.
type nginxSpec struct {
	name   string // of a format that has one, else empty
	escape string // default, json or none
	format string
}

// readNginxSpec accepts the name of a format, a log_format string with or without
// "escape=..." in front, or a whole log_format statement as in nginx.conf.
func readNginxSpec(s string) (nginxSpec, error) {
	spec := nginxSpec{escape: "default"}
	s = strings.TrimSpace(s)
	if _, ok := nginxFormats[s]; ok || s == "" {
		if s == "" {
			s = "combined"
		}
		spec.name, spec.format = s, nginxFormats[s]
		return spec, nil
	}
	quoted := false
	if rest, ok := strings.CutPrefix(s, "log_format "); ok {
		_, rest, _ = strings.Cut(strings.TrimSpace(rest), " ")
		s, quoted = strings.TrimSpace(rest), true
	}
	if rest, ok := strings.CutPrefix(s, "escape="); ok {
		var esc string
		if i := strings.IndexAny(rest, " \t\n"); i >= 0 {
			esc, rest = rest[:i], strings.TrimSpace(rest[i:])
		} else {
			esc, rest = rest, ""
		}
		if esc != "default" && esc != "json" && esc != "none" {
			return spec, fmt.Errorf("escape=%s is unknown; nginx has escape=default, escape=json and escape=none", esc)
		}
		spec.escape, s = esc, rest
	}
	if quoted || strings.HasPrefix(s, "'") {
		var err error
		if s, err = nginxStrings(s); err != nil {
			return spec, err
		}
	} else {
		s = nginxUnquote.Replace(s)
	}
	if !strings.Contains(s, "$") {
		return spec, fmt.Errorf("%q is neither a format that has a name (%s) nor a log_format string with $variables; copy it from nginx.conf",
			clip(s), strings.Join(names(nginxFormats), ", "))
	}
	spec.format = s
	return spec, nil
}

// nginxUnquote resolves what nginx.conf resolves inside quoted strings.
var nginxUnquote = strings.NewReplacer(`\t`, "\t", `\n`, "\n", `\r`, "\r", `\"`, `"`, `\'`, `'`, `\\`, `\`)

// nginxStrings joins the quoted strings of a log_format statement.
func nginxStrings(s string) (string, error) {
	var out strings.Builder
	for s = strings.TrimSpace(s); s != "" && s != ";"; s = strings.TrimSpace(s) {
		q := s[0]
		if q != '\'' && q != '"' {
			return "", fmt.Errorf("%q: expected a quoted string of log_format", clip(s))
		}
		end := 1
		for end < len(s) && s[end] != q {
			if s[end] == '\\' {
				end++
			}
			end++
		}
		if end >= len(s) {
			return "", fmt.Errorf("a quoted string of log_format has no end")
		}
		out.WriteString(nginxUnquote.Replace(s[1:end]))
		s = s[end+1:]
	}
	return out.String(), nil
}

// nginxElements cuts a log_format string into its elements.
func nginxElements(spec nginxSpec) ([]element, error) {
	var elems []element
	s := spec.format
	for s != "" {
		i := strings.IndexByte(s, '$')
		if i < 0 {
			elems = append(elems, element{lit: s})
			break
		}
		if i > 0 {
			elems = append(elems, element{lit: s[:i]})
		}
		s = s[i+1:]
		var name string
		if strings.HasPrefix(s, "{") {
			end := strings.IndexByte(s, '}')
			if end < 0 {
				return nil, fmt.Errorf("${ has no closing }")
			}
			name, s = s[1:end], s[end+1:]
		} else {
			n := 0
			for n < len(s) && (s[n] == '_' || s[n]-'0' <= 9 || s[n]|0x20 >= 'a' && s[n]|0x20 <= 'z') {
				n++
			}
			name, s = s[:n], s[n:]
		}
		if name == "" {
			return nil, fmt.Errorf("a $ without the name of a variable")
		}
		elems = append(elems, nginxElement(name, elems))
	}
	return joinQuery(elems, spec.escape), nil
}

// nginxElement describes a variable; what stands in front of it may name it.
func nginxElement(name string, before []element) element {
	v := nginxVariables[name]
	e := element{name: "$" + name, shape: v.shape, field: v.field, rank: v.rank, wild: v.wild}
	e.claimed = v.field == fieldUser
	if name == "http_x_forwarded_for" && !behindQuote(before) {
		e.shape, e.wild = shapeList, false // "client, proxy, proxy"
	}
	if v.field != fieldNone || v.shape != shapeText {
		return e
	}
	header, kind := name, ""
	for _, prefix := range []string{"upstream_http_", "sent_http_", "upstream_cookie_", "http_", "cookie_"} {
		if h, ok := strings.CutPrefix(name, prefix); ok {
			header, kind = h, prefix
			break
		}
	}
	fromClient := kind == "http_" || kind == "cookie_"
	e.wild = kind != ""
	switch {
	case strings.Contains(name, "country") && !strings.Contains(name, "name") && !fromClient:
		e.field, e.shape = fieldGeo, shapeText
		if !strings.Contains(name, "code") || strings.Contains(name, "code3") {
			e.rank = 1
		}
		return e
	case !fromClient:
		// The application's own answer, or a variable that the server's
		// configuration sets, says who the user is.
		for _, prefix := range []string{"jwt_claim_", "auth_", "oauth_"} {
			header = strings.TrimPrefix(header, prefix)
		}
		if e.field = identityField(header); e.field != fieldNone {
			e.rank = 1
			return e
		}
	}
	if n := len(before); n > 0 && before[n-1].name == "" {
		// Whoever wrote the format gave the value a name: "role":"$http_x_role".
		if e.field = identityField(label(before[n-1].lit)); e.field != fieldNone {
			e.rank = 1
			e.claimed = e.field == fieldUser && fromClient
		}
	}
	return e
}

// behindQuote tells whether the text in front of a value ends with a quote, so
// that the value ends with one too.
func behindQuote(before []element) bool {
	n := len(before)
	return n > 0 && before[n-1].name == "" && strings.HasSuffix(before[n-1].lit, `"`)
}

// joinQuery makes one path of $uri$is_args$args and of $uri?$args.
func joinQuery(elems []element, escape string) []element {
	var out []element
	for i := 0; i < len(elems); i++ {
		e := elems[i]
		isArgs := func(k int) bool {
			return k < len(elems) && (elems[k].name == "$args" || elems[k].name == "$query_string")
		}
		if e.shape == shapePath && i+2 < len(elems) && isArgs(i+2) && (elems[i+1].name == "$is_args" || elems[i+1].lit == "?") {
			e.name += "$is_args$args"
			e.dashQuery = escape == "default"
			i += 2
		}
		out = append(out, e)
	}
	return out
}

// nginxEscaping is how the values of a log_format are escaped.
func nginxEscaping(escape string) escaping {
	if escape == "none" {
		return escapeNone
	}
	return escapeBackslash
}

// nginxCandidates are the nginx formats that Detect tries.
func nginxCandidates() []candidate {
	return []candidate{
		{config: Config{Format: familyNginx, LogFormat: "upstreaminfo"}, why: "have the fields of ingress-nginx"},
		{config: Config{Format: familyNginx, LogFormat: "main"}, why: "have the fields of nginx's packaged main format"},
		{config: Config{Format: familyNginx, LogFormat: "combined"}, why: "have the fields of the combined format"},
		{config: Config{Format: familyNginx, LogFormat: nginxClientsCombined}, why: "start with a list of clients and have the fields of the combined format"},
		{config: Config{Format: familyNginx, LogFormat: nginxBunkerWeb}, why: "have the fields of BunkerWeb's format", sign: requestIDFound},
		{config: Config{Format: familyNginx, LogFormat: nginxHostClients}, why: "start with a host and a list of clients and have the fields of the combined format", sign: hostInFront},
		{config: Config{Format: familyNginx, LogFormat: nginxManagerProxy}, why: "have the fields of Nginx Proxy Manager's format for proxies"},
		{config: Config{Format: familyNginx, LogFormat: nginxManagerStandard}, why: "have the fields of Nginx Proxy Manager's format"},
	}
}
