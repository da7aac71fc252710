// Package secret breaks a rule.
package secret

import (
	_ "github.com/denywatch/denywatch/internal/event"
)
