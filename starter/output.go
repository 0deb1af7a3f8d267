package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"text/tabwriter"
	"time"

	"github.com/docker/go-units"
	"go.yaml.in/yaml/v3"
)

// Forms of a result.
const (
	outputTable = "table"
	outputJSON  = "json"
	outputYAML  = "yaml"
)

// print writes a result in the form asked for; table writes it for people.
// JSON and YAML are the same document: the keys are those of the JSON tags.
func (a *app) print(result any, table func(w io.Writer)) error {
	if a.output == outputTable {
		w := tabwriter.NewWriter(a.Out, 0, 8, 2, ' ', 0)
		table(w)
		return w.Flush()
	}
	var document bytes.Buffer
	encoder := json.NewEncoder(&document)
	encoder.SetEscapeHTML(false)
	encoder.SetIndent("", "  ")
	if err := encoder.Encode(result); err != nil {
		return fmt.Errorf("write the result: %w", err)
	}
	if a.output == outputYAML {
		var err error
		if document, err = toYAML(document.Bytes()); err != nil {
			return fmt.Errorf("write the result: %w", err)
		}
	}
	_, err := a.Out.Write(document.Bytes())
	return err
}

// toYAML writes a JSON document as YAML in block style, keys in their order.
func toYAML(document []byte) (bytes.Buffer, error) {
	var out bytes.Buffer
	var node yaml.Node
	if err := yaml.Unmarshal(document, &node); err != nil {
		return out, err
	}
	blockStyle(&node)
	encoder := yaml.NewEncoder(&out)
	encoder.SetIndent(2)
	err := encoder.Encode(&node)
	return out, err
}

// blockStyle drops the styles of JSON; strings are quoted again where they must be.
func blockStyle(node *yaml.Node) {
	node.Style = 0
	for _, child := range node.Content {
		blockStyle(child)
	}
}

// row writes one line of a table.
func row(w io.Writer, cells ...any) {
	for i, cell := range cells {
		if i > 0 {
			fmt.Fprint(w, "\t")
		}
		text := fmt.Sprint(cell)
		if text == "" {
			text = "-"
		}
		fmt.Fprint(w, text)
	}
	fmt.Fprintln(w)
}

// seconds writes a length of time for people; a negative one is unknown.
func seconds(s float64) string {
	if s < 0 {
		return "-"
	}
	return length(time.Duration(s * float64(time.Second)))
}

// length writes a duration in at most two units.
func length(d time.Duration) string {
	switch {
	case d < 0:
		return "-"
	case d < time.Minute:
		return fmt.Sprintf("%.1fs", d.Seconds())
	case d < time.Hour:
		d = d.Round(time.Second)
		return fmt.Sprintf("%dm%02ds", d/time.Minute, d%time.Minute/time.Second)
	case d < 48*time.Hour:
		d = d.Round(time.Minute)
		return fmt.Sprintf("%dh%02dm", d/time.Hour, d%time.Hour/time.Minute)
	}
	return fmt.Sprintf("%dd", d/(24*time.Hour))
}

// secondsOf writes a measured length that may be unknown.
func secondsOf(s *float64) string {
	if s == nil {
		return "unknown"
	}
	return seconds(*s)
}

// size writes a number of bytes for people.
func size(n int64) string { return units.BytesSize(float64(n)) }

// clock writes an instant for people; nil is unknown.
func clock(t *time.Time) string {
	if t == nil || t.IsZero() {
		return "-"
	}
	return t.UTC().Format("2006-01-02T15:04:05.000Z")
}

func orDash(s string) string {
	if s == "" {
		return "-"
	}
	return s
}

func yesNo(b bool) string {
	if b {
		return "yes"
	}
	return "no"
}
