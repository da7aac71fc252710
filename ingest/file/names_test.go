package file

import (
	"reflect"
	"slices"
	"testing"
)

func TestRotatedNames(t *testing.T) {
	for name, bases := range map[string][]string{
		"access.log":                          nil,
		"access.log.1":                        {"access.log"},
		"access.log.12.gz":                    {"access.log"},
		"access.log-20260101":                 {"access.log"},
		"access.log-20260101.zst":             {"access.log"},
		"access.log-2026010113":               {"access.log"},
		"access.log.2026-01-01":               {"access.log"},
		"access.log.2026-01-01_13:05":         {"access.log"},
		"access.log-2026-01":                  {"access.log"},
		"access.log-1767225600":               {"access.log"},
		"access.log.2026-01-01.3":             {"access.log"},
		"access.log-20260101-1767225600.gz":   {"access.log"},
		"access.log.old":                      {"access.log"},
		"access.1.log":                        {"access.log"},
		"access-20260101.log":                 {"access.log"},
		"access.1.log.gz":                     {"access.log"},
		"localhost_access_log.2026-11-24.txt": {"localhost_access_log.txt"},
		"/var/log/nginx/shop.access.log.1":    {"/var/log/nginx/shop.access.log"},
		"app-8080.log":                        nil,
		"app.8080":                            nil,
		"server-1":                            nil,
		"report-20269999.log":                 nil,
		"error.log.bak":                       nil,
		"20260101":                            nil,
		".1":                                  nil,
		"access.log-20260101-1":               {"access.log"},
		"v1.2":                                {"v1"},
	} {
		var got []string
		for _, r := range readings(name) {
			got = append(got, r.base)
		}
		if !slices.Equal(got, bases) {
			t.Errorf("%s is read as a generation of %q, want %q", name, got, bases)
		}
	}
}

func TestGroupRotated(t *testing.T) {
	got := GroupRotated([]string{
		"b/access.log", "b/access.log.1", "b/access.log.10.gz", "b/access.log.2.gz",
		"a/access.log-20260102.gz", "a/access.log", "a/access.log-20260101.gz", "a/access.log.1",
		"-", "web.1.log", "web.log.old", "web.log",
		"tomcat.2026-01-02.txt", "tomcat.2026-01-01.txt",
		"lone.log.gz",
	})
	want := [][]string{
		{"b/access.log.10.gz", "b/access.log.2.gz", "b/access.log.1", "b/access.log"},
		{"a/access.log-20260101.gz", "a/access.log-20260102.gz", "a/access.log.1", "a/access.log"},
		{"-"},
		{"web.1.log", "web.log.old", "web.log"},
		{"tomcat.2026-01-01.txt", "tomcat.2026-01-02.txt"},
		{"lone.log.gz"},
	}
	if !reflect.DeepEqual(got, want) {
		t.Errorf("got  %q\nwant %q", got, want)
	}
	if GroupRotated(nil) == nil {
		t.Error("no paths must give no groups, not nil")
	}
}
