// Package secret holds strings that must not be seen: tokens, keys, URLs with
// credentials. Whatever prints, logs or encodes one shows only that it is set.
// It imports nothing of the project.
package secret

import (
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
)

// Redacted is what takes a secret's place in every output.
const Redacted = "[redacted]"

// String is a secret. It decodes from YAML, JSON and text like an ordinary
// string; every way out but Reveal gives Redacted, or nothing if it is empty.
type String string

// Reveal returns the secret itself, for the one place that sends it.
func (s String) Reveal() string { return string(s) }

// String implements fmt.Stringer.
func (s String) String() string {
	if s == "" {
		return ""
	}
	return Redacted
}

// Format implements fmt.Formatter, so that no verb at all shows the secret.
func (s String) Format(f fmt.State, _ rune) { _, _ = io.WriteString(f, s.String()) }

// LogValue implements slog.LogValuer.
func (s String) LogValue() slog.Value { return slog.StringValue(s.String()) }

// MarshalText implements encoding.TextMarshaler.
func (s String) MarshalText() ([]byte, error) { return []byte(s.String()), nil }

// MarshalJSON implements json.Marshaler.
func (s String) MarshalJSON() ([]byte, error) { return json.Marshal(s.String()) }

// MarshalYAML implements the YAML library's Marshaler.
func (s String) MarshalYAML() (any, error) { return s.String(), nil }
