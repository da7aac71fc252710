// Package collect is the first stage: it parses the lines of each stream,
// normalises them and counts them, and hands tallies over to the detector. It is
// stateless but for positions; everything it does with a line is a pure function
// of the line and the configuration.
package collect

import (
	"bytes"
	"context"
	"errors"
	"log/slog"
	"time"

	"github.com/denywatch/denywatch/ingest"
	"github.com/denywatch/denywatch/internal/access"
	"github.com/denywatch/denywatch/internal/event"
	"github.com/denywatch/denywatch/internal/route"
	"github.com/denywatch/denywatch/internal/tally"
	"github.com/denywatch/denywatch/parsers"
)

// Bounds of one stream's dictionaries. Beyond them values count as tally.Other.
const (
	maxRoutes   = 1 << 15
	maxRoles    = 512
	maxGeos     = 512
	maxPlans    = 128
	maxHosts    = 512
	maxServices = 128
	maxFlags    = 256
	maxCauses   = 256
	// versionIDs is where the numbers of versions begin among those of flags.
	versionIDs = 1 << 31
	maxRules   = 512
)

const (
	// future is how far ahead of the clock a line may be and still move event
	// time on; farFuture how far it may be and still be counted.
	future    = int64(5 * time.Minute)
	farFuture = int64(time.Hour)
	// jump is how far event time may leap in one line. A longer leap is believed
	// when the next line is there too, so that one damaged time stamp does not
	// make everything after it late.
	jump = int64(time.Hour)
	// handEvery is how often counts are handed over at least, by the wall clock.
	handEvery = time.Second
	// handLines is after how many lines they are handed over at the latest.
	handLines = 1 << 17
	// unreset is how long (event time) a full dictionary of routes stays before
	// the stream numbers its leaves anew.
	unreset = int64(time.Hour)
)

// Config is what the streams of one source share. It is not changed after use.
type Config struct {
	// Source is the source's name, Service the service of events that name none.
	Source, Service string
	Vantage         event.Vantage
	// Step is the slot's length in seconds.
	Step int64
	// Denied says per status whether it is a denial.
	Denied [600]bool
	// TrustUser counts a merely claimed user as an identity.
	TrustUser bool
	// RolePriority decides which of several roles counts.
	RolePriority []string
	// SampleRate is how many requests a line stands for that does not say so
	// itself; 0 is 1.
	SampleRate uint32
	// Role, Geo, Plan and Host say which dimensions are part of the leaf.
	Role, Geo, Plan, Host bool
	Routes                *route.Router
	Identity              IdentityKey
	// Ignore are the team's own doings.
	Ignore []Ignore
	// Concealed counts a 404 on a route that is known to exist, from a pattern or
	// the application's own template, as a denial of class Concealed.
	Concealed bool
	// Patterns are the configured route patterns.
	Patterns map[string]bool
	// Explained tells that another log of the same vantage may say why a request
	// was refused.
	Explained bool
	// Access is what is declared of who gets in; nil if nothing is.
	Access *access.Model
	// Country looks a client's address up; nil if nobody can.
	Country func(addr []byte) string
	// Durable tells where a stream stands in the last durable cut; nil where there
	// are no cuts.
	Durable func(stream string) (ingest.Position, bool)
	// NewParser makes the parser of a stream. sample holds the first lines that
	// were delivered, for formats that are recognised by their looks; it dies
	// when the call returns.
	NewParser func(stream string, sample [][]byte) (parsers.Parser, error)
	// Recognise makes another parser of a stream whose lines are not understood
	// any more, by their newest, and says for people what their format is and why;
	// nil where the format is configured. sample dies when the call returns.
	Recognise func(stream string, sample [][]byte) (p parsers.Parser, format string, err error)
	Log       *slog.Logger
}

// Stream counts the lines of one stream. It implements ingest.Handler.
type Stream struct {
	c      *Config
	name   string
	clock  *Clock
	parser parsers.Parser
	ev     event.Event
	out    chan<- *tally.Block
	free   chan *tally.Block

	counter  *tally.Counter
	leaves   leafTable
	routes   *names
	roles    *names
	roleful  bool // a line named a role, or it was told that none does
	geos     *names
	plans    *names
	hosts    *names
	services *names
	flags    fading
	versions fading
	causes   *names
	rules    *names
	cache    []cached // routes by key, direct mapped
	hits     int      // cache entries replaced since it grew
	keys     []tally.Key
	queue    [32]waiting // of the slot counting
	queued   int
	sink     uint64 // keeps the compiler from dropping the early loads
	// counting is the slot that is counted in, from countFrom to before countTo.
	counting           int64
	countFrom, countTo int64
	expected           []expected // by leaf
	ruled              []ruled    // by route
	reset              bool
	fullAt             int64 // event time at which the routes became full; 0

	stats    tally.Stats
	before   uint64 // lines before those in stats
	reasons  []reason
	health   []tally.Health
	slot     int64  // start of the slot of newest; NoTime
	slotEnd  int64  // end of it in nanoseconds
	rolled   uint64 // lines of stats that are in health
	blind    uint64 // lines since then of which no request can be judged
	tooLong  uint64 // lines since then that were too long to be delivered
	pos      ingest.Position
	newest   int64
	leap     int64 // a leap ahead that waits to be believed; NoTime
	state    tally.StreamState
	trouble  string
	changed  bool // position or state changed since the last hand-over
	handed   time.Time
	handSlot int64
	lines    int

	scratch  []byte
	template []byte
	role     []byte
	geo      []byte
	code     [2]byte // of the event's country
	refusal  tally.Refusal
	warned   bool
	forget   bool
	unchosen bool // no format was recognised yet
	astray   Astray
}

// reason counts lines that were skipped or not understood.
type reason struct {
	err  error // one of those that parsers return
	word string
	n    uint64
}

// maxWords bounds the reasons that are told apart between two hand-overs.
const maxWords = 32

type cached struct {
	key   uint64
	route uint32 // 1 + number; 0 free
}

const (
	minCache = 1 << 6
	maxCache = 1 << 14
)

// newStream starts a stream at pos. Blocks are sent to out.
func newStream(c *Config, name string, pos ingest.Position, clock *Clock, out chan<- *tally.Block) *Stream {
	s := &Stream{
		c: c, name: name, clock: clock, out: out, free: make(chan *tally.Block, 2),
		counter: tally.NewCounter(), pos: pos, newest: event.NoTime, leap: event.NoTime, slot: event.NoTime, slotEnd: event.NoTime,
		handed: time.Now(),
		// The stream may have been open before under another numbering.
		reset: true,
	}
	s.free <- &tally.Block{Free: s.free}
	s.free <- &tally.Block{Free: s.free}
	s.dictionaries()
	return s
}

// dictionaries starts the numbering of names and leaves.
func (s *Stream) dictionaries() {
	s.routes = newNames(maxRoutes)
	s.roles = newNames(maxRoles)
	s.geos = newNames(maxGeos)
	s.plans = newNames(maxPlans)
	s.hosts = newNames(maxHosts)
	s.services = newNames(maxServices)
	s.flags = newFading(maxFlags, "", 0)
	s.versions = newFading(maxFlags, tally.VersionFlag, versionIDs)
	s.causes = newNames(maxCauses)
	s.rules = newNames(maxRules)
	s.cache = make([]cached, minCache)
	s.leaves.reset()
	s.expected, s.ruled = s.expected[:0], s.ruled[:0]
	s.fullAt = 0
}

// Batch implements ingest.Handler.
func (s *Stream) Batch(ctx context.Context, b *ingest.Batch) error {
	// A batch without lines says only that the position moved.
	if s.parser == nil && len(b.Data)+len(b.Lines) > 0 {
		s.choose(b)
	}
	s.setState(tally.Reading, "")
	s.pos = b.Start
	s.changed = true
	s.stats.Oversize += uint64(b.Skipped)
	s.tooLong += uint64(b.Skipped)
	at := b.Start.Offset // of the line
	for i, off := 0, 0; i < len(b.Lines) || off < len(b.Data); {
		var line []byte
		if b.Lines != nil {
			line = b.Lines[i]
		} else if n := bytes.IndexByte(b.Data[off:], '\n'); n >= 0 {
			line = b.Data[off : off+n]
		} else {
			line = b.Data[off:] // a reader's mistake, but no reason to lose the line
		}
		s.ev.Reset()
		err := s.parser.Parse(line, &s.ev)
		for i := range b.Fields {
			s.ev.Set(b.Fields[i].Key, b.Fields[i].Value)
		}
		if err == nil && s.ev.Time > s.newest && s.ev.Time != event.NoTime {
			s.pos.Offset = at
			ok, werr := s.advance(ctx, s.ev.Time)
			if werr != nil {
				return werr
			}
			if !ok {
				err = errFuture
			}
		}
		s.lines++
		s.stats.Lines++
		s.stats.Bytes += uint64(len(line) + 1)
		if err == nil {
			s.count()
		} else {
			s.bad(err, line, at)
		}
		if b.Lines != nil {
			i++
			at++
		} else {
			off += len(line) + 1
			at += int64(len(line)) + 1
		}
		if s.lines >= handLines {
			s.pos.Offset = at
			if i >= len(b.Lines) && off >= len(b.Data) {
				s.pos = b.End
			}
			if err := s.hand(ctx); err != nil {
				return err
			}
		}
	}
	s.pos = b.End
	if s.slotOf(s.newest) != s.handSlot || time.Since(s.handed) >= handEvery {
		return s.hand(ctx)
	}
	return nil
}

var errFuture = errors.New("the line's time lies in the future")

// bad counts a line that is no event.
func (s *Stream) bad(err error, line []byte, offset int64) {
	if errors.Is(err, parsers.ErrSkip) {
		s.stats.Skipped++
		s.because(err)
		return
	}
	s.blind++
	if errors.Is(err, errFuture) {
		s.stats.Future++
	} else {
		s.stats.Unparsed++
		if odd := parsers.Encoding(line); odd != nil {
			err = odd
		}
		s.because(err)
	}
	if !s.warned {
		s.warned = true
		s.c.Log.Warn("a line cannot be counted; more of this stream are counted in the metrics, not logged",
			"source", s.c.Source, "stream", s.name, "offset", offset, "reason", err)
	}
	if !errors.Is(err, errFuture) {
		s.misread(line, offset)
	}
}

// Words for reasons that have none of their own.
const (
	noRequest = "no_request" // well-formed, but no request
	explains  = "explains"   // explains a request that another line counts
	other     = "other"
)

// errExplains is the reason of lines that only explain others.
var errExplains = &parsers.Skip{Reason: explains}

// because counts why a line was skipped or not understood.
func (s *Stream) because(err error) {
	for i := range s.reasons {
		if s.reasons[i].err == err { //nolint:errorlint // the very value: errors.Is takes every skip for ErrSkip
			s.reasons[i].n++
			return
		}
	}
	word := other
	var skip *parsers.Skip
	var bad *parsers.LineError
	switch {
	case errors.As(err, &skip):
		word = skip.Reason
	case errors.As(err, &bad):
		word = bad.Reason
	case errors.Is(err, parsers.ErrSkip):
		word = noRequest
	}
	for i := range s.reasons {
		if s.reasons[i].word == word || i == maxWords-1 {
			s.reasons[i].n++
			return
		}
	}
	s.reasons = append(s.reasons, reason{err, word, 1})
}

// roll accounts the lines since the last call to the slot of newest.
func (s *Stream) roll() {
	h := tally.Health{Slot: s.slot, Lines: s.stats.Lines - s.rolled + s.tooLong, Blind: s.blind + s.tooLong}
	s.rolled, s.blind, s.tooLong = s.stats.Lines, 0, 0
	switch n := len(s.health); {
	case h.Lines == 0:
	case n > 0 && s.health[n-1].Slot == h.Slot:
		s.health[n-1].Add(h)
	default:
		s.health = append(s.health, h)
	}
}

// advance moves event time on to t, the time of the line at s.pos, and waits
// while t lies beyond the horizon. It returns false for a line too far in the
// future to be counted at all.
func (s *Stream) advance(ctx context.Context, t int64) (bool, error) {
	if now := s.clock.now(); now != event.NoTime && t > now+future {
		return t <= max(now, s.clock.shown())+farFuture, nil
	}
	if s.newest == event.NoTime || t-s.newest > jump {
		if s.leap == event.NoTime || t < s.leap-jump {
			s.leap = t
			return true, nil
		}
		t = min(t, s.leap)
	}
	s.leap = event.NoTime
	s.newest = max(s.newest, t)
	if s.newest >= s.slotEnd {
		s.roll()
		s.flags.turn()
		s.versions.turn()
		s.slot = s.slotOf(s.newest)
		s.slotEnd = (s.slot + s.c.Step) * int64(time.Second)
	}
	if s.newest <= s.clock.Horizon() {
		return true, nil
	}
	if err := s.hand(ctx); err != nil {
		return false, err
	}
	return true, s.clock.wait(ctx, s.newest)
}

// slotOf is the start of the slot that holds t.
func (s *Stream) slotOf(t int64) int64 {
	if t == event.NoTime {
		return event.NoTime
	}
	sec := t / int64(time.Second)
	if t < 0 {
		sec = (t - int64(time.Second) + 1) / int64(time.Second)
	}
	r := sec % s.c.Step
	if r < 0 {
		r += s.c.Step
	}
	return sec - r
}

// count normalises and counts s.ev.
func (s *Stream) count() {
	e, c := &s.ev, s.c
	if e.Time == event.NoTime {
		s.stats.Untimed++
		s.blind++
		return
	}
	if e.Time <= s.newest {
		s.leap = event.NoTime
	}
	if c.Ignores(e) {
		s.stats.Ignored++
		return
	}
	e.Geo = capitals(e.Geo, &s.code)
	s.roleful = s.roleful || len(e.Roles) > 0
	class, layer := c.classify(e)
	if e.CauseOnly {
		s.stats.Skipped++
		s.because(errExplains)
		if class != event.NotDenied {
			s.enter(e.Time)
			s.counter.Explain(tally.Reason{Keys: c.joinKeys(e, &s.scratch), Layer: layer, Cause: s.cause(e.Cause), Rule: s.rule(e.Rule)})
		}
		return
	}
	names := leafNames{route: s.route(e)}
	if c.Role && len(e.Roles) > 0 {
		role := e.Roles[0]
		if len(e.Roles) > 1 {
			s.role = joinRoles(s.role[:0], e.Roles, c.RolePriority)
			role = s.role
		}
		names.role = s.number(s.roles, role)
	}
	if c.Geo {
		if len(e.Geo) > 0 || c.Country == nil {
			names.geo = s.number(s.geos, e.Geo)
		} else if geo := c.Country(host(e.Client)); geo != "" {
			s.geo = append(s.geo[:0], geo...)
			names.geo = s.number(s.geos, s.geo)
		}
	}
	if c.Plan {
		names.plan = s.number(s.plans, e.Plan)
	}
	if c.Host {
		names.host = s.number(s.hosts, e.Host)
	}
	names.service = s.number(s.services, e.Service)
	id, account, named := c.Identity.identity(e, c.TrustUser, &s.scratch)
	s.enter(e.Time)
	weight := e.Weight
	if weight == 0 {
		weight = max(c.SampleRate, 1)
	}
	if class == event.NotDenied && c.Access == nil && len(e.Flags)+len(e.Version) == 0 {
		if e.Status == 0 {
			s.blind++
		}
		s.queue[s.queued] = waiting{names: names, key: names.key(), identity: id, weight: weight, status: tally.StatusOf(e.Status)}
		if s.queued++; s.queued == len(s.queue) {
			s.drain()
		}
		return
	}
	leaf := s.leaf(&names, names.key())
	var breach access.Decision
	if c.Access != nil {
		class, breach = s.declared(leafID{leaf, names}, class)
	}
	var r *tally.Refusal
	if class != event.NotDenied || breach.Rule != 0 {
		r = &s.refusal
		*r = tally.Refusal{
			Class: class, Layer: layer, Cause: s.cause(e.Cause), ByRule: s.rule(e.Rule), Identity: id, Account: account, Named: named,
			Rule: breach.Rule, Presumed: breach.Presumed,
		}
		if c.Explained && r.Cause == "" && class != event.NotDenied {
			r.Keys = c.joinKeys(e, &s.scratch)
		}
	}
	if e.Status == 0 && r == nil {
		s.blind++
	}
	s.counter.Add(leaf, tally.StatusOf(e.Status), weight, id, r)
	denied := class != event.NotDenied && class != event.Valid
	for _, f := range e.Flags {
		s.flag(&s.flags, f, leaf, weight, denied)
	}
	if len(e.Version) > 0 {
		s.flag(&s.versions, e.Version, leaf, weight, denied)
	}
}

// waiting is an event whose leaf is still to be found. Nothing was refused, and
// nothing is asked of it but to be counted.
type waiting struct {
	names         leafNames
	key, identity uint64
	weight        uint32
	status        tally.Status
}

// enter makes the slot that holds t the one that is counted in.
func (s *Stream) enter(t int64) {
	if t < s.countFrom || t >= s.countTo {
		s.drain()
		s.counting = s.slotOf(t)
		s.countFrom = s.counting * int64(time.Second)
		s.countTo = s.countFrom + s.c.Step*int64(time.Second)
	}
	s.counter.Slot(s.counting)
}

// drain counts the waiting events. Finding their leaves is a random access to a
// large table each, so all of them are begun before the first is needed.
func (s *Stream) drain() {
	q := s.queue[:s.queued]
	s.queued = 0
	if len(q) == 0 {
		return
	}
	s.leaves.ready()
	early := uint64(0)
	for i := range q {
		early += s.leaves.ents[s.leaves.home(q[i].key)].key
	}
	s.sink = early
	for i := range q {
		w := &q[i]
		s.counter.Add(s.leaf(&w.names, w.key), w.status, w.weight, w.identity, nil)
	}
}

// leaf is the number of the leaf with these names and their key.
func (s *Stream) leaf(n *leafNames, key uint64) uint32 {
	leaf, fresh := s.leaves.find(key)
	if fresh {
		s.keys = append(s.keys, tally.Key{
			Service: s.service(n.service), Route: s.routes.list[n.route], Role: s.roles.list[n.role],
			Geo: s.geos.list[n.geo], Plan: s.plans.list[n.plan], Host: s.hosts.list[n.host],
		})
	}
	return leaf
}

// flag counts an event that had a flag on, or was answered by a version.
func (s *Stream) flag(of *fading, value []byte, leaf, weight uint32, denied bool) {
	id, name, folded := of.id(value)
	if folded {
		s.stats.Folded++
	}
	s.counter.Flag(leaf, id, name, weight, denied)
}

// service is the name of a numbered service.
func (s *Stream) service(id uint32) string {
	if name := s.services.list[id]; name != "" {
		return name
	}
	return s.c.Service
}

// isDenied reports whether a status is configured as a denial.
func (c *Config) isDenied(status uint16) bool { return int(status) < len(c.Denied) && c.Denied[status] }

// classify tells the class of a denial and who refused, as far as one line can.
func (c *Config) classify(e *event.Event) (class event.Denial, by event.Layer) {
	class, by = e.Denial, e.Layer
	inner := e.Upstream == event.UpstreamAnswered && c.isDenied(e.UpstreamStatus)
	switch {
	case class != event.NotDenied || e.CauseOnly:
	case c.isDenied(e.Status):
		switch e.Status {
		case 401:
			class = event.Unauthorized
		case 402:
			class = event.Payment
		default:
			class = event.Refused
		}
	case c.isDenied(e.OriginalStatus):
		class = event.Masked // by whom is not told
	case inner:
		class = event.Masked
		if by == event.LayerUnknown && c.Vantage != event.Edge {
			by = event.LayerApp // whoever is behind the server that masked it
		}
	case e.Status == 404 && c.Concealed && c.known(e):
		class = event.Concealed
	}
	if class != event.NotDenied && by == event.LayerUnknown && !e.CauseOnly && class != event.Masked {
		by = layer(c.Vantage, e)
	}
	return class, by
}

// known reports whether e's route is one that somebody says exists.
func (c *Config) known(e *event.Event) bool {
	if len(e.Route) > 0 {
		return true
	}
	if len(c.Patterns) == 0 {
		return false
	}
	path := route.Path(e.Path)
	_, end := c.Routes.Key(path, nil)
	return c.Patterns[string(c.Routes.Template(nil, path[:end], nil))]
}

func (s *Stream) number(n *names, b []byte) uint32 {
	id, folded := n.id(b)
	if folded {
		s.stats.Folded++
	}
	return id
}

// route numbers the event's template.
func (s *Stream) route(e *event.Event) uint32 {
	path := route.Path(e.Path)
	key, end := s.c.Routes.Key(path, e.Route)
	c := &s.cache[key&uint64(len(s.cache)-1)]
	if c.key == key && c.route != 0 {
		return c.route - 1
	}
	s.template = s.c.Routes.Template(s.template[:0], path[:end], e.Route)
	id, ok := s.routes.ids[string(s.template)]
	if !ok {
		if len(s.template) == 0 {
			return 0 // garbage where a request line should be
		}
		t := string(s.template)
		var folded bool
		if id, folded = s.routes.add(t, t); folded {
			s.stats.Folded++
			if s.fullAt == 0 {
				s.fullAt = e.Time
			}
			return id
		}
	}
	if c.route != 0 {
		if s.hits++; s.hits > len(s.cache) && len(s.cache) < maxCache {
			old := s.cache
			s.cache, s.hits = make([]cached, 4*len(old)), 0
			for _, x := range old {
				if x.route != 0 {
					s.cache[x.key&uint64(len(s.cache)-1)] = x
				}
			}
			c = &s.cache[key&uint64(len(s.cache)-1)]
		}
	}
	*c = cached{key, id + 1}
	return id
}

// cause keeps a denial's reason only if it is a token such as "acl" or
// "missing_scope": free text may hold names and addresses.
func (s *Stream) cause(b []byte) string {
	if len(b) == 0 || len(b) > maxName {
		return ""
	}
	for _, c := range b {
		switch {
		case c >= 'a' && c <= 'z', c >= 'A' && c <= 'Z', c >= '0' && c <= '9', c == '_', c == '-', c == '.', c == ':', c == '/':
		default:
			return ""
		}
	}
	return s.causes.list[s.number(s.causes, b)]
}

// rule keeps the name of the rule that refused, made fit for messages.
func (s *Stream) rule(b []byte) string {
	if len(b) == 0 {
		return ""
	}
	return s.rules.list[s.number(s.rules, b)]
}

// layer tells who refused, as far as one line can (formats, section 8): a server
// that asked another one and got the same answer only passed it on.
func layer(v event.Vantage, e *event.Event) event.Layer {
	switch v {
	case event.App:
		return event.LayerApp
	case event.Edge:
		switch {
		case e.Upstream == event.UpstreamNone:
			return event.LayerEdge
		case e.Upstream == event.UpstreamAnswered && e.UpstreamStatus != e.Status:
			return event.LayerEdge
		}
		return event.LayerUnknown // the origin: its web server or the application
	}
	switch {
	case e.Upstream == event.UpstreamNone:
		return event.LayerWeb
	case e.Upstream == event.UpstreamAnswered && e.UpstreamStatus != e.Status:
		return event.LayerWeb
	case e.Upstream == event.UpstreamAnswered:
		return event.LayerApp
	}
	return event.LayerUnknown
}

func (s *Stream) setState(st tally.StreamState, trouble string) {
	if s.state != st || s.trouble != trouble {
		s.state, s.trouble, s.changed = st, trouble, true
	}
}

// hand sends what was counted since the last time to the detector.
func (s *Stream) hand(ctx context.Context) error {
	s.drain()
	var b *tally.Block
	select {
	case b = <-s.free:
	case <-ctx.Done():
		return ctx.Err()
	}
	s.counter.Take(b)
	b.Stream, b.Source, b.Vantage = s.name, s.c.Source, s.c.Vantage
	b.Keys = append(b.Keys[:0], s.keys...)
	b.Reset = s.reset
	b.Stats = s.stats
	s.roll()
	b.Health, s.health = append(b.Health[:0], s.health...), s.health[:0]
	b.Uncounted = b.Uncounted[:0]
	for i := range s.reasons {
		b.Uncounted = append(b.Uncounted, tally.Uncounted{Reason: s.reasons[i].word, N: s.reasons[i].n})
	}
	s.reasons = s.reasons[:0]
	s.before, s.rolled = s.before+s.stats.Lines, 0
	s.missRoles()
	b.Newest = s.newest
	b.State, b.Clock, b.Trouble = s.state, s.clock.now(), s.trouble
	b.Position, b.Forget = s.pos, s.forget
	s.keys, s.reset, s.stats = s.keys[:0], false, tally.Stats{}
	s.changed, s.lines = false, 0
	s.handed, s.handSlot = time.Now(), s.slotOf(s.newest)
	if s.fullAt != 0 && s.newest-s.fullAt > unreset {
		s.counter.Reset()
		s.dictionaries()
		s.reset = true
	} else {
		s.counter.Forget(s.clock.Closed(s.c.Vantage))
	}
	select {
	case s.out <- b:
		return nil
	case <-ctx.Done():
		// What was taken must not be lost while the detector still runs: it takes
		// blocks until every stream is closed.
		s.out <- b
		return nil
	}
}

// CaughtUp implements ingest.Handler.
func (s *Stream) CaughtUp(ctx context.Context) error {
	s.setState(tally.CaughtUp, "")
	s.drain()
	if !s.changed && !s.counter.Dirty() && time.Since(s.handed) < handEvery {
		return nil
	}
	return s.hand(ctx)
}

// Unknown implements ingest.Handler.
func (s *Stream) Unknown(err error) {
	s.setState(tally.Unknown, err.Error())
	if s.changed {
		_ = s.hand(context.Background())
	}
}

// Close implements ingest.Handler.
func (s *Stream) Close(ctx context.Context, forget bool) error {
	if s.forget = forget; forget {
		s.setState(tally.Ended, "")
	} else {
		s.setState(tally.Unknown, "reading has stopped")
	}
	return s.hand(ctx)
}

// Leave implements ingest.Handler.
func (s *Stream) Leave(ctx context.Context) error {
	s.setState(tally.Ended, "")
	return s.hand(ctx)
}
