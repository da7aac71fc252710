// Package tally counts events into leaves per slot and carries the counts from
// the collector to the detector in blocks. Only tallies leave the collector; a
// block also carries the position it covers, so counts and positions become
// durable together.
package tally

import (
	"github.com/denywatch/denywatch/ingest"
	"github.com/denywatch/denywatch/internal/event"
)

// Key names a leaf, the most specific thing that is counted. An empty field
// means that the event did not say (role, geo) or that the dimension is not
// configured (plan, host). The vantage is the block's.
type Key struct {
	Service, Route, Role, Geo, Plan, Host string
}

// Other is the value that stands for everything beyond a dictionary's bound.
const Other = "_other"

// Status is the column a status code is counted in.
type Status uint8

// The columns. Every event is in exactly one, so requests is their sum.
const (
	S2xx Status = iota
	S3xx
	S401
	S402
	S403
	S404
	S429
	S451
	S4xx // any other
	S5xx
	SOther // 1xx, no status, out of range
	// Statuses is how many columns there are.
	Statuses
)

var statusNames = [Statuses]string{"2xx", "3xx", "401", "402", "403", "404", "429", "451", "4xx", "5xx", "other"}

// String returns the name used in output.
func (s Status) String() string { return statusNames[s] }

// StatusOf returns the column of a status code.
func StatusOf(code uint16) Status {
	switch code {
	case 401:
		return S401
	case 402:
		return S402
	case 403:
		return S403
	case 404:
		return S404
	case 429:
		return S429
	case 451:
		return S451
	}
	switch code / 100 {
	case 2:
		return S2xx
	case 3:
		return S3xx
	case 4:
		return S4xx
	case 5:
		return S5xx
	}
	return SOther
}

// LeafCount is what one leaf saw in one slot (or in a part of it).
type LeafCount struct {
	// Leaf numbers the stream's leaves in the order of Block.Keys.
	Leaf uint32
	// Status counts the events by status column.
	Status [Statuses]uint32
	// Denied counts the refusals by class; index NotDenied is unused.
	Denied [event.Denials]uint32
	// Leaked counts the events that were let in though the declared access model
	// keeps them out.
	Leaked uint32
}

// Requests is the number of events.
func (c *LeafCount) Requests() uint32 {
	var n uint32
	for _, x := range c.Status {
		n += x
	}
	return n
}

// Unseen is by how much counts of events exceed the lines that were seen: a line of a
// sampled log stands for several events. Counts are estimates of what happened; evidence
// is only what was seen.
type Unseen struct {
	Requests, Leaked uint32
	// Denied is by class, as LeafCount.Denied.
	Denied [event.Denials]uint32
}

// Add adds o to u.
func (u *Unseen) Add(o *Unseen) {
	u.Requests += o.Requests
	u.Leaked += o.Leaked
	for i, n := range o.Denied {
		u.Denied[i] += n
	}
}

// LeafUnseen is what of a leaf's counts was not seen.
type LeafUnseen struct {
	Leaf uint32
	Unseen
}

// Split counts denials of a leaf by class, layer, cause and rule.
type Split struct {
	Leaf  uint32
	Class event.Denial
	Layer event.Layer
	Cause string // a bounded token such as "acl", or empty
	Rule  string // the rule's name, bounded and printable, or empty
	N     uint32
}

// Hit is what one refused identity did on one leaf in one slot: all its
// requests that the stream saw there, and those refused, both in lines whatever the
// lines stand for. Identities whom the declared access model keeps out and who got in
// have hits too, of class NotDenied.
type Hit struct {
	Leaf uint32
	// Class is the class of the denials counted here; of class NotDenied Denials
	// counts the requests that leaked. Of class Valid Requests and Denials are the
	// same, and not all who were refused so are told of.
	Class event.Denial
	// Named is set when the identity is a user or an account, not a bare address.
	Named bool
	// Presumed tells that the rule speaks of the identity only if the log would name
	// its role (access.Decision).
	Presumed bool
	// Rule is the id of the access rule that is broken by this: it lets the identity
	// in, or, of class NotDenied, keeps it out; of class Valid the rule that asks for
	// it. 0 if there is none.
	Rule uint64
	// Identity and Account are keyed hashes; Account is 0 when unknown.
	Identity, Account uint64
	Requests, Denials uint32
}

// Entered is an identity that was let in on a leaf.
type Entered struct {
	Identity uint64
	Leaf     uint32
}

// VersionFlag begins the flag that stands for the version of the application that
// answered: versions are side counts as flags are. No flag begins so.
const VersionFlag = "\x00version "

// FlagCount counts events of a route that had a feature flag on.
type FlagCount struct {
	Leaf             uint32 // a leaf of that route; its other dimensions are not meant
	Flag             string
	Requests, Denied uint32
}

// Keys is by how many keys a denial is joined to its reason.
const Keys = 4

// Unexplained is denials of a leaf whose line does not say why, but another log
// of the same server may: they are joined by key to the Reasons of the slot and
// of the one before.
type Unexplained struct {
	Leaf  uint32
	Class event.Denial
	// Layer, Cause and Rule are what the line says by itself, for when nobody knows
	// more.
	Layer event.Layer
	Cause string
	Rule  string
	// Keys name the request, the surest first; 0 is no key.
	Keys [Keys]uint64
	N    uint32
}

// Reason is what a log that explains denials says about one.
type Reason struct {
	Keys  [Keys]uint64
	Layer event.Layer
	Cause string
	Rule  string
}

// SlotDelta is what a stream saw of one slot since its last block. The same slot
// may come in many blocks; counts add up.
type SlotDelta struct {
	// Slot is the start of the slot in seconds since the Unix epoch, a multiple
	// of the step.
	Slot   int64
	Leaves []LeafCount
	// Unseen has the leaves, each once, of which some lines stand for several events.
	Unseen []LeafUnseen
	Splits []Split
	Hits   []Hit
	Flags  []FlagCount
	// Entered are the identities that were let in, each once per leaf and slot.
	// EnteredSampled is n when only one identity in 2^n was kept in it.
	Entered        []Entered
	EnteredSampled uint8
	// Unexplained denials are not in Splits.
	Unexplained []Unexplained
	Reasons     []Reason
	// Sampled is n when only one identity in 2^n was kept in Hits, chosen by
	// hash; 0 when all were.
	Sampled uint8
}

// Stats counts what happened to lines since the last block of the stream.
type Stats struct {
	// Lines counts all lines delivered; Bytes their bytes with newlines.
	Lines, Bytes uint64
	// Unparsed lines could not be understood, Skipped ones are no requests.
	Unparsed, Skipped uint64
	// Oversize lines were too long to be delivered.
	Oversize uint64
	// Ignored lines are the team's own doings, by rule.
	Ignored uint64
	// Untimed lines are understood but have no usable time.
	Untimed uint64
	// Future lines lie too far ahead of the clock to be counted.
	Future uint64
	// Folded counts events whose key went to Other because a bound was reached.
	Folded uint64
}

// Add adds o to s.
func (s *Stats) Add(o *Stats) {
	s.Lines += o.Lines
	s.Bytes += o.Bytes
	s.Unparsed += o.Unparsed
	s.Skipped += o.Skipped
	s.Oversize += o.Oversize
	s.Ignored += o.Ignored
	s.Untimed += o.Untimed
	s.Future += o.Future
	s.Folded += o.Folded
}

// Health counts the lines of a stream by whether they could be judged. A line
// that is not understood has no time of its own: it belongs to the slot in which
// the stream's event time stood when it was read.
type Health struct {
	// Slot is the start of that slot in seconds since the Unix epoch, event.NoTime
	// while the stream has had no time yet.
	Slot int64
	// Lines are all lines, Blind those of them of which no request can be judged:
	// not understood, too long, without a usable time or without a status.
	Lines, Blind uint64
}

// Add adds o's counts to h.
func (h *Health) Add(o Health) {
	h.Lines += o.Lines
	h.Blind += o.Blind
}

// Uncounted is how many lines were skipped or not understood for one reason.
type Uncounted struct {
	// Reason is one short word, as parsers.Skip and parsers.LineError have it.
	Reason string
	N      uint64
}

// StreamState is what a stream knows of its own completeness.
type StreamState uint8

// The states of a stream.
const (
	// Reading: there is, or may be, unread data.
	Reading StreamState = iota
	// CaughtUp: everything written up to Block.Clock was delivered.
	CaughtUp
	// Unknown: the source cannot tell (permission denied, broker away).
	Unknown
	// Ended: no more lines will come.
	Ended
)

// Block is what a stream hands over. The detector applies blocks of one stream
// in order and owns them until Release.
type Block struct {
	// Stream is the name given to ingest.Host.Open, Source the configured
	// source's name.
	Stream, Source string
	// Vantage is the source's.
	Vantage event.Vantage
	// Keys are the leaves first seen since the last block of this stream; the
	// stream numbers its leaves from 0 over its life in this process.
	Keys []Key
	// Reset tells that the stream began its numbering anew before Keys.
	Reset bool
	Slots []SlotDelta
	Stats Stats
	// Health and Uncounted are about the lines in Stats.
	Health    []Health
	Uncounted []Uncounted
	// Newest is the latest event time seen so far, nanoseconds since the epoch,
	// event.NoTime if none.
	Newest int64
	// State, and for CaughtUp the wall clock at which it was true (ns).
	State StreamState
	Clock int64
	// Trouble says why State is Unknown, and how to mend it.
	Trouble string
	// Position covers everything counted up to this block. Forget tells to drop
	// the stream's position instead.
	Position ingest.Position
	Forget   bool

	// Ready is set in a block that says only that all streams which Source had to
	// open at start are open.
	Ready bool
	// Free takes the block back; nil if nobody wants it.
	Free chan<- *Block
}

// Release gives the block back to its stream. The caller must not touch it, or
// anything it holds, afterwards.
func (b *Block) Release() {
	if b.Free != nil {
		b.Free <- b
	}
}

// Kept reports whether an identity is among the one in 2^n that are kept when
// hits are sampled. The identity is a keyed hash, so its low bits are fair.
func Kept(identity uint64, n uint8) bool { return identity&(1<<n-1) == 0 }

// KeptIn is Kept with another choice of identities for every slot: who comes
// often is among the kept ones sooner or later.
func KeptIn(identity uint64, slot int64, n uint8) bool {
	return n == 0 || Kept((identity^uint64(slot)*0x9e3779b97f4a7c15)*0xd6e8feb86659fd93>>32, n)
}
