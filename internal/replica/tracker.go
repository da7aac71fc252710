package replica

import (
	"cmp"
	"slices"
	"time"

	"github.com/denywatch/denywatch/internal/state"
)

// maxTransaction bounds what is kept of a transaction that is not complete. What is
// larger is no state of ours.
const maxTransaction = 2 << 30

// term is a term as its claim tells it.
type term struct {
	termID
	claim
}

// span is which records of a term may lie in the log: those numbered from Swept to
// To, besides its claim and its beat. Those before From are superfluous.
type span struct {
	termID
	Swept uint64 `json:"swept"`
	From  uint64 `json:"from"`
	To    uint64 `json:"to"`
}

// place is what a store holds, and where in the log it goes on from there.
type place struct {
	Owner  uint64 `json:"owner"`
	Term   term   `json:"term"`
	Tx     uint64 `json:"tx"`
	Offset int64  `json:"offset"`
	Spans  []span `json:"spans"`
}

// tracker says what holds by the order of records. It is a function of the records
// it is given, in order; nothing else moves it.
type tracker struct {
	term     term // the last that holds; zero if there was none
	resigned bool
	// at and tx are the last transaction that holds; at may be a term before term.
	at termID
	tx uint64
	// gap tells that a transaction holds which does not follow the last one that was
	// found.
	gap bool

	top   uint64 // the highest transaction of term of which a part was seen
	next  uint64 // part of it that must come next
	parts []byte // those that came
	first uint64 // number of its first record

	spans   []span // by term
	damaged int    // records that could not be read
}

// found is what a record told.
type found struct {
	// claimed: a new term holds.
	claimed bool
	// sign: the writer of the term that holds was alive, at the time sent since its
	// term began.
	sign bool
	sent time.Duration
	// tx is a transaction that holds from now on, 0 if none; changes are all of it.
	tx      uint64
	whole   bool
	changes []state.Change
	size    int
}

// resume goes on from what a store holds.
func (t *tracker) resume(p *place) {
	*t = tracker{term: p.Term, at: p.Term.termID, tx: p.Tx, top: p.Tx, spans: slices.Clone(p.Spans)}
}

// take looks at the next record.
func (t *tracker) take(key string, value []byte) (f found) {
	id, n, beat, ok := parseKey(key)
	if !ok {
		t.damaged++
		return f
	}
	if value == nil {
		t.removed(id, n, beat)
		return f
	}
	t.note(id, n, beat)
	k, body, err := unseal(key, value)
	if err != nil {
		t.damaged++
		return f
	}
	switch {
	case k == kindClaim && n == 0 && !beat:
		return t.claim(id, body)
	case id != t.term.termID:
		return f // of a term that is over, or never was
	case k == kindPart && n > 0:
		p, err := parsePart(body)
		if err != nil {
			t.damaged++
			return f
		}
		f = t.part(n, &p)
		f.sign, f.sent = true, p.sent
	case (k == kindBeat || k == kindResign) && beat:
		var sent uint64
		if _, err := numbers(body, &sent); err != nil {
			t.damaged++
			return f
		}
		f.sign, f.sent = true, time.Duration(sent)
		t.resigned = t.resigned || k == kindResign
	}
	return f
}

func (t *tracker) claim(id termID, body []byte) (f found) {
	if id.Epoch <= t.term.Epoch {
		return f // too late, or another one was first
	}
	c, err := parseClaim(body)
	if err != nil {
		t.damaged++
		return f
	}
	t.term, t.resigned = term{id, c}, false
	t.top, t.next, t.parts = 0, 0, nil
	return found{claimed: true, sign: true}
}

// part takes a part of a transaction of the term that holds.
func (t *tracker) part(n uint64, p *part) (f found) {
	switch {
	case p.tx < t.top || p.tx == t.top && p.index < t.next:
		return f // of one that was given up, or sent twice
	case p.tx > t.top:
		t.top, t.next, t.parts, t.first = p.tx, 0, nil, n
	}
	if p.index != t.next || len(t.parts)+len(p.body) > maxTransaction {
		return f // it never becomes complete
	}
	t.next++
	if t.parts == nil {
		t.parts = p.body[:len(p.body):len(p.body)]
	} else {
		t.parts = append(t.parts, p.body...)
	}
	if !p.last {
		return f
	}
	changes, err := decode(t.parts)
	size := len(t.parts)
	t.parts = nil
	if err != nil {
		t.damaged++
		t.gap = true
		return f
	}
	if !p.whole && (t.gap || t.at != t.term.termID || p.prev > t.tx) {
		t.gap = true
		return f
	}
	t.at, t.tx, t.gap = t.term.termID, p.tx, false
	if p.whole {
		t.span(t.at).From = t.first
	}
	return found{tx: p.tx, whole: p.whole, changes: changes, size: size}
}

// span is what may lie in the log of a term. It is valid until the next call.
func (t *tracker) span(id termID) *span {
	at, known := slices.BinarySearchFunc(t.spans, id, func(s span, id termID) int {
		return cmp.Or(cmp.Compare(s.Epoch, id.Epoch), cmp.Compare(s.Nonce, id.Nonce))
	})
	if !known {
		t.spans = slices.Insert(t.spans, at, span{termID: id})
	}
	return &t.spans[at]
}

// note keeps in mind that a record lies in the log.
func (t *tracker) note(id termID, n uint64, beat bool) {
	s := t.span(id)
	if !beat && n > 0 {
		s.To = max(s.To, n)
		s.Swept = min(s.Swept, n) // it may have come late
	}
}

// removed keeps in mind that it does not any more. Of each term they go in order,
// the claim last.
func (t *tracker) removed(id termID, n uint64, beat bool) {
	switch {
	case beat:
	case n == 0:
		t.spans = slices.DeleteFunc(t.spans, func(s span) bool { return s.termID == id })
	default:
		s := t.span(id)
		s.Swept = max(s.Swept, n+1)
	}
}

// superfluous returns the keys of what lies in the log for nothing, in the order in
// which it must go.
func (t *tracker) superfluous() (keys []string) {
	if t.at != t.term.termID {
		return nil // the last whole transaction is of an earlier term
	}
	for _, s := range t.spans {
		end, over := s.From, s.Epoch < t.term.Epoch || s.Epoch == t.term.Epoch && s.Nonce != t.term.Nonce
		switch {
		case over:
			end = s.To + 1
		case s.termID != t.term.termID:
			continue
		}
		for n := max(s.Swept, 1); n < end; n++ {
			keys = append(keys, s.key(n))
		}
		if over {
			keys = append(keys, s.beat(), s.key(0))
		}
	}
	return keys
}
