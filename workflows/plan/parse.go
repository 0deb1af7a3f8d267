package plan

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"regexp"
	"strconv"
	"strings"
	"unicode/utf8"

	"go.yaml.in/yaml/v3"
)

// MaxFileBytes bounds a plan file.
const MaxFileBytes = 1 << 20

// Parse reads one plan from YAML and checks its form: known keys, types, units and
// what is required. It returns [Errors] with every fault; file is only their
// heading and what relative directories start from. [Plan.Validate] checks the rest.
func Parse(file string, data []byte) (*Plan, error) {
	p, es := parse(file, data)
	if _, read := p.positions[""]; read {
		var shape Errors
		p.shape(&shape)
		es = merge(es, shape)
	}
	if err := es.asError(); err != nil {
		return nil, err
	}
	return p, nil
}

// parse returns what could be read beside the faults.
func parse(file string, data []byte) (*Plan, Errors) {
	p := &Plan{file: file, positions: map[string]position{}}
	var es Errors
	if len(data) > MaxFileBytes {
		p.fault(&es, "", "split it into several plans; long texts belong into scripts",
			"the plan file has %d bytes, at most %d are read", len(data), MaxFileBytes)
		return p, es
	}
	root, err := document(data)
	if err != nil {
		err.File = file
		return p, Errors{err}
	}
	d := decoder{plan: p, errs: &es}
	if d.refuseAliases(root) {
		return p, es
	}
	p.positions[""] = position{root.Line, root.Column}
	d.decode(root, planValue(p), "")
	return p, es
}

// document returns the one document of a file.
func document(data []byte) (*yaml.Node, *Error) {
	dec := yaml.NewDecoder(bytes.NewReader(data))
	var doc, more yaml.Node
	switch err := dec.Decode(&doc); {
	case errors.Is(err, io.EOF), err == nil && len(doc.Content) == 0:
		return nil, &Error{Line: 1, Column: 1, Message: "the file holds no plan", Mend: "begin with apiVersion: " + APIVersion + " and kind: " + Kind}
	case err != nil:
		return nil, syntaxError(err, data)
	}
	switch err := dec.Decode(&more); {
	case errors.Is(err, io.EOF):
		return doc.Content[0], nil
	case err != nil:
		return nil, syntaxError(err, data)
	}
	at := &more
	if len(more.Content) > 0 {
		at = more.Content[0]
	}
	return nil, &Error{Line: max(at.Line, 1), Column: max(at.Column, 1), Message: "the file holds more than one document",
		Mend: "write each plan into a file of its own"}
}

var yamlLine = regexp.MustCompile(`^yaml: (?:line (\d+): )?`)

// syntaxError finds the place of a fault that the YAML library describes only roughly:
// its line is where the broken construct begins, counted from 0 or 1, or is missing.
func syntaxError(err error, data []byte) *Error {
	text, line := err.Error(), 1
	if m := yamlLine.FindStringSubmatch(text); m != nil {
		text = text[len(m[0]):]
		if n, err := strconv.Atoi(m[1]); err == nil {
			line = n
		}
	}
	e := &Error{Column: 1, Message: "not valid YAML: " + text, Mend: "check indentation, colons, brackets and quotes from this line on"}
	switch {
	case strings.HasPrefix(text, "did not find expected"):
		line++
	case strings.Contains(text, "tab character"):
		if m := leadingTab.FindIndex(data); m != nil {
			line = 1 + bytes.Count(data[:m[0]], []byte("\n"))
		}
		e.Mend = "indent with blanks, not tabs"
	case strings.Contains(text, "cannot start any token"):
		e.Mend = "put texts that begin with @, ` or % in quotes, and indent with blanks, not tabs"
	case strings.Contains(text, "UTF-8"), strings.Contains(text, "control character"):
		for i, l := range bytes.Split(data, []byte("\n")) {
			if !utf8.Valid(l) || bytes.ContainsFunc(l, func(r rune) bool { return r < ' ' && r != '\t' && r != '\r' || r == 0x7f }) {
				line = i + 1
				break
			}
		}
		e.Mend = "save the file as UTF-8 text without control characters"
	}
	e.Line = line
	return e
}

var leadingTab = regexp.MustCompile(`(?m)^ *\t`)

// refuseAliases faults the first anchor or alias: a plan says everything where it
// stands, and a chain of aliases can stand for more than any memory holds.
func (d *decoder) refuseAliases(root *yaml.Node) bool {
	stack := []*yaml.Node{root}
	for len(stack) > 0 {
		n := stack[len(stack)-1]
		stack = stack[:len(stack)-1]
		if n.Kind == yaml.AliasNode || n.Anchor != "" {
			what := "anchor &" + n.Anchor
			if n.Kind == yaml.AliasNode {
				what = "alias *" + n.Value
			}
			*d.errs = append(*d.errs, &Error{File: d.plan.file, Line: n.Line, Column: n.Column,
				Message: fmt.Sprintf("%s: plan files have no anchors and aliases", what), Mend: "write the value out where it is used"})
			return true
		}
		for i := len(n.Content) - 1; i >= 0; i-- {
			stack = append(stack, n.Content[i])
		}
	}
	return false
}
