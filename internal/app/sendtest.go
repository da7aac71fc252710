package app

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"slices"
	"strings"
	"time"

	"github.com/denywatch/denywatch/alerts"
	"github.com/denywatch/denywatch/alerts/routing"
	"github.com/denywatch/denywatch/configs"
)

// testTime bounds the test of one place.
const testTime = 30 * time.Second

// SendTest tells every place that a valid configuration names that this is a test, and
// prints what happened: what worked, and what to mend. The error says how many do not work.
func SendTest(ctx context.Context, cfg *configs.Config, out io.Writer) error {
	d := &Daemon{opt: Options{Stdout: out, Log: slog.New(slog.DiscardHandler)}}
	sinks, err := d.notifiers(cfg)
	if err != nil {
		return err
	}
	failed, all := 0, 0
	places := routing.New(&cfg.Routing, cfg.Recipients()).Everywhere()
	slices.SortFunc(places, func(a, b alerts.Dest) int {
		return cmp.Or(cmp.Compare(a.Sink, b.Sink), cmp.Compare(a.Target, b.Target))
	})
	for _, to := range places {
		all++
		place := strings.TrimSpace(to.Sink + " " + to.Target)
		did, err := testPlace(ctx, sinks[to.Sink], to.Target)
		switch {
		case err == nil:
			fmt.Fprintf(out, "%s: works: %s\n", printable(place), printable(did))
		case did != "":
			failed++
			fmt.Fprintf(out, "%s: works in part: %s\n", printable(place), printable(did))
		default:
			failed++
			fmt.Fprintf(out, "%s: does not work\n", printable(place))
		}
		if err != nil {
			for line := range strings.Lines(err.Error()) {
				fmt.Fprintf(out, "    %s\n", printable(strings.TrimSpace(line)))
			}
		}
	}
	if failed > 0 {
		return fmt.Errorf("%d of %s to be mended", failed, count(all, "place has", "places have"))
	}
	return nil
}

// testPlace tells one place.
func testPlace(ctx context.Context, n alerts.Notifier, target string) (string, error) {
	ctx, cancel := context.WithTimeout(ctx, testTime)
	defer cancel()
	switch n := n.(type) {
	case alerts.Tester:
		return n.Test(ctx, target)
	case alerts.Poster:
		now := time.Now().UTC()
		d := alerts.NewPost(&alerts.Post{ID: "test-" + now.Format(time.RFC3339), At: now, Headline: alerts.TestText}, alerts.Dest{Target: target})
		if _, err := n.Post(ctx, &d); err != nil {
			return "", err
		}
		return "told that this is a test", nil
	}
	return "", errors.New("this kind of sink cannot be tested without an incident")
}
