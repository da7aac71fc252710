package routing

import (
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/denywatch/denywatch/alerts"
	"github.com/denywatch/denywatch/internal/incident"
)

const (
	// storm is how many incidents one place is told of one by one within stormTime;
	// those beyond become one post, their recoveries another. A pager, which takes no
	// posts, is not told of them.
	storm     = 10
	stormTime = time.Minute
	// flaps is how often an incident must come back within flapTime to be told no more
	// until it has been steady for steadyTime.
	flaps      = 3
	flapTime   = time.Hour
	steadyTime = 30 * time.Minute
	// maxRaised bounds how often an incident escalates. The time between doubles.
	maxRaised = 3
)

// Desk keeps who was told of which incident, and decides what is told when: whoever
// was told of an incident is told of its growth and its end, also when its scope and
// owner changed, or when it became a part of another. It has a single writer. Times are
// given to it, by the wall clock.
type Desk struct {
	router  *Router
	lives   map[string]*life
	batches map[string]*batch // by key
	hushed  map[string]*silence
	recent  map[string]*recent
	dirty   map[string]bool // keys of records
}

// life is what the desk knows of one incident.
type life struct {
	id string
	// Seq is the number of the last transition.
	Seq      int               `json:"seq"`
	State    incident.State    `json:"state"`
	Team     string            `json:"team,omitempty"`
	Severity incident.Severity `json:"severity"`
	// Told are the places that were told, Waiting those whose quiet hours it waits for.
	Told    []told  `json:"told,omitempty"`
	Waiting []place `json:"waiting,omitempty"`
	// Since is when people were first told in this episode, for the escalation, Raised
	// how often it escalated.
	Since  time.Time `json:"since,omitzero"`
	Raised int       `json:"raised,omitempty"`
	// Back is when it came back in the last flapTime, Steady until when nothing is told
	// because of that, Behind that something was not.
	Back   []time.Time `json:"back,omitempty"`
	Steady time.Time   `json:"steady,omitzero"`
	Behind bool        `json:"behind,omitempty"`
	// Ack is who looks after it, Silence who keeps it quiet; Hushed is the id of the
	// silence of a scope that it is in.
	Ack     *incident.Act `json:"ack,omitempty"`
	Silence *incident.Act `json:"silence,omitempty"`
	Hushed  string        `json:"hushed,omitempty"`
	// Loud tells that somebody took its silence back: silences of scopes do not hold
	// for it until it is silenced again.
	Loud bool `json:"loud,omitempty"`
	// Dismissed tells that somebody said that it is not a problem.
	Dismissed bool `json:"dismissed,omitempty"`
}

// place is where a team is told.
type place struct {
	alerts.Dest
	Team string `json:"team,omitempty"`
}

// told is a place that was told.
type told struct {
	place
	// Severity is the highest that people there were called by name for.
	Severity incident.Severity `json:"severity"`
	// Bulk tells that the incident was one of many in a post there.
	Bulk bool `json:"bulk,omitempty"`
}

// recent is when a place was told of incidents one by one, in the last stormTime.
type recent struct {
	alerts.Dest
	At []time.Time `json:"at"`
}

func recentKey(to alerts.Dest) string { return recentPrefix + to.Sink + "/" + to.Target }

// batch is incidents that become one post at one place.
type batch struct {
	place
	Since time.Time `json:"since"`
	// Quiet tells that they came and went in quiet hours.
	Quiet bool `json:"quiet,omitempty"`
	// Opened and Over are their ids.
	Opened []string `json:"opened,omitempty"`
	Over   []string `json:"over,omitempty"`
}

func (b *batch) key() string {
	kind := "many"
	if b.Quiet {
		kind = "quiet"
	}
	return batchPrefix + kind + "/" + b.Sink + "/" + b.Target
}

// The prefixes of the keys of records.
const (
	lifePrefix    = "life/"
	batchPrefix   = "batch/"
	silencePrefix = "silence/"
	recentPrefix  = "recent/"
)

// NewDesk returns a desk without a past.
func NewDesk(r *Router) *Desk {
	return &Desk{router: r, lives: map[string]*life{}, batches: map[string]*batch{}, hushed: map[string]*silence{}, recent: map[string]*recent{}, dirty: map[string]bool{}}
}

// Configure replaces the router.
func (d *Desk) Configure(r *Router) { d.router = r }

// Words are what the configured templates say of a transition; nil if there are none.
func (d *Desk) Words(t *incident.Transition) *incident.Words { return d.router.wording.Words(t) }

// Bucket is where the desk's records are kept.
type Bucket interface {
	Put(key string, value []byte) error
	Delete(key string) error
}

// Save writes what changed. Saved is called once that is durable; without it the next
// Save writes it again.
func (d *Desk) Save(b Bucket) error {
	for _, key := range slices.Sorted(maps.Keys(d.dirty)) {
		var record any
		if id, ok := strings.CutPrefix(key, lifePrefix); ok {
			if l := d.lives[id]; l != nil {
				record = l
			}
		} else if id, ok := strings.CutPrefix(key, silencePrefix); ok {
			if x := d.hushed[id]; x != nil {
				record = x.Silencing
			}
		} else if x := d.recent[key]; x != nil {
			record = x
		} else if x := d.batches[key]; x != nil {
			record = x
		}
		if record == nil {
			if err := b.Delete(key); err != nil {
				return err
			}
			continue
		}
		v, err := json.Marshal(record)
		if err != nil {
			return err
		}
		if err := b.Put(key, v); err != nil {
			return err
		}
	}
	return nil
}

// Saved notes that all is durable that was saved.
func (d *Desk) Saved() { clear(d.dirty) }

// Dirty reports whether there is anything to save.
func (d *Desk) Dirty() bool { return len(d.dirty) > 0 }

// Load takes over one record that Save wrote.
func (d *Desk) Load(key string, value []byte) error {
	if id, ok := strings.CutPrefix(key, lifePrefix); ok {
		l := &life{id: id}
		if err := json.Unmarshal(value, l); err != nil {
			return fmt.Errorf("routing: %s: %w", lifePrefix, err)
		}
		d.lives[id] = l
		return nil
	}
	if id, ok := strings.CutPrefix(key, silencePrefix); ok {
		var x incident.Silencing
		if err := json.Unmarshal(value, &x); err != nil {
			return fmt.Errorf("routing: %s: %w", silencePrefix, err)
		}
		s, err := newSilence(x)
		if err != nil {
			return fmt.Errorf("routing: %s: %w", silencePrefix, err)
		}
		d.hushed[id] = s
		return nil
	}
	if strings.HasPrefix(key, recentPrefix) {
		x := new(recent)
		if err := json.Unmarshal(value, x); err != nil {
			return fmt.Errorf("routing: %s: %w", recentPrefix, err)
		}
		d.recent[key] = x
		return nil
	}
	b := new(batch)
	if err := json.Unmarshal(value, b); err != nil {
		return fmt.Errorf("routing: %s: %w", batchPrefix, err)
	}
	d.batches[key] = b
	return nil
}

// Forget drops what is known of an incident.
func (d *Desk) Forget(id string) {
	if d.lives[id] != nil {
		delete(d.lives, id)
		d.dirty[lifePrefix+id] = true
	}
}

// Adopt takes note of an incident whose last transition, of that number, was told to
// every sink, before there was a desk.
func (d *Desk) Adopt(t *incident.Transition) {
	id := t.Incident.ID
	if d.lives[id] != nil {
		return
	}
	l := d.life(id)
	l.Seq, l.State, l.Team, l.Severity = t.Seq, t.Incident.State, t.Incident.Team, t.Incident.Severity
	for i := range d.router.sinks {
		if s := &d.router.sinks[i]; s.Team == "" {
			l.Told = append(l.Told, told{place: place{Dest: alerts.Dest{Sink: s.Name}}, Severity: l.Severity})
		}
	}
}

func (d *Desk) life(id string) *life {
	l := d.lives[id]
	if l == nil {
		l = &life{id: id}
		d.lives[id] = l
	}
	d.dirty[lifePrefix+id] = true
	return l
}

// Decorate writes into an incident what the router and people say of it.
func (d *Desk) Decorate(in *incident.Incident) { d.decorate(in, d.lives[in.ID]) }

func (d *Desk) decorate(in *incident.Incident, l *life) Decision {
	dec := d.router.Route(in, "")
	in.Severity, in.Team = dec.Severity, dec.Team
	in.Journey, in.JourneyStep, in.JourneySteps = dec.Journey, dec.Step, dec.Steps
	in.Acknowledged, in.Silenced, in.Flapping = nil, nil, 0
	if l != nil {
		in.Acknowledged, in.Silenced = l.Ack, l.Silence
		if !l.Steady.IsZero() {
			in.Flapping = len(l.Back) + 1
		}
		if l.Dismissed && in.State == incident.Resolved {
			in.Resolution = incident.Dismissed
		}
	}
	return dec
}

// Take takes a transition, whose number it sets: those of an incident count from 1. It
// returns it as it goes into the time line, followed by another if the incident moved
// to another team, and the deliveries they make. With quietly nobody is told.
func (d *Desk) Take(t incident.Transition, now time.Time, quietly bool) ([]incident.Transition, []alerts.Delivery) {
	l := d.life(t.Incident.ID)
	first := l.Seq == 0
	l.Seq++
	t.Seq = l.Seq
	l.State = t.Incident.State
	switch t.Kind {
	case incident.Acknowledged:
		l.Ack = t.Act
	case incident.Silenced:
		if h := d.hushed[l.Hushed]; h == nil || h.Act != *t.Act {
			l.Hushed = "" // it is silenced for itself
		}
		l.Silence, l.Loud = t.Act, false
	case incident.Unsilenced:
		l.Silence, l.Hushed, l.Loud = nil, "", t.Act != nil
	case incident.Reopened:
		l.Since, l.Raised, l.Ack, l.Dismissed, l.Loud = time.Time{}, 0, nil, false, false
		if !quietly && t.Act == nil { // what nobody is told of, or a person did, needs no damping
			l.Back = append(slices.DeleteFunc(l.Back, func(at time.Time) bool { return now.Sub(at) > flapTime }), now)
		}
	case incident.ResolvedKind:
		l.Dismissed = t.Incident.Resolution == incident.Dismissed
	case incident.Escalated:
		l.Raised++
	case incident.MergedKind:
		if t.Act != nil {
			if o := d.lives[t.Act.Other]; o != nil {
				l.inherit(d.life(o.id))
			}
		}
	}
	if l.Silence == nil && !l.Loud && t.Kind != incident.Unsilenced && l.State == incident.Open {
		if h := d.hush(&t.Incident, now); h != nil {
			l.Silence, l.Hushed = &h.Act, h.ID
		}
	}
	// From here on it is told no more until it is steady; this one still is.
	flapping := now.Before(l.Steady) && news(&t)
	if t.Kind == incident.Reopened && len(l.Back) >= flaps || flapping {
		l.Steady = now.Add(steadyTime)
	}
	dec := d.decorate(&t.Incident, l)
	t.Words = d.Words(&t)
	out := []incident.Transition{t}
	if !first && dec.Team != l.Team && t.Kind != incident.ResolvedKind {
		l.Seq++
		moved := t
		moved.Seq, moved.Kind, moved.Act = l.Seq, incident.Assigned, nil
		moved.Words = d.Words(&moved)
		out = append(out, moved)
	}
	l.Team, l.Severity = dec.Team, dec.Severity
	if quietly {
		return out, nil
	}
	if flapping {
		l.Behind = true
		return out, nil
	}
	l.Behind = l.Behind && l.Silence != nil
	var ds []alerts.Delivery
	for i := range out {
		ds = append(ds, d.tell(l, &out[i], dec, now)...)
	}
	return out, ds
}

// inherit makes who knows of another incident, or is to hear of it, hear of this one: the
// other became a part of it.
func (l *life) inherit(o *life) {
	knows := func(to alerts.Dest) bool {
		return slices.ContainsFunc(l.Told, func(x told) bool { return x.Dest == to })
	}
	for _, x := range o.Told {
		if !knows(x.Dest) {
			l.Told = append(l.Told, x)
		}
	}
	for _, w := range o.Waiting {
		if !knows(w.Dest) && !slices.Contains(l.Waiting, w) {
			l.Waiting = append(l.Waiting, w)
		}
	}
	o.Waiting = nil
}

// news reports whether a transition is one that the detector makes by itself.
func news(t *incident.Transition) bool {
	return t.Act == nil && slices.Contains([]incident.Kind{incident.Opened, incident.Grew, incident.Reopened, incident.ResolvedKind}, t.Kind)
}

// Tell tells now what a transition that was taken quietly would have told.
func (d *Desk) Tell(t incident.Transition, now time.Time) []alerts.Delivery {
	l := d.life(t.Incident.ID)
	dec := d.decorate(&t.Incident, l)
	t.Words = d.Words(&t)
	return d.tell(l, &t, dec, now)
}

// tell makes the deliveries of a transition.
func (d *Desk) tell(l *life, t *incident.Transition, dec Decision, now time.Time) []alerts.Delivery {
	var ds []alerts.Delivery
	var places []Place
	switch {
	case t.Kind == incident.ResolvedKind, t.Kind == incident.Acknowledged, t.Kind == incident.Silenced:
		// That only concerns those who know of it.
	case l.Silence != nil && t.Act == nil:
		return nil
	case l.Silence != nil:
		// What people do is shown where it is known.
	default:
		places = d.router.Places(dec)
	}
	if t.Kind == incident.Escalated {
		if owner := d.router.teams[dec.Team]; owner != nil {
			places = append(places, d.router.placesOf(owner.Escalate.To, dec.Severity)...)
		}
	}
	done := map[alerts.Dest]bool{}
	for i := range places {
		p := &places[i]
		if done[p.Dest] {
			continue
		}
		done[p.Dest] = true
		ds = append(ds, d.tellPlace(l, t, p, now)...)
	}
	for i := range l.Told {
		x := &l.Told[i]
		if !done[x.Dest] && d.router.sink(x.Sink) != nil {
			done[x.Dest] = true
			ds = append(ds, d.tellAgain(l, t, x, nil, now)...)
		}
	}
	return ds
}

// sink returns the sink of a name, nil if there is none any more.
func (r *Router) sink(name string) *Sink {
	if i := slices.IndexFunc(r.sinks, func(s Sink) bool { return s.Name == name }); i >= 0 {
		return &r.sinks[i]
	}
	return nil
}

// tellPlace tells a place of an open incident, or lets it wait.
func (d *Desk) tellPlace(l *life, t *incident.Transition, p *Place, now time.Time) []alerts.Delivery {
	mine := place{p.Dest, p.Team}
	quiet := p.Sink.People && d.quiet(p.Team, t.Incident.Severity, now)
	if p.Team != "" && p.Sink.People && !quiet && l.Since.IsZero() {
		l.Since = now
	}
	if i := slices.IndexFunc(l.Told, func(x told) bool { return x.Dest == p.Dest }); i >= 0 {
		x := &l.Told[i]
		var mention []string
		if t.Kind == incident.Reopened || t.Kind == incident.Escalated || !AtLeast(x.Severity, t.Incident.Severity) {
			if !quiet { // else they are called when it is over
				x.Severity, mention = t.Incident.Severity, p.Mention
			}
		}
		return d.tellAgain(l, t, x, mention, now)
	}
	if quiet {
		if !slices.Contains(l.Waiting, mine) {
			l.Waiting = append(l.Waiting, mine)
		}
		return nil
	}
	l.Waiting = slices.DeleteFunc(l.Waiting, func(w place) bool { return w.Dest == p.Dest })
	x := told{place: mine, Severity: t.Incident.Severity}
	if p.Sink.People {
		x.Bulk = !d.alone(p.Dest, now)
	}
	l.Told = append(l.Told, x)
	if x.Bulk {
		if p.Sink.Posts { // else a pager, which those before have set off
			b := d.batch(mine, false, now)
			b.Opened = append(b.Opened, l.id)
		}
		return nil
	}
	return []alerts.Delivery{alerts.NewDelivery(*t, p.Dest, p.Mention...)}
}

// alone reports whether a place is told of one more incident by itself, and counts it.
func (d *Desk) alone(to alerts.Dest, now time.Time) bool {
	key := recentKey(to)
	x := d.recent[key]
	if x == nil {
		x = &recent{Dest: to}
		d.recent[key] = x
	}
	d.dirty[key] = true
	x.At = slices.DeleteFunc(x.At, func(at time.Time) bool { return now.Sub(at) >= stormTime })
	if len(x.At) >= storm {
		return false
	}
	x.At = append(x.At, now)
	return true
}

// tellAgain tells a place that knows of the incident.
func (d *Desk) tellAgain(l *life, t *incident.Transition, x *told, mention []string, now time.Time) []alerts.Delivery {
	if !x.Bulk {
		return []alerts.Delivery{alerts.NewDelivery(*t, x.Dest, mention...)}
	}
	if (t.Kind == incident.Escalated || len(mention) > 0) && d.alone(x.Dest, now) {
		// Somebody is to look after it, so it gets a message of its own.
		x.Bulk = false
		return []alerts.Delivery{alerts.NewDelivery(*t, x.Dest, mention...)}
	}
	if s := d.router.sink(x.Sink); s != nil && s.Posts {
		switch t.Kind {
		case incident.ResolvedKind:
			b := d.batch(x.place, false, now)
			b.Over = append(b.Over, l.id)
		case incident.Reopened, incident.Escalated:
			b := d.batch(x.place, false, now)
			b.Opened = append(b.Opened, l.id)
		}
	}
	return nil
}

func (d *Desk) batch(p place, quiet bool, now time.Time) *batch {
	b := &batch{place: p, Quiet: quiet, Since: now}
	key := b.key()
	if old := d.batches[key]; old != nil {
		b = old
	} else {
		d.batches[key] = b
	}
	d.dirty[key] = true
	return b
}

// quiet reports whether a team is to be left alone with what is of that severity.
func (d *Desk) quiet(team string, s incident.Severity, now time.Time) bool {
	t := d.router.teams[team]
	return t != nil && !AtLeast(s, t.Quiet.Below) && t.quietAt(now)
}

// Due is a transition that an incident goes through by the clock alone.
type Due struct {
	ID   string
	Kind incident.Kind
}

// Tick does what is due by now: it returns the transitions that the caller is to make
// and take, in a stable order, and what is told by itself. last returns an incident's
// last transition, nil if it is not known any more.
func (d *Desk) Tick(now time.Time, last func(id string) *incident.Transition) (due []Due, ds []alerts.Delivery) {
	for id, s := range d.hushed {
		if !now.Before(s.Act.Until) {
			delete(d.hushed, id)
			d.dirty[silencePrefix+id] = true
		}
	}
	for _, id := range slices.Sorted(maps.Keys(d.lives)) {
		l := d.lives[id]
		if d.escalates(l, now) {
			due = append(due, Due{id, incident.Escalated})
		}
		if l.Silence != nil && (!now.Before(l.Silence.Until) || l.Hushed != "" && d.hushed[l.Hushed] == nil) {
			l = d.life(id)
			if l.State == incident.Open {
				due = append(due, Due{id, incident.Unsilenced})
			} else {
				l.Silence, l.Hushed = nil, ""
			}
		}
		if !l.Steady.IsZero() && !now.Before(l.Steady) {
			l = d.life(id)
			l.Steady, l.Back = time.Time{}, nil
			if t := last(id); l.Behind && t != nil {
				ds = append(ds, d.Tell(*t, now)...)
			}
			l.Behind = false
		}
		if len(l.Waiting) > 0 {
			ds = append(ds, d.wake(l, now, last)...)
		}
	}
	for key, x := range d.recent {
		if now.Sub(x.At[len(x.At)-1]) >= stormTime {
			delete(d.recent, key)
			d.dirty[key] = true
		}
	}
	for _, key := range slices.Sorted(maps.Keys(d.batches)) {
		b := d.batches[key]
		if b.Quiet || now.Sub(b.Since) >= stormTime {
			delete(d.batches, key)
			d.dirty[key] = true
			if d.router.sink(b.Sink) != nil {
				ds = append(ds, alerts.NewPost(d.many(b, now, last), b.Dest))
			}
		}
	}
	return due, ds
}

// escalates reports whether nobody acknowledged an incident in time.
func (d *Desk) escalates(l *life, now time.Time) bool {
	t := d.router.teams[l.Team]
	if t == nil || l.State != incident.Open || l.Ack != nil || l.Silence != nil || l.Since.IsZero() || l.Raised >= maxRaised {
		return false
	}
	after := t.Escalate.After(l.Severity)
	// After 1, 3 and 7 times as long.
	return after > 0 && !now.Before(l.Since.Add(after*time.Duration(1<<(l.Raised+1)-1)))
}

// wake tells the places whose quiet hours are over.
func (d *Desk) wake(l *life, now time.Time, last func(id string) *incident.Transition) []alerts.Delivery {
	var ds []alerts.Delivery
	t := last(l.id)
	for _, w := range slices.Clone(l.Waiting) {
		if t != nil && d.quiet(w.Team, t.Incident.Severity, now) {
			continue
		}
		l = d.life(l.id)
		l.Waiting = slices.DeleteFunc(l.Waiting, func(x place) bool { return x == w })
		sink := d.router.sink(w.Sink)
		switch {
		case t == nil || sink == nil || l.Silence != nil:
		case l.State == incident.Open:
			for _, p := range d.router.placesOf(w.Team, t.Incident.Severity) {
				if p.Dest == w.Dest {
					ds = append(ds, d.tellPlace(l, t, &p, now)...)
				}
			}
		case sink.Posts:
			b := d.batch(w, true, now)
			b.Over = append(b.Over, l.id)
		}
	}
	return ds
}

// many writes the post of a batch.
func (d *Desk) many(b *batch, now time.Time, last func(id string) *incident.Transition) *alerts.Post {
	kind := "many"
	var headline string
	team := ""
	if b.Team != "" {
		team = " for team " + b.Team
	}
	opened, over := len(b.Opened), len(b.Over)
	switch {
	case b.Quiet:
		kind = "quiet"
		headline = alerts.Count(over, "incident", "incidents") + " came and went" + team + " while it was quiet"
	case opened > 0 && over > 0:
		headline = alerts.Count(opened, "more incident", "more incidents") + team + ", " + alerts.Count(over, "recovery", "recoveries")
	case opened > 0:
		headline = alerts.Count(opened, "more incident", "more incidents") + team + " within " + stormWords
	default:
		headline = alerts.Count(over, "incident", "incidents") + team + " is over"
		if over > 1 {
			headline = alerts.Count(over, "incident", "incidents") + team + " are over"
		}
	}
	p := &alerts.Post{ID: kind + "-" + b.Since.UTC().Format("20060102T150405.000Z"), At: now, Headline: headline}
	add := func(title string, ids []string) {
		if len(ids) > 0 {
			p.Parts = append(p.Parts, alerts.Part{Title: title, Lines: worst(ids, last)})
		}
	}
	add("", b.Opened)
	title := "Over"
	if opened == 0 {
		title = ""
	}
	add(title, b.Over)
	return p
}

// stormWords is stormTime for people.
const stormWords = "a minute"

// worst names the worst of the incidents, a line each.
func worst(ids []string, last func(id string) *incident.Transition) []string {
	var ts []*incident.Transition
	for _, id := range ids {
		if t := last(id); t != nil {
			ts = append(ts, t)
		}
	}
	return alerts.Lines(ts, len(ids))
}
