package local

import (
	"context"
	"fmt"
	"strings"

	"lifeboat/activities/cloud"
)

const documentBucket = "documents"

// documentRecord is a document as it is stored: in the state of the site, so that reading
// the version and writing the content are one transaction, whoever else has the site open.
type documentRecord struct {
	Data   []byte `json:"data"`
	Number uint64 `json:"number"` // never given out twice, also not after a deletion
}

func (r documentRecord) document(name string) cloud.Document {
	return cloud.Document{Name: name, Data: r.Data, Version: fmt.Sprint(r.Number)}
}

// Document returns a document of the site.
func (p *Provider) Document(ctx context.Context, name string) (cloud.Document, error) {
	const op = "Document"
	if err := cloud.CheckDocumentName(op, name); err != nil {
		return cloud.Document{}, err
	}
	var r documentRecord
	err := p.store.view(ctx, func(t *tx) error {
		r = documentRecord{}
		found, err := t.get(documentBucket, name, &r)
		if err == nil && !found {
			return noDocument(op, name)
		}
		return err
	})
	return r.document(name), err
}

func noDocument(op, name string) error {
	return cloud.E(cloud.NotFound, op, "document "+name, "there is no such document at this site", "", nil)
}

// PutDocument writes a document when it still has the version that the caller knows.
func (p *Provider) PutDocument(ctx context.Context, doc cloud.Document) (cloud.Document, error) {
	const op = "PutDocument"
	if err := cloud.CheckDocument(op, doc); err != nil {
		return cloud.Document{}, err
	}
	err := p.store.update(ctx, func(t *tx) error {
		var old documentRecord
		found, err := t.get(documentBucket, doc.Name, &old)
		if err != nil {
			return err
		}
		if found && old.document("").Version != doc.Version || !found && doc.Version != "" {
			return cloud.E(cloud.Conflict, op, "document "+doc.Name, "was changed by somebody else meanwhile", "read it again", nil)
		}
		number, err := t.next(documentBucket)
		if err != nil {
			return err
		}
		next := documentRecord{Data: doc.Data, Number: number}
		doc = next.document(doc.Name)
		return t.put(documentBucket, doc.Name, next)
	})
	return doc, err
}

// DeleteDocument deletes a document.
func (p *Provider) DeleteDocument(ctx context.Context, name string) error {
	const op = "DeleteDocument"
	if err := cloud.CheckDocumentName(op, name); err != nil {
		return err
	}
	return p.store.update(ctx, func(t *tx) error {
		raw, err := t.raw(documentBucket, name)
		if err == nil && raw == nil {
			return noDocument(op, name)
		}
		if err != nil {
			return err
		}
		return t.del(documentBucket, name)
	})
}

// DocumentNames lists the documents of the site.
func (p *Provider) DocumentNames(ctx context.Context, prefix string) ([]string, error) {
	var names []string
	err := p.store.view(ctx, func(t *tx) error {
		names = []string{}
		return t.each(documentBucket, func(name string, _ []byte) error {
			if strings.HasPrefix(name, prefix) {
				names = append(names, name)
			}
			return nil
		})
	})
	return names, err
}
