package event

import (
	"fmt"
	"testing"
)

// TestKeys: each name is a key, and Set makes it what the event says.
func TestKeys(t *testing.T) {
	e := Event{UserClaimed: true, Roles: [][]byte{[]byte("old")}}
	for _, name := range keyNames {
		k, err := ParseKey(name)
		if err != nil || k.String() != name {
			t.Fatal(name, k, err)
		}
		e.Set(k, []byte(name+", x"))
	}
	got := fmt.Sprintf("%s|%s|%s|%s|%s|%s|%s|%s|%s", e.Service, e.Host, e.Client, e.User, e.Account, e.Roles, e.Plan, e.Geo, e.Version)
	if want := "service, x|host, x|client, x|user, x|account, x|[role x]|plan, x|geo, x|version, x"; got != want || e.UserClaimed {
		t.Errorf("%s, claimed %v", got, e.UserClaimed)
	}
	e.Set(KeyTime, []byte("1767225600123"))
	if e.Set(KeyTime, []byte("9999999999999999999")); e.Time != 1767225600123e6 {
		t.Errorf("time %d", e.Time)
	}
	if _, err := ParseKey("status"); err == nil {
		t.Error("status is taken")
	}
}
