module github.com/denywatch/denywatch
