package aws

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"maps"
	"slices"
	"strings"
	"sync"
	"time"

	awssdk "github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/ec2"
	"github.com/aws/aws-sdk-go-v2/service/ec2/types"

	"lifeboat/activities/cloud"
)

// Tags of the provider's own, see the package's documentation.
const (
	tagName    = "Name"
	tagRequest = "lifeboat-request"
	tagTime    = "lifeboat-time"
	tagMachine = "lifeboat-machine"
	tagPorts   = "lifeboat-ports"
	tagDevices = "lifeboat-devices"
	tagPlace   = "lifeboat-place"
)

// hiddenTags are not shown as tags of the contract.
var hiddenTags = []string{tagName, tagRequest, tagTime, tagMachine, tagPorts, tagDevices, tagPlace}

// tagMap reads tags of EC2.
func tagMap(tags []types.Tag) map[string]string {
	m := make(map[string]string, len(tags))
	for _, t := range tags {
		m[awssdk.ToString(t.Key)] = awssdk.ToString(t.Value)
	}
	return m
}

// contractTags are the caller's among the tags of a resource; those that AWS reserves for itself cannot be
// given to another resource.
func contractTags(all map[string]string) map[string]string {
	tags := maps.Clone(all)
	maps.DeleteFunc(tags, func(k, _ string) bool { return slices.Contains(hiddenTags, k) || strings.HasPrefix(k, "aws:") })
	return tags
}

// resourceOf makes what the contract knows of all resources.
func resourceOf(id string, state cloud.State, message string, tags map[string]string, created *time.Time) cloud.Resource {
	return cloud.Resource{ID: id, Name: tags[tagName], State: state, Message: clean(message), Tags: contractTags(tags), Created: awssdk.ToTime(created).UTC()}
}

// allTags are the tags that a creating call gives: the caller's, the token, the name, and more of the provider's.
func allTags(in cloud.Create, more map[string]string) map[string]string {
	tags := map[string]string{cloud.TagToken: in.Token}
	maps.Copy(tags, in.Tags)
	maps.Copy(tags, more)
	if in.Name != "" {
		tags[tagName] = in.Name
	}
	return tags
}

// tagSpecs puts tags on the kinds of resources that a call makes.
func tagSpecs(tags map[string]string, kinds ...types.ResourceType) []types.TagSpecification {
	list := ec2Tags(tags)
	specs := make([]types.TagSpecification, 0, len(kinds))
	for _, k := range kinds {
		specs = append(specs, types.TagSpecification{ResourceType: k, Tags: list})
	}
	return specs
}

// ec2Tags are sorted: the same request has to be the same for a client token.
func ec2Tags(tags map[string]string) []types.Tag {
	var list []types.Tag
	for _, k := range slices.Sorted(maps.Keys(tags)) {
		list = append(list, types.Tag{Key: awssdk.String(k), Value: awssdk.String(tags[k])})
	}
	return list
}

// ec2Filters selects resources with tags. EC2 takes * and ? for any characters and \ for an escape: where a value
// has them, the filter selects a superset, so that listings are filtered again by f.Match.
func ec2Filters(f cloud.Filter) []types.Filter {
	var list []types.Filter
	for _, k := range slices.Sorted(maps.Keys(f.Tags)) {
		value := strings.NewReplacer("*", "?", `\`, "?").Replace(f.Tags[k])
		list = append(list, filter("tag:"+k, value))
	}
	return list
}

// filter makes a filter of EC2.
func filter(name string, values ...string) types.Filter {
	return types.Filter{Name: awssdk.String(name), Values: values}
}

// tokenFilter selects what was made under a token.
func tokenFilter(token string) cloud.Filter {
	return cloud.Filter{Tags: map[string]string{cloud.TagToken: token}}
}

// pageSize is how much a listing asks for at once.
const pageSize = 500

// pager is a listing of EC2 in pages.
type pager[O any] interface {
	HasMorePages() bool
	NextPage(ctx context.Context, options ...func(*ec2.Options)) (*O, error)
}

// listAll follows the pages of a listing to its end.
func listAll[O, R any](ctx context.Context, p pager[O], items func(*O) []R) ([]R, error) {
	var all []R
	for p.HasMorePages() {
		out, err := p.NextPage(ctx)
		if err != nil {
			return nil, err
		}
		all = append(all, items(out)...)
	}
	return all, nil
}

// digest is a short name for a request, to tell whether it comes again. Create.Repeat and fields that JSON leaves
// out do not count.
func digest(request any) string {
	b, err := json.Marshal(request)
	if err != nil {
		panic(err) // requests of the contract are plain
	}
	sum := sha256.Sum256(b)
	return hex.EncodeToString(sum[:12])
}

// lookup says how something is made by a call that has no client token. It is found again by the tag of the token.
type lookup[T any] struct {
	op      string
	kind    cloud.Kind
	in      cloud.Create
	request any // what has to be the same when the token comes again
	// find lists what carries the tag, in the order that it is returned in.
	find func(ctx context.Context) ([]T, error)
	// tags gives all tags of what was found.
	tags func(T) map[string]string
	// create makes it with the given tags. There may be some of it already, see enough.
	create func(ctx context.Context, tags map[string]string, there []T) ([]T, error)
	// enough tells whether what was found is all of it; nil = anything is.
	enough func([]T) bool
}

// makeOnce looks for what was made under a token, and makes it when it is not there. One value of a site waits for
// the other: of the same process no two make it. What this process made is remembered, since listings lag behind;
// for what others made they are asked for Options.LookFor when Create.Repeat says that there may be something.
func makeOnce[T any](ctx context.Context, p *Provider, l lookup[T]) ([]T, error) {
	if err := cloud.CheckToken(l.op, l.kind, l.in.Token); err != nil {
		return nil, err
	}
	sum, mismatch := l.op+":"+digest(l.request), cloud.E(cloud.TokenMismatch, l.op, string(l.kind)+" "+l.in.Name,
		"the client token was used before for another request", "", nil)
	unlock, err := p.shared.lock(ctx, l.in.Token)
	if err != nil {
		return nil, awsError(l.op, string(l.kind)+" "+l.in.Name, err)
	}
	defer unlock()
	if known, ok := p.shared.made(l.in.Token); ok {
		if known.sum != sum {
			return nil, mismatch
		}
		return known.what.([]T), nil
	}
	found, err := l.look(ctx, p)
	if err != nil {
		return nil, err
	}
	for _, f := range found {
		if was := l.tags(f)[tagRequest]; was != "" && was != sum {
			return nil, mismatch
		}
	}
	if len(found) == 0 || l.enough != nil && !l.enough(found) {
		if found, err = l.create(ctx, allTags(l.in, map[string]string{tagRequest: sum}), found); err != nil {
			return nil, err
		}
	}
	p.shared.remember(l.in.Token, known{sum: sum, what: found})
	return found, nil
}

// look asks the listing, when need be until it is sure.
func (l lookup[T]) look(ctx context.Context, p *Provider) ([]T, error) {
	until := time.Now()
	if l.in.Repeat {
		until = until.Add(p.options.LookFor)
	}
	for {
		found, err := l.find(ctx)
		if err != nil {
			return nil, err
		}
		if len(found) > 0 && (l.enough == nil || l.enough(found)) || !time.Now().Before(until) {
			return found, nil
		}
		if err := wait(ctx, p.options.LookFor/20+time.Millisecond); err != nil {
			return nil, awsError(l.op, string(l.kind)+" "+l.in.Name, err)
		}
	}
}

// wait lets time pass, or returns the reason why ctx ended.
func wait(ctx context.Context, d time.Duration) error {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-t.C:
		return nil
	}
}

// siteMemory is what the values of one site in this process share.
type siteMemory struct {
	mu    sync.Mutex
	uses  int
	locks map[string]chan struct{} // of tokens that are being worked on
	known map[string]known         // by token
	order []string                 // of tokens, the oldest first
}

// known is what was made under a token.
type known struct {
	sum  string
	what any
}

// memorySize bounds how many tokens are remembered; the tags know them all.
const memorySize = 10_000

var (
	sitesMu sync.Mutex
	sites   = map[string]*siteMemory{}
)

func rememberSite(key string) *siteMemory {
	sitesMu.Lock()
	defer sitesMu.Unlock()
	m := sites[key]
	if m == nil {
		m = &siteMemory{locks: map[string]chan struct{}{}, known: map[string]known{}}
		sites[key] = m
	}
	m.uses++
	return m
}

func forgetSite(key string) {
	sitesMu.Lock()
	defer sitesMu.Unlock()
	if m := sites[key]; m != nil {
		if m.uses--; m.uses == 0 {
			delete(sites, key)
		}
	}
}

// lock takes the lock of a token, or waits for it until ctx ends.
func (m *siteMemory) lock(ctx context.Context, token string) (unlock func(), err error) {
	for {
		m.mu.Lock()
		busy, taken := m.locks[token]
		if !taken {
			mine := make(chan struct{})
			m.locks[token] = mine
			m.mu.Unlock()
			return func() {
				m.mu.Lock()
				delete(m.locks, token)
				m.mu.Unlock()
				close(mine)
			}, nil
		}
		m.mu.Unlock()
		select {
		case <-ctx.Done():
			return nil, ctx.Err()
		case <-busy:
		}
	}
}

func (m *siteMemory) made(token string) (known, bool) {
	m.mu.Lock()
	defer m.mu.Unlock()
	k, ok := m.known[token]
	return k, ok
}

func (m *siteMemory) remember(token string, k known) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.known[token] = k
	m.order = append(m.order, token)
	if len(m.order) > memorySize {
		delete(m.known, m.order[0])
		m.order = m.order[1:]
	}
}
