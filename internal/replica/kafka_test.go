package replica

import (
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kfake"

	"github.com/denywatch/denywatch/ingest/kafka"
	"github.com/denywatch/denywatch/internal/state"
)

// TestKafka: two members on a cluster of Kafka's protocol, with the topic made by
// them; the second takes over from the first, and the first from the second.
func TestKafka(t *testing.T) {
	c, err := kfake.NewCluster(kfake.NumBrokers(3))
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	type member struct {
		*node
		log *kafka.Log
	}
	start := func(n *node) *member {
		l := kafka.NewLog(kafka.Config{Brokers: c.ListenAddrs()}, DefaultTopic)
		n.on = l
		n.start()
		return &member{n, l}
	}
	node1, node2 := newNode(t, nil, "a"), newNode(t, nil, "b")
	a := start(node1)
	a.elect()
	a.must("x", "1")
	b := start(node2)
	big := string(make([]byte, 3<<20))
	a.must("y", big)
	b.wants("x", "1", "y", big)
	// The lead of the partition moves in the middle of it all.
	for i := range int32(3) {
		if err := c.MoveTopicPartition(DefaultTopic, 0, i); err != nil {
			t.Fatal(err)
		}
		a.must("x", "2")
	}
	if err := a.lead.Resign(t.Context()); err != nil {
		t.Fatal(err)
	}
	a.kill()
	a.log.Close()
	b.elect()
	b.must("x", "3")
	a = start(node1)
	a.wants("x", "3", "y", big)
	b.kill() // without a word
	b.log.Close()
	a.elect()
	if err := a.store.Update(func(tx *state.Tx) error { return tx.Delete("b", "y") }); err != nil {
		t.Fatal(err)
	}
	a.wants("x", "3")
	a.kill()
	a.log.Close()
}

// quickly is a session for tests whose clock is real.
const quickly = 1500 * time.Millisecond
