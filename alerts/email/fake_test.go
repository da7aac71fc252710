package email_test

import (
	"bufio"
	"bytes"
	"crypto/tls"
	"crypto/x509"
	"encoding/base64"
	"fmt"
	"io"
	"mime"
	"mime/multipart"
	"mime/quotedprintable"
	"net"
	"net/http/httptest"
	"net/mail"
	"strings"
	"sync"
	"testing"
)

// server is a mail server that keeps what it takes.
type server struct {
	t        *testing.T
	ln       net.Listener
	cert     *tls.Config // to encrypt with
	trust    *tls.Config // for who talks to it
	startTLS bool
	implicit bool
	password string // empty: nobody has to log in
	unknown  string // recipients that are refused

	mu     sync.Mutex
	reply  map[string]string // by command, instead of the usual one
	hangUp string            // command at which the connection breaks, "." is the end of the message
	taken  []*message
	wg     sync.WaitGroup
	conns  map[net.Conn]bool
}

// message is one that was taken.
type message struct {
	from      string
	to        []string
	encrypted bool
	header    mail.Header
	text      string
	html      string
	picture   []byte
	raw       string
}

func newServer(t *testing.T, change func(*server)) *server {
	t.Helper()
	certs := httptest.NewTLSServer(nil)
	pool := x509.NewCertPool()
	pool.AddCert(certs.Certificate())
	s := &server{t: t, cert: &tls.Config{Certificates: certs.TLS.Certificates}, trust: &tls.Config{RootCAs: pool}, startTLS: true, reply: map[string]string{}, conns: map[net.Conn]bool{}}
	certs.Close()
	if change != nil {
		change(s)
	}
	var err error
	if s.ln, err = net.Listen("tcp", "127.0.0.1:0"); err != nil {
		t.Fatal(err)
	}
	s.wg.Go(func() {
		for {
			c, err := s.ln.Accept()
			if err != nil {
				return
			}
			s.mu.Lock()
			s.conns[c] = true
			s.mu.Unlock()
			s.wg.Go(func() { s.serve(c) })
		}
	})
	t.Cleanup(func() {
		_ = s.ln.Close()
		s.mu.Lock()
		for c := range s.conns {
			_ = c.Close()
		}
		s.mu.Unlock()
		s.wg.Wait()
	})
	return s
}

func (s *server) serve(c net.Conn) {
	defer c.Close()
	encrypted := false
	if s.implicit {
		c, encrypted = tls.Server(c, s.cert), true
	}
	in := bufio.NewReader(c)
	say := func(line string) { _, _ = io.WriteString(c, line+"\r\n") }
	say("220 mail.example.com ESMTP")
	loggedIn := s.password == ""
	var m message
	for {
		line, err := in.ReadString('\n')
		if err != nil {
			return
		}
		line = strings.TrimRight(line, "\r\n")
		command, rest, _ := strings.Cut(line, " ")
		command = strings.ToUpper(command)
		s.mu.Lock()
		reply, hangUp := s.reply[command], s.hangUp
		s.mu.Unlock()
		if hangUp == command {
			return
		}
		if reply != "" {
			say(reply)
			continue
		}
		switch command {
		case "EHLO":
			say("250-mail.example.com")
			if s.startTLS && !encrypted {
				say("250-STARTTLS")
			}
			if s.password != "" && encrypted {
				say("250-AUTH PLAIN LOGIN")
			}
			say("250-8BITMIME")
			say("250 SMTPUTF8")
		case "STARTTLS":
			say("220 go ahead")
			c, encrypted = tls.Server(c, s.cert), true
			in = bufio.NewReader(c)
		case "AUTH":
			_, secret, _ := strings.Cut(rest, " ")
			b, _ := base64.StdEncoding.DecodeString(secret)
			if loggedIn = string(b) == "\x00watch\x00"+s.password; loggedIn {
				say("235 welcome")
			} else {
				say("535 5.7.8 no")
			}
		case "MAIL":
			if !loggedIn {
				say("530 5.7.0 log in first")
				continue
			}
			m = message{from: rest, encrypted: encrypted}
			say("250 ok")
		case "RCPT":
			if s.unknown != "" && strings.Contains(rest, s.unknown) {
				say("550 5.1.1 nobody of that name")
				continue
			}
			m.to = append(m.to, rest)
			say("250 ok")
		case "DATA":
			say("354 go ahead")
			var raw bytes.Buffer
			for {
				l, err := in.ReadString('\n')
				if err != nil {
					return
				}
				if l == ".\r\n" {
					break
				}
				raw.WriteString(strings.TrimPrefix(l, "."))
			}
			m.raw = raw.String()
			s.mu.Lock()
			taken := m
			s.parse(&taken)
			end, reply := s.hangUp == ".", s.reply["."]
			if reply == "" {
				s.taken = append(s.taken, &taken)
			}
			s.mu.Unlock()
			if end {
				return
			}
			if reply == "" {
				reply = "250 taken"
			}
			say(reply)
		case "QUIT":
			say("221 bye")
			return
		default:
			say("250 ok")
		}
	}
}

// parse takes a message apart as mail programs do.
func (s *server) parse(m *message) {
	p, err := mail.ReadMessage(strings.NewReader(m.raw))
	if err != nil {
		s.t.Errorf("no mail: %v\n%s", err, m.raw)
		return
	}
	m.header = p.Header
	s.part(m, p.Header.Get("Content-Type"), p.Header.Get("Content-Transfer-Encoding"), p.Body)
}

func (s *server) part(m *message, contentType, encoding string, body io.Reader) {
	kind, params, err := mime.ParseMediaType(contentType)
	if err != nil {
		s.t.Errorf("content type %q: %v", contentType, err)
		return
	}
	if strings.HasPrefix(kind, "multipart/") {
		r := multipart.NewReader(body, params["boundary"])
		for {
			p, err := r.NextRawPart()
			if err != nil {
				return
			}
			s.part(m, p.Header.Get("Content-Type"), p.Header.Get("Content-Transfer-Encoding"), p)
		}
	}
	switch encoding {
	case "quoted-printable":
		body = quotedprintable.NewReader(body)
	case "base64":
		body = base64.NewDecoder(base64.StdEncoding, body)
	}
	b, err := io.ReadAll(body)
	if err != nil {
		s.t.Errorf("%s: %v", kind, err)
	}
	switch kind {
	case "text/plain":
		m.text = strings.ReplaceAll(string(b), "\r\n", "\n")
	case "text/html":
		m.html = string(b)
	case "image/png":
		m.picture = b
	default:
		s.t.Errorf("a part of kind %s", kind)
	}
}

func (s *server) messages() []*message {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.taken
}

func (s *server) set(f func()) {
	s.mu.Lock()
	defer s.mu.Unlock()
	f()
}

func (m *message) subject() string {
	v, err := new(mime.WordDecoder).DecodeHeader(m.header.Get("Subject"))
	if err != nil {
		return fmt.Sprint(err)
	}
	return v
}
