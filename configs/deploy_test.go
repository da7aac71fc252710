package configs

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	yaml "go.yaml.in/yaml/v4"
)

// TestDeployFiles: the files for other programs are YAML, and what they say of
// denywatch's configuration is a configuration.
func TestDeployFiles(t *testing.T) {
	files, err := filepath.Glob("deploy/*/*")
	if err != nil || len(files) == 0 {
		t.Fatal(files, err)
	}
	for _, name := range files {
		b, err := os.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		if ext := filepath.Ext(name); ext == ".yaml" || ext == ".yml" {
			var v map[string]any
			if err := yaml.Unmarshal(b, &v); err != nil {
				t.Errorf("%s: %v", name, err)
			}
		}
		config := quoted(string(b))
		if config == "" {
			continue
		}
		if _, _, err := Parse([]byte("state: /var/lib/denywatch\n"+config), name, lookup(map[string]string{"PUSH_TOKEN": "0123456789abcdef-push"})); err != nil {
			t.Errorf("%s: %v\n%s", name, err, config)
		}
	}
}

// quoted is the configuration of denywatch in the first comment of a file, empty if
// there is none.
func quoted(file string) string {
	var config strings.Builder
	for line := range strings.Lines(file) {
		rest, inside := strings.CutPrefix(line, "#   ")
		switch {
		case inside && (strings.HasPrefix(rest, "sources:") || config.Len() > 0):
			config.WriteString(rest)
		case config.Len() > 0:
			return config.String()
		}
	}
	return ""
}

// TestDeployKafka: the configuration that compose.yaml mounts is valid, and reads the
// topics that compose.yaml makes, from the broker it runs.
func TestDeployKafka(t *testing.T) {
	b, err := os.ReadFile("deploy/kafka/denywatch.yaml")
	if err != nil {
		t.Fatal(err)
	}
	c, _, err := Parse(b, "denywatch.yaml", nil)
	if err != nil {
		t.Fatal(err)
	}
	raw, err := os.ReadFile("deploy/kafka/compose.yaml")
	if err != nil {
		t.Fatal(err)
	}
	var compose struct {
		Services map[string]struct {
			Image       string            `yaml:"image"`
			Environment map[string]string `yaml:"environment"`
			Command     []string          `yaml:"command"`
		} `yaml:"services"`
	}
	if err := yaml.Unmarshal(raw, &compose); err != nil {
		t.Fatal(err)
	}
	for _, topic := range slices.Concat(c.Sources[0].Kafka.Topics, c.Markers.Kafka.Topics) {
		if !strings.Contains(compose.Services["topics"].Command[0], " "+topic+":") {
			t.Errorf("compose.yaml does not make the topic %s", topic)
		}
	}
	for _, broker := range slices.Concat(c.Sources[0].Kafka.Brokers, c.Markers.Kafka.Brokers) {
		if !strings.Contains(compose.Services["kafka"].Environment["KAFKA_ADVERTISED_LISTENERS"], "//"+broker+",") {
			t.Errorf("compose.yaml has no broker %s", broker)
		}
	}
}
