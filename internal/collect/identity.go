package collect

import (
	"bytes"
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"

	crand "crypto/rand"

	"github.com/dchest/siphash"

	"github.com/denywatch/denywatch/internal/event"
	"github.com/denywatch/denywatch/internal/state"
)

// IdentityKey is the secret under which users, accounts and addresses are
// hashed. Without it a hash can neither be made nor guessed back.
type IdentityKey struct{ k0, k1 uint64 }

// keyFile is the key's file in the state folder.
const keyFile = "identity.key"

// LoadIdentityKey reads the key kept in the state folder dir, or makes one (mode
// 0600) if there is none yet.
func LoadIdentityKey(dir string) (IdentityKey, error) {
	path := filepath.Join(dir, keyFile)
	b, err := os.ReadFile(path)
	if errors.Is(err, os.ErrNotExist) {
		b = make([]byte, 16)
		if _, err := crand.Read(b); err != nil {
			return IdentityKey{}, err
		}
		if err := state.WriteFile(path, b, 0o600); err != nil {
			return IdentityKey{}, fmt.Errorf("identity key cannot be written: %w", err)
		}
	} else if err != nil {
		return IdentityKey{}, fmt.Errorf("identity key cannot be read: %w", err)
	}
	if len(b) != 16 {
		return IdentityKey{}, fmt.Errorf("%s holds %d bytes instead of 16: restore it, or remove it and accept that identities seen so far count as new", path, len(b))
	}
	return IdentityKey{binary.LittleEndian.Uint64(b), binary.LittleEndian.Uint64(b[8:])}, nil
}

// SharedIdentityKey is the key that a secret stands for, for all who know it.
func SharedIdentityKey(secret string) IdentityKey {
	h := sha256.Sum256([]byte("denywatch identity key\x00" + secret))
	return IdentityKey{binary.LittleEndian.Uint64(h[:]), binary.LittleEndian.Uint64(h[8:])}
}

// Fingerprint tells keys apart and nothing of the key.
func (k IdentityKey) Fingerprint() string {
	h := sha256.Sum256(fmt.Appendf(nil, "denywatch fingerprint\x00%016x%016x", k.k0, k.k1))
	return hex.EncodeToString(h[:8])
}

// ReadIdentityKey reads the key kept in the state folder dir and makes none.
func ReadIdentityKey(dir string) (IdentityKey, error) {
	path := filepath.Join(dir, keyFile)
	if _, err := os.Stat(path); err != nil {
		return IdentityKey{}, fmt.Errorf("identity key cannot be read: %w", err)
	}
	return LoadIdentityKey(dir)
}

// Person returns the hash that a person is counted under of whom a log says no more
// than this: a user, else an account and a client's address, else the address alone.
func (k IdentityKey) Person(user, account, client string) uint64 {
	var scratch []byte
	id, _, _ := k.identity(&event.Event{User: []byte(user), Account: []byte(account), Client: []byte(client)}, true, &scratch)
	return id
}

// FixedIdentityKey is the key of replays, so that they can be compared.
func FixedIdentityKey() IdentityKey {
	r := rand.New(rand.NewPCG(403, 451))
	return IdentityKey{r.Uint64(), r.Uint64()}
}

// Hash returns the keyed hash of b, never 0. SipHash-2-4 is a pseudo-random
// function: hashes of addresses cannot be reversed by trying all of them.
func (k IdentityKey) Hash(b []byte) uint64 {
	return siphash.Hash(k.k0, k.k1, b) | 1<<63
}

// identity returns the hashes of who made the request: the user, else account
// and client, else the client; and of the account. named is false when only an
// address is known.
func (k IdentityKey) identity(e *event.Event, trustUser bool, scratch *[]byte) (id, account uint64, named bool) {
	if len(e.Account) > 0 {
		account = k.Hash(e.Account)
	}
	switch {
	case len(e.User) > 0 && (trustUser || !e.UserClaimed):
		return k.Hash(e.User), account, true
	case len(e.Account) > 0:
		b := append((*scratch)[:0], e.Account...)
		b = append(b, 0)
		b = append(b, host(e.Client)...)
		*scratch = b
		return k.Hash(b), account, true
	}
	return k.Hash(host(e.Client)), account, false
}

var mapped = []byte("::ffff:")

// host cuts the port off an address, and the prefix off an IPv4 address that is
// written as IPv6, so that one client is one identity.
func host(a []byte) []byte {
	if len(a) == 0 {
		return a
	}
	if a[0] == '[' {
		if i := bytes.IndexByte(a, ']'); i > 0 {
			return a[1:i]
		}
		return a
	}
	if len(a) > len(mapped) && a[0] == ':' && bytes.EqualFold(a[:len(mapped)], mapped) {
		a = a[len(mapped):]
	}
	i := bytes.IndexByte(a, ':')
	if i < 0 || bytes.IndexByte(a[i+1:], ':') >= 0 || a[i+1:] == nil {
		return a
	}
	if d := a[:i]; len(d) > 0 && d[0] >= '0' && d[0] <= '9' {
		return d
	}
	return a
}
