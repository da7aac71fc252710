package file

import "sync"

const (
	bigBlock   = 256 << 10
	smallBlock = 16 << 10
	// bigHolders bounds the big blocks in use at once: 16 MiB.
	bigHolders = 64
)

// blocks lends read buffers. A stream holds one only while it has something to
// read, but may hold it for long: Handler.Batch parks. So nobody ever waits for
// a buffer (the holders may be waiting for the one that asks): beyond bigHolders
// a stream reads in small blocks instead.
type blocks struct {
	big, small sync.Pool
	tokens     chan struct{}
}

func newBlocks() *blocks {
	return &blocks{
		big:    sync.Pool{New: func() any { b := make([]byte, bigBlock); return &b }},
		small:  sync.Pool{New: func() any { b := make([]byte, smallBlock); return &b }},
		tokens: make(chan struct{}, bigHolders),
	}
}

// loan is a buffer that has to be given back.
type loan struct {
	buf *[]byte
	big bool
}

// get lends a buffer, big if want is more than a small one holds and one is to
// be had.
func (bl *blocks) get(want int64) loan {
	if want > smallBlock {
		select {
		case bl.tokens <- struct{}{}:
			return loan{buf: bl.big.Get().(*[]byte), big: true}
		default:
		}
	}
	return loan{buf: bl.small.Get().(*[]byte)}
}

// put takes a buffer back.
func (bl *blocks) put(l loan) {
	if l.big {
		bl.big.Put(l.buf)
		<-bl.tokens
		return
	}
	bl.small.Put(l.buf)
}
