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

// ec2Wire is the protocol of EC2: https://smithy.io/2.0/aws/protocols/aws-ec2-query-protocol.html
type ec2Wire struct{ m *model }

func (e ec2Wire) operation(_ *http.Request, body []byte) (string, error) {
	form, err := url.ParseQuery(string(body))
	if err != nil || form.Get("Action") == "" {
		return "", fault("MissingAction", "The request is missing an action.")
	}
	return form.Get("Action"), nil
}

func (e ec2Wire) decode(op string, _ *http.Request, body []byte, in reflect.Value) error {
	form, err := url.ParseQuery(string(body))
	if err != nil {
		return fault("MalformedQueryString", "%v", err)
	}
	o := e.m.Operations[op]
	if o == nil {
		return fault("InvalidAction", "The action %s is not in the trimmed model.", op)
	}
	d := formReader{form: form, used: map[string]bool{"Action": true, "Version": true}}
	if o.Input != nil {
		if err := d.structure(e.m, o.Input, "", in.Elem()); err != nil {
			return fault("InvalidParameterValue", "%v", err)
		}
		if name := e.m.missing(e.m.shape(o.Input), in.Elem()); name != "" {
			return fault("MissingParameter", "The request must contain the parameter %s", name)
		}
	}
	for k := range form {
		if !d.used[k] {
			return fault("UnknownParameter", "The parameter %s is not recognized", k)
		}
	}
	return nil
}

func (e ec2Wire) encode(w http.ResponseWriter, op, id string, out reflect.Value) {
	var b bytes.Buffer
	fmt.Fprintf(&b, `<?xml version="1.0" encoding="UTF-8"?><%sResponse xmlns="http://ec2.amazonaws.com/doc/2016-11-15/"><requestId>%s</requestId>`, op, id)
	if o := e.m.Operations[op]; o.Output != nil {
		e.m.toXML(&b, o.Output, out)
	} else {
		b.WriteString("<return>true</return>")
	}
	fmt.Fprintf(&b, "</%sResponse>", op)
	w.Header().Set("Content-Type", "text/xml;charset=UTF-8")
	_, _ = w.Write(b.Bytes())
}

func (e ec2Wire) fail(w http.ResponseWriter, id string, f *Error) {
	var b bytes.Buffer
	b.WriteString(`<?xml version="1.0" encoding="UTF-8"?><Response><Errors><Error><Code>`)
	escape(&b, f.Code)
	b.WriteString("</Code><Message>")
	escape(&b, f.Message)
	fmt.Fprintf(&b, "</Message></Error></Errors><RequestID>%s</RequestID></Response>", id)
	w.Header().Set("Content-Type", "text/xml;charset=UTF-8")
	w.WriteHeader(statusOf(f))
	_, _ = w.Write(b.Bytes())
}

func statusOf(f *Error) int {
	if f.Status == 0 {
		return http.StatusBadRequest
	}
	return f.Status
}

// formReader reads flattened parameters: Filter.1.Value.2=….
type formReader struct {
	form url.Values
	used map[string]bool
}

func (d *formReader) has(key string) bool {
	if _, ok := d.form[key]; ok {
		return true
	}
	for k := range d.form {
		if strings.HasPrefix(k, key+".") {
			return true
		}
	}
	return false
}

func (d *formReader) structure(m *model, at *member, prefix string, v reflect.Value) error {
	for name, mem := range m.shape(at).Members {
		key := mem.QueryName
		if key == "" {
			key = mem.wireName(name)
			key = strings.ToUpper(key[:1]) + key[1:]
		}
		if key = prefix + key; !d.has(key) {
			continue
		}
		f, ok := field(v, name)
		if !ok {
			return fmt.Errorf("the SDK has no %s", name)
		}
		if err := d.value(m, mem, key, f); err != nil {
			return fmt.Errorf("%s: %w", key, err)
		}
	}
	return nil
}

func (d *formReader) value(m *model, at *member, key string, v reflect.Value) error {
	switch sh := m.shape(at); sh.Type {
	case "structure":
		if v.Kind() == reflect.Pointer {
			v.Set(reflect.New(v.Type().Elem()))
			v = v.Elem()
		}
		return d.structure(m, at, key+".", v)
	case "list":
		for i := 1; d.has(key + "." + strconv.Itoa(i)); i++ {
			e := reflect.New(v.Type().Elem()).Elem()
			if err := d.value(m, sh.Member, key+"."+strconv.Itoa(i), e); err != nil {
				return err
			}
			v.Set(reflect.Append(v, e))
		}
		return nil
	}
	d.used[key] = true
	return setScalar(v, d.form.Get(key))
}
