// Package geo breaks a rule.
package geo

import (
	_ "github.com/alecthomas/kong"
	_ "github.com/denywatch/denywatch/ingest"
)
