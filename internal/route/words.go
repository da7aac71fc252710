package route

import (
	"slices"
	"strings"
)

// frequent says which letters follow which in words: bit b of frequent[a] is set
// where the pair ab makes up at least 0.06 % of all pairs in the word lists of
// English, German, Dutch, French, Spanish, Portuguese, Italian, Polish or
// Swedish (accents dropped). A random string breaks the rule in two of five
// pairs, a word of these languages hardly ever thrice.
var frequent = [26]uint32{
	0x37fffef, // a
	0x1164953, // b
	0x31a4f95, // c
	0x3566d59, // d
	0x3feffff, // e
	0x01e4939, // f
	0x01e69d9, // g
	0x15e7911, // h
	0x27fff7f, // i
	0x014743d, // j
	0x17e6d11, // k
	0x13c7fdf, // l
	0x11cf91b, // m
	0x37eedff, // n
	0x37fffff, // o
	0x01ec9b1, // p
	0x0100800, // q, also of SQL
	0x37efdff, // r
	0x37cffff, // s
	0x37e6fd7, // t
	0x27effff, // u
	0x0264911, // v
	0x1146595, // w
	0x108c115, // x
	0x24ebf5f, // y
	0x3587d5f, // z
}

// pairs is a set of two-letter codes, a bit per second letter.
type pairs [26]uint32

// has reports whether the letters a and b, of either case, are in the set.
func (p *pairs) has(a, b byte) bool {
	a, b = a|0x20-'a', b|0x20-'a'
	return a < 26 && b < 26 && p[a]>>b&1 != 0
}

// codes makes a set of a list such as "de en".
func codes(list string) (p pairs) {
	for ; len(list) >= 2; list = list[min(3, len(list)):] {
		p[list[0]-'a'] |= 1 << (list[1] - 'a')
	}
	return p
}

var (
	// languages are the codes of ISO 639-1.
	languages = codes("aa ab ae af ak am an ar as av ay az ba be bg bh bi bm bn bo br bs ca ce ch co cr cs cu cv cy " +
		"da de dv dz ee el en eo es et eu fa ff fi fj fo fr fy ga gd gl gn gu gv ha he hi ho hr ht hu hy hz " +
		"ia id ie ig ii ik io is it iu ja jv ka kg ki kj kk kl km kn ko kr ks ku kv kw ky la lb lg li ln lo lt lu lv " +
		"mg mh mi mk ml mn mr ms mt my na nb nd ne ng nl nn no nr nv ny oc oj om or os pa pi pl ps pt qu rm rn ro ru rw " +
		"sa sc sd se sg si sk sl sm sn so sq sr ss st su sv sw ta te tg th ti tk tl tn to tr ts tt tw ty ug uk ur uz " +
		"ve vi vo wa wo xh yi yo za zh zu")
	// wordy are the language codes that are also words or abbreviations that
	// products name pages by ("my", "it", "id", "hr", "cs", ...). Alone they stay
	// literals; beside other locales the learner may see what they are.
	wordy = codes("aa ab ae am an as av ba be bh bi bo br ca ce ch co cr cs cu cv dv ee ff fj fo ga gd gn gv ha he ho hr ht hz " +
		"ia id ie ig ii ik io is it iu kg ki kj kr ks kv kw la lg li ln lo lu mg mh mi ml mr ms mt my na nd ne ng no nr nv ny " +
		"oc oj om or os pa pi ps qu rm rn rw sa sc sd se sg si sm sn so ss st su sw te ti tk tl tn to ts tt tw ty ug ve vo wa wo za")
	// regions are the codes of ISO 3166-1, and the customary uk.
	regions = codes("ad ae af ag ai al am ao aq ar as at au aw ax az ba bb bd be bf bg bh bi bj bl bm bn bo bq br bs bt bv bw by bz " +
		"ca cc cd cf cg ch ci ck cl cm cn co cr cu cv cw cx cy cz de dj dk dm do dz ec ee eg eh er es et fi fj fk fm fo fr " +
		"ga gb gd ge gf gg gh gi gl gm gn gp gq gr gs gt gu gw gy hk hm hn hr ht hu id ie il im in io iq ir is it je jm jo jp " +
		"ke kg kh ki km kn kp kr kw ky kz la lb lc li lk lr ls lt lu lv ly ma mc md me mf mg mh mk ml mm mn mo mp mq mr ms mt mu mv mw mx my mz " +
		"na nc ne nf ng ni nl no np nr nu nz om pa pe pf pg ph pk pl pm pn pr ps pt pw py qa re ro rs ru rw sa sb sc sd se sg sh si sj sk sl sm sn so sr ss st sv sx sy sz " +
		"tc td tf tg th tj tk tl tm tn to tr tt tv tw tz ua ug uk um us uy uz va vc ve vg vi vn vu wf ws ye yt za zm zw")
	// units follow a number with no space between.
	units = words("px", "ms", "km", "cm", "mm", "kg", "mg", "ml", "mb", "gb", "tb", "kb", "mib", "gib", "min", "sec", "rem", "em", "pt", "dpi", "fps", "hz", "khz", "mhz", "ghz", "kw", "kwh", "mah", "usd", "eur", "gbp")
	// numbered are words that stand before a number of four or more digits, or
	// that have letters and digits mixed, without being anybody's id.
	numbered = words("iso", "rfc", "ieee", "en", "din", "cve", "fips", "sha", "windows", "office", "year", "y")
	mixed    = words("utf8mb4", "log4j2", "log4j", "win32", "win64", "x86", "amd64", "arm64", "i18n", "l10n", "a11y", "k8s", "md5sum", "h2database", "web3js", "oauth2login", "3d2d", "s3fs", "p2pkh")
	// faults are the parents of pages named by a status.
	faults = words("error", "errors", "err", "status", "statuses", "httpstatus", "http-errors", "error-pages", "errorpages", "_error", "fehler")
	// apis are the parents of an API's versions and locales.
	apis = words("api", "apis", "rest", "services", "data", "openapi", "_api", "graphql", "rpc", "gateway")
	// suffixes are parts of a file name that say what kind of file it is.
	suffixes = words("js", "css", "map", "min", "chunk", "bundle", "module", "tar", "esm", "umd", "cjs", "mjs", "prod", "development", "production", "d", "html", "json", "xml", "slim", "worker", "legacy", "gz", "br", "snappy")
	// dotted are names that only look like hosts.
	dotted = words("socket.io", "asp.net", "draw.io", "engine.io", "vb.net", "ado.net")
)

// What stands behind the last dot of a segment may be one or several of these.
const (
	extension = 1 << iota // of a file, although it has more than five letters
	asset                 // of files that bundlers put a hash into
	script                // and of those, what is code
	domain                // of a host name; file extensions are missing
)

var endings = func() map[string]uint8 {
	m := map[string]uint8{}
	for _, w := range []string{"webmanifest", "parquet", "geojson", "ndjson", "jsonld", "sqlite", "torrent", "numbers"} {
		m[w] |= extension
	}
	for _, w := range []string{"js", "mjs", "cjs", "css", "map", "wasm", "woff", "woff2", "ttf", "otf", "eot", "png", "jpg", "jpeg", "gif", "svg", "webp", "avif", "ico", "json", "txt", "xml", "mp3", "mp4", "webm", "webmanifest", "gz", "br"} {
		m[w] |= asset
	}
	for _, w := range []string{"js", "mjs", "cjs", "css", "map", "wasm", "br", "gz"} {
		m[w] |= script
	}
	for _, w := range []string{"com", "org", "net", "edu", "gov", "info", "biz", "io", "dev", "app", "cloud", "co", "uk", "us", "eu", "de", "fr", "nl", "it", "es", "at", "ch", "be", "se", "no", "dk", "fi", "cz", "ru", "cn", "jp", "in", "br", "au", "ca", "local", "internal", "example", "test"} {
		m[w] |= domain
	}
	return m
}()

// uses tells what ext, in either case, may be.
func uses(ext []byte) uint8 {
	if len(ext) > 12 {
		return 0
	}
	if u, ok := endings[string(ext)]; ok {
		return u
	}
	var b [12]byte
	return endings[string(lower(b[:0], ext))]
}

// lower appends s in small letters.
func lower(dst, s []byte) []byte {
	for _, c := range s {
		if isUpper(c) {
			c |= 0x20
		}
		dst = append(dst, c)
	}
	return dst
}

// words makes a set of short words for lookups by byte slice.
func words(list ...string) map[string]bool {
	m := make(map[string]bool, len(list))
	for _, w := range list {
		m[w] = true
	}
	return m
}

// in reports whether s, in lower case, is in the set. It does not allocate.
func in(set map[string]bool, s []byte) bool {
	var b [24]byte
	if len(s) > len(b) {
		return false
	}
	return set[string(lower(b[:0], s))]
}

// LocaleCode reports whether code is a language of ISO 639-1 or a region of ISO
// 3166-1 in small letters. Alone it may be a word too; see package slug.
func LocaleCode(code string) bool {
	return len(code) == 2 && code[0] >= 'a' && code[1] >= 'a' && (languages.has(code[0], code[1]) || regions.has(code[0], code[1]))
}

// Shaped reports whether a template's segment holds a placeholder of the shapes
// alone: none of those that a configured pattern or an application's own route
// brought.
func Shaped(segment string) bool {
	for {
		i := strings.IndexByte(segment, '{')
		if i < 0 {
			return !strings.ContainsAny(segment, "}*")
		}
		j := strings.IndexByte(segment, '}')
		if j < i || !slices.Contains(placeholders[kID:kRest], segment[i:j+1]) {
			return false
		}
		segment = segment[j+1:]
	}
}
