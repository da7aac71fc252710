// Package web breaks a rule.
package web

import (
	_ "github.com/denywatch/denywatch/internal/app"
)
