package parsers

import (
	"fmt"
	"strings"
	"time"
)

// stampPart is one element of a time as Apache's %{...}t writes it: a strftime
// conversion (its letter), fixed text, or one of Apache's own tokens.
type stampPart struct {
	kind byte
	lit  string
}

// The kinds of stampPart that are not strftime letters.
const (
	partText       = 'L'
	partSpace      = 'n' // %n and %t: any white space, or none
	partMilli      = '1' // msec_frac
	partMicro      = '2' // usec_frac
	partEpochMilli = '3' // msec
	partEpochMicro = '4' // usec
)

// strftimeAlias are conversions that stand for several, in the C locale.
var strftimeAlias = map[byte]string{
	'T': "%H:%M:%S", 'R': "%H:%M", 'F': "%Y-%m-%d", 'D': "%m/%d/%y", 'x': "%m/%d/%y",
	'X': "%H:%M:%S", 'r': "%I:%M:%S %p", 'c': "%a %b %e %H:%M:%S %Y", 'h': "%b", 't': "%n",
}

// compileStrftime cuts a strftime format into parts. Supported are
// %Y %y %m %d %e %j %b %B %a %A %H %k %I %l %M %S %p %z %Z %s %% %n %t and the
// compounds %T %R %F %D %r %c %x %X %h. Names are English.
func compileStrftime(s string) ([]stampPart, error) {
	var parts []stampPart
	for i := 0; i < len(s); i++ {
		if s[i] != '%' {
			parts = appendText(parts, s[i:i+1])
			continue
		}
		if i++; i == len(s) {
			return nil, fmt.Errorf("a single %% at the end of the time format %q", s)
		}
		c := s[i]
		if (c == 'E' || c == 'O' || c == '-' || c == '_') && i+1 < len(s) {
			i++ // a modifier of the same conversion
			c = s[i]
		}
		if long, ok := strftimeAlias[c]; ok {
			more, err := compileStrftime(long)
			if err != nil {
				return nil, err
			}
			parts = append(parts, more...)
			continue
		}
		switch c {
		case '%':
			parts = appendText(parts, "%")
		case 'Y', 'y', 'm', 'd', 'e', 'j', 'b', 'B', 'a', 'A', 'H', 'k', 'I', 'l', 'M', 'S', 'p', 'z', 'Z', 's', 'n':
			parts = append(parts, stampPart{kind: c})
		default:
			return nil, fmt.Errorf("%%%c in the time format %q is not supported; use %%Y-%%m-%%dT%%H:%%M:%%S%%z", c, s)
		}
	}
	return parts, nil
}

func appendText(parts []stampPart, s string) []stampPart {
	if n := len(parts); n > 0 && parts[n-1].kind == partText {
		parts[n-1].lit += s
		return parts
	}
	return append(parts, stampPart{kind: partText, lit: s})
}

// stampWant says what the parts of all times of a format amount to.
type stampWant struct {
	complete bool
	fine     bool // milliseconds or better
}

func judgeStamp(parts []stampPart) stampWant {
	has := func(kinds string) bool {
		for _, p := range parts {
			if strings.IndexByte(kinds, p.kind) >= 0 {
				return true
			}
		}
		return false
	}
	day := has("j") || has("mbB") && has("de")
	hour := has("Hk") || has("Il") && has("p")
	return stampWant{
		complete: has("s34") || has("Yy") && day && hour && has("M"),
		fine:     has("1234"),
	}
}

// stamp gathers the parts of a time, which may lie apart in the line.
type stamp struct {
	c         civil
	yday      int
	pm        int8 // 0 no %p, 1 AM, 2 PM
	offset    int
	zoned     bool
	epoch     int64 // in units
	epochUnit int64 // nanoseconds of one, 0 without an epoch
	absent    bool  // a "-" in place of the time
}

func (s *stamp) reset() { *s = stamp{} }

// instant is the time all parts amount to; without a zone in loc.
func (s *stamp) instant(loc *time.Location) (int64, bool) {
	if s.epochUnit > 0 {
		t := s.epoch * s.epochUnit
		if s.epochUnit == 1e9 {
			t += s.c.nanos
		}
		return t, true
	}
	c := s.c
	switch s.pm {
	case 1, 2:
		if c.hour < 1 || c.hour > 12 {
			return 0, false
		}
		c.hour %= 12
		if s.pm == 2 {
			c.hour += 12
		}
	}
	if s.yday > 0 && c.month == 0 {
		if c.year < minYear || c.year > maxYear || s.yday > 366 || s.yday == 366 && !leap(c.year) {
			return 0, false
		}
		c.month, c.day = 1, s.yday
		for c.day > daysIn(c.year, c.month) {
			c.day -= daysIn(c.year, c.month)
			c.month++
		}
	}
	if !c.valid() {
		return 0, false
	}
	if s.zoned {
		return c.at(s.offset), true
	}
	return c.in(loc), true
}

var longMonths = [12]string{"January", "February", "March", "April", "May", "June", "July", "August", "September", "October", "November", "December"}

// read takes the parts from the start of b and returns how many bytes they are,
// or -1.
func (s *stamp) read(parts []stampPart, b []byte) int {
	i := 0
	for k := range parts {
		p := &parts[k]
		rest := b[i:]
		switch p.kind {
		case partText:
			if len(rest) < len(p.lit) || string(rest[:len(p.lit)]) != p.lit {
				return -1
			}
			i += len(p.lit)
			continue
		case partSpace:
			for i < len(b) && (b[i] == ' ' || b[i] >= '\t' && b[i] <= '\r') {
				i++
			}
			continue
		}
		if w := epochWidth(p.kind); w > 0 && k+1 < len(parts) && numeric(parts[k+1].kind) {
			rest = rest[:min(w, len(rest))]
		}
		n := s.part(p.kind, rest)
		if n < 0 {
			return -1
		}
		i += n
	}
	return i
}

// epochWidth is how many digits a time since the epoch has, from 2001 to 2286; 0
// for other kinds. It ends there where digits of something else follow.
func epochWidth(kind byte) int {
	switch kind {
	case 's':
		return 10
	case partEpochMilli:
		return 13
	case partEpochMicro:
		return 16
	}
	return 0
}

// numeric tells whether a part begins with a digit.
func numeric(kind byte) bool { return strings.IndexByte("YymdejHkIlMS12", kind) >= 0 }

func (s *stamp) part(kind byte, b []byte) int {
	number := func(width int, to *int) int {
		if len(b) < width {
			return -1
		}
		v := 0
		for _, c := range b[:width] {
			if c-'0' > 9 {
				return -1
			}
			v = v*10 + int(c-'0')
		}
		*to = v
		return width
	}
	switch kind {
	case 'Y':
		return number(4, &s.c.year)
	case 'y': // POSIX: 69-99 are 1969-1999, 00-68 are 2000-2068.
		n := number(2, &s.c.year)
		if s.c.year += 1900; s.c.year < 1969 {
			s.c.year += 100
		}
		return n
	case 'm':
		return number(2, &s.c.month)
	case 'd', 'e':
		return padded(b, &s.c.day)
	case 'H', 'k', 'I', 'l':
		return padded(b, &s.c.hour)
	case 'M':
		return number(2, &s.c.minute)
	case 'S':
		return number(2, &s.c.sec)
	case 'j':
		return number(3, &s.yday)
	case 'b':
		if len(b) < 3 {
			return -1
		}
		if s.c.month = month(b, 0); s.c.month == 0 {
			return -1
		}
		return 3
	case 'B':
		for m, name := range longMonths {
			if len(b) >= len(name) && string(b[:len(name)]) == name {
				s.c.month = m + 1
				return len(name)
			}
		}
		return -1
	case 'a', 'A', 'Z':
		n := 0
		for n < len(b) && (b[n]|0x20 >= 'a' && b[n]|0x20 <= 'z') {
			n++
		}
		if n == 0 {
			return -1
		}
		if kind == 'Z' {
			// Names such as EST mean different offsets in different places: only
			// UTC is certain, any other is the configured zone's own.
			if z := string(b[:n]); z == "UTC" || z == "GMT" || z == "Z" {
				s.offset, s.zoned = 0, true
			}
		}
		return n
	case 'p':
		if len(b) < 2 || b[1]|0x20 != 'm' {
			return -1
		}
		switch b[0] | 0x20 {
		case 'a':
			s.pm = 1
		case 'p':
			s.pm = 2
		default:
			return -1
		}
		return 2
	case 'z':
		off, n := offset(b)
		if n != 5 {
			return -1
		}
		s.offset, s.zoned = off, true
		return n
	case 's':
		return s.readEpoch(b, 1e9)
	case partEpochMilli:
		return s.readEpoch(b, 1e6)
	case partEpochMicro:
		return s.readEpoch(b, 1e3)
	case partMilli:
		return s.readFraction(b, 3)
	case partMicro:
		return s.readFraction(b, 6)
	}
	return -1
}

// padded reads two digits of which the first may be a space.
func padded(b []byte, to *int) int {
	if len(b) < 2 || b[1]-'0' > 9 {
		return -1
	}
	switch {
	case b[0] == ' ':
		*to = int(b[1] - '0')
	case b[0]-'0' <= 9:
		*to = int(b[0]-'0')*10 + int(b[1]-'0')
	default:
		return -1
	}
	return 2
}

func (s *stamp) readEpoch(b []byte, unit int64) int {
	var v int64
	n := 0
	for n < len(b) && b[n]-'0' <= 9 {
		if n == 17 {
			return -1
		}
		v = v*10 + int64(b[n]-'0')
		n++
	}
	if n == 0 || v/(1e9/unit) >= maxSeconds {
		return -1
	}
	if s.epochUnit == 0 || unit < s.epochUnit { // the finest wins
		s.epoch, s.epochUnit = v, unit
	}
	return n
}

func (s *stamp) readFraction(b []byte, width int) int {
	if len(b) < width {
		return -1
	}
	v, n := fraction(b[:width])
	if n != width {
		return -1
	}
	if width == 6 || s.c.nanos == 0 {
		s.c.nanos = v
	}
	return width
}
