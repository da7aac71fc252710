// Package event breaks a rule.
package event

import (
	_ "github.com/denywatch/denywatch/ingest"
	_ "github.com/nicholas-fedor/shoutrrr"
	_ "github.com/slack-go/slack"
	_ "github.com/wneessen/go-mail"
)
