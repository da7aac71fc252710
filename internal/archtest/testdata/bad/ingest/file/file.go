// Package file breaks a rule.
package file

import (
	_ "github.com/denywatch/denywatch/alerts"
	_ "github.com/denywatch/denywatch/ingest"
)
