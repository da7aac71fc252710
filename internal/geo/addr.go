package geo

import (
	"bytes"
	"encoding/binary"
	"net/netip"
)

// Parse reads a client address as logs write it: IPv4, IPv6 with or without
// zone, either with a port ("192.0.2.1:443", "[2001:db8::1]:443"), and IPv6 in
// brackets alone. What it accepts and refuses is what net/netip does, but it
// reads bytes and never allocates. The zone is dropped, and an IPv4 address that
// is written as IPv6 ("::ffff:192.0.2.1") comes back as IPv4, so that one client
// has one address. For anything else ok is false.
func Parse(text []byte) (addr netip.Addr, ok bool) {
	a, ok := parse(text)
	if !ok {
		return netip.Addr{}, false
	}
	if a.is4() {
		return netip.AddrFrom4([4]byte(binary.BigEndian.AppendUint32(make([]byte, 0, 4), uint32(a.lo)))), true
	}
	var b [16]byte
	binary.BigEndian.PutUint64(b[:8], a.hi)
	binary.BigEndian.PutUint64(b[8:], a.lo)
	return netip.AddrFrom16(b), true
}

// address is an IPv6 address as two numbers. IPv4 stands in ::ffff:0:0/96.
type address struct{ hi, lo uint64 }

func (a address) is4() bool { return a.hi == 0 && a.lo>>32 == 0xffff }

// from4 is where an IPv4 address stands.
func from4(v uint32) address { return address{lo: 0xffff<<32 | uint64(v)} }

// parse is Parse without net/netip, whose IPv6 addresses are slow to make.
func parse(b []byte) (address, bool) {
	if len(b) == 0 {
		return address{}, false
	}
	if b[0] == '[' {
		end := bytes.LastIndexByte(b, ']')
		if end < 0 || !isPort(b[end+1:]) {
			return address{}, false
		}
		return parse6(b[1:end])
	}
	if v, n, ok := parse4(b); ok {
		return from4(v), isPort(b[n:])
	}
	return parse6(b)
}

// isPort says whether b is what may follow a complete address: nothing, or a
// colon and a decimal number of 16 bits.
func isPort(b []byte) bool {
	if len(b) == 0 {
		return true
	}
	if b[0] != ':' || len(b) == 1 {
		return false
	}
	port := 0
	for _, c := range b[1:] {
		if c -= '0'; c > 9 {
			return false
		}
		if port = port*10 + int(c); port > 0xffff {
			return false
		}
	}
	return true
}

// parse4 reads the dotted quad that b begins with and returns its length.
func parse4(b []byte) (v uint32, n int, ok bool) {
	for field := 0; ; field++ {
		start := n
		var octet uint32
		for n < len(b) && n < start+3 && b[n]-'0' <= 9 {
			octet = octet*10 + uint32(b[n]-'0')
			n++
		}
		// A leading zero is octal to some programs: nobody can know what it means.
		if n == start || octet > 255 || b[start] == '0' && n > start+1 {
			return 0, 0, false
		}
		v = v<<8 | octet
		if field == 3 {
			// A fifth field or a fourth digit is another thing altogether.
			return v, n, n == len(b) || b[n] != '.' && b[n]-'0' > 9
		}
		if n == len(b) || b[n] != '.' {
			return 0, 0, false
		}
		n++
	}
}

// parse6 reads all of b as an IPv6 address (RFC 4291 section 2.2, the zone as in
// RFC 4007 section 11).
func parse6(b []byte) (address, bool) {
	if z := bytes.IndexByte(b, '%'); z >= 0 {
		if z == len(b)-1 {
			return address{}, false
		}
		b = b[:z]
	}
	var (
		a, head address // what was read since "::", and before it
		groups  int     // how many, both together
		gap     = -1    // how many came before "::"
		i       int
	)
	if len(b) >= 2 && b[0] == ':' && b[1] == ':' {
		gap, i = 0, 2
	}
	for i < len(b) {
		if groups == 8 {
			return address{}, false
		}
		start := i
		var v uint64
		for ; i < len(b) && i <= start+4; i++ {
			d := hexDigits[b[i]]
			if d == 0 {
				break
			}
			v = v<<4 | uint64(d&15)
		}
		if i == start || i > start+4 {
			return address{}, false
		}
		if i < len(b) && b[i] == '.' {
			v4, n, ok := parse4(b[start:])
			if !ok || start+n != len(b) || groups > 6 || gap < 0 && groups != 6 {
				return address{}, false
			}
			a.hi, a.lo = a.hi<<32|a.lo>>32, a.lo<<32|uint64(v4)
			groups += 2
			break
		}
		a.hi, a.lo = a.hi<<16|a.lo>>48, a.lo<<16|v
		groups++
		if i == len(b) {
			break
		}
		if b[i] != ':' || i+1 == len(b) {
			return address{}, false
		}
		i++
		if b[i] == ':' {
			if gap >= 0 {
				return address{}, false
			}
			gap, head, a = groups, a, address{}
			i++
		}
	}
	if gap < 0 {
		return a, groups == 8
	}
	// "::" stands for one group at least.
	if groups > 7 {
		return address{}, false
	}
	shift := 16 * uint(8-gap)
	if shift >= 64 {
		a.hi |= head.lo << (shift - 64)
	} else {
		a.hi |= head.hi<<shift | head.lo>>(64-shift)
		a.lo |= head.lo << shift
	}
	return a, true
}

// hexDigits holds the value of each hexadecimal digit plus 16, and 0 for other
// bytes. Digits and letters come at random: comparing would be guessed wrong.
var hexDigits = [256]byte{
	'0': 16, '1': 17, '2': 18, '3': 19, '4': 20, '5': 21, '6': 22, '7': 23, '8': 24, '9': 25,
	'a': 26, 'b': 27, 'c': 28, 'd': 29, 'e': 30, 'f': 31,
	'A': 26, 'B': 27, 'C': 28, 'D': 29, 'E': 30, 'F': 31,
}
