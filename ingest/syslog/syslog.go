// Package syslog listens for log lines that servers send as syslog messages: Nginx's
// access_log syslog:server=, HAProxy's log, rsyslog and the like. The message is kept
// as it came, RFC 3164 or 5424; the parser's wrapper "syslog" takes the line out of
// it.
//
// # What can be lost
//
// Syslog has no acknowledgement. Messages are gathered for a tenth of a second,
// written to a spool and synced; from then on they are counted exactly once, as
// package spool promises. Before that:
//
//   - What is sent while nobody listens is lost: during a restart, and for the
//     moments that a reload of the configuration takes.
//   - UDP: so is what the system drops because it comes faster than it is taken
//     (the receive buffer is asked to be 4 MiB; net.core.rmem_max bounds it), and
//     what comes when the spool is full, which is counted.
//   - TCP: a full spool makes senders wait. What the system has taken from a sender
//     when the process is killed is lost.
//
// Senders are not asked who they are. Messages may be up to 64 KiB long over UDP and
// 256 KiB over TCP, newlines within one become spaces, and at most 256 connections are
// open at a time; others are refused, counted and said. One is closed after an hour
// without a message, or a minute in the middle of one.
//
// A server that is silent has nothing to say, as far as anybody can tell, so event
// time follows the clock as for a file.
package syslog

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"net/url"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/time/rate"

	"github.com/denywatch/denywatch/ingest"
	"github.com/denywatch/denywatch/ingest/spool"
)

const (
	// DefaultSpool is the usual bound of a source's spool.
	DefaultSpool = 2 << 30

	minSpool, maxSpool = 256 << 20, 1 << 40
	maxListen          = 16

	// gatherTime is how long messages are gathered for one sync, gatherSize how
	// many bytes are held while the disk is busy or full.
	gatherTime = 100 * time.Millisecond
	gatherSize = 8 << 20
	// retryTime is how long it is until what failed is tried again.
	retryTime = time.Second
	// receiveBuffer is what the system is asked to keep of datagrams.
	receiveBuffer = 4 << 20
	maxDatagram   = 64 << 10
	maxMessage    = 256 << 10
	maxConns      = 256
	idleTime      = time.Hour
	messageTime   = time.Minute
)

// Config says where a Source listens.
type Config struct {
	// Name is the source's name, Dir the folder of its spool.
	Name, Dir string
	// Listen are addresses such as udp://127.0.0.1:5514 or tcp://127.0.0.1:5514.
	Listen []string
	// Spool bounds what waits to be counted, in bytes.
	Spool int64
	// MaxLine is the longest message that is read; longer ones are skipped and
	// counted.
	MaxLine int
}

// Validate returns all problems of what c says of addresses and limits, each naming
// its field as in YAML. It does no I/O.
func (c Config) Validate() []error {
	var errs []error
	bad := func(format string, args ...any) { errs = append(errs, fmt.Errorf(format, args...)) }
	if len(c.Listen) == 0 {
		bad("listen: no address is named; give one such as udp://127.0.0.1:5514")
	}
	if len(c.Listen) > maxListen {
		bad("listen: more than %d addresses", maxListen)
	}
	for i, l := range c.Listen {
		if _, _, err := address(l); err != nil {
			bad("listen[%d]: must be udp:// or tcp:// with an IP address and a port, such as udp://127.0.0.1:5514", i)
		} else if slices.Index(c.Listen, l) < i {
			bad("listen[%d]: is the same as listen[%d]", i, slices.Index(c.Listen, l))
		}
	}
	if c.Spool < minSpool || c.Spool > maxSpool {
		bad("spool: must be between 256MiB and 1TiB (2GiB is usual)")
	}
	return errs
}

// Exposed reports whether other hosts reach a valid address.
func Exposed(listen string) bool {
	_, at, err := address(listen)
	return err == nil && !at.Addr().IsLoopback()
}

// address takes an address apart.
func address(listen string) (network string, at netip.AddrPort, err error) {
	u, err := url.Parse(listen)
	if err != nil {
		return "", at, err
	}
	if u.Scheme != "udp" && u.Scheme != "tcp" || strings.Trim(u.Path, "/") != "" || u.User != nil || u.RawQuery != "" {
		return "", at, errors.New("not udp://address:port or tcp://address:port")
	}
	at, err = netip.ParseAddrPort(strings.Replace(u.Host, "localhost:", "127.0.0.1:", 1))
	return u.Scheme, at, err
}

// Source reads what is sent to its addresses. It implements ingest.Source.
type Source struct {
	cfg Config
	log *slog.Logger

	spool           atomic.Pointer[spool.Spool] // nil while Run does not run
	messages, bytes atomic.Uint64
	full, tooLong   atomic.Uint64
	connections     atomic.Int64
	refused         atomic.Uint64
	said            rate.Sometimes

	mu       sync.Mutex
	troubles map[string]string // by address that cannot be listened on
	bound    []net.Addr        // what is listened on now
}

var _ ingest.Source = (*Source)(nil)

// New returns a Source of a valid Config (see Config.Validate). It listens to nothing
// yet.
func New(cfg Config, log *slog.Logger) *Source {
	return &Source{cfg: cfg, log: log.With("component", "ingest/syslog"), said: rate.Sometimes{First: 1, Interval: time.Minute}, troubles: map[string]string{}}
}

// Stats is what is known of a source since it was made.
type Stats struct {
	// Messages and Bytes count what was taken.
	Messages, Bytes uint64
	// Dropped counts what was not, by reason: full (the spool is, and it came over
	// UDP) and too_long.
	Dropped map[string]uint64
	// Connections is how many are open, Refused counts those that were one too many.
	Connections int64
	Refused     uint64
	// Trouble says why an address cannot be listened on; empty: all can.
	Trouble string
	// Spool is what waits.
	Spool spool.Stats
}

// Stats may be called at any time by any goroutine.
func (s *Source) Stats() Stats {
	st := Stats{
		Messages: s.messages.Load(), Bytes: s.bytes.Load(), Connections: s.connections.Load(), Refused: s.refused.Load(),
		Dropped: map[string]uint64{"full": s.full.Load(), "too_long": s.tooLong.Load()},
	}
	if sp := s.spool.Load(); sp != nil {
		st.Spool = sp.Stats()
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	var all []string
	for _, l := range s.cfg.Listen {
		if t := s.troubles[l]; t != "" {
			all = append(all, t)
		}
	}
	st.Trouble = strings.Join(all, "; ")
	return st
}

// Run implements ingest.Source. It returns an error only when the spool cannot be
// read or the host cannot open the stream. An address that cannot be listened on is
// tried again and again.
func (s *Source) Run(ctx context.Context, host ingest.Host) error {
	sp, err := spool.Open(s.cfg.Dir, spool.Options{MaxBytes: s.cfg.Spool, MaxLine: s.cfg.MaxLine}, s.log)
	if err != nil {
		return err
	}
	s.spool.Store(sp)
	ctx, stop := context.WithCancel(ctx)
	g := newGatherer(s, sp)
	var listening, writing sync.WaitGroup
	for _, l := range s.cfg.Listen {
		listening.Go(func() { s.listen(ctx, l, g) })
	}
	writing.Go(g.write)
	err = sp.Follow(ctx, host, s.cfg.Name, func() error { return nil })
	// What was taken is kept, though nobody reads it now.
	stop()
	g.stop()
	listening.Wait()
	writing.Wait()
	s.spool.Store(nil)
	return errors.Join(err, sp.Close())
}

// listen listens on one address until ctx ends.
func (s *Source) listen(ctx context.Context, at string, g *gatherer) {
	network, addr, _ := address(at) // it was validated
	for ctx.Err() == nil {
		err := s.receive(ctx, network, addr.String(), at, g)
		if ctx.Err() != nil {
			return
		}
		s.trouble(at, err)
		select {
		case <-time.After(retryTime):
		case <-ctx.Done():
		}
	}
}

// trouble notes why an address cannot be listened on, nil if it can, and says it once.
func (s *Source) trouble(at string, err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	text := ""
	if err != nil {
		text = err.Error()
	}
	if s.troubles[at] == text {
		return
	}
	s.troubles[at] = text
	if err != nil {
		s.log.Error("cannot listen for syslog; trying again", "listen", at, "error", err)
	}
}

// listens notes what is listened on.
func (s *Source) listens(at string, a net.Addr) (over func()) {
	s.trouble(at, nil)
	s.log.Info("listening for syslog", "listen", at)
	s.mu.Lock()
	defer s.mu.Unlock()
	s.bound = append(s.bound, a)
	return func() {
		s.mu.Lock()
		defer s.mu.Unlock()
		s.bound = slices.DeleteFunc(s.bound, func(b net.Addr) bool { return b == a })
	}
}

// receive takes what is sent to an address until ctx ends or something fails.
func (s *Source) receive(ctx context.Context, network, addr, at string, g *gatherer) error {
	lc := new(net.ListenConfig)
	if network == "udp" {
		conn, err := lc.ListenPacket(ctx, network, addr)
		if err != nil {
			return err
		}
		defer context.AfterFunc(ctx, func() { _ = conn.Close() })()
		defer func() { _ = conn.Close() }() // it may be closed already
		udp, ok := conn.(*net.UDPConn)
		if !ok {
			return fmt.Errorf("%T is no UDP socket", conn)
		}
		_ = udp.SetReadBuffer(receiveBuffer) // what the system grants
		defer s.listens(at, udp.LocalAddr())()
		return s.datagrams(udp, g)
	}
	ln, err := lc.Listen(ctx, network, addr)
	if err != nil {
		return err
	}
	defer context.AfterFunc(ctx, func() { _ = ln.Close() })()
	defer func() { _ = ln.Close() }()
	defer s.listens(at, ln.Addr())()
	return s.accept(ctx, ln, g)
}

// datagrams takes messages from a UDP socket.
func (s *Source) datagrams(conn *net.UDPConn, g *gatherer) error {
	buf := make([]byte, maxDatagram)
	for {
		n, _, err := conn.ReadFromUDPAddrPort(buf)
		if err != nil {
			return err
		}
		if m := trim(buf[:n]); len(m) > 0 && !g.offer(m) {
			s.full.Add(1)
		}
	}
}

// accept takes connections, each on a goroutine of its own.
func (s *Source) accept(ctx context.Context, ln net.Listener, g *gatherer) error {
	var wg sync.WaitGroup
	defer wg.Wait()
	ctx, stop := context.WithCancel(ctx)
	defer stop()
	for {
		conn, err := ln.Accept()
		if err != nil {
			return err
		}
		if s.connections.Add(1) > maxConns {
			s.connections.Add(-1)
			_ = conn.Close() // its sender tries again
			n := s.refused.Add(1)
			s.said.Do(func() {
				s.log.Warn("a syslog connection was refused, and what it brings is lost: too many are open", "listen", ln.Addr().String(), "most", maxConns, "count", n)
			})
			continue
		}
		wg.Go(func() {
			defer s.connections.Add(-1)
			defer context.AfterFunc(ctx, func() { _ = conn.Close() })()
			defer func() { _ = conn.Close() }()
			s.connection(conn, g)
		})
	}
}

// connection takes the messages of one connection until it ends.
func (s *Source) connection(conn net.Conn, g *gatherer) {
	f := framer{most: maxMessage}
	buf := make([]byte, 4<<10)
	have := 0
	for {
		if have == len(buf) { // a message and its count fit
			grown := make([]byte, min(2*len(buf), maxMessage+maxDigits+1))
			copy(grown, buf)
			buf = grown
		}
		wait := idleTime
		if have > 0 {
			wait = messageTime
		}
		_ = conn.SetReadDeadline(time.Now().Add(wait)) // it fails only on a closed one
		n, err := conn.Read(buf[have:])
		have += n
		used := 0
		for {
			m, n := f.next(buf[used:have])
			if n == 0 {
				break
			}
			used += n
			if m = trim(m); len(m) > 0 && !g.add(m) {
				return // stopped
			}
		}
		have = copy(buf, buf[used:have])
		s.tooLong.Add(f.tooLong)
		f.tooLong = 0
		if err != nil {
			// The last message may lack its newline; a counted one that lacks
			// something is none.
			if m := trim(buf[:have]); len(m) > 0 && m[0] == '<' && !f.line {
				g.add(m)
			}
			return
		}
	}
}

// gatherer gathers messages for the spool.
type gatherer struct {
	src *Source
	sp  *spool.Spool

	mu      sync.Mutex
	changed *sync.Cond
	buf     []byte
	n       uint64
	over    bool
}

func newGatherer(src *Source, sp *spool.Spool) *gatherer {
	g := &gatherer{src: src, sp: sp}
	g.changed = sync.NewCond(&g.mu)
	return g
}

// offer takes a message unless there is no room.
func (g *gatherer) offer(m []byte) bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	if len(g.buf)+len(m) >= gatherSize || g.over {
		return false
	}
	g.put(m)
	return true
}

// add takes a message when there is room; false if there never will be.
func (g *gatherer) add(m []byte) bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	for len(g.buf)+len(m) >= gatherSize && !g.over {
		g.changed.Wait()
	}
	if g.over {
		return false
	}
	g.put(m)
	return true
}

func (g *gatherer) put(m []byte) {
	if len(g.buf) == 0 {
		g.changed.Broadcast()
	}
	at := len(g.buf)
	g.buf = append(append(g.buf, m...), '\n')
	for line := g.buf[at : len(g.buf)-1]; ; {
		i := bytes.IndexByte(line, '\n')
		if i < 0 {
			break
		}
		line[i] = ' '
		line = line[i+1:]
	}
	g.n++
}

// stop makes write end when it has written everything.
func (g *gatherer) stop() {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.over = true
	g.changed.Broadcast()
}

// write writes what is gathered until stop.
func (g *gatherer) write() {
	var spare []byte
	for {
		g.mu.Lock()
		for len(g.buf) == 0 && !g.over {
			g.changed.Wait()
		}
		over := g.over
		g.mu.Unlock()
		if !over {
			time.Sleep(gatherTime)
		}
		g.mu.Lock()
		buf, n := g.buf, g.n
		g.buf, g.n = spare[:0], 0
		g.changed.Broadcast()
		g.mu.Unlock()
		if len(buf) == 0 {
			return // over, and all is written
		}
		for {
			_, err := g.sp.Append(context.Background(), &spool.Batch{Body: [][]byte{buf}})
			if err == nil {
				g.src.messages.Add(n)
				g.src.bytes.Add(uint64(len(buf)))
				break
			}
			g.mu.Lock()
			over = g.over
			g.mu.Unlock()
			if over {
				g.src.full.Add(n)
				break
			}
			time.Sleep(retryTime)
		}
		if spare = buf; cap(spare) > gatherSize/4 {
			spare = nil
		}
	}
}
