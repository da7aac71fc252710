// Package configs breaks a rule.
package configs

import (
	_ "github.com/denywatch/denywatch/internal/app"
)
