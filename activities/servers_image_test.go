package activities

import (
	"context"
	"os"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"lifeboat/activities/cloud"
	"lifeboat/activities/cloud/local"
)

// imaging is a local site that starts servers from images, as clouds do: it makes their
// disks when it launches them.
type imaging struct{ *local.Provider }

func (imaging) LaunchSource() cloud.LaunchSource { return cloud.FromImage }

func (p imaging) StartLaunch(ctx context.Context, in cloud.LaunchServer) (cloud.Server, error) {
	image, err := p.Image(ctx, in.Image)
	if err != nil {
		return cloud.Server{}, err
	}
	for _, d := range image.Snapshots {
		create := in.Create
		create.Token, create.Name = in.Token[:40]+d.Device, d.Device
		disk, err := p.StartCreateDisk(ctx, cloud.CreateDisk{Create: create, SnapshotID: d.SnapshotID})
		if err == nil {
			_, err = settle(ctx, quick, disk.ID, func() (cloud.Disk, error) { return p.Disk(ctx, disk.ID) }, ofDisk, cloud.Available, cloud.Attached)
		}
		if err != nil {
			return cloud.Server{}, err
		}
		in.Disks = append(in.Disks, cloud.ServerDisk{Name: d.Device, DiskID: disk.ID, Boot: d.Boot})
	}
	in.Image = ""
	return p.Provider.StartLaunch(ctx, in)
}

// fromImages makes the place one of images, and gives what a server is launched from.
func fromImages(t *testing.T) (*place, LaunchServerInput) {
	t.Helper()
	w := newPlace(t)
	w.through(imaging{w.p})
	snapshot := w.snapshot()
	r := recovered{network: must[NetworkInfo](w, w.acts.EnsureNetwork, w.networkInput())}
	r.disks = must[[]DiskInfo](w, w.acts.CreateDisks, CreateDisksInput{Scope: w.scope, Step: "disks", Disks: []DiskInfo{
		{Name: "root", Snapshot: snapshot, Boot: true}, {Name: "data", Snapshot: snapshot}}})
	for _, d := range r.disks {
		require.Empty(t, d.DiskID, "disks come with the launch")
	}
	return w, w.launchInput(r)
}

func (w *place) images() []cloud.Image {
	w.Helper()
	all, err := w.p.Images(w.Context(), cloud.Filter{})
	require.NoError(w, err)
	return all
}

func TestAnImageLivesNoLongerThanTheLaunchNeedsIt(t *testing.T) {
	t.Parallel()
	w, in := fromImages(t)
	server := must[ServerInfo](w, w.acts.LaunchServer, in)
	require.Len(t, server.Disks, 2)
	assert.NotEmpty(t, server.Disks[0].DiskID)
	assert.Empty(t, w.images())
	again := must[ServerInfo](w, w.acts.LaunchServer, in)
	assert.Equal(t, server, again, "an attempt whose answer was lost makes neither image nor server again")
	assert.Empty(t, w.images())
	require.NoError(t, w.p.DeleteSnapshot(t.Context(), in.Disks[0].Snapshot), "nothing holds the recovery point")
	left := must[Counts](w, w.acts.CleanUp, CleanUpInput{Scope: w.operation()})
	assert.Zero(t, left.Left, left.LeftOver)
	w.nothingLeft()
}

// A server that was deleted without its disks is brought back on them, with what was
// written since its recovery point.
func TestAServerFromAnImageIsBroughtBackOnItsOwnDisks(t *testing.T) {
	t.Parallel()
	w, in := fromImages(t)
	first := must[ServerInfo](w, w.acts.LaunchServer, in)
	require.NoError(t, os.WriteFile(first.Disks[1].Path, []byte("written since"), 0o600))
	must[nothing](w, w.acts.TerminateServer, ServerInput{Site: w.site, ServerID: first.ID, Force: true})

	back := in
	back.Step, back.Disks, back.IP = "bring-back-1", first.Disks, first.IP
	server := must[ServerInfo](w, w.acts.LaunchServer, back)
	assert.NotEqual(t, first.ID, server.ID)
	assert.Equal(t, "running", server.State)
	ids := func(s ServerInfo) map[string]string {
		m := map[string]string{}
		for _, d := range s.Disks {
			m[d.Name] = d.DiskID
		}
		return m
	}
	assert.Equal(t, ids(first), ids(server))
	content, err := os.ReadFile(server.Disks[1].Path)
	require.NoError(t, err)
	assert.Equal(t, "written since", string(content[:13]))
	disks, err := w.p.Disks(t.Context(), cloud.Filter{Tags: map[string]string{cloud.TagOperation: w.scope.Operation}})
	require.NoError(t, err)
	assert.Len(t, disks, 2, "those that came with the launch are gone")
	assert.Equal(t, server, must[ServerInfo](w, w.acts.LaunchServer, back))
}
