package configs

import (
	"fmt"
	"math"
	"strconv"
	"strings"
)

// Size is a number of bytes, written as 1MiB, 64KiB or 4096.
type Size int64

// units are written without a space; the decimal ones are what people mean by
// 1 MB, and nobody minds the difference.
var units = []struct {
	name   string
	factor float64
}{
	{"KiB", 1 << 10},
	{"MiB", 1 << 20},
	{"GiB", 1 << 30},
	{"kB", 1e3},
	{"KB", 1e3},
	{"MB", 1e6},
	{"GB", 1e9},
	{"B", 1},
}

// ParseSize reads a size as String writes it.
func ParseSize(s string) (Size, error) {
	number, factor := s, 1.0
	for _, u := range units {
		if n, has := strings.CutSuffix(s, u.name); has {
			number, factor = strings.TrimSuffix(n, " "), u.factor
			break
		}
	}
	x, err := strconv.ParseFloat(number, 64)
	if err != nil || math.IsNaN(x) || x < 0 || x*factor > 1<<50 || x*factor != math.Trunc(x*factor) {
		return 0, fmt.Errorf("%s is no size; write one such as 1MiB", clip(s))
	}
	return Size(x * factor), nil
}

// String returns the size in the largest unit that divides it.
func (s Size) String() string {
	for i := 2; i >= 0; i-- {
		if f := Size(units[i].factor); s >= f && s%f == 0 {
			return strconv.FormatInt(int64(s/f), 10) + units[i].name
		}
	}
	return strconv.FormatInt(int64(s), 10)
}
