package awstest

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"io"
	"reflect"
	"strconv"
	"time"
)

var (
	timeType   = reflect.TypeFor[time.Time]()
	bytesType  = reflect.TypeFor[[]byte]()
	readerType = reflect.TypeFor[io.Reader]()
	closerType = reflect.TypeFor[io.ReadCloser]()
)

// setScalar fills v, which may be a pointer, with what a text means.
func setScalar(v reflect.Value, s string) error {
	if v.Kind() == reflect.Pointer {
		v.Set(reflect.New(v.Type().Elem()))
		v = v.Elem()
	}
	switch {
	case v.Type() == timeType:
		t, err := time.Parse(time.RFC3339, s)
		if err != nil {
			return fmt.Errorf("%q is no time", s)
		}
		v.Set(reflect.ValueOf(t))
		return nil
	case v.Type() == bytesType:
		b, err := base64.StdEncoding.DecodeString(s)
		v.SetBytes(b)
		return err
	}
	switch v.Kind() {
	case reflect.String:
		v.SetString(s)
	case reflect.Bool:
		b, err := strconv.ParseBool(s)
		v.SetBool(b)
		return err
	case reflect.Int32, reflect.Int64, reflect.Int:
		n, err := strconv.ParseInt(s, 10, v.Type().Bits())
		v.SetInt(n)
		return err
	case reflect.Float64, reflect.Float32:
		n, err := strconv.ParseFloat(s, v.Type().Bits())
		v.SetFloat(n)
		return err
	default:
		return fmt.Errorf("cannot set a %s", v.Type())
	}
	return nil
}

// scalarText is what a scalar is on the wire, in XML, URLs and headers.
func scalarText(v reflect.Value) string {
	for v.Kind() == reflect.Pointer {
		v = v.Elem()
	}
	switch x := v.Interface().(type) {
	case time.Time:
		return x.UTC().Format("2006-01-02T15:04:05.000Z")
	case []byte:
		return base64.StdEncoding.EncodeToString(x)
	}
	return fmt.Sprint(v.Interface())
}

// setBody fills a payload: bytes, text or a stream.
func setBody(v reflect.Value, body []byte) error {
	switch {
	case v.Type() == readerType || v.Type() == closerType:
		v.Set(reflect.ValueOf(io.NopCloser(bytes.NewReader(body))))
	case v.Type() == bytesType:
		v.SetBytes(body)
	default:
		return setScalar(v, string(body))
	}
	return nil
}

// isNil tells what is left out.
func isNil(v reflect.Value) bool {
	switch v.Kind() {
	case reflect.Pointer, reflect.Interface, reflect.Map, reflect.Slice:
		return v.IsNil()
	case reflect.String:
		return v.Len() == 0 // of an enumeration: a plain string of the SDK is a pointer
	}
	return false
}

// fromJSON fills v with a JSON value, by the SDK's names; epoch seconds are times.
func fromJSON(v reflect.Value, x any) error {
	if x == nil {
		return nil
	}
	if v.Kind() == reflect.Pointer {
		if v.IsNil() {
			v.Set(reflect.New(v.Type().Elem()))
		}
		return fromJSON(v.Elem(), x)
	}
	switch x := x.(type) {
	case map[string]any:
		return fromJSONObject(v, x)
	case []any:
		if v.Kind() != reflect.Slice {
			return fmt.Errorf("a list where a %s is expected", v.Type())
		}
		v.Set(reflect.MakeSlice(v.Type(), len(x), len(x)))
		for i := range x {
			if err := fromJSON(v.Index(i), x[i]); err != nil {
				return err
			}
		}
		return nil
	case json.Number:
		if v.Type() == timeType {
			f, err := x.Float64()
			v.Set(reflect.ValueOf(time.UnixMilli(int64(f * 1000)).UTC()))
			return err
		}
		return setScalar(v, x.String())
	case bool:
		return setScalar(v, strconv.FormatBool(x))
	case string:
		return setScalar(v, x)
	}
	return fmt.Errorf("a %T where a %s is expected", x, v.Type())
}

func fromJSONObject(v reflect.Value, x map[string]any) error {
	if v.Kind() == reflect.Map {
		v.Set(reflect.MakeMap(v.Type()))
		for k, e := range x {
			el := reflect.New(v.Type().Elem()).Elem()
			if err := fromJSON(el, e); err != nil {
				return err
			}
			v.SetMapIndex(reflect.ValueOf(k).Convert(v.Type().Key()), el)
		}
		return nil
	}
	if v.Kind() != reflect.Struct {
		return fmt.Errorf("an object where a %s is expected", v.Type())
	}
	for k, e := range x {
		f, ok := field(v, k)
		if !ok {
			return fmt.Errorf("%s has no member %s", v.Type().Name(), k)
		}
		if err := fromJSON(f, e); err != nil {
			return fmt.Errorf("%s: %w", k, err)
		}
	}
	return nil
}

// toJSON makes a JSON value of a value of the SDK; nil is left out. rename gives other names
// to fields, and may be nil.
func toJSON(v reflect.Value, rename func(string) string) any {
	for v.Kind() == reflect.Pointer || v.Kind() == reflect.Interface {
		if v.IsNil() {
			return nil
		}
		v = v.Elem()
	}
	switch x := v.Interface().(type) {
	case time.Time:
		return float64(x.UnixMilli()) / 1000
	case []byte:
		return base64.StdEncoding.EncodeToString(x)
	}
	switch v.Kind() {
	case reflect.Struct:
		out := map[string]any{}
		for i := range v.NumField() {
			f := v.Type().Field(i)
			if !f.IsExported() || f.Name == "ResultMetadata" || isNil(v.Field(i)) {
				continue
			}
			name := f.Name
			if rename != nil {
				name = rename(name)
			}
			out[name] = toJSON(v.Field(i), rename)
		}
		return out
	case reflect.Slice:
		out := make([]any, v.Len())
		for i := range out {
			out[i] = toJSON(v.Index(i), rename)
		}
		return out
	case reflect.Map:
		out := map[string]any{}
		for _, k := range v.MapKeys() {
			out[k.String()] = toJSON(v.MapIndex(k), rename)
		}
		return out
	}
	return v.Interface()
}
