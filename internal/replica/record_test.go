package replica

import (
	"reflect"
	"strings"
	"testing"

	"github.com/denywatch/denywatch/ingest/kafka"
	"github.com/denywatch/denywatch/internal/secret"
	"github.com/denywatch/denywatch/internal/state"
)

func FuzzDecode(f *testing.F) {
	f.Add(encode(nil, []state.Change{{Bucket: "b", Key: "k", Value: []byte("v")}, {Bucket: "b", Key: "gone"}, {Bucket: "c", Key: "empty", Value: []byte{}}}))
	f.Add([]byte{1, 'b', 1, 'k', 9})
	f.Fuzz(func(t *testing.T, b []byte) {
		changes, err := decode(b)
		if err != nil {
			return
		}
		again, err := decode(encode(nil, changes))
		if err != nil || !reflect.DeepEqual(changes, again) {
			t.Fatalf("%v became %v, %v", changes, again, err)
		}
	})
}

// FuzzTracker gives a tracker records of all forms; whatever they are, it keeps to
// its bounds, and foreign ones move nothing.
func FuzzTracker(f *testing.F) {
	id := termID{Epoch: 1, Nonce: 7}
	c := claim{Owner: 1, Name: "a"}
	p := part{tx: 1, last: true, whole: true, body: encode(nil, []state.Change{{Bucket: "b", Key: "k", Value: []byte("v")}})}
	f.Add(id.key(0), c.seal(id.key(0)), id.key(1), p.seal(id.key(1)))
	f.Add(id.beat(), sealBeat(id.beat(), kindResign, 5), id.key(0), []byte(nil))
	f.Add("", []byte{1}, "x.y.z", []byte{})
	f.Fuzz(func(t *testing.T, key1 string, value1 []byte, key2 string, value2 []byte) {
		var tr tracker
		for range 2 {
			tr.take(key1, value1)
			tr.take(key2, value2)
			for _, k := range tr.superfluous() {
				if _, _, _, ok := parseKey(k); !ok {
					t.Fatalf("a tombstone of %q", k)
				}
				if len(tr.spans) > 2 {
					t.Fatal("more terms than records")
				}
				break
			}
		}
	})
}

func TestKeys(t *testing.T) {
	id := termID{Epoch: 12, Nonce: 1<<64 - 1}
	for _, n := range []uint64{0, 1, 1<<64 - 1} {
		if got, m, beat, ok := parseKey(id.key(n)); got != id || m != n || beat || !ok {
			t.Errorf("%s is %v %d %v %v", id.key(n), got, m, beat, ok)
		}
	}
	if got, _, beat, ok := parseKey(id.beat()); got != id || !beat || !ok {
		t.Errorf("%s is %v %v %v", id.beat(), got, beat, ok)
	}
	for _, key := range []string{"", "a", "1.2.3", id.key(1) + " ", id.prefix() + "01", id.prefix() + "-1", strings.ToUpper(id.key(1))} {
		if _, _, _, ok := parseKey(key); ok {
			t.Errorf("%q is taken for a key", key)
		}
	}
}

func TestValidate(t *testing.T) {
	good := Config{Brokers: []string{"kafka-1:9092"}, Topic: DefaultTopic, Session: DefaultSession}
	for _, x := range []struct {
		name string
		set  func(*Config)
		want string
	}{
		{"good", func(*Config) {}, ""},
		{"broker", func(c *Config) { c.Brokers = []string{"kafka"} }, "brokers[0]: must be host:port, such as kafka-1:9092"},
		{"pattern", func(c *Config) { c.Topic = "state.*" }, "topic: must be the name of one topic, not a pattern"},
		{"topic", func(c *Config) { c.Topic = "a b" }, "topic: must be up to 249 letters, digits, dots, dashes or underscores"},
		{"sasl", func(c *Config) { c.SASL = kafka.SASL{User: "u", Password: secret.String("p")} }, "sasl.mechanism: is missing; plain, scram-sha-256, scram-sha-512 are known"},
		{"session", func(c *Config) { c.Session = 1 }, "session: must be between 2s and 5m0s (10s is usual)"},
		{"name", func(c *Config) { c.Name = "a\nb" }, "name: must be up to 200 bytes without control characters"},
	} {
		c := good
		x.set(&c)
		var got []string
		for _, err := range c.Validate() {
			got = append(got, err.Error())
		}
		if strings.Join(got, "; ") != x.want {
			t.Errorf("%s: %q, want %q", x.name, got, x.want)
		}
	}
	if (Config{}).Named() || !good.Named() || (Config{Name: "a"}).Member() != "a" {
		t.Error("named")
	}
}
