package app

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/denywatch/denywatch/configs"
	"github.com/denywatch/denywatch/internal/marker"
	"github.com/denywatch/denywatch/internal/servertest"
)

// safeBuffer is a log that a running daemon writes to.
type safeBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (s *safeBuffer) Write(p []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.b.Write(p)
}

func (s *safeBuffer) String() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.b.String()
}

// TestMarkersFromKafka: markers in a topic are taken once each over restarts, those
// of the last day at the first start; what is no marker is counted, and its text is
// told nowhere.
func TestMarkersFromKafka(t *testing.T) {
	cluster, err := kfake.NewCluster(kfake.NumBrokers(1), kfake.SeedTopics(1, "releases"))
	if err != nil {
		t.Fatal(err)
	}
	defer cluster.Close()
	producer, err := kgo.NewClient(kgo.SeedBrokers(cluster.ListenAddrs()...))
	if err != nil {
		t.Fatal(err)
	}
	defer producer.Close()
	now := time.Now().Truncate(time.Second)
	say := func(ago time.Duration, value string) {
		r := &kgo.Record{Topic: "releases", Value: []byte(value), Timestamp: now.Add(-ago)}
		if err := producer.ProduceSync(t.Context(), r).FirstErr(); err != nil {
			t.Fatal(err)
		}
	}
	dir := t.TempDir()
	cfg, _, err := configs.Parse(fmt.Appendf(nil, `
state: %s
sources: [{ files: %s, format: combined }]
markers:
  kafka: { brokers: [%q], topics: [releases, missing] }
`, dir, filepath.Join(dir, "access.log"), cluster.ListenAddrs()[0]), "denywatch.yaml", nil)
	if err != nil {
		t.Fatal(err)
	}
	// day runs the daemon until it has counted results.
	day := func(results map[string]int) (log string, list []marker.Marker) {
		ln := servertest.Listen(t)
		out := &safeBuffer{}
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan error, 1)
		go func() {
			done <- Run(ctx, cfg, Options{Stdout: io.Discard, Log: slog.New(slog.NewTextHandler(out, nil)), Listener: ln}, nil, nil)
		}()
		url := "http://" + ln.Addr().String()
		for {
			page, missing := get(t, url+"/metrics"), ""
			for result, n := range results {
				if w := fmt.Sprintf("denywatch_markers_kafka_total{result=%q} %d\n", result, n); !strings.Contains(page, w) {
					missing = w
				}
			}
			if missing == "" && strings.Contains(get(t, url+"/readyz"), "markers: missing: the topic does not exist: create it") {
				break
			}
			select {
			case err := <-done:
				t.Fatalf("the daemon ended: %v", err)
			case <-time.After(20 * time.Millisecond):
			}
		}
		var body struct {
			Markers []marker.Marker `json:"markers"`
		}
		if err := json.Unmarshal([]byte(get(t, url+"/v1/markers")), &body); err != nil {
			t.Fatal(err)
		}
		cancel()
		if err := <-done; err != nil {
			t.Fatal(err)
		}
		slices.SortFunc(body.Markers, func(a, b marker.Marker) int { return strings.Compare(a.ID, b.ID) })
		return out.String(), body.Markers
	}
	check := func(got []marker.Marker, want ...string) {
		t.Helper()
		var list []string
		for _, m := range got {
			list = append(list, fmt.Sprintf("%s %s %v", m.ID, m.Kind, now.Sub(m.Time)))
		}
		if !slices.Equal(list, want) {
			t.Errorf("markers\n%s\nwant\n%s", strings.Join(list, "\n"), strings.Join(want, "\n"))
		}
	}
	say(48*time.Hour, `{"id":"old"}`)
	say(3*time.Hour, `{"kind":"release","service":"shop","version":"v1"}`)
	say(3*time.Hour, `{"kind":"release","service":"shop","version":"v1"}`) // sent twice
	say(2*time.Hour, `{"id":"a","kind":"flag",
		"time":"`+now.Add(-time.Hour).UTC().Format(time.RFC3339)+`"}`)
	say(2*time.Hour, `{"id":"a","kind":"pricing"}`)
	say(2*time.Hour, `{"id":"hush-id","vresion":"hush-version"}`)
	say(2*time.Hour, `hush`)
	say(time.Hour, `{"kind":"release","service":"shop","version":"v1"}`) // rolled back to it
	log, got := day(map[string]int{"new": 3, "known": 1, "bad": 2, "conflict": 1})
	back := "shop-v1-" + now.Add(-time.Hour).UTC().Format("20060102T150405Z")
	first := []string{"a flag 1h0m0s", "shop-v1 release 3h0m0s", back + " release 1h0m0s"}
	check(got, first...)
	if strings.Contains(log, "hush") || !strings.Contains(log, "a message is no marker") || !strings.Contains(log, "offset=5") {
		t.Errorf("log:\n%s", log)
	}
	if at := cluster.GroupInfo(configs.MarkersGroup).Commits["releases"][0].Offset; at != 8 {
		t.Errorf("committed %d of 8", at)
	}
	say(time.Minute, `{"id":"b","kind":"config"}`)
	_, got = day(map[string]int{"new": 1})
	check(got, append([]string{first[0], "b config 1m0s"}, first[1:]...)...)
}
