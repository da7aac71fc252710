// Package webhook delivers incident transitions to an HTTP endpoint of the
// user's: one signed POST with JSON a transition.
//
// The request carries the delivery's key in the header Idempotency-Key (and in
// the body as id). The same key always means the same transition, so a receiver
// that remembers keys gets every transition exactly once; one that does not gets
// it at least once. Transitions of one incident come in order; a gap in
// transition.seq means that updates were left out while the receiver was slow.
//
// schema.json, beside this file, describes the body as a JSON Schema. Its version
// rises only when a receiver that ignores unknown fields would misread a body.
//
// With a secret, the header Denywatch-Signature is "t=<unix>,v1=<hex>", where
// hex is the HMAC-SHA256 under the secret of "<unix>.<body>". A receiver
// computes it over the raw body, compares in constant time and refuses times too
// far from its own clock; Verify does that.
package webhook

import (
	"context"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/denywatch/denywatch/alerts"
	"github.com/denywatch/denywatch/internal/event"
	"github.com/denywatch/denywatch/internal/incident"
	"github.com/denywatch/denywatch/internal/secret"
)

// Version is the version of the body's schema. It rises only when a receiver
// that ignores unknown fields would misread a body.
const Version = 1

// The headers of a request.
const (
	HeaderKey       = "Idempotency-Key"
	HeaderSignature = "Denywatch-Signature"
)

// Config is one webhook.
type Config struct {
	// URL is where to POST to. It is a secret, for tokens are often part of it.
	URL secret.String `yaml:"url"`
	// Secret signs the requests; without one they are not signed.
	Secret secret.String `yaml:"secret,omitempty"`
	// Headers are added to every request.
	Headers map[string]secret.String `yaml:"headers,omitempty"`
}

// minSecret is the least length of a signing secret, in bytes.
const minSecret = 16

// Validate reports all problems, each with the field it is in. It does no I/O.
func (c *Config) Validate() error {
	var errs []error
	if err := alerts.ValidateURL(c.URL); err != nil {
		errs = append(errs, fmt.Errorf("url: %w", err))
	}
	if c.Secret != "" && len(c.Secret) < minSecret {
		errs = append(errs, fmt.Errorf("secret: is shorter than %d bytes; make one with: openssl rand -hex 32", minSecret))
	}
	for _, err := range alerts.ValidateHeaders(c.Headers, HeaderKey, HeaderSignature) {
		errs = append(errs, fmt.Errorf("headers: %w", err))
	}
	return errors.Join(errs...)
}

// Body is the JSON of a request.
type Body struct {
	Version int `json:"version"`
	// ID is the delivery's idempotency key.
	ID         string              `json:"id"`
	Transition incident.Transition `json:"transition"`
	// URL is where the incident is to be seen, ChartURL its picture; left out unless it
	// is configured where people reach the API.
	URL      string `json:"url,omitempty"`
	ChartURL string `json:"chart_url,omitempty"`
}

// Notifier posts transitions to one endpoint. It is safe for concurrent use.
type Notifier struct {
	secret   secret.String
	endpoint alerts.Endpoint
}

// New returns a notifier for a valid configuration. It sends nothing.
func New(conf Config) (*Notifier, error) {
	if err := conf.Validate(); err != nil {
		return nil, fmt.Errorf("webhook: %w", err)
	}
	return &Notifier{
		secret:   conf.Secret,
		endpoint: alerts.Endpoint{Name: "webhook", URL: conf.URL, Headers: conf.Headers, Client: alerts.NewHTTPClient()},
	}, nil
}

// Close gives back idle connections. The notifier must not be used after it.
func (n *Notifier) Close() { n.endpoint.Client.CloseIdleConnections() }

// Notify implements alerts.Notifier: any 2xx answer means delivered, within 10 s.
// A try after an uncertain one is the same request with the same key.
func (n *Notifier) Notify(ctx context.Context, d *alerts.Delivery) (json.RawMessage, error) {
	return nil, n.post(ctx, d)
}

// KindTest is the kind of the transition that a test sends; its incident has the id
// "test", and nothing happened to anybody.
const KindTest incident.Kind = "test"

// Test implements alerts.Tester: it sends one signed transition of KindTest.
func (n *Notifier) Test(ctx context.Context, _ string) (string, error) {
	now := time.Now().UTC()
	t := incident.Transition{Seq: 1, Kind: KindTest, At: now, Incident: incident.Incident{
		ID: "test", State: incident.Open, Direction: incident.Up, Class: incident.ClassRefused, Severity: incident.Low, Layer: event.LayerUnknown.String(),
		OpenedAt: now, StartedAt: now, Causes: []string{}, Vantages: []string{},
	}}
	if err := n.post(ctx, &alerts.Delivery{Key: "test/" + now.Format(time.RFC3339Nano), Transition: t}); err != nil {
		return "", err
	}
	return "the server took a transition of kind test", nil
}

func (n *Notifier) post(ctx context.Context, d *alerts.Delivery) error {
	body, err := json.Marshal(Body{Version: Version, ID: d.Key, Transition: d.Transition, URL: d.URL, ChartURL: d.Chart})
	if err != nil {
		return &alerts.Error{Kind: alerts.Permanent, Refused: true, Err: fmt.Errorf("webhook: encode: %w", err)}
	}
	header := []string{HeaderKey, d.Key}
	if n.secret != "" {
		header = append(header, HeaderSignature, Sign(n.secret, time.Now(), body))
	}
	_, err = n.endpoint.Post(ctx, body, header...)
	return err
}

// Sign returns the signature header for a body sent at t.
func Sign(key secret.String, t time.Time, body []byte) string {
	return fmt.Sprintf("t=%d,v1=%s", t.Unix(), hex.EncodeToString(mac(key, t.Unix(), body)))
}

func mac(key secret.String, unix int64, body []byte) []byte {
	h := hmac.New(sha256.New, []byte(key.Reveal()))
	h.Write(strconv.AppendInt(nil, unix, 10))
	h.Write([]byte{'.'})
	h.Write(body)
	return h.Sum(nil)
}

// Verify checks a signature header against the raw body of a request. It fails
// if no v1 signature matches or if the signed time is more than tolerance before
// or after now (five minutes is usual). It compares in constant time. A header
// may hold several v1 signatures, while a secret is being changed.
func Verify(key secret.String, header string, body []byte, now time.Time, tolerance time.Duration) error {
	var unix int64
	var sigs [][]byte
	stamped := false
	for part := range strings.SplitSeq(header, ",") {
		k, v, _ := strings.Cut(strings.TrimSpace(part), "=")
		switch k {
		case "t":
			n, err := strconv.ParseInt(v, 10, 64)
			if err != nil || stamped {
				return errors.New("webhook: the signature header has no single time")
			}
			unix, stamped = n, true
		case "v1":
			if sig, err := hex.DecodeString(v); err == nil && len(sig) == sha256.Size {
				sigs = append(sigs, sig)
			}
		}
	}
	if !stamped || len(sigs) == 0 {
		return errors.New("webhook: the signature header is missing or malformed")
	}
	if key == "" {
		return errors.New("webhook: no secret to verify with")
	}
	want := mac(key, unix, body)
	good := false
	for _, sig := range sigs {
		good = hmac.Equal(sig, want) || good
	}
	if !good {
		return errors.New("webhook: the signature does not match")
	}
	if d := now.Sub(time.Unix(unix, 0)); d > tolerance || d < -tolerance {
		return errors.New("webhook: the signature is too old, or from the future")
	}
	return nil
}
