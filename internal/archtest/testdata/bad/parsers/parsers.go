// Package parsers breaks a rule.
package parsers

import (
	_ "github.com/denywatch/denywatch/ingest"
	_ "github.com/segmentio/kafka-go"
)
