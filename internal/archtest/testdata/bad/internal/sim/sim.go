// Package sim breaks a rule.
package sim

import (
	_ "github.com/denywatch/denywatch/parsers"
)
