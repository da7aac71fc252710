package syslog

import "bytes"

// framer cuts what comes through a connection into messages. Each is either counted,
// "27 <190>Nov 24 ...", or ends with a newline (RFC 6587, sections 3.4.1 and 3.4.2);
// which, its first byte says, for a message begins with "<".
type framer struct {
	most int // bytes of a message
	// tooLong counts the messages that were longer.
	tooLong uint64

	skip int  // bytes of a counted message that is too long
	line bool // the rest of the line belongs to one
}

// maxDigits is how long the count of a message may be.
const maxDigits = 9

// next returns the first message of data, nil if what comes first is none, and how
// many bytes it took: 0 means that more is needed.
func (f *framer) next(data []byte) (message []byte, n int) {
	switch {
	case len(data) == 0:
		return nil, 0
	case f.skip > 0:
		n = min(f.skip, len(data))
		f.skip -= n
		return nil, n
	case f.line:
		i := bytes.IndexByte(data, '\n')
		if i < 0 {
			return nil, len(data)
		}
		f.line = false
		return nil, i + 1
	}
	if count, digits, more := counted(data); more {
		return nil, 0
	} else if digits > 0 {
		switch {
		case count > f.most:
			f.tooLong++
			f.skip = count
			return nil, digits + 1
		case len(data) < digits+1+count:
			return nil, 0
		}
		return data[digits+1 : digits+1+count], digits + 1 + count
	}
	i := bytes.IndexByte(data, '\n')
	switch {
	case i < 0 && len(data) <= f.most:
		return nil, 0
	case i < 0 || i > f.most:
		f.tooLong++
		f.line = true
		return nil, min(len(data), f.most)
	}
	return data[:i], i + 1
}

// counted reads the count that data begins with; digits is 0 if there is none, more
// tells that it may not be complete.
func counted(data []byte) (count, digits int, more bool) {
	if data[0] < '1' || data[0] > '9' {
		return 0, 0, false
	}
	for i, c := range data {
		switch {
		case c == ' ':
			return count, i, false
		case c < '0' || c > '9' || i >= maxDigits:
			return 0, 0, false
		}
		count = count*10 + int(c-'0')
	}
	return 0, 0, true
}

// trim cuts off what senders put behind a message that is none of it.
func trim(message []byte) []byte { return bytes.TrimRight(message, "\r\n\x00") }
