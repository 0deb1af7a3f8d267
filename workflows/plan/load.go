package plan

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"unicode/utf8"
)

// MaxScriptBytes bounds each script: its content travels with the plan.
const MaxScriptBytes = 64 << 10

// Load reads a plan file and its scripts, fills in defaults and validates. Faults of
// the plan come as [Errors], all of them at once; a file that cannot be read as the system's error.
func Load(path string) (*Plan, error) {
	data, err := readBounded(path, MaxFileBytes)
	if err != nil {
		return nil, fmt.Errorf("plan file %s cannot be read: %w", path, err)
	}
	return Read(path, data, func(name string) ([]byte, error) { return readBounded(name, MaxScriptBytes) })
}

// readBounded reads at most one byte more than the limit: enough to see that it is too long.
func readBounded(path string, limit int64) ([]byte, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer func() { _ = f.Close() }()
	return io.ReadAll(io.LimitReader(f, limit+1))
}

// Read is [Load] for a plan that is in memory: file heads errors and is what relative
// names start from; readFile reads a script by its path, nil = there are no files.
func Read(file string, data []byte, readFile func(name string) ([]byte, error)) (*Plan, error) {
	p, es := parse(file, data)
	if _, read := p.positions[""]; read {
		p.Defaults()
		es = p.check(es)
		es = append(es, p.readScripts(readFile)...)
	}
	if err := es.asError(); err != nil {
		return nil, err
	}
	return p, nil
}

func (p *Plan) readScripts(readFile func(name string) ([]byte, error)) (es Errors) {
	for i, s := range p.Spec.Servers {
		name, key := s.Launch.Script, fmt.Sprintf("spec.servers[%d].launch.script", i)
		if name == "" {
			continue
		}
		if _, known := p.Scripts[name]; known {
			continue
		}
		path := name
		if !filepath.IsAbs(path) {
			path = filepath.Join(filepath.Dir(p.file), name)
		}
		if readFile == nil {
			p.fault(&es, key, "load the plan from its file", "script %s cannot be read: the plan has no files", quoted(name))
			continue
		}
		content, err := readFile(path)
		switch {
		case errors.Is(err, fs.ErrNotExist):
			p.fault(&es, key, "write it, or correct the path (relative to the plan file)", "there is no script %s", quoted(path))
		case err != nil:
			p.fault(&es, key, "make it readable", "script %s cannot be read: %v", quoted(path), err)
		case len(content) > MaxScriptBytes:
			p.fault(&es, key, "let a short script fetch the rest", "script %s is longer than %d bytes", quoted(path), MaxScriptBytes)
		case len(content) == 0 || !utf8.Valid(content):
			p.fault(&es, key, "write a text file", "script %s is empty or no text", quoted(path))
		case secretValue.Match(content):
			p.fault(&es, key, secretMend, "script %s looks as if it held a secret: its content travels with the plan", quoted(path))
		default:
			if p.Scripts == nil {
				p.Scripts = map[string]string{}
			}
			p.Scripts[name] = string(content)
		}
	}
	return es
}
