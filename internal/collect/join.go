package collect

import (
	"bytes"
	"encoding/binary"

	"github.com/denywatch/denywatch/internal/event"
	"github.com/denywatch/denywatch/internal/route"
	"github.com/denywatch/denywatch/internal/tally"
)

// joinHead is how many bytes of a path are compared: the lines of error logs are
// cut somewhere behind them.
const joinHead = 256

// joinKeys name the request that a denial, or a line that explains one, belongs
// to, the surest first: by the number of its connection and its path, or the id
// that both logs have; by client and path; and by client and the end of the path,
// for servers that name the file instead. The end is two segments, or the only
// one there is: of a file it is not known where the path begins, so it has a key
// for each. A file may also be the folder that the request was under, named
// without a slash at its end, or the .htaccess or index in it.
func (c *Config) joinKeys(e *event.Event, scratch *[]byte) (keys [tally.Keys]uint64) {
	path := route.Path(e.Path)
	if i := bytes.IndexByte(path, '?'); i >= 0 {
		path = path[:i]
	}
	b := appendPlain((*scratch)[:0], path)
	n := len(b)
	path = b[:n:n]
	head := path[:min(n, joinHead)]
	key := func(kind byte, a, v []byte) uint64 {
		b = append(b[:n], kind)
		b = append(append(append(b, a...), 0), v...)
		return c.Identity.Hash(b[n:])
	}
	switch {
	case e.Conn != 0 && n > 0:
		var conn [8]byte
		binary.BigEndian.PutUint64(conn[:], e.Conn)
		keys[0] = key('c', conn[:], head)
	case len(e.RequestID) > 0:
		keys[0] = key('i', nil, e.RequestID)
	}
	client := host(e.Client)
	if n > 0 {
		keys[1] = key('p', client, head)
	}
	switch one, two := ends(path); {
	case e.CauseOnly && n > 0:
	case e.CauseOnly:
		file, within := e.Route, true
		one, _ = ends(file)
		if htaccess := string(one) == ".htaccess"; htaccess || bytes.HasPrefix(one, []byte("index.")) {
			file, within = bytes.TrimRight(file, "/"), htaccess
			file = file[:len(file)-len(one)]
		} else if bytes.HasSuffix(file, slash) {
			within = false // the folder itself
		}
		if one, two = ends(file); len(one) > 0 {
			keys[1], keys[2] = key('1', client, one), key('2', client, two)
			if within {
				keys[3] = key('d', client, one)
			}
		}
	case len(two) > len(one):
		keys[2] = key('2', client, two)
		keys[3] = key('d', client, two[:len(two)-len(one)-1])
	case len(one) > 0:
		keys[2] = key('1', client, one)
	}
	*scratch = b
	return keys
}

var slash = []byte("/")

// appendPlain appends a path as a server takes it, which is how error logs have
// it: percent-encoding resolved, without doubled slashes and dot segments.
func appendPlain(dst, path []byte) []byte {
	from := len(dst)
	for i := 0; i < len(path); i++ {
		ch := path[i]
		if ch == '%' && i+2 < len(path) {
			if x, ok := unhex(path[i+1], path[i+2]); ok {
				ch = x
				i += 2
			}
		}
		if ch == '/' {
			dst = endSegment(dst, from)
			if n := len(dst); n > from && dst[n-1] == '/' {
				continue
			}
		}
		dst = append(dst, ch)
	}
	return endSegment(dst, from)
}

// endSegment takes "." and ".." off the end of the path at dst[from:], and what
// ".." leaves.
func endSegment(dst []byte, from int) []byte {
	switch at := bytes.LastIndexByte(dst[from:], '/') + from; {
	case at < from:
	case string(dst[at:]) == "/.":
		return dst[:at+1]
	case string(dst[at:]) == "/..":
		return dst[:bytes.LastIndexByte(dst[from:at], '/')+from+1]
	}
	return dst
}

// unhex is the byte of two hexadecimal digits.
func unhex(hi, lo byte) (x byte, ok bool) {
	for _, c := range [2]byte{hi, lo} {
		switch {
		case c-'0' <= 9:
			x = x<<4 | (c - '0')
		case c|0x20 >= 'a' && c|0x20 <= 'f':
			x = x<<4 | (c | 0x20 - 'a' + 10)
		default:
			return 0, false
		}
	}
	return x, true
}

// ends returns the last segment of a path and the last two, without slashes at
// either end; they are the same if there is only one.
func ends(path []byte) (one, two []byte) {
	path = bytes.Trim(path, "/")
	i := bytes.LastIndexByte(path, '/')
	return path[i+1:], path[bytes.LastIndexByte(path[:max(i, 0)], '/')+1:]
}
