// Package state breaks a rule.
package state

import (
	_ "github.com/denywatch/denywatch/internal/event"
)
