// Package email tells people by mail: one thread an incident, with a message when it
// opens, comes back, gets worse or is over, and when somebody takes care of it. What
// only grows a little makes no message; the next one tells of it.
//
// Messages have a text and an HTML part, and the incident's chart where there is one.
// They are chained by Message-ID, In-Reply-To and References, under the subject of the
// first one.
//
// SMTP cannot say whether a message was taken when the connection breaks after it was
// sent. It is sent again then, under the same Message-ID, by which many mail servers
// and programs keep only one: at least once, usually exactly once.
package email

import (
	"bytes"
	"cmp"
	"context"
	"crypto/sha256"
	"crypto/tls"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"html/template"
	"log/slog"
	"net"
	netmail "net/mail"
	"net/textproto"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/wneessen/go-mail"

	"github.com/denywatch/denywatch/alerts"
	"github.com/denywatch/denywatch/internal/incident"
	"github.com/denywatch/denywatch/internal/secret"
)

// The words that Config.TLS takes.
const (
	// StartTLS asks the server for encryption, and sends nothing without it.
	StartTLS = "starttls"
	// Implicit encrypts from the first byte on, as is usual on port 465.
	Implicit = "implicit"
	// None does not encrypt.
	None = "none"
)

// DefaultTLS is Config.TLS if it is empty.
const DefaultTLS = StartTLS

// Config is a mail server and who is told through it.
type Config struct {
	// Server is host:port of the server that takes mail for delivery.
	Server string `yaml:"server"`
	// TLS says how the connection is encrypted; empty stands for DefaultTLS.
	TLS string `yaml:"tls"`
	// User and Password log in; empty: nobody asks.
	User     string        `yaml:"user"`
	Password secret.String `yaml:"password"`
	// From is the sender, an address with or without a name.
	From string `yaml:"from"`
	// To are the addresses that are told.
	To []string `yaml:"to,one"`
}

const maxTo = 50

// Validate reports all problems, each with the field it is in. It does no I/O.
func (c *Config) Validate() error {
	var errs []error
	bad := func(format string, args ...any) { errs = append(errs, fmt.Errorf(format, args...)) }
	host, port, err := net.SplitHostPort(c.Server)
	if n, numErr := strconv.ParseUint(port, 10, 16); c.Server == "" {
		bad("server: is missing; give host:port of your mail server, such as smtp.example.com:587")
	} else if err != nil || numErr != nil || n == 0 || host == "" || strings.ContainsAny(host, "/@ ") {
		bad("server: must be host:port, such as smtp.example.com:587")
	}
	if c.TLS != "" && !slices.Contains([]string{StartTLS, Implicit, None}, c.TLS) {
		bad("tls: must be %s, %s or %s", StartTLS, Implicit, None)
	}
	if (c.User == "") != (c.Password == "") {
		bad("password: user and password belong together; one is missing")
	}
	if c.User != "" && c.TLS == None {
		bad("tls: %s would send the password in the clear; use %s", None, StartTLS)
	}
	if _, err := netmail.ParseAddress(c.From); err != nil {
		bad("from: must be an address, such as denywatch@example.com")
	}
	switch {
	case len(c.To) == 0:
		bad("to: is missing; give at least one address")
	case len(c.To) > maxTo:
		bad("to: more than %d addresses; make a list on your mail server", maxTo)
	}
	for i, to := range c.To {
		if ValidateTarget(to) != nil || strings.Contains(to, ",") {
			bad("to[%d]: must be an address, such as oncall@example.com", i)
		}
	}
	return errors.Join(errs...)
}

// ValidateTarget checks a Dest.Target of this sink: addresses separated by commas.
func ValidateTarget(target string) error {
	list, err := netmail.ParseAddressList(target)
	if err != nil || len(list) > maxTo {
		return fmt.Errorf("must be at most %d addresses, such as oncall@example.com", maxTo)
	}
	return nil
}

// Options are what a notifier may use besides its configuration.
type Options struct {
	// Log gets what the operator should know; nil discards it.
	Log *slog.Logger
	// Chart draws an incident as it is now, as a PNG. Messages have no picture if it
	// is nil, or fails.
	Chart func(ctx context.Context, incident string) ([]byte, error)
	// TLS is used instead of the system's certificates, in tests.
	TLS *tls.Config
}

// Notifier sends mail. It is safe for concurrent use.
type Notifier struct {
	conf Config
	opt  Options
	from *netmail.Address
	page *template.Template
}

var _ alerts.Poster = (*Notifier)(nil)

// New returns a notifier for a valid configuration. It sends nothing.
func New(conf Config, opt Options) (*Notifier, error) {
	if err := conf.Validate(); err != nil {
		return nil, fmt.Errorf("email: %w", err)
	}
	if opt.Log == nil {
		opt.Log = slog.New(slog.DiscardHandler)
	}
	n := &Notifier{conf: conf, opt: opt}
	var err error
	if n.from, err = netmail.ParseAddress(conf.From); err != nil {
		return nil, fmt.Errorf("email: from: %w", err)
	}
	if n.page, err = template.New("message").Parse(messageHTML); err != nil {
		return nil, fmt.Errorf("email: template: %w", err)
	}
	return n, nil
}

// memory is the thread of an incident at one place.
type memory struct {
	Root     string            `json:"root"`    // Message-ID of its first message
	Subject  string            `json:"subject"` // of that
	Severity incident.Severity `json:"severity"`
}

// Notify implements alerts.Notifier.
func (n *Notifier) Notify(ctx context.Context, d *alerts.Delivery) (json.RawMessage, error) {
	t := &d.Transition
	var thread memory
	if len(d.Memory) > 0 {
		_ = json.Unmarshal(d.Memory, &thread) // a thread that is lost begins anew
	}
	if t.Kind == incident.Grew && thread.Root != "" && !alerts.Worse(t.Incident.Severity, thread.Severity) {
		return nil, nil
	}
	p := ofIncident(t)
	p.Link = d.URL
	var picture []byte
	if n.opt.Chart != nil {
		var err error
		if picture, err = n.opt.Chart(ctx, t.Incident.ID); err != nil {
			n.opt.Log.Warn("a message has no chart", "incident", t.Incident.ID, "error", err)
			picture = nil
		}
	}
	id := n.messageID(d.Key)
	if err := n.send(ctx, d.Target, id, &thread, p, picture); err != nil {
		return nil, err
	}
	if thread.Root == "" {
		thread.Root, thread.Subject = id, p.Subject
	}
	thread.Severity = t.Incident.Severity
	b, err := json.Marshal(thread)
	if err != nil {
		return nil, nil //nolint:nilerr // it is delivered; strings can be encoded
	}
	return b, nil
}

// Post implements alerts.Poster.
func (n *Notifier) Post(ctx context.Context, d *alerts.Delivery) (json.RawMessage, error) {
	return nil, n.send(ctx, d.Target, n.messageID(d.Key), &memory{}, ofPost(d.Post), nil)
}

// Test implements alerts.Tester: it sends a message.
func (n *Notifier) Test(ctx context.Context, target string) (string, error) {
	p := &page{Subject: "denywatch: a test", Headline: "A test", Lead: []string{alerts.TestText}}
	if err := n.send(ctx, target, n.messageID("test/"+time.Now().UTC().Format(time.RFC3339Nano)), &memory{}, p, nil); err != nil {
		return "", err
	}
	return "the server took a message", nil
}

// messageID is the id of the message that a delivery makes, without brackets. The same
// delivery always has the same.
func (n *Notifier) messageID(key string) string {
	h := sha256.Sum256([]byte(key))
	_, domain, _ := strings.Cut(n.from.Address, "@")
	return "denywatch." + hex.EncodeToString(h[:12]) + "@" + domain
}

// chartID is the content id of the picture in a message.
const chartID = "chart"

// timeout bounds the dialogue with the server.
const timeout = 15 * time.Second

// maxSubject bounds a subject, in runes.
const maxSubject = 200

// send sends one message as a part of a thread. If the server refuses one of several
// recipients for good the others are told all the same, each by himself.
func (n *Notifier) send(ctx context.Context, target, id string, thread *memory, p *page, picture []byte) error {
	to, err := n.recipients(target)
	if err == nil {
		err = n.sendTo(ctx, to, id, thread, p, picture)
	}
	if !errors.Is(err, errRecipient) || len(to) == 1 {
		return err
	}
	told := 0
	for i := range to {
		switch one := n.sendTo(ctx, to[i:i+1], id, thread, p, picture); {
		case one == nil:
			told++
		case !errors.Is(one, errRecipient):
			return one
		}
	}
	if told == 0 {
		return err
	}
	n.opt.Log.Error("the mail server refuses some recipients; the others were told: mend to", "refused", len(to)-told, "told", told)
	return nil
}

// recipients are the addresses of a target, or the sink's own.
func (n *Notifier) recipients(target string) ([]string, error) {
	if target == "" {
		return n.conf.To, nil
	}
	list, err := netmail.ParseAddressList(target)
	if err != nil {
		return nil, &alerts.Error{Kind: alerts.Permanent, Refused: true, Err: errors.New("email: the target is no list of addresses")}
	}
	to := make([]string, len(list))
	for i, a := range list {
		to[i] = a.String()
	}
	return to, nil
}

// sendTo sends one message to some recipients.
func (n *Notifier) sendTo(ctx context.Context, to []string, id string, thread *memory, p *page, picture []byte) error {
	m, err := n.message(to, id, thread, p, picture)
	if err != nil {
		return &alerts.Error{Kind: alerts.Permanent, Refused: true, Err: fmt.Errorf("email: the message cannot be written: %w", err)}
	}
	c, free, err := n.client(ctx)
	defer free()
	if err != nil {
		return &alerts.Error{Kind: alerts.Misconfigured, Refused: true, Err: fmt.Errorf("email: %w", err)}
	}
	conn, err := c.DialToSMTPClientWithContext(ctx)
	if err != nil {
		return refused(err)
	}
	err = c.SendWithSMTPClient(conn, m)
	_ = c.CloseWithSMTPClient(conn) // the message was taken or not, whatever comes of it
	if err == nil || m.IsDelivered() {
		return nil
	}
	return failed(err)
}

// client is how the server is reached until ctx ends; free must be called.
func (n *Notifier) client(ctx context.Context) (c *mail.Client, free func(), err error) {
	free = func() {}
	host, port, err := net.SplitHostPort(n.conf.Server)
	if err != nil {
		return nil, free, err
	}
	number, err := strconv.Atoi(port)
	if err != nil {
		return nil, free, err
	}
	config := &tls.Config{}
	if n.opt.TLS != nil {
		config = n.opt.TLS.Clone()
	}
	config.ServerName, config.MinVersion = host, tls.VersionTLS12
	how := cmp.Or(n.conf.TLS, DefaultTLS)
	// The library heeds a context only while it connects: the rest ends with the
	// connection.
	var stop func() bool
	free = func() {
		if stop != nil {
			stop()
		}
	}
	dial := func(short context.Context, network, address string) (net.Conn, error) {
		conn, err := (&net.Dialer{}).DialContext(short, network, address)
		if err != nil {
			return nil, err
		}
		stop = context.AfterFunc(ctx, func() { _ = conn.Close() })
		if how != Implicit {
			return conn, nil
		}
		secured := tls.Client(conn, config)
		if err := secured.HandshakeContext(short); err != nil {
			_ = conn.Close()
			return nil, err
		}
		return secured, nil
	}
	opts := []mail.Option{mail.WithPort(number), mail.WithTimeout(timeout), mail.WithTLSConfig(config), mail.WithDialContextFunc(dial)}
	switch how {
	case Implicit: // it is encrypted already
		opts = append(opts, mail.WithTLSPolicy(mail.TLSOpportunistic))
	case None:
		opts = append(opts, mail.WithTLSPolicy(mail.NoTLS))
	default:
		opts = append(opts, mail.WithTLSPolicy(mail.TLSMandatory))
	}
	if n.conf.User != "" {
		opts = append(opts, mail.WithSMTPAuth(mail.SMTPAuthAutoDiscover), mail.WithUsername(n.conf.User), mail.WithPassword(n.conf.Password.Reveal()))
	}
	c, err = mail.NewClient(host, opts...)
	return c, free, err
}

// message writes a page as a mail.
func (n *Notifier) message(to []string, id string, thread *memory, p *page, picture []byte) (*mail.Msg, error) {
	m := mail.NewMsg()
	m.FromMailAddress(n.from)
	if err := m.To(to...); err != nil {
		return nil, errors.New("an address cannot be used")
	}
	subject := p.Subject
	if thread.Root != "" {
		subject = "Re: " + thread.Subject
		m.SetGenHeader(mail.HeaderInReplyTo, "<"+thread.Root+">")
		m.SetGenHeader(mail.HeaderReferences, "<"+thread.Root+">")
	}
	// What looks like an encoded word (RFC 2047) must not become one.
	m.Subject(strings.ReplaceAll(alerts.Clean(subject, maxSubject), "=?", "= ?"))
	m.SetMessageIDWithValue(id)
	m.SetDate()
	m.SetBulk()
	m.SetGenHeader("Auto-Submitted", "auto-generated")
	if len(picture) > 0 {
		p.Chart = chartID
		if err := m.EmbedReader("chart.png", bytes.NewReader(picture), mail.WithFileContentID(chartID), mail.WithFileContentType("image/png")); err != nil {
			return nil, err
		}
	}
	html, err := p.html(n.page)
	if err != nil {
		return nil, err
	}
	m.SetBodyString(mail.TypeTextPlain, p.text())
	m.AddAlternativeString(mail.TypeTextHTML, html)
	return m, nil
}

// Replies of SMTP (RFC 5321, RFC 4954) that mean that who logs in is not let in.
var loginReplies = []int{530, 534, 535, 538}

// refused makes an error of a server that took no message yet: it was not reached, or
// did not let us in.
func refused(err error) *alerts.Error {
	e := &alerts.Error{Kind: alerts.Misconfigured, Refused: true}
	var reply *textproto.Error
	switch {
	case errors.As(err, &reply) && slices.Contains(loginReplies, reply.Code):
		e.Err = fmt.Errorf("email: the server refuses user or password (it answered %d): mend them", reply.Code)
	case errors.As(err, &reply):
		if e.Err = fmt.Errorf("email: the server answered %d before a message was sent", reply.Code); reply.Code < 500 {
			e.Kind = alerts.Temporary
		}
	case errors.Is(err, mail.ErrNoSupportedAuthDiscovered), strings.Contains(err.Error(), "does not support SMTP AUTH"):
		e.Err = errors.New("email: the server offers no way to log in: take user and password out, or use its port for senders (usually 587)")
	case strings.Contains(err.Error(), "does not support STARTTLS"):
		e.Err = errors.New("email: the server offers no encryption (STARTTLS): use tls: implicit with its port for that (usually 465), or tls: none")
	default:
		e = alerts.TransportError(err)
		e.Refused = true
		e.Err = fmt.Errorf("email: %w", e.Err)
	}
	return e
}

// errRecipient is why a message is not taken if the server refuses a recipient for good.
var errRecipient = errors.New("a recipient: mend to")

// failed makes an error of a message that was not taken. What the server said is not
// repeated: it may hold parts of the message.
func failed(err error) *alerts.Error {
	var s *mail.SendError
	if !errors.As(err, &s) {
		e := alerts.TransportError(err)
		e.Err = fmt.Errorf("email: %w", e.Err)
		return e
	}
	code := s.ErrorCode()
	e := &alerts.Error{Kind: alerts.Permanent, Refused: code >= 400 || s.Reason != mail.ErrSMTPDataClose && s.Reason != mail.ErrWriteContent}
	what := "the message"
	switch s.Reason {
	case mail.ErrSMTPMailFrom:
		what = "the sender: mend from, or user and password"
	case mail.ErrSMTPRcptTo:
		what = errRecipient.Error()
	}
	switch {
	case code == 0:
		e.Kind, e.Err = alerts.Temporary, errors.New("email: the connection broke before the server had taken the message")
	case code < 500:
		e.Kind, e.Err = alerts.Temporary, fmt.Errorf("email: the server answered %d to %s; it is tried again", code, what)
	case s.Reason == mail.ErrSMTPRcptTo:
		e.Kind, e.Err = alerts.Misconfigured, fmt.Errorf("email: the server refuses (%d) %w", code, errRecipient)
	case s.Reason == mail.ErrSMTPMailFrom:
		e.Kind, e.Err = alerts.Misconfigured, fmt.Errorf("email: the server refuses (%d) %s", code, what)
	default:
		e.Err = fmt.Errorf("email: the server refuses (%d) %s", code, what)
	}
	return e
}
