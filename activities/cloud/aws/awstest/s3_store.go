package awstest

import (
	"bytes"
	"errors"
	"io"
	"maps"
	"net/http"
	"strings"
	"sync"

	"github.com/johannesboyne/gofakes3"
	"github.com/johannesboyne/gofakes3/backend/s3mem"
)

// s3Store keeps objects in memory. It wraps the store of gofakes3 where that one differs from S3: metadata
// of an object that is written over are gone, a condition on an object that is not there is NoSuchKey, and
// deletes can be conditional. One lock makes check and change one step.
type s3Store struct {
	*s3mem.Backend
	mu       sync.RWMutex
	pageSize int64
}

func newS3Store(pageSize int) *s3Store {
	return &s3Store{Backend: s3mem.New(), pageSize: int64(pageSize)}
}

// PutObject implements gofakes3.Backend
// (https://docs.aws.amazon.com/AmazonS3/latest/userguide/conditional-writes.html).
func (s *s3Store) PutObject(bucket, key string, meta map[string]string, in io.Reader, size int64, conditions *gofakes3.PutConditions) (gofakes3.PutObjectResult, error) {
	body, err := gofakes3.ReadAll(in, size)
	if err != nil {
		return gofakes3.PutObjectResult{}, err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	there, err := s.hash(bucket, key)
	if err != nil {
		return gofakes3.PutObjectResult{}, err
	}
	if conditions != nil {
		if conditions.IfMatch != nil && there == nil {
			return gofakes3.PutObjectResult{}, gofakes3.KeyNotFound(key)
		}
		if err := gofakes3.CheckPutConditions(conditions, &gofakes3.ConditionalObjectInfo{Exists: there != nil, Hash: there}); err != nil {
			return gofakes3.PutObjectResult{}, err
		}
	}
	if there != nil {
		if _, err := s.Backend.DeleteObject(bucket, key); err != nil {
			return gofakes3.PutObjectResult{}, err
		}
	}
	return s.Backend.PutObject(bucket, key, s3Metadata(meta), bytes.NewReader(body), int64(len(body)), nil)
}

// hash gives the hash of an object, nil if it is not there.
func (s *s3Store) hash(bucket, key string) ([]byte, error) {
	o, err := s.Backend.HeadObject(bucket, key)
	if gofakes3.HasErrorCode(err, gofakes3.ErrNoSuchKey) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	return o.Hash, o.Contents.Close()
}

// s3Metadata keeps of a request's headers what belongs to the object.
func s3Metadata(headers map[string]string) map[string]string {
	keep := map[string]string{}
	for k, v := range headers {
		if strings.HasPrefix(k, "X-Amz-Meta-") || strings.HasPrefix(k, "X-Amz-Checksum-") || !strings.HasPrefix(k, "X-Amz-") {
			keep[k] = v
		}
	}
	return keep
}

// CopyObject implements gofakes3.Backend.
func (s *s3Store) CopyObject(fromBucket, fromKey, bucket, key string, meta map[string]string) (gofakes3.CopyObjectResult, error) {
	return gofakes3.CopyObject(s, fromBucket, fromKey, bucket, key, meta)
}

// GetObject implements gofakes3.Backend. The checksum of an object is that of all of it, and not sent with
// a part (https://docs.aws.amazon.com/AmazonS3/latest/API/API_GetObject.html).
func (s *s3Store) GetObject(bucket, key string, part *gofakes3.ObjectRangeRequest) (*gofakes3.Object, error) {
	s.mu.RLock()
	defer s.mu.RUnlock()
	o, err := s.Backend.GetObject(bucket, key, part)
	if err != nil || part == nil {
		return o, err
	}
	o.Metadata = maps.Clone(o.Metadata)
	maps.DeleteFunc(o.Metadata, func(k, _ string) bool { return strings.HasPrefix(k, "X-Amz-Checksum-") })
	return o, nil
}

// HeadObject implements gofakes3.Backend.
func (s *s3Store) HeadObject(bucket, key string) (*gofakes3.Object, error) {
	s.mu.RLock()
	defer s.mu.RUnlock()
	return s.Backend.HeadObject(bucket, key)
}

// ListBucket implements gofakes3.Backend, in pages of the size that the double's options say.
func (s *s3Store) ListBucket(bucket string, prefix *gofakes3.Prefix, page gofakes3.ListBucketPage) (*gofakes3.ObjectList, error) {
	s.mu.RLock()
	defer s.mu.RUnlock()
	if s.pageSize > 0 && (page.MaxKeys == 0 || page.MaxKeys > s.pageSize) {
		page.MaxKeys = s.pageSize
	}
	return s.Backend.ListBucket(bucket, prefix, page)
}

// deleteIf deletes an object, if its ETag is still the one that is given; "*" is any, and "" no condition.
func (s *s3Store) deleteIf(bucket, key, etag string) *Error {
	s.mu.Lock()
	defer s.mu.Unlock()
	there, err := s.hash(bucket, key)
	switch {
	case err != nil:
		return asS3Fault(err)
	case etag != "" && there == nil:
		return &Error{Code: "NoSuchKey", Message: "The specified key does not exist.", Status: http.StatusNotFound}
	case etag != "" && etag != "*" && strings.Trim(etag, `"`) != strings.Trim(gofakes3.FormatETag(there), `"`):
		return &Error{Code: "PreconditionFailed", Message: "At least one of the pre-conditions you specified did not hold", Status: http.StatusPreconditionFailed}
	}
	if _, err := s.Backend.DeleteObject(bucket, key); err != nil {
		return asS3Fault(err)
	}
	return nil
}

// asS3Fault makes an error of the double of one of the store.
func asS3Fault(err error) *Error {
	var e gofakes3.Error
	if errors.As(err, &e) {
		return &Error{Code: string(e.ErrorCode()), Message: err.Error(), Status: e.ErrorCode().Status()}
	}
	return asFault(err)
}
