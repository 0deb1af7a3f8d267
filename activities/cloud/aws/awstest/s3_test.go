package awstest

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/credentials"
	"github.com/aws/aws-sdk-go-v2/service/s3"
	"github.com/aws/aws-sdk-go-v2/service/s3/types"
	"github.com/aws/smithy-go"
)

// sdk is the configuration of a client of the double that signs with a key, and asks once.
func sdk(c *Cloud, region, key string) aws.Config {
	return aws.Config{Region: region, BaseEndpoint: aws.String(c.URL), RetryMaxAttempts: 1,
		Credentials: credentials.NewStaticCredentialsProvider(key, "secret", "")}
}

// refused tells which code of an error came back, "" for none.
func refused(err error) string {
	var e smithy.APIError
	if errors.As(err, &e) {
		return e.ErrorCode()
	}
	if err != nil {
		return err.Error()
	}
	return ""
}

// wantCode ends a test unless an error has a code.
func wantCode(t *testing.T, err error, code string) {
	t.Helper()
	if got := refused(err); got != code {
		t.Fatalf("the answer is %q, want %q", got, code)
	}
}

func must[T any](v T, err error) func(t *testing.T) T {
	return func(t *testing.T) T {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
		return v
	}
}

// newBucket makes a bucket and gives the client of its region.
func newBucket(t *testing.T, c *Cloud, region, name string) *s3.Client {
	t.Helper()
	client := s3.NewFromConfig(sdk(c, region, "key"))
	in := &s3.CreateBucketInput{Bucket: &name}
	if region != "us-east-1" {
		in.CreateBucketConfiguration = &types.CreateBucketConfiguration{LocationConstraint: types.BucketLocationConstraint(region)}
	}
	must(client.CreateBucket(t.Context(), in))(t)
	return client
}

func putObject(client *s3.Client, key, body string, change ...func(*s3.PutObjectInput)) (*s3.PutObjectOutput, error) {
	in := &s3.PutObjectInput{Bucket: aws.String("ledger"), Key: &key, Body: strings.NewReader(body)}
	for _, f := range change {
		f(in)
	}
	return client.PutObject(context.Background(), in)
}

func ifNew(in *s3.PutObjectInput) { in.IfNoneMatch = aws.String("*") }
func ifStill(etag *string) func(*s3.PutObjectInput) {
	return func(in *s3.PutObjectInput) { in.IfMatch = etag }
}

func TestObjectIsCreatedOnceByManyWriters(t *testing.T) {
	t.Parallel()
	client := newBucket(t, New(t, Options{}), "eu-west-1", "ledger")
	var created, failed atomic.Int32
	var group sync.WaitGroup
	for i := range 64 {
		group.Go(func() {
			_, err := putObject(client, "one/of/them", fmt.Sprint(i), ifNew)
			switch refused(err) {
			case "":
				created.Add(1)
			case "PreconditionFailed":
				failed.Add(1)
			default:
				t.Error(err)
			}
		})
	}
	group.Wait()
	if created.Load() != 1 || failed.Load() != 63 {
		t.Fatalf("%d writers created the object and %d were refused", created.Load(), failed.Load())
	}
}

func TestChangesByETagLoseNothing(t *testing.T) {
	t.Parallel()
	client := newBucket(t, New(t, Options{}), "eu-west-1", "ledger")
	must(putObject(client, "log", ""))(t)
	var group sync.WaitGroup
	for range 16 {
		group.Go(func() {
			for { // add a line, as often as another one was quicker
				o, err := client.GetObject(t.Context(), &s3.GetObjectInput{Bucket: aws.String("ledger"), Key: aws.String("log")})
				if err != nil {
					t.Error(err)
					return
				}
				body, err := io.ReadAll(o.Body)
				if err != nil {
					t.Error(err)
					return
				}
				_, err = putObject(client, "log", string(body)+"x", ifStill(o.ETag))
				if refused(err) == "PreconditionFailed" {
					continue
				}
				if err != nil {
					t.Error(err)
				}
				return
			}
		})
	}
	group.Wait()
	o := must(client.HeadObject(t.Context(), &s3.HeadObjectInput{Bucket: aws.String("ledger"), Key: aws.String("log")}))(t)
	if *o.ContentLength != 16 {
		t.Fatalf("%d of 16 changes are there", *o.ContentLength)
	}
}

func TestConditionsOnWhatIsNotThere(t *testing.T) {
	t.Parallel()
	client := newBucket(t, New(t, Options{}), "eu-west-1", "ledger")
	_, err := putObject(client, "absent", "1", ifStill(aws.String(`"00000000000000000000000000000000"`)))
	wantCode(t, err, "NoSuchKey")
	_, err = client.GetObject(t.Context(), &s3.GetObjectInput{Bucket: aws.String("ledger"), Key: aws.String("absent")})
	wantCode(t, err, "NoSuchKey")
	first := must(putObject(client, "there", "1"))(t)
	must(putObject(client, "there", "2"))(t)
	remove := func(etag *string) error {
		_, err := client.DeleteObject(t.Context(), &s3.DeleteObjectInput{Bucket: aws.String("ledger"), Key: aws.String("there"), IfMatch: etag})
		return err
	}
	wantCode(t, remove(first.ETag), "PreconditionFailed")
	wantCode(t, remove(nil), "")
	wantCode(t, remove(nil), "") // what is not there is deleted already
	wantCode(t, remove(first.ETag), "NoSuchKey")
}

func TestObjectsComeBackAsTheyWerePut(t *testing.T) {
	t.Parallel()
	client := newBucket(t, New(t, Options{}), "us-east-1", "ledger")
	get := func(part *string) string {
		o := must(client.GetObject(t.Context(), &s3.GetObjectInput{Bucket: aws.String("ledger"), Key: aws.String("o"), Range: part}))(t)
		return string(must(io.ReadAll(o.Body))(t))
	}
	must(putObject(client, "o", "first words", func(in *s3.PutObjectInput) { in.Metadata = map[string]string{"old": "yes"} }))(t)
	must(putObject(client, "o", "other words", func(in *s3.PutObjectInput) { in.ChecksumAlgorithm = types.ChecksumAlgorithmSha256 }))(t)
	if got := get(nil); got != "other words" {
		t.Fatalf("all of it is %q", got)
	}
	if got := get(aws.String("bytes=6-")); got != "words" {
		t.Fatalf("a part of it is %q", got)
	}
	o := must(client.HeadObject(t.Context(), &s3.HeadObjectInput{Bucket: aws.String("ledger"), Key: aws.String("o")}))(t)
	if len(o.Metadata) != 0 {
		t.Fatalf("metadata of the object before are still there: %v", o.Metadata)
	}
}

func TestObjectsAreListedInPages(t *testing.T) {
	t.Parallel()
	for _, size := range []int{0, 7} {
		client := newBucket(t, New(t, Options{PageSize: size}), "eu-west-1", "ledger")
		for i := range 40 {
			must(putObject(client, fmt.Sprintf("p/%02d", i), ""))(t)
		}
		must(putObject(client, "q/other", ""))(t)
		var keys []string
		pages := s3.NewListObjectsV2Paginator(client, &s3.ListObjectsV2Input{Bucket: aws.String("ledger"), Prefix: aws.String("p/"), MaxKeys: aws.Int32(15)})
		for pages.HasMorePages() {
			p := must(pages.NextPage(t.Context()))(t)
			if len(p.Contents) > 15 || (size > 0 && len(p.Contents) > size) {
				t.Fatalf("a page has %d keys", len(p.Contents))
			}
			for _, o := range p.Contents {
				keys = append(keys, *o.Key)
			}
		}
		if len(keys) != 40 || keys[0] != "p/00" || keys[39] != "p/39" {
			t.Fatalf("the pages have %d keys: %v", len(keys), keys)
		}
	}
}

func TestBucketsAreOfOneRegionAndAccount(t *testing.T) {
	t.Parallel()
	c := New(t, Options{})
	client := s3.NewFromConfig(sdk(c, "eu-west-1", "key"))
	_, err := putObject(client, "k", "")
	wantCode(t, err, "NoSuchBucket")
	_, err = client.CreateBucket(t.Context(), &s3.CreateBucketInput{Bucket: aws.String("ledger")})
	wantCode(t, err, "IllegalLocationConstraintException")
	newBucket(t, c, "eu-west-1", "ledger")
	_, err = client.CreateBucket(t.Context(), &s3.CreateBucketInput{Bucket: aws.String("ledger"),
		CreateBucketConfiguration: &types.CreateBucketConfiguration{LocationConstraint: types.BucketLocationConstraintEuWest1}})
	wantCode(t, err, "BucketAlreadyOwnedByYou")
	_, err = putObject(s3.NewFromConfig(sdk(c, "eu-central-1", "key")), "k", "")
	wantCode(t, err, "PermanentRedirect")
	where := must(client.GetBucketLocation(t.Context(), &s3.GetBucketLocationInput{Bucket: aws.String("ledger")}))(t)
	if where.LocationConstraint != types.BucketLocationConstraintEuWest1 {
		t.Fatalf("the bucket is in %q", where.LocationConstraint)
	}
	must(putObject(client, "k", ""))(t)
	_, err = client.DeleteBucket(t.Context(), &s3.DeleteBucketInput{Bucket: aws.String("ledger")})
	wantCode(t, err, "BucketNotEmpty")
}

func TestFaultsOfS3(t *testing.T) {
	t.Parallel()
	c := New(t, Options{})
	client := newBucket(t, c, "eu-west-1", "ledger")
	remove := c.Inject(Rule{Service: "s3", Operation: "PutObject", Error: &Error{Code: "SlowDown", Message: "Reduce your request rate.", Status: http.StatusServiceUnavailable}})
	_, err := putObject(client, "refused", "", ifNew)
	wantCode(t, err, "SlowDown")
	remove()
	c.Inject(Rule{Service: "s3", Operation: "PutObject", Times: 1, Drop: true, After: true})
	if _, err := putObject(client, "lost", "", ifNew); err == nil {
		t.Fatal("a connection that breaks is no error")
	}
	_, err = putObject(client, "lost", "", ifNew)
	wantCode(t, err, "PreconditionFailed") // it had been written
	_, err = putObject(client, "refused", "", ifNew)
	wantCode(t, err, "")
	all := c.Requests()
	if last := all[len(all)-2]; last.Operation != "PutObject" || last.Error != "PreconditionFailed" {
		t.Fatalf("the request is listed as %+v", last)
	}
}

func TestObjectForEverybody(t *testing.T) {
	t.Parallel()
	c := New(t, Options{})
	client := newBucket(t, c, "eu-west-1", "ledger")
	must(putObject(client, "standby", "up"))(t)
	ask := func(host, key string) int {
		r := must(http.NewRequest(http.MethodGet, c.URL+"/"+key, nil))(t)
		r.Host = host
		answer := must(http.DefaultTransport.RoundTrip(r))(t)
		defer answer.Body.Close()
		body := must(io.ReadAll(answer.Body))(t)
		if answer.StatusCode == http.StatusOK && !bytes.Equal(body, []byte("up")) {
			t.Errorf("the object is %q", body)
		}
		return answer.StatusCode
	}
	read := func(key string) int { return ask("ledger.s3.eu-west-1.amazonaws.com", key) }
	policy := func() error {
		_, err := client.PutBucketPolicy(t.Context(), &s3.PutBucketPolicyInput{Bucket: aws.String("ledger"), Policy: aws.String(
			`{"Version":"2012-10-17","Statement":[{"Effect":"Allow","Principal":"*","Action":"s3:GetObject","Resource":"arn:aws:s3:::ledger/standby"}]}`)})
		return err
	}
	if got := read("standby"); got != http.StatusForbidden {
		t.Fatalf("a private object is answered with %d", got)
	}
	wantCode(t, policy(), "AccessDenied")
	must(client.DeletePublicAccessBlock(t.Context(), &s3.DeletePublicAccessBlockInput{Bucket: aws.String("ledger")}))(t)
	wantCode(t, policy(), "")
	if a, b := read("standby"), read("other"); a != http.StatusOK || b != http.StatusForbidden {
		t.Fatalf("the object is answered with %d, another one with %d", a, b)
	}
	if got := ask("s3.eu-central-1.amazonaws.com", "ledger/standby"); got != http.StatusMovedPermanently {
		t.Fatalf("another region answers with %d", got)
	}
}
