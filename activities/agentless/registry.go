package agentless

import (
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"lifeboat/activities/cloud"
	"lifeboat/replication"
	"lifeboat/replication/store/txfile"

	bolt "go.etcd.io/bbolt"
)

// registryFormat is the version of agentless.db.
const registryFormat = 1

var (
	bucketEngine  = []byte("engine")
	bucketStreams = []byte("streams")
	keyOwner      = []byte("owner")
)

// registry remembers which streams this engine runs, and where their state is.
type registry struct{ file *txfile.File }

func openRegistry(ctx context.Context, dir string) (*registry, error) {
	f, err := txfile.Open(ctx, dir, "agentless", registryFormat, 30*time.Second)
	if err != nil {
		return nil, registryError(err)
	}
	return &registry{file: f}, nil
}

// registryError tells damage and newer state apart, as replication does.
func registryError(err error) error {
	switch {
	case errors.Is(err, txfile.ErrNewer):
		return fmt.Errorf("%w: %w", replication.ErrNewerState, err)
	case errors.Is(err, txfile.ErrDamaged):
		return fmt.Errorf("%w: %w", replication.ErrDamagedState, err)
	}
	return err
}

func (r *registry) update(ctx context.Context, bucket []byte, fn func(b *bolt.Bucket) error) error {
	return registryError(r.file.Update(ctx, func(tx *bolt.Tx) error {
		b, err := tx.CreateBucketIfNotExists(bucket)
		if err != nil {
			return err
		}
		return fn(b)
	}))
}

// owner is the name of this engine; it is made when there is none.
func (r *registry) owner(ctx context.Context) (name string, err error) {
	err = r.update(ctx, bucketEngine, func(b *bolt.Bucket) error {
		if raw := b.Get(keyOwner); raw != nil {
			name = string(raw)
			return nil
		}
		name = rand.Text()
		return b.Put(keyOwner, []byte(name))
	})
	return name, err
}

func (r *registry) put(ctx context.Context, stream string, target cloud.Site) error {
	raw, err := json.Marshal(target)
	if err != nil {
		return err
	}
	return r.update(ctx, bucketStreams, func(b *bolt.Bucket) error { return b.Put([]byte(stream), raw) })
}

func (r *registry) remove(ctx context.Context, stream string) error {
	return r.update(ctx, bucketStreams, func(b *bolt.Bucket) error { return b.Delete([]byte(stream)) })
}

// streams returns the target site of each stream.
func (r *registry) streams(ctx context.Context) (map[string]cloud.Site, error) {
	all := map[string]cloud.Site{}
	err := r.file.View(ctx, func(tx *bolt.Tx) error {
		b := tx.Bucket(bucketStreams)
		if b == nil {
			return nil
		}
		return b.ForEach(func(name, raw []byte) error {
			var site cloud.Site
			if err := json.Unmarshal(raw, &site); err != nil {
				return r.file.Damaged("the entry of stream "+string(name)+" is damaged", err)
			}
			all[string(name)] = site
			return nil
		})
	})
	return all, registryError(err)
}
