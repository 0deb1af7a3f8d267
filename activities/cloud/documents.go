package cloud

import (
	"context"
	"fmt"
	"strings"
)

// Document is a small named piece of state that is kept at a site, beside the ledger.
type Document struct {
	Name string `json:"name"` // 1 to [MaxDocumentName] printable ASCII characters, no leading slash, no dots for elements
	Data []byte `json:"data"` // up to [MaxDocument] bytes
	// Version stands for this content; it differs after each change. Empty in a
	// PutDocument says that there must be none of this name yet.
	Version string `json:"version"`
}

// Limits of documents: what an object store takes in one request, and a local site in
// one short transaction.
const (
	MaxDocument     = 8 << 20
	MaxDocumentName = 500
)

// Documents keeps documents. Each write is conditional and atomic, and durable when the
// call returns: of two that began with the same version one is Conflict.
type Documents interface {
	// Document returns a document, NotFound when there is none.
	Document(ctx context.Context, name string) (Document, error)
	// PutDocument writes a document and returns it with its new version. Another version
	// than the present one, and none or one where the contrary was expected, is Conflict:
	// read it again. When the answer of a call is lost the document may have been written.
	PutDocument(ctx context.Context, doc Document) (Document, error)
	// DeleteDocument deletes a document, whatever its version; NotFound when there is none.
	DeleteDocument(ctx context.Context, name string) error
	// DocumentNames lists the names that begin with a prefix, in order; an empty prefix lists all.
	DocumentNames(ctx context.Context, prefix string) ([]string, error)
}

// CheckDocument returns InvalidInput unless a document can be kept at every kind of site.
func CheckDocument(op string, doc Document) error {
	if err := CheckDocumentName(op, doc.Name); err != nil {
		return err
	}
	if len(doc.Data) > MaxDocument {
		return E(InvalidInput, op, "document "+doc.Name, fmt.Sprintf("has %d bytes, more than %d", len(doc.Data), MaxDocument), "keep less in it", nil)
	}
	return nil
}

// CheckDocumentName returns InvalidInput unless a name can be used at every kind of site.
func CheckDocumentName(op, name string) error {
	bad := len(name) < 1 || len(name) > MaxDocumentName ||
		strings.ContainsFunc(name, func(r rune) bool { return r < 0x20 || r > 0x7e })
	for _, element := range strings.Split(name, "/") {
		bad = bad || element == "" || element == "." || element == ".."
	}
	if bad {
		return E(InvalidInput, op, fmt.Sprintf("document %q", name),
			fmt.Sprintf("the name is not made of 1 to %d printable ASCII characters, with elements that are not empty between slashes", MaxDocumentName),
			"escape the name", nil)
	}
	return nil
}
