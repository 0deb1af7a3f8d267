package local

import (
	"context"
	"fmt"
	"time"

	"lifeboat/activities/cloud"
)

const imageBucket = "images"

// imageRecord is an image as it is stored.
type imageRecord struct {
	cloud.Image
	Token  string       `json:"token"`
	Make   *imageMaking `json:"make,omitempty"` // made from a server
	From   *imageOrigin `json:"from,omitempty"` // copied from another site
	Delete bool         `json:"delete_snapshots,omitempty"`
}

// imageMaking is what has to be known to go on with making an image of a server.
type imageMaking struct {
	Server  string             `json:"server"`
	Reboot  bool               `json:"reboot,omitempty"`
	Restart bool               `json:"restart,omitempty"` // it ran, and was or will be stopped
	Disks   []cloud.ServerDisk `json:"disks"`
}

// imageOrigin is the image of another local site that a copy is made from.
type imageOrigin struct {
	Site  cloud.Site `json:"site"`
	Image string     `json:"image"`
}

// StartCreateImage makes snapshots of all disks of a server. With reboot the
// server is stopped before and started again; without, a running server is
// paused for the cut, and the image is like a disk after a power failure.
func (p *Provider) StartCreateImage(ctx context.Context, in cloud.Create, server string, reboot bool) (cloud.Image, error) {
	const op = "StartCreateImage"
	s, serverErr := p.Server(ctx, server) // judged only when the token is new: the server may be gone by then
	request := struct {
		cloud.Create
		Server string
		Reboot bool
	}{in, server, reboot}
	return p.newImage(ctx, op, in, request, func(t *tx, r *imageRecord) error {
		if serverErr != nil {
			return serverErr
		}
		disks, err := serverDisks(t, server)
		if err != nil {
			return err
		}
		if len(disks) == 0 {
			return invalid(op, "server "+server, "has no disks", "attach one first")
		}
		running := s.State == cloud.Running || s.State == cloud.Starting
		r.Make = &imageMaking{Server: server, Reboot: reboot, Restart: reboot && running}
		for _, d := range disks {
			r.Make.Disks = append(r.Make.Disks, d.ServerDisk)
		}
		return nil
	})
}

// StartCopyImage copies an image and its snapshots from another local site.
func (p *Provider) StartCopyImage(ctx context.Context, in cloud.Create, from cloud.Site, image string) (cloud.Image, error) {
	const op = "StartCopyImage"
	source, sourceErr := p.originImage(ctx, op, from, image)
	request := struct {
		cloud.Create
		From  cloud.Site
		Image string
	}{in, from, image}
	return p.newImage(ctx, op, in, request, func(_ *tx, r *imageRecord) error {
		if sourceErr != nil {
			return sourceErr
		}
		if source.State != cloud.Available {
			return cloud.E(cloud.NotReady, op, "image "+image, "is "+string(source.State), "wait until it is available", nil)
		}
		r.From = &imageOrigin{Site: from, Image: image}
		return nil
	})
}

// originImage reads an image of another local site.
func (p *Provider) originImage(ctx context.Context, op string, from cloud.Site, image string) (cloud.Image, error) {
	origin, err := p.openOrigin(ctx, op, from)
	if err != nil {
		return cloud.Image{}, err
	}
	defer origin.Close()
	r, err := origin.imageRecord(ctx, op, image)
	return r.Image, err
}

// RegisterImage makes an image of snapshots. One of them is the boot disk; a
// single one is it without saying so.
func (p *Provider) RegisterImage(ctx context.Context, in cloud.Create, disks []cloud.ImageDisk) (cloud.Image, error) {
	const op = "RegisterImage"
	disks = append([]cloud.ImageDisk(nil), disks...)
	if len(disks) == 1 {
		disks[0].Boot = true
	}
	boots, devices := 0, map[string]bool{}
	for _, d := range disks {
		if d.Boot {
			boots++
		}
		if d.Device != "" && devices[d.Device] {
			return cloud.Image{}, invalid(op, "image "+in.Name, "device "+d.Device+" is named twice", "give each disk a device of its own")
		}
		devices[d.Device] = true
	}
	if boots != 1 {
		return cloud.Image{}, invalid(op, "image "+in.Name, fmt.Sprintf("%d of %d disks are marked as boot disk", boots, len(disks)), "mark exactly one")
	}
	request := struct {
		cloud.Create
		Disks []cloud.ImageDisk
	}{in, disks}
	return p.newImage(ctx, op, in, request, func(t *tx, r *imageRecord) error {
		for _, d := range disks {
			if _, err := readySnapshot(t, op, d.SnapshotID); err != nil {
				return err
			}
		}
		r.Snapshots, r.State, r.Percent = disks, cloud.Available, 100
		return nil
	})
}

// newImage stores a new image that fill completes, or finds the one of the token.
func (p *Provider) newImage(ctx context.Context, op string, in cloud.Create, request any, fill func(*tx, *imageRecord) error) (cloud.Image, error) {
	var r imageRecord
	err := p.store.update(ctx, func(t *tx) error {
		id, old, err := t.claim(op, cloud.KindImage, in.Token, request)
		if err != nil {
			return err
		}
		if old {
			found, err := t.get(imageBucket, id, &r)
			if err == nil && !found {
				return notFound(op, cloud.KindImage, id)
			}
			return err
		}
		r = imageRecord{Token: in.Token, Image: cloud.Image{Snapshots: []cloud.ImageDisk{}, Resource: cloud.Resource{
			ID: id, Name: in.Name, State: cloud.Creating, Tags: in.Tags, Created: time.Now().UTC(),
		}}}
		if err := fill(t, &r); err != nil {
			return err
		}
		return t.put(imageBucket, id, r)
	})
	if err != nil {
		return cloud.Image{}, err
	}
	return r.Image, p.settleImage(r)
}

// Image returns an image and goes on with work on it that nobody does.
func (p *Provider) Image(ctx context.Context, id string) (cloud.Image, error) {
	r, err := p.imageRecord(ctx, "Image", id)
	if err != nil {
		return cloud.Image{}, err
	}
	return r.Image, p.settleImage(r)
}

func (p *Provider) imageRecord(ctx context.Context, op, id string) (imageRecord, error) {
	return record[imageRecord](ctx, p.store, op, cloud.KindImage, imageBucket, id)
}

// Images lists images.
func (p *Provider) Images(ctx context.Context, f cloud.Filter) ([]cloud.Image, error) {
	return settled(ctx, p.store, imageBucket, func(r imageRecord) bool { return f.Match(r.Tags) },
		func(_ context.Context, r imageRecord) (cloud.Image, error) { return r.Image, p.settleImage(r) })
}

// DeleteImage removes an image. With its snapshots, those of other images stay.
func (p *Provider) DeleteImage(ctx context.Context, id string, withSnapshots bool) error {
	const op = "DeleteImage"
	err := p.store.update(ctx, func(t *tx) error {
		var r imageRecord
		found, err := t.get(imageBucket, id, &r)
		if err == nil && !found {
			return notFound(op, cloud.KindImage, id)
		}
		if err != nil || r.State == cloud.Deleting {
			return err
		}
		r.State, r.Delete = cloud.Deleting, withSnapshots
		return t.put(imageBucket, id, r)
	})
	if err != nil {
		return err
	}
	release, free, err := p.lockJob(id)
	if err != nil || !free {
		return err // who holds it sees the deletion
	}
	defer release()
	return p.eraseImage(ctx, id)
}

// settleImage begins what a stored state announces.
func (p *Provider) settleImage(r imageRecord) error {
	if r.State != cloud.Creating && r.State != cloud.Deleting {
		return nil
	}
	return p.spawn(r.ID, func(ctx context.Context) error { return p.makeImage(ctx, r.ID) })
}
