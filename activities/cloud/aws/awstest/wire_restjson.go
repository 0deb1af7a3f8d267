package awstest

import (
	"bytes"
	"encoding/json"
	"fmt"
	"net/http"
	"net/url"
	"reflect"
	"regexp"
	"strings"
)

// restJSONWire is the protocol of services with paths and JSON, by a table of their operations instead of a model: members
// have the SDK's names, those in paths and queries too, but for their case:
// https://smithy.io/2.0/aws/protocols/aws-restjson1-protocol.html
type restJSONWire struct{ *restWire }

// restOperation is a row of the table: how an operation is asked for.
type restOperation struct{ name, method, path string }

func newRestJSONWire(operations []restOperation) *restJSONWire {
	w := &restJSONWire{&restWire{json: true}}
	for _, o := range operations {
		pattern := regexp.QuoteMeta(o.path)
		r := route{operation: o.name, method: o.method}
		for _, g := range pathVariable.FindAllStringSubmatch(pattern, -1) {
			r.names = append(r.names, g[1])
		}
		r.path = regexp.MustCompile("^" + pathVariable.ReplaceAllString(pattern, "([^/]+)") + "/?$")
		w.routes = append(w.routes, r)
	}
	return w
}

func (w *restJSONWire) decode(_ string, r *http.Request, body []byte, in reflect.Value) error {
	v := in.Elem()
	rt, values := w.find(r)
	for i, name := range rt.names {
		text, err := url.PathUnescape(values[i])
		if err == nil {
			err = setMember(v, name, text)
		}
		if err != nil {
			return fault(w.invalid(), "%v", err)
		}
	}
	for name, text := range r.URL.Query() {
		if err := setMember(v, name, text[0]); err != nil {
			return fault(w.invalid(), "%v", err)
		}
	}
	if len(bytes.TrimSpace(body)) == 0 {
		return nil
	}
	d := json.NewDecoder(bytes.NewReader(body))
	d.UseNumber()
	var x any
	err := d.Decode(&x)
	if err == nil {
		err = fromJSON(v, x)
	}
	if err != nil {
		return fault(w.invalid(), "%v", err)
	}
	return nil
}

// setMember fills the member of a name, whose first letter may be small.
func setMember(v reflect.Value, name, text string) error {
	f, ok := field(v, name)
	if !ok {
		return fmt.Errorf("%s has no member %s", strings.TrimSuffix(v.Type().Name(), "Input"), name)
	}
	return setScalar(f, text)
}

func (w *restJSONWire) encode(rw http.ResponseWriter, _, id string, out reflect.Value) {
	rw.Header().Set("Content-Type", "application/json")
	rw.Header().Set("x-amzn-RequestId", id)
	_ = json.NewEncoder(rw).Encode(toJSON(out, nil))
}
