package alerts

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"
)

// NewHTTPClient returns a client for a sink: every phase of a request and the
// whole of it (10 s) are bounded, proxies come from the environment, redirects
// are not followed (a redirected POST would lose its body or go to a stranger).
// The caller ends it with CloseIdleConnections.
func NewHTTPClient() *http.Client {
	return &http.Client{
		Timeout:       10 * time.Second,
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
		Transport: &http.Transport{
			Proxy:                  http.ProxyFromEnvironment,
			DialContext:            (&net.Dialer{Timeout: 5 * time.Second}).DialContext,
			ForceAttemptHTTP2:      true,
			MaxIdleConnsPerHost:    4,
			IdleConnTimeout:        30 * time.Second,
			TLSHandshakeTimeout:    5 * time.Second,
			MaxResponseHeaderBytes: 64 << 10,
			TLSClientConfig:        &tls.Config{MinVersion: tls.VersionTLS12},
		},
	}
}

// TransportError turns an error of an HTTP client, from before there was an
// answer, into an *Error. URLs, which may hold tokens, are taken out of its text.
func TransportError(err error) *Error {
	if u, ok := errors.AsType[*url.Error](err); ok {
		err = u.Err
	}
	if certificate(err) {
		return &Error{Kind: Misconfigured, Refused: true, Err: fmt.Errorf("the server's certificate is not accepted: %w; mend the certificate, or add its authority to the system's", err)}
	}
	if _, ok := errors.AsType[tls.RecordHeaderError](err); ok || errors.Is(err, http.ErrSchemeMismatch) {
		return &Error{Kind: Misconfigured, Refused: true, Err: errors.New("the server does not speak TLS there; check https or http and the port")}
	}
	if dns, ok := errors.AsType[*net.DNSError](err); ok && dns.IsNotFound {
		return &Error{Kind: Misconfigured, Refused: true, Err: errors.New("the server's name is not known; check the host in the URL, or the DNS")}
	}
	op, ok := errors.AsType[*net.OpError](err)
	dial := ok && op.Op == "dial"
	switch {
	case errors.Is(err, context.Canceled):
		return &Error{Kind: Temporary, Err: errors.New("the request was cancelled")}
	case errors.Is(err, context.DeadlineExceeded), isTimeout(err):
		return &Error{Kind: Temporary, Refused: dial, Err: errors.New("no answer in time (deadline exceeded); if it stays so, see whether this host may reach the server: firewall, proxy, port")}
	case dial:
		return &Error{Kind: Temporary, Refused: true, Err: fmt.Errorf("the server is not reached: %w; if it stays so, check host and port, and whether this host may reach it", err)}
	}
	return &Error{Kind: Temporary, Err: fmt.Errorf("the connection broke: %w", err)}
}

func isTimeout(err error) bool {
	t, ok := errors.AsType[interface {
		error
		Timeout() bool
	}](err)
	return ok && t.Timeout()
}

func certificate(err error) bool {
	if _, ok := errors.AsType[*tls.CertificateVerificationError](err); ok {
		return true
	}
	if _, ok := errors.AsType[x509.UnknownAuthorityError](err); ok {
		return true
	}
	if _, ok := errors.AsType[x509.HostnameError](err); ok {
		return true
	}
	_, ok := errors.AsType[x509.CertificateInvalidError](err)
	return ok
}

// StatusError turns an HTTP status that is not 2xx into an *Error: 408, 425, 429
// and 5xx are temporary, 401, 403, 404, 410 and redirects mean that the sink is
// misconfigured, everything else that this one request is not acceptable. A 5xx
// leaves open whether the server took the request.
func StatusError(status int, header http.Header, now time.Time) *Error {
	e := &Error{Refused: status < 500, Err: fmt.Errorf("the server answered %d %s", status, http.StatusText(status))}
	switch {
	case status >= 500, status == http.StatusTooManyRequests, status == http.StatusRequestTimeout, status == http.StatusTooEarly:
		e.Kind = Temporary
		e.RetryAfter = ParseRetryAfter(header.Get("Retry-After"), now)
	case status >= 300 && status < 400:
		e.Kind = Misconfigured
		e.Err = fmt.Errorf("the server answered %d, a redirect, which is not followed; configure the final URL", status)
	case status == http.StatusUnauthorized, status == http.StatusForbidden, status == http.StatusNotFound, status == http.StatusGone:
		e.Kind = Misconfigured
		e.Err = fmt.Errorf("%w; check the URL, its token and the headers", e.Err)
	default:
		e.Kind = Permanent
	}
	return e
}

// ParseRetryAfter reads a Retry-After header, in seconds or as an HTTP date
// (RFC 9110 section 10.2.3). It returns 0 for none, a bad one and the past.
func ParseRetryAfter(v string, now time.Time) time.Duration {
	v = strings.TrimSpace(v)
	if s, err := strconv.ParseInt(v, 10, 32); err == nil {
		return time.Duration(max(s, 0)) * time.Second
	}
	if t, err := http.ParseTime(v); err == nil {
		return max(t.Sub(now), 0)
	}
	return 0
}
