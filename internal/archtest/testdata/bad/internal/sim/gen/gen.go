// Command gen breaks a rule.
package main

import (
	_ "github.com/denywatch/denywatch/detector"
)
