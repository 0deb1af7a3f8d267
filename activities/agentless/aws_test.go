package agentless_test

import (
	"context"
	"fmt"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/credentials"
	"github.com/stretchr/testify/require"

	"lifeboat/activities"
	"lifeboat/activities/agentless"
	"lifeboat/activities/cloud"
	"lifeboat/activities/cloud/aws"
	"lifeboat/activities/cloud/aws/awstest"
	"lifeboat/replication"
)

// Between two regions, and between two zones of one, with listings that lag and come in pages.
func TestStreamsBetweenRegionsAndZonesOfAWS(t *testing.T) {
	t.Parallel()
	for _, way := range []struct {
		name, transfer, target string
		bases                  int
	}{
		{"snapshots", agentless.TransferSnapshots, "us-west-2a", 2},
		{"blocks", agentless.TransferBlocks, "us-west-2a", 2},
		{"zones", agentless.TransferSnapshots, "us-east-1b", 0},
	} {
		t.Run(way.name, func(t *testing.T) {
			t.Parallel()
			c := awstest.New(t, awstest.Options{Lag: 10 * time.Millisecond, PageSize: 2})
			site := func(name, zone string) cloud.Site {
				region := zone[:len(zone)-1]
				return cloud.Site{Name: name, Provider: "aws", Account: "111111111111", Region: region, Zone: zone, Bucket: "lifeboat-" + region}
			}
			opened, close := openSites(t, aws.Options{Endpoint: c.URL, Credentials: credentials.NewStaticCredentialsProvider("key", "secret", ""), LookFor: 50 * time.Millisecond})
			defer close()
			spec := agentless.Spec{Stream: streamName, Epoch: 1, Transfer: way.transfer, Plan: "shop", Server: "db", Operation: "server/shop/db",
				Source: site("primary", "us-east-1a"), Target: site("recovery", way.target), Keep: replication.Keep{Count: 2},
				Settings: replication.Settings{Interval: time.Hour, AutoResume: true}}
			home, err := opened(t.Context(), spec.Source)
			require.NoError(t, err)
			for _, name := range []string{"root", "data"} {
				d, err := home.(cloud.Disks).StartCreateDisk(t.Context(), cloud.CreateDisk{Create: cloud.Create{Token: name}, Bytes: 1 << 30})
				require.NoError(t, err)
				require.Eventually(t, func() bool {
					got, err := home.(cloud.Disks).Disk(t.Context(), d.ID)
					return err == nil && got.State == cloud.Available
				}, 30*time.Second, 5*time.Millisecond)
				spec.Disks = append(spec.Disks, agentless.Disk{Name: name, ID: d.ID, Bytes: 1 << 30})
			}
			maker := activities.AgentlessSites{Open: opened, Timing: quick}
			e, err := agentless.Open(t.Context(), agentless.Config{Dir: filepath.Join(t.TempDir(), "engine"), Documents: maker.Documents, Maker: maker,
				RetryMin: 5 * time.Millisecond, RetryMax: 100 * time.Millisecond})
			require.NoError(t, err)
			defer func() { require.NoError(t, e.Close()) }()
			require.NoError(t, e.Start(t.Context(), spec))
			ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
			defer cancel()
			for n := range 4 {
				require.NoError(t, c.WriteVolume(spec.Disks[0].ID, fmt.Appendf(nil, "%016d", n), int64(n)<<20))
				_, err := e.Mark(ctx, streamName, fmt.Sprint(n), "")
				status, _ := e.Status(streamName)
				require.NoError(t, err, "%s: %s", status.Health, status.HealthReason)
			}
			points, err := e.Points(streamName)
			require.NoError(t, err)
			require.Len(t, points, 2)
			require.Eventually(t, func() bool {
				require.NoError(t, e.Resume(streamName)) // look now
				return awsSnapshots(t, opened, spec.Target) == 4 && (way.bases == 0 || awsSnapshots(t, opened, spec.Source) == way.bases)
			}, 30*time.Second, 20*time.Millisecond, "two points of two disks, and the base")
			content, err := c.SnapshotReader(points[0].Disks[0].Snapshot)
			require.NoError(t, err)
			for n := range 4 {
				raw := make([]byte, 16)
				_, err := content.ReadAt(raw, int64(n)<<20)
				require.NoError(t, err)
				require.Equal(t, fmt.Sprintf("%016d", n), string(raw))
			}
			require.NoError(t, e.StopTarget(t.Context(), streamName, 1))
			asked := len(c.Requests())
			require.NoError(t, e.UsePoint(streamName, points[0].ID, true))
			require.NoError(t, e.UsePoint(streamName, points[0].ID, false))
			if way.bases > 0 {
				for _, r := range c.Requests()[asked:] {
					require.NotEqual(t, spec.Source.Region, r.Region, r.Operation)
				}
			}
			require.NoError(t, e.StopSource(t.Context(), streamName))
			for _, p := range points {
				require.NoError(t, e.DeletePoint(t.Context(), streamName, p.ID))
			}
			require.Eventually(t, func() bool {
				return awsSnapshots(t, opened, spec.Target) == 0 && awsSnapshots(t, opened, spec.Source) == 0
			}, 30*time.Second, 20*time.Millisecond)
		})
	}
}

// awsSnapshots counts what is there; -1 while the ledger does not say the same.
func awsSnapshots(t *testing.T, opened activities.OpenFunc, site cloud.Site) int {
	t.Helper()
	p, err := opened(t.Context(), site)
	require.NoError(t, err)
	list, err := p.(cloud.Snapshots).Snapshots(t.Context(), cloud.Filter{Tags: map[string]string{cloud.TagPlan: "shop"}})
	require.NoError(t, err)
	entries, err := p.(cloud.Ledger).Entries(t.Context(), cloud.LedgerFilter{Plan: "shop"})
	require.NoError(t, err)
	open := map[string]bool{}
	for _, e := range entries {
		if e.Deleted == nil {
			open[e.ID] = true
		}
	}
	for _, s := range list {
		if !open[s.ID] {
			return -1
		}
	}
	if len(open) != len(list) {
		return -1
	}
	return len(list)
}

// openSites keeps one provider a site.
func openSites(t *testing.T, o aws.Options) (activities.OpenFunc, func()) {
	t.Helper()
	sites := activities.NewSites(func(ctx context.Context, site cloud.Site) (cloud.Provider, error) { return aws.Open(ctx, site, o) })
	return sites.Open, sync.OnceFunc(func() { require.NoError(t, sites.Close()) })
}
