package awstest

import (
	"bytes"
	"encoding/json"
	"encoding/xml"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"reflect"
	"regexp"
	"strings"
)

// restWire is the protocol of services with paths, in XML or JSON:
// https://smithy.io/2.0/aws/protocols/aws-restxml-protocol.html and aws-restjson1-protocol.html
type restWire struct {
	m      *model
	json   bool
	routes []route
}

type route struct {
	operation, method string
	path              *regexp.Regexp
	names             []string
}

var pathVariable = regexp.MustCompile(`\\\{([A-Za-z]+)(\\\+)?\\\}`)

func newRestWire(m *model, isJSON bool) *restWire {
	w := &restWire{m: m, json: isJSON}
	for _, name := range sortedKeys(m.Operations) {
		o := m.Operations[name]
		path, _, _ := strings.Cut(o.HTTP.RequestURI, "?")
		pattern := regexp.QuoteMeta(strings.TrimSuffix(path, "/"))
		r := route{operation: name, method: o.HTTP.Method}
		for _, g := range pathVariable.FindAllStringSubmatch(pattern, -1) {
			r.names = append(r.names, g[1])
		}
		r.path = regexp.MustCompile("^" + pathVariable.ReplaceAllString(pattern, "([^/]+)") + "/?$")
		w.routes = append(w.routes, r)
	}
	return w
}

func (w *restWire) find(r *http.Request) (*route, []string) {
	for i := range w.routes {
		if w.routes[i].method != r.Method {
			continue
		}
		if g := w.routes[i].path.FindStringSubmatch(r.URL.EscapedPath()); g != nil {
			return &w.routes[i], g[1:]
		}
	}
	return nil, nil
}

func (w *restWire) operation(r *http.Request, _ []byte) (string, error) {
	rt, _ := w.find(r)
	if rt == nil {
		return "", &Error{Code: "UnknownOperationException", Message: "no operation has " + r.Method + " " + r.URL.Path, Status: http.StatusNotFound}
	}
	return rt.operation, nil
}

func (w *restWire) decode(op string, r *http.Request, body []byte, in reflect.Value) error {
	o, v := w.m.Operations[op], in.Elem()
	if o.Input == nil {
		return nil
	}
	sh := w.m.shape(o.Input)
	if err := w.decodeLocations(sh, r, v); err != nil {
		return fault(w.invalid(), "%v", err)
	}
	var err error
	switch {
	case sh.Payload != "" && w.m.shape(sh.Members[sh.Payload]).Type != "structure":
		f, _ := field(v, sh.Payload)
		err = setBody(f, body)
	case len(bytes.TrimSpace(body)) == 0:
	case w.json:
		d := json.NewDecoder(bytes.NewReader(body))
		d.UseNumber()
		var x any
		if err = d.Decode(&x); err == nil {
			err = fromJSON(v, x)
		}
	default:
		var n *node
		if n, err = parseXML(body); err == nil {
			err = w.m.fromXML(n, o.Input, v)
		}
	}
	if err != nil {
		return fault(w.invalid(), "%v", err)
	}
	if name := w.m.missing(sh, v); name != "" {
		return fault(w.invalid(), "%s is required", name)
	}
	return nil
}

func (w *restWire) invalid() string {
	if w.json {
		return "ValidationException"
	}
	return "InvalidInput"
}

// decodeLocations reads what stands in the path, the query and the headers.
func (w *restWire) decodeLocations(sh *shape, r *http.Request, v reflect.Value) error {
	rt, values := w.find(r)
	for name, m := range sh.Members {
		f, ok := field(v, name)
		if !ok {
			continue
		}
		text, there := "", false
		switch m.Location {
		case "uri":
			for i, n := range rt.names {
				if n == m.LocationName {
					text, there = values[i], true
				}
			}
			var err error
			if text, err = url.PathUnescape(text); err != nil {
				return err
			}
		case "querystring":
			there = r.URL.Query().Has(m.LocationName)
			text = r.URL.Query().Get(m.LocationName)
		case "header":
			text = r.Header.Get(m.LocationName)
			there = text != ""
		}
		if !there {
			continue
		}
		if err := setScalar(f, text); err != nil {
			return fmt.Errorf("%s: %w", name, err)
		}
	}
	return nil
}

func (w *restWire) encode(rw http.ResponseWriter, op, id string, out reflect.Value) {
	o := w.m.Operations[op]
	rw.Header().Set("x-amzn-RequestId", id)
	status := o.HTTP.ResponseCode
	if status == 0 {
		status = http.StatusOK
	}
	if o.Output == nil {
		rw.WriteHeader(status)
		return
	}
	v, sh := out.Elem(), w.m.shape(o.Output)
	for name, m := range sh.Members {
		if f, ok := field(v, name); ok && m.Location == "header" && !isNil(f) {
			rw.Header().Set(m.LocationName, scalarText(f))
		}
	}
	if sh.Payload != "" && w.m.shape(sh.Members[sh.Payload]).Type != "structure" {
		f, _ := field(v, sh.Payload)
		rw.Header().Set("Content-Type", "application/octet-stream")
		rw.WriteHeader(status)
		_, _ = io.Copy(rw, f.Interface().(io.Reader))
		return
	}
	var b bytes.Buffer
	if w.json {
		rw.Header().Set("Content-Type", "application/json")
		_ = json.NewEncoder(&b).Encode(toJSON(v, nil))
	} else {
		rw.Header().Set("Content-Type", "text/xml")
		fmt.Fprintf(&b, "%s<%s>", xml.Header, o.Output.Shape)
		w.m.toXML(&b, o.Output, v)
		fmt.Fprintf(&b, "</%s>", o.Output.Shape)
	}
	rw.WriteHeader(status)
	_, _ = rw.Write(b.Bytes())
}

func (w *restWire) fail(rw http.ResponseWriter, id string, f *Error) {
	rw.Header().Set("x-amzn-RequestId", id)
	if w.json {
		failJSON(rw, f)
		return
	}
	var b bytes.Buffer
	b.WriteString(xml.Header + "<ErrorResponse><Error><Type>Sender</Type><Code>")
	escape(&b, f.Code)
	b.WriteString("</Code><Message>")
	escape(&b, f.Message)
	fmt.Fprintf(&b, "</Message></Error><RequestId>%s</RequestId></ErrorResponse>", id)
	rw.Header().Set("Content-Type", "text/xml")
	rw.WriteHeader(statusOf(f))
	_, _ = rw.Write(b.Bytes())
}

func failJSON(rw http.ResponseWriter, f *Error) {
	rw.Header().Set("x-amzn-ErrorType", f.Code)
	rw.Header().Set("Content-Type", "application/json")
	rw.WriteHeader(statusOf(f))
	body := map[string]string{"__type": f.Code, "Message": f.Message, "message": f.Message}
	if f.Reason != "" {
		body["Reason"] = f.Reason
	}
	_ = json.NewEncoder(rw).Encode(body)
}

func escape(b *bytes.Buffer, s string) { _ = xml.EscapeText(b, []byte(s)) }
