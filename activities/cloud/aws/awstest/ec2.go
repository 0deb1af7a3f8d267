package awstest

import (
	"encoding/json"
	"maps"
	"path"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/ec2"
	"github.com/aws/aws-sdk-go-v2/service/ec2/types"
)

// ec2Service is Amazon EC2: https://docs.aws.amazon.com/AWSEC2/latest/APIReference/
var ec2Service = serve("ec2", ec2Wire{loadModel("ec2")})

// resource is what all resources of EC2 have in common.
type resource struct {
	ID      string
	Kind    types.ResourceType
	Tags    map[string]string
	Created time.Time
	Visible time.Time // describing calls do not know it before
}

// ec2State is what all of EC2 shares in a region of an account.
type ec2State struct {
	resources map[string]*resource // all, by identifier
	tokens    map[string]tokenUse  // by operation and client token
}

func ec2Of(r *Region) *ec2State {
	s := part[ec2State](r)
	if s.resources == nil {
		s.resources, s.tokens = map[string]*resource{}, map[string]tokenUse{}
	}
	return s
}

// newResource makes a resource with the tags that a creating call gives it.
func (c *Call) newResource(kind types.ResourceType, prefix string, specs []types.TagSpecification) *resource {
	r := &resource{ID: c.newID(prefix), Kind: kind, Tags: map[string]string{}, Created: c.Now, Visible: c.Now.Add(c.Lag)}
	for _, s := range specs {
		if s.ResourceType == kind {
			for _, t := range s.Tags {
				r.Tags[aws.ToString(t.Key)] = aws.ToString(t.Value)
			}
		}
	}
	ec2Of(c.Region).resources[r.ID] = r
	return r
}

// forget removes a resource from all that EC2 shares.
func (c *Call) forget(id string) { delete(ec2Of(c.Region).resources, id) }

// visible tells whether describing calls know a resource.
func (c *Call) visible(r *resource) bool { return !c.Now.Before(r.Visible) }

func (r *resource) tags() []types.Tag {
	out := make([]types.Tag, 0, len(r.Tags))
	for _, k := range sortedKeys(r.Tags) {
		out = append(out, types.Tag{Key: aws.String(k), Value: aws.String(r.Tags[k])})
	}
	return out
}

// tokenUse is what a client token was used for.
type tokenUse struct {
	parameters string
	id         string
}

// once makes what a client token asks for the first time, and finds it again after that; other
// parameters are IdempotentParameterMismatch
// (https://docs.aws.amazon.com/ec2/latest/devguide/ec2-api-idempotency.html). An empty token makes anew.
func (c *Call) once(token *string, in any, make func() (id string, err error)) (string, error) {
	if aws.ToString(token) == "" {
		return make()
	}
	if len(*token) > 64 {
		return "", fault("InvalidParameterValue", "ClientToken is longer than 64 characters")
	}
	key, parameters := c.Operation+" "+*token, parameterText(in)
	tokens := ec2Of(c.Region).tokens
	if use, ok := tokens[key]; ok {
		if use.parameters != parameters {
			return "", fault("IdempotentParameterMismatch", "The request uses the same client token as a previous, but non-identical request.")
		}
		return use.id, nil
	}
	id, err := make()
	if err == nil {
		tokens[key] = tokenUse{parameters, id}
	}
	return id, err
}

// parameterText is what has to be the same for a client token.
func parameterText(in any) string {
	v := reflect.ValueOf(in).Elem()
	var b strings.Builder
	for i := range v.NumField() {
		if f := v.Type().Field(i); f.IsExported() && f.Name != "ClientToken" && f.Name != "DryRun" {
			b.WriteString(f.Name + "=" + printable(v.Field(i)) + ";")
		}
	}
	return b.String()
}

// printable is a value without its addresses.
func printable(v reflect.Value) string {
	b, err := json.Marshal(toJSON(v, nil)) // keys are sorted
	if err != nil {
		panic(err) // values of the SDK's inputs are plain
	}
	return string(b)
}

// dryRun answers a call that only asks whether it would be permitted: as DryRunOperation, or not at all.
func dryRun(flag *bool) error {
	if aws.ToBool(flag) {
		return &Error{Code: "DryRunOperation", Message: "Request would have succeeded, but DryRun flag is set.", Status: 412}
	}
	return nil
}

// matches tells whether filters select a resource. value gives what the resource has under a filter's
// name, beside tag:KEY and tag-key, which all have; ok is false for a filter that does not exist.
// Patterns are those of the API: * and ?
// (https://docs.aws.amazon.com/AWSEC2/latest/UserGuide/Using_Filtering.html).
func (r *resource) matches(filters []types.Filter, value func(name string) (values []string, ok bool)) (bool, error) {
	for _, f := range filters {
		name := aws.ToString(f.Name)
		var have []string
		if key, isTag := strings.CutPrefix(name, "tag:"); isTag {
			if v, there := r.Tags[key]; there {
				have = []string{v}
			}
		} else if name == "tag-key" {
			have = sortedKeys(r.Tags)
		} else {
			var ok bool
			if have, ok = value(name); !ok {
				return false, fault("InvalidParameterValue", "The filter '%s' is invalid", name)
			}
		}
		if !slices.ContainsFunc(f.Values, func(want string) bool {
			return slices.ContainsFunc(have, func(h string) bool { return h == want || like(want, h) })
		}) {
			return false, nil
		}
	}
	return true, nil
}

func like(pattern, s string) bool {
	if !strings.ContainsAny(pattern, "*?") {
		return false
	}
	ok, err := path.Match(strings.NewReplacer("[", `\[`, "/", "\x00").Replace(pattern), strings.ReplaceAll(s, "/", "\x00"))
	return err == nil && ok
}

// page gives one page of a sorted listing and the token of the next one. The token is a position, as
// opaque to clients as the real one.
func page[T any](c *Call, all []T, max *int32, token *string) ([]T, *string, error) {
	from := 0
	if t := aws.ToString(token); t != "" {
		n, err := strconv.Atoi(strings.TrimPrefix(t, "page-"))
		if err != nil || n < 0 || n > len(all) {
			return nil, nil, fault("InvalidNextToken", "The token %s is not valid.", t)
		}
		from = n
	}
	size := int(aws.ToInt32(max))
	if size <= 0 {
		size = 1000
	}
	if c.PageSize > 0 {
		size = min(size, c.PageSize)
	}
	to := min(from+size, len(all))
	if to == len(all) {
		return all[from:], nil, nil
	}
	return all[from:to], aws.String("page-" + strconv.Itoa(to)), nil
}

// byID sorts resources for a listing.
func byID[T any](all map[string]T) []T {
	out := make([]T, 0, len(all))
	for _, k := range sortedKeys(all) {
		out = append(out, all[k])
	}
	return out
}

func init() {
	on(ec2Service, "CreateTags", func(c *Call, in *ec2.CreateTagsInput) (*ec2.CreateTagsOutput, error) {
		return &ec2.CreateTagsOutput{}, c.eachTagged(in.Resources, func(r *resource) {
			for _, t := range in.Tags {
				r.Tags[aws.ToString(t.Key)] = aws.ToString(t.Value)
			}
		})
	})
	on(ec2Service, "DeleteTags", func(c *Call, in *ec2.DeleteTagsInput) (*ec2.DeleteTagsOutput, error) {
		return &ec2.DeleteTagsOutput{}, c.eachTagged(in.Resources, func(r *resource) {
			if len(in.Tags) == 0 { // all that are not AWS's own: API_DeleteTags.html
				maps.DeleteFunc(r.Tags, func(key, _ string) bool { return !strings.HasPrefix(key, "aws:") })
			}
			for _, t := range in.Tags {
				if v := r.Tags[aws.ToString(t.Key)]; t.Value == nil || v == *t.Value {
					delete(r.Tags, aws.ToString(t.Key))
				}
			}
		})
	})
	on(ec2Service, "DescribeTags", func(c *Call, in *ec2.DescribeTagsInput) (*ec2.DescribeTagsOutput, error) {
		var all []types.TagDescription
		for _, r := range byID(ec2Of(c.Region).resources) {
			for _, t := range r.tags() {
				one := &resource{Tags: map[string]string{*t.Key: *t.Value}}
				ok, err := one.matches(in.Filters, func(name string) ([]string, bool) {
					v := map[string]string{"resource-id": r.ID, "resource-type": string(r.Kind), "key": *t.Key, "value": *t.Value}[name]
					return []string{v}, v != ""
				})
				if err != nil {
					return nil, err
				}
				if ok && c.visible(r) {
					all = append(all, types.TagDescription{Key: t.Key, Value: t.Value, ResourceId: aws.String(r.ID), ResourceType: r.Kind})
				}
			}
		}
		tags, next, err := page(c, all, in.MaxResults, in.NextToken)
		return &ec2.DescribeTagsOutput{Tags: tags, NextToken: next}, err
	})
}

// eachTagged applies a change of tags to resources; the error of one that is not there is that of its
// kind, e.g. InvalidVolume.NotFound, which CreateTags reports as InvalidID.
func (c *Call) eachTagged(ids []string, change func(*resource)) error {
	state := ec2Of(c.Region)
	for _, id := range ids {
		if state.resources[id] == nil {
			return fault("InvalidID", "The ID '%s' is not valid", id)
		}
	}
	for _, id := range ids {
		change(state.resources[id])
	}
	return nil
}
