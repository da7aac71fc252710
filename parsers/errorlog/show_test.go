package errorlog

import (
	"fmt"
	"strings"
	"time"

	"github.com/denywatch/denywatch/internal/event"
)

// show writes the fields of l that are not empty, for golden files.
func show(l *Line) string {
	var b strings.Builder
	add := func(name, v string) {
		if v != "" {
			fmt.Fprintf(&b, " %s=%s", name, v)
		}
	}
	text := func(name string, v []byte) {
		if len(v) > 0 {
			add(name, fmt.Sprintf("%q", v))
		}
	}
	if l.Time != event.NoTime {
		add("time", time.Unix(0, l.Time).UTC().Format("2006-01-02T15:04:05.999999999Z"))
	}
	if l.Zoned {
		add("zoned", "yes")
	}
	text("client", l.Client)
	text("host", l.Host)
	text("server", l.Server)
	text("method", l.Method)
	text("path", l.Path)
	if l.PathCut {
		add("cut", "yes")
	}
	text("file", l.File)
	if l.Conn != 0 {
		add("conn", fmt.Sprint(l.Conn))
	}
	text("logid", l.LogID)
	if l.Layer != event.LayerUnknown {
		add("layer", l.Layer.String())
	}
	add("cause", l.Cause)
	text("rule", l.Rule)
	if l.Status != 0 {
		add("status", fmt.Sprint(l.Status))
	}
	return strings.TrimPrefix(b.String(), " ")
}
