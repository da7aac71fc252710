package detector

import "testing"

// TestSettleRulesIsExact: counts are sums of floats, which depend on the order of what is
// added; whenever a day or a person makes breaches the usual, the sums are the same.
func TestSettleRulesIsExact(t *testing.T) {
	settled := func() ruling {
		j := newJudge(0, "shop", 0, 0)
		j.setStep(60)
		j.start = 60_000
		for i := range 12 {
			j.cells = append(j.cells, cell{mask: 1, parents: [monitored]int32{lvRouteRole: 0}})
			if i == 0 {
				j.past.push(j.start, pastSlots*60)
			}
			p := &j.past.slots[0]
			p.counts = append(p.counts, pastCount{cell: int32(i), nc: 1 / float32(3+7*i), bc: 1 / float32(3+8*i)})
		}
		j.settleRules(1, 0)
		return *j.ruled[0]
	}
	want := settled()
	if want.let.k == 0 {
		t.Fatal("nothing was learned")
	}
	for range 50 {
		if got := settled(); got != want {
			t.Fatalf("%+v, and %+v of the same counts", got, want)
		}
	}
}
