package parsers

import (
	"errors"
	"time"

	"github.com/denywatch/denywatch/internal/event"
)

// One access log is often written by several virtual hosts, some of them with the
// host or the list of clients in front, or without referer and user agent. Where a
// format is known by its name only, and so was not copied from the server's
// configuration, lines that do not follow it are tried as those siblings.

// sibling is a format that lines may have beside the one that was chosen.
type sibling struct {
	program *program
	sign    sign
}

// siblings are those of the format of c, which is called name; none if it has none.
func siblings(c Config, name string, loc *time.Location) ([]sibling, error) {
	var formats []candidate
	known := name == "combined" || name == "main" || name == "common"
	switch {
	case c.LogFormat == nginxManagerProxy:
		formats = []candidate{{config: Config{Format: familyNginx, LogFormat: nginxManagerStandard}, sign: userInPlace}}
	case c.LogFormat == nginxManagerStandard:
		formats = []candidate{{config: Config{Format: familyNginx, LogFormat: nginxManagerProxy}, sign: userInPlace}}
	case known && c.Format == familyApache:
		formats = []candidate{
			{config: Config{Format: familyApache, LogFormat: "vhost_combined"}, sign: hostInFront},
			{config: Config{Format: familyApache, LogFormat: apacheHostCombined}, sign: hostInFront},
			{config: Config{Format: familyApache, LogFormat: "common"}, sign: userInPlace},
		}
	case known:
		formats = []candidate{
			{config: Config{Format: familyNginx, LogFormat: "vhost_combined"}, sign: hostInFront},
			{config: Config{Format: familyNginx, LogFormat: nginxHostCombined}, sign: hostInFront},
			{config: Config{Format: familyNginx, LogFormat: nginxClientsCombined}, sign: userInPlace},
			{config: Config{Format: familyNginx, LogFormat: "common"}, sign: userInPlace},
		}
	}
	out := make([]sibling, len(formats))
	for i, f := range formats {
		elems, esc, _, err := f.config.elements()
		if err != nil {
			return nil, err
		}
		p, err := assemble(elems, esc, loc, false)
		if err != nil {
			return nil, err
		}
		out[i] = sibling{p, f.sign}
	}
	return out, nil
}

// siblingParser reads the lines of one stream.
type siblingParser struct {
	first  *templateParser
	others []*templateParser
	signs  []sign
}

// Parse implements Parser.
func (p *siblingParser) Parse(line []byte, e *event.Event) error {
	err := p.first.Parse(line, e)
	switch {
	case err == nil && (len(e.User) == 0 || userInPlace(line, e, nil) == voteYes),
		errors.Is(err, ErrTime), errors.Is(err, ErrShort):
		return err
	}
	for i, o := range p.others {
		e.Reset()
		if o.Parse(line, e) == nil && e.Status != 0 && p.signs[i](line, e, nil) == voteYes {
			return nil
		}
	}
	e.Reset()
	if err == nil {
		err = p.first.Parse(line, e)
	}
	return err
}
