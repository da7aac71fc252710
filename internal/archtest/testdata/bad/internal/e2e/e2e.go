// Package e2e breaks a rule.
package e2e

import (
	_ "github.com/denywatch/denywatch/internal/event"
)
