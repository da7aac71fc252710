package baseline

import (
	"math"
	"testing"

	"pgregory.net/rapid"

	"github.com/denywatch/denywatch/internal/wire"
)

func TestRateRoundTrip(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		p := rapid.Float64Range(2e-5, 1-2e-5).Draw(t, "p")
		if q := float64(RateOf(p).Share()); math.Abs(LogOdds(q)-LogOdds(p)) > 0.0079 {
			t.Fatalf("%v became %v", p, q)
		}
	})
	if RateOf(0) >= Rates || RateOf(1) >= Rates || RateOf(0.5).Shift(Steps(3)).Share() != RateOf(0.75).Share() {
		t.Fatal("bounds or odds are wrong")
	}
}

func TestShrink(t *testing.T) {
	for _, c := range []struct {
		k, n        float32
		prior, want float64
		off         float64
	}{
		{0, 0, 0.02, 0.02, 0},         // nothing known: the level above
		{970, 1000, 0.02, 0.95, 0.03}, // own evidence wins
		{20, 1000, 0.02, 0.02, 1e-9},
		{0, 1000, 0.0005, 0.00025, 1e-9}, // a thousand clean requests are half a denial's worth
		{0, 1000, 0.02, 0.0004, 1e-4},
		{1000, 1000, 0.97, 0.9994, 1e-4}, // and the same from the other end
	} {
		if got := Shrink(c.k, c.n, c.prior); math.Abs(got-c.want) > c.off {
			t.Errorf("%v of %v under %v: %v, want %v", c.k, c.n, c.prior, got, c.want)
		}
	}
}

// TestOwn: a closed door among open ones is not taken for half closed, nor an open one among
// closed ones; where a rate is near that of the level above, it is Shrink.
func TestOwn(t *testing.T) {
	for _, c := range []struct {
		k, n        float32
		prior, want float64
		off         float64
	}{
		{0, 0, 0.02, 0.02, 0},
		{25, 28, 0.15, 0.88, 0.01}, // Shrink says 0.58
		{1, 28, 0.7, 0.06, 0.02},   // and 0.31 here
		{3, 20, 0.1, Shrink(3, 20, 0.1), 0.002},
		{1, 1, 0.02, Shrink(1, 1, 0.02), 0.03}, // once proves nothing
		{1, 10, 0.02, Shrink(1, 10, 0.02), 0.02},
		{4, 4, 0.02, 0.88, 0.03}, // four times does
		{970, 1000, 0.02, 0.97, 0.001},
		{0, 1000, 0.0005, 0.00025, 1e-5},
	} {
		if got := Own(c.k, c.n, c.prior); math.Abs(got-c.want) > c.off {
			t.Errorf("%v of %v under %v: %v, want %v", c.k, c.n, c.prior, got, c.want)
		}
	}
}

// TestLag: what happened teaches after one to two periods, not before.
func TestLag(t *testing.T) {
	var c Cell
	c.Learn(5, 10, 2)
	c.Turn(1, true)
	if c.N != 0 {
		t.Fatal("learned at once")
	}
	c.Turn(1, true)
	if c.K != 5 || c.N != 10 || c.U != 2 || c.M != 10 {
		t.Fatal("not learned")
	}
	// Refusals of known people teach only once it is known who is known.
	c.Learn(5, 10, 3)
	c.Turn(1, false)
	c.Turn(1, false)
	if c.N != 20 || c.U != 2 || c.M != 10 {
		t.Fatalf("%+v", c)
	}
	if d := c.Clean(); d.N != 20 || d.M != 10 || d.K != 0 || d.U != 0 {
		t.Fatalf("%+v", d)
	}
	if d := Discount(HalfLife); d != 0.5 {
		t.Fatalf("half-life %v", d)
	}
}

// TestEpochs: during a hold nothing is learned; after it the old counts are a
// prior that does not outweigh the new ones, and hardly any when they disagree.
func TestEpochs(t *testing.T) {
	end := func(k, n float32) *Cell {
		c := &Cell{K: 200, N: 1000}
		c.Freeze(100, 7300)
		c.Learn(k, n, 0)
		c.Turn(1, true)
		if c.N != 1000 || c.Ends(7299) || !c.Ends(7300) {
			t.Fatalf("not held: %+v", c)
		}
		var e Epoch
		e.Add(c)
		c.Begin(e.Keep(), true)
		return c
	}
	if c := end(60, 300); c.N != 600 {
		t.Errorf("same rate: the new 300 and as many old ones, not %v", c.N)
	}
	if c := end(30, 300); c.N != 320 || math.Abs(float64(c.K/c.N)-0.106) > 0.001 {
		t.Errorf("half the rate: %v of %v", c.K, c.N)
	}
	if c := end(0, 2); c.N != 22 {
		t.Errorf("hardly any new requests: %v", c.N)
	}
	// One refusal where none of many is known is no other rate.
	e := Epoch{oldN: 4439, newK: 1, newN: 846}
	if keep := e.Keep(); math.Abs(float64(keep)-846.0/4439) > 1e-4 {
		t.Errorf("one refusal: %v is kept", keep)
	}
	c := &Cell{}
	for at := int64(0); at < 10*3600; at += 3600 { // a release every hour
		c.Freeze(at, at+7200)
	}
	if !c.Ends(MaxHold) {
		t.Error("releases can freeze a baseline for ever")
	}
}

func TestThreshold(t *testing.T) {
	h := Threshold(4074, 1, 60)
	if math.Abs(h-15.8) > 0.2 {
		t.Errorf("4074 series: %v", h)
	}
	if Threshold(4074, 10, 60) >= h || Threshold(10, 1, 60) >= h || Threshold(4074, 1, 10) <= h {
		t.Error("the threshold does not follow its budget")
	}
}

// TestEvidence: a wall is seen soon, a steady rate never, a fall on the other side.
func TestEvidence(t *testing.T) {
	sc := Scale{Phi: 1, N: 1e6}
	r := RateOf(0.1)
	run := func(x float32, slots int) (up, down int) {
		var e Evidence
		s := Part(100, x, r)
		for i := range slots {
			u, d := e.Add(&s, uint16(i), 12, &sc, false)
			if u && up == 0 {
				up = i + 1
			}
			if d && down == 0 {
				down = i + 1
			}
		}
		return up, down
	}
	if u, d := run(10, 10_000); u != 0 || d != 0 {
		t.Errorf("a steady rate fired: %d, %d", u, d)
	}
	if u, d := run(60, 10); u != 1 || d != 0 {
		t.Errorf("a wall: %d, %d", u, d)
	}
	if u, d := run(1, 20); u != 0 || d == 0 || d > 4 {
		t.Errorf("a fall: %d, %d", u, d)
	}
	if u, _ := run(17, 60); u == 0 || u > 20 {
		t.Errorf("a shift of 0.6: %d", u)
	}
	var e Evidence
	small, big := Part(100, 15, r), Part(100, 40, r)
	for i := range 1000 {
		if e.AddSurge(&small, uint16(i), 12, &sc) {
			t.Fatal("a surge of half as many more")
		}
	}
	if !e.Zero() || !e.AddSurge(&big, 1000, 12, &sc) || e.Zero() {
		t.Error("a surge of four times as many")
	}
	e.Reset()
	s := Part(100, 0, r)
	for i := range 9 {
		if _, d := e.Add(&s, uint16(i), 3, &sc, true); d {
			t.Error("a fall was judged although only rises may be")
		}
	}
	wall := Part(100, 60, r)
	e.Add(&wall, 40, 100, &sc, false)
	if l, age := e.Best(Up, 42); l <= 0 || age != 2 {
		t.Errorf("began %d slots ago with %v", age, l)
	}
}

// TestEvidenceSaturates: noise of the rate cannot look like more than it is.
func TestEvidenceSaturates(t *testing.T) {
	var e Evidence
	sc := Scale{Phi: 1, Sigma2: 0.04, N: 1e9}
	s := Part(1e5, 1e5*0.13, RateOf(0.1)) // 0.3 nats of log-odds, 1.5 sigma
	for i := range 100 {
		if u, _ := e.Add(&s, uint16(i), 12, &sc, false); u {
			t.Fatal("an excursion of the noise fired")
		}
	}
}

func TestExcess(t *testing.T) {
	var wall, calm Excess
	wall.Add(100, 60, 1, 1000, Up)
	wall.Add(50, 30, 10, 1000, Up)
	calm.Add(100, 1, 1, 1000, Up)
	sc := Scale{Phi: 1}
	g, phi := wall.Likelihood(Up, &sc)
	if g < 150 || phi < 1 {
		t.Errorf("a wall gives %v by %v", g, phi)
	}
	if g, _ := calm.Likelihood(Up, &sc); g > 0.5 {
		t.Errorf("calm gives %v", g)
	}
	if g, _ := wall.Likelihood(Down, &sc); g != 0 {
		t.Errorf("a rise is no fall: %v", g)
	}
	if g := wall.Without(85); g > 3 {
		t.Errorf("without its clients %v is left", g)
	}
	whole := wall
	whole.Merge(&calm)
	if w, _ := whole.Likelihood(Up, &sc); w >= g {
		t.Errorf("dilution costs nothing: %v, %v", w, g)
	}
}

func TestSeason(t *testing.T) {
	var s Season
	for day := range 10 {
		for h := range 24 {
			f := float32(1)
			if h == 8 {
				f = 2
			}
			s.Turn((h+23)%24, h, day > 0)
			s.Learn(f*200, 200)
		}
	}
	s.Turn(23, 8, false)
	if f := math.Exp(float64(s.Steps) / 64); f < 1.8 || f > 2.05 {
		t.Errorf("the hour of twice the rate: %v", f)
	}
	s.Turn(8, 12, false)
	if s.Steps != 0 {
		t.Errorf("a usual hour: %v", s.Steps)
	}
}

func TestDispersion(t *testing.T) {
	var d Dispersion
	var l Level
	var c Clumping
	if v := d.Sigma2(&l, &c); math.Abs(float64(v)-firstSigma2) > 1e-6 {
		t.Errorf("first guess %v", v)
	}
	for i := range 2000 { // swings of 20 % around the expectation
		s := Part(10_000, 1000+float32(200*(1-2*(i%2))), RateOf(0.1))
		d.Add(&s)
		d.Learn(&l, &c, true)
	}
	if v := d.Sigma2(&l, &c); v < 0.02 || v > 0.06 {
		t.Errorf("swings of 0.2 have the variance %v", v)
	}
}

func TestCodecIsExact(t *testing.T) {
	c := Cell{K: 1.0 / 3, N: 7, k0: 1, n0: 2, k1: 3, n1: math.SmallestNonzeroFloat32, hold: 99, since: 5, P: 77}
	var e Evidence
	sc := Scale{Phi: 1, N: 10}
	s := Part(10, 7, RateOf(0.3))
	e.Add(&s, 65535, 9, &sc, false)
	d := Dispersion{1, 2, 3, 4, 5, 6}
	se := Season{cx: 1, Steps: -3}
	se.x[5] = 0.1
	l, cl := Level{1, 2, 3}, Clumping{0.1, 1e300}
	var w wire.Writer
	c.Put(&w)
	e.Put(&w)
	d.Put(&w)
	se.Put(&w)
	l.Put(&w)
	cl.Put(&w)
	read := func(b []byte) (Cell, Evidence, Dispersion, Season, Level, Clumping, error) {
		r := wire.Reader{B: b}
		var (
			c  Cell
			e  Evidence
			d  Dispersion
			s  Season
			l  Level
			cl Clumping
		)
		c.Get(&r)
		e.Get(&r)
		d.Get(&r)
		s.Get(&r)
		l.Get(&r)
		cl.Get(&r)
		return c, e, d, s, l, cl, r.Done()
	}
	c2, e2, d2, s2, l2, cl2, err := read(w.B)
	if err != nil || c2 != c || e2 != e || d2 != d || s2 != se || l2 != l || cl2 != cl {
		t.Fatalf("came back otherwise: %v", err)
	}
	for cut := range len(w.B) {
		if _, _, _, _, _, _, err := read(w.B[:cut]); err == nil {
			t.Fatalf("%d of %d bytes were accepted", cut, len(w.B))
		}
	}
	nan := wire.Writer{}
	PutFloat(&nan, float32(math.NaN()))
	r := wire.Reader{B: nan.B}
	if GetFloat(&r); r.Err == nil {
		t.Error("NaN was accepted")
	}
}

func BenchmarkEvidence(b *testing.B) {
	var e Evidence
	sc := Scale{Phi: 1.3, Sigma2: 0.01, N: 1e5}
	s := Part(10, 1, RateOf(0.1))
	for b.Loop() {
		e.Add(&s, 0, 1e9, &sc, false)
	}
}

// TestQuietSeries: a series whose residuals are by chance those of coin tosses is not taken
// to be without the noise that all of its level have, one that is noisier is noisy.
func TestQuietSeries(t *testing.T) {
	const v, sigma2 = 5, 0.0225
	var l Level
	var c Clumping
	teach := func(d *Dispersion, s2 float32, periods int) float64 {
		for range periods {
			m := float32(v)
			d.Add(&Sum{X: m + float32(math.Sqrt(float64(c.Phi()*v+s2*v*v))), M: m, V: v})
			d.Learn(&l, &c, true)
			l.Age()
		}
		return float64(d.Sigma2(&l, &c))
	}
	for range 100 {
		var d Dispersion
		teach(&d, sigma2, 20)
	}
	var quiet, noisy Dispersion
	if s := teach(&quiet, 0, 96); s < sigma2/3 {
		t.Errorf("two quiet days: %.4f of %.4f", s, sigma2)
	}
	if s := teach(&noisy, 0.2, 96); s < 0.15 {
		t.Errorf("two noisy days: %.4f", s)
	}
}

// TestSurprise: how surprising refusals are after the sample that their rate is known from.
func TestSurprise(t *testing.T) {
	for _, c := range []struct {
		n0, x, n, q float32
		least, most float32
	}{
		{523, 4, 7, 0.0019, 15, 17},        // one refusal is known: they may come at half a percent
		{1e6, 4, 7, 0.0019, 20, 21},        // two thousand are
		{1000, 65, 130, 1e-4, 100, 200},    // no chance at all
		{200, 105, 200, 0.05, 60, 70},      // two samples
		{20_000, 60, 1000, 0.03, 11, 12.5}, // many are known
	} {
		sc := Scale{Phi: 1, N: c.n0}
		if g := sc.surprise(c.x, c.n, c.q); g < c.least || g > c.most {
			t.Errorf("%+v: %v", c, g)
		}
	}
	if sc := (Scale{Phi: 1, N: 10}); sc.surprise(10, 10, 0.02) < 1e9 {
		t.Error("ten requests are no sample")
	}
}
