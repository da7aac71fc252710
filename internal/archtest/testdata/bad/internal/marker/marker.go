// Package marker breaks a rule.
package marker

import (
	_ "github.com/denywatch/denywatch/detector"
)
