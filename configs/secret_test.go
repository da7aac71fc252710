package configs

import (
	"regexp"
	"strings"
	"testing"
)

// TestMistakesAroundSecrets: a secret that is written into the file itself is in no
// error, whatever mistake is made in its line.
func TestMistakesAroundSecrets(t *testing.T) {
	reference := regexp.MustCompile(`\$\{[^}]+\}`)
	var lines []string
	for line := range strings.Lines(string(Example)) {
		line = strings.TrimRight(line, "\n")
		if text := strings.TrimSpace(line); text != "" && text[0] != '#' && !strings.Contains(line, "log_format") {
			lines = append(lines, reference.ReplaceAllString(line, "hush0123456789abcdef-hush0123456789abcdef"))
		}
	}
	mistakes, secrets := 0, 0
	for i, line := range lines {
		if !strings.Contains(line, "hush") {
			continue
		}
		secrets++
		key, value, _ := strings.Cut(line, ": ")
		for _, wrong := range []string{
			key + ": [" + value + "]", key + ": [" + value, key + ": {" + value + ": 1}", key + ": {a: " + value + "}", key + ": {a: " + value, key + ": \"" + value, key + ": '" + value + "' x", key + ": &" + value, key + ": *" + value,
			key + ": !!int " + value, key + ": !" + value + " 1", key + ": |\n" + value, key + ": >-\n    " + value + "\n  x", key + "x: " + value, line + "\n" + line, " " + line, "\t" + line, key + ":" + value, key + ": " + value + ": " + value,
			key + ": " + value + "\x01", key + ": " + value + "\xff", key + ": \"" + value + "\\q\"", key + ": ${" + value + "}", key + ": ${" + value, key + ": " + value[:6], key + ": @" + value, key + ": %" + value, key + ": -" + value, "- " + value, value,
			key + ": \"\\u202e" + value + "\"", key + ": https://" + value + ":99999/#" + value, key + ": 0x" + value, key + ": " + strings.Repeat(value, 50),
		} {
			text := strings.Join(lines[:i], "\n") + "\n" + wrong + "\n" + strings.Join(lines[i+1:], "\n")
			c, _, err := Parse([]byte(text), "/etc/denywatch/denywatch.yaml", testEnv)
			if err != nil {
				mistakes++
				if strings.Contains(err.Error(), "hush") {
					t.Errorf("line %d as %q: %v", i+1, wrong, err)
				}
				continue
			}
			for _, w := range append(c.Warnings(), c.Notes()...) {
				if strings.Contains(w.String(), "hush") {
					t.Errorf("line %d as %q: %v", i+1, wrong, w)
				}
			}
		}
	}
	if secrets < 10 || mistakes < 20*secrets {
		t.Errorf("only %d mistakes with %d secrets", mistakes, secrets)
	}
}

// TestSecretsInsteadOfGroups: whoever writes a secret where a group of settings belongs
// does not see it again.
func TestSecretsInsteadOfGroups(t *testing.T) {
	tried := map[string]bool{}
	for _, path := range Schema() {
		parts := strings.Split(path, ".")
		for n := 1; n < len(parts); n++ {
			group := strings.Join(parts[:n], ".")
			if tried[group] {
				continue
			}
			tried[group] = true
			for _, value := range []string{"hush-hush", "token:hush-hush", "https://hush.example.com/hush", "[hush-hush]", "[[hush-hush]]", "{? {a: hush-hush} : 1}"} {
				text := value
				for i := n - 1; i >= 0; i-- {
					name, list := strings.CutSuffix(parts[i], "[]")
					if list && i < n-1 {
						text = "[" + text + "]"
					}
					text = "{" + name + ": " + text + "}"
				}
				if _, _, err := Parse([]byte(text), "/etc/denywatch/denywatch.yaml", testEnv); err == nil || strings.Contains(err.Error(), "hush") {
					t.Errorf("%s: %v", text, err)
				}
			}
		}
	}
	if len(tried) < 30 {
		t.Errorf("only %d groups", len(tried))
	}
}
