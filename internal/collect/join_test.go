package collect

import (
	"strings"
	"testing"

	"github.com/denywatch/denywatch/internal/event"
	"github.com/denywatch/denywatch/internal/route"
)

// TestJoin: an error line explains the request it is about, and no other.
func TestJoin(t *testing.T) {
	router, _ := route.New(nil)
	c := &Config{Vantage: event.Web, Routes: router, Identity: FixedIdentityKey()}
	c.Denied[403] = true
	const client = "192.0.2.7"
	long := "/docs/" + strings.Repeat("long/", 300)
	for _, x := range []struct {
		name        string
		access, log event.Event
		joined      bool
	}{
		{"path", event.Event{Path: []byte("/a/b?c=d")}, event.Event{Path: []byte("/a/b?c=d")}, true},
		{"another path", event.Event{Path: []byte("/a/b")}, event.Event{Path: []byte("/a/c")}, false},
		{"file", event.Event{Path: []byte("/a/b.html")}, event.Event{Route: []byte("/srv/www/a/b.html")}, true},
		{"file at the root", event.Event{Path: []byte("/b.html")}, event.Event{Route: []byte("/srv/www/b.html")}, true},
		{"another file", event.Event{Path: []byte("/a/b.html")}, event.Event{Route: []byte("/srv/www/c/b.html")}, false},
		{"folder", event.Event{Path: []byte("/a/")}, event.Event{Route: []byte("/srv/www/a/")}, true},
		{"index", event.Event{Path: []byte("/a/")}, event.Event{Route: []byte("/srv/www/a/index.html")}, true},
		{"folder that ends the search", event.Event{Path: []byte("/a/x/y")}, event.Event{Route: []byte("/srv/www/a/x")}, true},
		{"encoded", event.Event{Path: []byte("/a/caf%c3%A9%20b.html?%")}, event.Event{Route: []byte("/srv/www/a/café b.html")}, true},
		{"broken encoding", event.Event{Path: []byte("/a/100%")}, event.Event{Route: []byte("/srv/www/a/100%")}, true},
		{"slashes and dots", event.Event{Path: []byte("/x/../a//./b.html")}, event.Event{Route: []byte("/srv/www/a/b.html")}, true},
		{"dots at the end", event.Event{Path: []byte("/a/b/x/..")}, event.Event{Route: []byte("/srv/www/a/b/")}, true},
		{"dots above the root", event.Event{Path: []byte("/../../a/b")}, event.Event{Route: []byte("/srv/www/a/b")}, true},
		{"in the folder that is refused", event.Event{Path: []byte("/a/b")}, event.Event{Route: []byte("/srv/www/a/")}, false},
		{"beside the index that is refused", event.Event{Path: []byte("/a/b")}, event.Event{Route: []byte("/srv/www/a/index.html")}, false},
		{"rules of the folder unreadable", event.Event{Path: []byte("/a/b")}, event.Event{Route: []byte("/srv/www/a/.htaccess")}, true},
		{"absolute form", event.Event{Path: []byte("http://h.test/a/b")}, event.Event{Route: []byte("/srv/www/a/b")}, true},
		{"cut", event.Event{Path: []byte(long + "end")}, event.Event{Path: []byte(long)}, true},
		{"id", event.Event{Path: []byte("/a"), RequestID: []byte("i")}, event.Event{Route: []byte("/b"), RequestID: []byte("i")}, true},
		{"another id", event.Event{Path: []byte("/a"), RequestID: []byte("i")}, event.Event{Route: []byte("/b"), RequestID: []byte("j")}, false},
		{"connection", event.Event{Path: []byte("/a"), Conn: 5, RequestID: []byte("i")}, event.Event{Path: []byte("/a"), Conn: 5}, true},
		{"another path of the connection", event.Event{Path: []byte("/a"), Conn: 5}, event.Event{Path: []byte("/b"), Conn: 5}, false},
	} {
		x.access.Client, x.access.Status = []byte(client), 403
		x.log.Client, x.log.CauseOnly, x.log.Denial, x.log.Layer, x.log.Cause = []byte(client), true, event.Refused, event.LayerWeb, []byte("acl")
		reasons := NewReasons(c)
		reasons.Add(&x.log)
		got := c.Explain(&x.access)
		reasons.Explain(&x.access, &got)
		if (got.Cause == "acl") != x.joined {
			t.Errorf("%s: cause %q, want joined %v", x.name, got.Cause, x.joined)
		}
		x.log.Client = []byte("192.0.2.8")
		reasons = NewReasons(c)
		reasons.Add(&x.log)
		if x.access.RequestID == nil && x.access.Conn == 0 {
			got = c.Explain(&x.access)
			if reasons.Explain(&x.access, &got); got.Cause != "" {
				t.Errorf("%s: joined with another client's", x.name)
			}
		}
	}
}

// TestJoinPrefersTheConnection: of two reasons for the same client and path, the
// connection's number finds the right one.
func TestJoinPrefersTheConnection(t *testing.T) {
	router, _ := route.New(nil)
	c := &Config{Vantage: event.Web, Routes: router, Identity: FixedIdentityKey()}
	c.Denied[403] = true
	reasons := NewReasons(c)
	for conn, cause := range map[uint64]string{7: "acl", 8: "rate_limit"} {
		reasons.Add(&event.Event{
			Client: []byte("192.0.2.7"), Path: []byte("/a"), Conn: conn, CauseOnly: true, Denial: event.Refused, Cause: []byte(cause),
		})
	}
	for conn, cause := range map[uint64]string{7: "acl", 8: "rate_limit"} {
		e := event.Event{Client: []byte("192.0.2.7"), Path: []byte("/a"), Conn: conn, Status: 403}
		got := c.Explain(&e)
		if reasons.Explain(&e, &got); got.Cause != cause {
			t.Errorf("connection %d: cause %q, want %q", conn, got.Cause, cause)
		}
	}
}

// TestJoinKeysDoNotAllocate: every unexplained denial has keys.
func TestJoinKeysDoNotAllocate(t *testing.T) {
	c := &Config{Identity: FixedIdentityKey()}
	e := event.Event{Client: []byte("192.0.2.7"), Path: []byte("/a/b%20c/d?e=f"), Conn: 7}
	var scratch []byte
	c.joinKeys(&e, &scratch)
	if n := testing.AllocsPerRun(100, func() { c.joinKeys(&e, &scratch) }); n > 0 {
		t.Errorf("%v allocations", n)
	}
}
