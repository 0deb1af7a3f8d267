package aws

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"strings"
	"sync"
	"time"

	awssdk "github.com/aws/aws-sdk-go-v2/aws"
	awshttp "github.com/aws/aws-sdk-go-v2/aws/transport/http"
	"github.com/aws/aws-sdk-go-v2/service/ec2/types"

	"lifeboat/activities/cloud"
	blocks "lifeboat/replication/ebs"
)

// blockPlaces are what all values of a site in this process share: the quotas of the EBS direct APIs
// are those of an account in a region. They are kept as long as the process.
var blockPlaces sync.Map // of memoryKey to *blockPlace

type blockPlace struct {
	limits *blocks.Limits
	http   awssdk.HTTPClient
}

// blocks is how this site's snapshots are read and written by blocks.
func (p *Provider) blocks() *blocks.Client {
	place, ok := blockPlaces.Load(p.memoryKey())
	if !ok {
		place, _ = blockPlaces.LoadOrStore(p.memoryKey(), &blockPlace{blocks.NewLimits(0, blocks.Rates{}), p.blockHTTP()})
	}
	o := blocks.Options{Limits: place.(*blockPlace).limits, Describe: p.blockStatus}
	if p.options.LookFor < DefaultLookFor { // a service that is made for tests has no minutes
		o.Visible, o.Seal, o.Poll = p.options.LookFor, p.options.LookFor, max(p.options.LookFor/100, time.Millisecond)
	}
	if p.options.HTTP == nil {
		o.HTTP = place.(*blockPlace).http
	}
	return blocks.NewClient(p.ebs(), o)
}

// blockHTTP is the SDK's client with the settings of this site (AWS_CA_BUNDLE), and connections for many blocks.
func (p *Provider) blockHTTP() awssdk.HTTPClient {
	c, ok := p.config.HTTPClient.(*awshttp.BuildableClient)
	if !ok {
		c = awshttp.NewBuildableClient()
	}
	return c.WithTransportOptions(blocks.Connections)
}

// blockStatus asks EC2 for the state of a snapshot.
func (p *Provider) blockStatus(ctx context.Context, id string) (blocks.Status, error) {
	s, err := p.snapshot(ctx, "CopyBlocks", id)
	if cloud.IsNotFound(err) {
		return blocks.Status{}, fmt.Errorf("%w: %w", blocks.ErrNotFound, err)
	}
	return blocks.Status{State: string(s.State), Message: awssdk.ToString(s.StateMessage)}, err
}

// copiedBlocks is the description of a copy, which tells what it is a copy of.
func copiedBlocks(snapshot string) string { return "Blocks of " + snapshot }

// CopyBlocks copies a snapshot through the EBS direct APIs of both sites, see package replication/ebs.
// The site that it comes from is read with that site's credentials, so that nothing has to be shared
// between accounts, and no key of one account has to be usable by the other.
//
// The client token of StartSnapshot is made of the one that is given, of the base and of the number of
// the attempt: a snapshot that AWS gave up (its timeout is a day without a write) stays in state error,
// and is deleted when another attempt has succeeded.
func (p *Provider) CopyBlocks(ctx context.Context, in cloud.BlockCopy, report func(done, total int64)) (cloud.Snapshot, error) {
	const op = "CopyBlocks"
	what := "snapshot " + in.SnapshotID
	if err := cloud.CheckToken(op, cloud.KindSnapshot, in.Token); err != nil {
		return cloud.Snapshot{}, err
	}
	if (in.Base == "") != (in.FromBase == "") {
		return cloud.Snapshot{}, invalid(op, what, "a base and its copy here go together", "give both, or none for a full copy")
	}
	unlock, err := p.shared.lock(ctx, in.Token)
	if err != nil {
		return cloud.Snapshot{}, awsError(op, what, err)
	}
	defer unlock()
	asked := in
	asked.FromBase, asked.Base = "", "" // they say how, not what
	sum := op + ":" + digest(asked)
	there, err := p.snapshotsOf(ctx, op, tokenFilter(in.Token))
	if err != nil {
		return cloud.Snapshot{}, err
	}
	for _, s := range there {
		if was := tagMap(s.Tags)[tagRequest]; was != "" && was != sum {
			return cloud.Snapshot{}, cloud.E(cloud.TokenMismatch, op, what, "the client token was used before for another request", "", nil)
		}
	}
	for _, s := range there {
		if s.State == types.SnapshotStateCompleted {
			return snapshotOf(s), p.dropBlocks(ctx, there, awssdk.ToString(s.SnapshotId))
		}
	}
	copying, err := p.blockCopy(ctx, in, sum)
	if err != nil {
		return cloud.Snapshot{}, err
	}
	copying.Report = report
	res, err := copying.Run(ctx)
	for _, id := range res.Lost {
		there = append(there, types.Snapshot{SnapshotId: &id})
	}
	if err != nil {
		return cloud.Snapshot{}, blocksError(op, what, err)
	}
	if err := p.dropBlocks(ctx, there, res.Snapshot); err != nil {
		return cloud.Snapshot{}, err
	}
	p.log.Info("copied blocks", "snapshot", in.SnapshotID, "copy", res.Snapshot, "full", res.Full, "read", res.Read, "written", res.Written, "known", res.Known)
	return p.Snapshot(ctx, res.Snapshot)
}

// blockCopy makes a copy of its request: it looks at what is copied, and whether the base can be used.
func (p *Provider) blockCopy(ctx context.Context, in cloud.BlockCopy, sum string) (c blocks.Copy, err error) {
	const op = "CopyBlocks"
	from, err := p.peer(ctx, in.From)
	if err != nil {
		return c, err
	}
	original, err := from.snapshot(ctx, op, in.SnapshotID)
	if err != nil {
		return c, err
	}
	if original.State != types.SnapshotStateCompleted {
		return c, cloud.E(cloud.NotReady, op, "snapshot "+in.SnapshotID, "it is "+string(original.State)+": only complete snapshots can be read", "", nil)
	}
	own := map[string]string{tagRequest: sum, tagTime: timeOf(original).Format(time.RFC3339Nano)}
	if machine := tagMap(original.Tags)[tagMachine]; machine != "" {
		own[tagMachine] = machine
	}
	c = blocks.Copy{From: from.blocks(), Snapshot: in.SnapshotID, To: p.blocks(), Spec: blocks.Spec{
		Token: in.Token, Bytes: in.Bytes, Description: copiedBlocks(in.SnapshotID), Tags: allTags(in.Create, own),
	}}
	if in.State != "" {
		c.Spec.State = filepath.Join(in.State, "blocks")
	}
	key, err := p.keyARN(ctx, in.Key)
	if err != nil {
		return c, err
	}
	usable, err := p.usableBase(ctx, in, key)
	if err != nil {
		return c, err
	}
	if usable {
		c.Base, c.Spec.Parent = in.FromBase, in.Base
	} else {
		c.Spec.Key, c.Spec.Encrypted = key, key != "" || awssdk.ToBool(original.Encrypted)
	}
	return c, nil
}

// usableBase tells whether the copy of a base is there, of that base, and has the key that is asked for.
// Copies that were not made by blocks do not say what they are of: the caller knows.
func (p *Provider) usableBase(ctx context.Context, in cloud.BlockCopy, key string) (bool, error) {
	if in.Base == "" {
		return false, nil
	}
	base, err := p.snapshot(ctx, "CopyBlocks", in.Base)
	if cloud.IsNotFound(err) {
		return false, nil
	}
	if err != nil {
		return false, err
	}
	of := awssdk.ToString(base.Description)
	switch {
	case base.State != types.SnapshotStateCompleted,
		strings.HasPrefix(of, copiedBlocks("")) && of != copiedBlocks(in.FromBase),
		key != "" && awssdk.ToString(base.KmsKeyId) != key:
		p.log.Info("the base of a copy cannot be used: it is a full copy", "snapshot", in.SnapshotID, "base", in.Base, "description", of, "state", base.State)
		return false, nil
	}
	return true, nil
}

// keyARN gives the name by which StartSnapshot knows a key: no alias, no short identifier.
func (p *Provider) keyARN(ctx context.Context, key string) (string, error) {
	if key == "" || strings.HasPrefix(key, "arn:") && strings.Contains(key, ":key/") {
		return key, nil
	}
	k, err := p.Key(ctx, key)
	return k.ID, err
}

// dropBlocks deletes what other attempts of a copy have left.
func (p *Provider) dropBlocks(ctx context.Context, made []types.Snapshot, kept string) error {
	for _, s := range made {
		if id := awssdk.ToString(s.SnapshotId); id != kept {
			if err := cloud.IgnoreNotFound(p.DeleteSnapshot(ctx, id)); err != nil {
				return err
			}
		}
	}
	return nil
}

// blocksError turns an error of a copy by blocks into one of the contract. Errors of EC2 came as such.
func blocksError(op, what string, err error) error {
	for _, c := range []struct {
		is   error
		code cloud.Code
		mend string
	}{
		{blocks.ErrChecksum, cloud.Corrupt, "what was read is not what AWS wrote: copy from another snapshot of the disk, and tell AWS Support"},
		{blocks.ErrLost, cloud.Failed, "look at the message, and copy again under another token"},
		{blocks.ErrThrottled, cloud.Throttled, ""},
		{blocks.ErrUnavailable, cloud.Unavailable, ""},
		{blocks.ErrProtocol, cloud.Unavailable, ""},
	} {
		if errors.Is(err, c.is) && cloud.CodeOf(err) == "" {
			return cloud.E(c.code, op, what, clean(err.Error()), c.mend, err)
		}
	}
	if errors.Is(err, blocks.ErrInvalid) && apiCode(err) == "" {
		return invalid(op, what, clean(err.Error()), "")
	}
	return awsError(op, what, err)
}
