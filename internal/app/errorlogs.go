package app

import (
	"bytes"
	"errors"
	"iter"
	"slices"
	"time"

	"github.com/bmatcuk/doublestar/v4"

	"github.com/denywatch/denywatch/configs"
	"github.com/denywatch/denywatch/parsers"
	"github.com/denywatch/denywatch/parsers/errorlog"
)

// errorLogShare is how many of a file's first lines must be an error log's for
// the file to be read as one: clients and scripts write lines of their own there.
const errorLogShare = 0.5

// errorLog returns a factory of parsers if lines are of a server's error log, else
// nil. Times without a zone are in c's, if it names one, else in what zone says;
// those without a year are near the given one.
func errorLog(lines [][]byte, c parsers.Config, zone func() *time.Location, near time.Time) (server string, make func() parsers.Parser) {
	server, share := errorlog.Detect(lines)
	if share < errorLogShare {
		return "", nil
	}
	if n := len(requestLines(lines)); n > 0 && 100*n >= leastRequests*len(lines) {
		return "", nil
	}
	loc, err := c.Location()
	if c.Timezone == "" || err != nil { // a zone that is not known is told by Compile
		loc = zone()
	}
	return server, func() parsers.Parser {
		p, err := errorlog.New(errorlog.Config{Server: server, Location: loc, Near: near})
		if err != nil { // the server is one that Detect named
			panic(err)
		}
		return p.Events()
	}
}

// leastRequests is how many of 100 lines must be of another log for a file that is
// mostly an error log to be read as both.
const leastRequests = 10

// requestLines are those of lines that belong to another log than a server's error
// log: access lines and objects, where both are written to one file.
func requestLines(lines [][]byte) [][]byte {
	p, err := errorlog.New(errorlog.Config{})
	if err != nil { // there is no server that it could not know
		panic(err)
	}
	var l errorlog.Line
	var out [][]byte
	for _, line := range lines {
		if errors.Is(p.Parse(line, &l), errorlog.ErrNoErrorLine) && parsers.Encoding(line) == nil {
			out = append(out, line)
		}
	}
	return out
}

// withoutErrors are lines without those of an error log among them, to recognise
// the others by; all of them if there are no others.
func withoutErrors(lines [][]byte) [][]byte {
	if _, share := errorlog.Detect(lines); share == 0 {
		return lines
	}
	if rest := requestLines(lines); len(rest) > 0 {
		return rest
	}
	return lines
}

// explains reports whether the stream that begins with lines, a web server's access
// log of format f, may hold lines of its error log too: where something carries
// them, as containers write both to one file, or where some are among lines.
func explains(f *parsers.Format, lines [][]byte) bool {
	if f.Server() == "" {
		return false
	}
	_, share := errorlog.Detect(lines)
	return f.Wrapped() || share > 0
}

// newStream returns a parser of the stream of format f that begins with lines,
// which c told. Lines of the server's error log explain denials. Times without a
// zone or a year are as errorLog says.
func newStream(f *parsers.Format, c parsers.Config, lines [][]byte, near time.Time) parsers.Parser {
	if !explains(f, lines) {
		return f.New()
	}
	loc, err := c.Location()
	if c.Timezone == "" || err != nil {
		loc = offsetOf(lines)
	}
	p, err := errorlog.New(errorlog.Config{Server: f.Server(), Location: loc, Near: near})
	if err != nil { // the server is one that Server named
		panic(err)
	}
	return f.NewBeside(p.Among())
}

// offsetOf finds the offset from UTC in the time stamps of an access log, such as
// "[24/Nov/2026:10:00:00 +0100]" or "2026-11-24T10:00:00+01:00"; nil if there is
// none. Error logs of the same server are written in the same zone.
func offsetOf(lines [][]byte) *time.Location {
	for _, l := range lines {
		for i := 0; i+6 < len(l); i++ {
			if l[i] != '+' && l[i] != '-' || i == 0 {
				continue
			}
			var h, m int
			switch d := l[i+1:]; {
			case l[i-1] == ' ' && digits(d[:4]) && bytes.IndexByte([]byte("] \""), d[4]) >= 0:
				h, m = number(d[:2]), number(d[2:4])
			case l[i-1] >= '0' && l[i-1] <= '9' && i >= 9 && l[i-3] == ':' && digits(d[:2]) && d[2] == ':' && digits(d[3:5]):
				h, m = number(d[:2]), number(d[3:5])
			default:
				continue
			}
			if h > 14 || m > 59 {
				continue
			}
			off := h*3600 + m*60
			if l[i] == '-' {
				off = -off
			}
			return time.FixedZone("", off)
		}
	}
	return nil
}

func digits(b []byte) bool {
	for _, c := range b {
		if c < '0' || c > '9' {
			return false
		}
	}
	return true
}

func number(b []byte) int { return int(b[0]-'0')*10 + int(b[1]-'0') }

// samples yields the first lines of the files that match now, one file at a time.
func samples(globs []string) iter.Seq[[][]byte] {
	return func(yield func([][]byte) bool) {
		for _, g := range globs {
			paths, err := doublestar.FilepathGlob(g, doublestar.WithFilesOnly())
			if err != nil { // told by check
				continue
			}
			slices.Sort(paths)
			for _, p := range paths {
				if lines := sample(p); len(lines) > 0 && !yield(lines) {
					return
				}
			}
		}
	}
}

// siblingZone is the zone that the access logs of a source are written in.
func siblingZone(s *configs.Source) *time.Location {
	for lines := range samples(s.Files) {
		if _, share := errorlog.Detect(lines); share < errorLogShare {
			if loc := offsetOf(lines); loc != nil {
				return loc
			}
		}
	}
	return time.UTC
}
