package policy

import (
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strings"
)

// document is an IAM policy.
type document struct {
	Version   string
	Statement []element
}

// element is a statement as IAM writes it.
type element struct {
	Sid       string
	Effect    string
	Action    []string
	Resource  []string
	Condition condition `json:",omitempty"`
}

// Needs lists for each action that some of the calls need the files of the policies that grant it. A call that is
// not in the table is an error.
func Needs(calls []Call) (map[string][]string, error) {
	needs := map[string][]string{}
	for _, c := range calls {
		grants, known := table[c]
		service, _, _ := strings.Cut(string(c), ".")
		if !known {
			return nil, fmt.Errorf("the code calls %s, and no policy allows it: add a row to activities/cloud/aws/policy/table.go (%s), then go generate ./activities/cloud/aws/policy",
				c, reference[service])
		}
		for _, g := range grants {
			for _, sid := range g.in {
				s, ok := statementOf(sid)
				if !ok {
					return nil, fmt.Errorf("%s needs %s by statement %s, and there is none", c, g.action, sid)
				}
				for _, file := range s.files() {
					if !slices.Contains(needs[g.action], file) {
						needs[g.action] = append(needs[g.action], file)
					}
				}
			}
		}
	}
	return needs, nil
}

func (s statement) files() []string {
	if s.audit {
		return []string{s.file, Auditor}
	}
	return []string{s.file}
}

// Generate makes the policies that allow the calls, by their path from the root of the repository.
func Generate(calls []Call) (map[string][]byte, error) {
	if _, err := Needs(calls); err != nil {
		return nil, err
	}
	actions, makers := map[string]map[string]bool{}, []string{}
	for _, c := range calls {
		for _, g := range table[c] {
			if g.action == tagged.action && slices.Contains(g.in, tagged.in[0]) {
				makers = append(makers, strings.TrimPrefix(strings.TrimPrefix(string(c), "ec2."), "ebs."))
			}
			for _, sid := range g.in {
				if actions[sid] == nil {
					actions[sid] = map[string]bool{}
				}
				actions[sid][g.action] = true
			}
		}
	}
	documents := map[string]*document{}
	for _, s := range statements {
		if len(actions[s.sid]) == 0 {
			continue
		}
		when := s.when
		if v, ok := when["StringEquals"]["ec2:CreateAction"]; ok && v == creating {
			when = condition{"StringEquals": {"ec2:CreateAction": makers}} // in the order of the calls
		}
		e := element{Sid: s.sid, Effect: "Allow", Action: slices.Sorted(maps.Keys(actions[s.sid])), Resource: s.resources, Condition: when}
		for _, file := range s.files() {
			if documents[file] == nil {
				documents[file] = &document{Version: "2012-10-17"}
			}
			documents[file].Statement = append(documents[file].Statement, e)
		}
	}
	files := map[string][]byte{}
	for name, d := range documents {
		text, err := json.MarshalIndent(d, "", "  ")
		if err != nil {
			return nil, err
		}
		files[name] = append(text, '\n')
	}
	return files, nil
}
