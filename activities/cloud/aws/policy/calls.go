package policy

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"go/ast"
	"go/importer"
	"go/parser"
	"go/token"
	"go/types"
	"io"
	"maps"
	"os"
	"os/exec"
	"path"
	"path/filepath"
	"slices"
	"strings"
)

// Packages are those that talk to AWS.
var Packages = []string{"lifeboat/activities/cloud/aws", "lifeboat/replication/ebs"}

// sdk is where the SDK's packages are.
const sdk = "github.com/aws/aws-sdk-go-v2/"

// Call is an operation of a service, as "ec2.RunInstances": package of the SDK and name.
type Call string

// listed is what go list tells of a package.
type listed struct {
	ImportPath, Dir, Export string
	GoFiles                 []string
}

// Calls finds the operations that Packages use, in the module at root: whatever function or interface of the SDK's
// form takes a pointer to the Input of an operation, or something that does, uses that operation. So methods of clients,
// paginators, waiters and presigned requests are all found.
func Calls(root string) ([]Call, error) {
	packages, err := list(root, Packages...)
	if err != nil {
		return nil, err
	}
	found := map[Call]bool{}
	for _, name := range Packages {
		if err := calls(packages, name, found); err != nil {
			return nil, fmt.Errorf("calls of %s: %w", name, err)
		}
	}
	return slices.Sorted(maps.Keys(found)), nil
}

// list asks the go command for the packages and what they import, with files of their types.
func list(root string, names ...string) (map[string]listed, error) {
	cmd := exec.Command("go", append([]string{"list", "-export", "-deps", "-json=ImportPath,Dir,Export,GoFiles"}, names...)...)
	var out, said bytes.Buffer
	cmd.Dir, cmd.Stdout, cmd.Stderr = root, &out, &said
	if err := cmd.Run(); err != nil {
		return nil, fmt.Errorf("go list in %s: %w: %s", root, err, said.String())
	}
	packages := map[string]listed{}
	for d := json.NewDecoder(&out); ; {
		var p listed
		err := d.Decode(&p)
		if errors.Is(err, io.EOF) {
			return packages, nil
		}
		if err != nil {
			return nil, fmt.Errorf("what go list said: %w", err)
		}
		packages[p.ImportPath] = p
	}
}

// calls adds those of one package.
func calls(packages map[string]listed, name string, found map[Call]bool) error {
	set := token.NewFileSet()
	var files []*ast.File
	for _, f := range packages[name].GoFiles {
		file, err := parser.ParseFile(set, filepath.Join(packages[name].Dir, f), nil, parser.SkipObjectResolution)
		if err != nil {
			return err
		}
		files = append(files, file)
	}
	exported := func(path string) (io.ReadCloser, error) {
		if packages[path].Export == "" {
			return nil, fmt.Errorf("go list gave no types of %s", path)
		}
		return os.Open(packages[path].Export)
	}
	info := &types.Info{Uses: map[*ast.Ident]types.Object{}}
	config := types.Config{Importer: importer.ForCompiler(set, "gc", exported)}
	if _, err := config.Check(name, set, files, info); err != nil {
		return err
	}
	for _, o := range info.Uses {
		if f, ok := o.(*types.Func); ok && asks(f) {
			for _, c := range operations(f.Signature(), 0) {
				found[c] = true
			}
		}
	}
	return nil
}

// asks tells whether a function can make a request: one of the SDK, or a method of an interface, which a client
// of the SDK stands behind.
func asks(f *types.Func) bool {
	if f.Pkg() == nil {
		return false
	}
	r := f.Signature().Recv()
	return strings.HasPrefix(f.Pkg().Path(), sdk) || r != nil && types.IsInterface(r.Type())
}

// operations are those whose Input a function takes. Of a parameter that is an interface it takes what the
// methods of that take: so NewAssumeRoleProvider asks sts.AssumeRole.
func operations(s *types.Signature, depth int) (found []Call) {
	for v := range s.Params().Variables() {
		if p, ok := v.Type().(*types.Pointer); ok {
			if n, ok := p.Elem().(*types.Named); ok {
				op, isInput := strings.CutSuffix(n.Obj().Name(), "Input")
				if pkg := n.Obj().Pkg(); isInput && pkg != nil && path.Dir(pkg.Path())+"/" == sdk+"service/" {
					found = append(found, Call(pkg.Name()+"."+op))
				}
			}
		}
		if i, ok := v.Type().Underlying().(*types.Interface); ok && depth == 0 {
			for m := range i.Methods() {
				found = append(found, operations(m.Signature(), 1)...)
			}
		}
	}
	return found
}
