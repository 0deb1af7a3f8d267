package aws

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"

	awssdk "github.com/aws/aws-sdk-go-v2/aws"
	awshttp "github.com/aws/aws-sdk-go-v2/aws/transport/http"
	"github.com/aws/aws-sdk-go-v2/service/s3"
	"github.com/aws/aws-sdk-go-v2/service/s3/types"
	"github.com/aws/smithy-go"

	"lifeboat/activities/cloud"
)

// What is kept in the bucket of a site. S3 answers a write when it is durable in several zones, and
// every later read and listing shows it
// (https://docs.aws.amazon.com/AmazonS3/latest/userguide/Welcome.html#ConsistencyModel). The role of the site needs
// s3:GetObject, PutObject and DeleteObject on lifeboat/*, and s3:ListBucket: without it S3 says AccessDenied of an
// object that is not there. It needs s3:CreateBucket unless the bucket is made by hand.
const (
	ledgerPrefix   = "lifeboat/ledger/"    // what Lifeboat made at the site
	documentPrefix = "lifeboat/documents/" // small documents of the engines
	tokenPrefix    = "lifeboat/tokens/"    // client tokens of calls whose API has none
	switchPrefix   = "lifeboat/switches/"  // objects that health checks of Route 53 look for
)

// maxObject bounds what is read into memory; nothing that is kept is nearly as large.
const maxObject = 16 << 20

// object is a small object of the bucket. The version is its entity tag: the next write can
// demand that it is still this one.
type object struct {
	key     string
	version string
	data    []byte
}

// bucket is the S3 client of the site's region and the bucket's name.
func (p *Provider) bucket(op string) (*s3.Client, *string, error) {
	if p.site.Bucket == "" {
		return nil, nil, cloud.E(cloud.InvalidInput, op, "site "+p.site.Name, "has no bucket, in which what Lifeboat made is recorded",
			"name an S3 bucket of region "+p.site.Region+" in the plan's site", nil)
	}
	return p.s3(), awssdk.String(p.site.Bucket), nil
}

// owner is the account that the bucket has to belong to: a bucket of the same name that a stranger
// made is refused (https://docs.aws.amazon.com/AmazonS3/latest/userguide/bucket-owner-condition.html).
func (p *Provider) owner() *string {
	if p.site.Account == "" {
		return nil
	}
	return awssdk.String(p.site.Account)
}

func (p *Provider) objectError(op, key string, err error) error {
	if hasCode(err, "PermanentRedirect", "AuthorizationHeaderMalformed", "IllegalLocationConstraintException") {
		return cloud.E(cloud.InvalidInput, op, "bucket "+p.site.Bucket, "is not in region "+p.site.Region,
			"give the site a bucket of its own region: it has to be there when another region is not", err)
	}
	return awsError(op, "object s3://"+p.site.Bucket+"/"+key, err)
}

// getObject reads an object. A bucket that is not there has no objects.
func (p *Provider) getObject(ctx context.Context, op, key string) (object, error) {
	client, bucket, err := p.bucket(op)
	if err != nil {
		return object{}, err
	}
	out, err := client.GetObject(ctx, &s3.GetObjectInput{Bucket: bucket, Key: &key, ExpectedBucketOwner: p.owner()})
	if err != nil {
		return object{}, p.objectError(op, key, err)
	}
	defer out.Body.Close()
	data, err := io.ReadAll(io.LimitReader(out.Body, maxObject+1))
	if err != nil {
		return object{}, cloud.E(cloud.Unavailable, op, "object "+key, "reading it broke off", "", err)
	}
	if len(data) > maxObject {
		return object{}, cloud.E(cloud.Corrupt, op, "object "+key, "is larger than anything that Lifeboat writes", "find out who wrote it", nil)
	}
	return object{key: key, version: awssdk.ToString(out.ETag), data: data}, nil
}

// putObject writes an object and returns its new version: with an empty version only where there is
// none yet, else only over that version. Otherwise it is Conflict, and nothing is changed. A write
// that had been done although its answer was lost is no conflict with itself.
// (https://docs.aws.amazon.com/AmazonS3/latest/userguide/conditional-writes.html)
func (p *Provider) putObject(ctx context.Context, op string, o object) (string, error) {
	version, err := p.tryPut(ctx, op, o)
	if hasCode(err, "NoSuchBucket") {
		if err := p.makeBucket(ctx, op); err != nil {
			return "", err
		}
		version, err = p.tryPut(ctx, op, o)
	}
	switch {
	case err == nil:
		return version, nil
	case o.version != "" && hasCode(err, "NoSuchKey"):
		return "", p.changed(op, o.key, err)
	case !hasCode(err, "PreconditionFailed", "ConditionalRequestConflict"):
		return "", p.objectError(op, o.key, err)
	}
	now, gerr := p.getObject(ctx, op, o.key)
	if gerr == nil && bytes.Equal(now.data, o.data) {
		return now.version, nil
	}
	return "", p.changed(op, o.key, err)
}

// changed says that somebody else wrote meanwhile.
func (p *Provider) changed(op, key string, err error) error {
	return cloud.E(cloud.Conflict, op, "object s3://"+p.site.Bucket+"/"+key, "was changed by another process meanwhile", "read it again and repeat the change", err)
}

func (p *Provider) tryPut(ctx context.Context, op string, o object) (string, error) {
	client, bucket, err := p.bucket(op)
	if err != nil {
		return "", err
	}
	in := &s3.PutObjectInput{Bucket: bucket, Key: &o.key, Body: bytes.NewReader(o.data), ExpectedBucketOwner: p.owner()}
	if o.version == "" {
		in.IfNoneMatch = awssdk.String("*")
	} else {
		in.IfMatch = &o.version
	}
	out, err := client.PutObject(ctx, in)
	if err != nil {
		return "", err
	}
	return awssdk.ToString(out.ETag), nil
}

// makeBucket makes the bucket of a site with its first object. New buckets are private and
// encrypted by default (https://docs.aws.amazon.com/AmazonS3/latest/userguide/create-bucket-faq.html).
func (p *Provider) makeBucket(ctx context.Context, op string) error {
	client, bucket, err := p.bucket(op)
	if err != nil {
		return err
	}
	in := &s3.CreateBucketInput{Bucket: bucket}
	if p.site.Region != "us-east-1" { // which is no constraint: it is where names without one are
		in.CreateBucketConfiguration = &types.CreateBucketConfiguration{LocationConstraint: types.BucketLocationConstraint(p.site.Region)}
	}
	_, err = client.CreateBucket(ctx, in)
	if err == nil || hasCode(err, "BucketAlreadyOwnedByYou") {
		return nil
	}
	made := fmt.Sprintf("make it by hand: aws s3api create-bucket --bucket %s --region %s --create-bucket-configuration LocationConstraint=%s",
		p.site.Bucket, p.site.Region, p.site.Region)
	if hasCode(err, "BucketAlreadyExists") {
		made = "it belongs to another account: choose another name in the plan's site"
	}
	return p.mended(p.objectError(op, "", err), "the bucket is not there and cannot be made", made)
}

// mended adds to an error what was being done, and what a person can do.
func (p *Provider) mended(err error, doing, mend string) error {
	var e *cloud.Error
	if !errors.As(err, &e) || errors.Is(err, context.Canceled) || errors.Is(err, context.DeadlineExceeded) {
		return err
	}
	out := *e
	out.Message, out.Mend = doing+": "+e.Message, mend
	return &out
}

// deleteObject deletes an object; gone already is nil. With a version only that one: Conflict otherwise.
func (p *Provider) deleteObject(ctx context.Context, op, key, version string) error {
	client, bucket, err := p.bucket(op)
	if err != nil {
		return err
	}
	in := &s3.DeleteObjectInput{Bucket: bucket, Key: &key, ExpectedBucketOwner: p.owner()}
	if version != "" {
		in.IfMatch = &version
	}
	_, err = client.DeleteObject(ctx, in)
	switch {
	case err == nil || hasCode(err, "NoSuchBucket", "NoSuchKey"):
		return nil
	case hasCode(err, "PreconditionFailed", "ConditionalRequestConflict"):
		return p.changed(op, key, err)
	}
	return p.objectError(op, key, err)
}

// listObjects lists the keys under a prefix with their versions, without their content.
func (p *Provider) listObjects(ctx context.Context, op, prefix string) ([]object, error) {
	client, bucket, err := p.bucket(op)
	if err != nil {
		return nil, err
	}
	pages := s3.NewListObjectsV2Paginator(client, &s3.ListObjectsV2Input{Bucket: bucket, Prefix: &prefix, ExpectedBucketOwner: p.owner()})
	var all []object
	for pages.HasMorePages() {
		page, err := pages.NextPage(ctx)
		if hasCode(err, "NoSuchBucket") {
			return nil, nil
		}
		if err != nil {
			return nil, p.objectError(op, prefix, err)
		}
		for _, o := range page.Contents {
			all = append(all, object{key: awssdk.ToString(o.Key), version: awssdk.ToString(o.ETag)})
		}
	}
	return all, nil
}

// hasCode tells whether an API answered with one of the codes. A missing object is told by the
// status alone where the answer has no body.
func hasCode(err error, codes ...string) bool {
	var api smithy.APIError
	if !errors.As(err, &api) {
		return false
	}
	code := api.ErrorCode()
	var answer *awshttp.ResponseError
	if code == "NotFound" && errors.As(err, &answer) && answer.HTTPStatusCode() == http.StatusNotFound {
		code = "NoSuchKey"
	}
	for _, c := range codes {
		if c == code {
			return true
		}
	}
	return false
}

// keyOf makes the part of a key that stands for a token: letters, digits, -, _ and . stand for
// themselves (a first . does not), every other byte is = and two hexadecimal digits. So keys are the
// same in every tool, and none means a directory above.
func keyOf(token string) string {
	var b strings.Builder
	for i := range len(token) {
		switch c := token[i]; {
		case c >= 'a' && c <= 'z', c >= 'A' && c <= 'Z', c >= '0' && c <= '9', c == '-', c == '_', c == '.' && i > 0:
			b.WriteByte(c)
		default:
			fmt.Fprintf(&b, "=%02X", c)
		}
	}
	return b.String()
}
