package awstest

import (
	"cmp"
	"encoding/json"
	"encoding/xml"
	"io"
	"net/http"
	"regexp"
	"slices"
	"strings"
)

// s3Policy is what the double reads of a bucket policy
// (https://docs.aws.amazon.com/AmazonS3/latest/userguide/example-bucket-policies.html).
type s3Policy struct{ Statement []s3Statement }

type s3Statement struct {
	Effect    string
	Principal any
	Action    oneOrMany
	Resource  oneOrMany
}

// toAll tells whether a statement permits everybody something.
func (s s3Statement) toAll() bool {
	principal, _ := s.Principal.(string)
	if by, ok := s.Principal.(map[string]any); ok {
		principal, _ = by["AWS"].(string)
	}
	return s.Effect == "Allow" && principal == "*"
}

// oneOrMany is a text or a list of texts.
type oneOrMany []string

func (o *oneOrMany) UnmarshalJSON(b []byte) error {
	var one string
	if json.Unmarshal(b, &one) == nil {
		*o = oneOrMany{one}
		return nil
	}
	return json.Unmarshal(b, (*[]string)(o))
}

// public tells whether everybody may read an object.
func (p *s3Policy) public(resource string) bool {
	matches := func(pattern string) bool { return pattern == resource || like(pattern, resource) }
	return slices.ContainsFunc(p.Statement, func(s s3Statement) bool {
		return s.toAll() && slices.Contains(s.Action, "s3:GetObject") && slices.ContainsFunc(s.Resource, matches)
	})
}

// s3Access answers what concerns access to a bucket from outside its account. A new bucket blocks public
// policies until its PublicAccessBlock is taken away or changed
// (https://docs.aws.amazon.com/AmazonS3/latest/userguide/access-control-block-public-access.html).
func (c *Cloud) s3Access(op string, b *s3Bucket, w http.ResponseWriter, r *http.Request) {
	body, err := io.ReadAll(io.LimitReader(r.Body, maxBody))
	if err != nil {
		s3Fail(w, asFault(err))
		return
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	switch op {
	case "PutBucketPolicy":
		var p s3Policy
		if err := json.Unmarshal(body, &p); err != nil {
			s3Fail(w, fault("MalformedPolicy", "Policies must be valid JSON and the first byte must be '{': %v", err))
			return
		}
		if !b.open && slices.ContainsFunc(p.Statement, s3Statement.toAll) {
			s3Fail(w, s3Denied())
			return
		}
		b.policy = body
		w.WriteHeader(http.StatusNoContent)
	case "GetBucketPolicy":
		if b.policy == nil {
			s3Fail(w, &Error{Code: "NoSuchBucketPolicy", Message: "The bucket policy does not exist", Status: http.StatusNotFound})
			return
		}
		_, _ = w.Write(b.policy)
	case "DeleteBucketPolicy":
		b.policy = nil
		w.WriteHeader(http.StatusNoContent)
	case "PutPublicAccessBlock":
		var in struct{ BlockPublicPolicy bool }
		if err := xml.Unmarshal(body, &in); err != nil {
			s3Fail(w, fault("MalformedXML", "%v", err))
			return
		}
		b.open = !in.BlockPublicPolicy
	case "GetPublicAccessBlock":
		w.Header().Set("Content-Type", "application/xml")
		block := struct {
			XMLName           xml.Name `xml:"PublicAccessBlockConfiguration"`
			BlockPublicPolicy bool
		}{BlockPublicPolicy: !b.open}
		_ = xml.NewEncoder(w).Encode(block)
	case "DeletePublicAccessBlock":
		b.open = true
		w.WriteHeader(http.StatusNoContent)
	}
}

// s3Hosts are the names of S3's endpoints, with the bucket in front of them or in the path
// (https://docs.aws.amazon.com/AmazonS3/latest/userguide/VirtualHosting.html).
var s3Hosts = regexp.MustCompile(`^(?:([a-z0-9.-]+)\.)?s3(?:[.-]([a-z0-9-]+))?\.amazonaws\.com$`)

// anonymous answers an unsigned request for an object, by an endpoint of S3: what a bucket policy makes
// public can be read; all else is AccessDenied, also what is not there. The endpoint of another region than the
// bucket's redirects, which a health check takes for success.
func (c *Cloud) anonymous(w http.ResponseWriter, r *http.Request) bool {
	host, _, _ := strings.Cut(r.Host, ":")
	g := s3Hosts.FindStringSubmatch(host)
	if g == nil {
		return false
	}
	if g[1] != "" {
		r.URL.Path = "/" + g[1] + r.URL.Path
	}
	name, key := s3Path(r)
	var p s3Policy
	c.mu.Lock()
	b := c.s3Buckets().buckets[name]
	if b != nil && b.policy != nil {
		_ = json.Unmarshal(b.policy, &p) // it was read when it was put
	}
	c.mu.Unlock()
	if b == nil || (r.Method != http.MethodGet && r.Method != http.MethodHead) || !p.public("arn:aws:s3:::"+name+"/"+key) {
		s3Fail(w, s3Denied())
		return true
	}
	if region := cmp.Or(g[2], "us-east-1"); region != b.region {
		s3Fail(w, s3Reachable(b, b.account, region, w))
		return true
	}
	if _, err := b.store.HeadObject(name, key); err != nil {
		s3Fail(w, s3Denied()) // without s3:ListBucket nobody learns what is not there
		return true
	}
	c.s3Of(b.account, b.region).server.ServeHTTP(w, r)
	return true
}
