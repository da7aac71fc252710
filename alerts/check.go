package alerts

import (
	"fmt"
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
	status, op := refusedStatus(in.Class), "!="
	if in.Direction == incident.Down {
		op = "="
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
code=$(curl -gs -o /dev/null -w '%%{http_code}' -H "Authorization: Bearer $TOKEN" "$BASE_URL%s") && test "$code" %s %d
`, Clean(in.ID, maxValue), in.StartedAt.UTC().Format("2006-01-02"), who, was, who, shellPath(target), op, status)
}

// refusedStatus is the status that a class of refusal shows to the client.
func refusedStatus(class string) int {
	switch class {
	case event.Unauthorized.String():
		return 401
	case event.Payment.String():
		return 402
	case event.Concealed.String():
		return 404
	}
	return 403
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
