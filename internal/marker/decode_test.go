package marker

import (
	"encoding/json"
	"reflect"
	"strings"
	"testing"
	"time"
)

func TestDecode(t *testing.T) {
	for _, c := range []struct {
		name, body string
		want       Marker
	}{
		{"the smallest", `{}`, Marker{}},
		{"whole", ` {"id":"a","kind":"release","time":"2026-11-18T10:04:00+01:00","service":"shop","version":"v2","previous":"v1",
			"scope":{"service":"shop","prefix":["/a","/b"],"route":"/a/{id}","role":[],"geo":["BR"]},"expect":"down"} `,
			Marker{
				ID: "a", Kind: Release, Time: time.Date(2026, 11, 18, 9, 4, 0, 0, time.UTC), Service: "shop", Version: "v2", Previous: "v1",
				Scope:  Scope{Service: List{"shop"}, Prefix: List{"/a", "/b"}, Route: List{"/a/{id}"}, Role: List{}, Geo: List{"BR"}},
				Expect: ExpectDown,
			}},
		{"null is absent", `{"id":null,"time":null,"scope":null,"kind":"flag"}`, Marker{Kind: Flag}},
		{"null inside the scope", `{"scope":{"role":null}}`, Marker{}},
	} {
		got, err := Decode([]byte(c.body))
		if err != nil {
			t.Errorf("%s: %v", c.name, err)
			continue
		}
		if !got.Time.Equal(c.want.Time) {
			t.Errorf("%s: time %v", c.name, got.Time)
		}
		got.Time = c.want.Time
		if !reflect.DeepEqual(got, c.want) {
			t.Errorf("%s:\n got %+v\nwant %+v", c.name, got, c.want)
		}
	}
}

func TestDecodeProblems(t *testing.T) {
	for _, c := range []struct {
		name, body string
		want       []string
	}{
		{"empty", " \n", []string{"the body is empty"}},
		{"form", "kind=release&service=shop", []string{"the body is not a JSON object"}},
		{"list", `[{"id":"a"}]`, []string{"is a list"}},
		{"string", `"a"`, []string{"not a JSON object"}},
		{"early end", `{"id":"a"`, []string{"not one JSON object", "unexpected end"}},
		{"broken", `{"id" "a"}`, []string{"not one JSON object; byte 7"}},
		{"two", `{"id":"a"}{"id":"b"}`, []string{"not one JSON object; byte 11"}},
		{"lines", "{\"id\":\"a\"}\n{\"id\":\"b\"}\n", []string{"not one JSON object; byte 12"}},
		{"not UTF-8", "{\"id\":\"\xff\"}", []string{"not UTF-8"}},
		{"unknown", `{"vresion":"v2"}`, []string{`"vresion": unknown field; use one of id, kind, time, service, version, previous, scope, expect`}},
		{"other case", `{"Kind":"release"}`, []string{`"Kind": unknown field`}},
		{"unknown in the scope", `{"scope":{"path":"/a"}}`, []string{`"scope.path": unknown field; use one of service, prefix, route, role, geo`}},
		{"twice", `{"id":"a","\u0069d":"b"}`, []string{"id: is given twice"}},
		{"types", `{"id":7,"kind":[],"time":1763460240,"scope":{"role":{"a":1},"geo":[7]},"expect":true}`, []string{
			"id: must be a string", "kind: must be a string", "time: must be a time", "scope.role: must be", "scope.geo: must be", "expect: must be a string",
		}},
		{"time without zone", `{"time":"2026-11-18 10:04"}`, []string{"time: must be a time as in RFC 3339"}},
		{"scope is no object", `{"scope":"/a"}`, []string{"scope: must be an object"}},
		{"many", `{"a":1,"b":1,"c":1,"d":1,"e":1,"f":1,"g":1,"h":1,"i":1,"j":1}`, []string{"and 2 more"}},
		{"long name", `{"` + strings.Repeat("x", 5000) + `":1}`, []string{"unknown field"}},
	} {
		_, err := Decode([]byte(c.body))
		if err == nil {
			t.Errorf("%s: accepted", c.name)
			continue
		}
		for _, w := range c.want {
			if !strings.Contains(err.Error(), w) {
				t.Errorf("%s: %q is not in %q", c.name, w, err)
			}
		}
		if len(err.Error()) > 2000 {
			t.Errorf("%s: the error has %d bytes", c.name, len(err.Error()))
		}
	}
}

// FuzzDecode: no body makes it panic, what is taken is JSON that a lenient
// decoder reads the same way, and a marker survives being sent again.
func FuzzDecode(f *testing.F) {
	for _, s := range []string{
		`{}`, `{"kind":"release","service":"shop","version":"v2.31.0","previous":"v2.30.4"}`,
		`{"id":"a","time":"2026-11-18T10:04:00Z","scope":{"prefix":["/a"],"role":"x"},"expect":"up"}`,
		`{"scope":{"scope":{}}}`, `{"id":"\ud800"}`, `[{}]`, `{"id":null}`, `{"a":{"b":[[[[{}]]]]}}`, "\x00", `{"id":"a",}`, `{"":""}`,
	} {
		f.Add([]byte(s))
	}
	at := time.Date(2026, 11, 18, 10, 0, 0, 0, time.UTC)
	f.Fuzz(func(t *testing.T, body []byte) {
		m, err := Decode(body)
		if err != nil {
			return
		}
		var lenient Marker
		if err := json.Unmarshal(body, &lenient); err != nil {
			t.Fatalf("taken, but encoding/json says %v", err)
		}
		if !reflect.DeepEqual(m, lenient) {
			t.Fatalf("read as %+v, by encoding/json as %+v", m, lenient)
		}
		if m.Normalise(at) != nil {
			return
		}
		again, err := json.Marshal(m)
		if err != nil {
			t.Fatalf("a normalised marker cannot be encoded: %v", err)
		}
		back, err := Decode(again)
		if err != nil {
			t.Fatalf("its own JSON %s is refused: %v", again, err)
		}
		if err := back.Normalise(at.Add(time.Hour)); err != nil || back.ID != m.ID || !back.Time.Equal(m.Time) {
			t.Fatalf("sent again it became %+v, was %+v: %v", back, m, err)
		}
	})
}
