// Package seen breaks a rule.
package seen

import (
	_ "github.com/alecthomas/kong"
	_ "github.com/denywatch/denywatch/ingest"
)
