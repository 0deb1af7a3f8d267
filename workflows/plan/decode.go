package plan

import (
	"encoding"
	"fmt"
	"reflect"
	"regexp"
	"strconv"
	"strings"

	"go.yaml.in/yaml/v3"
)

// decoder fills a plan from YAML nodes by the types' tags. Unlike the YAML library's it
// collects every fault with its place, converts nothing silently and remembers
// where each value stands.
type decoder struct {
	plan *Plan
	errs *Errors
}

func planValue(p *Plan) reflect.Value { return reflect.ValueOf(p).Elem() }

func (d *decoder) fault(n *yaml.Node, key, mend, format string, args ...any) *Error {
	e := &Error{File: d.plan.file, Line: n.Line, Column: n.Column, Key: key,
		Message: fmt.Sprintf(format, args...), Mend: mend}
	*d.errs = append(*d.errs, e)
	return e
}

func (d *decoder) decode(n *yaml.Node, v reflect.Value, key string) {
	if v.Kind() == reflect.Pointer {
		v.Set(reflect.New(v.Type().Elem()))
		v = v.Elem()
	}
	if n.ShortTag() == "!!null" {
		d.fault(n, key, "give it a value or take the key out", "has no value")
		return
	}
	_, isText := v.Addr().Interface().(encoding.TextUnmarshaler)
	switch {
	case isText:
		d.text(n, v, key)
	case v.Kind() == reflect.Struct:
		d.mapping(n, v, key)
	case v.Kind() == reflect.Map:
		d.texts(n, v, key)
	case v.Kind() == reflect.Slice:
		if n.Kind != yaml.SequenceNode {
			d.fault(n, key, "write a list: one item a line, each after a dash", "must be a list, not %s", what(n))
			return
		}
		v.Set(reflect.MakeSlice(v.Type(), len(n.Content), len(n.Content)))
		for i, item := range n.Content {
			at := fmt.Sprintf("%s[%d]", key, i)
			d.plan.positions[at] = position{item.Line, item.Column}
			d.decode(item, v.Index(i), at)
		}
	default:
		d.scalar(n, v, key)
	}
}

// texts reads keys of which each has a text.
func (d *decoder) texts(n *yaml.Node, v reflect.Value, key string) {
	if n.Kind != yaml.MappingNode {
		d.fault(n, key, "write keys with texts, indented below", "must hold keys with texts, not %s", what(n))
		return
	}
	v.Set(reflect.MakeMap(v.Type()))
	for i := 0; i+1 < len(n.Content); i += 2 {
		k, value := n.Content[i], n.Content[i+1]
		at := join(key, k.Value)
		switch {
		case k.Kind != yaml.ScalarNode || k.ShortTag() != "!!str" || !settingName.MatchString(k.Value):
			d.fault(k, key, "write lower-case letters, digits and dashes", "has a key that is no name of a setting")
		case secretKey.MatchString(k.Value):
			d.fault(k, at, "take it out (and change it where it is used); give credentials to the worker in its environment or in a file",
				"secrets never belong into a plan")
		case v.MapIndex(reflect.ValueOf(k.Value)).IsValid():
			d.fault(k, at, "keep one of them", "is there twice")
		default:
			text := reflect.New(v.Type().Elem()).Elem()
			d.plan.positions[at] = position{value.Line, value.Column}
			d.scalar(value, text, at)
			v.SetMapIndex(reflect.ValueOf(k.Value), text)
		}
	}
}

var settingName = regexp.MustCompile(`^[a-z0-9][a-z0-9-]{0,62}$`)

// text reads durations and sizes.
func (d *decoder) text(n *yaml.Node, v reflect.Value, key string) {
	if n.Kind != yaml.ScalarNode {
		d.fault(n, key, "write one value with its unit", "must be a value with its unit, not %s", what(n))
		return
	}
	err := v.Addr().Interface().(encoding.TextUnmarshaler).UnmarshalText([]byte(n.Value))
	if err == nil {
		return
	}
	cause, mend, _ := strings.Cut(err.Error(), ": ")
	if tag := n.ShortTag(); tag == "!!int" || tag == "!!float" {
		cause = n.Value + " has no unit"
	}
	d.fault(n, key, mend, "%s", cause)
}

func (d *decoder) scalar(n *yaml.Node, v reflect.Value, key string) {
	if n.Kind != yaml.ScalarNode {
		d.fault(n, key, "write one value", "must be one value, not %s", what(n))
		return
	}
	switch v.Kind() {
	case reflect.String:
		if n.ShortTag() != "!!str" {
			d.fault(n, key, "put it in quotes: "+quoted(n.Value), "must be a text, not %s", what(n))
			return
		}
		for _, r := range n.Value {
			if r < ' ' && r != '\n' && r != '\t' || r == 0x7f || r >= 0x80 && r < 0xa0 || r == 0x2028 || r == 0x2029 || r == 0xfeff {
				d.fault(n, key, "take it out", "holds the control character %U", r)
				return
			}
		}
		v.SetString(n.Value)
	case reflect.Int:
		i, err := strconv.Atoi(n.Value)
		if err != nil || !wholeNumber.MatchString(n.Value) || n.ShortTag() != "!!int" {
			d.fault(n, key, "write a whole number in digits, without quotes", "%s is not a whole number", quoted(n.Value))
			return
		}
		v.SetInt(int64(i))
	case reflect.Bool:
		if n.ShortTag() != "!!bool" {
			d.fault(n, key, "write true or false", "%s is neither true nor false", quoted(n.Value))
			return
		}
		v.SetBool(strings.EqualFold(n.Value, "true"))
	default:
		panic("plan: no decoder for " + v.Type().String())
	}
}

var wholeNumber = regexp.MustCompile(`^-?(0|[1-9][0-9]{0,8})$`)

func (d *decoder) mapping(n *yaml.Node, v reflect.Value, key string) {
	if n.Kind != yaml.MappingNode {
		d.fault(n, key, "write keys with values, indented below", "must hold keys (%s), not %s", list(keysOf(v.Type())), what(n))
		return
	}
	fields := map[string]int{}
	for i := range v.NumField() {
		if name := yamlKey(v.Type().Field(i)); name != "" {
			fields[name] = i
		}
	}
	seen := map[string]int{}
	for i := 0; i+1 < len(n.Content); i += 2 {
		k, value := n.Content[i], n.Content[i+1]
		at := join(key, k.Value)
		field, known := fields[k.Value]
		switch {
		case k.Kind != yaml.ScalarNode || k.ShortTag() == "!!merge":
			d.fault(k, key, "write a plain key", "has a key that is no text")
		case !known:
			d.unknown(k, v.Type(), key)
		case seen[k.Value] != 0:
			d.fault(k, at, "keep one of them", "is there twice, first at line %d", seen[k.Value])
		default:
			seen[k.Value] = k.Line
			f := v.Field(field)
			d.plan.positions[at] = position{k.Line, k.Column}
			if value.Kind == yaml.ScalarNode {
				d.plan.positions[at] = position{value.Line, value.Column}
			}
			d.decode(value, f, at)
			if f.Kind() == reflect.Int && f.IsZero() && value.Value == "0" {
				d.checkMinimum(value, v.Type().Field(field), at)
			}
		}
	}
}

// checkMinimum finds the zero that is written out; without it, it stands for the default.
func (d *decoder) checkMinimum(n *yaml.Node, f reflect.StructField, key string) {
	if low, ok := rulesOf(f).number("minimum"); ok && low > 0 {
		d.fault(n, key, fmt.Sprintf("write a number from %d, or take the key out", low), "0 is less than %d", low)
	}
}

var secretKey = regexp.MustCompile(`(?i)pass(word|wd|phrase)|secret|token|api[-_]?key|access[-_]?key|private[-_]?key|credential`)

func (d *decoder) unknown(k *yaml.Node, t reflect.Type, key string) {
	shown := k.Value
	if len(shown) > 40 {
		shown = strings.ToValidUTF8(shown[:40], "") + "…"
	}
	at, keys := join(key, shown), keysOf(t)
	if secretKey.MatchString(k.Value) {
		d.fault(k, at, "take it out (and change it where it is used); give credentials to the worker in its environment or in a file",
			"secrets never belong into a plan")
		return
	}
	e := d.fault(k, at, suggest(k.Value, keys, "known here: "+strings.Join(keys, ", ")), "unknown key")
	if meant := near(k.Value, keys); meant != "" {
		e.refers = join(key, meant) // that it is missing then follows from this fault
	}
}

// what names the kind of a node in words.
func what(n *yaml.Node) string {
	switch {
	case n.Kind == yaml.MappingNode:
		return "keys with values"
	case n.Kind == yaml.SequenceNode:
		return "a list"
	case n.ShortTag() == "!!int", n.ShortTag() == "!!float":
		return "the number " + quoted(n.Value)
	case n.ShortTag() == "!!bool":
		return "the truth value " + quoted(n.Value)
	case n.ShortTag() == "!!timestamp":
		return "the date " + quoted(n.Value)
	case n.ShortTag() == "!!str":
		return "the text " + quoted(n.Value)
	}
	return "a value of type " + quoted(n.ShortTag())
}

func join(key, name string) string {
	if key == "" {
		return name
	}
	return key + "." + name
}

// yamlKey is a field's key in the file, "" for fields that are not in it.
func yamlKey(f reflect.StructField) string {
	name, _, _ := strings.Cut(f.Tag.Get("yaml"), ",")
	if name == "-" || !f.IsExported() {
		return ""
	}
	return name
}

func keysOf(t reflect.Type) []string {
	var keys []string
	for i := range t.NumField() {
		if k := yamlKey(t.Field(i)); k != "" {
			keys = append(keys, k)
		}
	}
	return keys
}
