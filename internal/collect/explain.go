package collect

import (
	"bytes"
	"encoding/json"
	"fmt"
	"time"

	"github.com/denywatch/denywatch/internal/event"
	"github.com/denywatch/denywatch/internal/route"
)

// Explained is an event as it is counted. Its JSON has exactly the keys of the
// event, in their order; what the line does not say is null. Unlike everything
// that leaves the collector in the daemon it holds the raw values; it is for
// `denywatch parse`, whose reader has the log anyway.
type Explained struct {
	Time           string
	Source         string
	Vantage        string
	Service        string
	Host           string
	Method         string
	Path           string
	Route          string
	Status         uint16
	UpstreamStatus uint16
	Client         string
	User           string
	Account        string
	Role           string
	Plan           string
	Geo            string
	Flags          []string
	RequestID      string
	Layer          string
	Cause          string
	Denial         string
}

// Explain tells how e is counted under c. Role, Plan and Geo are shown whether
// or not they are dimensions.
func (c *Config) Explain(e *event.Event) Explained {
	e.Geo = capitals(e.Geo, new([2]byte))
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
		class, _ = broken(e, class, d)
	}
	if class != event.NotDenied {
		x.Denial, x.Layer = class.String(), by.String()
	}
	return x
}

// MarshalJSON implements json.Marshaler.
func (x Explained) MarshalJSON() ([]byte, error) {
	said := func(s string) *string {
		if s == "" {
			return nil
		}
		return &s
	}
	status := func(n uint16) *uint16 {
		if n == 0 {
			return nil
		}
		return &n
	}
	var b bytes.Buffer
	e := json.NewEncoder(&b)
	e.SetEscapeHTML(false)
	err := e.Encode(struct {
		Time           *string  `json:"time"`
		Source         string   `json:"source"`
		Vantage        string   `json:"vantage"`
		Service        *string  `json:"service"`
		Host           *string  `json:"host"`
		Method         *string  `json:"method"`
		Path           *string  `json:"path"`
		Route          *string  `json:"route"`
		Status         *uint16  `json:"status"`
		UpstreamStatus *uint16  `json:"upstream_status"`
		Client         *string  `json:"client"`
		User           *string  `json:"user"`
		Account        *string  `json:"account"`
		Role           *string  `json:"role"`
		Plan           *string  `json:"plan"`
		Geo            *string  `json:"geo"`
		Flags          []string `json:"flags"`
		RequestID      *string  `json:"request_id"`
		Layer          *string  `json:"layer"`
		Cause          *string  `json:"cause"`
		Denial         *string  `json:"denial"`
	}{
		said(x.Time), x.Source, x.Vantage, said(x.Service), said(x.Host), said(x.Method), said(x.Path), said(x.Route),
		status(x.Status), status(x.UpstreamStatus), said(x.Client), said(x.User), said(x.Account), said(x.Role), said(x.Plan),
		said(x.Geo), x.Flags, said(x.RequestID), said(x.Layer), said(x.Cause), said(x.Denial),
	})
	return b.Bytes(), err
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
