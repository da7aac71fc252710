package detector_test

import (
	"cmp"
	"math"
	"math/rand/v2"
	"slices"

	"github.com/denywatch/denywatch/detector/slots"
	"github.com/denywatch/denywatch/internal/access"
	"github.com/denywatch/denywatch/internal/event"
	"github.com/denywatch/denywatch/internal/tally"
)

// flow is one kind of simulated traffic: rate requests a slot by one of users
// people, of which a share is refused.
type flow struct {
	vantage event.Vantage
	key     tally.Key
	rate    float64
	deny    float64
	users   int
	first   uint64 // the number of its first user
	named   bool
	layer   event.Layer
	cause   string
	class   event.Denial // Refused if none
	flag    string
	// silent tells that nobody says who was let in; passing by that every request
	// is somebody new.
	silent, passing bool
	// also is a second vantage that sees the same requests without role, account
	// or user: three people share an address.
	also  event.Vantage
	twice bool
	// alsoAs is the class of denial that the second vantage sees, class if none.
	alsoAs event.Denial
	// sample is n where only one of n requests is logged; 0 is 1.
	sample int
	// cycle is the amplitude of a daily cycle of the log-odds.
	cycle float64
}

// world makes closed slots from flows, the same for the same seed.
type world struct {
	flows []*flow
	rng   *rand.Rand
	// noise is the standard deviation of the log-odds of every flow, slowly
	// changing.
	noise float64
	drift []float64
	// access are the declared rules.
	access *access.Model
	fresh  uint64 // how many people passed by
	// logged chooses what is logged, so that the traffic is the same whatever is.
	logged *rand.Rand
}

func newWorld(seed uint64) *world {
	return &world{rng: rand.New(rand.NewPCG(seed, 7)), logged: rand.New(rand.NewPCG(seed, 8))}
}

func poisson(r *rand.Rand, l float64) int {
	if l > 50 {
		return max(0, int(math.Round(l+math.Sqrt(l)*r.NormFloat64())))
	}
	n, p, e := 0, r.Float64(), math.Exp(-l)
	for p > e {
		n++
		p *= r.Float64()
	}
	return n
}

type leafUser struct {
	key tally.Key
	id  uint64
}

type leafHit struct {
	leafUser
	class event.Denial
}

// decide is what the rules say of a flow's requests as a vantage sees them: only the
// application knows roles, plans and flags.
func (w *world) decide(f *flow, k *tally.Key, v event.Vantage) access.Decision {
	rules := w.access.On(k.Route)
	if rules == nil {
		return access.Decision{}
	}
	list := func(s string) [][]byte {
		if s == "" {
			return nil
		}
		return [][]byte{[]byte(s)}
	}
	q := access.Query{Service: k.Service, Plan: []byte(k.Plan), Geo: []byte(k.Geo), Roles: list(k.Role)}
	if v == event.App {
		q.Flags, q.Anonymous = list(f.flag), !f.named && k.Role == ""
	}
	return rules.Decide(&q)
}

// slot makes what every vantage saw in a slot.
func (w *world) slot(start, step int64) [event.Vantages]*slots.Closed {
	type seen struct {
		leaves map[tally.Key]*slots.Leaf
		hits   map[leafHit]*slots.Hit
		splits map[tally.Key]map[slots.Split]uint32
		all    map[leafUser]uint32
	}
	var vs [event.Vantages]seen
	for v := range vs {
		vs[v] = seen{map[tally.Key]*slots.Leaf{}, map[leafHit]*slots.Hit{}, map[tally.Key]map[slots.Split]uint32{}, map[leafUser]uint32{}}
	}
	add := func(v event.Vantage, k tally.Key, id, account uint64, named, denied bool, class event.Denial, f *flow) {
		s := &vs[v]
		l := s.leaves[k]
		if l == nil {
			l = &slots.Leaf{Key: k}
			s.leaves[k] = l
			s.splits[k] = map[slots.Split]uint32{}
		}
		rule := w.decide(f, &k, v)
		weight := uint32(max(f.sample, 1))
		if weight > 1 && l.Unseen == nil {
			l.Unseen = &tally.Unseen{}
		}
		unseen := cmp.Or(l.Unseen, &tally.Unseen{})
		unseen.Requests += weight - 1
		hit := func(class event.Denial, rule access.Decision) {
			h := s.hits[leafHit{leafUser{k, id}, class}]
			if h == nil {
				h = &slots.Hit{Class: class, Named: named, Identity: id, Account: account, Rule: rule.Rule, Presumed: rule.Presumed}
				s.hits[leafHit{leafUser{k, id}, class}] = h
			}
			h.Denials++
		}
		if !denied {
			s.all[leafUser{k, id}]++
			l.Status[tally.S2xx] += weight
			if !f.silent {
				l.Entered = append(l.Entered, id)
			}
			if rule.Verdict == access.Deny {
				l.Leaked += weight
				unseen.Leaked += weight - 1
				hit(event.NotDenied, rule)
			}
			return
		}
		if rule.Verdict == access.Deny {
			l.Status[tally.S403] += weight
			l.Denied[event.Valid] += weight
			unseen.Denied[event.Valid] += weight - 1
			return
		}
		s.all[leafUser{k, id}]++
		if rule.Verdict != access.Allow {
			rule = access.Decision{}
		}
		if class == event.NotDenied {
			class = event.Refused
		}
		l.Status[map[event.Denial]tally.Status{event.Refused: tally.S403, event.Unauthorized: tally.S401, event.Payment: tally.S402, event.Concealed: tally.S404}[class]] += weight
		l.Denied[class] += weight
		unseen.Denied[class] += weight - 1
		s.splits[k][slots.Split{Class: class, Layer: f.layer, Cause: f.cause}] += weight
		hit(class, rule)
	}
	for len(w.drift) < len(w.flows) {
		w.drift = append(w.drift, 0)
	}
	for i, f := range w.flows {
		p := f.deny
		if w.noise > 0 {
			w.drift[i] = 0.97*w.drift[i] + w.noise*math.Sqrt(1-0.97*0.97)*w.rng.NormFloat64()
		}
		if lift := w.drift[i] + f.cycle*math.Sin(2*math.Pi*float64(start%86400)/86400); lift != 0 && p > 0 && p < 1 {
			o := p / (1 - p) * math.Exp(lift)
			p = o / (1 + o)
		}
		for range poisson(w.rng, f.rate) {
			id := f.first + uint64(w.rng.IntN(max(f.users, 1)))
			if f.passing {
				w.fresh++
				id = 1<<45 + w.fresh
			}
			denied := w.rng.Float64() < p
			account := uint64(0)
			if f.named {
				account = 1<<40 + id/4
			}
			if f.sample > 1 && w.logged.IntN(f.sample) > 0 {
				continue
			}
			add(f.vantage, f.key, id<<8|1, account, f.named, denied, f.class, f)
			if f.twice {
				k := f.key
				k.Role, k.Plan = "", ""
				as := f.alsoAs
				if as == event.NotDenied {
					as = f.class
				}
				add(f.also, k, (id/3)<<8|2, 0, false, denied, as, f)
			}
		}
	}
	var out [event.Vantages]*slots.Closed
	for v := range vs {
		c := &slots.Closed{Vantage: event.Vantage(v), Start: start, Step: step}
		s := &vs[v]
		for id, h := range s.hits {
			h.Requests = s.all[id.leafUser]
			l := s.leaves[id.key]
			l.Hits = append(l.Hits, *h)
		}
		for k, l := range s.leaves {
			for sp, n := range s.splits[k] {
				sp.N = n
				l.Splits = append(l.Splits, sp)
			}
			c.Leaves = append(c.Leaves, *l)
		}
		arrange(c)
		out[v] = c
	}
	return out
}

// arrange puts a closed slot into the order that the ledger promises.
func arrange(c *slots.Closed) {
	slices.SortFunc(c.Leaves, func(a, b slots.Leaf) int {
		x, y := a.Key, b.Key
		return cmp.Or(cmp.Compare(x.Service, y.Service), cmp.Compare(x.Route, y.Route), cmp.Compare(x.Role, y.Role),
			cmp.Compare(x.Geo, y.Geo), cmp.Compare(x.Plan, y.Plan), cmp.Compare(x.Host, y.Host))
	})
	for i := range c.Leaves {
		l := &c.Leaves[i]
		slices.Sort(l.Entered)
		l.Entered = slices.Compact(l.Entered)
		slices.SortFunc(l.Hits, func(a, b slots.Hit) int {
			return cmp.Or(cmp.Compare(a.Identity, b.Identity), cmp.Compare(a.Class, b.Class))
		})
		slices.SortFunc(l.Splits, func(a, b slots.Split) int {
			return cmp.Or(cmp.Compare(a.Class, b.Class), cmp.Compare(a.Layer, b.Layer), cmp.Compare(a.Cause, b.Cause))
		})
	}
}
