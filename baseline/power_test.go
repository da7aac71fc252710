package baseline

import (
	"math"
	"math/rand/v2"
	"testing"
)

// TestPower lets a wall come and counts how often the evidence crosses: what Power
// says must not be more than that.
func TestPower(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 2))
	for _, c := range []struct {
		q, w, perSlot float64
		sc            Scale
	}{
		{0.01, 0.109, 10, Scale{Phi: 1.3, Sigma2: 0.01, N: 5000}},
		{0.002, 0.102, 3, Scale{Phi: 1, Sigma2: 0.02, N: 1e5}},
		{0.3, 0.56, 20, Scale{Phi: 1.5, Sigma2: 0.01, N: 2000}},
		{0.05, 0.525, 0.5, Scale{Phi: 1.3, Sigma2: 0.03, N: 1000}},
	} {
		const h, runs = 14, 400
		rate := RateOf(c.q)
		crossed := map[int]int{}
		for range runs {
			var e Evidence
			for slot := range 400 {
				n, x := 0, 0
				// As many requests as a Poisson process brings.
				for left := c.perSlot; ; n++ {
					if left += math.Log(1 - r.Float64()); left < 0 {
						break
					}
				}
				for range n {
					if r.Float64() < c.w {
						x++
					}
				}
				s := Part(float32(n), float32(x), rate)
				if n == 0 {
					continue
				}
				if up, _ := e.Add(&s, uint16(slot), h, &c.sc, false); up {
					crossed[slot]++
					break
				}
			}
		}
		seen, told := 0, false
		for slot := range 400 {
			seen += crossed[slot]
			power := Power(float64(slot+1)*c.perSlot, float64(rate.Share()), c.w, h, &c.sc)
			if power >= 0.95 && !told {
				told = true
				share := float64(seen) / runs
				t.Logf("%+v: 95 %% after %d slots, in fact %.1f %%", c, slot+1, 100*share)
				if share < 0.94 {
					t.Errorf("%+v: 95 %% are promised after %d slots, and %.1f %% were seen", c, slot+1, 100*share)
				}
			}
		}
		if !told {
			t.Errorf("%+v: never sure", c)
		}
	}
	if Power(0, 0.1, 0.5, 10, &Scale{Phi: 1}) != 0 || Power(100, 0.5, 0.5, 10, &Scale{Phi: 1}) != 0 || Power(1e6, 0.5, 0.6, 10, &Scale{Phi: 1, Sigma2: 9}) != 0 {
		t.Error("what cannot be seen is promised")
	}
}
