package slack

import (
	"strings"
	"testing"
	"unicode/utf16"
	"unicode/utf8"
)

func TestMrkdwn(t *testing.T) {
	for _, c := range []struct{ in, want string }{
		{"billing_admin", "billing_admin"},
		{"/users/{id}/export", "/users/{id}/export"},
		{"v2.31.0-rc:1", "v2.31.0-rc:1"},
		{"_x_", "ˍxˍ"},
		{"*b*~s~`c`", "∗b∗∼s∼ˋcˋ"},
		{":fire:", "꞉fire:"},
		{"> a > b", "› a &gt; b"},
		{"<!channel>&", "&lt;!channel&gt;&amp;"},
		{"@here", "@\u2060here"},
	} {
		if got := mrkdwn(c.in); got != c.want {
			t.Errorf("mrkdwn(%q) = %q, want %q", c.in, got, c.want)
		}
	}
}

func TestCut(t *testing.T) {
	for _, c := range []struct {
		in   string
		n    int
		want string
	}{
		{"short", 10, "short"},
		{"exactly10!", 10, "exactly10!"},
		{"exactly 11!", 10, "exactly 1…"},
		{"👩👩👩👩👩", 10, "👩👩👩👩👩"},
		{"👩👩👩👩👩👩", 10, "👩👩👩👩…"},
		{"1234567&amp;", 10, "1234567…"},
		{"12345&amp;&amp;", 11, "12345&amp;…"},
		{"a & b and so on", 10, "a & b and…"},
	} {
		if got := cut(c.in, c.n); got != c.want {
			t.Errorf("cut(%q, %d) = %q, want %q", c.in, c.n, got, c.want)
		}
	}
}

func FuzzEscapedAndCut(f *testing.F) {
	f.Add("<!channel> *b* _i_ ~s~ `c` :fire: & @here", 20)
	f.Add("👩&&&&", 5)
	f.Fuzz(func(t *testing.T, s string, n int) {
		if !utf8.ValidString(s) {
			t.Skip("texts are cleaned before")
		}
		n = 2 + (n&0xfff)%200
		got := cut(mrkdwn(s), n)
		if !utf8.ValidString(got) || len(utf16.Encode([]rune(got))) > n {
			t.Errorf("%q is not valid or longer than %d", got, n)
		}
		if strings.ContainsAny(got, "<>*~`") {
			t.Errorf("markup in %q", got)
		}
		rest := got
		for {
			i := strings.IndexByte(rest, '&')
			if i < 0 {
				break
			}
			rest = rest[i:]
			if !strings.HasPrefix(rest, "&amp;") && !strings.HasPrefix(rest, "&lt;") && !strings.HasPrefix(rest, "&gt;") {
				t.Fatalf("a cut entity in %q", got)
			}
			rest = rest[1:]
		}
	})
}
