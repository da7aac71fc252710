package geo

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"math/rand/v2"
	"net/netip"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/maxmind/mmdbwriter"
	"github.com/maxmind/mmdbwriter/mmdbtype"
	"github.com/oschwald/maxminddb-golang/v2"
	"pgregory.net/rapid"
)

func TestCountry(t *testing.T) {
	db := mustOpen(t, build(t, mmdbwriter.Options{},
		network{"192.0.2.0/24", country("DE")},
		network{"192.0.2.77/32", country("br")},
		network{"2001:db8::/32", country("JP")},
		network{"2001:db8:1:2:3::/80", country("XK")},
		network{"2001:db8:1:2:3:4:5:6/128", country("T1")},
		network{"198.51.100.0/24", mmdbtype.Map{"registered_country": mmdbtype.Map{"iso_code": mmdbtype.String("AU")}}},
		network{"203.0.113.0/26", country("Germany")},
		network{"203.0.113.64/26", mmdbtype.Map{"country": mmdbtype.Map{"iso_code": mmdbtype.Uint32(49)}}},
		network{"203.0.113.128/26", mmdbtype.String("DE")},
	))
	for _, c := range []struct{ client, want string }{
		{"192.0.2.1", "DE"},
		{"192.0.2.76", "DE"},
		{"192.0.2.77", "BR"}, // exact to one address, in upper case
		{"192.0.2.78", "DE"},
		{"192.0.3.0", ""},
		{"192.0.2.1:4711", "DE"},
		{"::ffff:192.0.2.77", "BR"},
		{"[::ffff:c000:24d]:443", "BR"},
		{"::192.0.2.77", "BR"},      // where the format keeps IPv4
		{"2002:c000:24d::1", "BR"},  // 6to4
		{"2001:0:c000:24d::", "BR"}, // Teredo
		{"2001:db8:ffff::1", "JP"},  // IPv6
		{"2001:DB8:1:2::1", "JP"},   // in a divided /64
		{"2001:db8:1:2:3::1", "XK"}, //
		{"2001:db8:1:2:4::1", "JP"}, //
		{"2001:db8:1:3::", "JP"},    // behind it
		{"2001:db8:1:2:3:4:5:6", "T1"},
		{"2001:db8:1:2:3:4:5:7", "XK"},
		{"[2001:db8::1]", "JP"},
		{"[2001:db8::1]:80", "JP"},
		{"2001:db8::1%eth0", "JP"},
		{"2001:db9::", ""},
		{"198.51.100.1", ""}, // registered is not located
		{"203.0.113.1", ""},  // no code
		{"203.0.113.65", ""},
		{"203.0.113.129", ""},
		{"ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff", ""},
		{"255.255.255.255", ""},
		{"", ""}, {"-", ""}, {"unix:", ""}, {"localhost", ""},
		{"192.0.2.1, 192.0.2.2", ""},
	} {
		if got := db.Country([]byte(c.client)); got != c.want {
			t.Errorf("Country(%q) = %q, want %q", c.client, got, c.want)
		}
		if a, ok := Parse([]byte(c.client)); db.CountryOf(a) != c.want {
			t.Errorf("CountryOf(%v, %v) = %q, want %q", a, ok, db.CountryOf(a), c.want)
		}
	}
	info := db.Info()
	if info.Type != "Test-Country" || info.Built.Unix() != 1_700_000_000 || info.Countries != 5 || info.Err != nil {
		t.Errorf("Info() = %+v", info)
	}
}

// Layouts of other makers, and databases that hold no country at all.
func TestLayouts(t *testing.T) {
	str := func(kv ...string) mmdbtype.Map {
		m := mmdbtype.Map{}
		for i := 0; i < len(kv); i += 2 {
			m[mmdbtype.String(kv[i])] = mmdbtype.String(kv[i+1])
		}
		return m
	}
	for _, c := range []struct {
		name, kind string
		record     mmdbtype.DataType
		want       string // empty: refused
	}{
		{"city", "GeoLite2-City", country("FR"), "FR"},
		{"enterprise", "GeoIP2-Enterprise", country("FR"), "FR"},
		{"name and code", "ipinfo lite", str("asn", "AS64500", "country", "France", "country_code", "FR"), "FR"},
		{"name of two letters", "ipinfo lite", str("country", "UK", "country_code", "GB"), "GB"},
		{"code as country", "ipinfo country", str("country", "FR", "country_name", "France"), "FR"},
		{"anonymous", "GeoIP2-Anonymous-IP", mmdbtype.Map{"is_anonymous": mmdbtype.Bool(true)}, ""},
		{"asn", "GeoLite2-ASN", mmdbtype.Map{"autonomous_system_number": mmdbtype.Uint32(64500)}, ""},
		{"registered only", "GeoIP2-ISP", mmdbtype.Map{"registered_country": str("iso_code", "FR")}, ""},
	} {
		for _, size := range []int{24, 28, 32} {
			t.Run(fmt.Sprintf("%s/%d", c.name, size), func(t *testing.T) {
				db, err := openBytes(t, build(t, mmdbwriter.Options{DatabaseType: c.kind, RecordSize: size}, network{"192.0.2.0/24", c.record}))
				if c.want == "" {
					if err == nil || !strings.Contains(err.Error(), c.kind) || !strings.Contains(err.Error(), "Country, City or Enterprise") {
						t.Fatalf("error %v", err)
					}
					return
				}
				if err != nil {
					t.Fatal(err)
				}
				if got := db.Country([]byte("192.0.2.1")); got != c.want {
					t.Errorf("%q, want %q", got, c.want)
				}
			})
		}
	}
}

// Every address gets the answer that the reader library finds in the file.
func TestSameAsReader(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		r := rand.New(rand.NewPCG(rapid.Uint64().Draw(rt, "seed"), 1))
		opts := mmdbwriter.Options{
			RecordSize: rapid.SampledFrom([]int{24, 28, 32}).Draw(rt, "record size"),
			IPVersion:  rapid.SampledFrom([]int{4, 6}).Draw(rt, "version"),
		}
		networks := randomNetworks(r, rapid.IntRange(1, 120).Draw(rt, "networks"), opts.IPVersion == 6)
		networks = append(networks, network{"100.64.0.0/32", country("DE")})
		compare(rt, r, build(t, opts, networks...), networks)
	})
}

// Most of a real database lies close together: one /16 of IPv4 and one /32 of
// IPv6 with thousands of networks fill the deepest parts of the tables.
func TestSameAsReaderDense(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 2))
	var networks []network
	for i := range 5_000 {
		code := []string{"DE", "FR", "IT"}[r.IntN(3)]
		a4 := near(r, netip.MustParseAddr("10.11.0.0"), 16)
		a6 := near(r, netip.MustParseAddr("2a02:db8::"), 32)
		if i%2 == 0 {
			a6 = near(r, netip.MustParseAddr("2a02:db8:1:2::"), 64)
		}
		networks = append(networks,
			network{netip.PrefixFrom(a4, 20+r.IntN(13)).Masked().String(), country(code)},
			network{netip.PrefixFrom(a6, 44+r.IntN(85)).Masked().String(), country(code)})
	}
	slices.SortStableFunc(networks, func(a, b network) int {
		return netip.MustParsePrefix(a.prefix).Bits() - netip.MustParsePrefix(b.prefix).Bits()
	})
	compare(t, r, build(t, mmdbwriter.Options{}, networks...), networks)
}

func compare(t rapid.TB, r *rand.Rand, raw []byte, networks []network) {
	ref, err := maxminddb.OpenBytes(raw)
	if err != nil {
		t.Fatal(err)
	}
	tab, err := load(context.Background(), raw)
	if err != nil {
		t.Fatal(err)
	}
	db := &DB{}
	db.now.Store(tab)
	check := func(a netip.Addr) {
		var want string
		if err := ref.Lookup(a).DecodePath(&want, "country", "iso_code"); err != nil && !(ref.Metadata.IPVersion == 4 && a.Is6()) {
			t.Fatal(err)
		}
		if got := db.CountryOf(a); got != want {
			t.Fatalf("CountryOf(%v) = %q, the reader says %q", a, got, want)
		}
		if got := db.Country([]byte(a.String())); got != want {
			t.Fatalf("Country(%v) = %q, the reader says %q", a, got, want)
		}
	}
	for _, n := range networks {
		p := netip.MustParsePrefix(n.prefix)
		first := p.Addr()
		last := first.AsSlice()
		for i := p.Bits(); i < len(last)*8; i++ {
			last[i/8] |= 1 << (7 - i%8)
		}
		end, _ := netip.AddrFromSlice(last)
		for _, a := range []netip.Addr{first, first.Prev(), end, end.Next(), near(r, first, p.Bits())} {
			if !a.IsValid() {
				continue
			}
			check(a)
			if a.Is4() && ref.Metadata.IPVersion == 6 {
				b := a.As4()
				check(netip.AddrFrom16([16]byte{12: b[0], 13: b[1], 14: b[2], 15: b[3]}))
				check(netip.AddrFrom16([16]byte{0x20, 0x02, b[0], b[1], b[2], b[3], 9: byte(r.Uint32())}))
				check(netip.AddrFrom16([16]byte{0x20, 0x01, 4: b[0], 5: b[1], 6: b[2], 7: b[3], 9: byte(r.Uint32())}))
			}
		}
	}
	for range 500 {
		check(random4(r))
		check(random6(r))
	}
}

// A file of a few hundred bytes can spell out networks without end.
func TestHostile(t *testing.T) {
	good := build(t, mmdbwriter.Options{RecordSize: 24}, network{"192.0.2.0/24", country("DE")}, network{"2a02:db8::/32", country("FR")})
	marker := bytes.LastIndex(good, []byte("\xab\xcd\xefMaxMind.com"))
	if marker < 0 {
		t.Fatal("the writer wrote no metadata")
	}
	nodes := func(n int, rec func(node int) (left, right int)) []byte {
		// The metadata say how many nodes there are; take as many.
		var out []byte
		for i := range n {
			l, r := rec(i)
			out = append(out, byte(l>>16), byte(l>>8), byte(l), byte(r>>16), byte(r>>8), byte(r))
		}
		return out
	}
	r, err := maxminddb.OpenBytes(good)
	if err != nil {
		t.Fatal(err)
	}
	n := int(r.Metadata.NodeCount)
	rest := good[n*6:]
	ladder := func(depth int) []byte { // both sides of each node are the next one
		return nodes(n, func(i int) (int, int) {
			if i < depth-1 {
				return i + 1, i + 1
			}
			return n, n
		})
	}
	for _, c := range []struct {
		name string
		tree []byte
		want error
	}{
		{"loop", nodes(n, func(int) (int, int) { return 0, 0 }), errTree},
		{"2^60 networks", ladder(60), errWork},
		{"2^96 repetitions of IPv4", ladder(100), errWork},
		{"2^128 networks", ladder(128), errWork},
		{"too deep", ladder(129), errTree},
		{"data outside", nodes(n, func(int) (int, int) { return 1<<24 - 1, 1<<24 - 1 }), errTree},
		{"data in the separator", nodes(n, func(int) (int, int) { return n + 3, n + 3 }), errTree},
	} {
		t.Run(c.name, func(t *testing.T) {
			if _, err := load(t.Context(), append(c.tree, rest...)); !errors.Is(err, c.want) {
				t.Errorf("error %v, want %v", err, c.want)
			}
		})
	}
	for name, raw := range map[string][]byte{
		"empty":      nil,
		"text":       []byte("<html>You are not logged in</html>"),
		"cut short":  good[:len(good)/2],
		"no tree":    good[marker:],
		"only tree":  good[:n*6],
		"data zeros": append(append([]byte(nil), good[:n*6+16]...), good[marker:]...),
	} {
		t.Run(name, func(t *testing.T) {
			if _, err := openBytes(t, raw); err == nil || !strings.Contains(err.Error(), "test.mmdb") {
				t.Errorf("error %v", err)
			}
		})
	}
	t.Run("folder", func(t *testing.T) {
		if _, err := Open(t.TempDir(), slog.New(slog.DiscardHandler)); err == nil || !strings.Contains(err.Error(), "regular file") {
			t.Errorf("error %v", err)
		}
	})
	t.Run("missing", func(t *testing.T) {
		if _, err := Open(filepath.Join(t.TempDir(), "x.mmdb"), slog.New(slog.DiscardHandler)); !errors.Is(err, fs.ErrNotExist) {
			t.Errorf("error %v", err)
		}
	})
}

func FuzzLoad(f *testing.F) {
	f.Add(build(f, mmdbwriter.Options{RecordSize: 24}, network{"192.0.2.0/24", country("DE")}))
	f.Add(build(f, mmdbwriter.Options{IPVersion: 4, RecordSize: 32}, network{"192.0.2.0/32", country("DE")}))
	f.Add(build(f, mmdbwriter.Options{RecordSize: 28}, network{"2a02::/128", country("DE")},
		network{"2a03::/128", mmdbtype.Map{"country": mmdbtype.String("FR"), "country_code": mmdbtype.String("FR"), "x": mmdbtype.Slice{mmdbtype.Bool(true)}}}))
	f.Fuzz(func(t *testing.T, raw []byte) {
		tab, err := load(t.Context(), raw)
		if err != nil {
			return
		}
		r := rand.New(rand.NewPCG(1, 1))
		ref, err := maxminddb.OpenBytes(raw)
		if err != nil {
			t.Fatal(err)
		}
		db := &DB{}
		db.now.Store(tab)
		for range 20 {
			for _, a := range []netip.Addr{random4(r), random6(r), netip.MustParseAddr("192.0.2.0"), netip.MustParseAddr("2a02::")} {
				got := db.CountryOf(a)
				if got != "" && ref.Metadata.IPVersion == 6 && !ref.Lookup(a).Found() {
					t.Fatalf("CountryOf(%v) = %q, but the file has no such network", a, got)
				}
			}
		}
	})
}

func TestNoAllocations(t *testing.T) {
	db := mustOpen(t, build(t, mmdbwriter.Options{}, network{"192.0.2.0/24", country("DE")}, network{"2001:db8:1:2:3::/80", country("FR")}))
	clients := [][]byte{[]byte("192.0.2.1"), []byte("[2001:db8:1:2:3::4]:443"), []byte("::ffff:192.0.2.1"), []byte("2002:c000:201::1"), []byte("unix:")}
	addr := netip.MustParseAddr("2001:db8:1:2:3::4")
	if n := testing.AllocsPerRun(100, func() {
		for _, c := range clients {
			db.Country(c)
			Parse(c)
		}
		db.CountryOf(addr)
	}); n != 0 {
		t.Errorf("%v allocations", n)
	}
}
