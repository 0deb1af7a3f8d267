package main

import (
	"go/ast"
	"go/parser"
	"go/token"
	"reflect"
	"strings"
)

// structDoc is a struct of the plan as its source describes it.
type structDoc struct {
	name, doc string
	fields    []fieldDoc
}

type fieldDoc struct {
	name, key, doc, goType string
	required               bool
	rules                  map[string][]string // of the jsonschema tag
}

// readTypes reads the structs of a Go file in their order, with comments and tags.
func readTypes(path string) ([]structDoc, error) {
	file, err := parser.ParseFile(token.NewFileSet(), path, nil, parser.ParseComments)
	if err != nil {
		return nil, err
	}
	var out []structDoc
	for _, decl := range file.Decls {
		gen, ok := decl.(*ast.GenDecl)
		if !ok || gen.Tok != token.TYPE {
			continue
		}
		for _, spec := range gen.Specs {
			t := spec.(*ast.TypeSpec)
			if st, ok := t.Type.(*ast.StructType); ok {
				out = append(out, structDoc{name: t.Name.Name, doc: oneLine(gen.Doc.Text()), fields: readFields(st)})
			}
		}
	}
	return out, nil
}

func readFields(st *ast.StructType) []fieldDoc {
	var out []fieldDoc
	for _, f := range st.Fields.List {
		if f.Tag == nil {
			continue
		}
		tag := reflect.StructTag(strings.Trim(f.Tag.Value, "`"))
		key, options, _ := strings.Cut(tag.Get("yaml"), ",")
		if key == "-" {
			continue
		}
		rules := map[string][]string{}
		for part := range strings.SplitSeq(tag.Get("jsonschema"), ",") {
			if k, v, ok := strings.Cut(part, "="); ok {
				rules[k] = append(rules[k], v)
			}
		}
		for _, name := range f.Names {
			out = append(out, fieldDoc{name: name.Name, key: key, doc: oneLine(f.Doc.Text()), goType: typeName(f.Type),
				required: !strings.Contains(options, "omitempty"), rules: rules})
		}
	}
	return out
}

func oneLine(s string) string { return strings.Join(strings.Fields(s), " ") }

func typeName(e ast.Expr) string {
	switch t := e.(type) {
	case *ast.Ident:
		return t.Name
	case *ast.StarExpr:
		return typeName(t.X)
	case *ast.MapType:
		return "map"
	case *ast.ArrayType:
		return "[]" + typeName(t.Elt)
	}
	return ""
}
