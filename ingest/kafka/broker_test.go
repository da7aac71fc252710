package kafka

import (
	"context"
	"encoding/pem"
	"fmt"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/denywatch/denywatch/internal/servertest"
)

// realBroker returns the brokers of a cluster that is not ours, named by
// KAFKA_BROKERS (host:port, with commas), and a client of them.
func realBroker(t *testing.T) ([]string, *kgo.Client) {
	t.Helper()
	addrs := os.Getenv("KAFKA_BROKERS")
	if addrs == "" {
		servertest.Lack(t, "set KAFKA_BROKERS=host:port, or start a broker with .ci/kafka/run")
	}
	brokers := strings.Split(addrs, ",")
	cl, err := kgo.NewClient(kgo.SeedBrokers(brokers...), kgo.RecordPartitioner(kgo.ManualPartitioner()))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(cl.Close)
	session := quick.session
	quick.session = 10 * time.Second // brokers take no less than 6 s unless told so
	t.Cleanup(func() { quick.session = session })
	return brokers, cl
}

// realTopic makes a topic of the test's own, which is deleted afterwards.
func realTopic(t *testing.T, cl *kgo.Client, partitions int32) string {
	t.Helper()
	topic := fmt.Sprintf("denywatch-test-%d", time.Now().UnixNano())
	create := kmsg.NewPtrCreateTopicsRequest()
	ct := kmsg.NewCreateTopicsRequestTopic()
	ct.Topic, ct.NumPartitions, ct.ReplicationFactor = topic, partitions, 1
	create.Topics, create.TimeoutMillis = append(create.Topics, ct), 10_000
	if res, err := create.RequestWith(t.Context(), cl); err != nil || res.Topics[0].ErrorCode != 0 {
		t.Fatal(err, res)
	}
	t.Cleanup(func() {
		del := kmsg.NewPtrDeleteTopicsRequest()
		dt := kmsg.NewDeleteTopicsRequestTopic()
		dt.Topic = &topic
		del.TopicNames, del.Topics, del.TimeoutMillis = []string{topic}, append(del.Topics, dt), 10_000
		_, _ = del.RequestWith(context.Background(), cl)
	})
	return topic
}

// TestRealBroker: members that come and go read everything once.
func TestRealBroker(t *testing.T) {
	brokers, cl := realBroker(t)
	topic := realTopic(t, cl, 6)
	want := produce(t, cl, topic, 6, 0, 10_000)
	s := newStore(t)
	cfg := Config{Brokers: brokers, Topics: []string{topic}, Group: topic}
	_, stop := run(t, s, cfg)
	s.waitLines(len(want))
	_, more := run(t, s, cfg) // a second member
	want = append(want, produce(t, cl, topic, 6, 10_000, 10_000)...)
	s.waitLines(len(want))
	stop()
	want = append(want, produce(t, cl, topic, 6, 20_000, 10_000)...)
	s.waitLines(len(want))
	more()
	s.exactly(want)
}

// TestRealBrokerExactly: what a real broker makes of transactions, of a transaction
// that was left open, and of messages that were deleted before they were read.
func TestRealBrokerExactly(t *testing.T) {
	brokers, cl := realBroker(t)
	topic := realTopic(t, cl, 1)
	tx := func() *kgo.Client {
		c, err := kgo.NewClient(kgo.SeedBrokers(brokers...), kgo.RecordPartitioner(kgo.ManualPartitioner()), kgo.TransactionalID(topic))
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(c.Close)
		return c
	}
	var want []string
	n := 0
	write := func(c *kgo.Client, end kgo.TransactionEndTry) {
		if err := c.BeginTransaction(); err != nil {
			t.Fatal(err)
		}
		lines := produce(t, c, topic, 1, n, 10)
		n += 10
		if end == kgo.TryCommit {
			want = append(want, lines...)
		}
		if err := c.EndTransaction(context.Background(), end); err != nil {
			t.Fatal(err)
		}
	}
	first := tx()
	write(first, kgo.TryCommit)
	write(first, kgo.TryAbort)
	s := newStore(t)
	cfg := Config{Brokers: brokers, Topics: []string{topic}, Group: topic}
	stream := "kafka:" + topic + "/0"
	_, stop := run(t, s, cfg)
	s.wait("caught up", func() bool { return s.caught[stream] == len(want) })
	// The producer dies in a transaction; the next one with its name aborts it.
	if err := first.BeginTransaction(); err != nil {
		t.Fatal(err)
	}
	produce(t, first, topic, 1, 1000, 10)
	behind := produce(t, cl, topic, 1, n, 10)
	n += 10
	s.wait("the open transaction", func() bool { return strings.Contains(s.unknown[stream], "a transaction that is still open holds 20") })
	want = append(want, behind...)
	write(tx(), kgo.TryCommit)
	s.waitLines(len(want))
	stop()
	s.exactly(slices.Clone(want))

	// Deleted behind the position: counted and gap are what was produced.
	deleted := produce(t, cl, topic, 1, n, 100)
	rest := produce(t, cl, topic, 1, n+100, 100)
	at := s.positions[stream].Offset + 100
	del := kmsg.NewPtrDeleteRecordsRequest()
	dt := kmsg.NewDeleteRecordsRequestTopic()
	dp := kmsg.NewDeleteRecordsRequestTopicPartition()
	dp.Offset = at
	dt.Topic, dt.Partitions = topic, append(dt.Partitions, dp)
	del.Topics, del.TimeoutMillis = append(del.Topics, dt), 10_000
	if res, err := del.RequestWith(t.Context(), cl); err != nil || res.Topics[0].Partitions[0].ErrorCode != 0 {
		t.Fatal(err, res)
	}
	src, stop := run(t, s, cfg)
	s.waitLines(len(want) + len(rest))
	stop()
	s.exactly(append(want, rest...))
	if p := src.Partitions()[0]; p.Gaps != 1 || p.Missed != uint64(len(deleted)) {
		t.Errorf("%+v", p)
	}
}

// TestKcat: what another client library writes, with keys, headers and each codec,
// is read as it was written.
func TestKcat(t *testing.T) {
	brokers, cl := realBroker(t)
	kcat := servertest.Need(t, "kcat")
	topic := realTopic(t, cl, 3)
	var want, fields []string
	for i, codec := range []string{"none", "gzip", "snappy", "lz4", "zstd"} {
		var in strings.Builder
		for j := range 1000 {
			line := fmt.Sprintf(`%08d {"codec":%q,"text":"\u00e4 %s"}`, 1000*i+j, codec, strings.Repeat("x", j%200))
			want = append(want, line)
			fields = append(fields, line+" account=acme-"+fmt.Sprint(j%7), line+" service="+codec)
			fmt.Fprintf(&in, "acme-%d\t%s\n", j%7, line)
		}
		cmd := exec.CommandContext(t.Context(), kcat, "-P", "-b", strings.Join(brokers, ","), "-t", topic, "-K", "\t", "-z", codec, "-H", "service="+codec, "-H", "empty=")
		cmd.Stdin = strings.NewReader(in.String())
		if out, err := cmd.CombinedOutput(); err != nil {
			t.Fatalf("%s: %v\n%s", codec, err, out)
		}
	}
	s := newStore(t)
	_, stop := run(t, s, Config{
		Brokers: brokers, Topics: []string{topic}, Group: topic, Fields: map[string]string{"service": "header:service", "account": FromKey, "plan": "header:empty"},
	})
	s.waitLines(len(want))
	stop()
	slices.Sort(s.fields)
	slices.Sort(fields)
	if !slices.Equal(s.fields, fields) {
		t.Errorf("%d fields beside the lines, want %d; the first is %q", len(s.fields), len(fields), s.fields[0])
	}
	for _, lines := range s.lines {
		slices.Sort(lines) // kcat's library may write batches out of order
	}
	s.exactly(want)
}

// TestTLS: connections are encrypted, and mistakes are told with what to do.
func TestTLS(t *testing.T) {
	srv := httptest.NewTLSServer(nil)
	defer srv.Close()
	ca := filepath.Join(t.TempDir(), "ca.pem")
	if err := os.WriteFile(ca, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: srv.Certificate().Raw}), 0o600); err != nil {
		t.Fatal(err)
	}
	c := newCluster1(t, kfake.SeedTopics(1, "logs"), kfake.TLS(srv.TLS.Clone()))
	for _, x := range []struct {
		name string
		tls  TLS
		want string
	}{
		{"right", TLS{Enabled: true, CA: ca}, ""},
		{"unknown authority", TLS{Enabled: true}, "kafka.tls.ca"},
		{"no TLS here", TLS{}, "it may want kafka.tls"},
	} {
		t.Run(x.name, func(t *testing.T) {
			s := newStore(t)
			_, stop := run(t, s, Config{Brokers: c.ListenAddrs(), Topics: []string{"logs"}, TLS: x.tls})
			if x.want == "" {
				s.wait("caught up", func() bool { return len(s.caught) == 1 })
			} else {
				s.wait("trouble", func() bool { return strings.Contains(s.unknown["kafka:logs"], x.want) })
			}
			stop()
		})
	}
}
