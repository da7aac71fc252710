// Package access breaks a rule.
package access

import (
	_ "github.com/denywatch/denywatch/detector"
	_ "github.com/schollz/progressbar/v3"
)
