package geo

import (
	"bytes"
	"log/slog"
	"math/rand/v2"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"github.com/maxmind/mmdbwriter"
	"github.com/maxmind/mmdbwriter/mmdbtype"
)

// network is one entry of a database to build.
type network struct {
	prefix string
	record mmdbtype.DataType
}

// country is a record in MaxMind's layout.
func country(code string) mmdbtype.DataType {
	return mmdbtype.Map{
		"city":      mmdbtype.Map{"names": mmdbtype.Map{"en": mmdbtype.String("Somewhere")}},
		"continent": mmdbtype.Map{"code": mmdbtype.String("EU")},
		"country": mmdbtype.Map{
			"geoname_id": mmdbtype.Uint32(4711),
			"iso_code":   mmdbtype.String(code),
			"names":      mmdbtype.Map{"en": mmdbtype.String("Country " + code)},
		},
		"registered_country": mmdbtype.Map{"iso_code": mmdbtype.String("QQ")},
	}
}

// build writes a database into memory.
func build(t testing.TB, opts mmdbwriter.Options, networks ...network) []byte {
	t.Helper()
	if opts.DatabaseType == "" {
		opts.DatabaseType = "Test-Country"
	}
	opts.Description = map[string]string{"en": "test"}
	opts.IncludeReservedNetworks = true
	opts.BuildEpoch = 1_700_000_000
	tree, err := mmdbwriter.New(opts)
	if err != nil {
		t.Fatal(err)
	}
	for _, n := range networks {
		p := netip.MustParsePrefix(n.prefix)
		ipnet := &net.IPNet{IP: p.Addr().AsSlice(), Mask: net.CIDRMask(p.Bits(), p.Addr().BitLen())}
		if err := tree.Insert(ipnet, n.record); err != nil {
			t.Fatalf("%s: %v", n.prefix, err)
		}
	}
	var out bytes.Buffer
	if _, err := tree.WriteTo(&out); err != nil {
		t.Fatal(err)
	}
	return out.Bytes()
}

// epoch is when a test's files were written last; each write is later.
var epoch = time.Unix(1_700_000_000, 0)

// put replaces the file at path by another one.
func put(t testing.TB, path string, raw []byte, version int) {
	t.Helper()
	tmp := filepath.Join(filepath.Dir(path), "new")
	if err := os.WriteFile(tmp, raw, 0o600); err != nil {
		t.Fatal(err)
	}
	when := epoch.Add(time.Duration(version) * time.Second)
	if err := os.Chtimes(tmp, when, when); err != nil {
		t.Fatal(err)
	}
	if err := os.Rename(tmp, path); err != nil {
		t.Fatal(err)
	}
}

func openBytes(t testing.TB, raw []byte) (*DB, error) {
	t.Helper()
	path := filepath.Join(t.TempDir(), "test.mmdb")
	put(t, path, raw, 0)
	return Open(path, slog.New(slog.DiscardHandler))
}

func mustOpen(t testing.TB, raw []byte) *DB {
	t.Helper()
	db, err := openBytes(t, raw)
	if err != nil {
		t.Fatal(err)
	}
	return db
}

// randomNetworks mixes lengths: many networks of the usual size, some that are
// divided to the last bit, and nested ones.
func randomNetworks(r *rand.Rand, n int, v6 bool) []network {
	codes := []string{"DE", "BR", "US", "IN", "JP", "FR", "ZA", "XK"}
	var bases4, bases6 []netip.Addr
	for range 8 {
		bases4 = append(bases4, random4(r))
		bases6 = append(bases6, random6(r))
	}
	var out []network
	for range n {
		var a netip.Addr
		var bits int
		if v6 && r.IntN(2) == 0 {
			a, bits = random6(r), 3+r.IntN(126)
			if r.IntN(2) == 0 { // near another one
				a, bits = near(r, bases6[r.IntN(len(bases6))], 40), 40+r.IntN(89)
			}
			// Elsewhere are the places where the writer repeats the IPv4 networks.
			b := a.As16()
			b[0] = 0x24 | b[0]&0x0b
			a = netip.AddrFrom16(b)
		} else {
			a, bits = random4(r), 4+r.IntN(29)
			if r.IntN(2) == 0 {
				a, bits = near(r, bases4[r.IntN(len(bases4))], 16), 16+r.IntN(17)
			}
		}
		record := country(codes[r.IntN(len(codes))])
		if r.IntN(10) == 0 {
			record = mmdbtype.Map{"registered_country": mmdbtype.Map{"iso_code": mmdbtype.String("QQ")}}
		}
		out = append(out, network{netip.PrefixFrom(a, bits).Masked().String(), record})
	}
	// The writer lets a wide network replace the narrow ones in it.
	slices.SortStableFunc(out, func(a, b network) int {
		return netip.MustParsePrefix(a.prefix).Bits() - netip.MustParsePrefix(b.prefix).Bits()
	})
	return out
}

func random4(r *rand.Rand) netip.Addr {
	v := r.Uint32()
	return netip.AddrFrom4([4]byte{byte(v >> 24), byte(v >> 16), byte(v >> 8), byte(v)})
}

func random6(r *rand.Rand) netip.Addr {
	var b [16]byte
	for i := range b {
		b[i] = byte(r.Uint32())
	}
	return netip.AddrFrom16(b)
}

// near keeps the first bits of an address and throws the others anew.
func near(r *rand.Rand, a netip.Addr, bits int) netip.Addr {
	b := a.AsSlice()
	for i := bits; i < len(b)*8; i++ {
		mask := byte(1) << (7 - i%8)
		b[i/8] &^= mask
		if r.IntN(2) == 0 {
			b[i/8] |= mask
		}
	}
	a, _ = netip.AddrFromSlice(b)
	return a
}
