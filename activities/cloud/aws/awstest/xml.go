package awstest

import (
	"bytes"
	"encoding/xml"
	"errors"
	"fmt"
	"io"
	"reflect"
	"slices"
	"strings"
)

// node is an element of XML.
type node struct {
	name     string
	text     string
	children []*node
}

func parseXML(b []byte) (*node, error) {
	d := xml.NewDecoder(bytes.NewReader(b))
	root := &node{}
	stack := []*node{root}
	for {
		t, err := d.Token()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			return nil, err
		}
		top := stack[len(stack)-1]
		switch t := t.(type) {
		case xml.StartElement:
			n := &node{name: t.Name.Local}
			top.children = append(top.children, n)
			stack = append(stack, n)
		case xml.EndElement:
			stack = stack[:len(stack)-1]
		case xml.CharData:
			top.text += string(t)
		}
	}
	if len(root.children) != 1 {
		return nil, errors.New("the body is not one XML document")
	}
	return root.children[0], nil
}

// fromXML fills v with an element of a shape.
func (m *model) fromXML(n *node, at *member, v reflect.Value) error {
	sh := m.shape(at)
	switch sh.Type {
	case "structure":
		if v.Kind() == reflect.Pointer {
			if v.IsNil() {
				v.Set(reflect.New(v.Type().Elem()))
			}
			v = v.Elem()
		}
		for name, mem := range sh.Members {
			for _, c := range n.children {
				if mem.Location != "" || c.name != mem.wireName(name) {
					continue
				}
				f, ok := field(v, name)
				if !ok {
					return fmt.Errorf("the SDK has no %s", name)
				}
				if err := m.fromXML(c, mem, f); err != nil {
					return fmt.Errorf("%s: %w", name, err)
				}
			}
		}
		return nil
	case "list":
		for _, c := range n.children {
			e := reflect.New(v.Type().Elem()).Elem()
			if err := m.fromXML(c, sh.Member, e); err != nil {
				return err
			}
			v.Set(reflect.Append(v, e))
		}
		return nil
	}
	return setScalar(v, strings.TrimSpace(n.text))
}

// toXML writes the members of a structure, or the value of anything else, without its own element.
func (m *model) toXML(b *bytes.Buffer, at *member, v reflect.Value) {
	for v.Kind() == reflect.Pointer {
		v = v.Elem()
	}
	sh := m.shape(at)
	switch sh.Type {
	case "structure":
		for _, name := range sortedKeys(sh.Members) {
			mem := sh.Members[name]
			f, ok := field(v, name)
			if !ok || isNil(f) || mem.Location != "" {
				continue
			}
			if list := m.shape(mem); list.Type == "list" && (list.Flattened || mem.Flattened) {
				for i := range f.Len() {
					m.element(b, mem.wireName(name), list.Member, f.Index(i))
				}
				continue
			}
			m.element(b, mem.wireName(name), mem, f)
		}
	case "list":
		for i := range v.Len() {
			m.element(b, sh.Member.wireName("member"), sh.Member, v.Index(i))
		}
	default:
		_ = xml.EscapeText(b, []byte(scalarText(v)))
	}
}

func (m *model) element(b *bytes.Buffer, name string, at *member, v reflect.Value) {
	fmt.Fprintf(b, "<%s>", name)
	m.toXML(b, at, v)
	fmt.Fprintf(b, "</%s>", name)
}

func sortedKeys[V any](m map[string]V) []string {
	keys := make([]string, 0, len(m))
	for k := range m {
		keys = append(keys, k)
	}
	slices.Sort(keys)
	return keys
}
