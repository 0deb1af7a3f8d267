package awstest

import (
	"bytes"
	"encoding/json"
	"net/http"
	"reflect"
	"strings"
)

// jsonWire is the protocol of services that name the operation in a header:
// https://smithy.io/2.0/aws/protocols/aws-json-1_1-protocol.html
type jsonWire struct{}

func (jsonWire) operation(r *http.Request, _ []byte) (string, error) {
	_, op, ok := strings.Cut(r.Header.Get("X-Amz-Target"), ".")
	if !ok {
		return "", fault("UnknownOperationException", "X-Amz-Target names no operation")
	}
	return op, nil
}

func (jsonWire) decode(_ string, _ *http.Request, body []byte, in reflect.Value) error {
	d := json.NewDecoder(bytes.NewReader(body))
	d.UseNumber()
	var x any
	err := d.Decode(&x)
	if err == nil {
		err = fromJSON(in, x)
	}
	if err != nil {
		return fault("ValidationException", "%v", err)
	}
	return nil
}

func (jsonWire) encode(w http.ResponseWriter, _, id string, out reflect.Value) {
	w.Header().Set("Content-Type", "application/x-amz-json-1.1")
	w.Header().Set("x-amzn-RequestId", id)
	_ = json.NewEncoder(w).Encode(toJSON(out, nil))
}

func (jsonWire) fail(w http.ResponseWriter, id string, f *Error) {
	w.Header().Set("x-amzn-RequestId", id)
	failJSON(w, f)
}
