package ebs_test

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

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/credentials"
	sdk "github.com/aws/aws-sdk-go-v2/service/ebs"
	"github.com/aws/aws-sdk-go-v2/service/ec2"
	"github.com/stretchr/testify/require"
)

// far is a line on which each request takes a time.
type far struct {
	time.Duration
	http.RoundTripper
}

func (f far) RoundTrip(r *http.Request) (*http.Response, error) {
	time.Sleep(f.Duration) // the measured quantity, not a wait for something
	return f.RoundTripper.RoundTrip(r)
}

// doubleClient is a client of the double of AWS, without quotas unless they are wanted.
func doubleClient(b *testing.B, cloud *awstest.Cloud, region string, inFlight int, each time.Duration, rates ebs.Rates) *ebs.Client {
	b.Helper()
	transport := http.DefaultTransport.(*http.Transport).Clone()
	transport.MaxIdleConnsPerHost = 128
	b.Cleanup(transport.CloseIdleConnections)
	config := aws.Config{
		Region: region, BaseEndpoint: &cloud.URL, Credentials: credentials.NewStaticCredentialsProvider("AKIDBENCH", "secret", ""),
		HTTPClient: &http.Client{Transport: far{each, transport}},
	}
	machines := ec2.NewFromConfig(config)
	return ebs.NewClient(sdk.NewFromConfig(config), ebs.Options{
		Limits: ebs.NewLimits(inFlight, rates), Poll: time.Millisecond,
		Describe: func(ctx context.Context, id string) (ebs.Status, error) {
			out, err := machines.DescribeSnapshots(ctx, &ec2.DescribeSnapshotsInput{SnapshotIds: []string{id}})
			if err != nil {
				return ebs.Status{}, err
			}
			return ebs.Status{State: string(out.Snapshots[0].State), Message: aws.ToString(out.Snapshots[0].StateMessage)}, nil
		},
	})
}

// written makes a snapshot of random blocks.
func written(b *testing.B, c *ebs.Client, spec ebs.Spec, count, step int64) string {
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

var noQuotas = map[string]int{
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
			b.Run(fmt.Sprintf("line=%v/inflight=%d", line, inFlight), func(b *testing.B) { direct(b, line, inFlight, count, step, noQuotas, every) })
		}
	}
	b.Run("quotas/inflight=64", func(b *testing.B) { direct(b, 0, 64, count, step, nil, ebs.Rates{}) })
}

func direct(b *testing.B, line time.Duration, inFlight int, count, step int64, quotas map[string]int, rates ebs.Rates) {
	dir, err := os.MkdirTemp("", "ebs-bench-")
	require.NoError(b, err)
	b.Cleanup(func() { require.NoError(b, os.RemoveAll(dir)) })
	cloud := awstest.New(b, awstest.Options{Directory: dir, Quotas: quotas})
	near := doubleClient(b, cloud, "eu-central-1", 8, 0, ebs.Rates{})
	first := written(b, near, ebs.Spec{Token: "first", Bytes: gib}, count, 1)
	second := written(b, near, ebs.Spec{Token: "second!", Bytes: gib, Parent: first}, count, step)
	from, to := doubleClient(b, cloud, "eu-central-1", inFlight, line, rates), doubleClient(b, cloud, "eu-west-1", inFlight, line, rates)
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
		perSecond(b, blocks, began)
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
			byCore(b, from, first, to, ebs.Spec{Token: fmt.Sprint("core", n), State: b.TempDir()}, &deltatest.Pair{Dir: b.TempDir(), Proof: block.BLAKE3, Lanes: 4, Silence: time.Minute}, nil)
			blocks += count
		}
		perSecond(b, blocks, began)
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
			parent, _ := byCore(b, near, first, to, ebs.Spec{Token: fmt.Sprint("base", n), State: b.TempDir()}, pair, nil)
			began = began.Add(time.Since(stopped))
			b.StartTimer()
			byCore(b, from, second, to, ebs.Spec{Token: fmt.Sprint("delta", n), Parent: parent, State: b.TempDir()}, pair, changed)
			blocks += (count + step - 1) / step
		}
		perSecond(b, blocks, began)
	})
}

func perSecond(b *testing.B, blocks int64, began time.Time) {
	rate := float64(blocks) / time.Since(began).Seconds()
	b.ReportMetric(rate, "blocks/s")
	b.ReportMetric(rate*ebs.BlockSize/1e6, "MB/s")
	b.ReportMetric(0, "ns/op")
}
