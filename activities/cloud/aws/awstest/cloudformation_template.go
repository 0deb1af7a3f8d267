package awstest

import (
	"fmt"
	"regexp"
	"slices"
	"strings"

	"go.yaml.in/yaml/v3"
)

// stackTemplate is a template of CloudFormation
// (https://docs.aws.amazon.com/AWSCloudFormation/latest/UserGuide/template-anatomy.html), JSON being YAML.
type stackTemplate struct {
	Description string                        `yaml:"Description"`
	Parameters  map[string]stackParameter     `yaml:"Parameters"`
	Resources   map[string]stackResourceModel `yaml:"Resources"`
	Outputs     map[string]struct {
		Description string    `yaml:"Description"`
		Value       yaml.Node `yaml:"Value"`
	} `yaml:"Outputs"`
}

type stackParameter struct {
	Type    string  `yaml:"Type"`
	Default *string `yaml:"Default"`
}

type stackResourceModel struct {
	Type       string               `yaml:"Type"`
	DependsOn  yaml.Node            `yaml:"DependsOn"`
	Properties map[string]yaml.Node `yaml:"Properties"`
}

// parseStackTemplate refuses what CloudFormation refuses before it makes a stack.
func parseStackTemplate(body string) (*stackTemplate, error) {
	t := new(stackTemplate)
	if err := yaml.Unmarshal([]byte(body), t); err != nil {
		return nil, fault("ValidationError", "Template format error: %v", err)
	}
	if len(t.Resources) == 0 {
		return nil, fault("ValidationError", "Template format error: At least one Resources member must be defined.")
	}
	var unknown []string
	for _, r := range t.Resources {
		if _, ok := stackKinds[r.Type]; !ok && !slices.Contains(unknown, r.Type) {
			unknown = append(unknown, r.Type)
		}
	}
	if len(unknown) > 0 {
		slices.Sort(unknown)
		return nil, fault("ValidationError", "Template format error: Unrecognized resource types: %v", unknown)
	}
	return t, nil
}

// notYet says that a value needs a resource that is not made yet.
type notYet struct{ resource string }

func (n notYet) Error() string { return "unresolved resource " + n.resource }

// stackValues resolves the functions of a template.
type stackValues struct {
	parameters map[string]string
	resources  map[string]*stackResource
	zones      []string
}

// ref is the function Ref: a parameter, or the identifier of a resource.
func (v *stackValues) ref(name string) (any, error) {
	if p, ok := v.parameters[name]; ok {
		return p, nil
	}
	r, ok := v.resources[name]
	switch {
	case !ok:
		//lint:ignore ST1005 the service's text
		return nil, fmt.Errorf("Unresolved resource dependencies [%s] in the Resources block of the template", name)
	case r.id == "":
		return nil, notYet{name}
	}
	return r.id, nil
}

// attribute is the function GetAtt.
func (v *stackValues) attribute(name, attribute string) (any, error) {
	if _, err := v.ref(name); err != nil {
		return nil, err
	}
	if a, ok := v.resources[name].attributes[attribute]; ok {
		return a, nil
	}
	//lint:ignore ST1005 the service's text
	return nil, fmt.Errorf("Requested attribute %s does not exist in schema for %s", attribute, v.resources[name].kind)
}

var subVariable = regexp.MustCompile(`\$\{([A-Za-z0-9:.]+)\}`)

// sub is the function Sub, with a text alone.
func (v *stackValues) sub(text string) (out any, err error) {
	replaced := subVariable.ReplaceAllStringFunc(text, func(m string) string {
		name, attribute, isAttribute := strings.Cut(m[2:len(m)-1], ".")
		var value any
		var e error
		if isAttribute {
			value, e = v.attribute(name, attribute)
		} else {
			value, e = v.ref(name)
		}
		if e != nil {
			err = e
		}
		return fmt.Sprint(value)
	})
	return replaced, err
}

// resolve makes a plain value of a node: texts, lists and maps.
func (v *stackValues) resolve(n *yaml.Node) (any, error) {
	if n.Kind == yaml.AliasNode {
		n = n.Alias
	}
	if f, ok := strings.CutPrefix(n.Tag, "!"); ok && !strings.HasPrefix(f, "!") {
		if f != "Ref" {
			f = "Fn::" + f
		}
		plain := *n
		plain.Tag = ""
		return v.call(f, &plain)
	}
	switch n.Kind {
	case yaml.SequenceNode:
		list := []any{}
		for _, e := range n.Content {
			x, err := v.resolve(e)
			if err != nil {
				return nil, err
			}
			list = append(list, x)
		}
		return list, nil
	case yaml.MappingNode:
		if len(n.Content) == 2 && (n.Content[0].Value == "Ref" || strings.HasPrefix(n.Content[0].Value, "Fn::")) {
			return v.call(n.Content[0].Value, n.Content[1])
		}
		m := map[string]any{}
		for i := 0; i+1 < len(n.Content); i += 2 {
			x, err := v.resolve(n.Content[i+1])
			if err != nil {
				return nil, err
			}
			m[n.Content[i].Value] = x
		}
		return m, nil
	}
	return n.Value, nil
}

// call runs an intrinsic function
// (https://docs.aws.amazon.com/AWSCloudFormation/latest/TemplateReference/intrinsic-function-reference.html).
func (v *stackValues) call(name string, n *yaml.Node) (any, error) {
	arg, err := v.resolve(n)
	if err != nil {
		return nil, err
	}
	list, isList := arg.([]any)
	text, isText := arg.(string)
	switch {
	case name == "Ref" && isText:
		return v.ref(text)
	case name == "Fn::Sub" && isText:
		return v.sub(text)
	case name == "Fn::GetAtt" && isText:
		resource, attribute, _ := strings.Cut(text, ".")
		return v.attribute(resource, attribute)
	case name == "Fn::GetAtt" && len(list) == 2:
		return v.attribute(fmt.Sprint(list[0]), fmt.Sprint(list[1]))
	case name == "Fn::GetAZs":
		zones := []any{}
		for _, z := range v.zones {
			zones = append(zones, z)
		}
		return zones, nil
	case name == "Fn::Select" && isList && len(list) == 2:
		from, ok := list[1].([]any)
		at := 0
		if _, err := fmt.Sscan(fmt.Sprint(list[0]), &at); err == nil && ok && at >= 0 && at < len(from) {
			return from[at], nil
		}
	case name == "Fn::Join" && isList && len(list) == 2:
		if parts, ok := list[1].([]any); ok {
			var all []string
			for _, p := range parts {
				all = append(all, fmt.Sprint(p))
			}
			return strings.Join(all, fmt.Sprint(list[0])), nil
		}
	}
	//lint:ignore ST1005 the service's text
	return nil, fmt.Errorf("Template error: every %s object must have the right arguments, and this double has few functions", name)
}
