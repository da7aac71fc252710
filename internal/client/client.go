// Package client calls the daemon's HTTP API for pipelines and for people at a
// terminal: it tells of a change and asks what came of it, lists incidents and says
// what was decided about them.
//
// It promises that a marker is sent until it is certainly taken or the bound is
// reached, without ever becoming two; that its errors say what to do; and that no
// error holds a token or text that was not cleaned.
package client

import (
	"bytes"
	"context"
	"crypto/tls"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/cenkalti/backoff/v5"

	"github.com/denywatch/denywatch/internal/incident"
	"github.com/denywatch/denywatch/internal/marker"
	"github.com/denywatch/denywatch/internal/secret"
)

// DefaultURL is where a daemon listens that is not configured otherwise.
const DefaultURL = "http://127.0.0.1:8403"

// The bounds of a call.
const (
	// DefaultPatience is how long a call is tried again.
	DefaultPatience = 30 * time.Second
	// DefaultPoll is how often WaitForIncident asks.
	DefaultPoll = 10 * time.Second

	tryTimeout = 30 * time.Second
	// longPoll is how long the daemon may hold back an answer.
	longPoll     = 20 * time.Second
	firstPause   = 250 * time.Millisecond
	longestPause = 5 * time.Second
	maxAnswer    = 4 << 20
	maxErrorText = 300
)

// Client calls one daemon. Its fields are not changed once it is in use; its
// methods are safe for concurrent use.
type Client struct {
	// BaseURL is the daemon's address, with a path if a proxy adds one; empty
	// stands for DefaultURL.
	BaseURL string
	// Token is sent as bearer token; empty sends none.
	Token secret.String
	// HTTP makes the requests; nil stands for one with a timeout of 30 s.
	// Redirects are not followed whatever it says: they lose a posted body.
	HTTP *http.Client
	// Patience is how long Mark is tried again while the daemon cannot be reached
	// or is busy; 0 stands for DefaultPatience, less for a single try.
	Patience time.Duration
}

// Result is the daemon's answer to a marker.
type Result struct {
	// ID is the marker's, also when the caller gave none.
	ID string `json:"id"`
	// ProbationUntil is when the probation after the marker ends, in event time;
	// zero if it opens none.
	ProbationUntil time.Time `json:"probation_until,omitzero"`
	// Incidents is the path that lists what the change broke.
	Incidents string `json:"incidents"`
	// Verdict is the path that says what came of it.
	Verdict string `json:"verdict"`
	// Known tells that the same marker was taken before.
	Known bool `json:"known"`
}

// Mark tells the daemon of a change. When it returns without error the daemon has
// the marker durably. A marker without a time gets the time of the call, so that
// each try sends the same. Refused connections, timeouts and the answers 429 and
// 5xx are tried again with back-off until Patience or ctx ends; the error is then
// that of the last try.
func (c *Client) Mark(ctx context.Context, m marker.Marker) (Result, error) {
	if m.Time.IsZero() {
		m.Time = time.Now().UTC()
	}
	body, err := json.Marshal(m)
	if err != nil {
		return Result{}, fmt.Errorf("encode the marker: %w", err)
	}
	patience := c.Patience
	if patience == 0 {
		patience = DefaultPatience
	}
	pauses := backoff.NewExponentialBackOff()
	pauses.InitialInterval, pauses.MaxInterval = firstPause, longestPause
	opts := []backoff.RetryOption{backoff.WithBackOff(pauses), backoff.WithMaxElapsedTime(patience)}
	if patience < 0 {
		opts = append(opts, backoff.WithMaxTries(1))
	}
	var last error
	r, err := backoff.Retry(ctx, func() (Result, error) {
		var r Result
		status, err := c.call(ctx, http.MethodPost, "/v1/markers", body, &r)
		if err == nil && r.ID == "" {
			err = &callError{msg: c.strange("the answer names no marker")}
		}
		r.Known = status == http.StatusOK
		if err != nil {
			last = err
			if !passing(err) {
				err = backoff.Permanent(err)
			}
		}
		return r, err
	}, opts...)
	if err != nil {
		// Retry tells of an ended ctx alone, but why it was still trying helps more.
		if last != nil && !errors.Is(err, last) {
			err = fmt.Errorf("%w (gave up: %w)", last, err)
		}
		return Result{}, fmt.Errorf("send the marker: %w", err)
	}
	return r, nil
}

// WaitForIncident asks every poll (0: DefaultPoll) for incidents that belong to
// the marker: that name it, or opened after it in an overlapping scope, resolved
// ones too. It returns as soon as there are any, and none when wait is over.
//
// A daemon that cannot be asked for a while is asked again, but if the last try
// failed too the error says so: silence is no all-clear. What waiting cannot mend
// (an unknown marker) is returned at once.
func (c *Client) WaitForIncident(ctx context.Context, markerID string, wait, poll time.Duration) ([]incident.Incident, error) {
	if poll <= 0 {
		poll = DefaultPoll
	}
	path := "/v1/incidents?marker=" + url.QueryEscape(markerID)
	end := time.Now().Add(wait)
	for {
		var list struct {
			Incidents []incident.Incident `json:"incidents"`
		}
		_, err := c.call(ctx, http.MethodGet, path, nil, &list)
		if err == nil && len(list.Incidents) > 0 {
			return list.Incidents, nil
		}
		left := time.Until(end)
		if err != nil && (left <= 0 || !passing(err) || ctx.Err() != nil) {
			return nil, fmt.Errorf("ask for incidents: %w", err)
		}
		if left <= 0 {
			return nil, nil
		}
		if err := rest(ctx, min(poll, left)); err != nil {
			return nil, fmt.Errorf("ask for incidents: %w", err)
		}
	}
}

// Verdict asks what came of a marker. While that is pending it asks on until wait is
// over and then returns the pending verdict. Like WaitForIncident it asks again while
// the daemon cannot be asked, and fails if the last try failed too.
func (c *Client) Verdict(ctx context.Context, markerID string, wait time.Duration) (marker.Verdict, error) {
	end := time.Now().Add(wait)
	for {
		left := max(time.Until(end), 0)
		path := "/v1/markers/" + url.PathEscape(markerID) + "/verdict"
		if hold := min(left, longPoll).Truncate(time.Second); hold > 0 {
			path += "?wait=" + hold.String()
		}
		var v marker.Verdict
		asked := time.Now()
		_, err := c.call(ctx, http.MethodGet, path, nil, &v)
		if err == nil && v.Verdict == "" {
			err = &callError{msg: c.strange("the answer holds no verdict")}
		}
		left = time.Until(end)
		switch {
		case err == nil && (v.Verdict != marker.Pending || left <= 0):
			return v, nil
		case err != nil && (left <= 0 || !passing(err) || ctx.Err() != nil):
			return marker.Verdict{}, fmt.Errorf("ask for the verdict: %w", err)
		}
		// The daemon waits for us; where it did not, it is not asked all the time.
		if pause := time.Second - time.Since(asked); pause > 0 {
			if err := rest(ctx, min(pause, left)); err != nil {
				return marker.Verdict{}, fmt.Errorf("ask for the verdict: %w", err)
			}
		}
	}
}

// rest waits, or returns why ctx ended.
func rest(ctx context.Context, d time.Duration) error {
	pause := time.NewTimer(d)
	defer pause.Stop()
	select {
	case <-pause.C:
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

// callError is a failed call.
type callError struct {
	msg     string
	passing bool
	// wait is how long the daemon asked to wait.
	wait  time.Duration
	cause error
}

func (e *callError) Error() string { return e.msg }

// Unwrap also offers the wait in the form that the back-off understands.
func (e *callError) Unwrap() []error {
	var errs []error
	if e.cause != nil {
		errs = append(errs, e.cause)
	}
	if e.wait > 0 {
		errs = append(errs, &backoff.RetryAfterError{Duration: e.wait})
	}
	return errs
}

// passing reports whether it may help to try again.
func passing(err error) bool {
	e, ok := errors.AsType[*callError](err)
	return ok && e.passing
}

// base checks the address; the error shows it only if it can hold no password.
func (c *Client) base() (*url.URL, error) {
	raw := c.BaseURL
	if raw == "" {
		raw = DefaultURL
	}
	u, err := url.Parse(strings.TrimRight(raw, "/"))
	switch {
	case err != nil:
		return nil, &callError{msg: "the address of the daemon cannot be read; give --url like " + DefaultURL}
	case u.User != nil:
		return nil, &callError{msg: "the address of the daemon holds a user or password; give the token with --token or DENYWATCH_TOKEN"}
	case u.Scheme != "http" && u.Scheme != "https", u.Host == "", u.RawQuery != "", u.Fragment != "":
		return nil, &callError{msg: "the address of the daemon must look like " + DefaultURL + " or https://denywatch.internal (--url)"}
	}
	return u, nil
}

// where names the daemon in errors.
func (c *Client) where() string {
	u, err := c.base()
	if err != nil {
		return "the given address"
	}
	return u.Scheme + "://" + u.Host
}

func (c *Client) strange(what string) string {
	return what + "; is " + c.where() + " a denywatch daemon? (--url)"
}

// call makes one request and decodes the answer of a success into out.
func (c *Client) call(ctx context.Context, method, path string, body []byte, out any) (status int, err error) {
	u, err := c.base()
	if err != nil {
		return 0, err
	}
	req, err := http.NewRequestWithContext(ctx, method, u.String()+path, bytes.NewReader(body))
	if err != nil {
		return 0, &callError{msg: "the address of the daemon cannot be used; give --url like " + DefaultURL}
	}
	req.Header.Set("Accept", "application/json")
	req.Header.Set("User-Agent", "denywatch")
	if body != nil {
		req.Header.Set("Content-Type", "application/json")
	}
	if c.Token != "" {
		token := c.Token.Reveal()
		if strings.ContainsFunc(token, func(r rune) bool { return r <= ' ' || r >= 0x7f }) {
			return 0, &callError{msg: "the token holds spaces, line ends or non-ASCII characters; check --token / DENYWATCH_TOKEN"}
		}
		req.Header.Set("Authorization", "Bearer "+token)
	}
	resp, err := c.http().Do(req)
	if err != nil {
		return 0, c.unreached(ctx, err)
	}
	defer func() { _ = resp.Body.Close() }()
	answer, err := io.ReadAll(io.LimitReader(resp.Body, maxAnswer))
	if resp.StatusCode == http.StatusNoContent {
		return resp.StatusCode, nil
	}
	if resp.StatusCode != http.StatusOK && resp.StatusCode != http.StatusCreated {
		return resp.StatusCode, c.refused(resp, answer)
	}
	if err != nil {
		return resp.StatusCode, c.unreached(ctx, err)
	}
	if json.Unmarshal(answer, out) != nil {
		return resp.StatusCode, &callError{msg: c.strange("the answer is not the expected JSON")}
	}
	return resp.StatusCode, nil
}

func (c *Client) http() *http.Client {
	h := http.Client{Timeout: tryTimeout}
	if c.HTTP != nil {
		h = *c.HTTP
	}
	h.CheckRedirect = func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }
	return &h
}

// unreached explains why there was no answer.
func (c *Client) unreached(ctx context.Context, err error) error {
	if ue, ok := errors.AsType[*url.Error](err); ok {
		err = ue.Err // without the URL
	}
	if ctx.Err() != nil {
		return &callError{msg: "interrupted while waiting for " + c.where(), cause: context.Cause(ctx)}
	}
	e := &callError{passing: true, cause: err}
	dns, isDNS := errors.AsType[*net.DNSError](err)
	_, badCert := errors.AsType[*tls.CertificateVerificationError](err)
	_, notTLS := errors.AsType[tls.RecordHeaderError](err)
	netErr, isNet := errors.AsType[net.Error](err)
	switch {
	case errors.Is(err, syscall.ECONNREFUSED):
		e.msg = "nothing listens at " + c.where() + "; is the daemon running there? (denywatch run; --url for another address)"
	case isDNS:
		e.passing = !dns.IsNotFound
		e.msg = "the host name in " + c.where() + " cannot be resolved; check --url"
	case badCert:
		e.passing = false
		e.msg = "the certificate of " + c.where() + " is not trusted; add its authority to this host's, or set SSL_CERT_FILE"
	case notTLS, strings.Contains(err.Error(), "HTTP response to HTTPS client"):
		e.passing = false
		e.msg = c.where() + " does not speak TLS; try --url http://..."
	case isNet && netErr.Timeout():
		e.msg = c.where() + " did not answer in time; check --url and the firewalls in between"
	default:
		e.msg = "the connection to " + c.where() + " broke: " + clean(err.Error())
	}
	return e
}

// refused explains an answer that is no success.
func (c *Client) refused(resp *http.Response, answer []byte) error {
	var said struct {
		Error string `json:"error"`
		Hint  string `json:"hint"`
	}
	told := json.Unmarshal(answer, &said) == nil && said.Error != ""
	why := fmt.Sprintf("%s answered %d", c.where(), resp.StatusCode)
	if told {
		why += ": " + clean(said.Error)
		if said.Hint != "" {
			why += " (" + clean(said.Hint) + ")"
		}
	}
	e := &callError{msg: why}
	switch code := resp.StatusCode; {
	case code == http.StatusUnauthorized:
		e.msg += "; check --token / DENYWATCH_TOKEN"
	case code >= 300 && code < 400:
		e.msg = c.where() + " redirects to another address; give that one with --url"
	case code == http.StatusRequestTimeout, code == http.StatusTooManyRequests,
		code >= 500 && code != http.StatusNotImplemented && code != http.StatusHTTPVersionNotSupported:
		e.passing = true
		if s, err := strconv.Atoi(resp.Header.Get("Retry-After")); err == nil && s > 0 {
			e.wait = time.Duration(min(s, int(time.Hour/time.Second))) * time.Second
		}
	case !told:
		e.msg = c.strange(why)
	}
	return e
}

// clean makes text of the other side fit for a terminal and an error: one line,
// no control characters, bounded.
func clean(s string) string {
	if len(s) > maxErrorText {
		s = s[:maxErrorText] + "…"
	}
	return strings.Map(func(r rune) rune {
		if r < ' ' || r >= 0x7f && r < 0xa0 || r == '\u2028' || r == '\u2029' || r >= '\u202a' && r <= '\u202e' || r >= '\u2066' && r <= '\u2069' {
			return ' '
		}
		return r
	}, strings.ToValidUTF8(s, ""))
}
