// Package servertest breaks a rule.
package servertest

import (
	_ "github.com/denywatch/denywatch/internal/event"
)
