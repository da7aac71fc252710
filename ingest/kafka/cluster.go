package kafka

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"strconv"
	"sync/atomic"
	"time"

	kafkago "github.com/segmentio/kafka-go"
	"github.com/segmentio/kafka-go/protocol"
	"github.com/segmentio/kafka-go/protocol/apiversions"
	"github.com/segmentio/kafka-go/protocol/fetch"
	"github.com/segmentio/kafka-go/protocol/listoffsets"
	"github.com/segmentio/kafka-go/protocol/metadata"
	"github.com/segmentio/kafka-go/protocol/saslauthenticate"
	"github.com/segmentio/kafka-go/protocol/saslhandshake"
	"github.com/segmentio/kafka-go/sasl"
	"github.com/segmentio/kafka-go/sasl/plain"
	"github.com/segmentio/kafka-go/sasl/scram"
)

// clientID is how brokers name us in their logs and quotas.
const clientID = "denywatch"

// maxResponse bounds what a broker may send at once: a whole batch of its
// largest messages, which brokers limit to 1 MiB unless told otherwise.
const maxResponse = 128 << 20

// The timestamps by which ListOffsets is asked for the ends of a partition.
const (
	offsetFirst = -2
	offsetLast  = -1
)

// cluster knows how to reach brokers. It is safe for concurrent use.
type cluster struct {
	seeds     []string
	tls       TLS
	mechanism sasl.Mechanism
	timeout   time.Duration // of one request
	turn      atomic.Uint32 // the seed to ask next
}

// newCluster connects to nothing yet.
func newCluster(c Config, timeout time.Duration) (*cluster, error) {
	cl := &cluster{seeds: c.Brokers, tls: c.TLS, timeout: timeout}
	var err error
	switch c.SASL.Mechanism {
	case Plain:
		cl.mechanism = plain.Mechanism{Username: c.SASL.User, Password: c.SASL.Password.Reveal()}
	case ScramSHA256:
		cl.mechanism, err = scram.Mechanism(scram.SHA256, c.SASL.User, c.SASL.Password.Reveal())
	case ScramSHA512:
		cl.mechanism, err = scram.Mechanism(scram.SHA512, c.SASL.User, c.SASL.Password.Reveal())
	}
	if err != nil {
		return nil, errors.New("sasl: user or password hold characters that SCRAM does not allow")
	}
	return cl, nil
}

// dialer is how kafka-go's consumer group gets to brokers.
func (c *cluster) dialer() *kafkago.Dialer {
	return &kafkago.Dialer{ClientID: clientID, Timeout: c.timeout, DialFunc: c.connect, SASLMechanism: c.mechanism}
}

// client is kafka-go's, for requests that are about no partition; done frees its
// connections.
func (c *cluster) client() (client *kafkago.Client, done func()) {
	t := &kafkago.Transport{ClientID: clientID, DialTimeout: c.timeout, Dial: c.connect, SASL: c.mechanism}
	return &kafkago.Client{Addr: kafkago.TCP(c.seeds...), Timeout: c.timeout, Transport: t}, t.CloseIdleConnections
}

// connect opens a connection to a broker, encrypted if TLS is on. The certificates
// are read anew, so that renewed ones hold without a restart.
func (c *cluster) connect(ctx context.Context, network, addr string) (net.Conn, error) {
	nc, err := (&net.Dialer{}).DialContext(ctx, network, addr)
	if err != nil || !c.tls.Enabled {
		return nc, err
	}
	config, err := c.tls.config()
	if err == nil {
		config.ServerName, _, err = net.SplitHostPort(addr)
	}
	if err != nil {
		_ = nc.Close()
		return nil, err
	}
	secured := tls.Client(nc, config)
	if err := secured.HandshakeContext(ctx); err != nil {
		_ = nc.Close()
		return nil, fmt.Errorf("TLS: %w", err)
	}
	return secured, nil
}

// config reads the certificates.
func (t *TLS) config() (*tls.Config, error) {
	c := &tls.Config{MinVersion: tls.VersionTLS12}
	if t.CA != "" {
		pem, err := os.ReadFile(t.CA)
		if err != nil {
			return nil, fmt.Errorf("kafka.tls.ca: %w", err)
		}
		c.RootCAs = x509.NewCertPool()
		if !c.RootCAs.AppendCertsFromPEM(pem) {
			return nil, fmt.Errorf("kafka.tls.ca: %s holds no certificate in PEM", t.CA)
		}
	}
	if t.Cert != "" {
		pair, err := tls.LoadX509KeyPair(t.Cert, t.Key)
		if err != nil {
			return nil, fmt.Errorf("kafka.tls.cert: %w", err)
		}
		c.Certificates = []tls.Certificate{pair}
	}
	return c, nil
}

// conn is a connection to one broker. Requests go one after the other.
//
// Fetch responses are decoded here, not by kafka-go: its readers show neither
// control batches nor aborted transactions for what they are, and end the
// process at batches that compaction left empty.
type conn struct {
	addr    string
	timeout time.Duration
	net     net.Conn
	proto   *protocol.Conn
	fetch   int16 // version
	number  int32 // of the last fetch
}

// apis are the requests that are sent, and from which version on.
var apis = map[protocol.ApiKey]int16{
	protocol.Metadata: 1, protocol.ListOffsets: 1, protocol.Fetch: 4, protocol.Produce: 3, protocol.SaslHandshake: 0, protocol.SaslAuthenticate: 0,
}

// dial connects to a broker and says who we are.
func (c *cluster) dial(ctx context.Context, addr string) (_ *conn, err error) {
	ctx, cancel := context.WithTimeout(ctx, c.timeout)
	defer cancel()
	defer func() {
		if err != nil {
			err = explain(addr, err)
		}
	}()
	nc, err := c.connect(ctx, "tcp", addr)
	if err != nil {
		return nil, err
	}
	defer func() {
		if err != nil {
			_ = nc.Close()
		}
	}()
	b := &conn{addr: addr, timeout: c.timeout, net: nc, proto: protocol.NewConn(nc, clientID)}
	res, err := b.roundTrip(ctx, &apiversions.Request{})
	if err != nil {
		return nil, err
	}
	offered := map[protocol.ApiKey]int16{}
	for _, k := range res.(*apiversions.Response).ApiKeys {
		key := protocol.ApiKey(k.ApiKey)
		least, used := apis[key]
		if !used {
			continue
		}
		v := min(k.MaxVersion, key.MaxVersion())
		if v < max(least, k.MinVersion) {
			return nil, fmt.Errorf("the broker does not speak %v of version %d to %d; Kafka 0.11 and newer do", key, least, key.MaxVersion())
		}
		offered[key] = v
	}
	b.proto.SetVersions(offered)
	b.fetch = offered[protocol.Fetch]
	if c.mechanism != nil {
		if err := b.authenticate(ctx, c.mechanism); err != nil {
			return nil, err
		}
	}
	return b, nil
}

func (b *conn) close() { _ = b.net.Close() }

// begin bounds what follows by the timeout, patience longer, and ctx; end frees
// it. A connection whose ctx ended is of no use any more.
func (b *conn) begin(ctx context.Context, patience time.Duration) (end func() bool, err error) {
	if err := b.net.SetDeadline(time.Now().Add(b.timeout + patience)); err != nil {
		return nil, err
	}
	return context.AfterFunc(ctx, func() { _ = b.net.SetDeadline(time.Unix(1, 0)) }), nil
}

func (b *conn) roundTrip(ctx context.Context, m protocol.Message) (protocol.Message, error) {
	end, err := b.begin(ctx, 0)
	if err != nil {
		return nil, err
	}
	defer end()
	return b.proto.RoundTrip(m)
}

// authenticate runs the SASL exchange.
func (b *conn) authenticate(ctx context.Context, m sasl.Mechanism) error {
	res, err := b.roundTrip(ctx, &saslhandshake.Request{Mechanism: m.Name()})
	if err != nil {
		return err
	}
	if code := res.(*saslhandshake.Response).ErrorCode; code != 0 {
		return kafkago.Error(code)
	}
	session, state, err := m.Start(ctx)
	if err != nil {
		return fmt.Errorf("SASL: %w", err)
	}
	for done := false; !done; {
		res, err := b.roundTrip(ctx, &saslauthenticate.Request{AuthBytes: state})
		if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
			return kafkago.SASLAuthenticationFailed // old brokers say so by hanging up
		}
		if err != nil {
			return err
		}
		r := res.(*saslauthenticate.Response)
		if r.ErrorCode != 0 {
			return kafkago.Error(r.ErrorCode)
		}
		if done, state, err = session.Next(ctx, r.AuthBytes); err != nil {
			return fmt.Errorf("SASL: %w", err)
		}
	}
	return nil
}

// layout asks any broker about topics; about all of them if none is named.
func (c *cluster) layout(ctx context.Context, topics []string) (*metadata.Response, error) {
	var errs []error
	first := c.turn.Load()
	for i := range c.seeds {
		n := (int(first) + i) % len(c.seeds)
		b, err := c.dial(ctx, c.seeds[n])
		if err == nil {
			var m protocol.Message
			if m, err = b.roundTrip(ctx, &metadata.Request{TopicNames: topics}); err != nil {
				err = explain(b.addr, err)
			}
			b.close()
			if err == nil {
				c.turn.Store(uint32(n))
				return m.(*metadata.Response), nil
			}
		}
		errs = append(errs, err)
		if ctx.Err() != nil {
			break
		}
	}
	return nil, errors.Join(errs...)
}

// leader connects to the broker that leads a partition, and tells the epoch of
// its lead, -1 if the broker does not know any.
func (c *cluster) leader(ctx context.Context, topic string, partition int) (*conn, int32, error) {
	m, err := c.layout(ctx, []string{topic})
	if err != nil {
		return nil, 0, err
	}
	for _, t := range m.Topics {
		if t.Name != topic {
			continue
		}
		if t.ErrorCode != 0 {
			return nil, 0, explain(topic, kafkago.Error(t.ErrorCode))
		}
		for _, p := range t.Partitions {
			if int(p.PartitionIndex) != partition {
				continue
			}
			for _, b := range m.Brokers {
				if b.NodeID == p.LeaderID {
					conn, err := c.dial(ctx, net.JoinHostPort(b.Host, strconv.Itoa(int(b.Port))))
					return conn, p.LeaderEpoch, err
				}
			}
			return nil, 0, explain(topic, kafkago.LeaderNotAvailable)
		}
	}
	return nil, 0, explain(topic, kafkago.UnknownTopicOrPartition)
}

// offset asks for the offset of the first message at or after a time in
// milliseconds since the epoch (or offsetFirst, offsetLast); -1 if there is none.
func (b *conn) offset(ctx context.Context, topic string, partition int, at int64) (int64, error) {
	m, err := b.roundTrip(ctx, &listoffsets.Request{ReplicaID: -1, Topics: []listoffsets.RequestTopic{{
		Topic: topic, Partitions: []listoffsets.RequestPartition{{Partition: int32(partition), CurrentLeaderEpoch: -1, Timestamp: at}},
	}}})
	if err != nil {
		return 0, explain(b.addr, err)
	}
	ts := m.(*listoffsets.Response).Topics
	if len(ts) != 1 || len(ts[0].Partitions) != 1 {
		return 0, fmt.Errorf("%s: the broker's answer about offsets is of %d topics, not one", b.addr, len(ts))
	}
	p := &ts[0].Partitions[0]
	if p.ErrorCode != 0 {
		return 0, explain(topic, kafkago.Error(p.ErrorCode))
	}
	return p.Offset, nil
}

// request asks for messages of one partition from offset on, waiting for the
// first at most wait. Only what is committed is asked for.
func (b *conn) request(ctx context.Context, topic string, partition int, offset int64, wait time.Duration, maxBytes int) (func() bool, error) {
	end, err := b.begin(ctx, wait)
	if err != nil {
		return nil, err
	}
	b.number++
	err = protocol.WriteRequest(b.proto, b.fetch, b.number, clientID, &fetch.Request{
		ReplicaID: -1, MaxWaitTime: int32(wait / time.Millisecond), MinBytes: 1, MaxBytes: int32(maxBytes),
		IsolationLevel: 1, SessionEpoch: -1, // committed only; no session
		Topics: []fetch.RequestTopic{{Topic: topic, Partitions: []fetch.RequestPartition{{
			Partition: int32(partition), CurrentLeaderEpoch: -1, FetchOffset: offset, LogStartOffset: -1, PartitionMaxBytes: int32(maxBytes),
		}}}},
	})
	if err != nil {
		end()
		return nil, explain(b.addr, err)
	}
	return end, nil
}

// size waits for the answer and returns its length.
func (b *conn) size() (int, error) {
	var head [4]byte
	if _, err := io.ReadFull(b.proto, head[:]); err != nil {
		return 0, explain(b.addr, err)
	}
	n := int(int32(uint32(head[0])<<24 | uint32(head[1])<<16 | uint32(head[2])<<8 | uint32(head[3])))
	if n < 0 || n > maxResponse {
		return 0, fmt.Errorf("%s: an answer of %d bytes; at most %d are taken: lower max.message.bytes of the topic", b.addr, n, maxResponse)
	}
	return n, nil
}

// answer reads and decodes the answer to the last request into buf, which must
// have the length that size told.
func (b *conn) answer(buf []byte) (fetched, error) {
	if _, err := io.ReadFull(b.proto, buf); err != nil {
		return fetched{}, explain(b.addr, err)
	}
	f, number, err := decodeFetch(buf, b.fetch)
	if err == nil && number != b.number {
		err = fmt.Errorf("the answer has number %d, asked was %d", number, b.number)
	}
	if err != nil {
		return f, fmt.Errorf("%s: the broker's answer cannot be read: %w", b.addr, err)
	}
	return f, nil
}

// explain says in an error what the subject (a broker or a topic) is, and how to
// mend it where that is known.
func explain(subject string, err error) error {
	hint := ""
	var record tls.RecordHeaderError
	var authority x509.UnknownAuthorityError
	var host x509.HostnameError
	var invalid x509.CertificateInvalidError
	var refusal *net.OpError
	var code kafkago.Error
	isCode := errors.As(err, &code)
	switch {
	case isCode && (code == kafkago.SASLAuthenticationFailed):
		hint = "the broker refuses user or password: mend kafka.sasl"
	case isCode && (code == kafkago.UnsupportedSASLMechanism || code == kafkago.IllegalSASLState):
		hint = "the broker does not take this kafka.sasl.mechanism"
	case isCode && code == kafkago.UnknownTopicOrPartition:
		hint = "the topic does not exist: create it, or mend kafka.topics"
	case isCode && code == kafkago.TopicAuthorizationFailed:
		hint = "the user may not use the topic: allow Read and Describe, and for the topic of cluster: Write, Create and DescribeConfigs"
	case isCode && code == kafkago.MessageSizeTooLarge:
		hint = "the broker takes no messages of 1 MiB: raise max.message.bytes of the topic"
	case isCode && (code == kafkago.NotEnoughReplicas || code == kafkago.NotEnoughReplicasAfterAppend):
		hint = "too few replicas of the topic are in sync: start the missing brokers"
	case isCode && code == kafkago.GroupAuthorizationFailed:
		hint = "the user may not join the group: allow Read on it"
	case errors.As(err, &record):
		hint = "the broker does not speak TLS on this port: take kafka.tls out, or name another port"
	case errors.As(err, &authority):
		hint = "name the authority's certificate in kafka.tls.ca"
	case errors.As(err, &host):
		hint = "the broker's certificate is for another name: name brokers as their certificates do"
	case errors.As(err, &invalid) && invalid.Reason == x509.Expired:
		hint = "the broker's certificate is out of date: renew it, or set the clock of this host"
	case errors.As(err, &refusal) && refusal.Op == "remote error":
		hint = "the broker refuses our certificate: renew or mend kafka.tls.cert and key"
	case errors.Is(err, context.DeadlineExceeded) || errors.Is(err, os.ErrDeadlineExceeded):
		hint = "no answer in time; is it the right port, and does it speak TLS as kafka.tls says?"
	case errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF):
		hint = "the broker hung up; it may want kafka.tls or kafka.sasl"
	}
	if hint == "" {
		return fmt.Errorf("%s: %w", subject, err)
	}
	return fmt.Errorf("%s: %s: %w", subject, hint, err)
}
