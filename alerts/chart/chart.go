// Package chart draws what an incident looks like over time: the share of requests
// refused against the band in which it usually lies, with the changes around it. A
// picture is a pure function of the trace, byte by byte. Nothing that was logged is in
// it but the versions of changes, cleaned.
package chart

import (
	"bytes"
	"cmp"
	"errors"
	"fmt"
	"image"
	"image/color"
	"image/draw"
	"image/png"
	"math"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/go-analyze/charts/chartdraw"
	"github.com/go-analyze/charts/chartdraw/drawing"
	"github.com/golang/freetype/truetype"

	"github.com/denywatch/denywatch/alerts"
	"github.com/denywatch/denywatch/internal/incident"
)

// Width and Height are the size of a picture in pixels. Chat programs show it at half of
// that, which is why its letters are large.
const (
	Width  = 900
	Height = 360
)

// The place of the plot within the picture.
const (
	left, right, top, bottom = 74, Width - 22, 92, Height - 44
	fontSize                 = 19
	smallSize                = 17
)

var (
	white  = color.RGBA{255, 255, 255, 255}
	ink    = color.RGBA{29, 41, 57, 255}
	faint  = color.RGBA{102, 112, 133, 255}
	grid   = color.RGBA{234, 236, 240, 255}
	usual  = color.RGBA{209, 224, 255, 255}
	middle = color.RGBA{132, 173, 255, 255}
	before = color.RGBA{71, 84, 103, 255}
	alarm  = color.RGBA{217, 45, 32, 255}
	tint   = color.RGBA{254, 228, 226, 255}
	change = color.RGBA{105, 56, 239, 255}
	over   = color.RGBA{3, 152, 85, 255}
)

// ErrEmpty is returned for a trace that shows nothing.
var ErrEmpty = errors.New("the trace holds no requests to draw")

// Draw returns a trace as a PNG. Times are in location, which nil makes UTC. The error
// is ErrEmpty for a trace without requests.
func Draw(t *incident.Trace, location *time.Location) ([]byte, error) {
	if location == nil {
		location = time.UTC
	}
	points := window(t)
	if len(points) == 0 {
		return nil, ErrEmpty
	}
	font := chartdraw.GetDefaultFont()
	if font == nil {
		return nil, errors.New("the chart's font is missing")
	}
	img := image.NewRGBA(image.Rect(0, 0, Width, Height))
	draw.Draw(img, img.Bounds(), image.NewUniform(white), image.Point{}, draw.Src)
	c := canvas{gc: drawing.NewRasterGraphicContext(img), font: font}
	c.gc.SetDPI(72) // a point is a pixel
	c.gc.SetFont(font)

	c.from, c.to = points[0].Time, end(&points[len(points)-1])
	for i := range points {
		c.most = max(c.most, share(&points[i]), points[i].High)
	}
	step := tick(c.most)
	c.most = min(math.Ceil(c.most*1.08/step)*step, 1)
	c.axes(step, location)
	c.band(points)
	c.rate(points, t.Incident.Direction)
	c.changes(t, location)
	c.legend(points, location)
	if c.err != nil {
		return nil, fmt.Errorf("draw a chart: %w", c.err)
	}
	var out bytes.Buffer
	if err := png.Encode(&out, img); err != nil {
		return nil, fmt.Errorf("encode a chart: %w", err)
	}
	return out.Bytes(), nil
}

func end(p *incident.Point) time.Time { return p.Time.Add(time.Duration(p.Seconds) * time.Second) }

func share(p *incident.Point) float64 { return float64(p.Denials) / float64(p.Requests) }

const (
	// What came before the onset is shown for three times what came after it, but at
	// least for leastBefore.
	leastBefore = 45 * time.Minute
	// maxSteps is how many steps of the line can be told apart.
	maxSteps = 100
)

// window is the part of a trace that is shown, put together to steps wide enough to see.
func window(t *incident.Trace) []incident.Point {
	var last time.Time
	for i := range t.Points {
		last = end(&t.Points[i])
	}
	from := t.Incident.StartedAt.Add(-max(3*last.Sub(t.Incident.StartedAt), leastBefore))
	var out []incident.Point
	for _, p := range t.Points {
		if p.Requests > 0 && p.Seconds > 0 && !p.Time.Before(from) {
			out = append(out, p)
		}
	}
	if len(out) == 0 {
		return nil
	}
	width := lengths[len(lengths)-1]
	for _, l := range lengths {
		if last.Sub(out[0].Time) <= maxSteps*l {
			width = l
			break
		}
	}
	joined := out[:1]
	for _, p := range out[1:] {
		l := &joined[len(joined)-1]
		if l.Counted != p.Counted || l.Time.Truncate(width) != p.Time.Truncate(width) {
			joined = append(joined, p)
			continue
		}
		a, b := float64(l.Requests), float64(p.Requests)
		mean := func(x, y float64) float64 { return (x*a + y*b) / (a + b) }
		l.Expected, l.Low, l.High = mean(l.Expected, p.Expected), mean(l.Low, p.Low), mean(l.High, p.High)
		l.Seconds = int64(end(&p).Sub(l.Time) / time.Second)
		l.Requests, l.Denials = l.Requests+p.Requests, l.Denials+p.Denials
	}
	return joined
}

// lengths are those that steps and the distance of times on the axis may have.
var lengths = []time.Duration{
	time.Minute, 2 * time.Minute, 5 * time.Minute, 10 * time.Minute, 15 * time.Minute, 30 * time.Minute,
	time.Hour, 2 * time.Hour, 3 * time.Hour, 6 * time.Hour, 12 * time.Hour, 24 * time.Hour, 48 * time.Hour, 7 * 24 * time.Hour,
}

// tick is the distance of the lines on the axis of shares up to most.
func tick(most float64) float64 {
	for _, t := range [...]float64{0.0005, 0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1} {
		if most*1.08 <= 4*t {
			return t
		}
	}
	return 0.25
}

// canvas draws in the picture; c.err is the first failure.
type canvas struct {
	gc       *drawing.RasterGraphicContext
	font     *truetype.Font
	from, to time.Time
	most     float64 // the share at the top of the plot
	err      error
}

func (c *canvas) x(t time.Time) float64 {
	part := float64(t.Sub(c.from)) / float64(c.to.Sub(c.from))
	return left + min(max(part, 0), 1)*(right-left)
}

func (c *canvas) y(share float64) float64 {
	return bottom - min(share/c.most, 1)*(bottom-top)
}

func (c *canvas) line(col color.Color, width float64, dash []float64, xy ...float64) {
	c.path(xy)
	c.gc.SetStrokeColor(col)
	c.gc.SetLineWidth(width)
	c.gc.SetLineDash(dash, 0)
	c.gc.Stroke()
}

func (c *canvas) fill(col color.Color, xy ...float64) {
	c.path(xy)
	c.gc.Close()
	c.gc.SetFillColor(col)
	c.gc.Fill()
}

func (c *canvas) path(xy []float64) {
	c.gc.BeginPath()
	c.gc.MoveTo(xy[0], xy[1])
	for i := 2; i < len(xy); i += 2 {
		c.gc.LineTo(xy[i], xy[i+1])
	}
}

// text writes s with its base line at y, from x on, or up to x if the anchor is 1, or
// around it if it is 0.5.
func (c *canvas) text(s string, x, y, size float64, col color.Color, anchor float64) {
	c.gc.SetFontSize(size)
	c.gc.SetFillColor(col)
	c.gc.BeginPath()
	if _, err := c.gc.CreateStringPath(s, x-anchor*c.width(s, size), y); err != nil {
		c.err = cmp.Or(c.err, err)
	}
	c.gc.Fill()
}

func (c *canvas) width(s string, size float64) float64 {
	c.gc.SetFontSize(size)
	_, _, w, _, err := c.gc.GetStringBounds(s)
	c.err = cmp.Or(c.err, err)
	return w
}

// legible is s without what the font has no letters for.
func (c *canvas) legible(s string, limit int) string {
	return strings.Map(func(r rune) rune {
		switch {
		case r == '\u2068' || r == '\u2069': // the marks around right-to-left text
			return -1
		case c.font.Index(r) == 0:
			return '?'
		}
		return r
	}, alerts.Clean(s, limit))
}

// labels is about how many times there are room for on the axis.
const labels = 8

func (c *canvas) axes(step float64, location *time.Location) {
	for i := 0; float64(i)*step <= c.most*1.001; i++ {
		v := float64(i) * step
		y := c.y(v)
		c.line(grid, 1, nil, left, y, right, y)
		c.text(strconv.FormatFloat(v*100, 'f', -1, 32)+" %", left-10, y+6, smallSize, faint, 1)
	}
	width := lengths[len(lengths)-1]
	for _, l := range lengths {
		if c.to.Sub(c.from) <= labels*l {
			width = l
			break
		}
	}
	layout := "15:04"
	if width >= 24*time.Hour {
		layout = "2 Jan"
	}
	// Whole hours of the day there, also where they are not those of UTC.
	_, offset := c.from.In(location).Zone()
	shift := time.Duration(offset) * time.Second
	for t := c.from.Add(shift).Truncate(width).Add(-shift); !t.After(c.to); t = t.Add(width) {
		if t.Before(c.from) {
			continue
		}
		x := c.x(t)
		c.line(faint, 1, nil, x, bottom, x, bottom+5)
		s := t.In(location).Format(layout)
		if w := c.width(s, smallSize) / 2; x-w > left-40 && x+w < Width-4 {
			c.text(s, x, bottom+26, smallSize, faint, 0.5)
		}
	}
	c.line(faint, 1, nil, left, bottom, right, bottom)
}

// runs calls f with the stretches of points that follow each other without a gap.
func runs(points []incident.Point, same func(a, b *incident.Point) bool, f func([]incident.Point)) {
	for i := 0; i < len(points); {
		k := i + 1
		for k < len(points) && !points[k].Time.After(end(&points[k-1])) && same(&points[k-1], &points[k]) {
			k++
		}
		f(points[i:k])
		i = k
	}
}

// steps is the line that a value of each point makes.
func (c *canvas) steps(points []incident.Point, value func(*incident.Point) float64) []float64 {
	var xy []float64
	for i := range points {
		p := &points[i]
		y := c.y(value(p))
		xy = append(xy, c.x(p.Time), y, c.x(end(p)), y)
	}
	return xy
}

// band draws where the rate usually lies, and its middle.
func (c *canvas) band(points []incident.Point) {
	runs(points, func(_, _ *incident.Point) bool { return true }, func(run []incident.Point) {
		edge := c.steps(run, func(p *incident.Point) float64 { return p.High })
		low := c.steps(run, func(p *incident.Point) float64 { return p.Low })
		for i := len(low) - 2; i >= 0; i -= 2 {
			edge = append(edge, low[i], low[i+1])
		}
		c.fill(usual, edge...)
		c.line(middle, 1.5, []float64{5, 4}, c.steps(run, func(p *incident.Point) float64 { return p.Expected })...)
	})
}

// rate draws what was seen; the incident's part stands out.
func (c *canvas) rate(points []incident.Point, dir incident.Direction) {
	counted := func(a, b *incident.Point) bool { return a.Counted == b.Counted }
	if dir != incident.Down {
		runs(points, counted, func(run []incident.Point) {
			if run[0].Counted {
				area := c.steps(run, func(p *incident.Point) float64 { return max(share(p), p.High) })
				low := c.steps(run, func(p *incident.Point) float64 { return p.High })
				for i := len(low) - 2; i >= 0; i -= 2 {
					area = append(area, low[i], low[i+1])
				}
				c.fill(tint, area...)
			}
		})
	}
	var last *incident.Point
	runs(points, counted, func(run []incident.Point) {
		col, width := before, 2.0
		if run[0].Counted {
			col, width = alarm, 3
		}
		xy := c.steps(run, share)
		if last != nil && !run[0].Time.After(end(last)) {
			xy = append([]float64{c.x(end(last)), c.y(share(last))}, xy...)
		}
		c.line(col, width, nil, xy...)
		last = &run[len(run)-1]
	})
}

// flag is a line through the plot with words above it.
type flag struct {
	at   time.Time
	text string
	col  color.Color
	dash []float64
	rank int // the least is labelled first
}

// maxFlags bounds the changes that are named.
const maxFlags = 6

// changes draws when the incident began and ended, and what changed around it. Words
// that would stand over others are left out, the least important first.
func (c *canvas) changes(t *incident.Trace, location *time.Location) {
	in := &t.Incident
	clock := func(at time.Time) string { return at.In(location).Format("15:04") }
	flags := []flag{{in.StartedAt, "began " + clock(in.StartedAt), alarm, []float64{6, 4}, 0}}
	if in.ResolvedAt != nil {
		flags = append(flags, flag{*in.ResolvedAt, "over " + clock(*in.ResolvedAt), over, nil, 1})
	}
	for i := range t.Markers {
		m := &t.Markers[i]
		rank := 3
		if m.ID == in.Marker {
			rank = 2
		}
		flags = append(flags, flag{m.Time, c.legible(cmp.Or(m.Version, strings.ReplaceAll(m.Kind, "_", " ")), 18), change, nil, rank})
	}
	flags = slices.DeleteFunc(flags, func(f flag) bool { return f.at.Before(c.from) || f.at.After(c.to) })
	slices.SortStableFunc(flags, func(a, b flag) int { return cmp.Or(cmp.Compare(a.rank, b.rank), -a.at.Compare(b.at)) })
	type span struct{ from, to float64 }
	var rows [2][]span // of words, the lower first
	for i, f := range flags {
		x := c.x(f.at)
		c.line(f.col, 2, f.dash, x, top-4, x, bottom)
		if i >= maxFlags {
			continue
		}
		w := c.width(f.text, smallSize)
		at := span{min(max(x-w/2, left-30), Width-8-w), 0}
		at.to = at.from + w
		for r := range rows {
			if slices.ContainsFunc(rows[r], func(o span) bool { return at.from < o.to+10 && o.from < at.to+10 }) {
				continue
			}
			rows[r] = append(rows[r], at)
			c.text(f.text, at.from, top-10-float64(r)*20, smallSize, f.col, 0)
			break
		}
	}
}

// legend says what is drawn and in which time zone.
func (c *canvas) legend(points []incident.Point, location *time.Location) {
	const y = 28.0
	c.text("Requests refused, "+points[0].Time.In(location).Format("MST"), 14, y, fontSize, ink, 0)
	x := float64(right)
	for _, e := range [...]struct {
		text string
		col  color.Color
	}{{"usual range", usual}, {"refused since it began", alarm}, {"refused before", before}} {
		x -= c.width(e.text, smallSize)
		c.text(e.text, x, y, smallSize, faint, 0)
		c.fill(e.col, x-26, y-13, x-8, y-13, x-8, y+1, x-26, y+1)
		x -= 48
	}
}
