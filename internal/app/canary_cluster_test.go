package app

import (
	"bytes"
	"context"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/denywatch/denywatch/configs"
	"github.com/denywatch/denywatch/internal/servertest"
)

// TestCanariesInCluster: nothing that was logged is in the records that members of a
// cluster share, nor in the state and the log of one.
func TestCanariesInCluster(t *testing.T) {
	kc, err := kfake.NewCluster(kfake.NumBrokers(1), kfake.SeedTopics(1, "logs"))
	if err != nil {
		t.Fatal(err)
	}
	defer kc.Close()
	client, err := kgo.NewClient(kgo.SeedBrokers(kc.ListenAddrs()...))
	if err != nil {
		t.Fatal(err)
	}
	defer client.Close()
	app, _, _ := canaryLogs(time.Now())
	var rs []*kgo.Record
	for line := range bytes.Lines(app) {
		rs = append(rs, &kgo.Record{Topic: "logs", Key: []byte("cnry.key@example.com"), Value: line})
	}
	if err := client.ProduceSync(t.Context(), rs...).FirstErr(); err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	cfg, _, err := configs.Parse(fmt.Appendf(nil, `
state: %s
identity_key: cnrysecret-cnrysecret-cnrysecret
cluster: { brokers: [%[2]q], session: 2s, name: a }
sources:
  - { name: app, service: shop, vantage: app, format: json, kafka: { brokers: [%[2]q], topics: logs } }
`, dir, kc.ListenAddrs()[0]), "denywatch.yaml", nil)
	if err != nil {
		t.Fatal(err)
	}
	ln := servertest.Listen(t)
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	done := make(chan error, 1)
	log, console := &safeBuffer{}, &safeBuffer{}
	go func() {
		done <- Run(ctx, cfg, Options{Stdout: console, Log: slog.New(slog.NewTextHandler(log, &slog.HandlerOptions{Level: slog.LevelDebug})), Listener: ln}, nil, nil)
	}()
	for !strings.Contains(console.String(), "/invoices") {
		select {
		case err := <-done:
			t.Fatalf("the member ended: %v\n%s", err, log.String())
		case <-time.After(20 * time.Millisecond):
		}
	}
	cancel()
	if err := <-done; err != nil {
		t.Fatal(err)
	}
	outputs := map[string]string{"the log": log.String(), "the console": console.String(), "the state topic": topicText(t, kc.ListenAddrs()[0], cfg.Cluster.Topic)}
	if err := filepath.WalkDir(dir, func(path string, e fs.DirEntry, err error) error {
		if err != nil || e.IsDir() {
			return err
		}
		text, err := os.ReadFile(path)
		outputs[e.Name()] = string(text)
		return err
	}); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"the state topic", "denywatch.db"} {
		if !strings.Contains(outputs[name], "/invoices") {
			t.Errorf("%s does not tell of the incident", name)
		}
	}
	searchCanaries(t, outputs)
}

// topicText is all that a topic of one partition holds.
func topicText(t *testing.T, broker, topic string) string {
	t.Helper()
	client, err := kgo.NewClient(kgo.SeedBrokers(broker), kgo.ConsumeTopics(topic), kgo.ConsumeResetOffset(kgo.NewOffset().AtStart()))
	if err != nil {
		t.Fatal(err)
	}
	defer client.Close()
	var text strings.Builder
	for more := true; more; {
		fetches := client.PollFetches(t.Context())
		if err := fetches.Err(); err != nil {
			t.Fatal(err)
		}
		fetches.EachPartition(func(p kgo.FetchTopicPartition) {
			for _, r := range p.Records {
				text.Write(r.Key)
				text.Write(r.Value)
				more = r.Offset+1 < p.HighWatermark
			}
		})
	}
	return text.String()
}
