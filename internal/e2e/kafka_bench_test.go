package e2e

import (
	"bytes"
	"context"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	kafkago "github.com/segmentio/kafka-go"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/denywatch/denywatch/internal/sim"
)

// bareLoop is the environment variable that makes this binary the peer of
// BenchmarkKafka instead of a test: brokers, topic and number of messages.
const bareLoop = "DENYWATCH_TEST_BARE_LOOP"

// fetchAll reads n messages as programs usually do, and does nothing with them.
func fetchAll(job string) error {
	var brokers, topic string
	var n int
	if _, err := fmt.Sscan(job, &brokers, &topic, &n); err != nil {
		return err
	}
	r := kafkago.NewReader(kafkago.ReaderConfig{Brokers: strings.Split(brokers, ","), Topic: topic, GroupID: topic + "-bare", MaxWait: 250 * time.Millisecond})
	for range n {
		if _, err := r.FetchMessage(context.Background()); err != nil {
			return err
		}
	}
	return r.Close()
}

// BenchmarkKafka compares the CPU of the whole daemon (parsing, counting, judging,
// cuts, metrics) on a topic of combined lines with that of a process that only
// calls FetchMessage for the same messages. It needs a broker (KAFKA_BROKERS); one
// iteration is one pair of processes, so run it with -benchtime 5x.
func BenchmarkKafka(b *testing.B) {
	brokers := os.Getenv("KAFKA_BROKERS")
	if brokers == "" {
		b.Skip("set KAFKA_BROKERS=host:port, or start a broker with .ci/kafka/run")
	}
	var lines bytes.Buffer
	if _, err := sim.WriteBulk(&lines, sim.BulkCombined, 1_000_000_000, 1, 1000); err != nil {
		b.Fatal(err)
	}
	// Of the last two hours, so that no year of empty slots is to be closed behind
	// them.
	log := lines.Bytes()
	for i, hour := range []string{"[05/Jan/2026:00:", "[05/Jan/2026:01:"} {
		now := time.Now().UTC().Add(time.Duration(i-2) * time.Hour).Format("[02/Jan/2006:15:")
		log = bytes.ReplaceAll(log, []byte(hour), []byte(now))
	}
	for _, x := range []struct {
		name       string
		partitions int32
		codec      kgo.CompressionCodec
	}{{"plain", 1, kgo.NoCompression()}, {"plain/6", 6, kgo.NoCompression()}, {"zstd", 1, kgo.ZstdCompression()}} {
		b.Run(x.name, func(b *testing.B) {
			topic := fmt.Sprintf("denywatch-bench-%d", time.Now().UnixNano())
			n := fill(b, strings.Split(brokers, ","), topic, x.partitions, log, x.codec)
			var ratios []float64
			var ours, bare time.Duration
			for b.Loop() {
				x := readByDaemon(b, brokers, topic, n)
				cmd := exec.Command(os.Args[0])
				cmd.Env = append(os.Environ(), fmt.Sprintf("%s=%s %s %d", bareLoop, brokers, topic, n))
				cmd.Stderr = os.Stderr
				if err := cmd.Run(); err != nil {
					b.Fatal(err)
				}
				y := cpu(cmd.ProcessState)
				ours, bare = ours+x, bare+y
				ratios = append(ratios, x.Seconds()/y.Seconds())
			}
			slices.Sort(ratios)
			b.ReportMetric(ratios[len(ratios)/2], "ratio")
			b.ReportMetric(ratios[0], "least")
			b.ReportMetric(ratios[len(ratios)-1], "most")
			b.ReportMetric(float64(ours.Nanoseconds())/float64(len(ratios)*n), "ns/line")
			b.ReportMetric(float64(bare.Nanoseconds())/float64(len(ratios)*n), "bare-ns/line")
			b.ReportMetric(0, "ns/op")
		})
	}
}

func cpu(p *os.ProcessState) time.Duration { return p.UserTime() + p.SystemTime() }

// fill makes a topic with the lines of a log, and returns their
// number. The topic is deleted at the end.
func fill(b *testing.B, brokers []string, topic string, partitions int32, log []byte, codec kgo.CompressionCodec) (n int) {
	b.Helper()
	cl, err := kgo.NewClient(kgo.SeedBrokers(brokers...), kgo.DefaultProduceTopic(topic), kgo.ProducerBatchCompression(codec), kgo.ProducerLinger(20*time.Millisecond))
	if err != nil {
		b.Fatal(err)
	}
	create := kmsg.NewPtrCreateTopicsRequest()
	ct := kmsg.NewCreateTopicsRequestTopic()
	ct.Topic, ct.NumPartitions, ct.ReplicationFactor = topic, partitions, 1
	create.Topics, create.TimeoutMillis = append(create.Topics, ct), 10_000
	if res, err := create.RequestWith(b.Context(), cl); err != nil || res.Topics[0].ErrorCode != 0 {
		b.Fatal(err, res)
	}
	b.Cleanup(func() {
		del := kmsg.NewPtrDeleteTopicsRequest()
		dt := kmsg.NewDeleteTopicsRequestTopic()
		dt.Topic = &topic
		del.TopicNames, del.Topics, del.TimeoutMillis = []string{topic}, append(del.Topics, dt), 10_000
		_, _ = del.RequestWith(context.Background(), cl)
		cl.Close()
	})
	failed := make(chan error, 1)
	for line := range bytes.Lines(log) {
		n++
		cl.Produce(b.Context(), &kgo.Record{Value: bytes.TrimSuffix(line, []byte{'\n'})}, func(_ *kgo.Record, err error) {
			if err != nil {
				select {
				case failed <- err:
				default:
				}
			}
		})
	}
	if err := cl.Flush(b.Context()); err != nil {
		b.Fatal(err)
	}
	select {
	case err := <-failed:
		b.Fatal(err)
	default:
	}
	return n
}

// readByDaemon runs denywatch until it has counted n lines, and returns its CPU.
func readByDaemon(b *testing.B, brokers, topic string, n int) time.Duration {
	b.Helper()
	dir := b.TempDir()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		b.Fatal(err)
	}
	addr := ln.Addr().String()
	_ = ln.Close()
	config := filepath.Join(dir, "denywatch.yaml")
	if err := os.WriteFile(config, fmt.Appendf(nil, `
state: %s/state
listen: %s
sources:
  - name: web
    format: combined
    kafka: { brokers: [%s], topics: %s, group: denywatch-bench-%d }
`, dir, addr, brokers, topic, time.Now().UnixNano()), 0o600); err != nil {
		b.Fatal(err)
	}
	cmd := exec.Command(bin.normal, "run", "--config", config)
	var said bytes.Buffer
	cmd.Stdout, cmd.Stderr = &said, &said
	if err := cmd.Start(); err != nil {
		b.Fatal(err)
	}
	d := &daemon{url: "http://" + addr}
	for counted := ""; counted != strconv.Itoa(n); time.Sleep(250 * time.Millisecond) {
		_, page, err := d.get("/metrics")
		if err != nil && cmd.Process.Signal(syscall.Signal(0)) != nil {
			b.Fatalf("denywatch ended: %s", said.String())
		}
		_, counted, _ = strings.Cut(page, `denywatch_lines_total{source="web"} `)
		counted, _, _ = strings.Cut(counted, "\n")
	}
	if err := cmd.Process.Signal(syscall.SIGTERM); err != nil {
		b.Fatal(err)
	}
	if err := cmd.Wait(); err != nil {
		b.Fatalf("%v: %s", err, said.String())
	}
	return cpu(cmd.ProcessState)
}
