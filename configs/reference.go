package configs

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"unicode/utf8"
)

// maxSecretFile bounds a file named by ${file:...}.
const maxSecretFile = 64 << 10

// expand replaces ${NAME} by an environment variable and ${file:PATH} by a
// file's content; "$${" stands for a literal "${". Every other "$" stays. It
// reports what it cannot replace, and tells whether anything was replaced. With
// secret set, s is never shown, not even a part that looks like a reference.
func (d *decoder) expand(s, path string, secret bool) (text string, replaced, ok bool) {
	ok = true
	fail := func(f string, a ...any) {
		d.problem(path, f, a...)
		ok = false
	}
	var b strings.Builder
	for {
		i := strings.Index(s, "${")
		if i < 0 {
			b.WriteString(s)
			break
		}
		if i > 0 && s[i-1] == '$' {
			b.WriteString(s[:i-1] + "${")
			s = s[i+2:]
			continue
		}
		b.WriteString(s[:i])
		end := strings.IndexByte(s[i:], '}')
		if end < 0 {
			fail(`${ is not closed; write ${NAME}, or $${ for the characters themselves`)
			break
		}
		ref := s[i+2 : i+end]
		s = s[i+end+1:]
		value, err := d.reference(ref, path)
		if err != nil && secret && !isName(ref) && !strings.HasPrefix(ref, "file:") {
			err = errors.New("holds a ${...} that is neither the name of an environment variable nor file:/path; write $${ for the characters themselves")
		}
		if err != nil {
			fail("%v", err)
			continue
		}
		replaced = true
		d.hide(path, value)
		b.WriteString(value)
	}
	text = b.String()
	if replaced && ok {
		d.hide(path, text)
	}
	return text, replaced, ok
}

// reference returns what a reference stands for. Its errors name the reference,
// never the value.
func (d *decoder) reference(ref, path string) (string, error) {
	if name, isFile := strings.CutPrefix(ref, "file:"); isFile {
		return d.secretFile(name, path)
	}
	if !isName(ref) {
		hint := ""
		if i := strings.IndexAny(ref, ":-?+="); i > 0 && isName(ref[:i]) {
			hint = "; defaults are not supported"
		}
		return "", fmt.Errorf("%s is neither the name of an environment variable nor file:/path%s; write $${ for the characters themselves", clip("${"+ref+"}"), hint)
	}
	value, found := d.env(ref)
	switch {
	case !found:
		return "", fmt.Errorf("the environment variable %s is not set", ref)
	case value == "":
		return "", fmt.Errorf("the environment variable %s is empty", ref)
	case !utf8.ValidString(value) || strings.Contains(value, "\x00"):
		return "", fmt.Errorf("the environment variable %s is not UTF-8 text", ref)
	}
	return value, nil
}

func isName(s string) bool {
	for i, c := range []byte(s) {
		letter := c == '_' || 'a' <= c && c <= 'z' || 'A' <= c && c <= 'Z'
		if !letter && (i == 0 || c < '0' || c > '9') {
			return false
		}
	}
	return s != ""
}

// secretFile reads one secret: text of at most 64 KiB, without the newline that
// editors and `echo` put at the end.
func (d *decoder) secretFile(name, path string) (string, error) {
	if name == "" || strings.Contains(name, "\x00") {
		return "", errors.New("${file:} names no file; write ${file:/run/secrets/name}")
	}
	name = d.resolve(name)
	shown := clip(name)
	info, err := os.Stat(name)
	if err != nil {
		return "", fmt.Errorf("cannot read the file %s: %w", shown, plainIO(err))
	}
	if !info.Mode().IsRegular() {
		return "", fmt.Errorf("%s is not a regular file", shown)
	}
	f, err := os.Open(name)
	if err != nil {
		return "", fmt.Errorf("cannot read the file %s: %w", shown, plainIO(err))
	}
	defer func() { _ = f.Close() }() // only read
	raw, err := io.ReadAll(io.LimitReader(f, maxSecretFile+1))
	if err != nil {
		return "", fmt.Errorf("cannot read the file %s: %w", shown, plainIO(err))
	}
	if len(raw) > maxSecretFile {
		return "", fmt.Errorf("the file %s is larger than 64 KiB; is it the right one?", shown)
	}
	text, ended := strings.CutSuffix(string(raw), "\n")
	if ended {
		text = strings.TrimSuffix(text, "\r")
	}
	switch {
	case text == "":
		return "", fmt.Errorf("the file %s is empty", shown)
	case !utf8.ValidString(text) || strings.Contains(text, "\x00"):
		return "", fmt.Errorf("the file %s is not UTF-8 text", shown)
	}
	if info.Mode().Perm()&0o004 != 0 && !mountedSecret(name) {
		d.warn(path, "everyone on this host can read %s; chmod 600 or 640 it", shown)
	}
	return text, nil
}

// mountedSecret tells files that Docker and Podman mount world-readable into
// the one container that may see them: nobody could mend their mode.
func mountedSecret(name string) bool {
	name = filepath.Clean(name)
	return strings.HasPrefix(name, "/run/secrets/") || strings.HasPrefix(name, "/var/run/secrets/")
}

// plainIO strips the operation and the path, which the message already names.
func plainIO(err error) error {
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return errors.New("it does not exist")
	case errors.Is(err, fs.ErrPermission):
		return errors.New("permission denied")
	}
	var p *fs.PathError
	if errors.As(err, &p) {
		return p.Err
	}
	return err
}
