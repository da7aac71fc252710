package parsers

import (
	"strconv"
	"time"
)

// The first and last year a log line may claim. Before it there were no logs;
// beyond it, nanoseconds since 1970 come near the end of int64 (2262).
const (
	minYear = 1970
	maxYear = 2200
)

// maxSeconds is the end of maxYear in seconds since the Unix epoch.
const maxSeconds = 7289654400

// memo remembers the last time that was parsed: in a busy log most lines carry
// the same one as the line before. Longer texts than its key are not kept.
type memo struct {
	n   int
	key [40]byte
	t   int64
}

func (m *memo) get(b []byte) (int64, bool) {
	if m.n == len(b) && string(m.key[:m.n]) == string(b) && m.n > 0 {
		return m.t, true
	}
	return 0, false
}

func (m *memo) put(b []byte, t int64) {
	if len(b) <= len(m.key) {
		m.n = copy(m.key[:], b)
		m.t = t
	}
}

// clock turns the times of one stream into nanoseconds since the Unix epoch.
type clock struct {
	// loc is where times without a zone were written.
	loc  *time.Location
	memo memo
}

// clf parses "02/Jan/2006:15:04:05 -0700" (26 bytes), which nginx calls
// $time_local and Apache %t.
func (c *clock) clf(b []byte) (int64, bool) {
	if t, ok := c.memo.get(b); ok {
		return t, true
	}
	t, ok := parseCLF(b)
	if ok {
		c.memo.put(b, t)
	}
	return t, ok
}

// iso parses what parseISO does.
func (c *clock) iso(b []byte) (int64, bool) {
	if t, ok := c.memo.get(b); ok {
		return t, true
	}
	t, ok := parseISO(b, c.loc)
	if ok {
		c.memo.put(b, t)
	}
	return t, ok
}

// any parses a time of unknown kind: ISO 8601, the common log format (with or
// without its brackets), or a number as parseEpoch takes it.
func (c *clock) any(b []byte) (int64, bool) {
	if n := len(b); n > 1 && b[0] == '[' && b[n-1] == ']' {
		b = b[1 : n-1]
	}
	if len(b) < 8 {
		return 0, false
	}
	switch {
	case b[2] == '/':
		if len(b) > 20 && b[20] == '.' {
			return c.local(b)
		}
		return c.clf(b)
	case b[4] == '-':
		return c.iso(b)
	}
	return parseEpoch(b)
}

// two reads two digits at b[i:], or -1.
func two(b []byte, i int) int {
	x, y := b[i]-'0', b[i+1]-'0'
	if x > 9 || y > 9 {
		return -1
	}
	return int(x)*10 + int(y)
}

func four(b []byte, i int) int {
	x, y := two(b, i), two(b, i+2)
	if x < 0 || y < 0 {
		return -1
	}
	return x*100 + y
}

// month reads an English month of three letters at b[i:], or 0.
func month(b []byte, i int) int {
	switch uint32(b[i])<<16 | uint32(b[i+1])<<8 | uint32(b[i+2]) {
	case 'J'<<16 | 'a'<<8 | 'n':
		return 1
	case 'F'<<16 | 'e'<<8 | 'b':
		return 2
	case 'M'<<16 | 'a'<<8 | 'r':
		return 3
	case 'A'<<16 | 'p'<<8 | 'r':
		return 4
	case 'M'<<16 | 'a'<<8 | 'y':
		return 5
	case 'J'<<16 | 'u'<<8 | 'n':
		return 6
	case 'J'<<16 | 'u'<<8 | 'l':
		return 7
	case 'A'<<16 | 'u'<<8 | 'g':
		return 8
	case 'S'<<16 | 'e'<<8 | 'p':
		return 9
	case 'O'<<16 | 'c'<<8 | 't':
		return 10
	case 'N'<<16 | 'o'<<8 | 'v':
		return 11
	case 'D'<<16 | 'e'<<8 | 'c':
		return 12
	}
	return 0
}

func leap(y int) bool { return y%4 == 0 && (y%100 != 0 || y%400 == 0) }

func daysIn(y, m int) int {
	switch m {
	case 2:
		if leap(y) {
			return 29
		}
		return 28
	case 4, 6, 9, 11:
		return 30
	}
	return 31
}

// daysBefore counts the days from 1970-01-01 to the given day of the proleptic
// Gregorian calendar (the algorithm of Howard Hinnant's days_from_civil).
func daysBefore(y, m, d int) int64 {
	if m <= 2 {
		y--
	}
	era := y / 400
	yoe := y - era*400
	doy := (153*((m+9)%12)+2)/5 + d - 1
	doe := yoe*365 + yoe/4 - yoe/100 + doy
	return int64(era)*146097 + int64(doe) - 719468
}

// civil is a date and time of day as written.
type civil struct {
	year, month, day  int
	hour, minute, sec int
	nanos             int64
}

func (c *civil) valid() bool {
	return c.year >= minYear && c.year <= maxYear && c.month >= 1 && c.month <= 12 &&
		c.day >= 1 && c.day <= daysIn(c.year, c.month) &&
		uint(c.hour) < 24 && uint(c.minute) < 60 && uint(c.sec) < 60
}

// at is the instant when clocks that are offset seconds east of UTC show c.
func (c *civil) at(offset int) int64 {
	s := daysBefore(c.year, c.month, c.day)*86400 + int64(c.hour)*3600 + int64(c.minute)*60 + int64(c.sec)
	return (s-int64(offset))*1e9 + c.nanos
}

// in is the instant when clocks in loc show c.
func (c *civil) in(loc *time.Location) int64 {
	if loc == nil || loc == time.UTC {
		return c.at(0)
	}
	return time.Date(c.year, time.Month(c.month), c.day, c.hour, c.minute, c.sec, int(c.nanos), loc).UnixNano()
}

// offset reads "+hh:mm", "+hhmm" or "+hh" (or with '-') at the start of b and
// returns it in seconds with its length, 0 if there is none.
func offset(b []byte) (seconds, n int) {
	if len(b) < 3 || b[0] != '+' && b[0] != '-' {
		return 0, 0
	}
	h, m := two(b, 1), 0
	n = 3
	switch {
	case len(b) >= 6 && b[3] == ':':
		m, n = two(b, 4), 6
	case len(b) >= 5 && b[3]-'0' <= 9:
		m, n = two(b, 3), 5
	}
	if h < 0 || h > 23 || m < 0 || m > 59 {
		return 0, 0
	}
	seconds = h*3600 + m*60
	if b[0] == '-' {
		seconds = -seconds
	}
	return seconds, n
}

const clfLen = len("02/Jan/2006:15:04:05 -0700")

func parseCLF(b []byte) (int64, bool) {
	if len(b) != clfLen || b[2] != '/' || b[6] != '/' || b[11] != ':' || b[14] != ':' || b[17] != ':' || b[20] != ' ' {
		return 0, false
	}
	c := civil{
		year: four(b, 7), month: month(b, 3), day: two(b, 0),
		hour: two(b, 12), minute: two(b, 15), sec: two(b, 18),
	}
	off, n := offset(b[21:])
	if n != 5 || !c.valid() {
		return 0, false
	}
	return c.at(off), true
}

// local parses "02/Jan/2006:15:04:05" with or without a fraction, which HAProxy
// writes in the local time of its machine.
func (c *clock) local(b []byte) (int64, bool) {
	if t, ok := c.memo.get(b); ok {
		return t, true
	}
	const whole = len("02/Jan/2006:15:04:05")
	if len(b) < whole || b[2] != '/' || b[6] != '/' || b[11] != ':' || b[14] != ':' || b[17] != ':' {
		return 0, false
	}
	at := civil{
		year: four(b, 7), month: month(b, 3), day: two(b, 0),
		hour: two(b, 12), minute: two(b, 15), sec: two(b, 18),
	}
	if len(b) > whole {
		nanos, n := fraction(b[whole+1:])
		if b[whole] != '.' || n == 0 || whole+1+n != len(b) {
			return 0, false
		}
		at.nanos = nanos
	}
	if !at.valid() {
		return 0, false
	}
	t := at.in(c.loc)
	c.memo.put(b, t)
	return t, true
}

// parseISO parses ISO 8601 as logs write it: "2006-01-02", then 'T', 't' or a
// space, "15:04:05", a fraction after '.' or ',' (digits beyond nanoseconds are
// dropped), and "Z", "UTC" or an offset, with or without a space before it.
// Without a zone the time is loc's.
func parseISO(b []byte, loc *time.Location) (int64, bool) {
	if len(b) < 19 || b[4] != '-' || b[7] != '-' || b[13] != ':' || b[16] != ':' ||
		b[10] != 'T' && b[10] != ' ' && b[10] != 't' {
		return 0, false
	}
	c := civil{
		year: four(b, 0), month: two(b, 5), day: two(b, 8),
		hour: two(b, 11), minute: two(b, 14), sec: two(b, 17),
	}
	if !c.valid() {
		return 0, false
	}
	b = b[19:]
	if len(b) > 0 && (b[0] == '.' || b[0] == ',') {
		nanos, n := fraction(b[1:])
		if n == 0 {
			return 0, false
		}
		c.nanos = nanos
		b = b[1+n:]
	}
	if len(b) > 0 && b[0] == ' ' {
		b = b[1:]
		if len(b) == 0 {
			return 0, false
		}
	}
	switch {
	case len(b) == 0:
		return c.in(loc), true
	case len(b) == 1 && b[0]|0x20 == 'z', string(b) == "UTC":
		return c.at(0), true
	}
	off, n := offset(b)
	if n == 0 || n != len(b) {
		return 0, false
	}
	return c.at(off), true
}

// fraction reads the digits at the start of b as a fraction of a second, in
// nanoseconds, and returns how many there are.
func fraction(b []byte) (nanos int64, n int) {
	scale := int64(1e9)
	for n < len(b) && b[n]-'0' <= 9 {
		if scale > 1 {
			scale /= 10
			nanos += int64(b[n]-'0') * scale
		}
		n++
	}
	return nanos, n
}

// parseEpoch parses a number of seconds, milli-, micro- or nanoseconds since
// 1970; its size tells which, as the four ranges do not meet between 1973 and
// 2200. Smaller numbers are durations or counters and refused.
func parseEpoch(b []byte) (int64, bool) {
	var whole int64
	i := 0
	for i < len(b) && b[i]-'0' <= 9 {
		if i == 19 {
			return 0, false
		}
		whole = whole*10 + int64(b[i]-'0')
		i++
	}
	if i == 0 || whole < 0 {
		return 0, false
	}
	var nanos int64
	if i < len(b) && b[i] == '.' {
		var n int
		nanos, n = fraction(b[i+1:])
		i += 1 + n
	}
	if i < len(b) { // an exponent, as some JSON writers have it
		if len(b) > 32 || b[i]|0x20 != 'e' {
			return 0, false
		}
		f, err := strconv.ParseFloat(string(b), 64)
		if err != nil || f < 1e8 || f > 9.2e18 {
			return 0, false
		}
		whole = int64(f)
		nanos = 0
		if f < 1e11 {
			nanos = int64((f - float64(whole)) * 1e9)
		}
	}
	unit := int64(1)
	switch {
	case whole < 1e8:
		return 0, false
	case whole < 1e11:
		unit = 1e9
	case whole < 1e14:
		unit = 1e6
	case whole < 1e17:
		unit = 1e3
	}
	if whole/(1e9/unit) >= maxSeconds {
		return 0, false
	}
	return whole*unit + nanos/(1e9/unit), true
}
