package geo

import (
	"net/netip"
	"strings"
	"testing"
)

// byNetip is Parse written with net/netip.
func byNetip(s string) (netip.Addr, bool) {
	a, err := netip.ParseAddr(s)
	if inner, ok := strings.CutPrefix(s, "["); ok {
		if inner, ok = strings.CutSuffix(inner, "]"); ok {
			a, err = netip.ParseAddr(inner)
			if err == nil && a.Is4() {
				return netip.Addr{}, false
			}
		}
	}
	if err != nil {
		var p netip.AddrPort
		p, err = netip.ParseAddrPort(s)
		a = p.Addr()
	}
	if err != nil {
		return netip.Addr{}, false
	}
	return a.WithZone("").Unmap(), true
}

var addressTexts = []string{
	"", "-", "unix:", ":", "::", ":::", "[::]", "[", "]", "[]", "[:", "[::", "::]", "%", "::%", "::%1", "[::%1]:1", "[::%]]:1]",
	"0.0.0.0", "255.255.255.255", "256.1.1.1", "1.2.3", "1.2.3.4.5", "01.2.3.4", "1.2.3.04", "1.2.3.", ".1.2.3", "1..2.3", "1.2.3.1000",
	"1.2.3.4:0", "1.2.3.4:65535", "1.2.3.4:65536", "1.2.3.4:", "1.2.3.4:0080", "1.2.3.4:+8", "1.2.3.4:8 ", "1.2.3.4%eth0", "1.2.3.4x",
	"[1.2.3.4]", "[1.2.3.4]:80", "1.2.3.4]:80",
	"1:2:3:4:5:6:7:8", "1:2:3:4:5:6:7", "1:2:3:4:5:6:7:8:9", "1:2:3:4:5:6:7::", "::2:3:4:5:6:7:8", "1::8", "1:2::7:8", "1:2:3:4:5:6:7:8::",
	"::1:2:3:4:5:6:7:8", "1::2::3", "1:::2", "1:", ":1", "::1:", "12345::", "g::", "::00001", "FFFF::abcd", "::1:80",
	"::1.2.3.4", "::ffff:1.2.3.4", "::FFFF:102:304", "1:2:3:4:5:6:1.2.3.4", "1:2:3:4:5:6:7:1.2.3.4", "1:2:3:4:5:1.2.3.4", "1::1.2.3.4:5",
	"::1.2.3", "::01.2.3.4", "::1.2.3.4.5", "::a1.2.3.4", "::ffff:1.2.3.4%eth0", "::1.2.3.4%eth0", "[::ffff:1.2.3.4]:80", "1:2:3:4:5::1.2.3.4", "1:2:3:4:5:6::1.2.3.4",
	"[::1]", "[::1]:", "[::1]:80", "[::1]80", "[::1]:80x", "[::1]:999999999999999999999", "[[::1]]", "fe80::1%eth0", "[fe80::1%eth0]:443", "[fe80::1%a]:b]:443",
	"192.0.2.1, 192.0.2.2", " 192.0.2.1", "192.0.2.1\n", "example.org", "example.org:80", "deadbeef", "::١",
}

func TestParse(t *testing.T) {
	for _, s := range addressTexts {
		got, ok := Parse([]byte(s))
		want, wantOK := byNetip(s)
		if got != want || ok != wantOK {
			t.Errorf("Parse(%q) = %v, %v; net/netip: %v, %v", s, got, ok, want, wantOK)
		}
	}
}

func FuzzParse(f *testing.F) {
	for _, s := range addressTexts {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		got, ok := Parse(b)
		want, wantOK := byNetip(string(b))
		if got != want || ok != wantOK {
			t.Errorf("Parse(%q) = %v, %v; net/netip: %v, %v", b, got, ok, want, wantOK)
		}
	})
}
