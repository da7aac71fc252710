package kafka

import (
	"bytes"
	"context"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kgo"
)

func TestReadsCommitsAndGoesOn(t *testing.T) {
	for _, codec := range []kgo.CompressionCodec{kgo.NoCompression(), kgo.GzipCompression(), kgo.SnappyCompression(), kgo.Lz4Compression(), kgo.ZstdCompression()} {
		t.Run(fmt.Sprint(codec), func(t *testing.T) {
			c := newCluster1(t, kfake.SeedTopics(3, "logs"))
			cl := client(t, c, kgo.ProducerBatchCompression(codec))
			want := produce(t, cl, "logs", 3, 0, 3000)
			s := newStore(t)
			cfg := Config{Brokers: c.ListenAddrs(), Topics: []string{"logs"}}
			src, stop := run(t, s, cfg)
			s.waitLines(3000)
			s.wait("all partitions caught up", func() bool { return len(s.caught) == 3 && len(s.unknown) == 0 })
			waitCommitted(t, c, "logs", 1, 1000)
			want = append(want, produce(t, cl, "logs", 3, 3000, 300)...)
			s.waitLines(3300)
			stop()
			waitCommitted(t, c, "logs", 2, 1100) // what was read last is committed on leaving
			if g := c.GroupInfo(DefaultGroup); g != nil && len(g.Members) != 0 {
				t.Errorf("%d members did not leave", len(g.Members))
			}
			for _, p := range src.Partitions() {
				if p.Lag() != 0 || p.Messages != 1100 || p.Bytes == 0 || p.Gaps != 0 || p.Reading {
					t.Errorf("%+v", p)
				}
			}
			// Written while nobody reads.
			want = append(want, produce(t, cl, "logs", 3, 3300, 300)...)
			_, stop = run(t, s, cfg)
			s.waitLines(3600)
			stop()
			s.exactly(want)
		})
	}
}

// TestOwnPositionsWin: a crash in the middle of a batch, with commits ahead of what
// the store has and behind it.
func TestOwnPositionsWin(t *testing.T) {
	c := newCluster1(t, kfake.SeedTopics(2, "logs"))
	cl := client(t, c)
	want := produce(t, cl, "logs", 2, 0, 1000)
	cfg := Config{Brokers: c.ListenAddrs(), Topics: []string{"logs"}}
	other := newStore(t)
	_, stop := run(t, other, cfg)
	other.waitLines(1000)
	waitCommitted(t, c, "logs", 0, 500)
	waitCommitted(t, c, "logs", 1, 500)
	stop()

	s := newStore(t) // a store that was restored from a backup: it has an older position
	s.positions["kafka:logs/0"] = other.positions["kafka:logs/0"]
	s.positions["kafka:logs/1"] = other.positions["kafka:logs/1"]
	for _, stream := range []string{"kafka:logs/0", "kafka:logs/1"} {
		p := s.positions[stream]
		p.Offset = 100
		s.positions[stream] = p
	}
	for at := 100; at < 800; at += 137 {
		s.crash = at
		_, stop := run(t, s, cfg)
		s.waitLines(at)
		stop()
	}
	s.crash = -1
	_, stop = run(t, s, cfg)
	s.waitLines(800)
	stop()
	s.exactly(want[200:])
}

func TestStart(t *testing.T) {
	c := newCluster1(t, kfake.SeedTopics(1, "logs"))
	cl := client(t, c)
	old := time.Now().Add(-48 * time.Hour).Truncate(time.Second)
	for i := range 10 {
		r := &kgo.Record{Topic: "logs", Value: fmt.Appendf(nil, "%08d line", i), Timestamp: old.Add(time.Duration(i) * time.Hour)}
		if err := cl.ProduceSync(context.Background(), r).FirstErr(); err != nil {
			t.Fatal(err)
		}
	}
	for _, x := range []struct {
		start string
		want  int
	}{
		{"", 10},
		{"first", 10},
		{"last", 0},
		{old.Add(4 * time.Hour).Format(time.RFC3339), 6},
		{old.Add(400 * time.Hour).Format(time.RFC3339), 0},
	} {
		t.Run(x.start, func(t *testing.T) {
			s := newStore(t)
			group := "g" + strings.NewReplacer(":", "", "+", "").Replace(x.start)
			cfg := Config{Brokers: c.ListenAddrs(), Topics: []string{"logs"}, Start: x.start, Group: group}
			_, stop := run(t, s, cfg)
			s.wait("caught up", func() bool { return len(s.caught) > 0 })
			if s.n != x.want {
				t.Fatalf("%d lines, want %d", s.n, x.want)
			}
			stop()
			if p := s.positions["kafka:logs/0"]; p.Offset != 10 {
				t.Errorf("position %v", p)
			}
		})
	}
}

// TestTwoMembers: members that share a store lose and double nothing while they come
// and go.
func TestTwoMembers(t *testing.T) {
	c := newCluster1(t, kfake.SeedTopics(4, "logs"))
	cl := client(t, c)
	s := newStore(t)
	cfg := Config{Brokers: c.ListenAddrs(), Topics: []string{"logs"}}
	var want []string
	write := func() { want = append(want, produce(t, cl, "logs", 4, len(want), 400)...) }
	write()
	_, stopA := run(t, s, cfg)
	write()
	s.waitLines(len(want))
	b, stopB := run(t, s, cfg)
	write()
	if _, err := c.WaitGroupStable(context.Background(), DefaultGroup, 2); err != nil {
		t.Fatal(err)
	}
	write()
	s.waitLines(len(want))
	s.wait("partitions given away", func() bool { return s.left == 2 && len(s.open) == 4 })
	write()
	stopA()
	write()
	s.waitLines(len(want))
	_, stopC := run(t, s, cfg)
	write()
	s.waitLines(len(want))
	stopB()
	write()
	s.waitLines(len(want))
	stopC()
	s.exactly(want)
	for _, p := range b.Partitions() {
		if p.Reading {
			t.Errorf("%+v is still read", p)
		}
	}
}

// TestGap: messages that were deleted before they were read are counted.
func TestGap(t *testing.T) {
	c := newCluster1(t, kfake.SeedTopics(1, "logs"))
	cl := client(t, c)
	cfg := Config{Brokers: c.ListenAddrs(), Topics: []string{"logs"}}
	want := produce(t, cl, "logs", 1, 0, 100)
	s := newStore(t)
	_, stop := run(t, s, cfg)
	s.waitLines(100)
	stop()
	more := produce(t, cl, "logs", 1, 100, 100)
	if err := c.DeleteRecords("logs", 0, 160); err != nil {
		t.Fatal(err)
	}
	src, stop := run(t, s, cfg)
	s.waitLines(140)
	stop()
	s.exactly(append(want, more[60:]...))
	if p := src.Partitions()[0]; p.Gaps != 1 || p.Missed != 60 {
		t.Errorf("%+v", p)
	}
}

// TestRecreatedTopic: a topic that is another one is read from its start.
func TestRecreatedTopic(t *testing.T) {
	c := newCluster1(t, kfake.SeedTopics(1, "logs"))
	cl := client(t, c)
	cfg := Config{Brokers: c.ListenAddrs(), Topics: []string{"logs"}}
	want := produce(t, cl, "logs", 1, 0, 100)
	s := newStore(t)
	_, stop := run(t, s, cfg)
	s.waitLines(100)
	stop()
	if err := c.DeleteTopic("logs"); err != nil {
		t.Fatal(err)
	}
	if err := c.CreateTopic("logs", 1, nil); err != nil {
		t.Fatal(err)
	}
	cl = client(t, c)
	want = append(want, produce(t, cl, "logs", 1, 100, 20)...)
	_, stop = run(t, s, cfg)
	s.waitLines(120)
	stop()
	s.exactly(want)
}

// TestTransactions: aborted messages do not count, marks of transactions are neither
// lines nor gaps, and an open transaction is not caught up.
func TestTransactions(t *testing.T) {
	c := newCluster1(t, kfake.SeedTopics(1, "logs"))
	cl := client(t, c, kgo.TransactionalID("tx"))
	cfg := Config{Brokers: c.ListenAddrs(), Topics: []string{"logs"}}
	s := newStore(t)
	src, stop := run(t, s, cfg)
	var want []string
	for i := range 12 {
		if err := cl.BeginTransaction(); err != nil {
			t.Fatal(err)
		}
		lines := produce(t, cl, "logs", 1, 10*i, 10)
		end := kgo.TryAbort
		if i%3 != 0 {
			end = kgo.TryCommit
			want = append(want, lines...)
		}
		if err := cl.EndTransaction(context.Background(), end); err != nil {
			t.Fatal(err)
		}
	}
	s.waitLines(len(want))
	s.wait("caught up", func() bool { return s.caught["kafka:logs/0"] == len(want) })
	stop()
	s.exactly(want)
	if p := src.Partitions()[0]; p.Gaps != 0 || p.Missed != 0 || p.Lag() != 0 || p.Messages != uint64(len(want)) {
		t.Errorf("%+v", p)
	}
	if p := s.positions["kafka:logs/0"]; p.Offset != 12*11 {
		t.Errorf("position %v", p)
	}
}

func TestPoison(t *testing.T) {
	c := newCluster1(t, kfake.SeedTopics(1, "logs"))
	cl := client(t, c, kgo.ProducerBatchMaxBytes(1<<20))
	values := []string{"a", "", "b\r\n", "\n\n", strings.Repeat("x", 5000), "{\n \"c\": 1\n}\n", strings.Repeat("y", 2000), "\x00\xff", "z"}
	rs := []*kgo.Record{{Topic: "logs", Value: nil, Key: []byte("tombstone")}}
	for _, v := range values {
		rs = append(rs, &kgo.Record{Topic: "logs", Value: []byte(v), Headers: []kgo.RecordHeader{{Key: "k", Value: []byte("v")}}})
	}
	if err := cl.ProduceSync(context.Background(), rs...).FirstErr(); err != nil {
		t.Fatal(err)
	}
	s := newStore(t)
	src, stop := run(t, s, Config{Brokers: c.ListenAddrs(), Topics: []string{"logs"}, MaxLine: 1024})
	s.waitLines(5)
	s.wait("caught up", func() bool { return len(s.caught) > 0 })
	stop()
	if got, want := fmt.Sprintf("%q", s.lines["kafka:logs/0"]), `["a" "b" "{  \"c\": 1 }" "\x00\xff" "z"]`; got != want {
		t.Errorf("lines %s, want %s", got, want)
	}
	p := src.Partitions()[0]
	if p.Poison[poisonEmpty] != 3 || p.Poison[poisonTooLarge] != 2 || s.skipped != 2 || p.Position != 10 || p.Gaps != 0 {
		t.Errorf("%+v, %d skipped", p, s.skipped)
	}
}

// TestDamagedBatch: what cannot be read is asked for twice, counted, and blocks
// nothing.
func TestDamagedBatch(t *testing.T) {
	s := newStore(t)
	p := &partition{Source: New(Config{}, quiet()), stream: "kafka:logs/0", handler: &handler{store: s, stream: "kafka:logs/0"}, log: quiet(), damaged: -1, mark: markOf(0)}
	p.count = p.counter("logs", 0)
	good := append(testBatch(0, "a", "b"), testBatch(2, "c")...)
	bad := testBatch(3, "d", "e")
	bad[len(bad)-1] ^= 1
	set := append(append(bytes.Clone(good), bad...), testBatch(5, "f")...)
	f := fetched{high: 6, stable: 6, set: set}
	if err := p.deliver(t.Context(), f); err == nil || p.next != 3 || s.n != 3 {
		t.Fatalf("%v at %d with %d lines", err, p.next, s.n)
	}
	if err := p.deliver(t.Context(), f); err != nil || p.next != 6 || s.n != 4 || p.count.poison[poisonDamaged].Load() != 1 {
		t.Fatalf("%v at %d with %d lines", err, p.next, s.n)
	}
	if err := p.deliver(t.Context(), fetched{high: 9, stable: 9, set: testBatch(6, "g")[:60]}); err == nil {
		t.Fatal("a lone piece of a batch was taken")
	}
}

func TestBrokerAwayAndBack(t *testing.T) {
	dir := t.TempDir()
	start := func(port int) *kfake.Cluster {
		c, err := kfake.NewCluster(kfake.NumBrokers(1), kfake.SeedTopics(2, "logs"), kfake.DataDir(dir), kfake.Ports(port), kfake.GroupMinSessionTimeout(100*time.Millisecond))
		if err != nil {
			t.Fatal(err)
		}
		return c
	}
	c := start(0)
	_, port, _ := strings.Cut(c.ListenAddrs()[0], ":")
	var n int
	if _, err := fmt.Sscan(port, &n); err != nil {
		t.Fatal(err)
	}
	cl, err := kgo.NewClient(kgo.SeedBrokers(c.ListenAddrs()...), kgo.RecordPartitioner(kgo.ManualPartitioner()))
	if err != nil {
		t.Fatal(err)
	}
	want := produce(t, cl, "logs", 2, 0, 100)
	cl.Close()
	addrs := c.ListenAddrs()
	s := newStore(t)
	_, stop := run(t, s, Config{Brokers: addrs, Topics: []string{"logs"}})
	s.waitLines(100)
	c.Close()
	s.wait("both unknown", func() bool {
		n := 0
		for _, text := range s.unknown {
			if strings.Contains(text, "refused") {
				n++
			}
		}
		return n == 2
	})
	c = start(n)
	defer c.Close()
	want = append(want, produce(t, client(t, c), "logs", 2, 100, 100)...)
	s.waitLines(200)
	s.wait("known again", func() bool { return len(s.unknown) == 0 })
	stop()
	s.exactly(want)
}

// TestUnknownTopic: a topic that is missing is told, and read when it is there.
func TestUnknownTopic(t *testing.T) {
	c := newCluster1(t, kfake.SeedTopics(1, "logs"))
	want := produce(t, client(t, c), "logs", 1, 0, 10)
	s := newStore(t)
	src, stop := run(t, s, Config{Brokers: c.ListenAddrs(), Topics: []string{"logs", "later", "web.*"}})
	s.waitLines(10)
	if m := src.Missing(); len(m) != 1 || !strings.Contains(m[0], "later: the topic does not exist: create it, or mend kafka.topics") {
		t.Errorf("missing: %q", m)
	}
	for _, topic := range []string{"later", "web.shop", "__web"} {
		if err := c.CreateTopic(topic, 2, nil); err != nil {
			t.Fatal(err)
		}
	}
	cl := client(t, c)
	want = append(want, produce(t, cl, "later", 2, 10, 10)...)
	want = append(want, produce(t, cl, "web.shop", 2, 20, 10)...)
	want = append(want, produce(t, cl, "logs", 1, 30, 10)...)
	s.waitLines(40)
	s.wait("no trouble", func() bool { return len(s.unknown) == 0 })
	stop()
	if m := src.Missing(); len(m) != 0 {
		t.Errorf("missing: %q", m)
	}
	s.exactly(want)
	if _, left := s.positions["kafka:later"]; left {
		t.Error("the position of the topic as a whole is kept")
	}
}

func TestWrongCredentials(t *testing.T) {
	for _, m := range []string{Plain, ScramSHA256, ScramSHA512} {
		t.Run(m, func(t *testing.T) {
			c := newCluster1(t, kfake.SeedTopics(1, "logs"), kfake.EnableSASL(), kfake.Superuser(strings.ToUpper(m), "reader", "right-password"))
			s := newStore(t)
			cfg := Config{Brokers: c.ListenAddrs(), Topics: []string{"logs"}, SASL: SASL{Mechanism: m, User: "reader", Password: "wrong-password"}}
			_, stop := run(t, s, cfg)
			s.wait("trouble", func() bool { return strings.Contains(s.unknown["kafka:logs"], "refuses user or password") })
			s.wait("ready", func() bool { return s.ready > 0 })
			stop()
			for _, text := range s.told {
				if strings.Contains(text, "wrong-password") {
					t.Error("the password is told")
				}
			}
			cfg.SASL.Password = "right-password"
			_, stop = run(t, s, cfg)
			s.wait("caught up", func() bool { return len(s.caught) == 1 && len(s.unknown) == 0 })
			stop()
		})
	}
}

// TestLeaderMoves: partitions and the group's coordinator move between brokers.
func TestLeaderMoves(t *testing.T) {
	c := newCluster1(t, kfake.NumBrokers(3), kfake.SeedTopics(4, "logs"))
	cl := client(t, c)
	s := newStore(t)
	_, stop := run(t, s, Config{Brokers: c.ListenAddrs(), Topics: []string{"logs"}})
	var want []string
	for i := range 6 {
		want = append(want, produce(t, cl, "logs", 4, len(want), 100)...)
		s.waitLines(len(want))
		if i%2 == 0 {
			c.ShufflePartitionLeaders()
		} else {
			c.RehashCoordinators()
		}
	}
	s.waitLines(len(want))
	stop()
	s.exactly(want)
}

// TestFetchErrors: every passing error of a broker is got over.
func TestFetchErrors(t *testing.T) {
	c := newCluster1(t, kfake.SeedTopics(1, "logs"))
	cl := client(t, c)
	s := newStore(t)
	_, stop := run(t, s, Config{Brokers: c.ListenAddrs(), Topics: []string{"logs"}})
	var want []string
	for _, e := range []*kerr.Error{kerr.NotLeaderForPartition, kerr.KafkaStorageError, kerr.TopicAuthorizationFailed, kerr.UnknownServerError, kerr.OffsetOutOfRange} {
		c.Fault(kfake.Fault{Topic: "logs", Err: e, Count: 2, Keys: fetchKeys})
		want = append(want, produce(t, cl, "logs", 1, len(want), 10)...)
		s.waitLines(len(want))
	}
	stop()
	s.exactly(want)
}

// TestAlone: all partitions are read without a member in the group, offsets are
// committed to it, and our own positions win over what others committed.
func TestAlone(t *testing.T) {
	c := newCluster1(t, kfake.SeedTopics(3, "logs"))
	cl := client(t, c)
	want := produce(t, cl, "logs", 3, 0, 300)
	s := newStore(t)
	cfg := Config{Brokers: c.ListenAddrs(), Topics: []string{"logs*"}, Alone: true}
	for i := range 3 {
		_, stop := run(t, s, cfg)
		s.waitLines(len(want))
		waitCommitted(t, c, "logs", 2, int64(len(want)/3))
		want = append(want, produce(t, cl, "logs", 3, len(want), 300)...)
		s.waitLines(len(want))
		if i == 1 { // a topic that comes later
			if err := c.CreateTopic("logs2", 1, nil); err != nil {
				t.Fatal(err)
			}
			s.wait("the new topic", func() bool { return s.caught["kafka:logs2/0"] == 0 && len(s.open) == 4 })
			want = append(want, produce(t, cl, "logs", 3, len(want), 300)...)
			s.waitLines(len(want))
		}
		if g := c.GroupInfo(DefaultGroup); g == nil || len(g.Members) != 0 {
			t.Errorf("the group is %+v", g)
		}
		stop()
	}
	s.exactly(want)
}
