package app_test

import (
	"bytes"
	"context"
	"encoding/json"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/denywatch/denywatch/internal/app"
	"github.com/denywatch/denywatch/internal/incident"
)

// TestReplayRealNginx replays four days of real requests through a real nginx, two a
// minute, with walls that are known: whoever reads the access, error and application
// logs together is told of all that hit people, with who refused and why.
func TestReplayRealNginx(t *testing.T) {
	root := os.Getenv("DENYWATCH_CORPUS")
	if root == "" {
		t.Skip("set DENYWATCH_CORPUS to the folder with more sample logs")
	}
	type wall struct{ day, prefix, role, layer, cause string }
	walls := []wall{
		{"18T14", "/images", "", "web", "fs_permission"},
		{"18T22", "/blog", "", "app", "feature_gate:new_checkout"},
		{"19T08", "", "", "web", "waf"},
		{"20T11", "/presentations", "viewer", "app", "missing_permission:presentations.read"},
	}
	for _, access := range []string{"access_json.log", "access_combined.log"} {
		t.Run(access, func(t *testing.T) {
			var files []string
			for _, f := range []string{access, "app.jsonl", "error.log"} {
				files = append(files, filepath.Join(root, "logs", "replay-nginx", f))
			}
			var out bytes.Buffer
			if _, err := app.Replay(context.Background(), app.ReplayOptions{Files: files, Format: "auto", JSON: true, Stdout: &out, Stderr: io.Discard, Log: quiet}); err != nil {
				t.Fatal(err)
			}
			missing, others := slices.Clone(walls), 0
			for line := range strings.Lines(out.String()) {
				var in incident.Incident
				if err := json.Unmarshal([]byte(line), &in); err != nil {
					t.Fatal(err)
				}
				at := slices.IndexFunc(missing, func(w wall) bool {
					return in.OpenedAt.Format("02T15") == w.day && in.Scope.Prefix == w.prefix && in.Scope.Role == w.role && in.Layer == w.layer && slices.Contains(in.Causes, w.cause)
				})
				switch {
				case at >= 0:
					missing = slices.Delete(missing, at, at+1)
				case slices.Contains(in.Causes, "acl"): // some crawlers were blocked
				default:
					others++
					t.Logf("another: %s", line)
				}
			}
			if len(missing) > 0 || others > 1 {
				t.Errorf("%d false, not told: %+v", others, missing)
			}
		})
	}
}
