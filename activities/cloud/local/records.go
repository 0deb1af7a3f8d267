package local

import (
	"context"

	"lifeboat/activities/cloud"
)

// record returns one record of a bucket, or NotFound.
func record[R any](ctx context.Context, s *store, op string, kind cloud.Kind, bucket, id string) (r R, err error) {
	err = s.view(ctx, func(t *tx) error {
		found, err := t.get(bucket, id, &r)
		if err == nil && !found {
			return notFound(op, kind, id)
		}
		return err
	})
	return r, err
}

// settled lists what the wanted records of a bucket are now. One that is gone by the
// time it is looked at is left out.
func settled[R, T any](ctx context.Context, s *store, bucket string, wanted func(R) bool, settle func(context.Context, R) (T, error)) ([]T, error) {
	var records []R
	err := s.view(ctx, func(t *tx) error {
		records = nil
		return t.each(bucket, func(id string, raw []byte) error {
			var r R
			if err := t.decode(bucket, id, raw, &r); err != nil {
				return err
			}
			if wanted(r) {
				records = append(records, r)
			}
			return nil
		})
	})
	if err != nil {
		return nil, err
	}
	all := []T{}
	for _, r := range records {
		v, err := settle(ctx, r)
		if cloud.IsNotFound(err) {
			continue
		}
		if err != nil {
			return nil, err
		}
		all = append(all, v)
	}
	return all, nil
}
