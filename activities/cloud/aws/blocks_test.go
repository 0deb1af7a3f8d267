package aws

import (
	"context"
	"errors"
	"math/rand/v2"
	"os"
	"sync/atomic"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/credentials"
	"github.com/stretchr/testify/require"

	"lifeboat/activities/cloud"
	"lifeboat/activities/cloud/aws/awstest"
	blocks "lifeboat/replication/ebs"
)

var _ cloud.BlockCopier = (*Provider)(nil)

// blockWorld is a disk in one region whose snapshots are copied to another one.
type blockWorld struct {
	t        *testing.T
	double   *awstest.Cloud
	from, to *Provider
	disk     string
	rng      *rand.ChaCha8
}

func newBlockWorld(t *testing.T, o awstest.Options) *blockWorld {
	t.Helper()
	w := &blockWorld{t: t, double: awstest.New(t, o), rng: rand.NewChaCha8([32]byte{7})}
	w.from, w.to = w.open("eu-central-1"), w.open("eu-west-1")
	d, err := w.from.StartCreateDisk(t.Context(), cloud.CreateDisk{Create: cloud.Create{Token: "disk"}, Bytes: 1 << 30})
	require.NoError(t, err)
	w.disk = d.ID
	require.Eventually(t, func() bool {
		d, err := w.from.Disk(t.Context(), w.disk)
		return err == nil && d.State == cloud.Available
	}, 20*time.Second, 5*time.Millisecond)
	return w
}

func (w *blockWorld) open(region string) *Provider {
	w.t.Helper()
	return w.openSite(cloud.Site{Name: region, Provider: "aws", Region: region})
}

func (w *blockWorld) openSite(site cloud.Site) *Provider {
	w.t.Helper()
	p, err := Open(w.t.Context(), site, Options{
		Endpoint: w.double.URL, Credentials: credentials.NewStaticCredentialsProvider("AKIDBLOCKS", "secret", ""), LookFor: 200 * time.Millisecond,
	})
	require.NoError(w.t, err)
	w.t.Cleanup(func() { require.NoError(w.t, p.Close()) })
	return p
}

// write puts new bytes into blocks of the disk.
func (w *blockWorld) write(indexes ...int64) {
	w.t.Helper()
	b := make([]byte, 5000)
	for _, i := range indexes {
		_, _ = w.rng.Read(b)
		require.NoError(w.t, w.double.WriteVolume(w.disk, b, i*blocks.BlockSize+int64(w.rng.Uint64()%500_000)))
	}
}

// cut makes a snapshot of the disk.
func (w *blockWorld) cut(token string) cloud.Snapshot {
	w.t.Helper()
	list, err := w.from.StartSnapshots(w.t.Context(), cloud.CreateSnapshots{Create: cloud.Create{Token: token}, Disks: []string{w.disk}})
	require.NoError(w.t, err)
	var s cloud.Snapshot
	require.Eventually(w.t, func() bool {
		s, err = w.from.Snapshot(w.t.Context(), list[0].ID)
		return err == nil && s.State == cloud.Available
	}, 20*time.Second, 5*time.Millisecond)
	return s
}

func (w *blockWorld) request(token string, s cloud.Snapshot) cloud.BlockCopy {
	return cloud.BlockCopy{Create: cloud.Create{Token: token, Name: "copy", Tags: map[string]string{cloud.TagPlan: "p"}}, From: w.from.Site(), SnapshotID: s.ID, State: w.t.TempDir()}
}

// requireEqual compares all blocks of two snapshots.
func (w *blockWorld) requireEqual(a, b cloud.Snapshot) {
	w.t.Helper()
	x, err := w.double.SnapshotReader(a.ID)
	require.NoError(w.t, err)
	y, err := w.double.SnapshotReader(b.ID)
	require.NoError(w.t, err)
	p, q := make([]byte, blocks.BlockSize), make([]byte, blocks.BlockSize)
	for _, i := range append(x.Blocks(), y.Blocks()...) {
		for r, buf := range map[*awstest.SnapshotContent][]byte{x: p, y: q} {
			_, err := r.ReadAt(buf, int64(i)*blocks.BlockSize)
			require.NoError(w.t, err)
		}
		require.True(w.t, string(p) == string(q), "block %d", i)
	}
}

func (w *blockWorld) count(operation string) (n int) {
	for _, r := range w.double.Requests() {
		if r.Operation == operation {
			n++
		}
	}
	return n
}

func TestBlocksAreCopiedThenOnlyThoseThatChanged(t *testing.T) {
	t.Parallel()
	w := newBlockWorld(t, awstest.Options{PageSize: 10})
	for i := range int64(60) {
		w.write(i * 3)
	}
	first := w.cut("first")
	req := w.request("copy 1", first)
	var done, total int64
	copied, err := w.to.CopyBlocks(t.Context(), req, func(d, all int64) { done, total = d, all })
	require.NoError(t, err)
	require.Equal(t, cloud.Available, copied.State)
	require.Equal(t, first.Bytes, copied.Bytes)
	require.True(t, first.Time.Equal(copied.Time), "the time of the original")
	require.Equal(t, "p", copied.Tags[cloud.TagPlan])
	require.Equal(t, "copy 1", copied.Tags[cloud.TagToken])
	require.Equal(t, "copy", copied.Name)
	require.Equal(t, done, total)
	require.GreaterOrEqual(t, done, int64(60*blocks.BlockSize))
	w.requireEqual(first, copied)

	again, err := w.to.CopyBlocks(t.Context(), req, nil)
	require.NoError(t, err)
	require.Equal(t, copied.ID, again.ID)
	other := req
	other.Bytes = 2 << 30
	_, err = w.to.CopyBlocks(t.Context(), other, nil)
	require.Equal(t, cloud.TokenMismatch, cloud.CodeOf(err))

	w.write(9, 700, 701)
	second := w.cut("second")
	w.double.ForgetRequests()
	req = w.request("copy 2", second)
	req.FromBase, req.Base, req.Bytes = first.ID, copied.ID, 3<<30
	next, err := w.to.CopyBlocks(t.Context(), req, nil)
	require.NoError(t, err)
	w.requireEqual(second, next)
	require.EqualValues(t, 3<<30, next.Bytes)
	require.LessOrEqual(t, w.count("GetSnapshotBlock"), 6, "three writes that may cross a bound")
	require.Equal(t, w.count("GetSnapshotBlock"), w.count("PutSnapshotBlock"))
}

func TestABaseOfAnotherSnapshotIsNotUsed(t *testing.T) {
	t.Parallel()
	w := newBlockWorld(t, awstest.Options{})
	w.write(1)
	first := w.cut("first")
	w.write(2)
	second := w.cut("second")
	copied, err := w.to.CopyBlocks(t.Context(), w.request("copy 1", first), nil)
	require.NoError(t, err)
	w.write(3)
	third := w.cut("third")
	for token, base := range map[string]string{"wrong": copied.ID, "gone": "snap-0123456789abcdef0"} {
		req := w.request(token, third)
		req.FromBase, req.Base = second.ID, base
		got, err := w.to.CopyBlocks(t.Context(), req, nil)
		require.NoError(t, err)
		w.requireEqual(third, got)
	}
	req := w.request("half", third)
	req.Base = copied.ID
	_, err = w.to.CopyBlocks(t.Context(), req, nil)
	require.Equal(t, cloud.InvalidInput, cloud.CodeOf(err))
}

func TestACopyOfBlocksSurvivesKillsFaultsAndThrottling(t *testing.T) {
	t.Parallel()
	w := newBlockWorld(t, awstest.Options{Quotas: map[string]int{"ebs-PutSnapshotBlock": 400}})
	for i := range int64(120) {
		w.write(i)
	}
	s := w.cut("s")
	req := w.request("copy", s)
	w.double.Inject(awstest.Rule{Operation: "GetSnapshotBlock", Times: 5, Error: &awstest.Error{Code: "InternalServerException", Status: 500}})
	w.double.Inject(awstest.Rule{Operation: "PutSnapshotBlock", Times: 5, Drop: true})
	w.double.Inject(awstest.Rule{Operation: "PutSnapshotBlock", Times: 5, Drop: true, After: true})
	w.double.Inject(awstest.Rule{Operation: "StartSnapshot", Times: 1, Drop: true, After: true})
	w.double.Inject(awstest.Rule{Operation: "CompleteSnapshot", Times: 1, Drop: true, After: true})
	// The process is killed three times: its context ends in the middle of requests.
	for kill := range int64(3) {
		ctx, stop := context.WithCancel(t.Context())
		var puts atomic.Int64
		remove := w.double.Inject(awstest.Rule{Operation: "PutSnapshotBlock", Then: func(awstest.Request) {
			if puts.Add(1) == 20*(kill+1) {
				stop()
			}
		}})
		_, err := w.to.CopyBlocks(ctx, req, nil)
		stop()
		remove()
		require.ErrorIs(t, err, context.Canceled)
	}
	got, err := w.to.CopyBlocks(t.Context(), req, nil)
	require.NoError(t, err)
	w.requireEqual(s, got)
	all, err := w.to.Snapshots(t.Context(), cloud.Filter{})
	require.NoError(t, err)
	require.Len(t, all, 1, "no snapshot twice, none left over")
}

func TestAPendingCopyThatSomebodyDeletedIsBegunAnew(t *testing.T) {
	t.Parallel()
	w := newBlockWorld(t, awstest.Options{})
	w.write(1, 2, 3)
	s := w.cut("s")
	req := w.request("copy", s)
	remove := w.double.Inject(awstest.Rule{Operation: "CompleteSnapshot", Error: &awstest.Error{Code: "AccessDeniedException", Status: 403}})
	_, err := w.to.CopyBlocks(t.Context(), req, nil)
	require.Equal(t, cloud.Denied, cloud.CodeOf(err))
	remove()
	pending, err := w.to.Snapshots(t.Context(), cloud.Filter{})
	require.NoError(t, err)
	require.Len(t, pending, 1)
	require.Equal(t, cloud.Creating, pending[0].State)
	require.NoError(t, w.to.DeleteSnapshot(t.Context(), pending[0].ID))
	req.FromBase, req.Base = s.ID, "snap-0123456789abcdef0" // the caller may have another base now
	got, err := w.to.CopyBlocks(t.Context(), req, nil)
	require.NoError(t, err)
	require.NotEqual(t, pending[0].ID, got.ID)
	w.requireEqual(s, got)
}

func TestBlocksGoToAnotherAccountUnderAKeyOfThere(t *testing.T) {
	t.Parallel()
	w := newBlockWorld(t, awstest.Options{})
	w.write(1, 2, 3)
	const role = "arn:aws:iam::222222222222:role/recovery"
	w.double.Role(role, "shared secret")
	key := w.double.Key("222222222222", "eu-west-1", "alias/dr")
	other := w.openSite(cloud.Site{Name: "other", Provider: "aws", Account: "222222222222", Region: "eu-west-1", Role: role, ExternalID: "shared secret"})
	s := w.cut("s")
	req := w.request("copy", s)
	req.Key = "dr"
	got, err := other.CopyBlocks(t.Context(), req, nil)
	require.NoError(t, err)
	w.requireEqual(s, got)
	raw, err := other.snapshot(t.Context(), "", got.ID)
	require.NoError(t, err)
	require.Equal(t, key, *raw.KmsKeyId)
	require.Equal(t, "222222222222", *raw.OwnerId)
	require.Zero(t, w.count("ModifySnapshotAttribute"), "nothing is shared")

	// On that base, under its key; and in full under another one.
	w.write(9)
	next := w.request("copy 2", w.cut("s2"))
	next.FromBase, next.Base, next.Key = s.ID, got.ID, "dr"
	w.double.ForgetRequests()
	_, err = other.CopyBlocks(t.Context(), next, nil)
	require.NoError(t, err)
	require.LessOrEqual(t, w.count("PutSnapshotBlock"), 2)
	next.Token, next.Key = "copy 3", w.double.Key("222222222222", "eu-west-1", "")
	full, err := other.CopyBlocks(t.Context(), next, nil)
	require.NoError(t, err)
	raw, err = other.snapshot(t.Context(), "", full.ID)
	require.NoError(t, err)
	require.Equal(t, next.Key, *raw.KmsKeyId)
}

func TestWhatCannotBeCopiedSaysWhy(t *testing.T) {
	t.Parallel()
	w := newBlockWorld(t, awstest.Options{})
	w.write(1)
	s := w.cut("s")
	for operation, want := range map[string]struct {
		code string
		cloud.Code
	}{
		"StartSnapshot":    {"AccessDeniedException", cloud.Denied},
		"GetSnapshotBlock": {"AccessDeniedException", cloud.Denied},
		"CompleteSnapshot": {"AccessDeniedException", cloud.Denied},
	} {
		remove := w.double.Inject(awstest.Rule{Operation: operation, Error: &awstest.Error{Code: want.code, Message: "no", Status: 403}})
		_, err := w.to.CopyBlocks(t.Context(), w.request("denied "+operation, s), nil)
		require.Equal(t, want.Code, cloud.CodeOf(err), "%v", err)
		remove()
	}
	req := w.request("unknown", s)
	req.SnapshotID = "snap-0123456789abcdef0"
	_, err := w.to.CopyBlocks(t.Context(), req, nil)
	require.True(t, cloud.IsNotFound(err))
	req = w.request("elsewhere", s)
	req.From = cloud.Site{Name: "here", Provider: "local", Directory: os.TempDir()}
	_, err = w.to.CopyBlocks(t.Context(), req, nil)
	require.Equal(t, cloud.Unsupported, cloud.CodeOf(err))
	require.Equal(t, cloud.Corrupt, cloud.CodeOf(blocksError("CopyBlocks", "x", blocks.ErrChecksum)))
	require.Equal(t, cloud.Failed, cloud.CodeOf(blocksError("CopyBlocks", "x", errors.Join(blocks.ErrLost, blocks.ErrInvalid))))
}
