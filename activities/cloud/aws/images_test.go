package aws

import (
	"strings"
	"testing"
	"time"

	awssdk "github.com/aws/aws-sdk-go-v2/aws"
	"github.com/stretchr/testify/require"

	"lifeboat/activities/cloud"
	"lifeboat/activities/cloud/aws/awstest"
)

func TestNamesOfImagesAreUniqueByTheirToken(t *testing.T) {
	t.Parallel()
	names := map[string]bool{}
	for _, in := range []cloud.Create{
		{Token: "a"}, {Token: "b"}, {Token: "a/b c"}, {Token: "a+b*c"}, {Token: "a-b-c"}, {Token: strings.Repeat("~", 64), Name: strings.Repeat("ü web:server", 30)},
	} {
		name := imageName(in)
		require.Regexp(t, `^[][a-zA-Z0-9() ./'@_-]{3,128}$`, name)
		require.False(t, names[name], name)
		names[name] = true
	}
}

func TestTheNameOfAnImageGuardsWhenListingsLag(t *testing.T) {
	t.Parallel()
	d := apiDouble(t, awstest.Options{Lag: 100 * time.Millisecond})
	p := d.home()
	disk := d.disk(p, "disk")
	cut := d.cut(p, "cut", disk.ID)[0]
	in := cloud.Create{Token: "image", Name: "web"}
	disks := []cloud.ImageDisk{{Device: "root", SnapshotID: cut.ID, Boot: true}}
	made, err := p.RegisterImage(t.Context(), in, disks)
	require.NoError(t, err)
	// Another process that nobody told of the first does not see it yet.
	o := d.options()
	site := d.site("home")
	site.Account = testAccount // another memory of tokens
	other := d.provider(site, o)
	var again cloud.Image
	require.Eventually(t, func() bool {
		again, err = other.RegisterImage(t.Context(), in, disks)
		return cloud.ClassOf(err) != cloud.Wait || err == nil
	}, time.Minute, 5*time.Millisecond)
	require.NoError(t, err)
	require.Equal(t, made.ID, again.ID)
}

func TestAnImageOfAServerTakesItsNamesAlong(t *testing.T) {
	t.Parallel()
	d := apiDouble(t, awstest.Options{})
	p, away := d.home(), d.away()
	s := d.server(p, "server", "root", "data")
	made, err := p.StartCreateImage(t.Context(), cloud.Create{Token: "golden", Name: "web"}, s.ID, false)
	require.NoError(t, err)
	here := await(t, cloud.Available, func() (cloud.Image, error) { return p.Image(t.Context(), made.ID) }, func(v cloud.Image) cloud.Resource { return v.Resource })
	copied, err := away.StartCopyImage(t.Context(), cloud.Create{Token: "copied", Name: "web"}, p.Site(), here.ID)
	require.NoError(t, err)
	there := await(t, cloud.Available, func() (cloud.Image, error) { return away.Image(t.Context(), copied.ID) }, func(v cloud.Image) cloud.Resource { return v.Resource })
	for _, i := range []cloud.Image{here, there} {
		require.Equal(t, []string{"root", "data"}, []string{i.Snapshots[0].Device, i.Snapshots[1].Device})
		require.True(t, i.Snapshots[0].Boot)
		require.Equal(t, "web", i.Name)
	}
	snapshots, err := away.Snapshots(t.Context(), cloud.Filter{Tags: map[string]string{cloud.TagToken: "copied"}})
	require.NoError(t, err)
	require.Len(t, snapshots, 2, "the snapshots of a copy are found by its tags")

	at := time.Now().Add(48 * time.Hour)
	require.NoError(t, away.DeprecateImage(t.Context(), there.ID, at))
	raw, err := away.image(t.Context(), "test", there.ID)
	require.NoError(t, err)
	set, err := time.Parse(time.RFC3339, awssdk.ToString(raw.DeprecationTime))
	require.NoError(t, err)
	require.WithinDuration(t, at, set, 2*time.Minute)
	require.True(t, cloud.IsNotFound(away.DeprecateImage(t.Context(), "missing-1", at)))
}

func TestSnapshotsOfAnotherImageStay(t *testing.T) {
	t.Parallel()
	d := apiDouble(t, awstest.Options{})
	p := d.home()
	shared, own := d.cut(p, "shared", d.disk(p, "a").ID)[0].ID, d.cut(p, "own", d.disk(p, "b").ID)[0].ID
	first, err := p.RegisterImage(t.Context(), cloud.Create{Token: "first"}, []cloud.ImageDisk{{Device: "root", SnapshotID: shared, Boot: true}, {Device: "data", SnapshotID: own}})
	require.NoError(t, err)
	_, err = p.RegisterImage(t.Context(), cloud.Create{Token: "second"}, []cloud.ImageDisk{{Device: "root", SnapshotID: shared, Boot: true}})
	require.NoError(t, err)
	require.NoError(t, p.DeleteImage(t.Context(), first.ID, true))
	_, err = p.Snapshot(t.Context(), own)
	require.True(t, cloud.IsNotFound(err), "%v", err)
	d.snapshotIs(p, shared, cloud.Available)
	require.True(t, cloud.IsNotFound(p.DeleteImage(t.Context(), first.ID, true)))
}
