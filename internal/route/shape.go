package route

import "bytes"

// Placeholders of the segment shapes. An application's own route may use the
// same names or others.
const (
	ID      = "{id}"      // a number, UUID, hash, token, e-mail address: whatever names one thing
	Date    = "{date}"    // a day or a moment
	Year    = "{year}"    // of a date that is spread over segments
	Month   = "{month}"   // follows Year
	Day     = "{day}"     // follows Month
	Locale  = "{locale}"  // a language, perhaps with script and region
	Version = "{version}" // three numbers; versions of an API stay literals
	Hash    = "{hash}"    // the fingerprint in the name of a static asset
	File    = "{file}"    // the name of a static asset that is nothing else
	Host    = "{host}"    // a host name
	User    = "{user}"    // after ~ or @
	Slug    = "{slug}"    // words that name one thing; mostly learned, see package slug
)

// kind is what a segment is.
type kind uint8

const (
	literal kind = iota
	kID
	kDate
	kYear
	kMonth
	kDay
	kLocale
	kVersion
	kHash
	kFile
	kHost
	kUser
	kSlug
	kRest // the path is not ours any more: "/**"
	kinds
)

var placeholders = [kinds]string{"", ID, Date, Year, Month, Day, Locale, Version, Hash, File, Host, User, Slug, ""}

// marks stand for placeholders in keys.
var marks = func() (m [kinds]uint64) {
	x := uint64(markID)
	for i := kID; i < kinds; i++ {
		m[i] = x
		x = mix(x, markText)
	}
	m[literal] = x
	return m
}()

// shape is how one segment is written in a template: text[:pre], the
// placeholder of kind, text[post:]. A literal is all of text.
type shape struct {
	kind      kind
	pre, post int
}

// context is what the meaning of a segment depends on besides its text.
type context struct {
	depth  int    // 1 for the first segment
	before kind   // of the segment before
	parent []byte // the segment before as it is written, nil for the first
	rest   []byte // the path behind the segment
}

// Byte classes.
const (
	cDigit = 1 << iota
	cHex   // a-f, A-F, '-': may stand in a hexadecimal id
	cUpper
	cStop  // '/', '?', '#'
	cOdd   // what no word and no plain id has
	cOther // g-z, G-Z, '_'
	cBreak // '-', '_'
	cClean // '%', ';', '&': the segment may not be what it stands for
)

var class = func() (t [256]uint8) {
	for i := range t {
		t[i] = cOdd
	}
	for c := '0'; c <= '9'; c++ {
		t[c] = cDigit
	}
	for c := 'a'; c <= 'z'; c++ {
		t[c] = cOther
		t[c-'a'+'A'] = cOther | cUpper
		if c <= 'f' {
			t[c] = cHex
			t[c-'a'+'A'] = cHex | cUpper
		}
	}
	t['-'], t['_'] = cHex|cBreak, cOther|cBreak
	t['%'], t[';'], t['&'] = cOdd|cClean, cOdd|cClean, cOdd|cClean
	t['/'], t['?'], t['#'] = cStop, cStop, cStop
	return t
}()

func isDigit(c byte) bool { return c-'0' < 10 }
func isUpper(c byte) bool { return c-'A' < 26 }
func isAlpha(c byte) bool { return c|0x20-'a' < 26 }
func isAlnum(c byte) bool { return isDigit(c) || isAlpha(c) }

// twoDigits reads two digits between lo and hi.
func twoDigits(s []byte, lo, hi int) bool {
	if len(s) < 2 || !isDigit(s[0]) || !isDigit(s[1]) {
		return false
	}
	n := int(s[0]-'0')*10 + int(s[1]-'0')
	return n >= lo && n <= hi
}

// isYear reads four digits, 1980 to 2059: what people name things by.
func isYear(s []byte) bool {
	return len(s) >= 4 && (s[0] == '1' && s[1] == '9' && twoDigits(s[2:], 80, 99) || s[0] == '2' && s[1] == '0' && twoDigits(s[2:], 0, 59))
}

// plain reports whether a segment is a literal wherever it stands, as far as
// can be told from how many digits it has and which classes: words in small
// letters, short ones in any, and v1. It is the fast way past classify and never
// says yes where classify would not.
func plain(seg []byte, digits int, seen uint8) bool {
	n := len(seg)
	if digits == 0 && seen&cOdd == 0 && n > 2 {
		if seen&cBreak == 0 {
			return n < 16 && (seen&cUpper == 0 || n < 8)
		}
		return seen&cUpper == 0 && n <= maxSegment && (n > 11 || seg[2] != '-' && seg[2] != '_')
	}
	return n == 2 && digits == 1 && seg[0]|0x20 == 'v'
}

// number reports whether a segment is surely an id, as far as can be told from
// its classes: long numbers, hashes and UUIDs. It never says yes where classify
// finds anything else.
func number(seg []byte, digits int, seen uint8) bool {
	n := len(seg)
	if seen == cDigit {
		return n > 4 && n != 8 && n <= maxSegment
	}
	return digits >= 8 && n >= 16 && n <= maxSegment && seen&(cOdd|cOther) == 0
}

// uuid reports whether t has the form 8-4-4-4-12.
func uuid(t []byte) bool {
	if len(t) != 36 || t[8] != '-' || t[13] != '-' || t[18] != '-' || t[23] != '-' {
		return false
	}
	for i, c := range t {
		if i != 8 && i != 13 && i != 18 && i != 23 && (class[c]&(cDigit|cHex) == 0 || c == '-') {
			return false
		}
	}
	return true
}

// classify tells the shape of a segment that normalise has cleaned, whose length
// is decoded bytes and that has these digits and classes.
func classify(t []byte, decoded, digits int, seen uint8, c *context) shape {
	n := len(t)
	all := shape{literal, n, n}
	if n == 0 || n <= 2 && t[0] == '.' {
		return all
	}
	if decoded > maxSegment {
		return shape{long(t), 0, n}
	}
	if seen&cOdd != 0 {
		if s, ok := odd(t, c); ok {
			return s
		}
		if bytes.IndexByte(t, '.') > 0 {
			return withDots(t, c)
		}
	}
	return wholeShape(known(t, digits, seen, c), n)
}

// wholeShape makes the shape of a segment that is a placeholder or a literal as
// a whole.
func wholeShape(k kind, n int) shape {
	if k == literal {
		return shape{literal, n, n}
	}
	return shape{k, 0, n}
}

// long tells slugs from tokens among segments that are too long to be literals.
func long(t []byte) kind {
	breaks, run := 0, 0
	for i, c := range t {
		if c == '-' || c == '_' || c == '+' || c == '%' && i+2 < len(t) && t[i+1] == '2' && t[i+2] == '0' {
			breaks++
			run = 0
		} else if run++; run > 40 && c != '%' && bytes.IndexByte(t, '%') < 0 {
			return kID
		}
	}
	if breaks*16 < len(t) && bytes.IndexByte(t, '%') < 0 {
		return kID
	}
	digits := 0
	for _, c := range t {
		if isDigit(c) {
			digits++
		}
	}
	if bytes.IndexByte(t, '%') < 0 && digits*4 > len(t) {
		return kID
	}
	return kSlug
}

// odd knows the segments that are told by a special character.
func odd(t []byte, c *context) (shape, bool) {
	n := len(t)
	whole := shape{kID, 0, n}
	switch t[0] {
	case '~':
		if n > 1 && c.depth == 1 && isAlnum(t[1]) {
			return shape{kUser, 1, n}, true
		}
	case '@':
		if n > 1 {
			return shape{kUser, 1, n}, true
		}
	case '{':
		if n > 2 && t[n-1] == '}' && uuid(t[1:n-1]) {
			return whole, true
		}
	case '%':
		if n == 42 && string(t[:3]) == "%7B" && string(t[39:]) == "%7D" && uuid(t[3:39]) {
			return whole, true
		}
	case '+':
		if n >= 7 && digitsIn(t) >= 6 {
			return whole, true // a telephone number
		}
	}
	var at, colon, equal, open, comma = -1, -1, -1, -1, -1
	for i, x := range t {
		switch x {
		case '@':
			at = i
		case ':':
			colon = i
		case '=':
			if equal < 0 {
				equal = i
			}
		case '(':
			if open < 0 {
				open = i
			}
		case ',':
			comma = i
		}
	}
	switch {
	case at > 0:
		// "logo@2x.png" is a picture for fine screens.
		if at+2 < n && isDigit(t[at+1]) && t[at+2] == 'x' && (at+3 == n || t[at+3] == '.') {
			return shape{}, false
		}
		return whole, true
	case colon == n-1 && colon > 1 && len(c.rest) > 2 && c.rest[0] == '/' && c.rest[1] == '/' && class[c.rest[2]]&cStop == 0 && letters(t[:colon]):
		return shape{kRest, 0, n}, true // another site's URL
	case colon > 0 && bytes.Contains(t, []byte(":%2F")):
		return whole, true
	case equal > 0 && equal >= n-2 && n >= 8 && n%4 == 0 && !bytes.ContainsAny(t, "%.:,()"):
		return whole, true // the padding of base64
	case equal > 0 && equal < n-1 && equal <= 24:
		value, digits, seen := scan(t[equal+1:])
		v := classify(value, len(value), digits, seen, &context{depth: 2})
		if v.kind == literal || v.kind == kRest {
			return shape{literal, n, n}, true
		}
		return shape{v.kind, equal + 1 + v.pre, equal + 1 + v.post}, true
	case open > 0:
		if t[n-1] == ')' && open < n-2 && (t[open+1] == '\'' || isDigit(t[open+1]) || bytes.IndexByte(t[open:], '=') > 0) {
			return shape{kID, open + 1, n - 1}, true // OData
		}
	case colon > 0 && isDate(t):
		return shape{kDate, 0, n}, true
	case colon > 0:
		if k := stem(t[:colon], &context{depth: 2}); colon < n-1 && k != literal && letters(t[colon+1:]) {
			return shape{k, 0, colon}, true // a verb, "7:cancel"
		}
		if digitsIn(t) >= 2 && (hexColons(t) || digitsIn(t) >= 4) {
			return whole, true // an address, a time, a compound key
		}
		if k := stem(t[colon+1:], &context{depth: 2}); colon < n-1 && k != literal {
			return whole, true
		}
	case comma > 0:
		if digitsIn(t) > 0 && digitsIn(t)*2 >= n-bytes.Count(t, []byte{','}) {
			return whole, true // a list of ids, coordinates
		}
	}
	return shape{}, false
}

func digitsIn(t []byte) (n int) {
	for _, c := range t {
		if isDigit(c) {
			n++
		}
	}
	return n
}

// letters reports whether t has nothing but letters, and some.
func letters(t []byte) bool {
	for _, c := range t {
		if !isAlpha(c) {
			return false
		}
	}
	return len(t) > 0
}

// hexColons reports whether t is an IPv6 or a hardware address.
func hexColons(t []byte) bool {
	n := 0
	for _, c := range t {
		if c == ':' {
			n++
		} else if class[c]&(cDigit|cHex) == 0 || c == '-' {
			return false
		}
	}
	return n >= 2
}

// withDots tells versions, addresses, host names and file names.
func withDots(t []byte, c *context) shape {
	n := len(t)
	all := shape{literal, n, n}
	if s, ok := numeric(t, c); ok {
		return s
	}
	last := bytes.LastIndexByte(t, '.')
	ext := t[last+1:]
	if last == n-1 {
		return all
	}
	use := uses(ext)
	if use&domain != 0 && !in(dotted, t) && isHost(t) && !isAPIVersion(next(c.rest)) && (bytes.IndexByte(t, '.') != last || len(ext) != 2 || string(t[:4]) == "www.") {
		return shape{kHost, 0, n}
	}
	if bytes.HasPrefix(t, []byte("www.")) && isHost(t) {
		return shape{kHost, 0, n}
	}
	isExt := len(ext) <= 5 || use&extension != 0
	alpha := false
	for _, x := range ext {
		isExt = isExt && isAlnum(x)
		alpha = alpha || isAlpha(x)
	}
	if !isExt || !alpha {
		return jumble(t)
	}
	// What kind of file it is may take several parts: ".chunk.js.map".
	post := last
	for {
		i := bytes.LastIndexByte(t[:post], '.')
		if i <= 0 || !in(suffixes, t[i+1:post]) {
			break
		}
		post = i
	}
	name := t[:post]
	if use&asset != 0 {
		if s, ok := hashed(name, use&script != 0); ok {
			s.post += post - s.post // the suffix begins where the name ends
			return s
		}
	}
	if s, ok := versioned(name); ok {
		return s.within(t, post)
	}
	if bytes.IndexByte(name, '.') >= 0 {
		if s := jumble(name); s.kind != literal {
			return shape{s.kind, 0, post}
		}
		return all
	}
	if k := stem(name, c); k != literal && k != kLocale {
		return shape{k, 0, post}
	}
	return all
}

// next is the beginning of the first segment of rest, as far as it needs no
// cleaning.
func next(rest []byte) []byte {
	if len(rest) == 0 || rest[0] != '/' {
		return nil
	}
	rest = rest[1:]
	for i, c := range rest {
		if class[c]&(cStop|cClean) != 0 {
			return rest[:i]
		}
	}
	return rest
}

// within is the shape of t, of which s is the shape of the first n bytes.
func (s shape) within(t []byte, n int) shape {
	if s.kind == literal {
		return shape{literal, len(t), len(t)}
	}
	return s
}

// jumble tells tokens among what has dots and is no file.
func jumble(t []byte) shape {
	n := len(t)
	for rest := t; len(rest) > 0; {
		i := bytes.IndexByte(rest, '.')
		part := rest
		if i >= 0 {
			part, rest = rest[:i], rest[i+1:]
		} else {
			rest = nil
		}
		if len(part) > 0 && stem(part, &context{depth: 2}) == kID && !isYear(part) && (len(part) > 3 || !isDigit(part[0])) {
			return shape{kID, 0, n}
		}
	}
	return shape{literal, n, n}
}

// isHost reports whether t is two or more labels of a host name with a letter in
// the last.
func isHost(t []byte) bool {
	label := 0
	for _, c := range t {
		switch {
		case c == '.':
			if label == 0 {
				return false
			}
			label = 0
		case isAlnum(c) || c == '-':
			label++
		default:
			return false
		}
	}
	return label > 0
}

// numeric knows numbers with dots: versions, decimals, addresses.
func numeric(t []byte, c *context) (shape, bool) {
	n, i := len(t), 0
	v := t[0] == 'v' || t[0] == 'V'
	if v || t[0] == '-' || t[0] == '+' {
		i = 1
	}
	parts, digits, widest := 0, 0, 0
	for ; i < n; i++ {
		if isDigit(t[i]) {
			if digits++; digits == 1 {
				parts++
			}
			widest = max(widest, digits)
			continue
		}
		if t[i] != '.' || digits == 0 {
			break
		}
		digits = 0
	}
	tail := t[i:]
	switch {
	case parts < 2 || digits == 0:
		return shape{}, false
	case len(tail) > 0 && tail[0] != '-' && tail[0] != '+' && !(len(tail) <= 5 && isAlpha(tail[0])):
		return shape{}, false
	case len(tail) > 0 && !v && parts == 2 && tail[0] != '-':
		if in(units, tail) {
			return shape{kID, 0, n}, true
		}
		return shape{}, false
	case len(tail) == 0 && parts == 4 && widest <= 3 && !v:
		return shape{kID, 0, n}, true // IPv4
	case parts >= 3:
		return shape{kVersion, 0, n}, true
	case widest <= 3 && (v || c.depth == 1 || in(apis, c.parent)) && t[0] != '-',
		n == 3 && t[0] <= '2' && len(next(c.rest)) > 0:
		return shape{literal, n, n}, true // the version of an API
	}
	return shape{kID, 0, n}, true
}

// versioned finds a version in the name of a file, "jquery-3.6.0".
func versioned(name []byte) (shape, bool) {
	for i := 0; i < len(name); i++ {
		if !isDigit(name[i]) || i > 0 && name[i-1] != '-' && name[i-1] != '_' && name[i-1] != 'v' && name[i-1] != '@' {
			continue
		}
		j, dots := i, 0
		for j < len(name) && (isDigit(name[j]) || name[j] == '.' && j+1 < len(name) && isDigit(name[j+1])) {
			if name[j] == '.' {
				dots++
			}
			j++
		}
		if dots > 0 && (j == len(name) || !isAlnum(name[j])) {
			return shape{kVersion, i, j}, true
		}
		i = j
	}
	return shape{}, false
}

// hashed finds the fingerprint at the end of the name of a static asset, a script
// or style or not.
func hashed(name []byte, script bool) (shape, bool) {
	n := len(name)
	cut := n
	for cut > 0 && isAlnum(name[cut-1]) {
		cut--
	}
	ok := fingerprint(name[cut:])
	if !ok && n >= 9 && (name[n-9] == '-' || name[n-9] == '.') && cut > n-9 && base64(name[n-8:]) {
		cut, ok = n-8, true
	}
	if !ok {
		return shape{}, false
	}
	if cut == 0 {
		if script {
			return shape{kFile, 0, n}, true
		}
		return shape{kID, 0, n}, true
	}
	pre := name[:cut-1]
	// One placeholder is enough: the rest must be words.
	if !letters(stripWords(pre)) && stem(pre, &context{depth: 2}) != literal || digitsIn(pre) == len(pre) {
		if script {
			return shape{kFile, 0, n}, true
		}
		return shape{kID, 0, n}, true
	}
	return shape{kHash, cut, n}, true
}

// stripWords cuts what may stand before the last dot or tilde of a bundle's name.
func stripWords(t []byte) []byte {
	if i := bytes.LastIndexAny(t, ".~-_"); i >= 0 {
		return t[i+1:]
	}
	return t
}

// fingerprint reports whether t, letters and digits, is a hash of 6 bytes or more.
func fingerprint(t []byte) bool {
	if len(t) < 6 {
		return false
	}
	digits, hex := 0, true
	for _, c := range t {
		if isDigit(c) {
			digits++
		} else if c|0x20 > 'f' {
			hex = false
		}
	}
	if hex && len(t) >= 8 && digits > 0 && digits < len(t) {
		return true
	}
	if hex && digits > 1 && digits < len(t) && runs(t) >= 3 {
		return true
	}
	return digits < len(t) && token(t) == random
}

// base64 reports whether the 8 bytes are the hash of a bundler that uses the URL
// alphabet of base64.
func base64(t []byte) bool {
	digits, upper, lower, lone := 0, 0, 0, 0
	for i, c := range t {
		switch {
		case isDigit(c):
			digits++
		case isUpper(c):
			upper++
			if i > 0 && i+1 < len(t) && !isUpper(t[i+1]) && (i+2 == len(t) || !isAlpha(t[i+2]) || isUpper(t[i+2])) {
				lone++
			}
		case isAlpha(c):
			lower++
		case c == '-' || c == '_':
			lone++
		default:
			return false
		}
	}
	return upper > 0 && lower > 0 && (digits > 0 || lone > 0 && upper > 1 || score(t) > 1)
}

// runs counts the runs of digits and of letters.
func runs(t []byte) int {
	n := 1
	for i := 1; i < len(t); i++ {
		if isDigit(t[i]) != isDigit(t[i-1]) {
			n++
		}
	}
	return n
}

// looks is what a run of letters and digits looks like.
type looks uint8

const (
	word   looks = iota // letters that may be a word, or an abbreviation with a digit or two
	counts              // digits
	model               // a word with a small number, "oauth2", "3d"
	random
)

// token tells what a run of letters and digits looks like.
func token(t []byte) looks {
	n := len(t)
	var digits, upper, runs, lead int
	var seen, last uint8
	for i, c := range t {
		k := class[c]
		seen |= k
		if k&cDigit != last {
			runs++
			if k&cDigit != 0 && digits == 0 {
				lead = i
			}
			last = k & cDigit
		}
		digits += int(k & cDigit)
		upper += int(k & cUpper / cUpper)
	}
	if n > 0 && !isDigit(t[0]) {
		runs++
	}
	hex := seen&cOther == 0
	cased := upper > 0 && upper+digits < n
	switch {
	case digits == n:
		return counts
	case digits == 0:
		if cased && n >= 8 && score(t) >= 3 || n >= 16 && score(t) >= max(3, n/6) {
			return random
		}
		return word
	case runs >= 4 && n >= 6, runs == 3 && n >= 6 && lead == 0 && isDigit(t[0]), hex && n >= 8:
		if size(t) || n <= 11 && in(mixed, t) {
			return model
		}
		return random // two or more runs of digits
	case digits >= 5:
		if in(numbered, t[:lead]) {
			return model
		}
		return random
	case digits == 4:
		if runs == 2 && (isYear(t[lead:]) || lead > 0 && in(numbered, t[:lead])) || size(t) {
			return model
		}
		return random
	case lead == 0 && n-digits <= 3 && in(units, t[digits:]):
		return random
	case n >= 8 && cased && runs == 3 && score(t) >= 2, n >= 10 && score(t) >= 3:
		return random
	}
	return model
}

// rare reports whether the letters t[i-1] and t[i] seldom stand together in
// words, or are the end of a small letter's solitude between capitals.
func rare(t []byte, i int) bool {
	a, b := t[i-1], t[i]
	if isUpper(b) && !isUpper(a) {
		// A hump of a camel; but one of a single small letter is none.
		return i >= 2 && isUpper(t[i-2])
	}
	return frequent[a|0x20-'a']>>(b|0x20-'a')&1 == 0
}

// size reports whether t is a picture's or a film's, "800x600", "1080p".
func size(t []byte) bool {
	x := 0
	for x < len(t) && isDigit(t[x]) {
		x++
	}
	if x < 2 || x == len(t) {
		return false
	}
	return t[x] == 'x' && x+1 < len(t) && digitsIn(t[x+1:]) == len(t)-x-1 || x <= 4 && x >= 3 && t[x]|0x20 == 'p' && x+1 == len(t)
}

// score counts what is rare in words.
func score(t []byte) (n int) {
	for i := 1; i < len(t); i++ {
		if isAlpha(t[i-1]) && isAlpha(t[i]) && rare(t, i) {
			n++
		}
	}
	return n
}

// stem tells what a segment without dots is, or the name of a file without its
// extension.
func stem(t []byte, c *context) kind {
	_, digits, seen := scan(t)
	return known(t, digits, seen, c)
}

// known is stem for a text with these digits and classes.
func known(t []byte, digits int, seen uint8, c *context) kind {
	n := len(t)
	broken := seen&(cBreak|cOdd|cStop) != 0
	switch {
	case n == 0:
		return literal
	case digits == n:
		return allDigits(t, c)
	case isLocale(t, c):
		return kLocale
	case digits == 0 && !broken:
		if token(t) == random {
			return kID
		}
		return literal
	case isAPIVersion(t):
		return literal
	case digits >= 6 && isDate(t):
		return kDate
	case !broken:
		if token(t) == random || size(t) && t[n-1] != 'p' {
			return kID
		}
		return literal
	case digits >= 3 && c.depth > 1 && leads(t):
		return kID
	case seen&(cOther|cOdd) == 0 && (digits >= 8 || uuid(t)):
		return kID // hexadecimal in groups, a telephone number
	case digits == 0 && seen&(cUpper|cOdd) == 0:
		return literal // words; a token would have capitals or digits
	}
	return groups(t)
}

// leads reports whether t is a number of three or more digits that is no status,
// and words, "812-on-keeping-bees".
func leads(t []byte) bool {
	n := 0
	for n < len(t) && isDigit(t[n]) {
		n++
	}
	if n < 3 || n > 4 || n == len(t) || t[n] != '-' || n == 3 && (t[0] == '4' || t[0] == '5') || n == 4 && isYear(t) {
		return false
	}
	words := 0
	for i, c := range t[n:] {
		if c == '-' && n+i+1 < len(t) && isAlpha(t[n+i+1]) {
			words++
		} else if isDigit(c) {
			return false
		}
	}
	return words >= 2
}

// groups tells what tokens between separators are together.
func groups(t []byte) kind {
	var words, numbers, models, randoms, wide, capitals, upper, lower, camel int
	tokens := 0
	first := []byte(nil)
	for i := 0; i < len(t); {
		if t[i] == '%' && i+2 < len(t) {
			i += 3 // a byte that a path cannot hold is part of a word
			continue
		}
		if !isAlnum(t[i]) {
			i++
			continue
		}
		j := i
		for j < len(t) && isAlnum(t[j]) {
			if isUpper(t[j]) {
				upper++
			} else if isAlpha(t[j]) {
				lower++
			}
			j++
		}
		tok := t[i:j]
		if tokens++; tokens == 1 {
			first = tok
		}
		switch token(tok) {
		case word:
			words++
			if allUpper(tok) {
				capitals++
			}
			camel += min(score(tok), 2)
		case counts:
			numbers++
			switch {
			case len(tok) >= 5:
				wide++
			case len(tok) == 4 && !isYear(tok):
				wide++
			}
		case model:
			models++
		case random:
			randoms++
		}
		i = j
	}
	switch {
	case randoms > 0:
		if words >= 2 && randoms == 1 && models+numbers == 0 && len(t) < 20 {
			break
		}
		return kID
	case wide > 0 || numbers > 0 && words == 1 && capitals == 1:
		if in(numbered, first) || in(standards, first) {
			return literal
		}
		return kID
	case words+models == 0 && numbers >= 2:
		if numbers == 2 && len(t) <= 5 {
			return literal // "24-7", "50-50"
		}
		return kID
	case numbers >= 4:
		return kID
	case models >= 2 && upper > 0 && lower > 0 && len(t) >= 12,
		models >= 1 && upper > 1 && lower > 1 && len(t) >= 12 && camel >= 2 && words <= models+1:
		return kID // base64 with the separators of URLs
	}
	return literal
}

// standards are words that are written in capitals before a small number.
var standards = words("utf", "iso", "sha", "covid", "rfc", "md", "http", "ipv", "web", "oauth", "mp", "aes", "rsa", "top", "tls", "ean", "usb", "cat", "g", "f", "en", "din", "cve", "es", "ieee", "windows", "ps", "win", "year")

func allUpper(t []byte) bool {
	for _, c := range t {
		if !isUpper(c) {
			return false
		}
	}
	return len(t) >= 2
}

// allDigits tells a number: a day, a part of one, an id or a page's name.
func allDigits(t []byte, c *context) kind {
	n := len(t)
	switch {
	case n == 2 && c.before == kYear:
		return kMonth
	case n == 2 && c.before == kMonth && twoDigits(t, 1, 31):
		return kDay
	case n == 4 && isYear(t) && len(c.rest) >= 3 && c.rest[0] == '/' && twoDigits(c.rest[1:], 1, 12) && (len(c.rest) == 3 || class[c.rest[3]]&(cStop|cClean) != 0):
		return kYear
	case n == 8 && isDate(t):
		return kDate
	case n <= 3 && c.depth == 1:
		return literal // "/404", "/365", "/1/classes"
	case n == 3 && (t[0] == '4' || t[0] == '5') && in(faults, c.parent):
		return literal
	}
	return kID
}

// isAPIVersion knows v1, v10, v1beta1, v2alpha3.
func isAPIVersion(t []byte) bool {
	if len(t) < 2 || len(t) > 12 || t[0]|0x20 != 'v' || !isDigit(t[1]) {
		return false
	}
	i := 1
	for i < len(t) && isDigit(t[i]) {
		i++
	}
	if i > 4 {
		return false
	}
	rest := t[i:]
	for len(rest) > 0 && isDigit(rest[len(rest)-1]) {
		rest = rest[:len(rest)-1]
	}
	switch string(rest) {
	case "", "alpha", "beta", "rc", "p", "preview", "-alpha", "-beta", "-preview":
		return true
	}
	return false
}

// isDate knows 20261124, 2026-11-24, 2026_11_24, 24-11-2026, 2026-11, 2026-W47,
// and any of the first three with a time behind T or a blank.
func isDate(t []byte) bool {
	n := len(t)
	if n > 8 && t[8] == 'T' && isDate(t[:8]) {
		return true
	}
	if n > 10 && (t[10] == 'T' || t[10] == '_' || t[10] == 't') && isDate(t[:10]) {
		return digitsIn(t[10:]) >= 4
	}
	switch {
	case n == 8 && digitsIn(t) == 8:
		return isYear(t) && twoDigits(t[4:], 1, 12) && twoDigits(t[6:], 1, 31)
	case n == 10 && t[4] == t[7] && (t[4] == '-' || t[4] == '_'):
		return isYear(t) && twoDigits(t[5:], 1, 12) && twoDigits(t[8:], 1, 31)
	case n == 10 && t[2] == t[5] && (t[2] == '-' || t[2] == '_'):
		return isYear(t[6:]) && twoDigits(t, 1, 31) && twoDigits(t[3:], 1, 31)
	case n == 7 && t[4] == '-':
		return isYear(t) && twoDigits(t[5:], 1, 12)
	case n == 8 && t[4] == '-' && t[5] == 'W':
		return isYear(t) && twoDigits(t[6:], 1, 53)
	}
	return false
}

// isLocale knows the locales of ISO 639-1 with an optional script and region,
// where sites put them: first, or behind a version, "api" or another locale. A
// code that is also a word needs its region in capitals.
func isLocale(t []byte, c *context) bool {
	n := len(t)
	if n < 2 || n > 11 || !languages.has(t[0], t[1]) || n > 2 && t[2] != '-' && t[2] != '_' {
		return false
	}
	front := c.depth == 1 || c.depth == 2 && (c.before == kLocale || in(apis, c.parent)) || c.depth <= 4 && isAPIVersion(c.parent)
	if n == 2 {
		return front && !wordy.has(t[0], t[1]) && isUpper(t[0]) == isUpper(t[1])
	}
	sub := t[3:]
	if len(sub) >= 4 && (len(sub) == 4 || sub[4] == t[2]) {
		switch string([]byte{sub[0] | 0x20, sub[1] | 0x20, sub[2] | 0x20, sub[3] | 0x20}) {
		case "hans", "hant", "latn", "cyrl", "arab":
		default:
			return false
		}
		if len(sub) == 4 {
			return true
		}
		sub = sub[5:]
	}
	switch {
	case len(sub) == 3:
		return string(sub) == "419" || string(sub) == "001" || string(sub) == "150"
	case len(sub) != 2 || !regions.has(sub[0], sub[1]):
		return false
	case isUpper(sub[0]) && isUpper(sub[1]):
		return front || !isUpper(t[0])
	case isUpper(sub[0]) || isUpper(sub[1]) || !front && t[2] != '-':
		return false
	}
	// In small letters "to-do" and "is-it" are words.
	own := t[0]|0x20 == sub[0] && t[1]|0x20 == sub[1]
	return own || !wordy.has(t[0], t[1]) && (front || string(t[:2]) == "en")
}
