// Package detector breaks a rule.
package detector

import (
	_ "github.com/denywatch/denywatch/baseline"
	_ "github.com/denywatch/denywatch/configs"
)
