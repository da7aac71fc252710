// Package app breaks a rule.
package app

import (
	_ "github.com/denywatch/denywatch/configs"
	_ "github.com/denywatch/denywatch/ingest/file"
)
