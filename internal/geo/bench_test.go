package geo

import (
	"bytes"
	"context"
	"fmt"
	"math/rand/v2"
	"net"
	"net/netip"
	"sync"
	"testing"

	"github.com/maxmind/mmdbwriter"
	"github.com/maxmind/mmdbwriter/mmdbtype"
	"github.com/oschwald/maxminddb-golang/v2"
)

// byCode lets the writer find equal records by their country, which is much
// faster than its own way.
type byCode struct{}

func (byCode) Key(v mmdbtype.DataType) ([]byte, error) {
	return []byte(v.(mmdbtype.Map)["country"].(mmdbtype.Map)["iso_code"].(mmdbtype.String)), nil
}

// world is a database of about the size and shape of GeoLite2-Country: some
// 400,000 networks of IPv4 and as many of IPv6, dealt out to 250 countries in
// blocks the size of allocations, and then handed on in smaller ones.
var world = sync.OnceValue(func() []byte {
	r := rand.New(rand.NewPCG(8, 403))
	tree, err := mmdbwriter.New(mmdbwriter.Options{
		DatabaseType: "Test-Country", Description: map[string]string{"en": "test"}, RecordSize: 24,
		IncludeReservedNetworks: true, KeyGenerator: byCode{},
	})
	if err != nil {
		panic(err)
	}
	var codes []mmdbtype.DataType
	for i := range 250 {
		codes = append(codes, country(fmt.Sprintf("%c%c", 'A'+i/26, 'A'+i%26)))
	}
	insert := func(a netip.Addr, bits int, code mmdbtype.DataType) {
		p := netip.PrefixFrom(a, bits).Masked()
		if err := tree.Insert(&net.IPNet{IP: p.Addr().AsSlice(), Mask: net.CIDRMask(bits, a.BitLen())}, code); err != nil {
			panic(err)
		}
	}
	pick := func() mmdbtype.DataType { return codes[int(float64(len(codes))*r.Float64()*r.Float64()*r.Float64())] }
	for range 20_000 {
		insert(random4(r), 12+r.IntN(9), pick())
	}
	var busy4, busy6 []netip.Addr
	for range 4000 { // where networks are handed on, most of them near others
		busy4 = append(busy4, random4(r))
	}
	for i := range 250_000 {
		insert(near(r, busy4[i%len(busy4)], 16), 20+min(r.IntN(10), 8+r.IntN(5)), pick())
	}
	// The registries' blocks: a few /12, of which most is empty.
	blocks := []string{"2400::", "2600::", "2800::", "2a00::", "2a00::", "2a00::", "2c00::"}
	for range 50_000 {
		a := near(r, netip.MustParseAddr(blocks[r.IntN(len(blocks))]), 13)
		busy6 = append(busy6, a)
		insert(a, 29+r.IntN(4), pick())
	}
	for i := range 150_000 {
		insert(near(r, busy6[i%len(busy6)], 32), 40+r.IntN(9), pick())
	}
	var out bytes.Buffer
	if _, err := tree.WriteTo(&out); err != nil {
		panic(err)
	}
	return out.Bytes()
})

func BenchmarkLoad(b *testing.B) {
	raw := world()
	b.SetBytes(int64(len(raw)))
	b.ReportAllocs()
	for b.Loop() {
		if _, err := load(context.Background(), raw); err != nil {
			b.Fatal(err)
		}
	}
}

// clients are 65,536 addresses that the database knows, in no order.
func clients(r *rand.Rand, v6 bool) []netip.Addr {
	ref, err := maxminddb.OpenBytes(world())
	if err != nil {
		panic(err)
	}
	var all []netip.Addr
	for n := range ref.Networks() {
		if p := n.Prefix(); p.Addr().Is6() == v6 {
			all = append(all, near(r, p.Addr(), p.Bits()))
		}
	}
	out := make([]netip.Addr, 1<<16)
	for i := range out {
		out[i] = all[r.IntN(len(all))]
	}
	return out
}

func BenchmarkCountry(b *testing.B) {
	tab, err := load(context.Background(), world())
	if err != nil {
		b.Fatal(err)
	}
	db := &DB{}
	db.now.Store(tab)
	b.Logf("file %d KiB, %d + %d runs, tables %d KiB", len(world())>>10, len(tab.v4.runs), len(tab.v6.high.runs), db.Info().Bytes>>10)
	r := rand.New(rand.NewPCG(1, 1))
	for _, v := range []struct {
		name string
		v6   bool
	}{{"v4", false}, {"v6", true}} {
		addrs := clients(r, v.v6)
		texts := make([][]byte, len(addrs))
		for i, a := range addrs {
			texts[i] = []byte(a.String())
		}
		b.Run(v.name+"/text", func(b *testing.B) {
			b.ReportAllocs()
			i := 0
			for b.Loop() {
				db.Country(texts[i&0xffff])
				i++
			}
		})
		b.Run(v.name+"/parse", func(b *testing.B) {
			i := 0
			for b.Loop() {
				parse(texts[i&0xffff])
				i++
			}
		})
		b.Run(v.name+"/addr", func(b *testing.B) {
			i := 0
			for b.Loop() {
				db.CountryOf(addrs[i&0xffff])
				i++
			}
		})
		b.Run(v.name+"/reader", func(b *testing.B) {
			ref, err := maxminddb.OpenBytes(world())
			if err != nil {
				b.Fatal(err)
			}
			i := 0
			for b.Loop() {
				var code string
				if err := ref.Lookup(addrs[i&0xffff]).DecodePath(&code, "country", "iso_code"); err != nil {
					b.Fatal(err)
				}
				i++
			}
		})
	}
}
