// Package archtest breaks a rule.
package archtest

import (
	_ "github.com/denywatch/denywatch/internal/event"
)
