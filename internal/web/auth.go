package web

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"mime"
	"net"
	"net/http"
	"net/netip"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/denywatch/denywatch/ingest/markers"
	"github.com/denywatch/denywatch/internal/secret"
)

// SignatureHeader is the header of a signed request. Its value is
// "t=<unix>,v1=<hex>", where unix is the time in whole seconds and hex the
// HMAC-SHA256 under the secret of "<unix>.<body>".
const SignatureHeader = "Denywatch-Signature"

// tolerance is how far the time of a signed request may lie from now. A request
// that is replayed within it changes nothing, because markers are idempotent.
const tolerance = 5 * time.Minute

// credentials is a Config made ready to compare with.
type credentials struct {
	tokens secret.Tokens
	keys   []Key
	hosts  map[string]bool
	// deployments verifies and decodes what deployment tools send.
	deployments *markers.Adapters
	operators   []string
}

func newCredentials(cfg Config) *credentials {
	c := &credentials{tokens: secret.Hash(cfg.Tokens), hosts: map[string]bool{}, deployments: markers.New(cfg.Deployments), operators: cfg.Operators}
	c.keys = append(c.keys, cfg.HMAC...)
	for _, h := range cfg.Hosts {
		c.hosts[hostName(h)] = true
	}
	return c
}

// needed reports whether callers must prove who they are.
func (c *credentials) needed() bool { return len(c.tokens)+len(c.keys) > 0 }

// signature returns the name of the caller who signed body, and when.
func (c *credentials) signature(header string, body []byte) (name string, at time.Time, ok bool) {
	unix, sum, ok := parseSignature(header)
	if !ok {
		return "", time.Time{}, false
	}
	ok = false
	for _, k := range c.keys {
		if want := sign(k.Secret, unix, body); hmac.Equal(want, sum) {
			name, ok = k.Name, true
		}
	}
	return name, time.Unix(unix, 0), ok
}

func parseSignature(header string) (unix int64, sum []byte, ok bool) {
	t, v1, found := strings.Cut(header, ",")
	t, hasT := strings.CutPrefix(strings.TrimSpace(t), "t=")
	v1, hasV1 := strings.CutPrefix(strings.TrimSpace(v1), "v1=")
	unix, err := strconv.ParseInt(t, 10, 64)
	if !found || !hasT || !hasV1 || err != nil || strconv.FormatInt(unix, 10) != t {
		return 0, nil, false
	}
	sum, err = hex.DecodeString(v1)
	return unix, sum, err == nil && len(sum) == sha256.Size
}

func sign(key secret.String, unix int64, body []byte) []byte {
	h := hmac.New(sha256.New, []byte(key.Reveal()))
	_, _ = fmt.Fprintf(h, "%d.", unix) // a hash takes everything
	_, _ = h.Write(body)
	return h.Sum(nil)
}

// caller is who sent a request that changes something.
type caller struct {
	// name is the configured one, or empty for a local program without a token; operator
	// tells that it may change incidents.
	name     string
	operator bool
	// at is when the request was made: as signed, else now.
	at time.Time
}

// authenticate says who posts, and reads the body; a body without a known token
// beside it is read only to check its signature.
func (s *Server) authenticate(w http.ResponseWriter, r *http.Request) (caller, []byte, error) {
	creds, now := s.creds.Load(), time.Now()
	if err := s.crossOrigin.Check(r); err != nil {
		return caller{}, nil, refuse(http.StatusForbidden, "a page of another site may not post here", "post from a program, not from a browser")
	}
	signature := r.Header.Get(SignatureHeader)
	switch {
	case !creds.needed():
		if err := local(r); err != nil {
			return caller{}, nil, err
		}
		body, err := readBody(w, r, "application/json")
		return caller{operator: true, at: now}, body, err
	case signature != "":
		body, err := readBody(w, r, "application/json", "application/x-www-form-urlencoded")
		if err != nil {
			return caller{}, nil, err
		}
		name, at, ok := creds.signature(signature, body)
		if !ok {
			return caller{}, nil, s.unknownCaller(r, "the signature is not that of a configured secret",
				SignatureHeader+" must be t=<unix>,v1=<hex>, the HMAC-SHA256 of <unix>.<body> under one of markers.hmac; sign the very bytes that are sent")
		}
		if d := now.Sub(at); d > tolerance || d < -tolerance {
			return caller{}, nil, s.unknownCaller(r, "the signature's time is more than 5 minutes away from now", "check the clocks of both hosts and sign each request anew")
		}
		return caller{name: name, at: at}, body, nil
	}
	scheme, token, _ := strings.Cut(r.Header.Get("Authorization"), " ")
	if !strings.EqualFold(scheme, "Bearer") {
		return caller{}, nil, s.unknownCaller(r, "a token is needed", "send the header Authorization: Bearer <token> with one of markers.tokens, or sign the request")
	}
	name, ok := creds.tokens.Caller(strings.TrimSpace(token))
	if !ok {
		return caller{}, nil, s.unknownCaller(r, "the token is not known", "compare it with markers.tokens in the daemon's configuration")
	}
	// curl -d says form-urlencoded whatever it sends; no page of another site can
	// add the token.
	body, err := readBody(w, r, "application/json", "application/x-www-form-urlencoded")
	return caller{name: name, operator: slices.Contains(creds.operators, name), at: now}, body, err
}

// unknownCaller refuses and notes it in the log, but not each time of many.
func (s *Server) unknownCaller(r *http.Request, msg, hint string) error {
	s.suppressed.Add(1)
	s.refusals.Do(func() {
		s.log.Warn("request refused", "reason", msg, "peer", r.RemoteAddr, "count", s.suppressed.Swap(0))
	})
	e := refuse(http.StatusUnauthorized, msg, hint)
	e.header = [2]string{"WWW-Authenticate", `Bearer realm="denywatch"`}
	return e
}

// local accepts a request without credentials if it comes straight from a program
// on this host through a loopback listener.
func local(r *http.Request) error {
	const hint = "configure markers.tokens and send one, or post to the daemon's own address 127.0.0.1"
	if !onLoopback(r) {
		return refuse(http.StatusForbidden, "a token is needed here, and none is configured", "add markers.tokens to the configuration, or let the daemon listen on 127.0.0.1")
	}
	if !fromLoopback(r) {
		return refuse(http.StatusForbidden, "requests without a token are taken from this host only", hint)
	}
	// A name would let a web page pass that pointed its own name at 127.0.0.1.
	if host := hostName(r.Host); !isLocalhost(host) && !isLoopback(host) {
		return refuse(http.StatusForbidden, "requests without a token are taken under a loopback address or localhost only", hint)
	}
	for _, h := range []string{"Forwarded", "X-Forwarded-For", "X-Real-Ip", "Via"} {
		if r.Header.Get(h) != "" {
			return refuse(http.StatusForbidden, "requests that come through a proxy need a token", "add markers.tokens to the configuration")
		}
	}
	return nil
}

// anyone lets every reader in.
func anyone(*http.Request) error { return nil }

// localName lets every reader in, but on a loopback listener only under an
// address, localhost or a configured name: a web page can point its own name at
// 127.0.0.1 and then read what that serves, but it cannot choose these.
func (s *Server) localName(r *http.Request) error {
	if !onLoopback(r) {
		return nil
	}
	host := hostName(r.Host)
	if _, err := netip.ParseAddr(host); err == nil || host == "" || isLocalhost(host) || s.creds.Load().hosts[host] {
		return nil
	}
	return refuse(http.StatusMisdirectedRequest, "this host name is not the daemon's", "use 127.0.0.1 or localhost; a proxy must send one of them as Host")
}

// hostName is the comparable host of a Host header.
func hostName(host string) string {
	if h, _, err := net.SplitHostPort(host); err == nil {
		host = h
	}
	host = strings.TrimSuffix(strings.TrimPrefix(host, "["), "]")
	return strings.ToLower(strings.TrimSuffix(host, "."))
}

func isLocalhost(host string) bool {
	return host == "localhost" || strings.HasSuffix(host, ".localhost")
}

func isLoopback(host string) bool {
	a, err := netip.ParseAddr(host)
	return err == nil && a.Unmap().IsLoopback()
}

// readBody returns the whole body, whose type must be one of types or not said.
// A browser always says one unless the page withholds it, and then says Origin.
func readBody(w http.ResponseWriter, r *http.Request, types ...string) ([]byte, error) {
	if ct := r.Header.Get("Content-Type"); ct != "" {
		media, _, err := mime.ParseMediaType(ct)
		if err != nil || !slices.Contains(types, media) {
			return nil, refuse(http.StatusUnsupportedMediaType, "the body is JSON", "send the header Content-Type: application/json")
		}
	}
	if r.Header.Get("Content-Encoding") != "" {
		return nil, refuse(http.StatusUnsupportedMediaType, "the body is sent uncompressed", "leave Content-Encoding out")
	}
	return readAll(w, r, maxBody)
}

// readAll reads the body within a bound in bytes.
func readAll(w http.ResponseWriter, r *http.Request, most int64) ([]byte, error) {
	body, err := io.ReadAll(http.MaxBytesReader(w, r.Body, most))
	if err == nil {
		return body, nil
	}
	if _, tooLarge := errors.AsType[*http.MaxBytesError](err); tooLarge {
		return nil, refuse(http.StatusRequestEntityTooLarge, fmt.Sprintf("the body is larger than %d KiB", most>>10), "send one marker in a request")
	}
	if netErr, ok := errors.AsType[net.Error](err); ok && netErr.Timeout() {
		e := refuse(http.StatusRequestTimeout, "the body did not arrive in time", "send it again")
		e.header = [2]string{"Connection", "close"}
		return nil, e
	}
	return nil, refuse(http.StatusBadRequest, "the body ended early", "send it again")
}
