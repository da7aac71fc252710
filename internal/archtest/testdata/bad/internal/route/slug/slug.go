// Package slug breaks a rule.
package slug

import (
	_ "github.com/alecthomas/kong"
	_ "github.com/denywatch/denywatch/ingest"
)
