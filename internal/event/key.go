package event

import (
	"bytes"
	"fmt"
	"math"
	"slices"
	"strconv"
	"strings"
)

// Key names a text of an Event that something beside the line may say: the topic,
// the key or a header of the message that carried it.
type Key uint8

// The keys.
const (
	KeyService Key = iota
	KeyHost
	KeyClient
	KeyUser
	KeyAccount
	KeyRole
	KeyPlan
	KeyGeo
	KeyVersion
	KeyTime
)

var keyNames = []string{"service", "host", "client", "user", "account", "role", "plan", "geo", "version", "time"}

// String returns the name used in configuration.
func (k Key) String() string {
	if int(k) < len(keyNames) {
		return keyNames[k]
	}
	return fmt.Sprintf("key(%d)", uint8(k))
}

// ParseKey is the inverse of String.
func ParseKey(s string) (Key, error) {
	if i := slices.Index(keyNames, s); i >= 0 {
		return Key(i), nil
	}
	return 0, fmt.Errorf("unknown field; use one of %s", strings.Join(keyNames, ", "))
}

// Set makes v what e says under k, whatever it said before; v is kept as a view.
// Roles are separated by commas, a time is milliseconds since the Unix epoch. A
// user is no claim of the client's then.
func (e *Event) Set(k Key, v []byte) {
	switch k {
	case KeyService:
		e.Service = v
	case KeyHost:
		e.Host = v
	case KeyClient:
		e.Client = v
	case KeyUser:
		e.User, e.UserClaimed = v, false
	case KeyAccount:
		e.Account = v
	case KeyRole:
		e.Roles = e.Roles[:0]
		for more := true; more; {
			var one []byte
			one, v, more = bytes.Cut(v, []byte{','})
			if one = bytes.TrimSpace(one); len(one) > 0 {
				e.Roles = append(e.Roles, one)
			}
		}
	case KeyPlan:
		e.Plan = v
	case KeyGeo:
		e.Geo = v
	case KeyVersion:
		e.Version = v
	case KeyTime:
		if ms, err := strconv.ParseInt(string(v), 10, 64); err == nil && ms >= 0 && ms <= math.MaxInt64/int64(1e6) {
			e.Time = ms * 1e6
		}
	}
}
