// Package baseline breaks a rule.
package baseline

import (
	_ "github.com/denywatch/denywatch/detector"
)
