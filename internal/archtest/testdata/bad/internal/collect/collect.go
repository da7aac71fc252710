// Package collect breaks a rule.
package collect

import (
	_ "github.com/denywatch/denywatch/detector"
	_ "github.com/denywatch/denywatch/ingest"
)
