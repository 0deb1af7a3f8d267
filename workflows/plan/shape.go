package plan

import (
	"fmt"
	"maps"
	"reflect"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync"
)

// rules are a field's jsonschema tag: the one place where enumerations, limits and
// patterns are written, for the schema and for these checks.
type rules map[string][]string

func rulesOf(f reflect.StructField) rules {
	r := rules{}
	for part := range strings.SplitSeq(f.Tag.Get("jsonschema"), ",") {
		if k, v, ok := strings.Cut(part, "="); ok {
			r[k] = append(r[k], v)
		}
	}
	return r
}

func (r rules) number(name string) (int64, bool) {
	if len(r[name]) == 0 {
		return 0, false
	}
	n, err := strconv.ParseInt(r[name][0], 10, 64)
	return n, err == nil
}

var compiled sync.Map // pattern → *regexp.Regexp

func pattern(p string) *regexp.Regexp {
	if re, ok := compiled.Load(p); ok {
		return re.(*regexp.Regexp)
	}
	re := regexp.MustCompile(p)
	compiled.Store(p, re)
	return re
}

// shape checks what the tags say: required keys, enumerations, limits, patterns.
func (p *Plan) shape(es *Errors) { p.shapeOf(es, planValue(p), "") }

func (p *Plan) shapeOf(es *Errors, v reflect.Value, key string) {
	t := v.Type()
	for i := range t.NumField() {
		f := t.Field(i)
		name := yamlKey(f)
		if name == "" {
			continue
		}
		at, value, r := join(key, name), v.Field(i), rulesOf(f)
		if value.IsZero() || value.Kind() == reflect.Slice && value.Len() == 0 {
			// A struct may be there and empty: its own keys tell what is missing.
			if required := !strings.Contains(f.Tag.Get("yaml"), "omitempty"); required && value.Kind() != reflect.Struct {
				p.missing(es, at, r)
			}
			if value.Kind() != reflect.Struct || strings.Contains(f.Tag.Get("yaml"), "omitempty") {
				continue
			}
		}
		switch value.Kind() {
		case reflect.Struct:
			p.shapeOf(es, value, at)
		case reflect.Map:
			for _, k := range slices.Sorted(maps.Keys(value.Interface().(map[string]string))) {
				p.shapeString(es, value.MapIndex(reflect.ValueOf(k)).String(), join(at, k), rules{})
			}
		case reflect.Slice:
			for j := range value.Len() {
				p.shapeItem(es, value.Index(j), fmt.Sprintf("%s[%d]", at, j))
			}
		case reflect.String:
			p.shapeString(es, value.String(), at, r)
		case reflect.Int:
			p.shapeInt(es, value.Int(), at, r)
		}
	}
}

func (p *Plan) shapeItem(es *Errors, v reflect.Value, key string) {
	switch {
	case v.Kind() == reflect.Struct:
		p.shapeOf(es, v, key)
	case v.Kind() == reflect.String && v.Len() == 0:
		p.fault(es, key, "write a name or take the item out", "is empty")
	case v.Kind() == reflect.String:
		p.shapeString(es, v.String(), key, rules{})
	}
}

func (p *Plan) missing(es *Errors, key string, r rules) {
	mend := "add it"
	switch enum := r["enum"]; {
	case len(enum) == 1:
		mend = "write " + enum[0]
	case len(enum) > 1:
		mend = "write one of " + strings.Join(enum, ", ")
	case r["minItems"] != nil:
		mend = "add at least one item"
	}
	cause := "is required and missing"
	if _, there := p.positions[key]; there {
		cause = "is required and empty"
	}
	p.fault(es, key, mend, "%s", cause)
}

var (
	secretValue = regexp.MustCompile(`-----BEGIN [A-Z ]*PRIVATE KEY-----|\b(AKIA|ASIA)[0-9A-Z]{16}\b|\bLTAI[0-9A-Za-z]{12,20}\b`)
	secretMend  = "take it out (and change it where it is used); give credentials to the worker in its environment or in a file"
)

func (p *Plan) shapeString(es *Errors, s, key string, r rules) {
	enum := r["enum"]
	max, _ := r.number("maxLength")
	switch {
	case secretValue.MatchString(s):
		p.fault(es, key, secretMend, "looks like a secret: secrets never belong into a plan")
	case enum != nil && !contains(enum, s):
		p.fault(es, key, suggest(s, enum, "write "+strings.Join(enum, " or ")), "%s is not known", quoted(s))
	case max > 0 && len(s) > int(max):
		p.fault(es, key, fmt.Sprintf("shorten it to %d: names are part of workflow IDs", max), "%s has %d characters", quoted(s), len(s))
	case max > 0 && !pattern(r["pattern"][0]).MatchString(s):
		p.fault(es, key, "use lower-case letters, digits and dashes inside, for example "+quoted(label(s, "web-1")), "%s is not a name", quoted(s))
	case r["pattern"] != nil && !pattern(r["pattern"][0]).MatchString(s):
		p.fault(es, key, "begin it with /", "%s is not a path", quoted(s))
	}
}

func (p *Plan) shapeInt(es *Errors, n int64, key string, r rules) {
	if low, ok := r.number("minimum"); ok && n < low {
		p.fault(es, key, fmt.Sprintf("write a number from %d", low), "%d is less than %d", n, low)
	}
	if high, ok := r.number("maximum"); ok && n > high {
		p.fault(es, key, fmt.Sprintf("write a number up to %d", high), "%d is more than %d", n, high)
	}
}

func contains(all []string, s string) bool {
	for _, a := range all {
		if a == s {
			return true
		}
	}
	return false
}

// label turns any text into a name; otherwise is used when nothing of it is left.
func label(s, otherwise string) string {
	var b strings.Builder
	for _, r := range strings.ToLower(s) {
		switch {
		case r >= 'a' && r <= 'z' || r >= '0' && r <= '9':
			b.WriteRune(r)
		case b.Len() > 0 && !strings.HasSuffix(b.String(), "-"):
			b.WriteByte('-')
		}
		if b.Len() == 40 {
			break
		}
	}
	if out := strings.Trim(b.String(), "-"); out != "" {
		return out
	}
	return otherwise
}
