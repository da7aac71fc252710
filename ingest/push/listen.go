package push

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"os"
	"sync"
	"time"
)

// DefaultListen is where senders are heard if nothing else is configured: on this
// host only.
const DefaultListen = "127.0.0.1:8404"

// Listen says where senders are heard. It is apart from the daemon's API, so that
// opening one to the world does not open the other.
type Listen struct {
	// Address is host and port.
	Address string `yaml:"listen"`
	// TLS encrypts; without it a proxy must.
	TLS TLS `yaml:"tls"`
}

// TLS names the PEM files of a certificate, with its intermediates, and of its key.
// They are read anew when they change.
type TLS struct {
	Cert string `yaml:"cert"`
	Key  string `yaml:"key"`
}

// Named reports whether connections are encrypted.
func (t TLS) Named() bool { return t != (TLS{}) }

// Validate returns all problems of l but those of its address. It does no I/O.
func (l Listen) Validate() []error {
	if (l.TLS.Cert == "") != (l.TLS.Key == "") {
		return []error{errors.New("tls: needs both cert and key")}
	}
	return nil
}

// Check tells whether the certificate can be used, if there is one.
func (l Listen) Check() error {
	_, err := l.certificate(slog.New(slog.DiscardHandler))
	return err
}

// certificate reads the certificate, nil if there is none.
func (l Listen) certificate(log *slog.Logger) (*certificate, error) {
	if !l.TLS.Named() {
		return nil, nil //nolint:nilnil // see above
	}
	c := &certificate{files: l.TLS, log: log.With("component", "ingest/push")}
	if err := c.load(); err != nil {
		return nil, fmt.Errorf("push.tls: %w", err)
	}
	return c, nil
}

// Open listens there, for at most 2,048 connections at a time. It fails if the
// certificate cannot be used.
func (l Listen) Open(ctx context.Context, log *slog.Logger) (net.Listener, error) {
	cert, err := l.certificate(log)
	if err != nil {
		return nil, err
	}
	ln, err := new(net.ListenConfig).Listen(ctx, "tcp", l.Address)
	if err != nil {
		return nil, fmt.Errorf("push.listen: %s: %w", l.Address, err)
	}
	ln = newBounded(ln, maxConns)
	if cert == nil {
		return ln, nil
	}
	return tls.NewListener(ln, &tls.Config{GetCertificate: cert.get, NextProtos: []string{"http/1.1"}}), nil
}

// maxConns bounds the connections that are open at a time.
const maxConns = 2048

// lookEvery is how often the files of a certificate are looked at, at most: when
// somebody connects.
const lookEvery = 10 * time.Second

// certificate is one that is read anew when its files change.
type certificate struct {
	files TLS
	log   *slog.Logger

	mu       sync.Mutex
	current  *tls.Certificate
	changed  [2]time.Time // of the files
	lookedAt time.Time
}

// load reads the files. The caller holds mu, or is the only one.
func (c *certificate) load() error {
	changed, err := c.times()
	if err != nil {
		return err
	}
	c.changed = changed // also if they are broken: it is said once
	cert, err := tls.LoadX509KeyPair(c.files.Cert, c.files.Key)
	if err != nil {
		return fmt.Errorf("read the certificate %s: %w", c.files.Cert, err)
	}
	c.current = &cert
	return nil
}

func (c *certificate) times() (t [2]time.Time, err error) {
	for i, name := range []string{c.files.Cert, c.files.Key} {
		info, err := os.Stat(name)
		if err != nil {
			return t, err
		}
		t[i] = info.ModTime()
	}
	return t, nil
}

// get returns the certificate for a handshake. When a new one cannot be read the
// old one goes on.
func (c *certificate) get(*tls.ClientHelloInfo) (*tls.Certificate, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if now := time.Now(); now.Sub(c.lookedAt) >= lookEvery {
		c.lookedAt = now
		if changed, err := c.times(); err == nil && changed != c.changed {
			if err := c.load(); err != nil {
				c.log.Error("the new certificate cannot be used; the old one stays", "error", err)
			} else {
				c.log.Info("the certificate was renewed", "file", c.files.Cert)
			}
		}
	}
	return c.current, nil
}

// bounded accepts at most so many connections at a time; others wait in the
// system's queue.
type bounded struct {
	net.Listener
	free   chan struct{}
	closed chan struct{}
	once   sync.Once
}

func newBounded(ln net.Listener, n int) *bounded {
	return &bounded{Listener: ln, free: make(chan struct{}, n), closed: make(chan struct{})}
}

// Accept implements net.Listener.
func (l *bounded) Accept() (net.Conn, error) {
	select {
	case l.free <- struct{}{}:
	case <-l.closed:
		return nil, net.ErrClosed
	}
	c, err := l.Listener.Accept()
	if err != nil {
		<-l.free
		return nil, err
	}
	return &boundedConn{Conn: c, release: sync.OnceFunc(func() { <-l.free })}, nil
}

// Close implements net.Listener.
func (l *bounded) Close() error {
	l.once.Do(func() { close(l.closed) })
	return l.Listener.Close()
}

type boundedConn struct {
	net.Conn
	release func()
}

// Close implements net.Conn.
func (c *boundedConn) Close() error {
	defer c.release()
	return c.Conn.Close()
}
