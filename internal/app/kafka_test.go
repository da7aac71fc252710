package app

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/denywatch/denywatch/configs"
	"github.com/denywatch/denywatch/internal/servertest"
)

// get returns the body of a page of the daemon.
func get(t *testing.T, url string) string {
	t.Helper()
	client := &http.Client{Timeout: 10 * time.Second}
	req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, url, http.NoBody)
	if err != nil {
		t.Fatal(err)
	}
	res, err := client.Do(req)
	if err != nil {
		return ""
	}
	defer func() { _ = res.Body.Close() }()
	b, err := io.ReadAll(res.Body)
	if err != nil {
		return ""
	}
	return string(b)
}

// TestReadsKafka: the daemon counts the lines in shippers' envelopes once each over
// a restart, commits behind its cut, shows the partitions, and tells of a topic that
// is missing.
func TestReadsKafka(t *testing.T) {
	cluster, err := kfake.NewCluster(kfake.NumBrokers(1), kfake.SeedTopics(2, "shop.web"))
	if err != nil {
		t.Fatal(err)
	}
	defer cluster.Close()
	producer, err := kgo.NewClient(kgo.SeedBrokers(cluster.ListenAddrs()...), kgo.RecordPartitioner(kgo.ManualPartitioner()))
	if err != nil {
		t.Fatal(err)
	}
	defer producer.Close()
	at := time.Now().Add(-time.Hour)
	produce := func(n int) {
		var rs []*kgo.Record
		for i := range n {
			at = at.Add(100 * time.Millisecond)
			line := fmt.Sprintf(`192.0.2.%d - - [%s] "GET /a HTTP/1.1" 200 1 "-" "-"`, i%200, at.UTC().Format("02/Jan/2006:15:04:05 -0700"))
			value := fmt.Sprintf(`{"@timestamp":%q,"message":%q,"log":{"file":{"path":"/var/log/nginx/access.log"}}}`, at.UTC().Format(time.RFC3339), line)
			rs = append(rs, &kgo.Record{Topic: "shop.web", Partition: int32(i % 2), Value: []byte(value)})
		}
		if err := producer.ProduceSync(t.Context(), rs...).FirstErr(); err != nil {
			t.Fatal(err)
		}
	}
	cfg, _, err := configs.Parse(fmt.Appendf(nil, `
state: %s
sources:
  - name: web
    format: combined
    wrapper: shipper
    kafka: { brokers: [%q], topics: [shop.web, missing] }
`, t.TempDir(), cluster.ListenAddrs()[0]), "denywatch.yaml", nil)
	if err != nil {
		t.Fatal(err)
	}
	// day runs the daemon until it has read n messages and, together with the days
	// before, counted and committed all.
	day := func(n, all int) {
		ln := servertest.Listen(t)
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan error, 1)
		go func() {
			done <- Run(ctx, cfg, Options{Stdout: io.Discard, Log: slog.New(slog.DiscardHandler), Listener: ln}, nil, nil)
		}()
		want := []string{`denywatch_lines_total{source="web"} ` + fmt.Sprint(all)}
		for p := range 2 {
			labels := fmt.Sprintf(`{source="web",topic="shop.web",partition="%d"} `, p)
			want = append(want, "denywatch_kafka_messages_total"+labels+fmt.Sprint(n/2), "denywatch_kafka_lag_messages"+labels+"0")
		}
		url := "http://" + ln.Addr().String()
		for {
			page := get(t, url+"/metrics")
			missing := ""
			for _, w := range want {
				if !strings.Contains(page, w+"\n") {
					missing = w
				}
			}
			if missing == "" && strings.Contains(get(t, url+"/readyz"), "source web: missing: the topic does not exist: create it") {
				break
			}
			select {
			case err := <-done:
				t.Fatalf("the daemon ended: %v", err)
			case <-time.After(20 * time.Millisecond):
			}
		}
		cancel()
		if err := <-done; err != nil {
			t.Fatal(err)
		}
		for p := range int32(2) {
			if got := cluster.GroupInfo("denywatch").Commits["shop.web"][p].Offset; got != int64(all/2) {
				t.Errorf("partition %d: committed %d of %d", p, got, all/2)
			}
		}
	}
	produce(1000)
	day(1000, 1000)
	produce(500)
	day(500, 1500)
}
