package parsers

import "bytes"

// The ways in which a line is no text that a log could hold.
var (
	// ErrUTF16: every other byte is NUL, as in ASCII text written as UTF-16, or
	// the line begins with UTF-16's byte order mark.
	ErrUTF16 = &LineError{Reason: "utf16", text: "this file is UTF-16; convert it (iconv -f UTF-16 -t UTF-8) or have it written in UTF-8"}
	// ErrBinary: the line holds bytes that no text has.
	ErrBinary = &LineError{Reason: "binary", text: "this is binary data, not text"}
)

// encodingBytes is how much of a line Encoding looks at.
const encodingBytes = 256

// Encoding says whether a line that is not understood is no text at all:
// ErrUTF16, ErrBinary, or nil if it is text.
func Encoding(line []byte) *LineError {
	if bytes.HasPrefix(line, []byte("\xff\xfe")) || bytes.HasPrefix(line, []byte("\xfe\xff")) {
		return ErrUTF16
	}
	line = line[:min(len(line), encodingBytes)]
	var nul [2]int // by whether the offset is odd
	control := 0
	for i, c := range line {
		switch {
		case c == 0:
			nul[i&1]++
		case c < ' ' && c != '\t' && c != '\r' && c != 0x1b:
			control++
		}
	}
	// Cutting at newlines leaves their other half at one end of the lines, so
	// either half of the characters may stand at the even offsets.
	half := len(line) / 2
	most, least := max(nul[0], nul[1]), min(nul[0], nul[1])
	switch {
	case half >= 2 && most*10 >= half*8 && least*10 <= half:
		return ErrUTF16
	case nul[0]+nul[1]+control > 0:
		return ErrBinary
	}
	return nil
}
