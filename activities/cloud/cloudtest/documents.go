package cloudtest

import (
	"context"
	"fmt"
	"strings"
	"sync"

	"github.com/stretchr/testify/require"

	"lifeboat/activities/cloud"
)

var documentBehaviours = []behaviour{
	{"Documents", "a document is what was written last, for every process", func(e *env) {
		d, ok := has[cloud.Documents](e, "Documents")
		if !ok {
			return
		}
		_, err := d.Document(e.ctx(), "streams/db")
		e.code(cloud.NotFound, err)
		e.code(cloud.NotFound, d.DeleteDocument(e.ctx(), "streams/db"))
		doc := cloud.Document{Name: "streams/db"}
		versions := map[string]bool{"": true}
		for _, data := range []string{"one", "two", "two", "", strings.Repeat("x", 300_000)} {
			doc.Data = []byte(data)
			doc, err = d.PutDocument(e.ctx(), doc)
			require.NoError(e, err)
			require.Equal(e, "streams/db", doc.Name)
			require.Equal(e, data, string(doc.Data))
			require.NotEmpty(e, doc.Version)
			got, err := must[cloud.Documents](e, e.open(home), "Documents").Document(e.ctx(), "streams/db")
			require.NoError(e, err)
			require.Equal(e, data, string(got.Data))
			require.Equal(e, doc.Version, got.Version)
			versions[doc.Version] = true
		}
		require.GreaterOrEqual(e, len(versions), 5, "the version tells contents apart")
		require.NoError(e, d.DeleteDocument(e.ctx(), "streams/db"))
		_, err = d.Document(e.ctx(), "streams/db")
		e.code(cloud.NotFound, err)
	}},
	{"Documents", "writing what somebody else has changed is Conflict and changes nothing", func(e *env) {
		d, ok := has[cloud.Documents](e, "Documents")
		if !ok {
			return
		}
		_, err := d.PutDocument(e.ctx(), cloud.Document{Name: "a", Data: []byte("x"), Version: "1"})
		e.code(cloud.Conflict, err)
		first, err := d.PutDocument(e.ctx(), cloud.Document{Name: "a", Data: []byte("first")})
		require.NoError(e, err)
		_, err = d.PutDocument(e.ctx(), cloud.Document{Name: "a", Data: []byte("also first")})
		e.code(cloud.Conflict, err)
		second, err := d.PutDocument(e.ctx(), cloud.Document{Name: "a", Data: []byte("second"), Version: first.Version})
		require.NoError(e, err)
		_, err = d.PutDocument(e.ctx(), cloud.Document{Name: "a", Data: []byte("late"), Version: first.Version})
		e.code(cloud.Conflict, err)
		got, err := d.Document(e.ctx(), "a")
		require.NoError(e, err)
		require.Equal(e, "second", string(got.Data))
		require.NoError(e, d.DeleteDocument(e.ctx(), "a"))
		_, err = d.PutDocument(e.ctx(), cloud.Document{Name: "a", Data: []byte("back"), Version: second.Version})
		e.code(cloud.Conflict, err)
		_, err = d.Document(e.ctx(), "a")
		e.code(cloud.NotFound, err)
	}},
	{"Documents", "of many writers at once each change counts once", func(e *env) {
		d, ok := has[cloud.Documents](e, "Documents")
		if !ok {
			return
		}
		others := []cloud.Documents{d, must[cloud.Documents](e, e.open(home), "Documents")}
		const each = 5
		var all sync.WaitGroup
		for i := range 4 {
			all.Go(func() {
				for range each {
					for {
						doc, err := others[i%2].Document(e.ctx(), "counter")
						if cloud.IsNotFound(err) {
							doc, err = cloud.Document{Name: "counter"}, nil
						}
						if err == nil {
							doc.Data = append(doc.Data, 'x')
							_, err = others[i%2].PutDocument(e.ctx(), doc)
						}
						if err == nil {
							break
						}
						if class := cloud.ClassOf(err); class != cloud.Wait && class != cloud.Retry {
							e.Error(err)
							return
						}
					}
				}
			})
		}
		all.Wait()
		doc, err := d.Document(e.ctx(), "counter")
		require.NoError(e, err)
		require.Len(e, doc.Data, 4*each)
	}},
	{"Documents", "names are listed by prefix and in order, others are refused", func(e *env) {
		d, ok := has[cloud.Documents](e, "Documents")
		if !ok {
			return
		}
		list, err := d.DocumentNames(e.ctx(), "")
		require.NoError(e, err)
		require.Empty(e, list)
		for _, name := range []string{"b/2", "a", "b/1%2F x", "b", "c..d/~"} {
			_, err := d.PutDocument(e.ctx(), cloud.Document{Name: name, Data: []byte(name)})
			require.NoError(e, err, name)
		}
		for prefix, want := range map[string][]string{"": {"a", "b", "b/1%2F x", "b/2", "c..d/~"}, "b/": {"b/1%2F x", "b/2"}, "z": {}} {
			list, err := d.DocumentNames(e.ctx(), prefix)
			require.NoError(e, err)
			require.Equal(e, fmt.Sprint(want), fmt.Sprint(list), prefix)
		}
		for _, name := range []string{"", "/a", "a/", "a//b", "../a", "a/..", ".", "ümlaut", "tab\t", strings.Repeat("x", cloud.MaxDocumentName+1)} {
			_, err := d.PutDocument(e.ctx(), cloud.Document{Name: name})
			e.code(cloud.InvalidInput, err)
			_, err = d.Document(e.ctx(), name)
			e.code(cloud.InvalidInput, err)
		}
		_, err = d.PutDocument(e.ctx(), cloud.Document{Name: "large", Data: make([]byte, cloud.MaxDocument+1)})
		e.code(cloud.InvalidInput, err)
	}},
}

// Document is the method beneath with faults.
func (f *FaultyProvider) Document(ctx context.Context, name string) (cloud.Document, error) {
	return use(f, "Document", func(c cloud.Documents) (cloud.Document, error) { return c.Document(ctx, name) })
}

// PutDocument is the method beneath with faults.
func (f *FaultyProvider) PutDocument(ctx context.Context, doc cloud.Document) (cloud.Document, error) {
	return use(f, "PutDocument", func(c cloud.Documents) (cloud.Document, error) { return c.PutDocument(ctx, doc) })
}

// DeleteDocument is the method beneath with faults.
func (f *FaultyProvider) DeleteDocument(ctx context.Context, name string) error {
	return changing(f, "DeleteDocument", nil, func(c cloud.Documents) error { return c.DeleteDocument(ctx, name) })
}

// DocumentNames is the method beneath with faults.
func (f *FaultyProvider) DocumentNames(ctx context.Context, prefix string) ([]string, error) {
	return use(f, "DocumentNames", func(c cloud.Documents) ([]string, error) { return c.DocumentNames(ctx, prefix) })
}
