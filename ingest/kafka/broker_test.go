package kafka

import (
	"context"
	"encoding/pem"
	"fmt"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"
)

// TestRealBroker reads from a cluster that is not ours, named by KAFKA_BROKERS
// (host:port, with commas): it makes a topic of its own and deletes it afterwards.
func TestRealBroker(t *testing.T) {
	addrs := os.Getenv("KAFKA_BROKERS")
	if addrs == "" && os.Getenv("CI") == "true" {
		t.Fatal("KAFKA_BROKERS is not set: continuous integration must start a broker (.ci/kafka/run)")
	}
	if addrs == "" {
		t.Skip("*** NOT TESTED WITH A REAL BROKER: set KAFKA_BROKERS=host:port, or start one with .ci/kafka/run ***")
	}
	brokers := strings.Split(addrs, ",")
	cl, err := kgo.NewClient(kgo.SeedBrokers(brokers...), kgo.RecordPartitioner(kgo.ManualPartitioner()))
	if err != nil {
		t.Fatal(err)
	}
	defer cl.Close()
	topic := fmt.Sprintf("denywatch-test-%d", time.Now().UnixNano())
	create := kmsg.NewPtrCreateTopicsRequest()
	ct := kmsg.NewCreateTopicsRequestTopic()
	ct.Topic, ct.NumPartitions, ct.ReplicationFactor = topic, 6, 1
	create.Topics, create.TimeoutMillis = append(create.Topics, ct), 10_000
	if res, err := create.RequestWith(t.Context(), cl); err != nil || res.Topics[0].ErrorCode != 0 {
		t.Fatal(err, res)
	}
	defer func() {
		del := kmsg.NewPtrDeleteTopicsRequest()
		dt := kmsg.NewDeleteTopicsRequestTopic()
		dt.Topic = &topic
		del.TopicNames, del.Topics, del.TimeoutMillis = []string{topic}, append(del.Topics, dt), 10_000
		_, _ = del.RequestWith(context.Background(), cl)
	}()
	want := produce(t, cl, topic, 6, 0, 10_000)
	s := newStore(t)
	cfg := Config{Brokers: brokers, Topics: []string{topic}, Group: topic}
	session := quick.session
	quick.session = 10 * time.Second // brokers take no less than 6 s unless told so
	defer func() { quick.session = session }()
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
