package webhook_test

import (
	"encoding/json"
	"fmt"
	"maps"
	"math"
	"net/http"
	"os"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/denywatch/denywatch/alerts/webhook"
	"github.com/denywatch/denywatch/internal/event"
	"github.com/denywatch/denywatch/internal/incident"
	"github.com/denywatch/denywatch/internal/secret"
)

// schema is a JSON Schema, as far as schema.json uses the language.
type schema struct {
	Ref         string             `json:"$ref"`
	Type        any                `json:"type"`
	Const       any                `json:"const"`
	Enum        []string           `json:"enum"`
	Format      string             `json:"format"`
	Minimum     *float64           `json:"minimum"`
	Maximum     *float64           `json:"maximum"`
	Items       *schema            `json:"items"`
	Required    []string           `json:"required"`
	Properties  map[string]*schema `json:"properties"`
	Defs        map[string]*schema `json:"$defs"`
	Schema      string             `json:"$schema"`
	ID          string             `json:"$id"`
	Title       string             `json:"title"`
	Description string             `json:"description"`
}

func load(t *testing.T) *schema {
	t.Helper()
	b, err := os.ReadFile("schema.json")
	if err != nil {
		t.Fatal(err)
	}
	d := json.NewDecoder(strings.NewReader(string(b)))
	d.DisallowUnknownFields()
	var s schema
	if err := d.Decode(&s); err != nil {
		t.Fatalf("schema.json uses what this test does not check: %v", err)
	}
	return &s
}

// check reports what of v the schema does not allow, and each property that it does
// not describe: receivers must ignore those, but ours are all described.
func (s *schema) check(root *schema, path string, v any, bad func(string, ...any)) {
	if s.Ref != "" {
		def := root.Defs[strings.TrimPrefix(s.Ref, "#/$defs/")]
		if def == nil {
			bad("%s: %s is not defined", path, s.Ref)
			return
		}
		def.check(root, path, v, bad)
		return
	}
	if s.Const != nil && !reflect.DeepEqual(s.Const, v) {
		bad("%s: %v is not %v", path, v, s.Const)
	}
	var types []string
	switch t := s.Type.(type) {
	case string:
		types = []string{t}
	case []any:
		for _, x := range t {
			types = append(types, fmt.Sprint(x))
		}
	}
	is := "null"
	switch x := v.(type) {
	case bool:
		is = "boolean"
	case string:
		is = "string"
		if s.Enum != nil && !slices.Contains(s.Enum, x) {
			bad("%s: %q is not one of %v", path, x, s.Enum)
		}
		if _, err := time.Parse(time.RFC3339Nano, x); s.Format == "date-time" && err != nil {
			bad("%s: %v", path, err)
		}
	case float64:
		is = "number"
		if x == math.Trunc(x) && !slices.Contains(types, "number") {
			is = "integer"
		}
		if s.Minimum != nil && x < *s.Minimum || s.Maximum != nil && x > *s.Maximum {
			bad("%s: %v is out of bounds", path, x)
		}
	case []any:
		is = "array"
		for i, e := range x {
			s.Items.check(root, fmt.Sprintf("%s[%d]", path, i), e, bad)
		}
	case map[string]any:
		is = "object"
		for _, name := range s.Required {
			if _, there := x[name]; !there {
				bad("%s.%s is missing", path, name)
			}
		}
		for _, name := range slices.Sorted(maps.Keys(x)) {
			if p := s.Properties[name]; p != nil {
				p.check(root, path+"."+name, x[name], bad)
			} else {
				bad("%s.%s is not described in schema.json", path, name)
			}
		}
	}
	if types != nil && !slices.Contains(types, is) {
		bad("%s: is %s, not %v", path, is, types)
	}
}

func (s *schema) body(t *testing.T, b webhook.Body) {
	t.Helper()
	raw, err := json.Marshal(b)
	if err != nil {
		t.Fatal(err)
	}
	var v any
	if err := json.Unmarshal(raw, &v); err != nil {
		t.Fatal(err)
	}
	s.check(s, "body", v, func(f string, a ...any) { t.Errorf(f+"\nin %s", append(a, raw)...) })
}

// fill sets every field to something, so that nothing is left out.
func fill(v reflect.Value) {
	switch v.Kind() {
	case reflect.Pointer:
		v.Set(reflect.New(v.Type().Elem()))
		fill(v.Elem())
	case reflect.Slice:
		v.Set(reflect.MakeSlice(v.Type(), 1, 1))
		fill(v.Index(0))
	case reflect.Struct:
		if v.Type() == reflect.TypeFor[time.Time]() {
			v.Set(reflect.ValueOf(time.Unix(1795000000, 5)))
			return
		}
		for i := range v.NumField() {
			fill(v.Field(i))
		}
	case reflect.String:
		v.SetString("x")
	case reflect.Bool:
		v.SetBool(true)
	case reflect.Float64:
		v.SetFloat(0.5)
	default:
		v.SetInt(3)
	}
}

// TestSchema: schema.json describes everything that bodies hold, and all its words.
func TestSchema(t *testing.T) {
	s := load(t)
	var b webhook.Body
	fill(reflect.ValueOf(&b).Elem())
	b.Version = webhook.Version
	in := &b.Transition.Incident
	in.Layer = event.LayerApp.String()
	kinds := []incident.Kind{
		incident.Opened, incident.Grew, incident.ResolvedKind, incident.Reopened, incident.Acknowledged, incident.Silenced, incident.Unsilenced,
		incident.Assigned, incident.Escalated, incident.MergedKind, incident.Split, webhook.KindTest,
	}
	if got := len(s.Defs["transition"].Properties["kind"].Enum); got != len(kinds) {
		t.Errorf("%d kinds in the schema, %d in all", got, len(kinds))
	}
	for _, kind := range kinds {
		b.Transition.Kind = kind
		for _, state := range []incident.State{incident.Open, incident.Resolved} {
			for _, direction := range []incident.Direction{incident.Up, incident.Down, incident.New} {
				for _, resolution := range []incident.Resolution{incident.Recovered, incident.Accepted, incident.Dismissed, incident.Merged} {
					for _, severity := range incident.Severities {
						in.State, in.Direction, in.Resolution, in.Severity = state, direction, resolution, severity
						in.Class = event.Masked.String()
						s.body(t, b)
					}
				}
			}
		}
	}
	for d := event.Refused; d < event.Valid; d++ {
		in.Class = d.String()
		s.body(t, b)
	}
	for l := range event.Layers {
		in.Layer = l.String()
		s.body(t, b)
	}
	// As little as there can be.
	s.body(t, webhook.Body{Version: webhook.Version, Transition: incident.Transition{Seq: 1, Kind: incident.Opened, Incident: incident.Incident{
		State: incident.Open, Direction: incident.Up, Class: incident.ClassRefused,
	}}})
}

// TestSchemaOfATest: what a test sends is a body like any other.
func TestSchemaOfATest(t *testing.T) {
	var got webhook.Body
	srv := serve(t, func(_ http.ResponseWriter, r *http.Request) {
		if err := json.NewDecoder(r.Body).Decode(&got); err != nil {
			t.Error(err)
		}
	})
	if _, err := open(t, webhook.Config{URL: secret.String(srv.URL)}).Test(t.Context(), ""); err != nil {
		t.Fatal(err)
	}
	load(t).body(t, got)
}
