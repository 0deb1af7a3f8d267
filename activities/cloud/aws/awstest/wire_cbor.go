package awstest

import (
	"bytes"
	"compress/gzip"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"io"
	"math"
	"net/http"
	"reflect"
	"strconv"
	"strings"

	"github.com/aws/smithy-go/encoding/cbor"
)

// cborWire is the protocol of services that moved to Smithy RPC v2 with CBOR:
// https://smithy.io/2.0/additional-specs/protocols/smithy-rpc-v2.html
type cborWire struct {
	// service is the name of the service in paths.
	service string
}

func (w cborWire) operation(r *http.Request, _ []byte) (string, error) {
	op, ok := strings.CutPrefix(r.URL.Path, "/service/"+w.service+"/operation/")
	if !ok || strings.Contains(op, "/") || r.Method != http.MethodPost || r.Header.Get("Smithy-Protocol") != "rpc-v2-cbor" {
		return "", &Error{Code: "UnknownOperationException", Message: "no operation has " + r.Method + " " + r.URL.Path, Status: http.StatusNotFound}
	}
	return op, nil
}

func (cborWire) decode(_ string, r *http.Request, body []byte, in reflect.Value) error {
	if len(body) == 0 {
		return nil
	}
	var err error
	if r.Header.Get("Content-Encoding") == "gzip" { // PutMetricData may be compressed
		body, err = gunzip(body)
	}
	var v cbor.Value
	if err == nil {
		v, err = cbor.Decode(body)
	}
	var x any
	if err == nil {
		x, err = fromCBOR(v)
	}
	if err == nil {
		err = fromJSON(in, x)
	}
	if err != nil {
		return fault("SerializationException", "%v", err)
	}
	return nil
}

// gunzip expands a body, to the size that any body may have.
func gunzip(body []byte) ([]byte, error) {
	z, err := gzip.NewReader(bytes.NewReader(body))
	if err != nil {
		return nil, err
	}
	return io.ReadAll(io.LimitReader(z, maxBody))
}

// fromCBOR makes of a value what the JSON decoder would make of it: times are seconds, bytes are base64.
func fromCBOR(v cbor.Value) (any, error) {
	switch v := v.(type) {
	case cbor.Map:
		out := map[string]any{}
		for k, e := range v {
			x, err := fromCBOR(e)
			if err != nil {
				return nil, err
			}
			out[k] = x
		}
		return out, nil
	case cbor.List:
		out := make([]any, len(v))
		for i, e := range v {
			x, err := fromCBOR(e)
			if err != nil {
				return nil, err
			}
			out[i] = x
		}
		return out, nil
	case *cbor.Tag:
		if v.ID != 1 {
			return nil, fmt.Errorf("a value has the unknown tag %d", v.ID)
		}
		return fromCBOR(v.Value)
	case cbor.String:
		return string(v), nil
	case cbor.Slice:
		return base64.StdEncoding.EncodeToString(v), nil
	case cbor.Bool:
		return bool(v), nil
	case *cbor.Nil, *cbor.Undefined:
		return nil, nil
	}
	return cborNumber(v)
}

func cborNumber(v cbor.Value) (any, error) {
	switch v := v.(type) {
	case cbor.Uint:
		return json.Number(strconv.FormatUint(uint64(v), 10)), nil
	case cbor.NegInt:
		if v == 0 || uint64(v) > math.MaxInt64 {
			return nil, fmt.Errorf("an integer is out of range")
		}
		return json.Number("-" + strconv.FormatUint(uint64(v), 10)), nil
	case cbor.Float32:
		return json.Number(strconv.FormatFloat(float64(v), 'g', -1, 32)), nil
	case cbor.Float64:
		return json.Number(strconv.FormatFloat(float64(v), 'g', -1, 64)), nil
	}
	return nil, fmt.Errorf("a %T is no value of the protocol", v)
}

// toCBOR makes a value of one of the SDK; nil is left out of structures.
func toCBOR(v reflect.Value) cbor.Value {
	for v.Kind() == reflect.Pointer || v.Kind() == reflect.Interface {
		if v.IsNil() {
			return &cbor.Nil{}
		}
		v = v.Elem()
	}
	if v.Type() == timeType {
		at := v.Interface().(interface{ UnixMilli() int64 })
		return &cbor.Tag{ID: 1, Value: cbor.Float64(float64(at.UnixMilli()) / 1000)}
	}
	if v.Type() == bytesType {
		return cbor.Slice(v.Bytes())
	}
	switch v.Kind() {
	case reflect.Struct:
		out := cbor.Map{}
		for i := range v.NumField() {
			f := v.Type().Field(i)
			if f.IsExported() && f.Name != "ResultMetadata" && !isNil(v.Field(i)) {
				out[f.Name] = toCBOR(v.Field(i))
			}
		}
		return out
	case reflect.Slice:
		out := make(cbor.List, v.Len())
		for i := range out {
			out[i] = toCBOR(v.Index(i))
		}
		return out
	case reflect.Map:
		out := cbor.Map{}
		for _, k := range v.MapKeys() {
			out[k.String()] = toCBOR(v.MapIndex(k))
		}
		return out
	case reflect.String:
		return cbor.String(v.String())
	case reflect.Bool:
		return cbor.Bool(v.Bool())
	case reflect.Int, reflect.Int32, reflect.Int64:
		if n := v.Int(); n < 0 {
			return cbor.NegInt(-n)
		}
		return cbor.Uint(v.Int())
	case reflect.Float32, reflect.Float64:
		return cbor.Float64(v.Float())
	}
	panic("awstest: the protocol has no " + v.Type().String())
}

func (cborWire) encode(w http.ResponseWriter, _, id string, out reflect.Value) {
	cborAnswer(w, id, http.StatusOK, toCBOR(out))
}

func (cborWire) fail(w http.ResponseWriter, id string, f *Error) {
	w.Header().Set("x-amzn-query-error", f.Code+";Sender")
	cborAnswer(w, id, statusOf(f), cbor.Map{"__type": cbor.String(f.Code), "message": cbor.String(f.Message), "Message": cbor.String(f.Message)})
}

func cborAnswer(w http.ResponseWriter, id string, status int, v cbor.Value) {
	w.Header().Set("Smithy-Protocol", "rpc-v2-cbor")
	w.Header().Set("Content-Type", "application/cbor")
	w.Header().Set("x-amzn-RequestId", id)
	w.WriteHeader(status)
	_, _ = w.Write(cbor.Encode(v))
}
