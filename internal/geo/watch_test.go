package geo

import (
	"bytes"
	"context"
	"errors"
	"log/slog"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/maxmind/mmdbwriter"
	"github.com/maxmind/mmdbwriter/mmdbtype"
	"go.uber.org/goleak"
)

const interval = 5 * time.Second

func TestWatch(t *testing.T) { synctest.Test(t, testWatch) }

func testWatch(t *testing.T) {
	of := func(code string) []byte {
		return build(t, mmdbwriter.Options{}, network{"192.0.2.0/24", country(code)})
	}
	de, fr, it := of("DE"), of("FR"), of("IT")
	path := filepath.Join(t.TempDir(), "test.mmdb")
	put(t, path, de, 1)

	var text bytes.Buffer
	db, err := Open(path, slog.New(slog.NewTextHandler(&text, nil)))
	if err != nil {
		t.Fatal(err)
	}
	ticker := time.NewTicker(interval)
	defer ticker.Stop()
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan struct{})
	go func() {
		defer close(done)
		db.Watch(ctx, ticker.C)
	}()
	want := func(step string, ticks int, code string, warnings int, failing bool) {
		t.Helper()
		time.Sleep(time.Duration(ticks) * interval)
		synctest.Wait()
		if got := db.Country([]byte("192.0.2.1")); got != code {
			t.Errorf("%s: %q, want %q", step, got, code)
		}
		if got := strings.Count(text.String(), "level=WARN"); got != warnings {
			t.Errorf("%s: %d warnings, want %d\n%s", step, got, warnings, text.String())
		}
		if err := db.Info().Err; (err != nil) != failing {
			t.Errorf("%s: Info().Err = %v", step, err)
		}
	}

	want("nothing changed", 3, "DE", 0, false)

	put(t, path, fr, 2)
	want("not settled", 1, "DE", 0, false)
	want("replaced", 1, "FR", 0, false)

	for i := range 3 {
		put(t, path, it[:len(it)-200+i], 3+i)
		want("being copied", 1, "FR", 0, false)
	}
	want("cut short", 1, "FR", 1, true)
	put(t, path, []byte("nothing of the kind"), 6)
	want("another broken one", 3, "FR", 1, true)
	put(t, path, build(t, mmdbwriter.Options{DatabaseType: "GeoIP2-Anonymous-IP"},
		network{"192.0.2.0/24", mmdbtype.Map{"is_anonymous": mmdbtype.Bool(true)}}), 7)
	want("of the wrong kind", 3, "FR", 1, true)

	put(t, path, it, 8)
	want("mended", 2, "IT", 1, false)

	if err := os.Rename(path, path+".away"); err != nil {
		t.Fatal(err)
	}
	want("missing", 3, "IT", 2, true)
	if err := os.Rename(path+".away", path); err != nil {
		t.Fatal(err)
	}
	want("back", 2, "IT", 2, false)

	// In place, and no longer than before.
	if err := os.WriteFile(path, de, 0o600); err != nil {
		t.Fatal(err)
	}
	when := epoch.Add(time.Hour)
	if err := os.Chtimes(path, when, when); err != nil {
		t.Fatal(err)
	}
	want("in place", 2, "DE", 2, false)

	if n := strings.Count(text.String(), "level=INFO"); n != 4 {
		t.Errorf("%d loads logged, want 4\n%s", n, text.String())
	}
	cancel()
	<-done
}

// Look-ups go on while tables change, and each sees one table only.
func TestWatchWhileLookingUp(t *testing.T) {
	defer goleak.VerifyNone(t)
	var raw [2][]byte
	for i, code := range []string{"DE", "FR"} {
		raw[i] = build(t, mmdbwriter.Options{}, network{"192.0.2.0/24", country(code)}, network{"2001:db8::/32", country(code)})
	}
	path := filepath.Join(t.TempDir(), "test.mmdb")
	put(t, path, raw[0], 0)
	db, err := Open(path, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	ticks := make(chan time.Time)
	var watching, looking sync.WaitGroup
	watching.Go(func() { db.Watch(t.Context(), ticks) })
	stop := make(chan struct{})
	for range 2 {
		looking.Go(func() {
			for {
				select {
				case <-stop:
					return
				default:
				}
				for _, client := range []string{"192.0.2.1", "2001:db8::1"} {
					if c := db.Country([]byte(client)); c != "DE" && c != "FR" {
						t.Errorf("a look-up found %q", c)
						return
					}
				}
			}
		})
	}
	for i := range 20 {
		put(t, path, raw[(i+1)%2], i+1)
		for range 3 {
			ticks <- time.Time{}
		}
	}
	close(ticks)
	watching.Wait()
	close(stop)
	looking.Wait()
	if got := db.Country([]byte("192.0.2.1")); got != "DE" {
		t.Errorf("after an even number of changes: %q", got)
	}
}

func TestWatchEnds(t *testing.T) {
	defer goleak.VerifyNone(t)
	db := mustOpen(t, build(t, mmdbwriter.Options{}, network{"192.0.2.0/24", country("DE")}))
	ticks := make(chan time.Time)
	close(ticks)
	db.Watch(t.Context(), ticks)

	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	db.Watch(ctx, make(chan time.Time))

	large := build(t, mmdbwriter.Options{}, randomNetworks(rand.New(rand.NewPCG(1, 1)), 5000, true)...)
	if _, err := load(ctx, large); !errors.Is(err, context.Canceled) {
		t.Errorf("loading went on after the end: %v", err)
	}
}
