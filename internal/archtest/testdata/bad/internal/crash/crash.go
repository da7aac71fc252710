// Package crash breaks a rule.
package crash

import (
	_ "github.com/denywatch/denywatch/internal/event"
	_ "go.etcd.io/bbolt/errors"
)
