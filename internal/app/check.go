package app

import (
	"fmt"
	"io"
	"log/slog"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/bmatcuk/doublestar/v4"

	"github.com/denywatch/denywatch/configs"
	"github.com/denywatch/denywatch/internal/collect"
)

// Check tells what a valid configuration will do on this host: which files each
// source has now and how they are understood. Problems that only this host has
// are returned as an error.
func Check(cfg *configs.Config, out io.Writer) error {
	for _, w := range cfg.Warnings() {
		fmt.Fprintln(out, w)
	}
	if _, _, err := shared(cfg, collect.FixedIdentityKey(), int64(cfg.Slot/time.Second), slog.New(slog.DiscardHandler)); err != nil {
		return err
	}
	t := tabwriter.NewWriter(out, 0, 4, 2, ' ', 0)
	fmt.Fprintln(t, "SOURCE\tVANTAGE\tFILES\tFORMAT")
	problems := 0
	for i := range cfg.Sources {
		s := &cfg.Sources[i]
		files := 0
		for _, g := range s.Files {
			paths, err := doublestar.FilepathGlob(g, doublestar.WithFilesOnly())
			if err != nil {
				return fmt.Errorf("source %s: files: %s: %w", s.Name, g, err)
			}
			files += len(paths)
		}
		u, err := understand(s, readsUserAgent(cfg))
		format := "recognised when the first lines are there"
		switch {
		case err != nil:
			format = err.Error()
			problems++
		case u.format != nil && u.why != "":
			format = u.format.String() + ": " + u.why
		case u.format != nil:
			format = u.format.String()
		}
		fmt.Fprintf(t, "%s\t%s\t%d\t%s\n", printable(s.Name), u.vantage, files, printable(format))
	}
	if err := t.Flush(); err != nil {
		return err
	}
	advise(out, cfg)
	if problems > 0 {
		return fmt.Errorf("%s", count(problems, "source has a problem", "sources have problems"))
	}
	fmt.Fprintln(out, "The configuration is valid.")
	return nil
}

// advise shows, for each source whose server could log more, a format to paste.
func advise(out io.Writer, cfg *configs.Config) {
	seen := map[string]bool{}
	for i := range cfg.Sources {
		s := &cfg.Sources[i]
		u, err := understand(s, readsUserAgent(cfg))
		if err != nil || u.format == nil {
			continue
		}
		format, gains := u.format.Advice()
		if format == "" || seen[format] {
			continue
		}
		seen[format] = true
		fmt.Fprintf(out, "\nSource %s could tell %s, with this in the server's configuration (and the same as log_format here):\n\n%s\n\n",
			printable(s.Name), strings.Join(gains, "; "), format)
	}
}
