package aws

import (
	"bytes"
	"cmp"
	"context"
	"crypto/rand"
	"slices"
	"strings"

	"lifeboat/activities/cloud"
)

// Documents are objects of the site's bucket. The first line of each makes it another one than every
// object before it, also where the content is the same, so that its entity tag is a version.
const documentLine = "lifeboat document 1 "

// Document returns a document.
func (p *Provider) Document(ctx context.Context, name string) (cloud.Document, error) {
	const op = "Document"
	if err := cloud.CheckDocumentName(op, name); err != nil {
		return cloud.Document{}, err
	}
	o, err := p.getObject(ctx, op, documentPrefix+name)
	if cloud.IsNotFound(err) {
		return cloud.Document{}, cloud.E(cloud.NotFound, op, "document "+name, "is not there", "", err)
	}
	if err != nil {
		return cloud.Document{}, err
	}
	return parseDocument(o)
}

// parseDocument cuts the first line off.
func parseDocument(o object) (cloud.Document, error) {
	name := strings.TrimPrefix(o.key, documentPrefix)
	line, data, found := bytes.Cut(o.data, []byte("\n"))
	if !found || !bytes.HasPrefix(line, []byte("lifeboat document ")) {
		return cloud.Document{}, cloud.E(cloud.Corrupt, "Document", "document "+name, "was not written by Lifeboat", "restore an earlier version of the object "+o.key, nil)
	}
	if !bytes.HasPrefix(line, []byte(documentLine)) {
		return cloud.Document{}, cloud.E(cloud.NewerState, "Document", "document "+name, "was written by a newer version of Lifeboat", "use that version", nil)
	}
	return cloud.Document{Name: name, Data: data, Version: o.version}, nil
}

// PutDocument writes a document over the version that it names, or where there is none.
func (p *Provider) PutDocument(ctx context.Context, doc cloud.Document) (cloud.Document, error) {
	const op = "PutDocument"
	if err := cloud.CheckDocument(op, doc); err != nil {
		return cloud.Document{}, err
	}
	data := slices.Concat([]byte(documentLine+rand.Text()+"\n"), doc.Data)
	version, err := p.putObject(ctx, op, object{key: documentPrefix + doc.Name, version: doc.Version, data: data})
	if err != nil {
		return cloud.Document{}, err
	}
	doc.Version = version
	return doc, nil
}

// DeleteDocument deletes a document, whatever its version.
func (p *Provider) DeleteDocument(ctx context.Context, name string) error {
	const op = "DeleteDocument"
	if err := cloud.CheckDocumentName(op, name); err != nil {
		return err
	}
	list, err := p.listObjects(ctx, op, documentPrefix+name)
	if err != nil {
		return err
	}
	if !slices.ContainsFunc(list, func(o object) bool { return o.key == documentPrefix+name }) {
		return cloud.E(cloud.NotFound, op, "document "+name, "is not there", "", nil)
	}
	return p.deleteObject(ctx, op, documentPrefix+name, "")
}

// DocumentNames lists names by their beginning, in order.
func (p *Provider) DocumentNames(ctx context.Context, prefix string) ([]string, error) {
	list, err := p.listObjects(ctx, "DocumentNames", documentPrefix+prefix)
	if err != nil {
		return nil, err
	}
	names := make([]string, 0, len(list))
	for _, o := range list {
		names = append(names, strings.TrimPrefix(o.key, documentPrefix))
	}
	slices.SortFunc(names, cmp.Compare)
	return names, nil
}
