// Package report breaks a rule.
package report

import (
	_ "github.com/denywatch/denywatch/configs"
)
