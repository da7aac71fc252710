// Package tally breaks a rule.
package tally

import (
	_ "github.com/denywatch/denywatch/ingest"
	_ "github.com/denywatch/denywatch/ingest/file"
)
