// Package kafka reads topics of a Kafka cluster: each message is a line. It
// delivers every committed message exactly once and in the order of its
// partition, over restarts and rebalances, as far as the exceptions below allow.
//
// # Positions
//
// A stream is a partition; its position is the offset of the next message, kept
// by the host together with what was counted. At the start of a process that
// position wins over what the group has committed: the two may differ, and only
// one of them is about our counts. Offsets are committed behind the durable cut
// that holds them, so that other members, and people who watch the group's lag,
// see what is safe. A partition that comes back from another member goes on
// behind whichever of the two is further.
//
// The offset is looked for in the log before it is used. If the log begins
// behind it, messages were deleted before they were read: that is a gap, counted
// and said. Offsets that hold no message of ours (compacted away, transactions'
// marks, transactions that were aborted) are no gap; only what is committed is
// read. A topic that was deleted and created again is recognised by its leader's
// epoch and its end, and read from its start.
//
// # Lines
//
// A message's value is one line, of any format. Newlines at its end are cut off,
// those inside become spaces: what holds them is nearly always JSON, to which
// they are the same. A value that is empty or longer than Config.MaxLine is
// counted and left out. So is a batch whose checksum is wrong twice in a row,
// and one of the formats before Kafka 0.11, which Kafka 4 cannot store.
//
// What a line does not say may stand beside it: the topic, the key and headers of
// a message give fields of the event (Config.Fields), and win over the line.
// Messages that say the same are joined into one ingest.Batch, so that this costs
// a comparison a message, and nothing where no field is configured.
//
// # Cost
//
// The whole daemon, detection included, takes about 0.6 to 0.7 times the CPU of a
// program that only calls kafka-go's FetchMessage for the same messages (combined
// lines, one partition; 0.75 compressed by zstd, 0.7 to 0.8 with six partitions):
// BenchmarkKafka in internal/e2e, with -benchtime 3x. A message costs
// about 70 ns here, and no allocation.
//
// # Alone
//
// With Config.Alone the group has no members: the process reads all partitions itself
// because somebody else makes sure that no other one reads them. Offsets are committed
// to the group for those who watch its lag.
//
// # Limits
//
//   - Members of one group that do not share their positions each count what
//     they read; a member that is killed leaves to the next one what it read
//     after its last commit.
//   - Two clusters with topics of the same name cannot be read by one process.
//   - Topics deleted and created again that have as many messages as before,
//     and the same leader epoch, are taken for the old ones.
package kafka

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"path"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	kafkago "github.com/segmentio/kafka-go"
	"github.com/segmentio/kafka-go/protocol/metadata"

	"github.com/denywatch/denywatch/ingest"
)

// streamPrefix begins every stream name; topic, slash and partition follow. A
// topic without partition stands for troubles that concern it as a whole.
const streamPrefix = "kafka:"

// timing is how long things may take.
type timing struct {
	session, rebalance, heartbeat time.Duration // of the group
	rejoin                        time.Duration // pause after the group failed
	request                       time.Duration // one request, beyond what the broker may wait
	wait                          time.Duration // for the first message; at most a second, see ingest.Handler.CaughtUp
	commit                        time.Duration // between two commits
	watch                         time.Duration // between two looks at what topics there are
	settle                        time.Duration // for a cut, before a partition is given away
	retryMin, retryMax            time.Duration // pause after a trouble
	transaction                   time.Duration // an open one may hold messages back before it is a trouble
}

// usual is the timing that users get. The session is short enough that another
// member takes over before anybody waits for an alert, and longer than a broker's
// restart of connections.
var usual = timing{
	session: 15 * time.Second, rebalance: 15 * time.Second, heartbeat: 3 * time.Second, rejoin: time.Second,
	request: 10 * time.Second, wait: 500 * time.Millisecond, commit: 5 * time.Second, watch: 30 * time.Second,
	settle: 3 * time.Second, retryMin: 250 * time.Millisecond, retryMax: 10 * time.Second,
	transaction: 10 * time.Second,
}

// Source reads the topics of a Config as a member of its group. It implements
// ingest.Source.
type Source struct {
	cfg     Config
	log     *slog.Logger
	timing  timing
	buffers sync.Pool

	mu     sync.Mutex
	counts map[string]*counters // by stream
	absent map[string]string    // what to do about a topic that does not exist
}

var _ ingest.Source = (*Source)(nil)

// New returns a Source for a valid cfg (see Config.Validate). It connects to
// nothing yet. log gets the attributes component and, per partition, topic and
// partition.
func New(cfg Config, log *slog.Logger) *Source {
	return &Source{
		cfg: cfg.withDefaults(), log: log.With("component", "ingest/kafka"), timing: usual,
		buffers: sync.Pool{New: func() any { return new([]byte) }},
		counts:  map[string]*counters{},
		absent:  map[string]string{},
	}
}

// counters is what is known of a partition. They are kept while the process
// runs, whoever reads it meanwhile.
type counters struct {
	topic         string
	id            int
	read          atomic.Bool // by this member, now
	position, end atomic.Int64
	messages      atomic.Uint64
	bytes         atomic.Uint64
	gaps, missed  atomic.Uint64
	poison        map[string]*atomic.Uint64 // by reason; never changed
	warned        atomic.Bool
}

// Partition is what is known of a partition that this process reads or has read.
type Partition struct {
	Topic string
	ID    int
	// Reading tells that it is assigned to this member now.
	Reading bool
	// Position is the offset of the next message to read, End the one behind the
	// last message there is.
	Position, End int64
	// Messages and Bytes count what was read, poison included.
	Messages, Bytes uint64
	// Gaps counts how often messages were deleted before they were read, Missed
	// those messages; compaction and transactions leave fewer than Missed says.
	Gaps, Missed uint64
	// Poison counts what no line could be made of, by reason: empty, too_large,
	// and whole batches that are damaged or of an old_format.
	Poison map[string]uint64
}

// Lag is how many messages are not read yet.
func (p Partition) Lag() int64 { return max(p.End-p.Position, 0) }

// Partitions returns what is known of each partition, by topic and number. It may
// be called at any time by any goroutine.
func (s *Source) Partitions() []Partition {
	s.mu.Lock()
	defer s.mu.Unlock()
	out := make([]Partition, 0, len(s.counts))
	for _, c := range s.counts {
		p := Partition{
			Topic: c.topic, ID: c.id, Reading: c.read.Load(), Position: c.position.Load(), End: c.end.Load(),
			Messages: c.messages.Load(), Bytes: c.bytes.Load(), Gaps: c.gaps.Load(), Missed: c.missed.Load(), Poison: map[string]uint64{},
		}
		for reason, n := range c.poison {
			p.Poison[reason] = n.Load()
		}
		out = append(out, p)
	}
	slices.SortFunc(out, func(a, b Partition) int {
		if c := strings.Compare(a.Topic, b.Topic); c != 0 {
			return c
		}
		return a.ID - b.ID
	})
	return out
}

// Missing tells of each named topic that does not exist what to do about it,
// sorted. Such a topic holds nothing back: nothing was written to it. It may be
// called at any time by any goroutine.
func (s *Source) Missing() []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Sorted(maps.Values(s.absent))
}

// exists notes whether a topic does; err says what to do if not.
func (s *Source) exists(topic string, err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if err == nil {
		delete(s.absent, topic)
	} else {
		s.absent[topic] = err.Error()
	}
}

// counter returns the counters of a partition.
func (s *Source) counter(topic string, id int) *counters {
	s.mu.Lock()
	defer s.mu.Unlock()
	stream := streamOf(topic, id)
	c := s.counts[stream]
	if c == nil {
		c = &counters{topic: topic, id: id, poison: map[string]*atomic.Uint64{
			poisonEmpty: {}, poisonTooLarge: {}, poisonDamaged: {}, poisonOld: {},
		}}
		s.counts[stream] = c
	}
	return c
}

// runner is one call of Run.
type runner struct {
	*Source
	ctx     context.Context
	host    ingest.Host
	cluster *cluster
	first   bool // the very first run
	joined  bool // there was a generation before

	parts    map[string]*partition     // those that are open, by stream
	troubles map[string]ingest.Handler // by topic, while something is wrong with it
	said     map[string]string         // what was last logged of a topic
	// reading are the goroutines of a generation. The group waits for them too, but
	// not for those that are started when the generation is over already.
	reading sync.WaitGroup
}

// Run implements ingest.Source. It returns an error only when the host cannot open
// a stream.
func (s *Source) Run(ctx context.Context, host ingest.Host) error {
	cl, err := newCluster(s.cfg, s.timing.request)
	if err != nil {
		return err
	}
	r := &runner{
		Source: s, ctx: ctx, host: host, cluster: cl, first: true,
		parts: map[string]*partition{}, troubles: map[string]ingest.Handler{}, said: map[string]string{},
	}
	defer r.close()
	for _, stream := range host.Saved() {
		if name, ours := strings.CutPrefix(stream, streamPrefix); ours && !strings.Contains(name, "/") {
			// A trouble of an earlier run that was killed in it.
			if err := r.trouble(name, errors.New("the topic is looked for")); err != nil {
				return r.unless(err)
			}
			r.settled(name)
		}
		at, _ := host.Durable(stream)
		r.first = r.first && len(at.Mark) == 0
	}
	for ctx.Err() == nil {
		topics, err := r.discover(ctx)
		if err == nil && len(topics) > 0 {
			err = r.serve(topics)
		}
		if err != nil && ctx.Err() == nil {
			if errors.Is(err, errHost) {
				return err
			}
			if err := r.broken(err); err != nil {
				return r.unless(err)
			}
		}
		if err != nil || len(topics) == 0 {
			r.host.Ready() // there is nothing more to open until somebody mends it
			pause(ctx, r.timing.rejoin)
		}
	}
	return nil
}

// errHost marks errors of the host.
var errHost = errors.New("the host cannot open a stream")

// unless returns err unless Run was asked to end: then it does not matter what
// broke off.
func (r *runner) unless(err error) error {
	if r.ctx.Err() != nil {
		return nil //nolint:nilerr // an end that was asked for is none
	}
	return err
}

func pause(ctx context.Context, d time.Duration) {
	select {
	case <-time.After(d):
	case <-ctx.Done():
	}
}

// close ends everything; positions are kept.
func (r *runner) close() {
	ctx := context.WithoutCancel(r.ctx)
	for _, p := range r.parts {
		p.count.read.Store(false)
		_ = p.handler.Close(ctx, false) // it fails only when ctx ends
	}
	for _, h := range r.troubles {
		_ = h.Close(ctx, true)
	}
}

// broken tells that the cluster or the group cannot be reached: on the streams
// that are open, else on those of the topics.
func (r *runner) broken(err error) error {
	r.say("", slog.LevelError, "the Kafka cluster cannot be used; trying again", err)
	for _, p := range r.parts {
		p.handler.Unknown(err)
	}
	if len(r.parts) > 0 {
		return nil
	}
	return r.trouble(r.cfg.Topics[0], err)
}

// say logs a condition once until it changes.
func (r *runner) say(topic string, level slog.Level, msg string, err error) {
	if text := msg + err.Error(); r.said[topic] != text {
		r.said[topic] = text
		r.log.Log(r.ctx, level, msg, "error", err) //nolint:sloglint // every caller's msg is a constant
	}
}

// trouble tells what is wrong with a topic of which no partition is known.
func (r *runner) trouble(topic string, err error) error {
	h := r.troubles[topic]
	if h == nil {
		var openErr error
		if h, _, openErr = r.host.Open(r.ctx, streamPrefix+topic); openErr != nil {
			return fmt.Errorf("%w: %w", errHost, openErr)
		}
		r.troubles[topic] = h
	}
	h.Unknown(err)
	return nil
}

// settled tells that nothing is wrong with a topic any more.
func (r *runner) settled(topic string) {
	if h := r.troubles[topic]; h != nil {
		_ = h.Close(context.WithoutCancel(r.ctx), true)
		delete(r.troubles, topic)
	}
}

// discover asks which topics there are and how many partitions each has, and
// tells what is wrong with the others.
func (r *runner) discover(ctx context.Context) (map[string]int, error) {
	found, missing, err := r.topics(ctx)
	if err != nil {
		return nil, err
	}
	delete(r.said, "")
	for _, t := range r.cfg.Topics {
		err, wrong := missing[t]
		r.exists(t, nil)
		switch {
		case !wrong:
			r.settled(t)
			delete(r.said, t)
		case isPattern(t):
			r.say(t, slog.LevelInfo, "no topic matches yet", err)
			r.settled(t)
		case errors.Is(err, kafkago.UnknownTopicOrPartition):
			r.say(t, slog.LevelError, "a topic does not exist; looking for it again and again", err)
			r.settled(t)
			r.exists(t, err)
		default:
			r.say(t, slog.LevelError, "the topic cannot be read; looking for it again and again", err)
			if err := r.trouble(t, err); err != nil {
				return nil, err
			}
		}
	}
	return found, nil
}

// topics asks which of the configured topics there are, and what is wrong with
// the others.
func (r *runner) topics(ctx context.Context) (found map[string]int, missing map[string]error, err error) {
	var names []string // none asks for all
	if !slices.ContainsFunc(r.cfg.Topics, isPattern) {
		names = r.cfg.Topics
	}
	m, err := r.cluster.layout(ctx, names)
	if err != nil {
		return nil, nil, err
	}
	found, missing = map[string]int{}, map[string]error{}
	for _, want := range r.cfg.Topics {
		missing[want] = explain(want, kafkago.UnknownTopicOrPartition)
		for i := range m.Topics {
			t := &m.Topics[i]
			switch {
			case !matches(want, t):
			case t.ErrorCode != 0:
				missing[want] = explain(t.Name, kafkago.Error(t.ErrorCode))
			default:
				found[t.Name] = len(t.Partitions)
				delete(missing, want)
			}
		}
	}
	return found, missing, nil
}

func matches(want string, t *metadata.ResponseTopic) bool {
	if t.Name == want {
		return true
	}
	ok, err := path.Match(want, t.Name)
	return ok && err == nil && isPattern(want) && !t.IsInternal && !strings.HasPrefix(t.Name, "__")
}

// assignment is what this process reads until it is shared out anew.
type assignment struct {
	generation int32
	partitions map[string][]kafkago.PartitionAssignment // by topic
	// start runs f until the assignment is over.
	start func(f func(context.Context))
	// commit stores offsets by topic and partition in the group.
	commit func(offsets map[string]map[int]int64) error
}

// serve reads as a member of the group, or alone, until ctx ends or there are other
// topics.
func (r *runner) serve(topics map[string]int) error {
	if r.cfg.Alone {
		return r.alone(topics)
	}
	ctx, changed := context.WithCancel(r.ctx)
	defer changed()
	group, err := kafkago.NewConsumerGroup(kafkago.ConsumerGroupConfig{
		ID: r.cfg.Group, Brokers: r.cfg.Brokers, Topics: slices.Sorted(maps.Keys(topics)), Dialer: r.cluster.dialer(),
		GroupBalancers:    []kafkago.GroupBalancer{kafkago.RangeGroupBalancer{}},
		HeartbeatInterval: r.timing.heartbeat, SessionTimeout: r.timing.session, RebalanceTimeout: r.timing.rebalance,
		JoinGroupBackoff: r.timing.rejoin, Timeout: r.timing.request,
	})
	if err != nil {
		return err
	}
	defer r.reading.Wait()
	defer func() { _ = group.Close() }() // leaves; it has no error of its own
	for {
		gen, err := group.Next(ctx)
		if ctx.Err() != nil {
			return nil
		}
		r.reading.Wait()
		switch {
		case errors.Is(err, kafkago.RebalanceInProgress), errors.Is(err, kafkago.MemberIDRequired):
			continue
		case err != nil:
			if err := r.broken(explain("group "+r.cfg.Group, err)); err != nil {
				return err
			}
			continue
		}
		if err := r.generation(assignment{gen.ID, gen.Assignments, gen.Start, gen.CommitOffsets}, topics, changed); err != nil {
			return err
		}
	}
}

// alone reads all partitions without joining the group, until ctx ends or there are
// other topics. Offsets are committed to it all the same.
func (r *runner) alone(topics map[string]int) error {
	client, done := r.cluster.client()
	defer done()
	defer r.reading.Wait()
	ctx, changed := context.WithCancel(r.ctx)
	defer changed()
	parts, err := r.committed(ctx, client, topics)
	if err != nil {
		return err
	}
	start := func(f func(context.Context)) { go f(ctx) }
	commit := func(offsets map[string]map[int]int64) error { return r.store(client, offsets) }
	if err := r.generation(assignment{0, parts, start, commit}, topics, changed); err != nil {
		return err
	}
	<-ctx.Done()
	return nil
}

// committed asks what the group has committed of each partition. What is open goes on
// where it is.
func (r *runner) committed(ctx context.Context, client *kafkago.Client, topics map[string]int) (map[string][]kafkago.PartitionAssignment, error) {
	ask := map[string][]int{}
	for topic, n := range topics {
		for id := range n {
			ask[topic] = append(ask[topic], id)
		}
	}
	res, err := client.OffsetFetch(ctx, &kafkago.OffsetFetchRequest{GroupID: r.cfg.Group, Topics: ask})
	if err == nil {
		err = res.Error
	}
	out := map[string][]kafkago.PartitionAssignment{}
	if errors.Is(err, kafkago.GroupIdNotFound) { // nobody has committed anything yet
		for topic, ids := range ask {
			for _, id := range ids {
				out[topic] = append(out[topic], kafkago.PartitionAssignment{ID: id, Offset: -1})
			}
		}
		return out, nil
	}
	if err != nil {
		return nil, explain("group "+r.cfg.Group, err)
	}
	for topic, ps := range res.Topics {
		for _, p := range ps {
			if p.Error != nil {
				return nil, explain("group "+r.cfg.Group, p.Error)
			}
			if r.parts[streamOf(topic, p.Partition)] != nil {
				p.CommittedOffset = -1
			}
			out[topic] = append(out[topic], kafkago.PartitionAssignment{ID: p.Partition, Offset: p.CommittedOffset})
		}
	}
	return out, nil
}

// store commits offsets from outside of the group, which works as long as it has no
// members.
func (r *runner) store(client *kafkago.Client, offsets map[string]map[int]int64) error {
	req := &kafkago.OffsetCommitRequest{GroupID: r.cfg.Group, GenerationID: -1, Topics: map[string][]kafkago.OffsetCommit{}}
	for topic, ids := range offsets {
		for id, at := range ids {
			req.Topics[topic] = append(req.Topics[topic], kafkago.OffsetCommit{Partition: id, Offset: at})
		}
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(r.ctx), r.timing.request)
	defer cancel()
	res, err := client.OffsetCommit(ctx, req)
	if err != nil {
		return err
	}
	for _, ps := range res.Topics {
		for _, p := range ps {
			if p.Error != nil {
				return p.Error
			}
		}
	}
	return nil
}

// generation opens what was assigned and starts to read it.
func (r *runner) generation(gen assignment, topics map[string]int, changed func()) error {
	var mine []*partition
	kept := map[string]bool{}
	for _, topic := range slices.Sorted(maps.Keys(gen.partitions)) {
		for _, a := range gen.partitions[topic] {
			stream := streamOf(topic, a.ID)
			kept[stream] = true
			p, err := r.open(topic, a.ID, stream)
			if err != nil {
				return err
			}
			p.assign(a.Offset)
			mine = append(mine, p)
		}
	}
	for stream, p := range r.parts {
		if !kept[stream] {
			p.count.read.Store(false)
			if err := p.handler.Leave(context.WithoutCancel(r.ctx)); err != nil {
				return fmt.Errorf("%w: %w", errHost, err)
			}
			delete(r.parts, stream)
		}
	}
	r.joined = true
	delete(r.said, "")
	for t := range r.troubles {
		if _, there := topics[t]; there || isPattern(t) {
			r.settled(t)
		}
	}
	r.host.Ready()
	r.log.Info("partitions assigned", "group", r.cfg.Group, "generation", gen.generation, "partitions", len(mine))
	commit := &committer{runner: r, gen: gen, parts: mine, done: map[string]int64{}}
	start := func(f func(context.Context)) {
		r.reading.Add(1)
		gen.start(func(ctx context.Context) { defer r.reading.Done(); f(ctx) })
	}
	for _, p := range mine {
		start(func(genCtx context.Context) {
			ctx, cancel := context.WithCancel(r.ctx)
			defer cancel()
			defer context.AfterFunc(genCtx, cancel)()
			p.run(ctx)
			p.handler.Unknown(errRebalance)
			p.settle(r.host)
			commit.commit(p)
		})
	}
	start(commit.run)
	start(func(ctx context.Context) { r.watch(ctx, topics, changed) })
	return nil
}

// open opens a partition's stream, or goes on with it if it is open.
func (r *runner) open(topic string, id int, stream string) (*partition, error) {
	ctx := context.WithoutCancel(r.ctx)
	if p := r.parts[stream]; p != nil {
		if !p.interrupted {
			return p, nil
		}
		delete(r.parts, stream)
		if err := p.handler.Close(ctx, false); err != nil {
			return nil, fmt.Errorf("%w: %w", errHost, err)
		}
	}
	h, pos, err := r.host.Open(r.ctx, stream)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", errHost, err)
	}
	p := &partition{
		Source: r.Source, topic: topic, id: id, stream: stream, cluster: r.cluster, handler: h,
		log: r.log.With("topic", topic, "partition", strconv.Itoa(id)), count: r.counter(topic, id),
		saved: pos, own: len(pos.Mark) > 0, sure: !r.joined, first: r.first, committed: -1, next: unresolved, epoch: -1, damaged: -1,
		fields: newFields(&r.cfg, topic),
	}
	p.count.read.Store(true)
	r.parts[stream] = p
	return p, nil
}

// watch looks for new topics and partitions. When it returns, the generation
// ends and the partitions are shared out anew.
func (r *runner) watch(ctx context.Context, topics map[string]int, changed func()) {
	tick := time.NewTicker(r.timing.watch)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		now, _, err := r.topics(ctx)
		if err != nil || maps.Equal(now, topics) {
			continue // partitions tell of troubles themselves
		}
		r.log.Info("there are other topics or partitions than before; the group shares them out anew")
		changed()
		return
	}
}

// committer commits in one generation what is durable.
type committer struct {
	*runner
	gen   assignment
	parts []*partition
	mu    sync.Mutex
	done  map[string]int64 // by stream
}

func (c *committer) run(ctx context.Context) {
	tick := time.NewTicker(c.timing.commit)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
			c.commit(c.parts...)
		}
	}
}

// commit commits the durable positions that lie behind what the group has.
func (c *committer) commit(parts ...*partition) {
	c.mu.Lock()
	defer c.mu.Unlock()
	offsets := map[string]map[int]int64{}
	for _, p := range parts {
		at, ok := c.host.Durable(p.stream)
		if !ok || len(at.Mark) == 0 || at.Offset <= max(p.committed, c.done[p.stream]) {
			continue
		}
		if offsets[p.topic] == nil {
			offsets[p.topic] = map[int]int64{}
		}
		offsets[p.topic][p.id] = at.Offset
	}
	if len(offsets) == 0 {
		return
	}
	if err := c.gen.commit(offsets); err != nil {
		// The next generation begins with our own positions all the same.
		c.log.Info("offsets could not be committed", "group", c.cfg.Group, "error", err)
		return
	}
	for topic, ids := range offsets {
		for id, at := range ids {
			c.done[streamOf(topic, id)] = at
		}
	}
}
