package file

import (
	"errors"
	"fmt"
	"path/filepath"
	"strings"
	"time"

	"github.com/bmatcuk/doublestar/v4"
)

// The defaults of Config's fields; each stands for the zero value.
const (
	DefaultMaxLine = 1 << 20
	DefaultCheck   = 100 * time.Millisecond
	DefaultGrace   = 2 * time.Second
	DefaultRescan  = 5 * time.Second
	DefaultForget  = time.Minute
)

// The bounds that Validate sets.
const (
	minMaxLine = 1 << 10
	maxMaxLine = 64 << 20
)

// Config says which files a Source follows and how. The zero value of every
// field but Paths is its default.
type Config struct {
	// Paths are file names or doublestar globs ("/var/log/nginx/*.log",
	// "/srv/**/access.log"). Relative ones start at the working directory. A
	// name without glob characters may be absent: it is waited for.
	//
	// A glob leaves out compressed files (.gz .zst .bz2 .xz .lz4 .Z) and names
	// that are rotated generations of another file it matches: access.log.1,
	// access.log-20260101, access-20260101.log, access.log.old beside
	// access.log. They are read as part of that file's stream. The same names
	// without such a neighbour (localhost_access_log.2026-01-01.txt) are files of
	// their own. A symbolic link is left out when its target is matched too.
	Paths []string `yaml:"paths"`
	// MaxLine is the longest line, in bytes without its newline, that is
	// delivered; longer ones are skipped in bounded memory and counted.
	MaxLine int `yaml:"max_line"`
	// Check is how often a file's size and the file behind its path are looked
	// at. It is the delay of a line and, for copytruncate, the time in which
	// lines can be lost (see the package comment).
	Check time.Duration `yaml:"check"`
	// Grace is how long a file that was rotated away must be quiet, after its
	// successor got its first line, before it is given up. Raise it for servers
	// whose old processes go on writing to the old file (Apache's graceful
	// restart: the longest request).
	Grace time.Duration `yaml:"grace"`
	// Rescan is how often globs are expanded again. Plain paths that are waited
	// for are looked at every second, or every Rescan if that is less.
	Rescan time.Duration `yaml:"rescan"`
	// Forget is how long a deleted file must be quiet, and its path absent,
	// before its stream ends and its position is dropped.
	Forget time.Duration `yaml:"forget"`
	// FromEnd makes the very first run (no saved streams at all) start the files
	// it finds at their end: the first line delivered is the first one completed
	// after the start. Files that appear later, and files of later runs, are
	// read from their start, because nothing else could be exact.
	FromEnd bool `yaml:"from_end"`
	// Backfill makes the very first run read, before each file that it finds, its
	// rotated generations that were written to within this time, compressed ones
	// too; 0 reads none. It means nothing with FromEnd. A generation that cannot be
	// read is left out.
	Backfill time.Duration `yaml:"backfill"`
	// Poll turns nxadm/tail off: files are read by the block reader at every
	// Check. Slower file systems than local ones are polled without asking.
	Poll bool `yaml:"poll"`
}

// Validate returns all problems of c at once, each naming its field as in YAML.
// It does no I/O.
func (c Config) Validate() []error {
	var errs []error
	bad := func(format string, args ...any) { errs = append(errs, fmt.Errorf(format, args...)) }
	if len(c.Paths) == 0 {
		errs = append(errs, errors.New("paths: no file named; give at least one path or glob"))
	}
	for i, p := range c.Paths {
		switch {
		case strings.TrimSpace(p) == "":
			bad("paths[%d]: is empty", i)
		case strings.ContainsRune(p, 0):
			bad("paths[%d]: holds a NUL byte", i)
		case isGlob(p) && !doublestar.ValidatePathPattern(p):
			bad("paths[%d]: %q is not a valid glob: check its brackets, or escape them with a backslash", i, p)
		case isCompressedName(p):
			bad("paths[%d]: %q is a compressed file, which nothing appends to; read it with replay", i, p)
		}
	}
	if c.MaxLine != 0 && (c.MaxLine < minMaxLine || c.MaxLine > maxMaxLine) {
		bad("max_line: %d is not between %d and %d bytes", c.MaxLine, minMaxLine, maxMaxLine)
	}
	span := func(name string, d, least, most time.Duration) {
		if d != 0 && (d < least || d > most) {
			bad("%s: %v is not between %v and %v", name, d, least, most)
		}
	}
	span("check", c.Check, time.Millisecond, time.Minute)
	span("grace", c.Grace, time.Millisecond, time.Hour)
	span("rescan", c.Rescan, time.Millisecond, time.Hour)
	span("backfill", c.Backfill, time.Minute, 365*24*time.Hour)
	span("forget", c.Forget, time.Millisecond, 365*24*time.Hour)
	return errs
}

// withDefaults returns c with its zero fields filled in.
func (c Config) withDefaults() Config {
	fill := func(d *time.Duration, v time.Duration) {
		if *d == 0 {
			*d = v
		}
	}
	if c.MaxLine == 0 {
		c.MaxLine = DefaultMaxLine
	}
	fill(&c.Check, DefaultCheck)
	fill(&c.Grace, DefaultGrace)
	fill(&c.Rescan, DefaultRescan)
	fill(&c.Forget, DefaultForget)
	return c
}

// isGlob tells whether p has to be expanded rather than opened as it stands.
func isGlob(p string) bool {
	if filepath.Separator == '\\' {
		return strings.ContainsAny(p, `*?[{`)
	}
	return strings.ContainsAny(p, `*?[{\`)
}
