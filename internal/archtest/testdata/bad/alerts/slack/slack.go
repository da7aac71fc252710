// Package slack breaks a rule.
package slack

import (
	_ "github.com/go-analyze/charts/chartdraw"

	_ "github.com/denywatch/denywatch/alerts"
	_ "github.com/denywatch/denywatch/ingest"
)
