package parsers

import (
	"bytes"
	"time"

	"github.com/denywatch/denywatch/internal/event"
)

// familyS3 reads the server access logs of Amazon S3, which serves the static
// parts of many products
// (https://docs.aws.amazon.com/AmazonS3/latest/userguide/LogFormat.html). What S3
// does by itself (BATCH.DELETE.OBJECT, S3.EXPIRE.OBJECT, ...) has no request and is
// skipped. Fields were added over the years; those that a line lacks stay empty.
const familyS3 = "s3"

// s3Family describes the family to Config.
func s3Family() fixedFamily {
	return fixedFamily{
		text: "Amazon S3", vantage: event.Edge,
		compile: func(_ Config, loc *time.Location) func() Parser {
			return func() Parser { return &s3Parser{albParser{clock: clock{loc: loc}}} }
		},
	}
}

func s3Candidates() []candidate {
	return []candidate{{config: Config{Format: familyS3}, why: "have the fields of Amazon S3's server access log"}}
}

// s3Parser quotes and escapes as load balancers do.
type s3Parser struct{ albParser }

// Parse implements Parser.
func (p *s3Parser) Parse(line []byte, e *event.Event) error {
	line = bytes.TrimSuffix(line, carriageReturn)
	p.scratch = p.scratch[:0]
	_, b := word(line) // the bucket's owner
	bucket, b := word(b)
	if len(b) < clfLen+3 || b[0] != '[' || b[clfLen+1] != ']' || b[clfLen+2] != ' ' {
		return ErrMismatch
	}
	at, ok := p.clock.clf(b[1 : 1+clfLen])
	if !ok {
		return ErrTime
	}
	client, b := word(b[clfLen+3:])
	requester, b := word(b)
	id, b := word(b)
	operation, b := word(b)
	_, b = word(b) // the key
	if len(b) == 0 || bytes.IndexByte(operation, '.') < 0 {
		return ErrMismatch
	}
	request, b := p.field(b)
	if len(given(request)) == 0 {
		return ErrHousekeeping
	}
	status, b := p.field(b)
	failure, b := p.field(b)
	if e.Status, ok = statusNumber(status); !ok && len(given(status)) > 0 {
		return ErrStatus
	}
	for range 4 { // bytes sent, the object's size, two durations
		_, b = p.field(b)
	}
	_, b = p.field(b) // referer
	agent, b := p.field(b)
	for range 5 { // version, host id, signature, cipher, how it was authenticated
		_, b = p.field(b)
	}
	host, _ := p.field(b)
	e.Time, e.Client, e.User, e.RequestID = at, given(client), given(requester), given(id)
	e.Method, e.Path = splitRequest(p.text(request))
	e.UserAgent = given(p.text(agent))
	if e.Host = given(host); len(e.Host) == 0 {
		e.Host = given(bucket)
	}
	if e.Status/100 == 4 {
		e.Layer, e.Cause = event.LayerEdge, bounded(given(failure))
	}
	return nil
}
