// Package slack breaks a rule.
package slack

import (
	_ "github.com/denywatch/denywatch/alerts"
	_ "github.com/denywatch/denywatch/ingest"
)
