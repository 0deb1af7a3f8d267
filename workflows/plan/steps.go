package plan

import "strings"

// cycle returns the first cycle of steps, its first step repeated at the end, or nil.
func (p *Plan) cycle() []string {
	after := map[string][]string{}
	for _, s := range p.Spec.Steps {
		after[s.Name] = append(after[s.Name], s.After...)
	}
	const open, closed = 1, 2
	state := map[string]int{}
	var path, found []string
	var visit func(name string) bool
	visit = func(name string) bool {
		switch state[name] {
		case closed:
			return false
		case open:
			for i, n := range path {
				if n == name {
					found = append(append(found, path[i:]...), name)
				}
			}
			return true
		}
		state[name], path = open, append(path, name)
		for _, next := range after[name] {
			if visit(next) {
				return true
			}
		}
		state[name], path = closed, path[:len(path)-1]
		return false
	}
	for _, s := range p.Spec.Steps {
		if visit(s.Name) {
			return found
		}
	}
	return nil
}

// arrows writes a chain of steps: "a → b → a".
func arrows(names []string) string { return strings.Join(names, " → ") }
