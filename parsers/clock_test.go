package parsers

import (
	"strings"
	"testing"
	"time"
	_ "time/tzdata" // zones on machines that have no database
)

func TestTimes(t *testing.T) {
	berlin, err := time.LoadLocation("Europe/Berlin")
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		in   string
		loc  *time.Location
		want string // RFC 3339 with nanoseconds, empty: an error
	}{
		{in: "14/Nov/2026:10:12:13 +0000", want: "2026-11-14T10:12:13Z"},
		{in: "[14/Nov/2026:10:12:13 +0000]", want: "2026-11-14T10:12:13Z"},
		{in: "29/Feb/2024:23:59:59 -0730", want: "2024-03-01T07:29:59Z"},
		{in: "29/Feb/2000:00:00:00 +0000", want: "2000-02-29T00:00:00Z"},
		{in: "29/Feb/2100:00:00:00 +0000"},
		{in: "29/Feb/2023:00:00:00 +0000"},
		{in: "32/Jan/2026:00:00:00 +0000"},
		{in: "00/Jan/2026:00:00:00 +0000"},
		{in: "31/Apr/2026:00:00:00 +0000"},
		{in: "14/nov/2026:10:12:13 +0000"},
		{in: "14/Nov/2026:24:00:00 +0000"},
		{in: "14/Nov/2026:10:60:00 +0000"},
		{in: "14/Nov/2026:10:12:60 +0000"},
		{in: "14/Nov/2026:10:12:13 +00:00"},
		{in: "14/Nov/2026:10:12:13 +2400"},
		{in: "14/Nov/2026:10:12:13 +0060"},
		{in: "14/Nov/2026:10:12:13"},
		{in: "14/Nov/1969:10:12:13 +0000"},
		{in: "14/Nov/2201:10:12:13 +0000"},
		{in: "31/Dec/2200:23:59:59 +0000", want: "2200-12-31T23:59:59Z"},
		{in: "2026-11-14T10:12:13+01:00", want: "2026-11-14T09:12:13Z"},
		{in: "2026-11-14T10:12:13+0100", want: "2026-11-14T09:12:13Z"},
		{in: "2026-11-14T10:12:13-03", want: "2026-11-14T13:12:13Z"},
		{in: "2026-11-14T10:12:13Z", want: "2026-11-14T10:12:13Z"},
		{in: "2026-11-14t10:12:13z", want: "2026-11-14T10:12:13Z"},
		{in: "2026-11-14 10:12:13.5Z", want: "2026-11-14T10:12:13.5Z"},
		{in: "2026-11-14T10:12:13.123456789Z", want: "2026-11-14T10:12:13.123456789Z"},
		{in: "2026-11-14T10:12:13.1234567899Z", want: "2026-11-14T10:12:13.123456789Z"},
		{in: "2026-11-14 10:12:13,042 +0000", want: "2026-11-14T10:12:13.042Z"},
		{in: "2026-11-14 10:12:13 UTC", want: "2026-11-14T10:12:13Z"},
		{in: "2026-11-14 10:12:13", want: "2026-11-14T10:12:13Z"},
		{in: "2026-11-14 10:12:13", loc: berlin, want: "2026-11-14T09:12:13Z"},
		{in: "2026-07-14T10:12:13.25", loc: berlin, want: "2026-07-14T08:12:13.25Z"},
		{in: "2026-07-14T10:12:13Z", loc: berlin, want: "2026-07-14T10:12:13Z"},
		{in: "2026-11-14T10:12:13."},
		{in: "2026-11-14T10:12:13 "},
		{in: "2026-11-14T10:12:13X"},
		{in: "2026-11-14T10:12:13+1:00"},
		{in: "2026-13-14T10:12:13Z"},
		{in: "2026-02-30T10:12:13Z"},
		{in: "2026-11-14"},
		{in: "1795454351", want: "2026-11-23T17:19:11Z"},
		{in: "1795454351.055", want: "2026-11-23T17:19:11.055Z"},
		{in: "1795454351055", want: "2026-11-23T17:19:11.055Z"},
		{in: "1795454351055.5", want: "2026-11-23T17:19:11.0555Z"},
		{in: "1795454351055123", want: "2026-11-23T17:19:11.055123Z"},
		{in: "1795454351055123456", want: "2026-11-23T17:19:11.055123456Z"},
		{in: "1.795454351e+09", want: "2026-11-23T17:19:11Z"},
		{in: "12345678901234567890"},
		{in: "12345678"},    // a duration or a counter
		{in: "7289654400"},  // 2201
		{in: "99999999999"}, // neither seconds nor milliseconds of our time
		{in: "1795454351x"},
		{in: "yesterday"},
		{in: ""},
	} {
		loc := c.loc
		if loc == nil {
			loc = time.UTC
		}
		k := clock{loc: loc}
		for range 2 { // the second time from the memo
			got, ok := k.any([]byte(c.in))
			if ok != (c.want != "") {
				t.Errorf("%q: understood: %v", c.in, ok)
				continue
			}
			if !ok {
				continue
			}
			if s := time.Unix(0, got).UTC().Format(time.RFC3339Nano); s != c.want {
				t.Errorf("%q: %s, want %s", c.in, s, c.want)
			}
		}
	}
}

// Every day of all years, against the standard library.
func TestEveryDay(t *testing.T) {
	for at := time.Date(minYear, 1, 1, 0, 0, 0, 0, time.UTC); at.Year() <= maxYear; at = at.AddDate(0, 0, 1) {
		y, m, d := at.Date()
		if got := daysBefore(y, int(m), d); got != at.Unix()/86400 {
			t.Fatalf("%v: %d days, want %d", at, got, at.Unix()/86400)
		}
		if next := at.AddDate(0, 0, 1); next.Day() == 1 && daysIn(y, int(m)) != d {
			t.Fatalf("%v: the month has %d days", at, daysIn(y, int(m)))
		}
	}
	if at := time.Unix(maxSeconds, 0).UTC(); at.Year() != maxYear+1 || at.YearDay() != 1 {
		t.Errorf("maxSeconds is %v", at)
	}
}

func FuzzTime(f *testing.F) {
	for _, s := range []string{
		"14/Nov/2026:10:12:13 +0000", "2026-11-14T10:12:13.055Z", "2026-11-14 10:12:13,5 +0100", "1795454351.055", "29/Feb/2024:23:59:59 -0730",
	} {
		f.Add(s, int64(1795454351), int64(55000000), int32(3600))
	}
	f.Fuzz(func(t *testing.T, s string, sec, nanos int64, off int32) {
		// What we understand, the standard library understands in the same way.
		if got, ok := parseCLF([]byte(s)); ok {
			want, err := time.Parse("02/Jan/2006:15:04:05 -0700", s)
			if err != nil || want.UnixNano() != got {
				t.Errorf("%q: %d, want %v %v", s, got, want, err)
			}
		}
		if got, ok := parseISO([]byte(s), time.UTC); ok {
			if want, err := time.Parse(time.RFC3339Nano, strings.ToUpper(s)); err == nil && want.UnixNano() != got {
				t.Errorf("%q: %d, want %v", s, got, want)
			}
		}
		k := clock{loc: time.UTC}
		k.any([]byte(s))
		// And what the standard library writes, we understand.
		sec = (sec%maxSeconds + maxSeconds) % maxSeconds
		nanos = (nanos%1e9 + 1e9) % 1e9
		off = off % (24 * 3600) / 60 * 60
		at := time.Unix(sec, nanos).In(time.FixedZone("", int(off)))
		if y := at.Year(); y < minYear || y > maxYear {
			return
		}
		if got, ok := parseCLF([]byte(at.Format("02/Jan/2006:15:04:05 -0700"))); !ok || got != sec*1e9 {
			t.Errorf("%v: %d %v", at, got, ok)
		}
		for _, layout := range []string{time.RFC3339Nano, "2006-01-02 15:04:05.999999999 -0700", "2006-01-02T15:04:05,999999999Z07:00"} {
			if got, ok := parseISO([]byte(at.Format(layout)), time.UTC); !ok || got != at.UnixNano() {
				t.Errorf("%v as %s: %d %v", at, layout, got, ok)
			}
		}
	})
}
