package alerts

import "net/url"

// Site is the address under which people reach the daemon's HTTP API, such as
// "https://denywatch.example.com"; empty if they do not, and nothing links to it then.
type Site string

// Incident is where an incident with its time line is, empty without a site.
func (s Site) Incident(id string) string { return s.below("v1", "incidents", url.PathEscape(id)) }

// Chart is where an incident's chart is, empty without a site.
func (s Site) Chart(id string) string {
	return s.below("v1", "incidents", url.PathEscape(id), "chart.png")
}

func (s Site) below(path ...string) string {
	if s == "" {
		return ""
	}
	address, err := url.JoinPath(string(s), path...)
	if err != nil {
		return ""
	}
	return address
}
