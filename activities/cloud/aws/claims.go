package aws

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"time"

	"lifeboat/activities/cloud"
)

// remembered is what a value of a site keeps in memory to save requests. Nothing depends on it.
type remembered struct {
	ledger ledgerCache
	zones  zoneCache
	vpc    vpcMemory
}

// claim is what a client token was used for, of calls whose API has no token and no resource that
// could carry one as a tag: scripts, deletions of records, alerts. It is an object of the site's
// bucket, written only where there is none: of two callers one goes on, and a caller that comes back
// after a crash learns what it had begun. Claims are small and never read again once their operation is over: a
// lifecycle rule may delete what is older than a month below lifeboat/tokens/.
type claim struct {
	Token string    `json:"token"`
	Hash  string    `json:"hash"`         // of the parameters
	At    time.Time `json:"at"`           // when the call was made, or is about to be
	ID    string    `json:"id,omitempty"` // what the call answered; empty until then

	version string
}

func claimKey(kind cloud.Kind, token string) string {
	return tokenPrefix + keyOf(string(kind)) + "/" + keyOf(token)
}

// hashOf stands for parameters.
func hashOf(parameters any) (string, error) {
	data, err := json.Marshal(parameters) // keys of maps are sorted
	if err != nil {
		return "", err
	}
	sum := sha256.Sum256(data)
	return hex.EncodeToString(sum[:8]), nil
}

// findClaim reads the claim of a token; other parameters than those of its first use are TokenMismatch.
func (p *Provider) findClaim(ctx context.Context, op string, kind cloud.Kind, token, hash string) (c claim, found bool, err error) {
	if err := cloud.CheckToken(op, kind, token); err != nil {
		return c, false, err
	}
	o, err := p.getObject(ctx, op, claimKey(kind, token))
	if err != nil {
		return c, false, cloud.IgnoreNotFound(err)
	}
	resource := string(kind) + " with token " + token
	if err := json.Unmarshal(o.data, &c); err != nil || c.Token != token {
		return c, false, cloud.E(cloud.Corrupt, op, resource, "the record of the token cannot be read", "look at the object "+o.key, err)
	}
	if c.Hash != hash {
		return c, false, cloud.E(cloud.TokenMismatch, op, resource, "the token was used before with other parameters", "use another token", nil)
	}
	c.version = o.version
	return c, true, nil
}

// putClaim writes a claim over its version, or as a new one; Conflict when another caller was first.
func (p *Provider) putClaim(ctx context.Context, op string, kind cloud.Kind, c *claim) error {
	data, err := json.Marshal(c)
	if err != nil {
		return fmt.Errorf("token %s: %w", c.Token, err)
	}
	version, err := p.putObject(ctx, op, object{key: claimKey(kind, c.Token), version: c.version, data: data})
	if err == nil {
		c.version = version
	}
	return err
}

// dropClaim forgets a claim of a call that was refused: nothing was done under it.
func (p *Provider) dropClaim(ctx context.Context, op string, kind cloud.Kind, c claim) error {
	return p.deleteObject(ctx, op, claimKey(kind, c.Token), c.version)
}
