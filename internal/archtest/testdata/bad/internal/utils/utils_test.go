package utils

import (
	"os"

	_ "github.com/denywatch/denywatch/configs"
)

func init() { os.Exit(0) }
