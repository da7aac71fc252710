package collect

import (
	"strings"
	"testing"
)

// TestSharedIdentityKey: whoever has the secret has the key, and its fingerprint says
// nothing else.
func TestSharedIdentityKey(t *testing.T) {
	secret := strings.Repeat("s", 32)
	a, b, c := SharedIdentityKey(secret), SharedIdentityKey(secret), SharedIdentityKey(secret+"t")
	if a != b || a.Hash([]byte("ann")) != b.Hash([]byte("ann")) || a.Hash([]byte("ann")) == c.Hash([]byte("ann")) {
		t.Error("keys")
	}
	if a.Fingerprint() != b.Fingerprint() || a.Fingerprint() == c.Fingerprint() || len(a.Fingerprint()) != 16 {
		t.Errorf("fingerprints %s %s %s", a.Fingerprint(), b.Fingerprint(), c.Fingerprint())
	}
}
