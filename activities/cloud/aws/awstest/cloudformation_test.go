package awstest

import (
	"testing"
)

// Templates come from outside: no text may break the double.
func FuzzStackTemplate(f *testing.F) {
	for _, s := range []string{"", "Resources: {A: {Type: AWS::EC2::VPC, Properties: {CidrBlock: !Ref P}}}", `{"Resources":{"A":{"Type":"AWS::EC2::VPC"}}}`,
		"Resources: {A: {Type: AWS::EC2::Subnet, Properties: {VpcId: !GetAtt A.VpcId, CidrBlock: !Join ['', [!Sub '${A}', !Select [0, !GetAZs '']]]}}}"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, body string) {
		template, err := parseStackTemplate(body)
		if err != nil {
			return
		}
		v := &stackValues{resources: map[string]*stackResource{}, parameters: map[string]string{"P": "x"}, zones: []string{"a"}}
		for name, r := range template.Resources {
			v.resources[name] = &stackResource{name: name, kind: r.Type}
		}
		for _, r := range template.Resources {
			_, _ = resolveProperties(r, v)
		}
	})
}
