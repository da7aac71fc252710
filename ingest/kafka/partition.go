package kafka

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"strconv"
	"time"

	"github.com/cenkalti/backoff/v5"
	kafkago "github.com/segmentio/kafka-go"

	"github.com/denywatch/denywatch/ingest"
)

const (
	// fetchBytes is how much of a partition is asked for at once.
	fetchBytes = 1 << 20
	// batchBytes is how many bytes of lines are joined into one ingest.Batch.
	batchBytes = 256 << 10
	// keptBytes is the largest buffer that is kept for the next answer.
	keptBytes = 4 << 20
)

// unresolved is the offset of a partition whose position has not been looked for
// in the log yet.
const unresolved = -1

// errRebalance is why a partition is not read while the group shares them out.
var errRebalance = errors.New("the members of the group share the partitions out anew")

// partition reads one partition. All but counters is used by one goroutine at a
// time: that of the generation that reads it, or Run's between two of them.
type partition struct {
	*Source
	topic   string
	id      int
	stream  string
	cluster *cluster
	handler ingest.Handler
	log     *slog.Logger
	count   *counters

	saved     ingest.Position // when it was opened
	own       bool            // saved was read up to, not only given
	committed int64           // of the group when it was assigned; -1
	sure      bool            // our own position counts even if the group is further
	first     bool            // the very first run, in which Start holds
	next      int64           // the offset to ask for, or unresolved
	mark      []byte          // leader epoch of what lies before next
	epoch     int32           // the same as a number
	damaged   int64           // offset at which a batch was found damaged; -1

	// What is joined and not delivered yet: the messages start to upto, as views of
	// the answer or of what was decompressed.
	lines       [][]byte
	size        int // of them together
	start, upto int64
	skipped     int
	inflated    bytes.Buffer
	batch       ingest.Batch
	fields      fields    // what is said beside those lines
	interrupted bool      // only the handler knows how much of the last Batch it took
	stuckSince  time.Time // an open transaction holds messages back since then
}

// markOf encodes a leader's epoch for Position.Mark.
func markOf(epoch int32) []byte { return binary.BigEndian.AppendUint32(nil, uint32(epoch)) }

// epochOf decodes it; -1 if there is none.
func epochOf(mark []byte) int32 {
	if len(mark) != 4 {
		return -1
	}
	return int32(binary.BigEndian.Uint32(mark))
}

// assign tells what the group has committed, before the partition is read on.
func (p *partition) assign(committed int64) {
	p.committed = committed
	if p.next != unresolved && committed > p.next {
		p.log.Info("another member of the group has read the partition meanwhile; going on behind it", "from", p.next, "to", committed)
		p.next = committed
	}
}

// run reads until ctx ends. Troubles are told, and tried again.
func (p *partition) run(ctx context.Context) {
	pause := backoff.NewExponentialBackOff()
	pause.InitialInterval, pause.MaxInterval = p.timing.retryMin, p.timing.retryMax
	for said := ""; ctx.Err() == nil; {
		progress, err := p.read(ctx)
		if ctx.Err() != nil || err == nil {
			return
		}
		if progress {
			pause.Reset()
			said = ""
		}
		if !moved(err) || said != "" {
			p.handler.Unknown(err)
		}
		if text := err.Error(); text != said {
			level := slog.LevelWarn
			if moved(err) {
				level = slog.LevelInfo
			}
			p.log.Log(ctx, level, "the partition cannot be read; trying again", "error", err)
			said = text
		}
		select {
		case <-time.After(pause.NextBackOff()):
		case <-ctx.Done():
		}
	}
}

// moved tells of an error that it usually passes by asking for the leader again.
func moved(err error) bool {
	var code kafkago.Error
	return errors.As(err, &code) && (code == kafkago.NotLeaderForPartition || code == kafkago.LeaderNotAvailable ||
		code == kafkago.FencedLeaderEpoch || code == kafkago.UnknownLeaderEpoch || code == kafkago.OffsetNotAvailable)
}

// read connects to the leader and reads until something goes wrong, or the
// handler ends the stream, which is no error. progress tells that it got an
// answer.
func (p *partition) read(ctx context.Context) (progress bool, err error) {
	b, epoch, err := p.cluster.leader(ctx, p.topic, p.id)
	if err != nil {
		return false, err
	}
	defer b.close()
	for ctx.Err() == nil {
		if p.next == unresolved {
			if err := p.resolve(ctx, b, epoch); err != nil {
				return progress, err
			}
		}
		ended, err := p.fetch(ctx, b)
		var code kafkago.Error
		if errors.As(err, &code) && code == kafkago.OffsetOutOfRange {
			p.saved, p.own, p.sure, p.next = ingest.Position{Offset: p.next, Mark: p.mark}, true, true, unresolved
			p.log.Info("the position lies outside of the log", "offset", p.saved.Offset)
			continue
		}
		if err != nil || ended {
			return progress, err
		}
		progress = true
	}
	return progress, nil
}

// resolve finds where to go on: our own position, else what the group has
// committed, else Config.Start; within what the log holds.
func (p *partition) resolve(ctx context.Context, b *conn, leaderEpoch int32) error {
	first, err := b.offset(ctx, p.topic, p.id, offsetFirst)
	if err != nil {
		return err
	}
	last, err := b.offset(ctx, p.topic, p.id, offsetLast)
	if err != nil {
		return err
	}
	next, epoch := p.saved.Offset, epochOf(p.saved.Mark)
	switch {
	case p.own && (p.sure || next >= p.committed):
	case p.committed >= 0:
		next, epoch = p.committed, -1
	default:
		epoch = -1
		if next, err = p.begin(ctx, b, first, last); err != nil {
			return err
		}
	}
	switch {
	case leaderEpoch >= 0 && epoch > leaderEpoch, next > last && epoch >= 0 && epoch == leaderEpoch, next > last && epoch < 0:
		// Epochs only grow, and what a leader confirmed does not vanish within one.
		p.log.Warn("the topic is another one than before, deleted and created again it seems: it is read from its start", "offset", next, "end", last)
		next = first
	case next > last:
		p.log.Error("the brokers lost messages that were read already (an unclean leader election?): reading goes on at the end of the log", "offset", next, "end", last)
		next = last
	case next < first:
		p.count.gaps.Add(1)
		p.count.missed.Add(uint64(first - next))
		p.log.Error("messages were deleted before they were read: a gap; raise the topic's retention", "from", next, "to", first, "messages", first-next)
		next = first
	}
	p.next, p.mark, p.epoch = next, markOf(max(leaderEpoch, 0)), max(leaderEpoch, 0)
	p.count.position.Store(next)
	p.count.end.Store(last)
	at := ingest.Position{Offset: next, Mark: p.mark}
	p.batch = ingest.Batch{Start: at, End: at}
	if err := p.handler.Batch(ctx, &p.batch); err != nil {
		p.interrupted = true
		return err
	}
	return nil
}

// begin is where a partition begins that nobody has read.
func (p *partition) begin(ctx context.Context, b *conn, first, last int64) (int64, error) {
	if !p.first || p.cfg.Start == StartFirst {
		return first, nil
	}
	if p.cfg.Start == StartLast {
		return last, nil
	}
	t, err := startTime(p.cfg.Start, time.Now())
	if err != nil {
		return 0, fmt.Errorf("start: %w", err)
	}
	at, err := b.offset(ctx, p.topic, p.id, t.UnixMilli())
	if err != nil {
		return 0, err
	}
	if at < 0 { // nothing is as new as that
		at = last
	}
	return at, nil
}

// fetch asks once and delivers what comes. ended tells that the handler wants no
// more.
func (p *partition) fetch(ctx context.Context, b *conn) (ended bool, err error) {
	release, err := b.request(ctx, p.topic, p.id, p.next, p.timing.wait, fetchBytes)
	if err != nil {
		return false, err
	}
	defer release()
	n, err := b.size()
	if err != nil {
		return false, err
	}
	buf := p.buffers.Get().(*[]byte)
	defer func() {
		if cap(*buf) <= keptBytes {
			p.buffers.Put(buf)
		}
	}()
	*buf = slices.Grow((*buf)[:0], n)[:n]
	f, err := b.answer(*buf)
	if err != nil {
		return false, err
	}
	if f.code != 0 {
		return false, explain(p.topic, kafkago.Error(f.code))
	}
	release()
	p.count.end.Store(f.high)
	if err := p.deliver(ctx, f); err != nil {
		if errors.Is(err, errDamaged) {
			return false, err
		}
		return true, nil // it is ctx's, or the host wants the stream closed
	}
	switch {
	case p.next >= f.high:
		p.stuckSince = time.Time{}
		return p.handler.CaughtUp(ctx) != nil, nil
	case p.next < f.stable || f.stable < 0 || len(f.set) > 0:
		p.stuckSince = time.Time{}
	case p.stuckSince.IsZero():
		p.stuckSince = time.Now()
	case time.Since(p.stuckSince) > p.timing.transaction:
		p.handler.Unknown(fmt.Errorf("%s: a transaction that is still open holds %d messages back", p.stream, f.high-p.next))
	}
	return false, nil
}

// errDamaged asks for the same messages once more: the network may have damaged
// them, not the disk.
var errDamaged = errors.New("a batch of messages is damaged (its checksum is wrong)")

// deliver hands the lines of an answer to the handler.
func (p *partition) deliver(ctx context.Context, f fetched) error {
	set := f.set
	p.lines, p.size, p.skipped = p.lines[:0], 0, 0
	p.start, p.upto = p.next, p.next
	aborting := map[int64]bool{}
	slices.SortFunc(f.aborted, func(a, b abortedTx) int { return int(min(max(a.first-b.first, -1), 1)) })
	whole := false
	for {
		b, rest, ok := nextBatch(set)
		if !ok {
			break
		}
		set, whole = rest, true
		if b.last < p.next && b.fault == "" {
			continue
		}
		if b.fault == "" && b.epoch != p.epoch && b.epoch >= 0 {
			if err := p.flush(ctx, p.next); err != nil {
				return err
			}
			p.epoch, p.mark = b.epoch, markOf(b.epoch)
		}
		for len(f.aborted) > 0 && f.aborted[0].first <= b.last {
			aborting[f.aborted[0].producer] = true
			f.aborted = f.aborted[1:]
		}
		switch {
		case b.fault == poisonDamaged && p.damaged != b.base:
			p.damaged = b.base
			if err := p.flush(ctx, p.next); err != nil {
				return err
			}
			return errDamaged
		case b.fault != "":
			p.count.poison[b.fault].Add(1)
		case b.attributes&attrControl != 0:
			if b.aborts() {
				delete(aborting, b.producer)
			}
		case b.attributes&attrTransactional != 0 && aborting[b.producer]:
		default:
			if err := p.join(ctx, &b); err != nil {
				return err
			}
		}
		if b.fault != "" { // its head is not to be trusted
			b.last = max(p.next, min(b.last, f.high-1))
			p.log.Error("a batch of messages cannot be read and is left out", "reason", b.fault, "from", p.next, "to", b.last)
		}
		p.next = max(p.next, b.last+1)
	}
	if !whole && len(f.set) > 0 {
		// Brokers send at least one whole batch, however large.
		return fmt.Errorf("%w: it is cut short", errDamaged)
	}
	return p.flush(ctx, p.next)
}

// join adds the messages of a batch to the lines.
func (p *partition) join(ctx context.Context, b *batch) error {
	if p.inflated.Len() >= batchBytes { // lines enough were joined: their memory is used again
		if err := p.flush(ctx, p.next); err != nil {
			return err
		}
	}
	if len(p.lines) == 0 {
		p.inflated.Reset()
	}
	records, err := b.inflate(&p.inflated)
	if err != nil {
		p.poison(poisonDamaged)
		return nil //nolint:nilerr // counted; the messages behind it are read
	}
	for range b.records {
		m, rest, ok := nextRecord(records)
		if !ok {
			p.poison(poisonDamaged)
			break
		}
		records = rest
		offset := b.base + m.delta
		if offset < p.next { // batches begin before what was asked for
			continue
		}
		if m.time += b.oldest; b.attributes&attrAppendTime != 0 {
			m.time = b.newest
		}
		if err := p.add(ctx, offset, &m); err != nil {
			return err
		}
		p.next = offset + 1
	}
	if p.inflated.Cap() > keptBytes {
		p.inflated = bytes.Buffer{}
	}
	return nil
}

// add makes one line of a message.
func (p *partition) add(ctx context.Context, offset int64, m *record) error {
	value := m.value
	for n := len(value); n > 0 && (value[n-1] == '\n' || value[n-1] == '\r'); n-- {
		value = value[:n-1]
	}
	p.count.messages.Add(1)
	p.count.bytes.Add(uint64(len(value)))
	switch {
	case len(value) == 0:
		p.poison(poisonEmpty)
		return nil
	case len(value) > p.cfg.MaxLine:
		p.poison(poisonTooLarge)
		if err := p.flush(ctx, offset); err != nil {
			return err
		}
		p.skipped++
		return nil
	case len(p.lines) > 0 && (offset != p.upto || p.size+len(value) >= batchBytes || p.fields.differ(m)):
		if err := p.flush(ctx, offset); err != nil {
			return err
		}
	}
	if len(p.lines) == 0 && p.fields.differ(m) {
		p.fields.take(m)
	}
	if len(p.lines) == 0 {
		p.start = offset
	}
	for rest := value; ; {
		i := bytes.IndexByte(rest, '\n')
		if i < 0 {
			break
		}
		rest[i] = ' '
		rest = rest[i+1:]
	}
	p.lines = append(p.lines, value)
	p.size += len(value)
	p.upto = offset + 1
	return nil
}

// flush delivers the lines that were joined; the position moves to next.
func (p *partition) flush(ctx context.Context, next int64) error {
	if len(p.lines) == 0 && p.skipped == 0 && p.count.position.Load() == next {
		return nil
	}
	if len(p.lines) == 0 {
		p.start = next
	}
	p.batch = ingest.Batch{
		Lines: p.lines, Skipped: p.skipped, Fields: p.fields.said,
		Start: ingest.Position{Offset: p.start, Mark: p.mark}, End: ingest.Position{Offset: next, Mark: p.mark},
	}
	if err := p.handler.Batch(ctx, &p.batch); err != nil {
		p.interrupted = true
		return err
	}
	p.lines, p.size, p.skipped = p.lines[:0], 0, 0
	p.count.position.Store(next)
	return nil
}

// poison counts a message, or a batch, of which no line can be made.
func (p *partition) poison(reason string) {
	p.count.poison[reason].Add(1)
	if p.count.warned.CompareAndSwap(false, true) {
		p.log.Warn("a message holds no line that can be read; more of this partition are counted in the metrics, not logged", "offset", p.next, "reason", reason)
	}
}

// settle waits until everything that was delivered is in a durable cut, for a
// while, so that it can be committed before another member goes on.
func (p *partition) settle(host ingest.Host) {
	deadline := time.Now().Add(p.timing.settle)
	for time.Now().Before(deadline) {
		at, ok := host.Durable(p.stream)
		if ok && at.Offset >= p.count.position.Load() {
			return
		}
		time.Sleep(settlePoll)
	}
}

// settlePoll is how often settle looks.
const settlePoll = 20 * time.Millisecond

func streamOf(topic string, id int) string { return streamPrefix + topic + "/" + strconv.Itoa(id) }
