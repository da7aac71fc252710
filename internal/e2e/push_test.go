package e2e

import (
	"bytes"
	"compress/gzip"
	"encoding/json"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/denywatch/denywatch/internal/servertest"
)

// pushMB is how much TestPushKilled pushes, decompressed; DENYWATCH_PUSH_MB in the
// environment makes it more.
func pushMB(t *testing.T) int {
	text := os.Getenv("DENYWATCH_PUSH_MB")
	if text == "" {
		return 40
	}
	mb, err := strconv.Atoi(text)
	if err != nil {
		t.Fatal("DENYWATCH_PUSH_MB is no number")
	}
	return mb
}

// pusher sends batches to a daemon that comes and goes.
type pusher struct {
	url          string
	client       *http.Client
	sent, failed atomic.Int64
}

// send sends a batch until it is taken.
func (p *pusher) send(t *testing.T, body []byte, pause func() time.Duration) (duplicate bool) {
	for {
		req, err := http.NewRequestWithContext(t.Context(), http.MethodPost, p.url, bytes.NewReader(body))
		if err != nil {
			t.Error(err)
			return false
		}
		req.Header.Set("Authorization", "Bearer "+pushToken)
		req.Header.Set("Content-Encoding", "gzip")
		res, err := p.client.Do(req)
		if err == nil {
			text, readErr := io.ReadAll(res.Body)
			_ = res.Body.Close()
			var a struct{ Duplicate bool }
			switch {
			case readErr != nil: // killed in the middle of the answer
			case res.StatusCode == http.StatusOK && json.Unmarshal(text, &a) == nil:
				p.sent.Add(1)
				return a.Duplicate
			case res.StatusCode != http.StatusServiceUnavailable && res.StatusCode != http.StatusRequestTimeout:
				t.Errorf("%d: %s", res.StatusCode, text)
				return false
			}
		}
		p.failed.Add(1)
		select {
		case <-time.After(pause()):
		case <-t.Context().Done():
			return false
		}
	}
}

const pushToken = "0123456789abcdef-e2e"

// batchLines is how many lines a batch has.
const batchLines = 4000

// pushBatch makes batch n: lines of the second n after began, no two of them alike.
func pushBatch(began time.Time, n int) []byte {
	var b bytes.Buffer
	z, _ := gzip.NewWriterLevel(&b, gzip.BestSpeed) // the level is valid
	rnd := rand.New(rand.NewPCG(uint64(n), 4))
	at := began.Add(time.Duration(n) * time.Second / 10).UTC().Format("02/Jan/2006:15:04:05 -0700")
	for i := range batchLines {
		status := 200
		if i%50 == 0 {
			status = 403
		}
		fmt.Fprintf(z, "192.0.2.%d - - [%s] \"GET /area/%d?b=%d.%d.%x HTTP/1.1\" %d 512 \"https://shop.example.com/start\" \"Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 Chrome/140.0.0.0 Safari/537.36\"\n", rnd.IntN(250), at, i%7, n, i, rnd.Uint64(), status)
	}
	_ = z.Close() // into memory
	return b.Bytes()
}

// TestPushKilled kills the daemon with SIGKILL again and again while four senders push
// gzip batches, each until it is taken: every line counts exactly once, and so it stays
// when all of it is sent once more.
func TestPushKilled(t *testing.T) {
	long(t)
	crashing, err := bin.crash()
	if err != nil {
		t.Fatal(err)
	}
	seed := uint64(time.Now().UnixNano())
	t.Logf("seed %d", seed)
	rnd := rand.New(rand.NewPCG(seed, 1))
	dir, port := t.TempDir(), servertest.FreePort(t)
	conf := write(t, filepath.Join(dir, "denywatch.yaml"), fmt.Sprintf(`
service: shop
state: %s/state
listen: 127.0.0.1:0
push: { listen: "127.0.0.1:%d" }
sources:
  - name: web
    format: combined
    lateness: 5m
    push: { tokens: [{ name: e2e, token: %s }] }
`, dir, port, pushToken))
	p := &pusher{url: fmt.Sprintf("http://127.0.0.1:%d/v1/ingest/web", port), client: &http.Client{Timeout: time.Minute}}
	defer p.client.CloseIdleConnections()
	began := time.Now().Add(-2 * time.Hour).Truncate(time.Second)
	batches := max(pushMB(t)*1_000_000/(batchLines*200), 8)
	var size int64

	// Every kill waits until something more was taken, so there are as many as fit.
	var next atomic.Int64
	var sending sync.WaitGroup
	done := make(chan struct{})
	var bytesSent atomic.Int64
	for range 4 {
		sending.Go(func() {
			for n := int(next.Add(1)) - 1; n < batches; n = int(next.Add(1)) - 1 {
				body := pushBatch(began, n)
				bytesSent.Add(int64(len(body)))
				p.send(t, body, func() time.Duration { return 20 * time.Millisecond })
			}
		})
	}
	go func() { sending.Wait(); close(done) }()
	kills, atPoint := 0, 0
	for over := false; !over; kills++ {
		var env []string
		if kills%3 > 0 {
			env = []string{fmt.Sprintf("DENYWATCH_CRASH_AT=spool.%s:%d", []string{"written", "synced"}[kills%2], 1+rnd.IntN(3))}
		}
		before := p.sent.Load()
		d := launch(t, crashing, conf, env...)
		servertest.Await(t, "a batch to be taken, or the end of the process", func() (bool, string) {
			select {
			case <-done:
				over = true
			default:
			}
			return over || d.Ended() || p.sent.Load() > before, d.Stderr.Tail()
		})
		life := time.After(time.Duration(rnd.IntN(400)) * time.Millisecond)
		select {
		case <-life:
		case <-done:
			over = true
		case <-d.Done():
			if d.Code() != -1 {
				t.Fatalf("denywatch ended with code %d:\n%s", d.Code(), d.Stderr.Tail())
			}
			atPoint++
		}
		d.Kill()
	}
	size = int64(batches) * batchLines
	t.Logf("%d batches (%d MB in gzip, %d lines), %d kills, %d of them between write, sync and answer; %d tries failed; %v",
		batches, bytesSent.Load()>>20, size, kills, atPoint, p.failed.Load(), time.Since(began.Add(2*time.Hour)).Round(time.Second))
	if t.Failed() {
		return
	}

	check := func(d *daemon, what string) {
		t.Helper()
		want := fmt.Sprint(size)
		d.Await(t, "all lines to be counted "+what, func() (bool, string) {
			n := d.metric(t, `denywatch_lines_total{source="web"}`)
			return n == want && d.metric(t, `denywatch_spool_unread_bytes{source="web"}`) == "0", n + " of " + want
		})
		var v struct {
			Routes []struct {
				Route, Status string
				Count         int64
			} `json:"routes"`
		}
		if err := d.ask("/v1/routes", &v); err != nil {
			t.Fatal(err)
		}
		counts := map[string]int64{}
		for _, r := range v.Routes {
			counts[r.Status] += r.Count
		}
		if counts["403"] != size/50 || counts["2xx"] != size-size/50 {
			t.Errorf("%s: counted %v of %d lines", what, counts, size)
		}
	}
	d := serve(t, crashing, conf)
	check(d, "after the last kill")
	var again sync.WaitGroup
	for w := range 4 {
		again.Go(func() {
			for n := w; n < batches; n += 4 {
				if !p.send(t, pushBatch(began, n), func() time.Duration { return 20 * time.Millisecond }) {
					t.Errorf("batch %d is new", n)
				}
			}
		})
	}
	again.Wait()
	check(d, "after all was sent again")
	kb := d.rss(t)
	t.Logf("memory: %d MB", kb>>10)
	if kb > 400<<10 {
		t.Errorf("the process has %d MB", kb>>10)
	}
	if strings.Contains(d.Stderr.String(), "damaged") {
		t.Error(d.Stderr.Tail())
	}
	d.stop(t)
	d = serve(t, crashing, conf)
	check(d, "after a restart")
	d.stop(t)
}
