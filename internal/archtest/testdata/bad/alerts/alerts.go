// Package alerts breaks a rule.
package alerts

import (
	_ "github.com/denywatch/denywatch/detector"
)
