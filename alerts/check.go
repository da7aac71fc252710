package alerts

import (
	"fmt"
	"strconv"
	"strings"

	"github.com/denywatch/denywatch/internal/event"
	"github.com/denywatch/denywatch/internal/incident"
)

// RegressionCheck is a shell command for the team's tests that fails if the
// incident comes back, under a comment that names the state of the user who was
// refused: route, role, plan, flag, country. The values that only the team has
// ($BASE_URL, $TOKEN, the ids in the path) are variables. It fails too when the
// server cannot be asked. It is empty for an incident that did not recover, and for
// refusals that no status shows. What came from logs is quoted: it is safe to run.
func RegressionCheck(in *incident.Incident) string {
	if in.State != incident.Resolved || in.Resolution != incident.Recovered || in.Class == event.Masked.String() {
		return ""
	}
	// A shell pattern of what refuses, and what becomes of an answer that matches and of
	// one that does not.
	refused, match, other := refusal(in), "false ;;", ""
	if in.Direction == incident.Down {
		match, other = ";;", " *) false ;;"
	}
	sc := &in.Scope
	target := sc.Route
	if target == "" {
		target = sc.Prefix
	}
	if target == "" {
		target = "/"
	}
	var state []string
	for _, x := range [][2]string{{"role", sc.Role}, {"plan", sc.Plan}, {"country", sc.Geo}, {"host", sc.Host}, {"flag", sc.Flag}} {
		if x[1] != "" && x[1] != incident.NoRole {
			state = append(state, x[0]+" "+Clean(x[1], maxValue))
		}
	}
	who := "any user"
	if len(state) > 0 {
		who = "a user with " + strings.Join(state, ", ")
	}
	if in.UsedToGetIn > 0 {
		who += " who got in before"
	}
	was := "was refused"
	if in.Direction == incident.Down {
		was = "was let in"
	}
	return fmt.Sprintf(`# incident %s of %s: %s %s here
# $TOKEN: %s; use the method and body of your client
code=$(curl -gs -o /dev/null -w '%%{http_code}' -H "Authorization: Bearer $TOKEN" "$BASE_URL%s") && case "$code" in %s) %s%s esac
`, Clean(in.ID, maxValue), in.StartedAt.UTC().Format("2006-01-02"), who, was, who, shellPath(target), refused, match, other)
}

// refusal is the status codes of an incident's refusals as a shell pattern, 403 if they
// are not known.
func refusal(in *incident.Incident) string {
	if len(in.Statuses) == 0 {
		return "403"
	}
	var b strings.Builder
	for i, code := range in.Statuses {
		if i > 0 {
			b.WriteByte('|')
		}
		b.WriteString(strconv.Itoa(code))
	}
	return b.String()
}

// shellPath writes a template for the inside of double quotes: placeholders become
// variables ("/users/{id}" is "/users/$ID"), everything else stands for itself.
func shellPath(template string) string {
	var b strings.Builder
	rest := strings.TrimSuffix(strings.TrimSuffix(Clean(template, maxRoute), "**"), "*")
	for rest != "" {
		open := strings.IndexByte(rest, '{')
		end := strings.IndexByte(rest, '}')
		name := ""
		if open >= 0 && end > open {
			name = variable(rest[open+1 : end])
		}
		if name == "" {
			open, end = len(rest), len(rest)-1
		}
		for _, r := range rest[:open] {
			if strings.ContainsRune("\\\"$`", r) {
				b.WriteByte('\\')
			}
			b.WriteRune(r)
		}
		if name != "" {
			b.WriteString("${" + name + "}")
		}
		rest = rest[end+1:]
	}
	return b.String()
}

// variable is a shell variable's name for a placeholder, empty if it has none.
func variable(placeholder string) string {
	name := strings.ToUpper(placeholder)
	for i := range len(name) {
		if c := name[i]; !(c >= 'A' && c <= 'Z' || c == '_' || i > 0 && c >= '0' && c <= '9') {
			return ""
		}
	}
	return name
}
