// Package route breaks a rule.
package route

import (
	_ "github.com/denywatch/denywatch/ingest"
	_ "go.yaml.in/yaml/v4"
)
