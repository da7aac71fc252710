package alerts

import (
	"math"
	"strconv"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"

	"github.com/denywatch/denywatch/internal/incident"
)

// Clean makes a value that came from a log or a marker safe to stand inside one
// line of plain text, whatever it holds: it returns at most limit runes (then an
// ellipsis), with invalid UTF-8, control characters and line breaks replaced,
// and invisible and direction-changing characters dropped. Right-to-left text is
// isolated, so that it cannot turn the words around it. The result still needs
// the escaping of the markup it is put into.
func Clean(s string, limit int) string {
	var b strings.Builder
	n, marks, rtl, space := 0, 0, false, false
	for _, r := range s {
		switch {
		case r == utf8.RuneError:
			r = unicode.ReplacementChar
		case unicode.IsSpace(r), unicode.Is(unicode.Cc, r), unicode.Is(unicode.Zl, r), unicode.Is(unicode.Zp, r):
			space = n > 0
			continue
		case unicode.In(r, unicode.Cf, unicode.Co, unicode.Cs):
			continue
		}
		if unicode.In(r, unicode.Mn, unicode.Me) {
			// Stacked accents reach into the lines above and below.
			if marks++; marks > 2 {
				continue
			}
		} else {
			marks = 0
		}
		if space {
			if n+1 >= limit {
				b.WriteRune('…')
				break
			}
			b.WriteByte(' ')
			n++
			space = false
		}
		if n == limit {
			b.WriteRune('…')
			break
		}
		b.WriteRune(r)
		n++
		rtl = rtl || rightToLeft(r)
	}
	if rtl {
		return "\u2068" + b.String() + "\u2069"
	}
	return b.String()
}

// rightToLeft tells whether r belongs to a script that is written from right to
// left (the blocks that Unicode reserves for them, UAX #9 section 3.2).
func rightToLeft(r rune) bool {
	return r >= 0x590 && r <= 0x8ff || r >= 0xfb1d && r <= 0xfdff || r >= 0xfe70 && r <= 0xfeff ||
		r >= 0x10800 && r <= 0x10fff || r >= 0x1e800 && r <= 0x1efff
}

// Clip cuts s to at most limit runes, the last of them an ellipsis if it cut.
func Clip(s string, limit int) string {
	if len(s) <= limit || utf8.RuneCountInString(s) <= limit {
		return s
	}
	n := 0
	for i := range s {
		if n == limit-1 {
			return strings.TrimRight(s[:i], " ") + "…"
		}
		n++
	}
	return s
}

// number writes n with thousands separated by commas.
func number(n int64) string {
	s := strconv.FormatInt(n, 10)
	start := 0
	if n < 0 {
		start = 1
	}
	for i := len(s) - 3; i > start; i -= 3 {
		s = s[:i] + "," + s[i:]
	}
	return s
}

// count writes n with its noun, in the singular or the plural.
func count(n int64, one, many string) string {
	if n == 1 {
		return "1 " + one
	}
	return number(n) + " " + many
}

// percent writes a share 0..1 as people say it: two significant digits, and no
// "0 %" or "100 %" that is not exactly so.
func percent(x float64) string {
	p := x * 100
	switch {
	case math.IsNaN(p) || p <= 0:
		return "0 %"
	case p < 0.1:
		return "less than 0.1 %"
	case p >= 100:
		return "100 %"
	case p > 99:
		return "more than 99 %"
	case p < 9.95:
		return strings.TrimSuffix(strconv.FormatFloat(p, 'f', 1, 64), ".0") + " %"
	}
	return strconv.FormatFloat(p, 'f', 0, 64) + " %"
}

// Span writes a duration as people say it: in at most two units, rounded to minutes.
func Span(d time.Duration) string {
	m := int64(d.Round(time.Minute) / time.Minute)
	switch {
	case m < 1:
		return "less than a minute"
	case m < 60:
		return strconv.FormatInt(m, 10) + " min"
	case m < 24*60:
		return two(m/60, "h", m%60, "min")
	}
	return two(m/(24*60), "d", m%(24*60)/60, "h")
}

func two(a int64, unitA string, b int64, unitB string) string {
	s := strconv.FormatInt(a, 10) + " " + unitA
	if b > 0 {
		s += " " + strconv.FormatInt(b, 10) + " " + unitB
	}
	return s
}

// spanWords is Span with the minutes written out, for sentences.
func spanWords(d time.Duration) string {
	s := Span(d)
	switch {
	case s == "1 min":
		return "1 minute"
	case d < time.Hour-30*time.Second && strings.HasSuffix(s, " min"):
		return strings.TrimSuffix(s, "min") + "minutes"
	}
	return s
}

// list writes "a", "a and b", "a, b and c", and of more than most only the
// first and how many more there are.
func list(xs []string, most int) string {
	if len(xs) > most {
		return strings.Join(xs[:most], ", ") + " and " + strconv.Itoa(len(xs)-most) + " more"
	}
	switch len(xs) {
	case 0:
		return ""
	case 1:
		return xs[0]
	}
	return strings.Join(xs[:len(xs)-1], ", ") + " and " + xs[len(xs)-1]
}

// upper starts a sentence: it makes an ASCII first letter a capital.
func upper(s string) string {
	if s == "" || s[0] < 'a' || s[0] > 'z' {
		return s
	}
	return string(s[0]-'a'+'A') + s[1:]
}

// sure puts into words how unlikely the numbers of an open incident are by chance:
// the likelihood ratio of the observed rate to the expected one over its requests
// (a binomial's, in nats), in which every person counts once, since what one
// person does is no independent evidence.
func sure(in *incident.Incident) string {
	if in.Requests <= 0 || in.AccessRule != nil {
		return ""
	}
	o, e := min(max(in.ObservedRate, 0), 1), min(max(in.ExpectedRate, 1e-6), 1-1e-6)
	term := func(p, q float64) float64 {
		if p <= 0 {
			return 0
		}
		return p * math.Log(p/q)
	}
	nats := float64(in.Requests) * (term(o, e) + term(1-o, 1-e))
	switch {
	case in.Direction == incident.Down:
		nats /= 2 // nobody is counted: what one person does comes in clumps of about two
	case in.Denials > 0:
		nats *= min(float64(in.Identities)/float64(in.Denials), 1)
	}
	switch {
	case nats >= 40:
		return "As good as certain."
	case nats >= 20:
		return "Very unlikely to be chance."
	}
	return "Hardly chance, but the numbers are small yet."
}

// Count writes n with its noun, in the singular or the plural.
func Count(n int, one, many string) string { return count(int64(n), one, many) }
