package configs

import (
	"cmp"
	"fmt"
	"slices"
	"strconv"
	"strings"
)

// Problem is one mistake in a configuration. Its text never holds a secret, nor
// a value that came from the environment or from a secret file.
type Problem struct {
	// File is the name given to Load or Parse.
	File string
	// Line and Column count from 1, the column in characters. Both are 0 when
	// the problem has no place in the file, such as a file that is not there.
	Line, Column int
	// Path names the setting as in "sources[1].format"; it is empty when the
	// whole file is meant.
	Path string
	// Message says what is wrong and how to mend it.
	Message string
}

// place is the clickable prefix of a problem's line.
func (p Problem) place() string {
	if p.Line == 0 {
		return p.File
	}
	return p.File + ":" + strconv.Itoa(p.Line) + ":" + strconv.Itoa(p.Column)
}

func (p Problem) text() string {
	if p.Path == "" {
		return p.Message
	}
	return p.Path + ": " + p.Message
}

// String returns the problem as one line, "file:line:column path: message".
func (p Problem) String() string { return p.place() + " " + p.text() }

// Warning is something that works but should be mended. It is written like a
// Problem and promises the same about secrets.
type Warning Problem

// String returns the warning as one line.
func (w Warning) String() string { return Problem(w).String() }

// maxProblems bounds what is printed: a file of another kind given by accident
// is wrong in every line.
const maxProblems = 100

// Problems is every mistake of one configuration, in the order of the file. It
// is the error of Load, Parse and Validate.
type Problems struct {
	// File is the name given to Load or Parse.
	File string
	// List is never empty. It holds at most 100 problems; More counts the rest.
	List []Problem
	More int

	cause error
}

// Error returns all problems, one a line, and a last line that counts them.
func (p *Problems) Error() string { return p.Text(false, "nothing was started") }

// Unwrap returns the error of the operating system when the file could not be
// read, else nil.
func (p *Problems) Unwrap() error { return p.cause }

// Text returns all problems, one a line with their places aligned, and a last
// line that counts them and adds outcome ("nothing was started"; none if
// empty). With color set, places and paths carry ANSI escapes.
func (p *Problems) Text(color bool, outcome string) string {
	const bold, red, reset = "\x1b[1m", "\x1b[31m", "\x1b[0m"
	width := 0
	for _, x := range p.List {
		width = max(width, len([]rune(x.place())))
	}
	var b strings.Builder
	for _, x := range p.List {
		place, path := fmt.Sprintf("%-*s", width, x.place()), x.Path
		if color {
			place = bold + place + reset
			if path != "" {
				path = red + path + reset
			}
		}
		if path != "" {
			path += ": "
		}
		b.WriteString(place + "  " + path + x.Message + "\n")
	}
	if p.More > 0 {
		fmt.Fprintf(&b, "... and %d more\n", p.More)
	}
	n := len(p.List) + p.More
	b.WriteString(strconv.Itoa(n) + " problem")
	if n != 1 {
		b.WriteByte('s')
	}
	if outcome != "" {
		b.WriteString("; " + outcome)
	}
	return b.String()
}

// sortByPlace sorts by place and keeps the first maxProblems; it returns how many
// it dropped.
func sortByPlace(list []Problem) (first []Problem, dropped int) {
	slices.SortStableFunc(list, func(a, b Problem) int {
		return cmp.Or(cmp.Compare(a.Line, b.Line), cmp.Compare(a.Column, b.Column))
	})
	n := min(len(list), maxProblems)
	return list[:n:n], len(list) - n
}

// clip makes text from the file fit to be quoted in a message.
func clip(s string) string {
	const most = 60
	r := []rune(s)
	if len(r) > most {
		r = append(r[:most:most], '…')
	}
	return strconv.Quote(string(r))
}
