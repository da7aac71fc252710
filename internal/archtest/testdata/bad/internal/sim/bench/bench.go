// Command bench breaks a rule.
package main

import (
	_ "github.com/denywatch/denywatch/internal/collect"
)
