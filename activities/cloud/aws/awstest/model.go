package awstest

import (
	"embed"
	"encoding/json"
	"fmt"
	"reflect"
	"strings"
)

// The service models are trimmed: the operations that are used, without documentation.
//
//go:embed model/*.json
var modelFiles embed.FS

// model is a service's definition, as botocore publishes it (Apache-2.0).
type model struct {
	Metadata   struct{ XMLNamespace string }
	Operations map[string]*operation
	Shapes     map[string]*shape
}

type operation struct {
	Name string
	HTTP struct {
		Method       string
		RequestURI   string `json:"requestUri"`
		ResponseCode int    `json:"responseCode"`
	}
	Input, Output *member
}

// shape is a type.
type shape struct {
	Type       string // structure, list, map, string, integer, …
	Members    map[string]*member
	Required   []string
	Member     *member // of a list
	Key, Value *member // of a map
	Payload    string
	Flattened  bool
	Exception  bool
}

// member says which shape stands at a place, and how it is called on the wire.
type member struct {
	Shape        string
	LocationName string `json:"locationName"`
	QueryName    string `json:"queryName"`
	Location     string
	Flattened    bool
}

func loadModel(name string) *model {
	raw, err := modelFiles.ReadFile("model/" + name + ".json")
	if err != nil {
		panic(err)
	}
	m := new(model)
	if err := json.Unmarshal(raw, m); err != nil {
		panic(fmt.Sprintf("model %s: %v", name, err))
	}
	return m
}

func (m *model) shape(at *member) *shape { return m.Shapes[at.Shape] }

// wireName is how a member is called in XML and JSON.
func (m *member) wireName(name string) string {
	if m.LocationName != "" {
		return m.LocationName
	}
	return name
}

// field finds the SDK's field of a member.
func field(v reflect.Value, name string) (reflect.Value, bool) {
	if name == "" {
		return reflect.Value{}, false
	}
	f := v.FieldByName(strings.ToUpper(name[:1]) + name[1:])
	return f, f.IsValid()
}

// missing says which required member of a shape is not there.
func (m *model) missing(sh *shape, v reflect.Value) string {
	for _, name := range sh.Required {
		if f, ok := field(v, name); ok && f.IsZero() && f.Kind() != reflect.Bool {
			return name
		}
	}
	return ""
}
