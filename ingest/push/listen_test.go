package push

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"log/slog"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"testing"
	"time"
)

// writeCert writes a certificate of 127.0.0.1 with that serial number.
func writeCert(t *testing.T, files TLS, serial int64) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	tmpl := &x509.Certificate{
		SerialNumber: big.NewInt(serial), NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
		IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)},
	}
	der, err := x509.CreateCertificate(rand.Reader, tmpl, tmpl, &key.PublicKey, key)
	if err != nil {
		t.Fatal(err)
	}
	pkcs8, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	for name, block := range map[string]*pem.Block{files.Cert: {Type: "CERTIFICATE", Bytes: der}, files.Key: {Type: "PRIVATE KEY", Bytes: pkcs8}} {
		if err := os.WriteFile(name, pem.EncodeToMemory(block), 0o600); err != nil {
			t.Fatal(err)
		}
		at := time.Unix(1_700_000_000+serial, 0) // file systems may be coarse
		if err := os.Chtimes(name, at, at); err != nil {
			t.Fatal(err)
		}
	}
}

// TestTLS: senders see the certificate, and a renewed one without a restart; a broken
// one changes nothing, and without any the listener does not open.
func TestTLS(t *testing.T) {
	dir := t.TempDir()
	l := Listen{Address: "127.0.0.1:0", TLS: TLS{Cert: filepath.Join(dir, "cert.pem"), Key: filepath.Join(dir, "key.pem")}}
	log := slog.New(slog.DiscardHandler)
	if _, err := l.Open(t.Context(), log); err == nil {
		t.Fatal("it listens without a certificate")
	}
	if l.Check() == nil {
		t.Error("a certificate that is not there passes")
	}
	writeCert(t, l.TLS, 1)
	if err := l.Check(); err != nil {
		t.Error(err)
	}
	cert := &certificate{files: l.TLS, log: log}
	if err := cert.load(); err != nil {
		t.Fatal(err)
	}
	serial := func() int64 {
		t.Helper()
		c, err := cert.get(nil)
		if err != nil {
			t.Fatal(err)
		}
		return c.Leaf.SerialNumber.Int64()
	}
	expect := func(what string, want int64) {
		t.Helper()
		cert.lookedAt = time.Time{} // the last look was long ago
		if got := serial(); got != want {
			t.Errorf("%s: certificate %d, want %d", what, got, want)
		}
	}
	expect("at first", 1)
	writeCert(t, l.TLS, 2)
	if serial() != 1 {
		t.Error("the files are looked at for every connection")
	}
	expect("renewed", 2)
	if err := os.WriteFile(l.TLS.Cert, []byte("half a"), 0o600); err != nil {
		t.Fatal(err)
	}
	expect("broken", 2)
	if err := os.Remove(l.TLS.Cert); err != nil {
		t.Fatal(err)
	}
	expect("gone", 2)
	writeCert(t, l.TLS, 3)
	expect("mended", 3)

	ln, err := l.Open(t.Context(), log)
	if err != nil {
		t.Fatal(err)
	}
	b := startOn(t, ln, usualPace, edge(t))
	conn, err := (&tls.Dialer{Config: &tls.Config{InsecureSkipVerify: true, NextProtos: []string{"h2", "http/1.1"}}}).DialContext(t.Context(), "tcp", b.addr) // what it shows is looked at below
	if err != nil {
		t.Fatal(err)
	}
	st := conn.(*tls.Conn).ConnectionState()
	if st.PeerCertificates[0].SerialNumber.Int64() != 3 || st.NegotiatedProtocol != "http/1.1" {
		t.Errorf("certificate %v, protocol %q", st.PeerCertificates[0].SerialNumber, st.NegotiatedProtocol)
	}
	_ = conn.Close()
	pool := x509.NewCertPool()
	pool.AddCert(st.PeerCertificates[0])
	b.transport.TLSClientConfig = &tls.Config{RootCAs: pool, MinVersion: tls.VersionTLS12}
	b.url = "https" + b.url[len("http"):]
	if a := b.post("edge", []byte("a\n")); a.status != 200 || a.Lines != 1 {
		t.Errorf("%+v", a)
	}
}
