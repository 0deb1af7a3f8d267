package main

import (
	"encoding/json"
	"reflect"

	"github.com/invopop/jsonschema"

	"lifeboat/workflows/plan"
)

// schema reflects the plan's types; their comments become descriptions.
func schema(structs []structDoc) ([]byte, error) {
	r := jsonschema.Reflector{
		Anonymous: true,
		Mapper:    units,
		LookupComment: func(t reflect.Type, field string) string {
			for _, s := range structs {
				if s.name != t.Name() {
					continue
				}
				if field == "" {
					return s.doc
				}
				for _, f := range s.fields {
					if f.name == field {
						return f.doc
					}
				}
			}
			return ""
		},
	}
	s := r.Reflect(&plan.Plan{})
	s.Title = "Lifeboat recovery plan"
	text, err := json.MarshalIndent(s, "", "  ")
	if err != nil {
		return nil, err
	}
	return append(text, '\n'), nil
}

// units are texts with a unit, not numbers.
func units(t reflect.Type) *jsonschema.Schema {
	switch t {
	case reflect.TypeFor[plan.Duration]():
		return &jsonschema.Schema{Type: "string", Pattern: plan.DurationPattern, Examples: []any{"30s", "5m", "24h"}}
	case reflect.TypeFor[plan.Size]():
		return &jsonschema.Schema{Type: "string", Pattern: plan.SizePattern, Examples: []any{"512MiB", "10GB"}}
	}
	return nil
}
