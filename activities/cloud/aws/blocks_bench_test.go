package aws_test

import (
	"context"
	"fmt"
	"math/rand/v2"
	"net/http"
	"os"
	"testing"
	"time"

	"lifeboat/activities/cloud/aws/awstest"
	"lifeboat/replication/block"
	"lifeboat/replication/deltatest"
	"lifeboat/replication/ebs"
	"lifeboat/replication/volume"

	awssdk "github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/credentials"
	sdk "github.com/aws/aws-sdk-go-v2/service/ebs"
	"github.com/aws/aws-sdk-go-v2/service/ec2"
	"github.com/stretchr/testify/require"
)

// farLine is a line on which each request takes a time.
type farLine struct {
	time.Duration
	http.RoundTripper
}

func (f farLine) RoundTrip(r *http.Request) (*http.Response, error) {
	time.Sleep(f.Duration) // the measured quantity, not a wait for something
	return f.RoundTripper.RoundTrip(r)
}

// benchClient is a client of the double of AWS, without quotas unless they are wanted.
func benchClient(b *testing.B, cloud *awstest.Cloud, region string, inFlight int, each time.Duration, rates ebs.Rates) *ebs.Client {
	b.Helper()
	transport := http.DefaultTransport.(*http.Transport).Clone()
	ebs.Connections(transport)
	b.Cleanup(transport.CloseIdleConnections)
	config := awssdk.Config{
		Region: region, BaseEndpoint: &cloud.URL, Credentials: credentials.NewStaticCredentialsProvider("AKIDBENCH", "secret", ""),
		HTTPClient: &http.Client{Transport: farLine{each, transport}},
	}
	machines := ec2.NewFromConfig(config)
	return ebs.NewClient(sdk.NewFromConfig(config), ebs.Options{
		Limits: ebs.NewLimits(inFlight, rates), Poll: time.Millisecond,
		Describe: func(ctx context.Context, id string) (ebs.Status, error) {
			out, err := machines.DescribeSnapshots(ctx, &ec2.DescribeSnapshotsInput{SnapshotIds: []string{id}})
			if err != nil {
				return ebs.Status{}, err
			}
			return ebs.Status{State: string(out.Snapshots[0].State), Message: awssdk.ToString(out.Snapshots[0].StateMessage)}, nil
		},
	})
}

// benchSnapshot makes a snapshot of random blocks.
func benchSnapshot(b *testing.B, c *ebs.Client, spec ebs.Spec, count, step int64) string {
	b.Helper()
	t, err := c.OpenTarget(b.Context(), spec)
	require.NoError(b, err)
	rng := rand.NewChaCha8([32]byte{byte(len(spec.Token)), byte(step)})
	p := make([]byte, ebs.BlockSize)
	for i := int64(0); i < count; i += step {
		_, _ = rng.Read(p)
		_, err := t.WriteAt(p, i*ebs.BlockSize)
		require.NoError(b, err)
	}
	require.NoError(b, t.Complete())
	return t.Snapshot()
}

var benchNoQuotas = map[string]int{
	"ebs-GetSnapshotBlock": 1e6, "ebs-GetSnapshotBlock-snapshot": 1e6, "ebs-PutSnapshotBlock": 1e6, "ebs-PutSnapshotBlock-snapshot": 1e6,
	"ebs-ListSnapshotBlocks": 1e6, "ebs-ListChangedBlocks": 1e6, "ebs-StartSnapshot": 1e6, "ebs-CompleteSnapshot": 1e6, "ebs-pending-snapshots": 1e6,
}

// BenchmarkDirect copies a snapshot of 384 blocks, 192 MiB, from one region of the double of AWS
// to another one, over HTTP with the SDK. "changed" is a second copy of which every tenth block changed.
// The line adds its time to each request, as a real one and the service do; rates are unbounded but
// in "quotas", which has those of an account.
func BenchmarkDirect(b *testing.B) {
	const count, step = 384, 10
	every := ebs.Rates{Get: 1e6, Put: 1e6, List: 1e6, Change: 1e6}
	for _, line := range []time.Duration{0, 20 * time.Millisecond} {
		for _, inFlight := range []int{1, 16, 64} {
			b.Run(fmt.Sprintf("line=%v/inflight=%d", line, inFlight), func(b *testing.B) { benchDirect(b, line, inFlight, count, step, benchNoQuotas, every) })
		}
	}
	b.Run("quotas/inflight=64", func(b *testing.B) { benchDirect(b, 0, 64, count, step, nil, ebs.Rates{}) })
}

func benchDirect(b *testing.B, line time.Duration, inFlight int, count, step int64, quotas map[string]int, rates ebs.Rates) {
	dir, err := os.MkdirTemp("", "ebs-bench-")
	require.NoError(b, err)
	b.Cleanup(func() { require.NoError(b, os.RemoveAll(dir)) })
	cloud := awstest.New(b, awstest.Options{Directory: dir, Quotas: quotas})
	near := benchClient(b, cloud, "eu-central-1", 8, 0, ebs.Rates{})
	first := benchSnapshot(b, near, ebs.Spec{Token: "first", Bytes: 1 << 30}, count, 1)
	second := benchSnapshot(b, near, ebs.Spec{Token: "second!", Bytes: 1 << 30, Parent: first}, count, step)
	from, to := benchClient(b, cloud, "eu-central-1", inFlight, line, rates), benchClient(b, cloud, "eu-west-1", inFlight, line, rates)
	n := 0
	run := func(b *testing.B, c ebs.Copy) (last string) {
		c.From, c.To, c.Spec.State = from, to, b.TempDir()
		blocks := int64(0)
		began := time.Now()
		for b.Loop() {
			n++
			c.Spec.Token = fmt.Sprint("copy", n)
			res, err := c.Run(b.Context())
			require.NoError(b, err)
			blocks += res.Written
			last = res.Snapshot
		}
		benchRate(b, blocks, began)
		return last
	}
	var copied string
	b.Run("full", func(b *testing.B) { copied = run(b, ebs.Copy{Snapshot: first}) })
	b.Run("changed", func(b *testing.B) {
		run(b, ebs.Copy{Snapshot: second, Base: first, Spec: ebs.Spec{Parent: copied}})
	})
	b.Run("full-by-core", func(b *testing.B) {
		began := time.Now()
		blocks := int64(0)
		for b.Loop() {
			n++
			benchByCore(b, from, first, to, ebs.Spec{Token: fmt.Sprint("core", n), State: b.TempDir()}, &deltatest.Pair{Dir: b.TempDir(), Proof: block.BLAKE3, Lanes: 4, Silence: time.Minute}, nil)
			blocks += count
		}
		benchRate(b, blocks, began)
	})
	b.Run("changed-by-core", func(b *testing.B) {
		changed, err := from.Changed(b.Context(), first, second)
		require.NoError(b, err)
		began := time.Now()
		blocks := int64(0)
		for b.Loop() {
			n++
			// Its state is that of the copy before.
			pair := &deltatest.Pair{Dir: b.TempDir(), Proof: block.BLAKE3, Lanes: 4, Silence: time.Minute}
			b.StopTimer()
			stopped := time.Now()
			parent := benchByCore(b, near, first, to, ebs.Spec{Token: fmt.Sprint("base", n), State: b.TempDir()}, pair, nil)
			began = began.Add(time.Since(stopped))
			b.StartTimer()
			benchByCore(b, from, second, to, ebs.Spec{Token: fmt.Sprint("delta", n), Parent: parent, State: b.TempDir()}, pair, changed)
			blocks += (count + step - 1) / step
		}
		benchRate(b, blocks, began)
	})
}

// benchByCore copies a snapshot through the delta-transfer core.
func benchByCore(b *testing.B, from *ebs.Client, snapshot string, to *ebs.Client, spec ebs.Spec, pair *deltatest.Pair, changed []volume.Extent) (id string) {
	b.Helper()
	source, err := from.Open(b.Context(), snapshot)
	require.NoError(b, err)
	defer source.Close()
	spec.Bytes = source.Size()
	target, err := to.OpenTarget(b.Context(), spec)
	require.NoError(b, err)
	_, err = pair.Run(b.Context(), deltatest.Copy{From: source, To: target, Changed: changed})
	require.NoError(b, err)
	require.NoError(b, target.Complete())
	return target.Snapshot()
}

func benchRate(b *testing.B, blocks int64, began time.Time) {
	rate := float64(blocks) / time.Since(began).Seconds()
	b.ReportMetric(rate, "blocks/s")
	b.ReportMetric(rate*ebs.BlockSize/1e6, "MB/s")
	b.ReportMetric(0, "ns/op")
}
