package errorlog

import (
	"fmt"
	"strings"
	"testing"

	"github.com/denywatch/denywatch/internal/event"
)

// TestEvents: what joins an error line to its request comes without the log's
// escapes, and with what the two logs have in common.
func TestEvents(t *testing.T) {
	const (
		apache = `[Tue Feb 11 09:30:03.000000 2025] [authz_core:error] [pid 71:tid 90] [Zq-k1NnGdOo] [client 192.0.2.30:51000] AH01630: client denied by server configuration: `
		nginx  = `2025/02/11 08:15:02 [error] 8#8: *17 access forbidden by rule, client: 192.0.2.1, server: a, request: "GET `
	)
	long := "/" + strings.Repeat("x", longPath)
	for _, c := range []struct{ line, want string }{
		{apache + `/site/caf\xc3\xa9 "a\\b\"`, `id "Zq-k1NnGdOo" conn 0 path "" file "/site/café \"a\\b\""`},
		{nginx + `/caf%C3%A9\x20 HTTP/1.1", host: "a"`, `id "" conn 17 path "/caf%C3%A9\\x20" file ""`},
		{nginx + `/cut`, `id "" conn 17 path "" file ""`},
		{nginx + `/cut?in=the&que`, `id "" conn 17 path "/cut?in=the&que" file ""`},
		{nginx + long, fmt.Sprintf(`id "" conn 17 path %q file ""`, long)},
	} {
		p := newParser(t, Config{}).Events()
		var e event.Event
		e.Reset()
		if err := p.Parse([]byte(c.line), &e); err != nil {
			t.Errorf("%s: %v", c.line, err)
		}
		if got := fmt.Sprintf("id %q conn %d path %q file %q", e.RequestID, e.Conn, e.Path, e.Route); got != c.want {
			t.Errorf("%s\n got %s\nwant %s", c.line, got, c.want)
		}
	}
}
