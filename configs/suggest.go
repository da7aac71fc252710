package configs

import "strings"

// suggest returns the candidate nearest to the misspelled word, or "" if none is
// near enough to be meant.
func suggest(word string, candidates []string) string {
	norm := func(s string) string { return strings.ReplaceAll(strings.ToLower(s), "-", "_") }
	w := norm(word)
	best, least := "", (len(w)+2)/4
	if len(w) > 64 { // nobody's slip
		return ""
	}
	for _, c := range candidates {
		if d := distance(w, norm(c)); d <= least && d < max(len(w), len(c)) {
			if best == "" || d < least {
				best, least = c, d
			}
		}
	}
	return best
}

// distance is the optimal string alignment distance: insertions, deletions,
// substitutions and swaps of adjacent ones, each at cost 1.
func distance(a, b string) int {
	x, y := []rune(a), []rune(b)
	before, row, next := make([]int, len(y)+1), make([]int, len(y)+1), make([]int, len(y)+1)
	for j := range row {
		row[j] = j
	}
	for i := 1; i <= len(x); i++ {
		next[0] = i
		for j := 1; j <= len(y); j++ {
			cost := 1
			if x[i-1] == y[j-1] {
				cost = 0
			}
			next[j] = min(row[j]+1, next[j-1]+1, row[j-1]+cost)
			if i > 1 && j > 1 && x[i-1] == y[j-2] && x[i-2] == y[j-1] {
				next[j] = min(next[j], before[j-2]+1)
			}
		}
		before, row, next = row, next, before
	}
	return row[len(y)]
}

// strangers are words that other tools, or a slip of memory, use for a setting
// of ours and that are too far from it for the distance to find. Where it may be one
// of several, the one that the group has is meant.
var strangers = map[string]string{
	"path": "files route", "paths": "files route", "glob": "files", "globs": "files", "filename": "files",
	"parser": "format", "type": "format", "logformat": "log_format",
	"tz": "timezone", "time_zone": "timezone",
	"delay": "lateness", "interval": "slot", "step": "slot",
	"state_dir": "state", "data_dir": "state", "address": "listen", "http": "listen", "port": "listen",
	"inputs": "sources", "source": "sources", "outputs": "sinks", "notifiers": "sinks", "receivers": "sinks", "alerts": "sinks",
	"codes": "statuses", "status_codes": "statuses", "bot_token": "token", "api_key": "token", "key": "secret",
	"fields": "mapping", "layer": "vantage",
	"region": "geo", "country": "geo", "countries": "geo", "routes": "route", "methods": "method", "expect": "allow", "verdict": "allow",
	"next": "hint", "message": "hint", "rules": "access", "permissions": "access", "policy": "access",
}
