// Package crash marks the places where a process may die badly: before and
// after every fsync, rename and commit. In an ordinary build Point does nothing
// and costs nothing. Built with the tag "crashpoints" it kills the process at
// the place that the environment variable DENYWATCH_CRASH_AT names, so that a
// test can die there and see what the next start makes of it.
package crash

// Names lists the points of package state, so that a test can visit every one of
// them; the outbox lists its own.
var Names = []string{
	"cut.begin",
	"cut.filled",
	"cut.committed",
	"identity.written",
	"identity.synced",
	"identity.renamed",
}
