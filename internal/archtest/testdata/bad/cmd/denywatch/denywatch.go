// Package denywatch breaks a rule.
package main

import (
	_ "github.com/denywatch/denywatch/detector"
	_ "github.com/nxadm/tail"
)
