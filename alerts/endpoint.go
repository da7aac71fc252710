package alerts

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"net/http"
	"net/textproto"
	"net/url"
	"slices"
	"strings"
	"time"

	"github.com/denywatch/denywatch/internal/secret"
)

// Endpoint is an address that takes JSON by POST.
type Endpoint struct {
	// Name is the kind of the sink; errors begin with it.
	Name string
	// URL is where to POST to, Headers what goes with it.
	URL     secret.String
	Headers map[string]secret.String
	// Client is from NewHTTPClient.
	Client *http.Client
}

// maxAnswer bounds how much of an answer is read.
const maxAnswer = 4 << 10

// Post sends body, with more headers (name and value in turn). Any 2xx answer means
// delivered. It returns the answer's first 4 KiB, which may hold anything and must not
// be shown, beside an error too; errors are *Error.
func (e *Endpoint) Post(ctx context.Context, body []byte, header ...string) (answer []byte, err error) {
	return e.do(ctx, http.MethodPost, e.URL, body, header...)
}

// Delete asks for the end of what lies under a name below the endpoint, on the terms
// of Post.
func (e *Endpoint) Delete(ctx context.Context, name string) error {
	address, err := url.JoinPath(e.URL.Reveal(), url.PathEscape(name))
	if err != nil {
		return &Error{Kind: Misconfigured, Refused: true, Err: fmt.Errorf("%s: the URL cannot be used", e.Name)}
	}
	_, err = e.do(ctx, http.MethodDelete, secret.String(address), nil)
	return err
}

func (e *Endpoint) do(ctx context.Context, method string, address secret.String, body []byte, header ...string) (answer []byte, err error) {
	req, err := http.NewRequestWithContext(ctx, method, address.Reveal(), bytes.NewReader(body))
	if err != nil {
		return nil, &Error{Kind: Misconfigured, Refused: true, Err: fmt.Errorf("%s: the URL cannot be used", e.Name)}
	}
	req.Header.Set("User-Agent", "denywatch")
	for name, v := range e.Headers {
		req.Header.Set(name, v.Reveal())
	}
	req.Header.Set("Content-Type", "application/json")
	for i := 0; i+1 < len(header); i += 2 {
		req.Header.Set(header[i], header[i+1])
	}
	resp, err := e.Client.Do(req)
	if err != nil {
		return nil, e.wrap(TransportError(err))
	}
	defer resp.Body.Close()
	answer, _ = io.ReadAll(io.LimitReader(resp.Body, maxAnswer)) // the status tells
	if resp.StatusCode/100 == 2 {
		return answer, nil
	}
	return answer, e.wrap(StatusError(resp.StatusCode, resp.Header, time.Now()))
}

func (e *Endpoint) wrap(err *Error) error {
	err.Err = fmt.Errorf("%s: %w", e.Name, err.Err)
	return err
}

// ValidateURL checks a complete http or https address. Its error does not show it.
func ValidateURL(address secret.String) error {
	switch u, err := url.Parse(address.Reveal()); {
	case address == "":
		return errors.New("is missing; give the address to POST to")
	case err != nil || u.Host == "" || u.Scheme != "https" && u.Scheme != "http":
		return errors.New("is not a complete http or https address")
	case u.Fragment != "":
		return errors.New("must not have a #fragment")
	}
	return nil
}

// ValidateHeaders checks headers that a user adds to requests; own are those that
// the sink sets itself, besides what belongs to the connection.
func ValidateHeaders(headers map[string]secret.String, own ...string) (errs []error) {
	own = append(own, "Content-Type", "Content-Length", "Host", "Connection", "Transfer-Encoding")
	for _, name := range slices.Sorted(maps.Keys(headers)) {
		switch canonical := textproto.CanonicalMIMEHeaderKey(name); {
		case !isToken(name):
			errs = append(errs, fmt.Errorf("%q is not a header name", Clean(name, 40)))
		case slices.Contains(own, canonical):
			errs = append(errs, fmt.Errorf("%s is set by denywatch itself", canonical))
		case strings.ContainsFunc(headers[name].Reveal(), func(r rune) bool { return r < 0x20 && r != '\t' || r == 0x7f }):
			errs = append(errs, fmt.Errorf("the value of %s contains control characters", canonical))
		}
	}
	return errs
}

// isToken tells whether s is a token (RFC 9110 section 5.6.2).
func isToken(s string) bool {
	for _, c := range []byte(s) {
		if (c < 'a' || c > 'z') && (c < 'A' || c > 'Z') && (c < '0' || c > '9') && !strings.ContainsRune("!#$%&'*+-.^_`|~", rune(c)) {
			return false
		}
	}
	return s != ""
}
