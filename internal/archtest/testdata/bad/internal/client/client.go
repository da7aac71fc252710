// Package client breaks a rule.
package client

import (
	_ "github.com/denywatch/denywatch/detector"
)
