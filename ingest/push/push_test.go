package push

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"maps"
	"math/rand/v2"
	"net"
	"net/http"
	"runtime"
	"runtime/metrics"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/klauspost/compress/gzip"
	"github.com/klauspost/compress/zstd"
	"go.uber.org/goleak"

	"github.com/denywatch/denywatch/ingest/ingesttest"
	"github.com/denywatch/denywatch/ingest/spool"
	"github.com/denywatch/denywatch/internal/secret"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const (
	token = "0123456789abcdef-edge"
	other = "0123456789abcdef-other"
)

// bench is a server with sources that run.
type bench struct {
	t       testing.TB
	url     string
	addr    string
	server  *Server
	sources map[string]*Source
	hosts   map[string]*ingesttest.Host
	client  *http.Client

	transport *http.Transport
	stop      func()
}

func edge(t testing.TB) Config {
	return Config{
		Name: "edge", Dir: t.TempDir(), Tokens: []secret.Token{{Name: "logpush", Token: token}},
		MaxBody: 1 << 20, MaxBatch: 16 << 20, Spool: 1 << 30, MaxLine: 1 << 10, Lateness: time.Minute,
	}
}

// start runs a server and its sources until the test ends or stop is called.
func start(t testing.TB, cfgs ...Config) *bench { return startAt(t, usualPace, cfgs...) }

func startAt(t testing.TB, p pace, cfgs ...Config) *bench {
	t.Helper()
	ln, err := new(net.ListenConfig).Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	return startOn(t, ln, p, cfgs...)
}

func startOn(t testing.TB, ln net.Listener, p pace, cfgs ...Config) *bench {
	t.Helper()
	transport := &http.Transport{MaxIdleConnsPerHost: 2000}
	log := slog.New(slog.DiscardHandler)
	b := &bench{
		t: t, url: "http://" + ln.Addr().String() + "/v1/ingest/", addr: ln.Addr().String(), server: NewServer(log),
		sources: map[string]*Source{}, hosts: map[string]*ingesttest.Host{},
		client: &http.Client{Transport: transport}, transport: transport,
	}
	b.server.pace = p
	ctx, cancel := context.WithCancel(context.Background())
	var wg sync.WaitGroup
	for _, cfg := range cfgs {
		src, h := New(cfg, log), ingesttest.New(t)
		b.sources[cfg.Name], b.hosts[cfg.Name] = src, h
		wg.Go(func() {
			if err := src.Run(ctx, h); err != nil {
				t.Error(err)
			}
		})
	}
	for _, src := range b.sources {
		for src.spool.Load() == nil {
			runtime.Gosched()
		}
	}
	b.server.SetSources(maps.Clone(b.sources))
	wg.Go(func() {
		if err := b.server.Serve(ctx, ln); err != nil {
			t.Error(err)
		}
	})
	b.stop = sync.OnceFunc(func() {
		cancel()
		wg.Wait()
		b.client.CloseIdleConnections()
	})
	t.Cleanup(b.stop)
	return b
}

// answer is what a sender gets.
type answer struct {
	status    int
	header    http.Header
	Lines     int64
	Duplicate bool
	Error     string
	Hint      string
}

// post sends a body with headers, given in pairs; "-" for the token sends none.
func (b *bench) post(source string, body []byte, headers ...string) answer {
	b.t.Helper()
	req, err := http.NewRequestWithContext(context.Background(), http.MethodPost, b.url+source, bytes.NewReader(body))
	if err != nil {
		b.t.Fatal(err)
	}
	req.Header.Set("Authorization", "Bearer "+token)
	for i := 0; i < len(headers); i += 2 {
		req.Header.Set(headers[i], headers[i+1])
	}
	res, err := b.client.Do(req)
	if err != nil {
		return answer{Error: err.Error()}
	}
	defer func() { _ = res.Body.Close() }()
	a := answer{status: res.StatusCode, header: res.Header}
	if text, err := io.ReadAll(res.Body); err != nil {
		return answer{Error: err.Error()}
	} else if err := json.Unmarshal(text, &a); err != nil {
		a.Error = string(text)
	}
	return a
}

func zip(parts ...string) []byte {
	var b bytes.Buffer
	for _, p := range parts {
		z := gzip.NewWriter(&b)
		_, _ = z.Write([]byte(p))
		_ = z.Close()
	}
	return b.Bytes()
}

func zst(text string) []byte {
	z, err := zstd.NewWriter(nil)
	if err != nil {
		panic(err)
	}
	return z.EncodeAll([]byte(text), nil)
}

// TestTakes: lines in every form are taken once, and read in the order of their
// acknowledgement.
func TestTakes(t *testing.T) {
	b := start(t, edge(t))
	for _, c := range []struct {
		name    string
		body    []byte
		headers []string
		lines   int64
		again   bool
	}{
		{"plain", []byte("a\nb\n"), nil, 2, false},
		{"again", []byte("a\nb\n"), nil, 2, true},
		{"again, compressed now", zip("a\nb\n"), []string{"Content-Encoding", "gzip"}, 2, true},
		{"another key", []byte("a\nb\n"), []string{"Idempotency-Key", "k1"}, 2, false},
		{"the same key", []byte("a\nb\n"), []string{"Idempotency-Key", "k1"}, 2, true},
		{"the same key, other lines", []byte("c\n"), []string{"Idempotency-Key", "k1"}, 1, false},
		{"no newline at the end", []byte("d\ne"), nil, 2, false},
		{"gzip of several members", zip("f\ng", "\nh\n"), []string{"Content-Encoding", "gzip"}, 3, false},
		{"gzip that is not said", zip("i\n"), nil, 1, false},
		{"zstd", zst("j\nk\n"), []string{"Content-Encoding", "zstd"}, 2, false},
		{"an over-long line", []byte("l\n" + strings.Repeat("x", 2000) + "\nm\n"), nil, 3, false},
		{"basic authentication", []byte("n\n"), []string{"Authorization", "Basic YW55Oj" + basicTail}, 1, false},
		{"any content type", []byte("o\n"), []string{"Content-Type", "application/x-www-form-urlencoded"}, 1, false},
		{"Logpush's check", zip(`{"content":"tests"}`), []string{"Content-Encoding", "gzip"}, 0, false},
		{"Logpush's check again", zip(`{"content":"tests"}` + "\n"), nil, 0, false},
		{"nothing", nil, nil, 0, false},
		{"nothing, compressed", zip(""), []string{"Content-Encoding", "gzip"}, 0, false},
		{"a line in brackets", []byte("[Tue Nov 24] p\n"), nil, 1, false},
	} {
		a := b.post("edge", c.body, c.headers...)
		if a.status != http.StatusOK || a.Lines != c.lines || a.Duplicate != c.again {
			t.Errorf("%s: %+v", c.name, a)
		}
	}
	h := b.hosts["edge"]
	h.Await(18)
	got := strings.Join(h.Lines(), " ")
	if want := "a b a b c d e f g h i j k l m n [Tue Nov 24] p"; strings.Replace(got, " o ", " ", 1) != want {
		t.Errorf("got %q", got)
	}
	st := b.sources["edge"].Stats()
	if st.Batches != 11 || st.Lines != 19 || st.Spool.Known != 3 || st.Heard.IsZero() {
		t.Errorf("%+v", st)
	}
}

// basicTail ends the base64 of "any:" and the token.
const basicTail = "AxMjM0NTY3ODlhYmNkZWYtZWRnZQ=="

// TestRefuses: what is wrong is answered by what mends it, nothing of it is counted,
// and nothing is told before the token is right.
func TestRefuses(t *testing.T) {
	second := edge(t)
	second.Name, second.Tokens = "app", []secret.Token{{Name: "vector", Token: other}}
	cfg := edge(t)
	cfg.MaxBatch = 2 << 20
	b := start(t, cfg, second)
	for _, c := range []struct {
		name, source string
		body         []byte
		headers      []string
		status       int
		hint         string
		reason       reason
	}{
		{"no token", "edge", []byte("a\n"), []string{"Authorization", ""}, 401, "Bearer", -1},
		{"no token, no source", "nowhere", []byte("a\n"), []string{"Authorization", ""}, 401, "Bearer", -1},
		{"wrong token", "edge", []byte("a\n"), []string{"Authorization", "Bearer " + token + "x"}, 401, "Bearer", -1},
		{"token in the URL", "edge?token=" + token, []byte("a\n"), []string{"Authorization", ""}, 401, "Bearer", -1},
		{"unknown source", "nowhere", []byte("a\n"), nil, 404, "NAME", -1},
		{"another's token", "edge", []byte("a\n"), []string{"Authorization", "Bearer " + other}, 404, "NAME", -1},
		{"too large", "edge", make([]byte, 1<<20+1), nil, 413, "max_body", tooLarge},
		{"bomb", "edge", zip(strings.Repeat("\n", 3<<20)), []string{"Content-Encoding", "gzip"}, 413, "max_batch", bomb},
		{"zstd bomb", "edge", zst(strings.Repeat("\n", 100<<20)), []string{"Content-Encoding", "zstd"}, 413, "max_batch", bomb},
		{"no gzip", "edge", []byte("a\n"), []string{"Content-Encoding", "gzip"}, 400, "Content-Encoding", damaged},
		{"half a gzip", "edge", zip("a\nb\nc\n")[:20], []string{"Content-Encoding", "gzip"}, 400, "Content-Encoding", damaged},
		{"gzip and more", "edge", append(zip("a\n"), "b\n"...), []string{"Content-Encoding", "gzip"}, 400, "Content-Encoding", damaged},
		{"half a zstd", "edge", zst("a\nb\n")[:8], []string{"Content-Encoding", "zstd"}, 400, "Content-Encoding", damaged},
		{"an array", "edge", []byte("[\n{\"a\":1},\n{\"a\":2}\n]\n"), nil, 400, "newline_delimited", array},
		{"brotli", "edge", []byte("a\n"), []string{"Content-Encoding", "br"}, 415, "gzip", unknownEncoding},
		{"two encodings", "edge", []byte("a\n"), []string{"Content-Encoding", "gzip, gzip"}, 415, "gzip", unknownEncoding},
	} {
		a := b.post(c.source, c.body, c.headers...)
		if a.status != c.status || a.Error == "" || !strings.Contains(a.Hint, c.hint) {
			t.Errorf("%s: %+v", c.name, a)
		}
		if strings.Contains(a.Error+a.Hint, token) {
			t.Errorf("%s: the answer shows a token", c.name)
		}
		if c.reason >= 0 && b.sources["edge"].Stats().Rejected[c.reason.String()] == 0 {
			t.Errorf("%s: not counted as %s", c.name, c.reason)
		}
	}
	// A body without a length is bounded as it comes.
	req, err := http.NewRequestWithContext(t.Context(), http.MethodPost, b.url+"edge", io.MultiReader(bytes.NewReader(make([]byte, 2<<20))))
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("Authorization", "Bearer "+token)
	if res, err := b.client.Do(req); err == nil {
		_ = res.Body.Close()
		if res.StatusCode != http.StatusRequestEntityTooLarge {
			t.Errorf("a long body in chunks: %d", res.StatusCode)
		}
	}
	res, err := b.client.Get(b.url + "edge")
	if err != nil {
		t.Fatal(err)
	}
	_ = res.Body.Close()
	if res.StatusCode != http.StatusMethodNotAllowed {
		t.Errorf("GET: %d", res.StatusCode)
	}
	if b.server.Unauthorized() != 4 {
		t.Errorf("%d unauthorized, want 4", b.server.Unauthorized())
	}
	if st := b.sources["edge"].Stats(); st.Batches != 0 || st.Spool.Bytes != 0 {
		t.Errorf("something was taken: %+v", st)
	}
	for word, n := range b.sources["edge"].Stats().Rejected {
		if n > 0 && word == "other" {
			t.Error("a reason has no word")
		}
	}
	b.stop()
	if a := (&answer{}); b.sources["edge"].spool.Load() != nil {
		t.Errorf("the spool is still open: %+v", a)
	}
}

// TestStopped: a source that does not run tells senders to try again.
func TestStopped(t *testing.T) {
	b := start(t, edge(t))
	b.server.SetSources(map[string]*Source{"edge": New(edge(t), slog.New(slog.DiscardHandler))})
	a := b.post("edge", []byte("a\n"))
	if a.status != http.StatusServiceUnavailable || a.header.Get("Retry-After") != "1" {
		t.Errorf("%+v", a)
	}
}

// TestRate: what is taken in a second is bounded, but for one batch.
func TestRate(t *testing.T) {
	cfg := edge(t)
	cfg.MaxRate, cfg.MaxBatch = 1<<10, 64<<10
	b := start(t, cfg)
	if a := b.post("edge", []byte(strings.Repeat("x\n", 32<<10))); a.status != 200 {
		t.Fatalf("%+v", a)
	}
	a := b.post("edge", []byte("y\n"))
	if a.status != http.StatusTooManyRequests || a.header.Get("Retry-After") == "" {
		t.Errorf("%+v", a)
	}
}

// TestFull: a full spool answers 503 with Retry-After, and nothing of the batch is
// counted.
func TestFull(t *testing.T) {
	cfg := edge(t)
	cfg.Spool = 300
	b := start(t, cfg)
	if a := b.post("edge", []byte("a\n")); a.status != 200 {
		t.Fatalf("%+v", a)
	}
	a := b.post("edge", bytes.Repeat([]byte("b\n"), 200))
	if a.status != http.StatusServiceUnavailable || a.header.Get("Retry-After") != "10" || !strings.Contains(a.Hint, "readyz") {
		t.Errorf("%+v", a)
	}
	if b.sources["edge"].Stats().Rejected["full"] != 1 {
		t.Error("not counted")
	}
}

// TestHalfClosed: a sender that closes its half of the connection behind the request
// is answered as any other.
func TestHalfClosed(t *testing.T) {
	b := start(t, edge(t))
	for i := range 20 {
		c, err := new(net.Dialer).DialContext(t.Context(), "tcp", b.addr)
		if err != nil {
			t.Fatal(err)
		}
		fmt.Fprintf(c, "POST /v1/ingest/edge HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer %s\r\nContent-Length: 4\r\n\r\n%03d\n", token, i)
		if err := c.(*net.TCPConn).CloseWrite(); err != nil {
			t.Fatal(err)
		}
		text, err := io.ReadAll(c)
		if err != nil || !bytes.HasPrefix(text, []byte("HTTP/1.1 200")) || !bytes.HasSuffix(text, []byte("{\"lines\":1}\n")) {
			t.Errorf("%q %v", text, err)
		}
		_ = c.Close()
	}
	b.hosts["edge"].Await(20)
}

// TestConnections: connections beyond the bound wait, and none is lost from it.
func TestConnections(t *testing.T) {
	raw, err := new(net.ListenConfig).Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	b := startOn(t, newBounded(raw, 3), usualPace, edge(t))
	var wg sync.WaitGroup
	for i := range 30 {
		wg.Go(func() {
			if a := b.post("edge", fmt.Appendf(nil, "%d\n", i), "Connection", "close"); a.status != 200 {
				t.Errorf("%+v", a)
			}
		})
	}
	wg.Wait()
	b.hosts["edge"].Await(30)
}

// TestBusy: a body for which there is no memory is refused for the moment, and the
// memory that it had is free again.
func TestBusy(t *testing.T) {
	b := start(t, edge(t))
	b.server.memory.free.Store(2)
	body := bytes.Repeat([]byte("busy\n"), 2*pieceSize/5)
	for range 2 {
		a := b.post("edge", append(body, body...))
		if a.status != http.StatusServiceUnavailable || a.header.Get("Retry-After") != "1" {
			t.Errorf("%+v", a)
		}
	}
	if a := b.post("edge", body[:pieceSize]); a.status != 200 {
		t.Errorf("%+v", a)
	}
	if b.sources["edge"].Stats().Rejected["busy"] != 2 {
		t.Error("not counted")
	}
}

// TestRefusedIsHeard: a sender that looks for the answer only when it has sent a large
// body learns that it may send it again.
func TestRefusedIsHeard(t *testing.T) {
	cfg := edge(t)
	cfg.MaxBody = 16 << 20
	b := start(t, cfg)
	b.server.memory.free.Store(1)
	conn, err := new(net.Dialer).DialContext(t.Context(), "tcp", b.addr)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = conn.Close() }()
	fmt.Fprintf(conn, "POST /v1/ingest/edge HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer %s\r\nContent-Length: %d\r\nConnection: close\r\n\r\n", token, cfg.MaxBody)
	if _, err := conn.Write(bytes.Repeat([]byte("a line of text\n\n"), int(cfg.MaxBody)/16)); err != nil {
		t.Error(err)
	}
	text, err := io.ReadAll(conn)
	if err != nil || !bytes.HasPrefix(text, []byte("HTTP/1.1 503")) || !bytes.Contains(text, []byte("Retry-After: 1")) {
		t.Errorf("got %.60q %v", text, err)
	}
}

// TestSlow: a sender that brings nothing, or too little, is cut off and hurts nobody
// else meanwhile.
func TestSlow(t *testing.T) {
	b := startAt(t, pace{time.Second, time.Minute}, edge(t))
	var conns []net.Conn
	for range 100 {
		c, err := new(net.Dialer).DialContext(t.Context(), "tcp", b.addr)
		if err != nil {
			t.Fatal(err)
		}
		conns = append(conns, c)
		fmt.Fprintf(c, "POST /v1/ingest/edge HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer %s\r\nContent-Length: 1000000\r\n\r\nhalf", token)
	}
	for { // this one may be slow itself, on a slow machine
		a := b.post("edge", []byte("a\n"))
		if a.status == 200 {
			break
		}
		if a.status != http.StatusRequestTimeout {
			t.Fatalf("beside slow senders: %+v", a)
		}
	}
	for _, c := range conns {
		text, err := io.ReadAll(c)
		if err != nil || !bytes.HasPrefix(text, []byte("HTTP/1.1 408")) {
			t.Errorf("a slow sender got %.60q %v", text, err)
		}
		_ = c.Close()
	}
	if n := b.sources["edge"].Stats().Rejected["slow"]; n < 100 {
		t.Errorf("%d counted as slow", n)
	}
	b.stop()
	if free := b.server.memory.free.Load(); free != maxBodies/pieceSize {
		t.Errorf("%d pieces were not given back", maxBodies/pieceSize-free)
	}
}

// TestSlowStrangers: who has no token, or names no source, cannot hold a connection by
// not sending the body either.
func TestSlowStrangers(t *testing.T) {
	b := startAt(t, pace{time.Second, time.Minute}, edge(t))
	for _, c := range []struct {
		path, token, status string
	}{
		{"edge", "unknown-0123456789abcdef", "HTTP/1.1 401"},
		{"nobody", token, "HTTP/1.1 404"},
	} {
		conn, err := new(net.Dialer).DialContext(t.Context(), "tcp", b.addr)
		if err != nil {
			t.Fatal(err)
		}
		fmt.Fprintf(conn, "POST /v1/ingest/%s HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer %s\r\nContent-Length: 1000\r\n\r\nhalf", c.path, c.token)
		text, err := io.ReadAll(conn) // until the server has closed it
		if err != nil || !bytes.HasPrefix(text, []byte(c.status)) {
			t.Errorf("%s: got %.60q %v, want %s", c.path, text, err, c.status)
		}
		_ = conn.Close()
	}
}

// TestRateOfMany: batches that come at the same time share what may be taken.
func TestRateOfMany(t *testing.T) {
	q := quota{perSecond: 1 << 20}
	now := time.Now()
	for range 2 {
		if q.wait(now) != 0 {
			t.Fatal("the first must wait")
		}
	}
	taken := 0
	for range 100 { // all of them have asked before
		if q.spend(4<<20, now) == 0 {
			taken++
		}
	}
	if taken != 1 {
		t.Errorf("%d batches of four seconds were taken at once", taken)
	}
	if wait := q.wait(now); wait != 3*time.Second {
		t.Errorf("the next waits %v", wait)
	}
}

// TestThousandSenders: a thousand senders at a time, each trying until it is taken and
// some sending what was taken again, are counted exactly once in bounded memory.
func TestThousandSenders(t *testing.T) {
	cfg := edge(t)
	b := start(t, cfg)
	b.hosts["edge"].Drop = true
	b.server.memory.free.Store(100) // so little that some are told to try again
	const senders, each, lines = 1000, 1, 400
	var peak atomic.Uint64
	watch := make(chan struct{})
	var watching sync.WaitGroup
	watching.Go(func() {
		// What is held, as the collector found it last: how far garbage piles up depends
		// on how busy the machine is.
		m := []metrics.Sample{{Name: "/gc/heap/live:bytes"}}
		for {
			select {
			case <-watch:
				return
			case <-time.After(20 * time.Millisecond):
				metrics.Read(m)
				peak.Store(max(peak.Load(), m[0].Value.Uint64()))
			}
		}
	})
	var wg sync.WaitGroup
	var retries atomic.Int64
	var zipping sync.Mutex // a compressor takes a megabyte
	for i := range senders {
		wg.Go(func() {
			for j := range each {
				var text strings.Builder
				for k := range lines {
					fmt.Fprintf(&text, "sender %d batch %d line %d of some length, to make it a body worth bounding\n", i, j, k)
				}
				body, header := []byte(text.String()), "identity"
				if i%2 == 0 {
					zipping.Lock()
					body, header = zip(text.String()), "gzip"
					zipping.Unlock()
				}
				for try := 0; ; try++ {
					a := b.post("edge", body, "Content-Encoding", header)
					switch a.status {
					case http.StatusServiceUnavailable:
						if a.header.Get("Retry-After") == "" {
							t.Error("503 without Retry-After")
						}
						fallthrough
					case 0, http.StatusRequestTimeout: // this machine is slow
						retries.Add(1)
						time.Sleep(time.Duration(rand.IntN(200*(try+1))) * time.Millisecond)
						continue
					}
					if a.status != 200 || a.Lines != lines {
						t.Errorf("%+v", a)
						return
					}
					if i%10 != 0 || a.Duplicate {
						break
					}
				}
			}
		})
	}
	wg.Wait()
	close(watch)
	watching.Wait()
	h := b.hosts["edge"]
	h.Await(senders * each * lines)
	st := b.sources["edge"].Stats()
	b.stop()
	if n, skipped := h.Count(); n != senders*each*lines || skipped != 0 {
		t.Errorf("%d lines, want %d", n, senders*each*lines)
	}
	if st.Batches != senders*each || st.Spool.Known < senders/10*each {
		t.Errorf("%d batches, %d known", st.Batches, st.Spool.Known)
	}
	t.Logf("%d retries after 503, %d batches in %d syncs, heap at most %d MiB", retries.Load(), st.Batches, st.Spool.Syncs, peak.Load()>>20)
	if st.Spool.Syncs > st.Batches {
		t.Error("more syncs than batches")
	}
	if !raceOn && peak.Load() > 160<<20 { // with that of the senders
		t.Errorf("the heap grew to %d MiB", peak.Load()>>20)
	}
}

// TestBombs: many bombs at a time cost no more memory than one.
func TestBombs(t *testing.T) {
	cfg := edge(t)
	cfg.MaxBatch = 16 << 20
	b := start(t, cfg)
	gz, zs := zip(strings.Repeat("\x00", 30<<20)), zst(strings.Repeat("\x00", 30<<20))
	t.Logf("30 MiB in %d and %d bytes", len(gz), len(zs))
	var before, after runtime.MemStats
	runtime.GC()
	runtime.ReadMemStats(&before)
	var wg sync.WaitGroup
	for i := range 16 {
		wg.Go(func() {
			body, enc := gz, "gzip"
			if i%2 == 0 {
				body, enc = zs, "zstd"
			}
			if a := b.post("edge", body, "Content-Encoding", enc); a.status != http.StatusRequestEntityTooLarge {
				t.Errorf("%+v", a)
			}
		})
	}
	wg.Wait()
	runtime.ReadMemStats(&after)
	if grown := int64(after.TotalAlloc - before.TotalAlloc); !raceOn && grown > 64<<20 {
		t.Errorf("16 bombs allocated %d MiB", grown>>20)
	}
}

// TestReasons: every reason has its own word and an answer.
func TestReasons(t *testing.T) {
	var words []string
	for r := range reasons {
		word, status, msg, hint := r.texts()
		if status < 400 || status == http.StatusInternalServerError || msg == "" || hint == "" {
			t.Errorf("%s: %d %q %q", word, status, msg, hint)
		}
		words = append(words, word)
	}
	slices.Sort(words)
	if len(slices.Compact(words)) != int(reasons) {
		t.Errorf("words twice: %v", words)
	}
}

// FuzzExamine: whatever a body holds and however it says it is compressed, looking at
// it does not fail, and what it is counted as is what is delivered.
func FuzzExamine(f *testing.F) {
	f.Add([]byte("a\nb"), "", uint8(1))
	f.Add(zip("a\n", "b\n"), "gzip", uint8(5))
	f.Add(zst("a\n\n"), "zstd", uint8(200))
	f.Add([]byte("[{}]"), "identity", uint8(0))
	dir := f.TempDir()
	sp, err := spool.Open(dir, spool.Options{MaxBytes: 1 << 40, MaxLine: 1 << 20}, slog.New(slog.DiscardHandler))
	if err != nil {
		f.Fatal(err)
	}
	f.Cleanup(func() { _ = sp.Close() })
	e := newExaminer(1)
	h := ingesttest.New(f)
	h.Drop = true
	f.Fuzz(func(t *testing.T, data []byte, header string, cut uint8) {
		parts := [][]byte{data[:min(int(cut), len(data))], data[min(int(cut), len(data)):]}
		enc, err := encodingOf(header, parts)
		if err != nil {
			return
		}
		c, err := e.examine(enc, parts, "", 1<<20)
		if c.bytes > 1<<20+64<<10 {
			t.Fatalf("%d bytes were decompressed", c.bytes)
		}
		if err != nil {
			return
		}
		_, _ = c.isArray(), c.isCheck()
		if _, err := sp.Append(t.Context(), &spool.Batch{Encoding: enc, Body: parts}); err != nil {
			t.Fatal(err)
		}
		before, _ := h.Count()
		ctx, stop := context.WithCancel(t.Context())
		defer stop()
		if err := sp.Follow(ctx, h, "edge", func() error { stop(); return spool.ErrMore }); err != nil {
			t.Fatal(err)
		}
		if after, _ := h.Count(); int64(after-before) != c.lines {
			t.Fatalf("%d lines were counted, %d delivered", c.lines, after-before)
		}
	})
}

// BenchmarkPush is all that a batch costs but its way through the network: reading,
// decompressing twice, hashing, the disk, and cutting lines.
func BenchmarkPush(b *testing.B) {
	var text strings.Builder
	for i := range 50_000 {
		fmt.Fprintf(&text, "192.0.2.%d - - [24/Nov/2026:12:00:00 +0000] \"GET /area/%d?b=%x HTTP/1.1\" 200 512 \"https://shop.example.com/start\" \"Mozilla/5.0 (X11; Linux x86_64)\"\n", i%250, i%7, rand.Uint64())
	}
	for _, c := range []struct {
		enc  string
		body []byte
	}{{"identity", []byte(text.String())}, {"gzip", zip(text.String())}, {"zstd", zst(text.String())}} {
		b.Run(c.enc, func(b *testing.B) {
			cfg := edge(b)
			cfg.MaxBody = 64 << 20
			s := start(b, cfg)
			s.hosts["edge"].Drop = true
			b.SetBytes(int64(text.Len()))
			b.ReportAllocs()
			n := 0
			for b.Loop() {
				a := s.post("edge", c.body, "Content-Encoding", c.enc, "Idempotency-Key", fmt.Sprint(n))
				if a.status != 200 {
					b.Fatalf("%+v", a)
				}
				n++
			}
			s.hosts["edge"].Await(n * 50_000)
		})
	}
}
