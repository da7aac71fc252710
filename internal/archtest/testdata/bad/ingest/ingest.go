// Package ingest breaks a rule.
package ingest

import (
	_ "github.com/denywatch/denywatch/parsers"
)
