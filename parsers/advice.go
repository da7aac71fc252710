package parsers

import "strings"

// Advice is a format that would tell more than f does, ready to be pasted into
// the server's configuration, and what it would tell; empty if f tells it all or
// is not written by a format string.
func (f *Format) Advice() (format string, gains []string) {
	if f.program == nil {
		return "", nil
	}
	joins := fieldConn // what nginx's error log has too; Apache's has %L
	if f.config.Format == familyApache {
		joins = fieldRequestID
	}
	for _, g := range []struct {
		field field
		gain  string
	}{
		{fieldUpstream, "whether the server or the application refused"},
		{joins, "which error line explains a refusal"},
		{fieldRole, "whom it refused, if the application names the role in a response header"},
	} {
		if g.field == fieldUpstream && f.config.Format == familyApache {
			continue // Apache has no directive for it
		}
		if !f.program.has[g.field] {
			gains = append(gains, g.gain)
		}
	}
	if len(gains) == 0 {
		return "", nil
	}
	if f.config.Format == familyApache {
		return `LogFormat "%h %l %u %t \"%r\" %>s %O \"%{Referer}i\" \"%{User-Agent}i\" id=%L role=\"%{X-Role}o\"" denywatch`, gains
	}
	return strings.Join([]string{
		`log_format denywatch '$remote_addr - $remote_user [$time_local] "$request" $status $body_bytes_sent '`,
		`                     '"$http_referer" "$http_user_agent" us="$upstream_status" conn=$connection role="$upstream_http_x_role"';`,
	}, "\n"), gains
}
