package awstest

import (
	"bytes"
	"fmt"
	"net/http"
	"net/url"
	"reflect"
	"strconv"
	"strings"
)

// queryWire is the protocol of the older services:
// https://smithy.io/2.0/aws/protocols/aws-query-protocol.html
type queryWire struct {
	// items are the names of list elements by the type of the elements, where they are not "member".
	items map[string]string
}

func (queryWire) operation(_ *http.Request, body []byte) (string, error) {
	return ec2Wire{}.operation(nil, body)
}

func (q queryWire) decode(_ string, _ *http.Request, body []byte, in reflect.Value) error {
	form, err := url.ParseQuery(string(body))
	if err != nil {
		return fault("MalformedQueryString", "%v", err)
	}
	d := formReader{form: form, used: map[string]bool{"Action": true, "Version": true}}
	if err := d.plainStruct("", in.Elem()); err != nil {
		return fault("ValidationError", "%v", err)
	}
	for k := range form {
		if !d.used[k] {
			return fault("ValidationError", "%s is no parameter of this operation", k)
		}
	}
	return nil
}

func (d *formReader) plainStruct(prefix string, v reflect.Value) error {
	for i := range v.NumField() {
		f := v.Type().Field(i)
		if key := prefix + f.Name; f.IsExported() && d.has(key) {
			if err := d.plain(key, v.Field(i)); err != nil {
				return fmt.Errorf("%s: %w", key, err)
			}
		}
	}
	return nil
}

// plainMap reads a map: key.entry.1.Name and key.entry.1.Value, or key and value.
func (d *formReader) plainMap(key string, v reflect.Value) error {
	v.Set(reflect.MakeMap(v.Type()))
	for i := 1; d.has(key + ".entry." + strconv.Itoa(i)); i++ {
		entry := key + ".entry." + strconv.Itoa(i) + "."
		name, value := entry+"key", entry+"value"
		if d.has(entry + "Name") {
			name, value = entry+"Name", entry+"Value"
		}
		d.used[name] = true
		e := reflect.New(v.Type().Elem()).Elem()
		if err := d.plain(value, e); err != nil {
			return err
		}
		v.SetMapIndex(reflect.ValueOf(d.form.Get(name)).Convert(v.Type().Key()), e)
	}
	return nil
}

// plain reads a value by the SDK's names. Lists have an element name between key and number.
func (d *formReader) plain(key string, v reflect.Value) error {
	t := v.Type()
	if t.Kind() == reflect.Pointer && t.Elem().Kind() == reflect.Struct && t.Elem() != timeType {
		v.Set(reflect.New(t.Elem()))
		return d.plainStruct(key+".", v.Elem())
	}
	switch {
	case t.Kind() == reflect.Struct && t != timeType:
		return d.plainStruct(key+".", v)
	case t.Kind() == reflect.Map:
		return d.plainMap(key, v)
	case t.Kind() == reflect.Slice && t != bytesType:
		item := d.itemName(key)
		if item == "" {
			d.used[key] = true // an empty list
			v.Set(reflect.MakeSlice(t, 0, 0))
			return nil
		}
		for i := 1; d.has(item + strconv.Itoa(i)); i++ {
			e := reflect.New(t.Elem()).Elem()
			if err := d.plain(item+strconv.Itoa(i), e); err != nil {
				return err
			}
			v.Set(reflect.Append(v, e))
		}
		return nil
	}
	d.used[key] = true
	return setScalar(v, d.form.Get(key))
}

// itemName gives what stands before the numbers of a list's elements.
func (d *formReader) itemName(key string) string {
	for k := range d.form {
		rest, ok := strings.CutPrefix(k, key+".")
		if !ok {
			continue
		}
		if name, _, _ := strings.Cut(rest, "."); strings.Trim(name, "0123456789") != "" {
			return key + "." + name + "."
		}
		return key + "."
	}
	return ""
}

func (q queryWire) encode(w http.ResponseWriter, op, id string, out reflect.Value) {
	var b bytes.Buffer
	fmt.Fprintf(&b, `<?xml version="1.0" encoding="UTF-8"?><%[1]sResponse><%[1]sResult>`, op)
	q.write(&b, out)
	fmt.Fprintf(&b, "</%[1]sResult><ResponseMetadata><RequestId>%[2]s</RequestId></ResponseMetadata></%[1]sResponse>", op, id)
	w.Header().Set("Content-Type", "text/xml")
	_, _ = w.Write(b.Bytes())
}

func (q queryWire) write(b *bytes.Buffer, v reflect.Value) {
	for v.Kind() == reflect.Pointer {
		v = v.Elem()
	}
	switch {
	case v.Kind() == reflect.Struct && v.Type() != timeType:
		for i := range v.NumField() {
			f := v.Type().Field(i)
			if !f.IsExported() || f.Name == "ResultMetadata" || isNil(v.Field(i)) {
				continue
			}
			fmt.Fprintf(b, "<%s>", f.Name)
			q.write(b, v.Field(i))
			fmt.Fprintf(b, "</%s>", f.Name)
		}
	case v.Kind() == reflect.Slice && v.Type() != bytesType:
		name := q.items[v.Type().Elem().Name()]
		if name == "" {
			name = "member"
		}
		for i := range v.Len() {
			fmt.Fprintf(b, "<%s>", name)
			q.write(b, v.Index(i))
			fmt.Fprintf(b, "</%s>", name)
		}
	default:
		escape(b, scalarText(v))
	}
}

func (q queryWire) fail(w http.ResponseWriter, id string, f *Error) {
	var b bytes.Buffer
	b.WriteString("<ErrorResponse><Error><Type>Sender</Type><Code>")
	escape(&b, f.Code)
	b.WriteString("</Code><Message>")
	escape(&b, f.Message)
	fmt.Fprintf(&b, "</Message></Error><RequestId>%s</RequestId></ErrorResponse>", id)
	w.Header().Set("Content-Type", "text/xml")
	w.WriteHeader(statusOf(f))
	_, _ = w.Write(b.Bytes())
}
