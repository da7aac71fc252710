package kafka

import (
	"context"
	"encoding/binary"
	"fmt"
	"hash/crc32"
	"log/slog"
	"testing"

	"github.com/klauspost/compress/zstd"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/denywatch/denywatch/ingest"
)

var fetchKeys = []kmsg.Key{kmsg.Fetch}

func quiet() *slog.Logger { return slog.New(slog.DiscardHandler) }

// testBatch encodes a record batch.
func testBatch(base int64, values ...string) []byte {
	var body []byte
	for i, v := range values {
		var r []byte
		r = append(r, 0)
		r = binary.AppendVarint(r, 0)
		r = binary.AppendVarint(r, int64(i))
		r = binary.AppendVarint(r, -1)
		r = binary.AppendVarint(r, int64(len(v)))
		r = append(r, v...)
		r = binary.AppendVarint(r, 0)
		body = append(binary.AppendVarint(body, int64(len(r))), r...)
	}
	var crced []byte
	crced = binary.BigEndian.AppendUint16(crced, 0)
	crced = binary.BigEndian.AppendUint32(crced, uint32(len(values)-1))
	crced = append(crced, make([]byte, 16+8+2+4)...)
	crced = binary.BigEndian.AppendUint32(crced, uint32(len(values)))
	crced = append(crced, body...)
	out := binary.BigEndian.AppendUint64(nil, uint64(base))
	out = binary.BigEndian.AppendUint32(out, uint32(9+len(crced)))
	out = append(out, 0, 0, 0, 0, magicV2)
	out = binary.BigEndian.AppendUint32(out, crc32.Checksum(crced, castagnoli))
	return append(out, crced...)
}

// FuzzDeliver: no answer of a broker makes the reader panic, stand still or go back.
func FuzzDeliver(f *testing.F) {
	f.Add(append(testBatch(0, "a", "bb"), testBatch(2, "", "c\nd")...), int64(1), int64(4))
	f.Add(testBatch(0, "a")[:40], int64(0), int64(1))
	f.Fuzz(func(t *testing.T, set []byte, next, high int64) {
		if next < 0 || high < next {
			return
		}
		s := newStore(t)
		s.keep = false
		p := &partition{Source: New(Config{MaxLine: 64}, quiet()), stream: "kafka:t/0", handler: &handler{store: s, stream: "kafka:t/0"}, log: quiet(), damaged: -1, next: next, mark: markOf(0)}
		p.count = p.counter("t", 0)
		_ = p.deliver(t.Context(), fetched{high: high, stable: high, set: set})
		if p.next < next {
			t.Fatalf("from %d back to %d", next, p.next)
		}
	})
}

func FuzzDecodeFetch(f *testing.F) {
	f.Add([]byte{0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1}, int16(11))
	f.Fuzz(func(_ *testing.T, b []byte, version int16) { _, _, _ = decodeFetch(b, version) })
}

func TestDeliverDoesNotAllocate(t *testing.T) {
	values := make([]string, 1000)
	for i := range values {
		values[i] = `192.0.2.1 - - [01/Jan/2026:00:00:00 +0000] "GET /a HTTP/1.1" 200 1 "-" "-"`
	}
	set := testBatch(0, values...)
	p := benchPartition()
	if n := testing.AllocsPerRun(50, func() {
		p.next = 0
		if err := p.deliver(t.Context(), fetched{high: 1000, stable: 1000, set: set}); err != nil || p.next != 1000 {
			t.Fatal(err, p.next)
		}
	}); n > 5 {
		t.Errorf("%v allocations for 1000 messages", n)
	}
}

// compressed is a batch with its records compressed by zstd.
func compressed(t testing.TB, batch []byte) []byte {
	t.Helper()
	z, err := zstd.NewWriter(nil)
	if err != nil {
		t.Fatal(err)
	}
	out := z.EncodeAll(batch[batchHead:], append([]byte(nil), batch[:batchHead]...))
	binary.BigEndian.PutUint32(out[8:], uint32(len(out)-batchMeta))
	binary.BigEndian.PutUint16(out[21:], 4)
	return seal(out)
}

// inflating is an answer of some batches, which together hold more than the memory that
// is kept for them.
func inflating(t testing.TB) (set []byte, messages int64) {
	t.Helper()
	values := make([]string, 10_000)
	for i := range values {
		values[i] = fmt.Sprintf(`192.0.2.%d - - [01/Jan/2026:00:00:00 +0000] "GET /a/%d HTTP/1.1" 200 1 "-" "Mozilla/5.0 (X11; Linux x86_64)"`, i%250, i)
	}
	for messages*100 < 3*keptBytes {
		set = append(set, compressed(t, testBatch(messages, values...))...)
		messages += int64(len(values))
	}
	return set, messages
}

// roomy takes lines and remembers the largest buffer that they lay in.
type roomy struct {
	nobody
	p    *partition
	most int
}

func (r *roomy) Batch(context.Context, *ingest.Batch) error {
	r.most = max(r.most, r.p.inflated.Cap())
	return nil
}

// TestInflatesIntoOneBuffer: however many compressed batches an answer has, one buffer
// that is kept serves them all.
func TestInflatesIntoOneBuffer(t *testing.T) {
	set, n := inflating(t)
	p := benchPartition()
	r := &roomy{p: p}
	p.handler = r
	for range 2 {
		p.next = 0
		if err := p.deliver(t.Context(), fetched{high: n, stable: n, set: set}); err != nil || p.next != n {
			t.Fatal(err, p.next)
		}
	}
	if r.most > keptBytes || p.inflated.Cap() == 0 {
		t.Errorf("%d bytes, of which %d are kept", r.most, p.inflated.Cap())
	}
	if got := p.count.messages.Load(); got != uint64(2*n) {
		t.Errorf("%d messages, want %d", got, 2*n)
	}
}

func BenchmarkDeliverCompressed(b *testing.B) {
	set, n := inflating(b)
	p := benchPartition()
	b.ReportAllocs()
	for b.Loop() {
		p.next = 0
		if err := p.deliver(b.Context(), fetched{high: n, stable: n, set: set}); err != nil {
			b.Fatal(err)
		}
	}
	b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N)/float64(n), "ns/message")
}

func BenchmarkDeliver(b *testing.B) {
	values := make([]string, 1000)
	for i := range values {
		values[i] = `192.0.2.1 - - [01/Jan/2026:00:00:00 +0000] "GET /projects/1/export HTTP/1.1" 200 1532 "https://shop.example/" "Mozilla/5.0 (X11; Linux x86_64)"`
	}
	set := testBatch(0, values...)
	p := benchPartition()
	b.SetBytes(int64(len(set)))
	b.ReportAllocs()
	for b.Loop() {
		p.next = 0
		if err := p.deliver(b.Context(), fetched{high: 1000, stable: 1000, set: set}); err != nil {
			b.Fatal(err)
		}
	}
}

// seal gives a batch that was changed its checksum.
func seal(batch []byte) []byte {
	binary.BigEndian.PutUint32(batch[17:], crc32.Checksum(batch[batchCRCFrom:], castagnoli))
	return batch
}

// keep is a batch after compaction: only one of its records is left.
func keep(batch []byte, record int) []byte {
	records := batch[batchHead:]
	for range record {
		_, records, _ = nextRecord(records)
	}
	_, rest, _ := nextRecord(records)
	out := append(append([]byte(nil), batch[:batchHead]...), records[:len(records)-len(rest)]...)
	binary.BigEndian.PutUint32(out[8:], uint32(len(out)-batchMeta))
	binary.BigEndian.PutUint32(out[57:], 1)
	return seal(out)
}
