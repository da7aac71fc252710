package collect

import (
	"fmt"
	"time"

	"github.com/denywatch/denywatch/internal/event"
	"github.com/denywatch/denywatch/internal/route"
)

// Explained is an event as it is counted, with the keys of the event as JSON.
// Unlike everything that leaves the collector in the daemon it holds the raw
// values; it is for `denywatch parse`, whose reader has the log anyway.
type Explained struct {
	Time           string   `json:"time,omitempty"`
	Source         string   `json:"source"`
	Vantage        string   `json:"vantage"`
	Service        string   `json:"service,omitempty"`
	Host           string   `json:"host,omitempty"`
	Method         string   `json:"method,omitempty"`
	Path           string   `json:"path,omitempty"`
	Route          string   `json:"route,omitempty"`
	Status         uint16   `json:"status,omitempty"`
	UpstreamStatus uint16   `json:"upstream_status,omitempty"`
	Client         string   `json:"client,omitempty"`
	User           string   `json:"user,omitempty"`
	Account        string   `json:"account,omitempty"`
	Role           string   `json:"role,omitempty"`
	Plan           string   `json:"plan,omitempty"`
	Geo            string   `json:"geo,omitempty"`
	Flags          []string `json:"flags,omitempty"`
	RequestID      string   `json:"request_id,omitempty"`
	Layer          string   `json:"layer,omitempty"`
	Cause          string   `json:"cause,omitempty"`
	Denial         string   `json:"denial,omitempty"`
	// Expected is what the access model says: allow, deny, either, or undeclared;
	// empty if no rule speaks of the route.
	Expected string `json:"expected,omitempty"`
}

// Explain tells how e is counted under c. Role, Plan and Geo are shown whether
// or not they are dimensions.
func (c *Config) Explain(e *event.Event) Explained {
	path := route.Path(e.Path)
	_, end := c.Routes.Key(path, e.Route)
	x := Explained{
		Source: c.Source, Vantage: c.Vantage.String(), Service: string(e.Service), Host: clean(e.Host), Method: clean(e.Method),
		Path: string(e.Path), Route: string(c.Routes.Template(nil, path[:end], e.Route)),
		Status: e.Status, UpstreamStatus: e.UpstreamStatus, Client: string(host(e.Client)), User: string(e.User),
		Account: string(e.Account), Role: clean(joinRoles(nil, e.Roles, c.RolePriority)), Plan: clean(e.Plan), Geo: clean(e.Geo),
		RequestID: string(e.RequestID), Cause: string(e.Cause),
	}
	if x.Service == "" {
		x.Service = c.Service
	}
	if e.Time != event.NoTime {
		x.Time = time.Unix(0, e.Time).UTC().Format(time.RFC3339Nano)
	}
	for _, f := range e.Flags {
		x.Flags = append(x.Flags, clean(f))
	}
	if x.Geo == "" && c.Country != nil {
		x.Geo = c.Country(host(e.Client))
	}
	class, by := c.classify(e)
	if rules := c.Access.On(x.Route); rules != nil {
		q := c.query(e, x.Service)
		q.Geo = []byte(x.Geo)
		d := rules.Decide(&q)
		x.Expected = d.Verdict.String()
		class, _ = broken(e, class, d)
	}
	if class != event.NotDenied {
		x.Denial, x.Layer = class.String(), by.String()
	}
	return x
}

// Row is e in one line for people: when, what, answer, who, and for refusals by
// whom.
func (x *Explained) Row() []string {
	who := x.Client
	if x.User != "" {
		who = x.User
	}
	status := fmt.Sprint(x.Status)
	if x.UpstreamStatus != 0 {
		status += "/" + fmt.Sprint(x.UpstreamStatus)
	}
	return []string{x.Time, status, x.Method, x.Route, x.Role, x.Geo, who, x.Layer, x.Cause}
}
