// Package replica breaks a rule.
package replica

import (
	_ "github.com/denywatch/denywatch/internal/event"
)
