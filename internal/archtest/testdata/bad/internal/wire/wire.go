// Package wire breaks a rule.
package wire

import (
	_ "github.com/denywatch/denywatch/internal/event"
)
