package awstest

import (
	"encoding/xml"
	"fmt"
	"io"
	"net/http"
	"strings"
	"sync"

	"github.com/johannesboyne/gofakes3"
)

// Amazon S3 (https://docs.aws.amazon.com/AmazonS3/latest/API/): gofakes3 keeps the objects of each
// account and region; what it does not do as S3 does is done here and in s3_store.go. Names of buckets
// are those of all accounts and regions, as everywhere in a partition of AWS.
func init() {
	rawServices["s3"] = rawService{operation: s3Operation, handle: s3Handle, fail: s3Fail, code: s3Code}
}

// s3Places says whose a bucket is and where: names are unique.
type s3Places struct {
	making  sync.Mutex           // one bucket is made at a time: the second one hears whose it is
	buckets map[string]*s3Bucket // by name
}

// s3Bucket is what the double keeps about a bucket beside its objects.
type s3Bucket struct {
	name, account, region string
	policy                []byte
	open                  bool // public policies are not blocked
	store                 *s3Store
}

// s3Region are the objects of an account in a region.
type s3Region struct {
	once   sync.Once
	store  *s3Store
	server http.Handler
}

// s3Buckets are all buckets of the double. The lock is held.
func (c *Cloud) s3Buckets() *s3Places {
	p := part[s3Places](c.region("", "s3"))
	if p.buckets == nil {
		p.buckets = map[string]*s3Bucket{}
	}
	return p
}

// s3Of gives the server of an account's region.
func (c *Cloud) s3Of(account, region string) *s3Region {
	c.mu.Lock()
	s := part[s3Region](c.region(account, region))
	c.mu.Unlock()
	s.once.Do(func() {
		s.store = newS3Store(c.PageSize)
		s.server = gofakes3.New(s.store, gofakes3.WithoutVersioning()).Server()
	})
	return s
}

// s3Path cuts a path-style URL into bucket and key.
func s3Path(r *http.Request) (bucket, key string) {
	bucket, key, _ = strings.Cut(strings.TrimPrefix(r.URL.Path, "/"), "/")
	return bucket, key
}

// s3Subresources are the operations on a bucket that a query names.
var s3Subresources = map[string]string{"policy": "BucketPolicy", "publicAccessBlock": "PublicAccessBlock", "location": "BucketLocation",
	"versioning": "BucketVersioning"}

// s3Operation names an operation as the API reference does.
func s3Operation(r *http.Request) string {
	bucket, key := s3Path(r)
	q := r.URL.Query()
	verb := strings.ToUpper(r.Method[:1]) + strings.ToLower(r.Method[1:])
	switch {
	case bucket == "":
		return "ListBuckets"
	case key == "":
		return s3BucketOperation(r, verb)
	case r.Method == http.MethodPost && q.Has("uploads"):
		return "CreateMultipartUpload"
	case q.Has("uploadId"):
		return map[string]string{"Put": "UploadPart", "Post": "CompleteMultipartUpload", "Delete": "AbortMultipartUpload", "Get": "ListParts"}[verb]
	case r.Method == http.MethodPut && r.Header.Get("X-Amz-Copy-Source") != "":
		return "CopyObject"
	}
	return verb + "Object"
}

func s3BucketOperation(r *http.Request, verb string) string {
	q := r.URL.Query()
	for _, sub := range sortedKeys(s3Subresources) {
		if q.Has(sub) {
			return verb + s3Subresources[sub]
		}
	}
	switch {
	case r.Method == http.MethodPut:
		return "CreateBucket"
	case r.Method == http.MethodPost && q.Has("delete"):
		return "DeleteObjects"
	case r.Method == http.MethodGet && q.Get("list-type") == "2":
		return "ListObjectsV2"
	case r.Method == http.MethodGet && q.Has("uploads"):
		return "ListMultipartUploads"
	case r.Method == http.MethodGet:
		return "ListObjects"
	}
	return verb + "Bucket"
}

// s3Handle answers a signed request.
func s3Handle(c *Cloud, a *Account, region string, w http.ResponseWriter, r *http.Request) {
	name, key := s3Path(r)
	op := s3Operation(r)
	switch {
	case name == "":
		c.s3Of(a.ID, region).server.ServeHTTP(w, r)
		return
	case op == "CreateBucket":
		c.createBucket(a.ID, region, name, w, r)
		return
	}
	c.mu.Lock()
	b := c.s3Buckets().buckets[name]
	c.mu.Unlock()
	if err := s3Reachable(b, a.ID, region, w); err != nil {
		s3Fail(w, err)
		return
	}
	switch op {
	case "PutBucketPolicy", "GetBucketPolicy", "DeleteBucketPolicy", "PutPublicAccessBlock", "GetPublicAccessBlock", "DeletePublicAccessBlock":
		c.s3Access(op, b, w, r)
	case "GetBucketLocation":
		s3Location(w, b.region)
	case "DeleteObject":
		s3Delete(b, key, w, r)
	case "DeleteBucket":
		c.deleteBucket(b, w, r)
	default:
		c.s3Of(b.account, b.region).server.ServeHTTP(w, r)
	}
}

// s3Reachable tells whether an account reaches a bucket through a region's endpoint. Another account
// needs a bucket policy, which the double reads for the public only; another region's endpoint answers
// PermanentRedirect with the region in a header
// (https://docs.aws.amazon.com/AmazonS3/latest/userguide/Redirects.html).
func s3Reachable(b *s3Bucket, account, region string, w http.ResponseWriter) *Error {
	switch {
	case b == nil:
		return &Error{Code: "NoSuchBucket", Message: "The specified bucket does not exist", Status: http.StatusNotFound}
	case b.account != account:
		return s3Denied()
	case b.region != region:
		w.Header().Set("X-Amz-Bucket-Region", b.region)
		return &Error{Code: "PermanentRedirect", Status: http.StatusMovedPermanently,
			Message: "The bucket you are attempting to access must be addressed using the specified endpoint. Please send all future requests to this endpoint."}
	}
	return nil
}

func s3Denied() *Error {
	return &Error{Code: "AccessDenied", Message: "Access Denied", Status: http.StatusForbidden}
}

// createBucket makes a bucket. Outside us-east-1 the body has to name the region of the endpoint; a name
// that is taken is a conflict, of a kind that says whether it is one's own
// (https://docs.aws.amazon.com/AmazonS3/latest/API/API_CreateBucket.html).
func (c *Cloud) createBucket(account, region, name string, w http.ResponseWriter, r *http.Request) {
	var in struct{ LocationConstraint string }
	body, err := io.ReadAll(io.LimitReader(r.Body, maxBody))
	if err == nil && len(body) > 0 {
		err = xml.Unmarshal(body, &in)
	}
	if err != nil {
		s3Fail(w, &Error{Code: "MalformedXML", Message: err.Error(), Status: http.StatusBadRequest})
		return
	}
	if in.LocationConstraint == "" {
		in.LocationConstraint = "us-east-1"
	}
	if in.LocationConstraint != region {
		s3Fail(w, fault("IllegalLocationConstraintException",
			"The %s location constraint is incompatible for the region specific endpoint this request was sent to.", in.LocationConstraint))
		return
	}
	c.mu.Lock()
	places := c.s3Buckets()
	c.mu.Unlock()
	places.making.Lock()
	defer places.making.Unlock()
	c.mu.Lock()
	b := places.buckets[name]
	c.mu.Unlock()
	if b != nil {
		e := &Error{Code: "BucketAlreadyExists", Message: "The requested bucket name is not available. The bucket namespace is shared by all users of the system. Please select a different name and try again.", Status: http.StatusConflict}
		if b.account == account {
			e.Code, e.Message = "BucketAlreadyOwnedByYou", "Your previous request to create the named bucket succeeded and you already own it."
		}
		s3Fail(w, e)
		return
	}
	s := c.s3Of(account, region)
	r.Body = http.NoBody
	s.server.ServeHTTP(w, r)
	if made, _ := s.store.BucketExists(name); made {
		c.mu.Lock()
		c.s3Buckets().buckets[name] = &s3Bucket{name: name, account: account, region: region, store: s.store}
		c.mu.Unlock()
	}
}

func (c *Cloud) deleteBucket(b *s3Bucket, w http.ResponseWriter, r *http.Request) {
	c.s3Of(b.account, b.region).server.ServeHTTP(w, r)
	if there, _ := b.store.BucketExists(b.name); !there {
		c.mu.Lock()
		delete(c.s3Buckets().buckets, b.name)
		c.mu.Unlock()
	}
}

// s3Delete deletes an object; If-Match makes it conditional
// (https://docs.aws.amazon.com/AmazonS3/latest/userguide/conditional-deletes.html).
func s3Delete(b *s3Bucket, key string, w http.ResponseWriter, r *http.Request) {
	if err := b.store.deleteIf(b.name, key, r.Header.Get("If-Match")); err != nil {
		s3Fail(w, err)
		return
	}
	w.WriteHeader(http.StatusNoContent)
}

// s3Location answers GetBucketLocation; us-east-1 has none
// (https://docs.aws.amazon.com/AmazonS3/latest/API/API_GetBucketLocation.html).
func s3Location(w http.ResponseWriter, region string) {
	if region == "us-east-1" {
		region = ""
	}
	w.Header().Set("Content-Type", "application/xml")
	fmt.Fprintf(w, `%s<LocationConstraint xmlns="http://s3.amazonaws.com/doc/2006-03-01/">%s</LocationConstraint>`, xml.Header, region)
}

// s3Error is an error in XML (https://docs.aws.amazon.com/AmazonS3/latest/API/ErrorResponses.html).
type s3Error struct {
	XMLName xml.Name `xml:"Error"`
	Code    string
	Message string
}

func s3Fail(w http.ResponseWriter, e *Error) {
	w.Header().Set("Content-Type", "application/xml")
	w.WriteHeader(statusOf(e))
	_ = xml.NewEncoder(w).Encode(s3Error{Code: e.Code, Message: e.Message})
}

func s3Code(body []byte) string {
	var e s3Error
	if xml.Unmarshal(body, &e) != nil {
		return ""
	}
	return e.Code
}
