package incident

// Severities lists the severities from the mildest.
var Severities = []Severity{Low, Medium, High, Critical}

// ByNumbers is how urgent an incident is by its numbers alone, before journeys say
// what matters to the product: how many people a rise hits, and how wide; how much of
// a wall a fall took away.
//
//	up, new: low below 10 identities, medium below 50, high below 500, else
//	critical; one step up when the scope binds no path and no role.
//	down: high when more than half used to be refused, else medium.
func ByNumbers(in *Incident) Severity {
	if in.Direction == Down {
		if in.ExpectedRate >= 0.5 {
			return High
		}
		return Medium
	}
	n := 0
	for _, bound := range [...]int64{10, 50, 500} {
		if in.Identities >= bound {
			n++
		}
	}
	if s := &in.Scope; s.Prefix == "" && s.Route == "" && s.Role == "" && n < len(Severities)-1 {
		n++
	}
	return Severities[n]
}
