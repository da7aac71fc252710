package e2e

import (
	"context"
	"encoding/json"
	"fmt"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/denywatch/denywatch/internal/incident"
	"github.com/denywatch/denywatch/internal/servertest"
	"github.com/denywatch/denywatch/internal/tally"
)

// brokers is a Kafka cluster of the test's own, whose nodes it kills.
type brokers struct {
	dir    string
	port   int
	nodes  [3]*servertest.Process
	client *kgo.Client
}

// newBrokers starts a cluster.
func newBrokers(t *testing.T) *brokers {
	t.Helper()
	jars := os.Getenv("KAFKA_DIR")
	if jars == "" {
		servertest.Lack(t, "KAFKA_DIR does not name the folder that .ci/kafka/run has used")
	}
	servertest.Need(t, "java")
	k := &brokers{dir: t.TempDir(), port: freePorts(t, 2*len(brokers{}.nodes))}
	if err := os.Symlink(filepath.Join(jars, "lib"), filepath.Join(k.dir, "lib")); err != nil {
		t.Fatal(err)
	}
	for n := range k.nodes {
		k.start(t, n)
	}
	var err error
	if k.client, err = kgo.NewClient(kgo.SeedBrokers(k.addresses()...), kgo.RecordPartitioner(kgo.ManualPartitioner()),
		kgo.ProducerBatchCompression(kgo.SnappyCompression()), kgo.MetadataMinAge(100*time.Millisecond)); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(k.client.Close)
	return k
}

// freePorts is the first of n ports in a row that nobody listens on now. They are not
// among those that systems give to outgoing connections, for brokers that are killed
// want theirs again.
func freePorts(t *testing.T, n int) int {
	t.Helper()
	for first := 19101; first < 32000; first += n {
		var open []net.Listener
		for i := range n {
			l, err := net.Listen("tcp", fmt.Sprintf("127.0.0.1:%d", first+i))
			if err != nil {
				break
			}
			open = append(open, l)
		}
		for _, l := range open {
			_ = l.Close()
		}
		if len(open) == n {
			return first
		}
	}
	t.Fatal("no ports are free")
	return 0
}

func (k *brokers) address(n int) string { return fmt.Sprintf("127.0.0.1:%d", k.port+2*n) }

func (k *brokers) addresses() (all []string) {
	for n := range k.nodes {
		all = append(all, k.address(n))
	}
	return all
}

func (k *brokers) start(t *testing.T, n int) {
	t.Helper()
	k.nodes[n] = servertest.Start(t, exec.Command(filepath.Join("..", "..", ".ci", "kafka", "run"), k.dir, fmt.Sprint(k.port), fmt.Sprint(n+1), fmt.Sprint(len(k.nodes))))
}

// create makes a topic with three replicas as soon as all brokers are there.
func (k *brokers) create(t *testing.T, topic string, partitions int32) {
	t.Helper()
	for n, p := range k.nodes {
		p.Await(t, "a broker to listen", func() (bool, string) {
			c, err := net.Dial("tcp", k.address(n))
			if err != nil {
				return false, err.Error()
			}
			return c.Close() == nil, ""
		})
	}
	servertest.Await(t, "the topic", func() (bool, string) {
		req := kmsg.NewPtrCreateTopicsRequest()
		rt := kmsg.NewCreateTopicsRequestTopic()
		rt.Topic, rt.NumPartitions, rt.ReplicationFactor = topic, partitions, int16(len(k.nodes))
		req.Topics, req.TimeoutMillis = append(req.Topics, rt), 5000
		res, err := req.RequestWith(t.Context(), k.client)
		if err != nil {
			return false, err.Error()
		}
		return res.Topics[0].ErrorCode == 0 || res.Topics[0].ErrorCode == 36, fmt.Sprint(res.Topics[0].ErrorCode) // 36: it exists
	})
}

// whole waits until every partition of every topic has all its replicas in sync.
func (k *brokers) whole(t *testing.T) {
	t.Helper()
	servertest.Await(t, "all replicas to be in sync", func() (bool, string) {
		req := kmsg.NewPtrMetadataRequest() // of all topics
		res, err := req.RequestWith(t.Context(), k.client)
		if err != nil {
			return false, err.Error()
		}
		for _, topic := range res.Topics {
			for _, p := range topic.Partitions {
				if len(p.ISR) < len(k.nodes) {
					return false, fmt.Sprintf("partition %d of %s has %d", p.Partition, *topic.Topic, len(p.ISR))
				}
			}
		}
		return len(res.Brokers) == len(k.nodes), fmt.Sprintf("%d brokers", len(res.Brokers))
	})
}

// stream writes the application's log to a topic, each line at its time, and keeps
// count.
type stream struct {
	*traffic
	k     *brokers
	topic string
	rate  time.Duration // between two lines

	mu     sync.Mutex
	at     time.Time // of the next line
	done   *written
	n      int32
	failed error
}

// partitions is how many a stream is spread over.
const partitions = 6

// upto writes the lines up to a time. Records are on their way when it returns.
func (s *stream) upto(end time.Time) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for ; s.at.Before(end); s.at = s.at.Add(s.rate) {
		r := s.next(s.at)
		s.done.lines["app"]++
		s.done.columns[column{"app", service, r.route, tally.StatusOf(uint16(r.status)).String()}]++
		s.n = (s.n + 1) % partitions
		s.k.client.Produce(context.Background(), &kgo.Record{Topic: s.topic, Partition: s.n, Value: []byte(strings.TrimSpace(r.json()))}, func(_ *kgo.Record, err error) {
			if err != nil {
				s.fail(err)
			}
		})
	}
}

func (s *stream) fail(err error) {
	go func() { // the caller may hold the lock
		s.mu.Lock()
		defer s.mu.Unlock()
		s.failed = err
	}()
}

// still holds the stream, with everything acknowledged, while f looks at what was
// written.
func (s *stream) still(t *testing.T, f func(*written)) {
	t.Helper()
	s.mu.Lock()
	defer s.mu.Unlock()
	if err := s.k.client.Flush(t.Context()); err != nil || s.failed != nil {
		t.Fatal(err, s.failed)
	}
	f(s.done.clone())
}

// peer is a member of the cluster of denywatch.
type peer struct {
	name, config string
	*daemon
}

var standing = regexp.MustCompile(`msg="denywatch stands by".* listen=(http://[0-9.:]+)`)

func (p *peer) start(t *testing.T) {
	t.Helper()
	p.daemon = launch(t, bin.normal, p.config)
	p.Await(t, "the member to stand by", func() (bool, string) {
		if m := standing.FindStringSubmatch(p.Stderr.String()); m != nil {
			p.url = m[1]
		}
		return p.url != "", p.Stderr.Tail()
	})
}

// active reports whether the member is the active one.
func (p *peer) active() bool {
	status, _, err := p.get("/readyz?role=active")
	return err == nil && status == http.StatusOK
}

// active waits until one of the members is active. Which one may change at any time:
// when a broker dies, brokers take no less than a session to be themselves again.
func active(t *testing.T, members ...*peer) (at *peer) {
	t.Helper()
	servertest.Await(t, "one of the members to be active", func() (bool, string) {
		why := ""
		for _, p := range members {
			if p.active() {
				at = p
				return true, ""
			}
			why += p.name + ":\n" + p.Stderr.Tail()
		}
		return false, why
	})
	return at
}

// follows waits until the member stands by and is ready to take over.
func (p *peer) follows(t *testing.T) {
	t.Helper()
	p.Await(t, p.name+" to follow", func() (bool, string) {
		_, body, err := p.get("/readyz")
		return err == nil && strings.HasPrefix(body, "ready\nrole: standby, active: m"), fmt.Sprint(body, err, "\n", p.Stderr.Tail())
	})
}

// TestCluster is the fault test of high availability: three brokers, six partitions,
// a million lines, two members. In turn both members are killed, every broker is killed
// and started again, the active member is frozen past its session and woken, and others
// join and leave. After each of these the active member has counted precisely what was
// written; in the end everything was told once, and the incidents are those of a
// process that read the same topic undisturbed.
func TestCluster(t *testing.T) {
	long(t)
	const history, rate, lines = 84 * time.Minute, 5 * time.Millisecond, 1_000_000
	seed := uint64(time.Now().UnixNano())
	t.Logf("seed %d", seed)
	began := time.Now()
	phase := func(what string) { t.Logf("%5.1f s: %s", time.Since(began).Seconds(), what) }
	k := newBrokers(t)
	k.create(t, "app", partitions)
	phase("three brokers run")

	now := time.Now()
	old := wall{"/billing/upgrade", "viewer", now.Add(-25 * time.Minute), now.Add(-15 * time.Minute)}
	live := wall{"/projects/{id}/export", "editor", now.Add(25 * time.Second), now.Add(60 * time.Second)}
	s := &stream{traffic: newTraffic(seed, old, live), k: k, topic: "app", rate: rate, at: now.Add(-history), done: newWritten()}
	s.upto(now)
	s.still(t, func(w *written) {
		if w.lines["app"] < lines {
			t.Fatalf("only %d lines", w.lines["app"])
		}
	})
	phase("the past is written")
	var writing sync.WaitGroup
	stop := make(chan struct{})
	end := sync.OnceFunc(func() { close(stop); writing.Wait() })
	defer end()
	writing.Go(func() {
		tick := time.NewTicker(25 * time.Millisecond)
		defer tick.Stop()
		for {
			select {
			case <-stop:
				return
			case <-tick.C:
				s.upto(time.Now())
			}
		}
	})

	r := newReceiver(t, seed, 0.2)
	dir := t.TempDir()
	source := fmt.Sprintf("sources:\n  - {name: app, format: json, vantage: app, lateness: 20s, kafka: {brokers: [%s], topics: app, group: GROUP}}\n", strings.Join(k.addresses(), ", "))
	common := fmt.Sprintf("service: %s\nlisten: 127.0.0.1:0\nslot: 10s\nidentity_key: 0123456789abcdef0123456789abcdef\ndetection: {learn: 1h}\n", service)
	member := func(name string) *peer {
		return &peer{name: name, config: write(t, filepath.Join(dir, name+".yaml"), common+
			fmt.Sprintf("state: %s\ncluster: {brokers: [%s], session: 8s, name: %s}\n", filepath.Join(dir, name), strings.Join(k.addresses(), ", "), name)+
			strings.ReplaceAll(source, "GROUP", "denywatch")+fmt.Sprintf("sinks: {webhook: {url: %q, secret: %q}}\n", r.url, signing))}
	}
	a, b := member("m-a"), member("m-b")
	a.start(t)
	active(t, a)
	b.start(t)
	// exact fails unless the active member counts precisely what was written.
	exact := func(members ...*peer) (at *peer) {
		t.Helper()
		s.still(t, func(w *written) {
			servertest.Await(t, "all lines to be read", func() (bool, string) {
				at = active(t, members...)
				st, err := at.status()
				return err == nil && len(st.Sources) == 1 && st.Sources[0].Lines >= w.lines["app"], fmt.Sprintf("%d lines: %+v %v\n%s", w.lines["app"], st, err, at.Stderr.Tail())
			})
			at.exact(t, w)
		})
		phase(at.name + " has counted precisely what was written")
		return at
	}

	a.Await(t, "a good part of the past to be read", func() (bool, string) {
		st, err := a.status()
		return err == nil && len(st.Sources) == 1 && st.Sources[0].Lines > 150_000, fmt.Sprintf("%+v %v", st, err)
	})
	a.Kill()
	r.killed()
	phase("the first active member was killed in the middle of the past")
	active(t, b)
	a.start(t)
	exact(a, b)

	for n := range k.nodes {
		k.nodes[n].Kill()
		r.killed() // the active member may be replaced before it has noted an answer
		phase(fmt.Sprintf("broker %d was killed", n+1))
		at := exact(a, b)
		k.start(t, n)
		// While it comes back:
		next := a
		if at == a {
			next = b
		}
		next.follows(t)
		switch n {
		case 0:
			at.Kill()
			r.killed()
			phase(at.name + ", the active member, was killed")
			active(t, next)
			at.start(t)
		case 1:
			if err := at.Cmd.Process.Signal(syscall.SIGSTOP); err != nil {
				t.Fatal(err)
			}
			r.killed()
			phase(at.name + ", the active member, was frozen")
			active(t, next)
			if err := at.Cmd.Process.Signal(syscall.SIGCONT); err != nil {
				t.Fatal(err)
			}
			at.follows(t)
			phase(at.name + " woke up and stands by")
		case 2:
			next.Kill()
			phase(next.name + ", the standby, was killed")
			next.start(t)
		}
		exact(a, b)
		k.whole(t)
		phase("all brokers are there")
	}

	// Others come and go: a member of the consumer group whose offsets are committed, a
	// third member of the cluster, and the active one in order.
	other, err := kgo.NewClient(kgo.SeedBrokers(k.addresses()...), kgo.ConsumerGroup("denywatch"), kgo.ConsumeTopics("app"), kgo.DisableAutoCommit())
	if err != nil {
		t.Fatal(err)
	}
	defer other.Close()
	c := member("m-c")
	c.start(t)
	c.follows(t)
	at := active(t, a, b)
	left := []*peer{a, c}
	if at == a {
		left[0] = b
	}
	left[0].follows(t)
	at.stop(t)
	phase(at.name + ", the active member, has stopped")
	next := exact(left...)

	next.Await(t, "both incidents to end", func() (bool, string) {
		all, ended := next.incidents(t), 0
		for i := range all {
			for _, w := range []wall{old, live} {
				if in := &all[i]; in.Scope.Route == w.route && in.Scope.Role == w.role && in.State == incident.Resolved {
					ended++
				}
			}
		}
		return ended == 2, fmt.Sprintf("%+v", all)
	})
	phase("both incidents have ended")
	r.set(0)
	end()
	next = exact(left...)
	next.Await(t, "all notifications to be sent", next.quiet)
	all := next.incidents(t)
	next.toldWebhook(t, all, r)
	for _, w := range []wall{old, live} {
		found(t, all, w)
	}

	single := serve(t, bin.normal, write(t, filepath.Join(dir, "single.yaml"), common+
		fmt.Sprintf("state: %s\n", filepath.Join(dir, "single"))+strings.ReplaceAll(source, "GROUP", "undisturbed")+"sinks: {console: true}\n"))
	s.still(t, func(w *written) {
		single.read(t, w)
		single.exact(t, w)
	})
	single.Await(t, "the undisturbed process to see the same incidents", func() (bool, string) {
		got, want := story(t, next.daemon), story(t, single)
		return got == want, fmt.Sprintf("the cluster saw\n%s\nthe undisturbed process\n%s", got, want)
	})
	phase(fmt.Sprintf("%d lines, %d incidents, %d webhook requests", s.done.lines["app"], len(all), r.number()))
}

// story tells everything of incidents but who was told of them, which depends on when
// somebody began to watch.
func story(t *testing.T, d *daemon) string {
	t.Helper()
	var b strings.Builder
	all := d.incidents(t)
	for i := range all {
		for _, tr := range d.timeline(t, all[i].ID) {
			text, err := json.Marshal(tr)
			if err != nil {
				t.Fatal(err)
			}
			b.Write(text)
			b.WriteByte('\n')
		}
	}
	return b.String()
}
