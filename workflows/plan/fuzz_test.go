package plan

import (
	"errors"
	"os"
	"path/filepath"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	"go.yaml.in/yaml/v3"
)

// FuzzParse: no input panics; each fault has a message and a mend; what parses and
// validates is written and read again as the same plan, and resolves.
func FuzzParse(f *testing.F) {
	files, err := filepath.Glob("../../examples/plans/*.yaml")
	if err != nil || len(files) == 0 {
		f.Fatalf("no example plans: %v", err)
	}
	for _, file := range append(files, "testdata/base.yaml") {
		text, err := os.ReadFile(file)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(text)
	}
	for _, s := range append(append([]fault{}, formFaults...), meaningFaults...) {
		f.Add([]byte(edit(f, base(f), s.old, s.new)))
	}
	same := []cmp.Option{cmpopts.IgnoreUnexported(Plan{}), cmpopts.EquateEmpty()}
	f.Fuzz(func(t *testing.T, data []byte) {
		p, err := Read("fuzz.yaml", data, func(string) ([]byte, error) { return []byte("true\n"), nil })
		if err != nil {
			var es Errors
			if !errors.As(err, &es) {
				t.Fatalf("not Errors: %v", err)
			}
			for _, e := range es {
				if e.Message == "" || e.Mend == "" {
					t.Fatalf("without cause or mend: %+v", e)
				}
			}
			return
		}
		text, err := yaml.Marshal(p)
		if err != nil {
			t.Fatal(err)
		}
		again, err := Parse("fuzz.yaml", text)
		if err != nil {
			t.Fatalf("%v\n%s", err, text)
		}
		again.Scripts = p.Scripts
		if d := cmp.Diff(p, again, same...); d != "" {
			t.Fatal(d)
		}
		if err := again.Validate(); err != nil {
			t.Fatalf("%v\n%s", err, text)
		}
		if _, err := Resolve(p); err != nil {
			t.Fatal(err)
		}
	})
}
