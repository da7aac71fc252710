package kafka

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kgo"
)

// TestFields: topic, key and headers become fields of the lines they belong to.
func TestFields(t *testing.T) {
	c := newCluster1(t, kfake.SeedTopics(1, "shop.web", "shop.web.eu", "pay"))
	cl := client(t, c)
	at := time.UnixMilli(1767225600000)
	write := func(topic, value, key string, headers ...string) {
		at = at.Add(time.Second)
		r := &kgo.Record{Topic: topic, Value: []byte(value), Key: []byte(key), Timestamp: at}
		for _, h := range headers {
			name, v, _ := strings.Cut(h, "=")
			r.Headers = append(r.Headers, kgo.RecordHeader{Key: name, Value: []byte(v)})
		}
		if err := cl.ProduceSync(t.Context(), r).FirstErr(); err != nil {
			t.Fatal(err)
		}
	}
	write("shop.web", "a", "ann", "role=admin", "role=viewer,editor", "other=x")
	write("shop.web", "b", "ann", "role=viewer,editor")
	write("shop.web", "c", "", "role=")
	write("shop.web", "d", "bob")
	write("shop.web.eu", "e", "")
	write("pay", "f", "")
	for _, x := range []struct {
		name     string
		fields   map[string]string
		services map[string]string
		want     []string
	}{
		{"none", nil, nil, nil},
		{"topic", map[string]string{"service": FromTopic}, nil, []string{
			"a service=shop.web", "b service=shop.web", "c service=shop.web", "d service=shop.web", "e service=shop.web.eu", "f service=pay",
		}},
		{"services", nil, map[string]string{"shop.*": "shop", "shop.web.*": "europe", "shop.web": "web"}, []string{
			"a service=web", "b service=web", "c service=web", "d service=web", "e service=europe",
		}},
		{"headers and keys", map[string]string{"role": "header:role", "user": FromKey}, nil, []string{
			"a role=viewer,editor", "a user=ann", "b role=viewer,editor", "b user=ann", "d user=bob",
		}},
		{"times", map[string]string{"time": FromTimestamp}, nil, []string{
			"a time=1767225601000", "b time=1767225602000", "c time=1767225603000", "d time=1767225604000", "e time=1767225605000", "f time=1767225606000",
		}},
		{"services by key", map[string]string{"service": FromKey}, map[string]string{"ann": "hers"}, []string{"a service=hers", "b service=hers"}},
	} {
		t.Run(x.name, func(t *testing.T) {
			s := newStore(t)
			group := strings.ReplaceAll(x.name, " ", "-")
			_, stop := run(t, s, Config{Brokers: c.ListenAddrs(), Topics: []string{"shop.*", "pay"}, Group: group, Fields: x.fields, Services: x.services})
			s.waitLines(6)
			stop()
			slices.Sort(s.fields)
			if !slices.Equal(s.fields, x.want) {
				t.Errorf("fields\n%s\nwant\n%s", strings.Join(s.fields, "\n"), strings.Join(x.want, "\n"))
			}
		})
	}
}

// TestFieldsJoinRuns: a run ends only where what is said changes.
func TestFieldsJoinRuns(t *testing.T) {
	p := benchPartition()
	counted := &batches{}
	p.handler = counted
	cfg := Config{Fields: map[string]string{"account": FromKey, "service": FromTopic}}
	p.fields = newFields(&cfg, "t")
	for i, key := range []string{"a", "a", "b", "b", "b", "", "a"} {
		if err := p.add(t.Context(), int64(i), &record{key: []byte(key), value: []byte("line")}); err != nil {
			t.Fatal(err)
		}
	}
	if err := p.flush(t.Context(), 7); err != nil {
		t.Fatal(err)
	}
	if got, want := fmt.Sprint(counted.of), "[2 3 1 1]"; got != want {
		t.Errorf("runs of %s lines, want %s", got, want)
	}
	same := &record{key: []byte("a"), value: []byte("line")}
	if n := testing.AllocsPerRun(100, func() {
		if p.fields.differ(same) {
			t.Fatal("differs")
		}
	}); n > 0 {
		t.Errorf("%v allocations to compare a message", n)
	}
}
