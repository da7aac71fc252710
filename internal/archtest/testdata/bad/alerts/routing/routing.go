// Package routing breaks a rule.
package routing

import (
	_ "github.com/denywatch/denywatch/detector"
)
