package app

import (
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/denywatch/denywatch/alerts"
	"github.com/denywatch/denywatch/alerts/routing"
	"github.com/denywatch/denywatch/detector/slots"
	"github.com/denywatch/denywatch/internal/event"
	"github.com/denywatch/denywatch/internal/incident"
	"github.com/denywatch/denywatch/internal/tally"
)

const (
	// diaryDays is how far back a digest can tell.
	diaryDays = 8
	// maxValidKeys bounds the routes and roles of an hour.
	maxValidKeys = 300
)

// diary keeps what digests tell of the last days, in pages of an hour.
type diary struct {
	pages map[int64]*page // by the hour since the Unix epoch
	dirty map[int64]bool
}

// page is one hour. Lines and Unparsed are what sources had counted when it began.
type page struct {
	Lines    map[string]uint64 `json:"lines"`
	Unparsed map[string]uint64 `json:"unparsed"`
	// Valid counts valid refusals by vantage, route and role, separated by NUL.
	Valid map[string]uint64 `json:"valid,omitempty"`
}

func newDiary() diary { return diary{pages: map[int64]*page{}, dirty: map[int64]bool{}} }

// page returns the page of an hour, new if it is not there.
func (d *diary) page(hour int64, sources func() []slots.Source) *page {
	p := d.pages[hour]
	if p == nil {
		p = &page{Lines: map[string]uint64{}, Unparsed: map[string]uint64{}, Valid: map[string]uint64{}}
		for _, src := range sources() {
			p.Lines[src.Name], p.Unparsed[src.Name] = src.Lines, src.Unparsed
		}
		d.pages[hour], d.dirty[hour] = p, true
		for old := range d.pages {
			if old < hour-diaryDays*24 {
				delete(d.pages, old)
				d.dirty[old] = true
			}
		}
	}
	return p
}

// note takes down a closed slot.
func (d *diary) note(s *slots.Closed, sources func() []slots.Source) {
	hour := s.Start / 3600
	p := d.page(hour, sources)
	for i := range s.Leaves {
		l := &s.Leaves[i]
		n := l.Denied[event.Valid]
		if n == 0 {
			continue
		}
		key := s.Vantage.String() + "\x00" + l.Key.Route + "\x00" + l.Key.Role
		if _, known := p.Valid[key]; !known && len(p.Valid) >= maxValidKeys {
			key = s.Vantage.String() + "\x00" + tally.Other + "\x00"
		}
		p.Valid[key] += uint64(n)
		d.dirty[hour] = true
	}
}

func diaryKey(hour int64) string { return fmt.Sprintf("%012d", hour) }

// save writes what changed; saved is called once that is durable.
func (d *diary) save(b bucket) error {
	for _, hour := range slices.Sorted(maps.Keys(d.dirty)) {
		p := d.pages[hour]
		if p == nil {
			if err := b.Delete(diaryKey(hour)); err != nil {
				return err
			}
			continue
		}
		v, err := json.Marshal(p)
		if err != nil {
			return err
		}
		if err := b.Put(diaryKey(hour), v); err != nil {
			return err
		}
	}
	return nil
}

func (d *diary) saved() { clear(d.dirty) }

// load takes over one page.
func (d *diary) load(key string, value []byte) error {
	var hour int64
	if _, err := fmt.Sscanf(key, "%d", &hour); err != nil {
		return fmt.Errorf("diary: %w", err)
	}
	p := &page{}
	if err := json.Unmarshal(value, p); err != nil {
		return fmt.Errorf("diary: %w", err)
	}
	if p.Valid == nil {
		p.Valid = map[string]uint64{}
	}
	d.pages[hour] = p
	return nil
}

// sum returns what was read and validly refused since a time. concerns tells which
// routes and roles count.
func (d *diary) sum(from time.Time, sources []slots.Source, concerns func(route, role string) bool) ([]alerts.SourceSummary, []alerts.ValidSummary) {
	var first *page
	// The same requests, seen from several vantages, are not added up.
	type key struct{ route, role string }
	seen := map[key]map[string]uint64{}
	for _, hour := range slices.Sorted(maps.Keys(d.pages)) {
		if (hour+1)*3600 <= from.Unix() {
			continue
		}
		p := d.pages[hour]
		if first == nil {
			first = p
		}
		for k, n := range p.Valid {
			parts := strings.SplitN(k, "\x00", 3)
			if len(parts) != 3 || !concerns(parts[1], parts[2]) {
				continue
			}
			at := key{parts[1], parts[2]}
			if seen[at] == nil {
				seen[at] = map[string]uint64{}
			}
			seen[at][parts[0]] += n
		}
	}
	var read []alerts.SourceSummary
	for i := range sources {
		src := &sources[i]
		x := alerts.SourceSummary{Name: src.Name, Lines: src.Lines, Unparsed: src.Unparsed, Suspended: src.Suspended != 0}
		if first == nil { // no slot was closed since then
			x.Lines, x.Unparsed = 0, 0
		} else {
			x.Lines -= min(first.Lines[src.Name], x.Lines)
			x.Unparsed -= min(first.Unparsed[src.Name], x.Unparsed)
		}
		read = append(read, x)
	}
	var valid []alerts.ValidSummary
	for at, by := range seen {
		valid = append(valid, alerts.ValidSummary{Route: at.route, Role: at.role, N: slices.Max(slices.Collect(maps.Values(by)))})
	}
	return read, valid
}

// digests tells the digests that are due, each once. A digest that was never due
// before only begins; the first one reaches back to the birth of the state at most.
func (c *core) digests(now time.Time) {
	for _, p := range c.desk.Due(now) {
		meta := "digest/" + p.Key()
		told, err := time.Parse(time.RFC3339, c.meta[meta])
		if err == nil && !told.Before(p.At) {
			continue
		}
		c.meta[meta] = p.At.UTC().Format(time.RFC3339)
		c.dirty = true
		if err != nil {
			continue
		}
		// While nobody ran, nothing was told: then it reaches back further.
		from := p.From
		if told.Before(from) {
			from = told
		}
		if oldest := now.AddDate(0, 0, 1-diaryDays); from.Before(oldest) {
			from = oldest
		}
		first := from.Before(c.born)
		if first {
			from = c.born
		}
		s := c.summary(&p, from)
		s.First = first
		post := alerts.Digest(s)
		for _, to := range p.To {
			c.pending = append(c.pending, alerts.NewPost(post, to))
		}
	}
}

// summary is what happened to a team, or to everybody, since a time.
func (c *core) summary(p *routing.Period, from time.Time) *alerts.Summary {
	sources := c.ledger.Sources()
	s := &alerts.Summary{
		ID:   "digest-" + strings.ReplaceAll(p.Key(), "/", "-") + "-" + p.At.UTC().Format("20060102T1504Z"),
		Team: p.Team, From: from, To: p.At, Location: p.Zone, Series: c.det.Stats().Series,
	}
	s.Sources, s.Valid = c.diary.sum(from, sources, func(route, role string) bool {
		return c.desk.Concerns(&incident.Incident{Direction: incident.Up, Layer: event.LayerApp.String(), Scope: incident.Scope{Route: route, Role: role}}, p.Team)
	})
	routes := map[string]bool{}
	for _, t := range c.ledger.Totals() {
		routes[t.Service+"\x00"+t.Route] = true
	}
	s.Routes = len(routes)
	for _, id := range c.order {
		t := c.last(id)
		if t == nil || c.untold[id] || t.Incident.MergedInto != "" || t.Incident.ResolvedAt != nil && t.Incident.ResolvedAt.Before(from) || t.Incident.StartedAt.After(p.At) || !c.desk.Concerns(&t.Incident, p.Team) {
			continue
		}
		s.Incidents = append(s.Incidents, t)
	}
	for _, x := range c.det.Scans() {
		if x.To.Before(from) || x.From.After(p.At) || !c.desk.Concerns(&incident.Incident{Direction: incident.Up, Scope: x.Scope}, p.Team) {
			continue
		}
		s.Scans = append(s.Scans, x)
	}
	for _, h := range c.outbox.Health() {
		if h.State != alerts.SinkOK {
			s.Waiting += h.Depth
		}
	}
	s.Dead = c.outbox.Dead()
	return s
}
