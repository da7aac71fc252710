package app

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/denywatch/denywatch/configs"
	"github.com/denywatch/denywatch/internal/web"
)

// clusterMember is one process of a cluster under test.
type clusterMember struct {
	t      *testing.T
	name   string
	config string
	url    string
	stop   context.CancelFunc
	done   chan error
	reload chan struct{}
}

func newClusterMember(t *testing.T, name, broker string) *clusterMember {
	return &clusterMember{t: t, name: name, config: fmt.Sprintf(`
state: %s
identity_key: 0123456789abcdef0123456789abcdef
cluster: {brokers: [%q], session: 2s, name: %s}
sources:
  - {name: web, format: combined, kafka: {brokers: [%q], topics: logs}}
`, t.TempDir(), broker, name, broker)}
}

func (m *clusterMember) load() (*configs.Config, error) {
	cfg, _, err := configs.Parse([]byte(m.config), "denywatch.yaml", nil)
	return cfg, err
}

func (m *clusterMember) start() {
	m.t.Helper()
	cfg, err := m.load()
	if err != nil {
		m.t.Fatal(err)
	}
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		m.t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	m.url, m.stop, m.done, m.reload = "http://"+ln.Addr().String(), cancel, make(chan error, 1), make(chan struct{}, 1)
	go func() {
		m.done <- Run(ctx, cfg, Options{Stdout: io.Discard, Log: slog.New(slog.DiscardHandler), Listener: ln}, m.reload, m.load)
	}()
}

// end stops the member in order.
func (m *clusterMember) end() {
	m.t.Helper()
	m.stop()
	if err := <-m.done; err != nil {
		m.t.Errorf("%s: %v", m.name, err)
	}
}

func (m *clusterMember) status() (st web.Status) {
	m.t.Helper()
	_ = json.Unmarshal([]byte(get(m.t, m.url+"/v1/status")), &st) // not answered yet
	return st
}

// await waits until the member's status is as wanted.
func (m *clusterMember) await(what string, ok func(web.Status) bool) {
	m.t.Helper()
	var st web.Status
	for range 3000 {
		if st = m.status(); ok(st) {
			return
		}
		select {
		case err := <-m.done:
			m.t.Fatalf("%s ended: %v", m.name, err)
		case <-time.After(20 * time.Millisecond):
		}
	}
	m.t.Fatalf("%s: waited in vain for %s: %+v %+v", m.name, what, st, st.Cluster)
}

// counted waits until the member is active and has counted n lines.
func (m *clusterMember) counted(n int) {
	m.t.Helper()
	m.await(fmt.Sprintf("%d lines", n), func(st web.Status) bool {
		return st.Cluster != nil && st.Cluster.Role == "active" && len(st.Sources) == 1 && st.Sources[0].Lines == uint64(n)
	})
}

// standsBy waits until the member follows another one.
func (m *clusterMember) standsBy(active string) {
	m.t.Helper()
	m.await("standing by", func(st web.Status) bool {
		return st.Cluster != nil && st.Cluster.Role == "standby" && st.Cluster.Active == active && st.Ready
	})
}

// code is the status of an answer, and its body.
func (m *clusterMember) code(method, path string) (int, string) {
	m.t.Helper()
	req, err := http.NewRequestWithContext(m.t.Context(), method, m.url+path, strings.NewReader("{}"))
	if err != nil {
		m.t.Fatal(err)
	}
	req.Header.Set("Content-Type", "application/json")
	res, err := (&http.Client{Timeout: 30 * time.Second}).Do(req)
	if err != nil {
		m.t.Fatal(err)
	}
	defer func() { _ = res.Body.Close() }()
	b, err := io.ReadAll(res.Body)
	if err != nil {
		m.t.Fatal(err)
	}
	return res.StatusCode, string(b)
}

// TestCluster: of two members one counts; the other takes over with every line
// counted once, and says meanwhile who is active.
func TestCluster(t *testing.T) {
	kc, err := kfake.NewCluster(kfake.NumBrokers(3), kfake.SeedTopics(3, "logs"))
	if err != nil {
		t.Fatal(err)
	}
	defer kc.Close()
	producer, err := kgo.NewClient(kgo.SeedBrokers(kc.ListenAddrs()...), kgo.RecordPartitioner(kgo.ManualPartitioner()))
	if err != nil {
		t.Fatal(err)
	}
	defer producer.Close()
	at, all := time.Now().Add(-time.Hour), 0
	produce := func(n int) {
		var rs []*kgo.Record
		for i := range n {
			at = at.Add(10 * time.Millisecond)
			rs = append(rs, &kgo.Record{Topic: "logs", Partition: int32(i % 3), Value: fmt.Appendf(nil,
				`192.0.2.%d - - [%s] "GET /a HTTP/1.1" 200 1 "-" "-"`, i%200, at.UTC().Format("02/Jan/2006:15:04:05 -0700"))})
		}
		if err := producer.ProduceSync(t.Context(), rs...).FirstErr(); err != nil {
			t.Fatal(err)
		}
		all += n
	}
	a, b := newClusterMember(t, "a", kc.ListenAddrs()[0]), newClusterMember(t, "b", kc.ListenAddrs()[1])
	produce(3000)
	a.start()
	a.counted(all)
	b.start()
	b.standsBy("a")
	for _, x := range []struct {
		m            *clusterMember
		method, path string
		code         int
		says         string
	}{
		{a, "GET", "/readyz", 200, "role: active, active: a"},
		{a, "GET", "/readyz?role=active", 200, "ready"},
		{a, "GET", "/v1/incidents", 200, "incidents"},
		{a, "GET", "/metrics", 200, "denywatch_cluster_active 1"},
		{b, "GET", "/healthz", 200, "ok"},
		{b, "GET", "/readyz", 200, "role: standby, active: a"},
		{b, "GET", "/readyz?role=active", 503, "not ready"},
		{b, "GET", "/v1/incidents", 503, "stands by; a is active"},
		{b, "POST", "/v1/markers", 503, "takes nothing"},
		{b, "GET", "/metrics", 200, "denywatch_cluster_active 0"},
		{b, "GET", "/", 200, "denywatch"},
	} {
		if code, body := x.m.code(x.method, x.path); code != x.code || !strings.Contains(body, x.says) {
			t.Errorf("%s %s of %s: %d %.200s", x.method, x.path, x.m.name, code, body)
		}
	}
	// A clean stop: the other one goes on at once.
	produce(300)
	a.end()
	b.counted(all)
	produce(300)
	b.counted(all)
	a.start()
	a.standsBy("b")
	// Both read their configuration anew, the standby first. It counts otherwise
	// from then on, and still takes over.
	for _, m := range []*clusterMember{a, b} {
		m.config = strings.Replace(m.config, "sources:", "denials: {statuses: [403, 404]}\nsources:", 1)
		m.reload <- struct{}{}
	}
	b.await("the reload", func(web.Status) bool { return strings.Contains(get(t, b.url+"/v1/markers"), "config") })
	produce(300)
	b.counted(all)
	b.end()
	a.counted(all)
	if n := strings.Count(get(t, a.url+"/v1/markers"), `"kind":"config"`); n != 1 {
		t.Errorf("%d config markers", n)
	}
	a.end()
	// A member with another key says why it does not take over.
	c := newClusterMember(t, "c", kc.ListenAddrs()[2])
	c.config = strings.Replace(c.config, "identity_key: 0", "identity_key: f", 1)
	c.start()
	c.await("a refusal", func(st web.Status) bool {
		return !st.Ready && strings.Contains(strings.Join(st.Problems, " "), "another identity_key than a")
	})
	c.end()
	for p := range 3 {
		if got := kc.GroupInfo("denywatch").Commits["logs"][int32(p)].Offset; got != int64(all/3) {
			t.Errorf("partition %d: committed %d of %d", p, got, all/3)
		}
	}
}
