package parsers_test

import (
	"testing"
	"unicode/utf16"

	"github.com/denywatch/denywatch/parsers"
)

func TestEncoding(t *testing.T) {
	wide := func(s string, big bool) (b []byte) {
		for _, u := range utf16.Encode([]rune(s)) {
			if big {
				b = append(b, byte(u>>8), byte(u))
			} else {
				b = append(b, byte(u), byte(u>>8))
			}
		}
		return b
	}
	const line = `192.0.2.7 - - [24/Nov/2026:10:00:00 +0000] "GET /straße HTTP/1.1" 403 5`
	for name, c := range map[string]struct {
		line []byte
		want *parsers.LineError
	}{
		"text":                             {[]byte(line), nil},
		"empty":                            {nil, nil},
		"colours":                          {[]byte("\x1b[31mfailed\x1b[0m\tx\r"), nil},
		"latin-1":                          {[]byte("GET /stra\xdfe"), nil},
		"little-endian":                    {wide(line, false), parsers.ErrUTF16},
		"big-endian":                       {wide(line, true), parsers.ErrUTF16},
		"after a little-endian newline":    {append([]byte{0}, wide(line, false)...), parsers.ErrUTF16},
		"before a big-endian newline":      {append(wide(line, true), 0), parsers.ErrUTF16},
		"byte order mark":                  {append([]byte("\xff\xfe"), wide("ж", false)...), parsers.ErrUTF16},
		"the other byte order mark":        {append([]byte("\xfe\xff"), wide("ж", true)...), parsers.ErrUTF16},
		"a NUL":                            {[]byte("GET /a\x00b"), parsers.ErrBinary},
		"holes left by a truncated log":    {make([]byte, 500), parsers.ErrBinary},
		"an executable":                    {[]byte("\x7fELF\x02\x01\x01\x00\x03\x00>\x00\x01"), parsers.ErrBinary},
		"control characters without a NUL": {[]byte("\x01\x02abc"), parsers.ErrBinary},
	} {
		if got := parsers.Encoding(c.line); got != c.want {
			t.Errorf("%s: got %v, want %v", name, got, c.want)
		}
	}
}
