package syslog

import (
	"bytes"
	"context"
	"fmt"
	"log/slog"
	"net"
	"runtime"
	"slices"
	"strings"
	"sync"
	"testing"

	"go.uber.org/goleak"

	"github.com/denywatch/denywatch/ingest/ingesttest"
	"github.com/denywatch/denywatch/internal/servertest"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// run runs a source until the test ends or stop is called, and returns where it
// listens, in the order of listen.
func run(t *testing.T, h *ingesttest.Host, dir string, listen ...string) (src *Source, at []string, stop func()) {
	t.Helper()
	src = New(Config{Name: "web", Dir: dir, Listen: listen, Spool: 1 << 30, MaxLine: 1 << 20}, slog.New(slog.DiscardHandler))
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- src.Run(ctx, h) }()
	stop = sync.OnceFunc(func() {
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
	t.Cleanup(stop)
	for {
		src.mu.Lock()
		bound := slices.Clone(src.bound)
		src.mu.Unlock()
		if len(bound) == len(listen) {
			for _, l := range listen {
				for _, b := range bound {
					if strings.HasPrefix(l, b.Network()+":") {
						at = append(at, b.String())
					}
				}
			}
			return src, at, stop
		}
		runtime.Gosched()
	}
}

func dial(t *testing.T, network, at string) net.Conn {
	t.Helper()
	c, err := new(net.Dialer).DialContext(t.Context(), network, at)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = c.Close() })
	return c
}

// TestReceives: messages come over UDP and TCP, in either framing and both in one
// connection, one a write or many, and in the order of their connection.
func TestReceives(t *testing.T) {
	h := ingesttest.New(t)
	dir := t.TempDir()
	src, at, stop := run(t, h, dir, "udp://127.0.0.1:0", "tcp://127.0.0.1:0")
	udp, tcp := dial(t, "udp", at[0]), dial(t, "tcp", at[1])
	large := "<190>" + strings.Repeat("u", 60_000)
	for _, m := range []string{"<190>a\n", "<190>b\x00", "\n", "<190>two\nlines", large} {
		if _, err := udp.Write([]byte(m)); err != nil {
			t.Fatal(err)
		}
	}
	h.Await(4)
	if got := h.Lines(); !slices.Equal(got, []string{"<190>a", "<190>b", "<190>two lines", large}) {
		t.Errorf("UDP: %.100q", got)
	}

	var stream bytes.Buffer
	var want []string
	for i := range 1000 {
		m := fmt.Sprintf("<190>message %d %s", i, strings.Repeat("x", i%97))
		want = append(want, m)
		if i%3 == 0 {
			fmt.Fprintf(&stream, "%d %s", len(m), m)
		} else {
			stream.WriteString(m + "\n")
		}
		if i%100 == 50 { // too long in both framings
			fmt.Fprintf(&stream, "%d %s", maxMessage+1, strings.Repeat("y", maxMessage+1))
			stream.WriteString("<190>" + strings.Repeat("z", maxMessage) + "\n")
		}
	}
	counted := "9 <190>a\nbc" // a newline in a counted message
	want = append(want, "<190>a bc", "<190>largest "+strings.Repeat("l", maxMessage-13), "<190>no newline at the end")
	stream.WriteString(counted)
	fmt.Fprintf(&stream, "%d %s", maxMessage, want[1001])
	stream.WriteString(want[1002])
	for rest := stream.Bytes(); len(rest) > 0; {
		n := min(len(rest), 1+len(rest)%5000)
		if _, err := tcp.Write(rest[:n]); err != nil {
			t.Fatal(err)
		}
		rest = rest[n:]
	}
	_ = tcp.Close()
	h.Await(4 + len(want))
	if got := h.Lines()[4:]; !slices.Equal(got, want) {
		t.Errorf("TCP: %d messages, want %d", len(got), len(want))
	}
	servertest.Await(t, "the counts, which follow the lines", func() (bool, string) {
		n := src.Stats().Messages
		return n == uint64(4+len(want)), fmt.Sprint(n)
	})
	st := src.Stats()
	if st.Dropped["too_long"] != 20 || st.Trouble != "" || st.Spool.Bytes == 0 {
		t.Errorf("%+v", st)
	}
	stop()
	if n := src.Stats().Connections; n != 0 {
		t.Errorf("%d connections are left", n)
	}
	// Nothing is read twice after a restart.
	_, at, _ = run(t, h, dir, "udp://127.0.0.1:0")
	if _, err := dial(t, "udp", at[0]).Write([]byte("<190>last")); err != nil {
		t.Fatal(err)
	}
	h.Await(5 + len(want))
	if got := h.Lines(); got[len(got)-1] != "<190>last" || len(got) != 5+len(want) {
		t.Errorf("after a restart: %d lines", len(got))
	}
}

// TestLastMessages: what was taken before a stop is kept and read by the next run.
func TestLastMessages(t *testing.T) {
	h := ingesttest.New(t)
	dir := t.TempDir()
	src, at, stop := run(t, h, dir, "tcp://127.0.0.1:0")
	tcp := dial(t, "tcp", at[0])
	if _, err := tcp.Write([]byte("<190>a\n<190>b\n")); err != nil {
		t.Fatal(err)
	}
	for src.Stats().Connections == 0 {
		runtime.Gosched()
	}
	h.Await(2)
	for i := range 100 {
		if _, err := fmt.Fprintf(tcp, "<190>%d\n", i); err != nil {
			t.Fatal(err)
		}
	}
	stop()
	taken := int(src.Stats().Messages)
	run(t, h, dir, "tcp://127.0.0.1:0")
	h.Await(taken)
}

// TestBusyAddress: an address that somebody else has is told, tried again, and holds
// nothing else up.
func TestBusyAddress(t *testing.T) {
	ln, err := new(net.ListenConfig).Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	h := ingesttest.New(t)
	src := New(Config{Name: "web", Dir: t.TempDir(), Listen: []string{"tcp://" + ln.Addr().String()}, Spool: 1 << 30, MaxLine: 1 << 20}, slog.New(slog.DiscardHandler))
	ctx, stop := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- src.Run(ctx, h) }()
	servertest.Await(t, "the trouble to be told", func() (bool, string) {
		return strings.Contains(src.Stats().Trouble, "in use") && h.IsReady(), src.Stats().Trouble
	})
	_ = ln.Close()
	servertest.Await(t, "the address to be free", func() (bool, string) {
		st := src.Stats()
		return st.Trouble == "", st.Trouble
	})
	stop()
	if err := <-done; err != nil {
		t.Fatal(err)
	}
}

// TestManyConnections: connections beyond the bound are closed and those within go on.
func TestManyConnections(t *testing.T) {
	h := ingesttest.New(t)
	src, at, _ := run(t, h, t.TempDir(), "tcp://127.0.0.1:0")
	var conns []net.Conn
	for range maxConns {
		conns = append(conns, dial(t, "tcp", at[0]))
	}
	servertest.Await(t, "all connections", func() (bool, string) { return src.Stats().Connections == maxConns, "" })
	over := dial(t, "tcp", at[0])
	if n, err := over.Read(make([]byte, 1)); err == nil {
		t.Errorf("read %d bytes of a connection too many", n)
	}
	for i, c := range conns {
		if _, err := fmt.Fprintf(c, "<190>%d\n", i); err != nil {
			t.Fatal(err)
		}
	}
	if n := src.Stats().Refused; n == 0 {
		t.Error("what was refused is not counted")
	}
	h.Await(maxConns)
}

// FuzzFramer: whatever comes and however it is cut, the messages are the same, none is
// longer than it may be, and no byte is waited for for ever.
func FuzzFramer(f *testing.F) {
	f.Add([]byte("5 <1>ab<1>c\n<1>d"), byte(1))
	f.Add([]byte("99 <1>too long, and more than that, and more still, to fill it up to there, and on"), byte(7))
	f.Add([]byte("1\n12x\n0 a\n999999999999 b\n"), byte(3))
	f.Fuzz(func(t *testing.T, data []byte, step byte) {
		cut := func(step int) (out []string, tooLong uint64) {
			fr := framer{most: 20}
			var buf []byte
			for rest := data; ; {
				n := min(step, len(rest))
				buf, rest = append(buf, rest[:n]...), rest[n:]
				for {
					m, n := fr.next(buf)
					if n == 0 {
						break
					}
					if n > len(buf) || len(m) > 20 {
						t.Fatalf("took %d of %d for a message of %d", n, len(buf), len(m))
					}
					if m != nil {
						out = append(out, string(m))
					}
					buf = buf[n:]
				}
				if len(buf) > 20+maxDigits+1 {
					t.Fatalf("%d bytes wait", len(buf))
				}
				if len(rest) == 0 {
					return out, fr.tooLong
				}
			}
		}
		whole, long := cut(len(data) + 1)
		pieces, long2 := cut(int(step)%50 + 1)
		if !slices.Equal(whole, pieces) || long != long2 {
			t.Fatalf("whole: %q, %d too long; in pieces: %q, %d", whole, long, pieces, long2)
		}
	})
}

// TestAllocations guards the hot path: taking a message allocates nothing.
func TestAllocations(t *testing.T) {
	g := newGatherer(nil, nil)
	g.buf = make([]byte, 0, 1<<20)
	const counted = "<190>another, that is counted"
	data := []byte(strings.Repeat(fmt.Sprintf("<190>a message of some length\n%d %s", len(counted), counted), 100))
	f := framer{most: maxMessage}
	if n := testing.AllocsPerRun(20, func() {
		g.buf = g.buf[:0]
		for rest := data; len(rest) > 0; {
			m, n := f.next(rest)
			if n == 0 {
				t.Fatalf("%q waits", rest)
			}
			rest = rest[n:]
			if m = trim(m); len(m) > 0 {
				g.add(m)
			}
		}
	}); n != 0 {
		t.Errorf("%v allocations, want none", n)
	}
}
