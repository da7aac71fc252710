// Package incident breaks a rule.
package incident

import (
	_ "github.com/denywatch/denywatch/alerts"
)
