package kafka

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kgo"
)

// readLog reads a log from an offset to its end.
func readLog(t *testing.T, l *Log, from int64) (out []Record) {
	t.Helper()
	for {
		p, err := l.Read(t.Context(), from, time.Millisecond)
		if err != nil {
			t.Fatal(err)
		}
		out = append(out, p.Records...)
		if from = p.Next; from >= p.End {
			return out
		}
	}
}

// TestLog: what was written comes back in order, from any offset, and the topic is
// made as a compacted one.
func TestLog(t *testing.T) {
	c, err := kfake.NewCluster(kfake.NumBrokers(3))
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	cfg := Config{Brokers: c.ListenAddrs()}
	l := NewLog(cfg, "state")
	defer l.Close()
	for range 2 { // the second time it is there
		if err := l.Ensure(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	info := c.TopicInfo("state")
	if info == nil || *info.Configs["cleanup.policy"] != "compact" || *info.Configs["min.insync.replicas"] != "2" {
		t.Fatalf("the topic is %+v", info)
	}
	want := ""
	big := strings.Repeat("x", 600<<10)
	for i := range 20 {
		rs := []Record{{Key: fmt.Appendf(nil, "k%d", i), Value: []byte(big[:i*30<<10])}, {Key: []byte("gone")}}
		if err := l.Append(t.Context(), rs...); err != nil {
			t.Fatal(err)
		}
		want += fmt.Sprintf("k%d=%d gone=nil ", i, i*30<<10)
	}
	got := ""
	for i, r := range readLog(t, l, 0) {
		if r.Offset != int64(i) {
			t.Fatalf("record %d has offset %d", i, r.Offset)
		}
		if r.Value == nil {
			got += string(r.Key) + "=nil "
			continue
		}
		got += fmt.Sprintf("%s=%d ", r.Key, len(r.Value))
	}
	if got != want {
		t.Errorf("got %s, want %s", got, want)
	}
	if rs := readLog(t, l, 37); len(rs) != 3 || rs[0].Offset != 37 {
		t.Errorf("from the middle of a batch: %d records", len(rs))
	}
	if _, err := l.Read(t.Context(), 99, time.Millisecond); !errors.Is(err, ErrOutOfRange) {
		t.Errorf("behind the end: %v", err)
	}
	if first, end, err := l.Bounds(t.Context()); first != 0 || end != 40 || err != nil {
		t.Errorf("bounds %d, %d, %v", first, end, err)
	}
	start := time.Now()
	if p, err := l.Read(t.Context(), 40, 30*time.Millisecond); err != nil || len(p.Records) > 0 || time.Since(start) < 20*time.Millisecond {
		t.Errorf("at the end: %v, %v after %v", p, err, time.Since(start))
	}
	// Connections that broke are made anew by the next call.
	l.read.close()
	l.write.close()
	if _, err := l.Read(t.Context(), 0, 0); err == nil {
		t.Error("a closed connection was read")
	}
	if err := l.Append(t.Context(), Record{Key: []byte("a")}); err == nil {
		t.Error("a closed connection was written to")
	}
	if err := l.Append(t.Context(), Record{Key: []byte("a")}); err != nil || len(readLog(t, l, 40)) != 1 {
		t.Errorf("after a broken connection: %v", err)
	}
}

// TestLogRefuses: topics that would lose the state are told, and how to mend them.
func TestLogRefuses(t *testing.T) {
	c := newCluster1(t, kfake.SeedTopics(2, "two"), kfake.SeedTopics(1, "expires"))
	for topic, want := range map[string]string{"two": "must have one", "expires": "set it to compact"} {
		l := NewLog(Config{Brokers: c.ListenAddrs()}, topic)
		defer l.Close()
		if err := l.Ensure(t.Context()); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v", topic, err)
		}
	}
	l := NewLog(Config{Brokers: c.ListenAddrs()}, "none")
	defer l.Close()
	if err := l.Append(t.Context(), Record{Key: []byte("a")}); err == nil || !strings.Contains(err.Error(), "does not exist") {
		t.Errorf("%v", err)
	}
}

// TestLogCompacted: what compaction left is read, and the holes are passed.
func TestLogCompacted(t *testing.T) {
	c := newCluster1(t, kfake.SeedTopics(1, "logs"))
	cl := client(t, c, kgo.TransactionalID("tx"))
	if err := cl.BeginTransaction(); err != nil {
		t.Fatal(err)
	}
	if err := cl.ProduceSync(context.Background(), &kgo.Record{Topic: "logs", Key: []byte("a"), Value: []byte("1")}).FirstErr(); err != nil {
		t.Fatal(err)
	}
	if err := cl.EndTransaction(context.Background(), kgo.TryCommit); err != nil {
		t.Fatal(err)
	}
	l := NewLog(Config{Brokers: c.ListenAddrs()}, "logs")
	defer l.Close()
	if rs := readLog(t, l, 0); len(rs) != 1 { // and a mark that is none of ours
		t.Errorf("%d records", len(rs))
	}
}
