package local

import (
	"cmp"
	"fmt"
	"slices"

	"lifeboat/activities/cloud"
)

const diskBucket = "disks"

// diskRecord is a disk as it is stored.
type diskRecord struct {
	cloud.Disk
	Token   string     `json:"token"`
	Adopted bool       `json:"adopted,omitempty"` // the file was there before, and stays
	Place   *diskPlace `json:"place,omitempty"`   // set while attached
}

// diskPlace is where in a server a disk is. Disk records are the one truth on
// what is attached where.
type diskPlace struct {
	Order int    `json:"order"`
	Name  string `json:"name"`
	Boot  bool   `json:"boot,omitempty"`
}

// attachedDisk is a disk of a server with its file.
type attachedDisk struct {
	cloud.ServerDisk
	Path  string
	Bytes int64
}

// attachDisk attaches a disk to a server within the transaction that makes or
// changes the server. The same server and device again is nil; a disk of another
// server is InUse, one that is not ready NotReady.
func attachDisk(t *tx, op, server string, d cloud.ServerDisk) error {
	var r diskRecord
	found, err := t.get(diskBucket, d.DiskID, &r)
	if err != nil {
		return err
	}
	if !found {
		return notFound(op, cloud.KindDisk, d.DiskID)
	}
	resource := "disk " + d.DiskID
	switch {
	case r.Server == server && (d.Device == "" || r.Device == d.Device):
		return nil
	case r.Server == server:
		return cloud.E(cloud.Conflict, op, resource, fmt.Sprintf("is attached to this server as %s already", r.Device), "detach it first", nil)
	case r.Server != "":
		return cloud.E(cloud.InUse, op, resource, "is attached to server "+r.Server, "detach it there first", nil)
	case r.State != cloud.Available:
		return diskNotReady(op, r)
	}
	others, err := serverDisks(t, server)
	if err != nil {
		return err
	}
	order := 0
	for _, o := range others {
		order = max(order, o.order+1)
		if d.Device != "" && o.Device == d.Device {
			return cloud.E(cloud.InUse, op, resource, fmt.Sprintf("device %s of server %s is taken by disk %s", d.Device, server, o.DiskID), "choose another device", nil)
		}
		if d.Name != "" && o.Name == d.Name {
			return cloud.E(cloud.InUse, op, resource, fmt.Sprintf("disk %s of server %s has the name %s", o.DiskID, server, d.Name), "choose another name", nil)
		}
	}
	name := cmp.Or(d.Name, r.Name, d.DiskID)
	r.State, r.Server, r.Device = cloud.Attached, server, cmp.Or(d.Device, name)
	r.Place = &diskPlace{Order: order, Name: name, Boot: d.Boot}
	return t.put(diskBucket, r.ID, r)
}

// detachDisks takes all disks from a server that is stopped or gone.
func detachDisks(t *tx, server string) error {
	disks, err := serverDisks(t, server)
	if err != nil {
		return err
	}
	for _, d := range disks {
		if err := detachDisk(t, d.DiskID); err != nil {
			return err
		}
	}
	return nil
}

func detachDisk(t *tx, id string) error {
	var r diskRecord
	found, err := t.get(diskBucket, id, &r)
	if err != nil || !found || r.Server == "" {
		return err
	}
	r.State, r.Server, r.Device, r.Place = cloud.Available, "", "", nil
	return t.put(diskBucket, id, r)
}

type placedDisk struct {
	attachedDisk
	order int
}

// serverDisks lists the disks of a server in the order in which they were attached.
func serverDisks(t *tx, server string) ([]placedDisk, error) {
	var disks []placedDisk
	err := t.each(diskBucket, func(id string, raw []byte) error {
		var r diskRecord
		if err := t.decode(diskBucket, id, raw, &r); err != nil || r.Server != server || r.Place == nil {
			return err
		}
		disks = append(disks, placedDisk{attachedDisk: attachedDisk{
			ServerDisk: cloud.ServerDisk{Name: r.Place.Name, DiskID: r.ID, Device: r.Device, Boot: r.Place.Boot},
			Path:       r.Path, Bytes: r.Bytes,
		}, order: r.Place.Order})
		return nil
	})
	slices.SortFunc(disks, func(a, b placedDisk) int { return a.order - b.order })
	return disks, err
}

// diskNotReady says why a disk cannot be used at the moment.
func diskNotReady(op string, r diskRecord) error {
	resource := "disk " + r.ID
	switch r.State {
	case cloud.Failing:
		return cloud.E(cloud.Failed, op, resource, r.Message, "delete it and make another one", nil)
	case cloud.Deleting:
		return notFound(op, cloud.KindDisk, r.ID)
	}
	return cloud.E(cloud.NotReady, op, resource, "is "+string(r.State), "wait until it is available", nil)
}
