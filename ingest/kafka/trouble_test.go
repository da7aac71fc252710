package kafka

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/binary"
	"encoding/pem"
	"fmt"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/denywatch/denywatch/ingest"
)

// TestOpenTransaction: messages behind an open transaction wait for its end, which
// is told, and the partition is not caught up meanwhile.
func TestOpenTransaction(t *testing.T) {
	c := newCluster1(t, kfake.SeedTopics(1, "logs"))
	plain, tx := client(t, c), client(t, c, kgo.TransactionalID("tx"))
	want := produce(t, plain, "logs", 1, 0, 10)
	for i, end := range []kgo.TransactionEndTry{kgo.TryCommit, kgo.TryAbort} {
		s := newStore(t)
		_, stop := run(t, s, Config{Brokers: c.ListenAddrs(), Topics: []string{"logs"}, Group: fmt.Sprint("g", i)})
		s.waitLines(len(want))
		s.wait("caught up", func() bool { return s.caught["kafka:logs/0"] == len(want) })
		if err := tx.BeginTransaction(); err != nil {
			t.Fatal(err)
		}
		held := produce(t, tx, "logs", 1, 100*(i+1), 10)
		behind := produce(t, plain, "logs", 1, 100*(i+1)+50, 5)
		s.wait("what holds them back", func() bool {
			return strings.Contains(s.unknown["kafka:logs/0"], "a transaction that is still open holds 15 messages back")
		})
		if s.n != len(want) {
			t.Fatalf("%d lines, want %d", s.n, len(want))
		}
		if err := tx.EndTransaction(context.Background(), end); err != nil {
			t.Fatal(err)
		}
		if end == kgo.TryCommit {
			want = append(want, held...)
		}
		want = append(want, behind...)
		s.waitLines(len(want))
		s.wait("caught up", func() bool { return s.caught["kafka:logs/0"] == len(want) && len(s.unknown) == 0 })
		stop()
		s.exactly(slices.Clone(want))
	}
}

// TestCompacted: offsets that compaction left empty, within batches and as whole
// ones, are neither lines nor a gap.
func TestCompacted(t *testing.T) {
	s := newStore(t)
	p := benchPartition()
	p.stream, p.handler = "kafka:t/0", &handler{store: s, stream: "kafka:t/0"}
	// Offsets 0 and 1 are there; 2 to 9 are an empty batch; of 10 to 19 only 13.
	empty := testBatch(2)
	binary.BigEndian.PutUint32(empty[23:], 7)
	one := testBatch(10, "", "", "", "d", "", "", "", "", "", "")
	set := append(slices.Concat(testBatch(0, "a", "b"), seal(empty)), keep(one, 3)...)
	if err := p.deliver(t.Context(), fetched{high: 20, stable: 20, set: set}); err != nil {
		t.Fatal(err)
	}
	if got := strings.Join(s.lines["kafka:t/0"], " "); got != "a b d" || p.next != 20 {
		t.Errorf("lines %q, next %d", got, p.next)
	}
	if at := s.positions["kafka:t/0"]; at.Offset != 20 {
		t.Errorf("position %d", at.Offset)
	}
	if n := p.count.gaps.Load() + p.count.missed.Load() + p.count.poison[poisonEmpty].Load(); n != 0 {
		t.Errorf("%d gaps or poison", n)
	}
	// It goes on in the middle of a hole.
	p.next = 12
	if err := p.deliver(t.Context(), fetched{high: 20, stable: 20, set: keep(one, 3)}); err != nil || s.n != 4 || p.next != 20 {
		t.Errorf("%v: %d lines, next %d", err, s.n, p.next)
	}
}

// TestTruncated: messages that the brokers lost after they were read are told, and
// reading goes on at the end.
func TestTruncated(t *testing.T) {
	c := newCluster1(t, kfake.NumBrokers(3), kfake.SeedTopics(1, "logs"))
	cl := client(t, c)
	produce(t, cl, "logs", 1, 0, 50)
	if err := c.MoveTopicPartition("logs", 0, (c.LeaderFor("logs", 0)+1)%3); err != nil {
		t.Fatal(err)
	}
	s := newStore(t)
	s.positions["kafka:logs/0"] = ingest.Position{Offset: 80, Mark: markOf(0)} // what the old leader had
	src, stop := run(t, s, Config{Brokers: c.ListenAddrs(), Topics: []string{"logs"}})
	s.wait("caught up", func() bool { return len(s.caught) == 1 })
	want := produce(t, cl, "logs", 1, 50, 10)
	s.waitLines(10)
	stop()
	s.exactly(want)
	if p := src.Partitions()[0]; p.Position != 60 || p.Gaps != 0 {
		t.Errorf("%+v", p)
	}
}

// TestBrokerAbsentAtFirst: a broker that comes later is waited for, and that is
// told.
func TestBrokerAbsentAtFirst(t *testing.T) {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	port := ln.Addr().(*net.TCPAddr).Port
	if err := ln.Close(); err != nil {
		t.Fatal(err)
	}
	s := newStore(t)
	_, stop := run(t, s, Config{Brokers: []string{ln.Addr().String()}, Topics: []string{"logs"}})
	s.wait("trouble", func() bool { return s.ready > 0 && strings.Contains(s.unknown["kafka:logs"], "refused") })
	c := newCluster1(t, kfake.Ports(port), kfake.SeedTopics(1, "logs"))
	want := produce(t, client(t, c), "logs", 1, 0, 10)
	s.waitLines(10)
	s.wait("no trouble", func() bool { return len(s.unknown) == 0 })
	stop()
	s.exactly(want)
}

// authority signs certificates.
type authority struct {
	t    *testing.T
	cert *x509.Certificate
	key  *ecdsa.PrivateKey
	pem  []byte
}

func newAuthority(t *testing.T) *authority {
	a := &authority{t: t}
	a.cert, a.key, a.pem = a.issue(&x509.Certificate{IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign}, time.Hour)
	return a
}

// issue makes a certificate that is valid for a while; a negative one is over.
func (a *authority) issue(c *x509.Certificate, valid time.Duration) (*x509.Certificate, *ecdsa.PrivateKey, []byte) {
	a.t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		a.t.Fatal(err)
	}
	c.SerialNumber, c.Subject = big.NewInt(time.Now().UnixNano()), pkix.Name{CommonName: "test"}
	c.NotBefore, c.NotAfter = time.Now().Add(-2*time.Hour), time.Now().Add(valid)
	parent, signer := c, key
	if a.cert != nil {
		parent, signer = a.cert, a.key
	}
	der, err := x509.CreateCertificate(rand.Reader, c, parent, &key.PublicKey, signer)
	if err != nil {
		a.t.Fatal(err)
	}
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		a.t.Fatal(err)
	}
	return cert, key, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})
}

// pair makes the certificate of a server or a client.
func (a *authority) pair(valid time.Duration) (cert, key []byte) {
	a.t.Helper()
	_, k, cert := a.issue(&x509.Certificate{
		IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)}, KeyUsage: x509.KeyUsageDigitalSignature,
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth},
	}, valid)
	der, err := x509.MarshalECPrivateKey(k)
	if err != nil {
		a.t.Fatal(err)
	}
	return cert, pem.EncodeToMemory(&pem.Block{Type: "EC PRIVATE KEY", Bytes: der})
}

// doors accepts connections that a test can close all at once.
type doors struct {
	mu   sync.Mutex
	open []net.Conn
}

func (d *doors) listen(network, addr string) (net.Listener, error) {
	ln, err := net.Listen(network, addr)
	return doorway{ln, d}, err
}

func (d *doors) shut() {
	d.mu.Lock()
	defer d.mu.Unlock()
	for _, c := range d.open {
		_ = c.Close()
	}
	d.open = nil
}

type doorway struct {
	net.Listener
	doors *doors
}

func (d doorway) Accept() (net.Conn, error) {
	c, err := d.Listener.Accept()
	if err == nil {
		d.doors.mu.Lock()
		d.doors.open = append(d.doors.open, c)
		d.doors.mu.Unlock()
	}
	return c, err
}

// TestCertificates: certificates of the broker and of ours that are out of date, at
// the start and later, are told with what to do, and renewed ones hold without a
// restart.
func TestCertificates(t *testing.T) {
	ca := newAuthority(t)
	dir := t.TempDir()
	cfg := TLS{Enabled: true, CA: filepath.Join(dir, "ca.pem"), Cert: filepath.Join(dir, "cert.pem"), Key: filepath.Join(dir, "key.pem")}
	file := func(name string, b []byte) {
		if err := os.WriteFile(name, b, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	file(cfg.CA, ca.pem)
	pool := x509.NewCertPool()
	pool.AddCert(ca.cert)
	var server atomic.Pointer[tls.Certificate]
	broker := func(valid time.Duration) {
		cert, key := ca.pair(valid)
		p, err := tls.X509KeyPair(cert, key)
		if err != nil {
			t.Fatal(err)
		}
		server.Store(&p)
	}
	ours := func(valid time.Duration) {
		cert, key := ca.pair(valid)
		file(cfg.Cert, cert)
		file(cfg.Key, key)
	}
	broker(-time.Hour)
	ours(time.Hour)
	conns := &doors{}
	c := newCluster1(t, kfake.SeedTopics(1, "logs"), kfake.ListenFn(conns.listen), kfake.TLS(&tls.Config{
		GetCertificate: func(*tls.ClientHelloInfo) (*tls.Certificate, error) { return server.Load(), nil },
		ClientAuth:     tls.RequireAndVerifyClientCert, ClientCAs: pool,
	}))
	cert, key := ca.pair(time.Hour)
	mine, err := tls.X509KeyPair(cert, key)
	if err != nil {
		t.Fatal(err)
	}
	var want []string
	write := func() {
		// The test's own client does not care for the broker's certificate.
		cl := client(t, c, kgo.DialTLSConfig(&tls.Config{InsecureSkipVerify: true, Certificates: []tls.Certificate{mine}}))
		defer cl.Close()
		want = append(want, produce(t, cl, "logs", 1, len(want), 10)...)
	}
	s := newStore(t)
	_, stop := run(t, s, Config{Brokers: c.ListenAddrs(), Topics: []string{"logs"}, TLS: cfg})
	told := func(text string) {
		t.Helper()
		s.wait(text, func() bool {
			return slices.ContainsFunc(s.told, func(x string) bool { return strings.Contains(x, text) })
		})
		s.change(func() { s.told = nil })
	}
	read := func() {
		t.Helper()
		write()
		s.waitLines(len(want))
		s.wait("no trouble", func() bool { return len(s.unknown) == 0 })
	}
	const expired, refused = "the broker's certificate is out of date: renew it", "the broker refuses our certificate: renew or mend kafka.tls.cert"
	told(expired)
	broker(time.Hour)
	read()
	broker(-time.Hour)
	conns.shut()
	told(expired)
	broker(time.Hour)
	read()
	ours(-time.Hour)
	conns.shut()
	told(refused)
	ours(time.Hour)
	read()
	if err := os.Remove(cfg.CA); err != nil {
		t.Fatal(err)
	}
	conns.shut()
	told("kafka.tls.ca: open ")
	file(cfg.CA, ca.pem)
	read()
	stop()
	s.exactly(want)
}
