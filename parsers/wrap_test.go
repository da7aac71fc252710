package parsers

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/denywatch/denywatch/internal/event"
)

// An access line and its event, as the wrappers of the tests carry them.
const (
	innerLine  = `198.51.100.23 - - [03/Mar/2026:08:15:01 +0100] "GET /a?x=\x22y\x22&z=<1> HTTP/2.0" 403 87 "-" "Mozilla/5.0"`
	innerEvent = `time=2026-03-03T07:15:01Z method=GET path="/a?x=\"y\"&z=<1>" status=403 client=198.51.100.23 agent=Mozilla/5.0`
)

func quoteJSON(s string) string {
	b, err := json.Marshal(s)
	if err != nil {
		panic(err)
	}
	return string(b)
}

func TestWrapped(t *testing.T) {
	half := len(innerLine) / 2
	logfmtLine := `status=403 path=/a`
	for _, c := range []struct {
		name, wrapper, format string
		lines                 []string
		want                  []string // an event, or the text of an error
	}{
		{"CRI", "cri", "combined", []string{
			"2026-03-03T07:15:02.123456789Z stdout F " + innerLine,
			"2026-03-03T08:15:02.1+01:00 stdout F " + innerLine,
			"2026-03-03T07:15:02Z stdout F:new " + innerLine,
			"2026-03-03T07:15:02Z stderr F 2026/03/03 07:15:02 [error] 7#7: *1 access forbidden by rule",
			"2026-03-03T07:15:02Z stdout F hello",
			"2026-03-03T07:15:02Z stdout F",
			"2026-03-03T07:15:02Z stdin F " + innerLine,
			"2026-03-03T07:15:02Z stdout X " + innerLine,
			innerLine, "",
		}, []string{
			innerEvent, innerEvent, innerEvent, ErrOtherStream.Error(), ErrMismatch.Error(), ErrShort.Error(),
			ErrWrapper.Error(), ErrWrapper.Error(), ErrWrapper.Error(), ErrWrapper.Error(),
		}},
		{"CRI in pieces, both outputs at once", "cri", "combined", []string{
			"2026-03-03T07:15:02Z stdout P " + innerLine[:20],
			"2026-03-03T07:15:02Z stderr P " + innerLine[:half],
			"2026-03-03T07:15:02Z stdout P " + innerLine[20:half],
			"2026-03-03T07:15:02Z stderr F " + innerLine[half:],
			"2026-03-03T07:15:02Z stdout F " + innerLine[half:],
			"2026-03-03T07:15:02Z stdout F " + innerLine,
		}, []string{ErrPiece.Error(), ErrPiece.Error(), ErrPiece.Error(), innerEvent, innerEvent, innerEvent}},
		{"a shipper", "shipper", "combined", []string{
			`{"@timestamp":"2026-03-03T07:15:02Z","message":` + quoteJSON(innerLine) + `,"stream":"stdout"}`,
			`{"log":` + quoteJSON(innerLine+"\n") + `,"kubernetes":{"message":"no"}}`,
			`{"textPayload":` + quoteJSON(innerLine) + `}`,
			`{"message":"short","log":` + quoteJSON(innerLine) + `}`,
			`{"message":` + quoteJSON("<30>Mar  3 07:15:02 web nginx: "+innerLine) + `}`,
			`{"message":"hello","stream":"stdout"}`,
			`{"message":` + quoteJSON(innerLine) + `,"stream":"stdout"}`,
			`{"message":"hello","stream":"stderr"}`,
			`{"msg":"hello"}`, `{"message":7}`, `{"message":"a"`, innerLine, "",
		}, []string{
			innerEvent, innerEvent, innerEvent, innerEvent, innerEvent, ErrMismatch.Error(), innerEvent, ErrOtherStream.Error(),
			ErrWrapper.Error(), ErrWrapper.Error(), ErrSyntax.Error(), ErrWrapper.Error(), ErrWrapper.Error(),
		}},
		{"syslog of Heroku, without structured data", "syslog", "logfmt", []string{
			`<158>1 2026-03-03T07:15:02.5+00:00 host heroku router - at=info method=GET path="/a" status=403`,
			`<158>1 2026-03-03T07:15:02.5+00:00 host heroku router x at=info method=GET path="/a" status=403`,
		}, []string{"time=2026-03-03T07:15:02.5Z method=GET path=/a status=403", ErrWrapper.Error()}},
		{"a shipper's time", "shipper", "json", []string{
			`{"@timestamp":"2026-03-03T07:15:02Z","message":"{\"status\":403}"}`,
		}, []string{"time=2026-03-03T07:15:02Z status=403"}},
		{"CRI before any event: an error is an error", "cri", "combined", []string{
			"2026-03-03T07:15:02Z stderr F hello", "2026-03-03T07:15:02Z stdout F hello",
		}, []string{ErrMismatch.Error(), ErrMismatch.Error()}},
		{"CRI gives its time to lines without one", "cri", "logfmt", []string{
			"2026-03-03T07:15:02.123456789Z stdout F " + logfmtLine,
			"2026-03-03T07:15:02.123456789Z stdout F " + logfmtLine + " time=2026-03-03T07:00:00Z",
		}, []string{
			"time=2026-03-03T07:15:02.123456789Z path=/a status=403", "time=2026-03-03T07:00:00Z path=/a status=403",
		}},
		{"Docker", "docker", "combined", []string{
			`{"log":` + quoteJSON(innerLine+"\n") + `,"stream":"stdout","time":"2026-03-03T07:15:02.1Z"}`,
			`{"log":` + quoteJSON(innerLine+"\r\n") + `,"stream":"stdout","attrs":{"tag":"x"},"time":"2026-03-03T07:15:02.1Z"}`,
			`{"log":` + quoteJSON(innerLine[:half]) + `,"stream":"stdout","time":"2026-03-03T07:15:02.1Z"}`,
			`{"log":"2026/03/03 [notice]\n","stream":"stderr","time":"2026-03-03T07:15:02.1Z"}`,
			`{"log":` + quoteJSON(innerLine[half:]+"\n") + `,"stream":"stdout","time":"2026-03-03T07:15:02.1Z"}`,
			`{"log":"x\n","stream":"stdout","time":"2026-03-03T07:15:02.1Z"`,
			`{"stream":"stdout","time":"2026-03-03T07:15:02.1Z"}`,
			`{"log":"x\n","time":"2026-03-03T07:15:02.1Z"}`,
			innerLine,
		}, []string{
			innerEvent, innerEvent, ErrPiece.Error(), ErrOtherStream.Error(), innerEvent,
			ErrSyntax.Error(), ErrWrapper.Error(), ErrWrapper.Error(), ErrWrapper.Error(),
		}},
		{"Docker gives its time", "docker", "logfmt", []string{
			`{"log":"` + logfmtLine + `\n","stream":"stderr","time":"2026-03-03T07:15:02.5Z"}`,
		}, []string{"time=2026-03-03T07:15:02.5Z path=/a status=403"}},
		{"RFC 3164", "syslog", "combined", []string{
			"<190>Mar  3 07:15:02 web-1 nginx: " + innerLine,
			"<190>Mar  3 07:15:02 web-1 nginx[17]: " + innerLine,
			"<190>Mar 13 07:15:02 nginx: " + innerLine,
			"Mar  3 07:15:02 web-1 nginx: " + innerLine,
			"Mar 3 07:15:02.123 web-1 nginx_access: " + innerLine,
			"<190>Mar  3 07:15:02 2001:db8::7 nginx: " + innerLine,
			"<190>Mar  3 07:15:02 web-1 " + innerLine,
			"<190>nginx: " + innerLine,
			fmt.Sprintf("%d <190>Mar  3 07:15:02 web-1 nginx: %s", len("<190>Mar  3 07:15:02 web-1 nginx: ")+len(innerLine), innerLine),
			"20 <190>Mar  3 07:15:02 web-1 nginx: " + innerLine,
			"<1900>Mar  3 07:15:02 web-1 nginx: " + innerLine,
			"<>x", "<", "7 <", innerLine, "",
		}, []string{
			innerEvent, innerEvent, innerEvent, innerEvent, innerEvent, innerEvent, innerEvent, innerEvent, innerEvent, ErrFrames.Error(),
			ErrWrapper.Error(), ErrWrapper.Error(), ErrWrapper.Error(), ErrWrapper.Error(), ErrWrapper.Error(), ErrWrapper.Error(),
		}},
		{"RFC 3164 has no year: no time", "syslog", "logfmt", []string{
			"<190>Mar  3 07:15:02 web-1 app: " + logfmtLine,
		}, []string{"path=/a status=403"}},
		{"RFC 5424", "syslog", "combined", []string{
			"<190>1 2026-03-03T07:15:02.123456Z web-1 nginx 17 access - " + innerLine,
			"<190>1 2026-03-03T07:15:02.123456Z web-1 nginx 17 access - \ufeff" + innerLine,
			`<190>1 - - - - - [a x="\"]\\"][b@1] ` + innerLine,
			`<190>1 - - - - - [a x="y`, "<190>1 - - -", "<190>1 x y - - - - " + innerLine,
		}, []string{innerEvent, innerEvent, innerEvent, ErrWrapper.Error(), ErrWrapper.Error(), ErrWrapper.Error()}},
		{"RFC 5424 gives its time", "syslog", "logfmt", []string{
			"<190>1 2026-03-03T08:15:02.123456+01:00 web-1 app 17 - - " + logfmtLine,
			"<190>1 - web-1 app 17 - - " + logfmtLine,
		}, []string{"time=2026-03-03T07:15:02.123456Z path=/a status=403", "path=/a status=403"}},
		{"rsyslog's files", "syslog", "json", []string{
			`2026-03-03T08:15:02.123456+01:00 web-1 app[3]:  @cee: {"status":403,"path":"/a"}`,
			`2026-03-03T08:15:02.123456+01:00 web-1 {"status":403}`,
		}, []string{"time=2026-03-03T07:15:02.123456Z path=/a status=403", ErrWrapper.Error()}},
		{"journald", "journald", "combined", []string{
			`{"__REALTIME_TIMESTAMP":"1772522102500000","_HOSTNAME":"web-1","MESSAGE":` + quoteJSON(innerLine) + `}`,
			`{"MESSAGE":` + strings.ReplaceAll(fmt.Sprintf("%d", []byte(innerLine)), " ", ",") + `,"__REALTIME_TIMESTAMP":"1772522102500000"}`,
			`{"MESSAGE":[` + quoteJSON(innerLine) + `,"second"],"__REALTIME_TIMESTAMP":"1772522102500000"}`,
			`{"MESSAGE":null,"__REALTIME_TIMESTAMP":"1772522102500000"}`,
			`{"MESSAGE":[],"__REALTIME_TIMESTAMP":"1772522102500000"}`,
			`{"MESSAGE":[1,256],"__REALTIME_TIMESTAMP":"1772522102500000"}`,
			`{"__REALTIME_TIMESTAMP":"1772522102500000"}`,
			`{"MESSAGE":"x"}`, `{"MESSAGE":"x"`, "x",
		}, []string{
			innerEvent, innerEvent, innerEvent, ErrMessage.Error(), ErrMessage.Error(), ErrMessage.Error(), ErrMessage.Error(),
			ErrWrapper.Error(), ErrSyntax.Error(), ErrWrapper.Error(),
		}},
		{"journald gives its time", "journald", "logfmt", []string{
			`{"__REALTIME_TIMESTAMP":"1772522102500000","MESSAGE":"` + logfmtLine + `"}`,
		}, []string{"time=2026-03-03T07:15:02.5Z path=/a status=403"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			p, err := New(Config{Format: c.format, Wrapper: c.wrapper})
			if err != nil {
				t.Fatal(err)
			}
			if len(c.lines) != len(c.want) {
				t.Fatalf("%d lines, %d answers", len(c.lines), len(c.want))
			}
			var e event.Event
			for i, l := range c.lines {
				// The bytes of a line are the reader's again after Parse.
				line := []byte(l)
				e.Reset()
				var got string
				if err := p.Parse(line, &e); err != nil {
					got = err.Error()
				} else {
					got = show(&e)
				}
				for k := range line {
					line[k] = 0xff
				}
				if got != c.want[i] {
					t.Errorf("%s\n got %s\nwant %s", l, got, c.want[i])
				}
			}
		})
	}
}

// A line in pieces without end takes bounded memory, is one error, and harms
// neither the other output nor the next line.
func TestWrappedTooLong(t *testing.T) {
	p, err := New(Config{Format: "combined", Wrapper: "cri"})
	if err != nil {
		t.Fatal(err)
	}
	w := p.(*wrapped)
	var e event.Event
	piece := []byte("2026-03-03T07:15:02Z stdout P " + strings.Repeat("x", 16<<10))
	for range 300 {
		e.Reset()
		if err := p.Parse(piece, &e); !errors.Is(err, ErrPiece) {
			t.Fatal(err)
		}
		if c := cap(w.joins[streamOut].buf); c > 2*maxJoined {
			t.Fatalf("%d bytes are kept", c)
		}
	}
	e.Reset()
	if err := p.Parse([]byte("2026-03-03T07:15:02Z stderr F "+innerLine), &e); err != nil || show(&e) != innerEvent {
		t.Errorf("the other output: %v %s", err, show(&e))
	}
	e.Reset()
	if err := p.Parse([]byte("2026-03-03T07:15:02Z stdout F x"), &e); !errors.Is(err, ErrOtherStream) && !errors.Is(err, ErrTooLong) {
		t.Errorf("its end: %v", err)
	}
	e.Reset()
	if err := p.Parse([]byte("2026-03-03T07:15:02Z stdout F "+innerLine), &e); err != nil || show(&e) != innerEvent {
		t.Errorf("the next line: %v %s", err, show(&e))
	}
	e.Reset()
	if err := p.Parse([]byte("2026-03-03T07:15:02Z stdout P "+innerLine[:9]), &e); !errors.Is(err, ErrPiece) {
		t.Error(err)
	}
	if c := cap(w.joins[streamOut].buf); c > keptJoin {
		t.Errorf("%d bytes are kept after a long line", c)
	}
}

func TestDetectWrapper(t *testing.T) {
	repeat := func(n int, l string) []string { return strings.Split(strings.Repeat(l+"\x00", n-1)+l, "\x00") }
	for _, c := range []struct {
		name    string
		config  Config
		lines   []string
		wrapper string
		format  string
	}{
		{"CRI", Config{}, repeat(3, "2026-03-03T07:15:02Z stdout F "+innerLine), "cri", "nginx"},
		{"CRI that starts with a shell's output", Config{}, append(repeat(20, "2026-03-03T07:15:02Z stderr F /entrypoint: ready"), repeat(3, "2026-03-03T07:15:02Z stdout F "+innerLine)...), "cri", "nginx"},
		{"CRI, JSON on stderr", Config{}, append(repeat(5, "2026-03-03T07:15:02Z stdout F listening"), repeat(3, `2026-03-03T07:15:02Z stderr F {"status":403,"path":"/a"}`)...), "cri", "json"},
		{"Docker", Config{}, repeat(3, `{"log":`+quoteJSON(innerLine+"\n")+`,"stream":"stdout","time":"2026-03-03T07:15:02.1Z"}`), "docker", "nginx"},
		{"Docker with logfmt", Config{}, repeat(3, `{"log":"status=403 path=/a\n","stream":"stdout","time":"2026-03-03T07:15:02.1Z"}`), "docker", "logfmt"},
		{"journald", Config{}, repeat(3, `{"__REALTIME_TIMESTAMP":"1772522102500000","MESSAGE":`+quoteJSON(innerLine)+`}`), "journald", "nginx"},
		{"syslog", Config{}, repeat(3, "<190>Mar  3 07:15:02 web-1 nginx: "+innerLine), "syslog", "nginx"},
		{"rsyslog", Config{}, repeat(3, "2026-03-03T07:15:02+01:00 web-1 nginx: "+innerLine), "syslog", "nginx"},
		{"no wrapper", Config{}, repeat(3, innerLine), "", "nginx"},
		{"logfmt after a time is no syslog", Config{}, repeat(3, "2026-03-03T07:15:02Z INFO status=403 path=/a"), "", "logfmt"},
		{"a log that looks wrapped", Config{}, repeat(3, `{"log":"denied","stream":"stdout","status":403,"path":"/a"}`), "", "json"},
		{"the format is named", Config{Format: "nginx", LogFormat: "$time_iso8601 $status", Wrapper: "auto"}, repeat(3, "2026-03-03T07:15:02Z stdout F 2026-03-03T07:15:01+00:00 403"), "cri", "nginx"},
		{"the format is named, no wrapper", Config{Format: "combined", Wrapper: "auto"}, repeat(3, innerLine), "none", "combined"},
		{"the wrapper is named", Config{Wrapper: "cri"}, repeat(3, "2026-03-03T07:15:02Z stdout F "+innerLine), "cri", "nginx"},
		{"no wrapper is named", Config{Wrapper: "none"}, repeat(3, innerLine), "", "nginx"},
	} {
		t.Run(c.name, func(t *testing.T) {
			var sample [][]byte
			for _, l := range c.lines {
				sample = append(sample, []byte(l))
			}
			if !c.config.Auto() {
				t.Fatal("nothing to recognise")
			}
			got, why, err := c.config.Resolve(sample, "x.log")
			if err != nil {
				t.Fatal(err)
			}
			if got.Wrapper != c.wrapper || got.Format != c.format || got.Auto() {
				t.Errorf("%+v (%s), want %s in %q", got, why, c.format, c.wrapper)
			}
			f, err := Compile(got)
			if err != nil {
				t.Fatal(err)
			}
			wrappedText := strings.Contains(f.String(), " in ")
			if want := c.wrapper != "" && c.wrapper != "none"; wrappedText != want {
				t.Errorf("described as %s", f)
			}
		})
	}
	// What is inside is not known: the error says so, whatever is outside.
	if c, _, err := Detect([][]byte{[]byte("2026-03-03T07:15:02Z stdout F hello")}, "x.log"); !errors.Is(err, ErrUnknownFormat) {
		t.Errorf("%+v %v", c, err)
	}
	if ps := (Config{Format: "combined", Wrapper: "dockr"}).Validate(); len(ps) != 1 || !strings.Contains(ps[0].Error(), `did you mean "docker"?`) {
		t.Errorf("%v", ps)
	}
	if _, err := Compile(Config{Format: "combined", Wrapper: "auto"}); err == nil || !strings.Contains(err.Error(), "wrapper") {
		t.Errorf("%v", err)
	}
}

// wrapLine writes message as the wrapper would, in two pieces if cut > 0.
func wrapLine(wrapper, message string, cut int) []string {
	switch wrapper {
	case wrapperCRI:
		if cut > 0 {
			return []string{"2026-03-03T07:15:02Z stdout P " + message[:cut], "2026-03-03T07:15:02Z stdout F " + message[cut:]}
		}
		return []string{"2026-03-03T07:15:02Z stdout F " + message}
	case wrapperDocker:
		one := func(s string) string {
			return `{"log":` + quoteJSON(s) + `,"stream":"stdout","time":"2026-03-03T07:15:02.1Z"}`
		}
		if cut > 0 {
			return []string{one(message[:cut]), one(message[cut:] + "\n")}
		}
		return []string{one(message + "\n")}
	case wrapperJournald:
		text := quoteJSON(message)
		if cut > 0 {
			text = strings.ReplaceAll(fmt.Sprintf("%d", []byte(message)), " ", ",")
		}
		return []string{`{"__REALTIME_TIMESTAMP":"1772522102500000","MESSAGE":` + text + `}`}
	case wrapperShipper:
		key := "message"
		if cut > 0 {
			key = "log"
		}
		return []string{`{"@timestamp":"2026-03-03T07:15:02Z","host":{"name":"web-1"},"` + key + `":` + quoteJSON(message) + `}`}
	}
	if cut > 0 {
		return []string{`<190>1 2026-03-03T07:15:02Z web-1 app 17 - [a b="c\]"] ` + message}
	}
	return []string{"<190>Mar  3 07:15:02 web-1 app[17]: " + message}
}

var innerWrappers = []string{wrapperCRI, wrapperDocker, wrapperJournald, wrapperSyslog, wrapperShipper}

// FuzzWrapRoundTrip: what a wrapper was put around comes out of it again.
func FuzzWrapRoundTrip(f *testing.F) {
	f.Add(innerLine, uint8(0), uint16(0))
	f.Add(`{"status":403,"path":"/\"ü\\"}`, uint8(1), uint16(7))
	f.Add("a\tb\u2028<&>", uint8(2), uint16(1))
	f.Fuzz(func(t *testing.T, message string, which uint8, cut uint16) {
		wrapper := innerWrappers[int(which)%len(innerWrappers)]
		message = strings.Map(func(r rune) rune {
			if r == '\n' || r == '\r' {
				return -1 // they end lines
			}
			return r
		}, message)
		if wrapper == wrapperSyslog { // what it takes from the front is not the message's
			message = strings.TrimLeft(message, " \ufeff")
			if strings.HasPrefix(message, "@cee:") {
				return
			}
		}
		if message == "" || !utf8.ValidString(message) {
			return
		}
		if wrapper == wrapperShipper && (message[0] == '<' || bsdStamp([]byte(message)) > 0) {
			return // it may have come from syslog
		}
		at := int(cut) % len(message)
		for at > 0 && !utf8.RuneStart(message[at]) {
			at--
		}
		w := newWrapped(wrapper, nil)
		lines := wrapLine(wrapper, message, at)
		for i, l := range lines {
			err := w.unwrap([]byte(l))
			if last := i == len(lines)-1; last && err != nil || !last && !errors.Is(err, ErrPiece) {
				t.Fatalf("%s: %v", l, err)
			}
		}
		if string(w.message) != message {
			t.Fatalf("%s:\n got %q\nwant %q", wrapper, w.message, message)
		}
	})
}

func FuzzWrapped(f *testing.F) {
	for i, w := range innerWrappers {
		for _, l := range append(wrapLine(w, innerLine, 9), wrapLine(w, `{"status":403,"path":"/a"}`, 0)...) {
			f.Add([]byte(l), uint8(i))
		}
	}
	f.Add([]byte(`{"log":"\ud8`), uint8(1))
	f.Add([]byte(`12 <34>1 - - - - - [`), uint8(3))
	f.Fuzz(func(t *testing.T, text []byte, which uint8) {
		wrapper := innerWrappers[int(which)%len(innerWrappers)]
		p, err := New(Config{Format: []string{"combined", "json", "logfmt"}[int(which)/len(innerWrappers)%3], Wrapper: wrapper})
		if err != nil {
			t.Fatal(err)
		}
		var e event.Event
		for line := range bytes.SplitSeq(text, []byte{'\n'}) {
			e.Reset()
			before := string(line)
			err := p.Parse(line, &e)
			if string(line) != before {
				t.Fatal("the line was changed")
			}
			if n := len(e.Path) + len(e.Method) + len(e.Client) + len(e.User); err == nil && n > len(text) {
				t.Fatalf("%d bytes out of %d", n, len(text))
			}
			_ = show(&e)
		}
	})
}
