package local

import (
	"crypto/rand"
	"encoding/hex"
	"fmt"
	"strings"
	"time"

	"lifeboat/activities/cloud"
)

const (
	tokenBucket  = "tokens"
	expiryBucket = "tokens-expiring"
	// tokenLife is how long the token of a deleted resource is remembered. A
	// caller that comes later than this would create anew.
	tokenLife = 7 * 24 * time.Hour
	// sweepTokens bounds how many expired tokens one transaction removes.
	sweepTokens = 64
)

// tokenRecord ties a client token to the resource that was made with it.
type tokenRecord struct {
	ID      string     `json:"id"`
	Request string     `json:"request"` // digest of the parameters
	Deleted *time.Time `json:"deleted,omitempty"`
}

// claim ties the token of a creating call to a resource of a kind. A new token
// gives a new identifier and old == false: the caller puts the resource in the
// same transaction. A token used before with the same request gives the same
// identifier; with another request it fails with TokenMismatch, and when the
// resource has been deleted since, with NotFound.
func (t *tx) claim(op string, kind cloud.Kind, token string, request any) (id string, old bool, err error) {
	if err := cloud.CheckToken(op, kind, token); err != nil {
		return "", false, err
	}
	sum, err := digest(request)
	if err != nil {
		return "", false, err
	}
	key, record := tokenKey(kind, token), tokenRecord{}
	found, err := t.get(tokenBucket, key, &record)
	switch {
	case err != nil:
		return "", false, err
	case !found:
		record = tokenRecord{ID: newID(kind), Request: sum}
		if err := t.sweep(time.Now()); err != nil {
			return "", false, err
		}
		return record.ID, false, t.put(tokenBucket, key, record)
	case record.Request != sum:
		return "", false, cloud.E(cloud.TokenMismatch, op, fmt.Sprintf("%s %s", kind, record.ID),
			fmt.Sprintf("the token %s made it with other parameters", token), "use another token for another request", nil)
	case record.Deleted != nil:
		return "", false, cloud.E(cloud.NotFound, op, fmt.Sprintf("%s %s", kind, record.ID),
			fmt.Sprintf("the token %s made it, and it has been deleted since", token), "use another token to make another one", nil)
	}
	return record.ID, true, nil
}

// byToken returns the identifier that a token stands for, "" when it is unknown
// or the resource is deleted.
func (t *tx) byToken(kind cloud.Kind, token string) (string, error) {
	var record tokenRecord
	found, err := t.get(tokenBucket, tokenKey(kind, token), &record)
	if err != nil || !found || record.Deleted != nil {
		return "", err
	}
	return record.ID, nil
}

// retire marks the token of a resource that is deleted in this transaction.
func (t *tx) retire(kind cloud.Kind, token string) error {
	key, record := tokenKey(kind, token), tokenRecord{}
	found, err := t.get(tokenBucket, key, &record)
	if err != nil || !found || record.Deleted != nil {
		return err
	}
	now := time.Now().UTC()
	record.Deleted = &now
	if err := t.put(tokenBucket, key, record); err != nil {
		return err
	}
	return t.put(expiryBucket, now.Add(tokenLife).Format("20060102T150405.000000000")+"/"+key, key)
}

// sweep forgets tokens whose time has passed, the oldest first.
func (t *tx) sweep(now time.Time) error {
	b, err := t.bucket(expiryBucket)
	if err != nil {
		return err
	}
	limit := now.UTC().Format("20060102T150405.000000000")
	var due []string
	err = t.s.guard(func() error {
		c := b.Cursor()
		for k, _ := c.First(); k != nil && string(k) < limit && len(due) < sweepTokens; k, _ = c.Next() {
			due = append(due, string(k))
		}
		return nil
	})
	if err != nil {
		return err
	}
	for _, id := range due {
		var key string
		if _, err := t.get(expiryBucket, id, &key); err != nil {
			return err
		}
		if err := t.del(tokenBucket, key); err != nil {
			return err
		}
		if err := t.del(expiryBucket, id); err != nil {
			return err
		}
		if _, token, ok := strings.Cut(key, "/"); ok {
			if err := t.forgetEntry(token); err != nil {
				return err
			}
		}
	}
	return nil
}

func tokenKey(kind cloud.Kind, token string) string { return string(kind) + "/" + token }

// prefixes of identifiers, as short as those of the large clouds.
var prefixes = map[cloud.Kind]string{
	cloud.KindServer: "srv-", cloud.KindDisk: "disk-", cloud.KindSnapshot: "snap-", cloud.KindImage: "img-",
	cloud.KindNetwork: "net-", cloud.KindAddress: "addr-", cloud.KindRecord: "chg-",
}

// newID returns an identifier that no other resource has.
func newID(kind cloud.Kind) string {
	prefix, known := prefixes[kind]
	if !known {
		prefix = string(kind) + "-"
	}
	var raw [8]byte
	rand.Read(raw[:]) //nolint:errcheck // never fails (crypto/rand)
	return prefix + hex.EncodeToString(raw[:])
}
