package errorlog

import "time"

// civil is a date and time of day as written, without its fraction.
type civil struct{ year, month, day, hour, minute, sec int }

// clock turns the times of one log into nanoseconds since the Unix epoch.
type clock struct {
	loc *time.Location
	// In a busy log most lines carry the same second as the line before.
	last   civil
	lastNs int64
}

// local is the instant when clocks at c.loc show t.
func (c *clock) local(t civil) (int64, bool) {
	if t == c.last && t.year != 0 {
		return c.lastNs, true
	}
	ns, ok := t.in(c.loc)
	if ok {
		c.last, c.lastNs = t, ns
	}
	return ns, ok
}

// in is the instant when clocks at loc show t. It refuses dates that no calendar
// has, and years outside of 1970 to 2200: beyond them, nanoseconds do not fit.
func (t civil) in(loc *time.Location) (int64, bool) {
	if t.year < 1970 || t.year > 2200 || t.month < 1 || t.month > 12 || t.day < 1 ||
		uint(t.hour) > 23 || uint(t.minute) > 59 || uint(t.sec) > 60 {
		return 0, false
	}
	d := time.Date(t.year, time.Month(t.month), t.day, 0, 0, 0, 0, time.UTC)
	if d.Day() != t.day {
		return 0, false
	}
	return time.Date(t.year, time.Month(t.month), t.day, t.hour, t.minute, t.sec, 0, loc).UnixNano(), true
}

// with adds a fraction and honours a zone, both of which may stand in rest: what
// follows the seconds of a time, as in ".123456 +0100".
func (c *clock) with(t civil, rest []byte) (ns int64, zoned, ok bool) {
	frac, n := fraction(rest)
	rest = rest[n:]
	if len(rest) > 0 && rest[0] == ' ' {
		rest = rest[1:]
	}
	if len(rest) == 0 {
		ns, ok = c.local(t)
		return ns + frac, false, ok
	}
	off, ok := offset(rest)
	if !ok {
		return 0, false, false
	}
	ns, ok = t.in(time.UTC)
	return ns - off + frac, true, ok
}

// ctime parses "Mon Jan _2 15:04:05.000000 2006": Apache's usual time. The
// fraction may be missing (2.2), a zone may follow.
func (c *clock) ctime(b []byte) (ns int64, zoned, ok bool) {
	if len(b) < len("Mon Jan _2 15:04:05 2006") || b[3] != ' ' || b[7] != ' ' || b[10] != ' ' ||
		b[13] != ':' || b[16] != ':' {
		return 0, false, false
	}
	t := civil{month: month(b[4:]), day: two(b[8:]), hour: two(b[11:]), minute: two(b[14:]), sec: two(b[17:])}
	if b[8] == ' ' && digit(b[9]) {
		t.day = int(b[9] - '0')
	}
	frac, n := fraction(b[19:])
	b = b[19+n:]
	if len(b) < 5 || b[0] != ' ' {
		return 0, false, false
	}
	t.year = four(b[1:])
	ns, zoned, ok = c.with(t, b[5:])
	return ns + frac, zoned, ok
}

// iso parses "2006-01-02 15:04:05", with '/' for '-' or 'T' for the space, and a
// fraction and a zone behind it: Apache's %{cu}t, nginx's time, RFC 3339.
func (c *clock) iso(b []byte) (ns int64, zoned, ok bool) {
	if len(b) < len("2006-01-02 15:04:05") || b[4] != '-' && b[4] != '/' || b[7] != b[4] ||
		b[10] != ' ' && b[10] != 'T' || b[13] != ':' || b[16] != ':' {
		return 0, false, false
	}
	t := civil{year: four(b), month: two(b[5:]), day: two(b[8:]), hour: two(b[11:]), minute: two(b[14:]), sec: two(b[17:])}
	return c.with(t, b[19:])
}

// clf parses "02/Jan/2006:15:04:05 -0700", which some ErrorLogFormats have.
func (c *clock) clf(b []byte) (ns int64, zoned, ok bool) {
	if len(b) < len("02/Jan/2006:15:04:05") || b[2] != '/' || b[6] != '/' || b[11] != ':' || b[14] != ':' || b[17] != ':' {
		return 0, false, false
	}
	t := civil{year: four(b[7:]), month: month(b[3:]), day: two(b), hour: two(b[12:]), minute: two(b[15:]), sec: two(b[18:])}
	return c.with(t, b[20:])
}

// any parses whichever of the above b is.
func (c *clock) any(b []byte) (ns int64, zoned, ok bool) {
	switch {
	case len(b) < 19:
		return 0, false, false
	case b[2] == '/':
		return c.clf(b)
	case b[3] == ' ':
		return c.ctime(b)
	}
	return c.iso(b)
}

// fraction reads ".123" at the start of b as nanoseconds; digits beyond them are
// dropped. n is how many bytes it took.
func fraction(b []byte) (ns int64, n int) {
	if len(b) < 2 || b[0] != '.' || !digit(b[1]) {
		return 0, 0
	}
	unit := int64(time.Second)
	for n = 1; n < len(b) && digit(b[n]); n++ {
		unit /= 10
		ns += int64(b[n]-'0') * unit
	}
	return ns, n
}

// offset reads all of b as "Z", "+hhmm" or "+hh:mm" and returns nanoseconds.
func offset(b []byte) (ns int64, ok bool) {
	if len(b) == 1 && b[0] == 'Z' {
		return 0, true
	}
	if len(b) < 5 || b[0] != '+' && b[0] != '-' {
		return 0, false
	}
	h, m := two(b[1:]), -1
	switch {
	case len(b) == 5:
		m = two(b[3:])
	case len(b) == 6 && b[3] == ':':
		m = two(b[4:])
	}
	if h < 0 || h > 23 || m < 0 || m > 59 {
		return 0, false
	}
	ns = int64(h*60+m) * int64(time.Minute)
	if b[0] == '-' {
		ns = -ns
	}
	return ns, true
}

func digit(c byte) bool { return c-'0' <= 9 }

// two reads two digits, or -1.
func two(b []byte) int {
	if !digit(b[0]) || !digit(b[1]) {
		return -1
	}
	return int(b[0]-'0')*10 + int(b[1]-'0')
}

func four(b []byte) int {
	h, l := two(b), two(b[2:])
	if h < 0 || l < 0 {
		return -1
	}
	return h*100 + l
}

// month reads an English month of three letters, or 0.
func month(b []byte) int {
	const names = "JanFebMarAprMayJunJulAugSepOctNovDec"
	if len(b) < 3 {
		return 0
	}
	for i := 0; i < len(names); i += 3 {
		if b[0] == names[i] && b[1] == names[i+1] && b[2] == names[i+2] {
			return i/3 + 1
		}
	}
	return 0
}
