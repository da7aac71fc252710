package kafka

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	kafkago "github.com/segmentio/kafka-go"
	"github.com/segmentio/kafka-go/protocol"
	produceapi "github.com/segmentio/kafka-go/protocol/produce"
)

// ErrOutOfRange means that a Log holds nothing at the offset that was asked for:
// it lies behind the end or was deleted.
var ErrOutOfRange = errors.New("the offset lies outside of the log")

// logRequest bounds one request of a Log, beyond what the broker may wait.
const logRequest = 5 * time.Second

// Log is one topic of a single partition in which a program keeps records of its
// own, in one order that all its readers agree on. Read is called by one goroutine
// at a time; everything else is safe for concurrent use. Errors say how to mend
// what is wrong, and that it passes is never assumed: the next call connects anew.
type Log struct {
	cfg   Config // Brokers, TLS and SASL
	topic string

	read *conn

	mu    sync.Mutex
	write *conn
}

// Record is one record of a Log. A nil Value is a tombstone: compaction removes
// what was written under the key before.
type Record struct {
	// Offset is set by Read.
	Offset     int64
	Key, Value []byte
}

// Page is what one Read found.
type Page struct {
	// Records are in the order of their offsets. Their bytes are the caller's.
	Records []Record
	// Next is the offset to read from next, End the one behind the last record that
	// all replicas have.
	Next, End int64
	// Damaged counts batches of records that could not be read.
	Damaged int
}

// NewLog returns a Log on the topic, in the cluster that Brokers, TLS and SASL of a
// valid c tell; nothing else of c counts. It connects to nothing yet. Certificates
// are read anew for every connection.
func NewLog(c Config, topic string) *Log { return &Log{cfg: c, topic: topic} }

// cluster is how the brokers are reached from now on.
func (l *Log) cluster() (*cluster, error) { return newCluster(l.cfg, logRequest) }

// Ensure makes sure that the topic exists, as a compacted one with a single
// partition: it creates it, with three replicas of which two must confirm where
// there are as many brokers, or says what is wrong with the one there is.
func (l *Log) Ensure(ctx context.Context) error {
	cl, err := l.cluster()
	if err != nil {
		return err
	}
	m, err := cl.layout(ctx, []string{l.topic})
	if err != nil {
		return err
	}
	client, done := cl.client()
	defer done()
	for _, t := range m.Topics {
		switch code := kafkago.Error(t.ErrorCode); {
		case t.Name != l.topic || t.ErrorCode != 0 && code != kafkago.UnknownTopicOrPartition:
			return explain(l.topic, code)
		case t.ErrorCode == 0 && len(t.Partitions) != 1:
			return fmt.Errorf("%s: the topic has %d partitions and must have one: name another topic, which will be created", l.topic, len(t.Partitions))
		case t.ErrorCode == 0:
			return l.compacted(ctx, client)
		}
	}
	replicas, confirm := min(3, len(m.Brokers)), "1"
	if replicas == 3 {
		confirm = "2"
	}
	res, err := client.CreateTopics(ctx, &kafkago.CreateTopicsRequest{Topics: []kafkago.TopicConfig{{
		Topic: l.topic, NumPartitions: 1, ReplicationFactor: replicas,
		ConfigEntries: []kafkago.ConfigEntry{
			{ConfigName: "cleanup.policy", ConfigValue: "compact"},
			{ConfigName: "min.insync.replicas", ConfigValue: confirm},
			// Only closed segments are compacted, so their size and age bound what
			// somebody has to read who knows nothing yet.
			{ConfigName: "segment.bytes", ConfigValue: "33554432"},
			{ConfigName: "segment.ms", ConfigValue: "3600000"},
			{ConfigName: "delete.retention.ms", ConfigValue: "60000"},
			{ConfigName: "max.message.bytes", ConfigValue: "1048588"},
			{ConfigName: "unclean.leader.election.enable", ConfigValue: "false"},
		},
	}}})
	if err == nil {
		err = res.Errors[l.topic]
	}
	if err != nil && !errors.Is(err, kafkago.TopicAlreadyExists) {
		return fmt.Errorf("%s: the topic does not exist and cannot be created: %w (create it with one partition and cleanup.policy=compact)", l.topic, err)
	}
	return nil
}

// compacted tells whether the topic that is there keeps the last record of every
// key for ever. Who may not ask is trusted to know.
func (l *Log) compacted(ctx context.Context, client *kafkago.Client) error {
	res, err := client.DescribeConfigs(ctx, &kafkago.DescribeConfigsRequest{Resources: []kafkago.DescribeConfigRequestResource{{
		ResourceType: kafkago.ResourceTypeTopic, ResourceName: l.topic, ConfigNames: []string{"cleanup.policy"},
	}}})
	if err != nil {
		return explain(l.topic, err)
	}
	for _, r := range res.Resources {
		for _, e := range r.ConfigEntries {
			if e.ConfigName == "cleanup.policy" && e.ConfigValue != "compact" {
				return fmt.Errorf("%s: the topic has cleanup.policy=%s, which would delete the state one day; set it to compact", l.topic, e.ConfigValue)
			}
		}
	}
	return nil
}

// Bounds returns the offset of the first record there is and that behind the last.
func (l *Log) Bounds(ctx context.Context) (first, end int64, err error) {
	b, err := l.connect(ctx)
	if err != nil {
		return 0, 0, err
	}
	defer b.close()
	if first, err = b.offset(ctx, l.topic, 0, offsetFirst); err != nil {
		return 0, 0, err
	}
	end, err = b.offset(ctx, l.topic, 0, offsetLast)
	return first, end, err
}

// connect connects to the broker that leads the partition.
func (l *Log) connect(ctx context.Context) (*conn, error) {
	cl, err := l.cluster()
	if err != nil {
		return nil, err
	}
	b, _, err := cl.leader(ctx, l.topic, 0)
	return b, err
}

// Read returns the records from an offset on, as many as a broker sends at once; if
// there are none yet it waits for them, but not longer than wait. The error is
// ErrOutOfRange if there is no such offset.
func (l *Log) Read(ctx context.Context, from int64, wait time.Duration) (p Page, err error) {
	if l.read == nil {
		if l.read, err = l.connect(ctx); err != nil {
			return p, err
		}
	}
	defer func() {
		if err != nil {
			l.read.close()
			l.read = nil
		}
	}()
	release, err := l.read.request(ctx, l.topic, 0, from, wait, fetchBytes)
	if err != nil {
		return p, err
	}
	defer release()
	n, err := l.read.size()
	if err != nil {
		return p, err
	}
	f, err := l.read.answer(make([]byte, n))
	if err != nil {
		return p, err
	}
	switch code := kafkago.Error(f.code); {
	case code == kafkago.OffsetOutOfRange:
		return p, ErrOutOfRange
	case f.code != 0:
		return p, explain(l.topic, code)
	}
	p.Next, p.End = from, f.high
	for set := f.set; ; {
		b, rest, ok := nextBatch(set)
		if !ok {
			break
		}
		set = rest
		switch {
		case b.last < from && b.fault == "":
			continue
		case b.fault != "":
			p.Damaged++
			b.last = max(p.Next, min(b.last, f.high-1)) // its head is not to be trusted
		case b.attributes&attrControl == 0:
			if err := p.add(&b, from); err != nil {
				p.Damaged++
			}
		}
		p.Next = max(p.Next, b.last+1)
	}
	return p, nil
}

// add takes the records of a batch, from an offset on.
func (p *Page) add(b *batch, from int64) error {
	var inflated bytes.Buffer // the records stay in it
	body, err := b.inflate(&inflated)
	if err != nil {
		return err
	}
	for range b.records {
		r, rest, ok := nextRecord(body)
		if !ok {
			return errShort
		}
		body = rest
		if at := b.base + r.delta; at >= from {
			p.Records = append(p.Records, Record{at, r.key, r.value})
		}
	}
	return nil
}

// Append writes records behind each other and returns when enough replicas have
// them. After an error they may have been written all the same, now or a little
// later. All of them together must be smaller than a broker's largest message.
func (l *Log) Append(ctx context.Context, records ...Record) (err error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.write == nil {
		if l.write, err = l.connect(ctx); err != nil {
			return err
		}
	}
	defer func() {
		if err != nil {
			l.write.close()
			l.write = nil
		}
	}()
	rs := make([]protocol.Record, len(records))
	for i, r := range records {
		rs[i] = protocol.Record{Key: protocol.NewBytes(r.Key)}
		if r.Value != nil {
			rs[i].Value = protocol.NewBytes(r.Value)
		}
	}
	m, err := l.write.roundTrip(ctx, &produceapi.Request{
		Acks: -1, Timeout: int32(logRequest / time.Millisecond),
		Topics: []produceapi.RequestTopic{{Topic: l.topic, Partitions: []produceapi.RequestPartition{{
			RecordSet: protocol.RecordSet{Attributes: protocol.Snappy, Records: protocol.NewRecordReader(rs...)},
		}}}},
	})
	if err != nil {
		return explain(l.write.addr, err)
	}
	ts := m.(*produceapi.Response).Topics
	if len(ts) != 1 || len(ts[0].Partitions) != 1 {
		return fmt.Errorf("%s: the broker's answer is about %d topics, not one", l.write.addr, len(ts))
	}
	if code := ts[0].Partitions[0].ErrorCode; code != 0 {
		return explain(l.topic, kafkago.Error(code))
	}
	return nil
}

// Close closes the connections. Nothing is called afterwards.
func (l *Log) Close() {
	if l.read != nil {
		l.read.close()
		l.read = nil
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.write != nil {
		l.write.close()
		l.write = nil
	}
}
