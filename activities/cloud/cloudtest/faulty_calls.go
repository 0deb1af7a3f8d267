package cloudtest

import (
	"context"
	"time"

	"lifeboat/activities/cloud"
)

// The capabilities of a FaultyProvider: each method is the one beneath with faults.

// StartCreateDisk is the method beneath with faults.
func (f *FaultyProvider) StartCreateDisk(ctx context.Context, in cloud.CreateDisk) (cloud.Disk, error) {
	return making(f, "StartCreateDisk", func(v cloud.Disk) []string { return []string{v.ID} }, func(c cloud.Disks) (cloud.Disk, error) { return c.StartCreateDisk(ctx, in) })
}

// Disk is the method beneath with faults.
func (f *FaultyProvider) Disk(ctx context.Context, id string) (cloud.Disk, error) {
	return looking(f, "Disk", id, func(c cloud.Disks) (cloud.Disk, error) { return c.Disk(ctx, id) })
}

// Disks is the method beneath with faults.
func (f *FaultyProvider) Disks(ctx context.Context, filter cloud.Filter) ([]cloud.Disk, error) {
	return listing(f, "Disks", func(v cloud.Disk) string { return v.ID }, func(c cloud.Disks) ([]cloud.Disk, error) { return c.Disks(ctx, filter) })
}

// StartAttachDisk is the method beneath with faults.
func (f *FaultyProvider) StartAttachDisk(ctx context.Context, disk, server, device string) error {
	return changing(f, "StartAttachDisk", []string{disk, server}, func(c cloud.Disks) error { return c.StartAttachDisk(ctx, disk, server, device) })
}

// StartDetachDisk is the method beneath with faults.
func (f *FaultyProvider) StartDetachDisk(ctx context.Context, disk string) error {
	return changing(f, "StartDetachDisk", []string{disk}, func(c cloud.Disks) error { return c.StartDetachDisk(ctx, disk) })
}

// DeleteDisk is the method beneath with faults.
func (f *FaultyProvider) DeleteDisk(ctx context.Context, id string) error {
	return changing(f, "DeleteDisk", []string{id}, func(c cloud.Disks) error { return c.DeleteDisk(ctx, id) })
}

// StartSnapshots is the method beneath with faults.
func (f *FaultyProvider) StartSnapshots(ctx context.Context, in cloud.CreateSnapshots) ([]cloud.Snapshot, error) {
	return making(f, "StartSnapshots", idsOf, func(c cloud.Snapshots) ([]cloud.Snapshot, error) { return c.StartSnapshots(ctx, in) })
}

// StartCopySnapshot is the method beneath with faults.
func (f *FaultyProvider) StartCopySnapshot(ctx context.Context, in cloud.CopySnapshot) (cloud.Snapshot, error) {
	return making(f, "StartCopySnapshot", func(v cloud.Snapshot) []string { return []string{v.ID} }, func(c cloud.Snapshots) (cloud.Snapshot, error) { return c.StartCopySnapshot(ctx, in) })
}

// Snapshot is the method beneath with faults.
func (f *FaultyProvider) Snapshot(ctx context.Context, id string) (cloud.Snapshot, error) {
	return looking(f, "Snapshot", id, func(c cloud.Snapshots) (cloud.Snapshot, error) { return c.Snapshot(ctx, id) })
}

// Snapshots is the method beneath with faults.
func (f *FaultyProvider) Snapshots(ctx context.Context, filter cloud.Filter) ([]cloud.Snapshot, error) {
	return listing(f, "Snapshots", func(v cloud.Snapshot) string { return v.ID }, func(c cloud.Snapshots) ([]cloud.Snapshot, error) { return c.Snapshots(ctx, filter) })
}

// DeleteSnapshot is the method beneath with faults.
func (f *FaultyProvider) DeleteSnapshot(ctx context.Context, id string) error {
	return changing(f, "DeleteSnapshot", []string{id}, func(c cloud.Snapshots) error { return c.DeleteSnapshot(ctx, id) })
}

// StartCreateImage is the method beneath with faults.
func (f *FaultyProvider) StartCreateImage(ctx context.Context, in cloud.Create, server string, reboot bool) (cloud.Image, error) {
	return making(f, "StartCreateImage", func(v cloud.Image) []string { return []string{v.ID} }, func(c cloud.Images) (cloud.Image, error) { return c.StartCreateImage(ctx, in, server, reboot) })
}

// StartCopyImage is the method beneath with faults.
func (f *FaultyProvider) StartCopyImage(ctx context.Context, in cloud.Create, from cloud.Site, image string) (cloud.Image, error) {
	return making(f, "StartCopyImage", func(v cloud.Image) []string { return []string{v.ID} }, func(c cloud.Images) (cloud.Image, error) { return c.StartCopyImage(ctx, in, from, image) })
}

// RegisterImage is the method beneath with faults.
func (f *FaultyProvider) RegisterImage(ctx context.Context, in cloud.Create, disks []cloud.ImageDisk) (cloud.Image, error) {
	return making(f, "RegisterImage", func(v cloud.Image) []string { return []string{v.ID} }, func(c cloud.Images) (cloud.Image, error) { return c.RegisterImage(ctx, in, disks) })
}

// Image is the method beneath with faults.
func (f *FaultyProvider) Image(ctx context.Context, id string) (cloud.Image, error) {
	return looking(f, "Image", id, func(c cloud.Images) (cloud.Image, error) { return c.Image(ctx, id) })
}

// Images is the method beneath with faults.
func (f *FaultyProvider) Images(ctx context.Context, filter cloud.Filter) ([]cloud.Image, error) {
	return listing(f, "Images", func(v cloud.Image) string { return v.ID }, func(c cloud.Images) ([]cloud.Image, error) { return c.Images(ctx, filter) })
}

// DeleteImage is the method beneath with faults.
func (f *FaultyProvider) DeleteImage(ctx context.Context, id string, withSnapshots bool) error {
	return changing(f, "DeleteImage", []string{id}, func(c cloud.Images) error { return c.DeleteImage(ctx, id, withSnapshots) })
}

// LaunchSource is the method beneath.
func (f *FaultyProvider) LaunchSource() cloud.LaunchSource {
	if c, ok := f.Provider.(cloud.Servers); ok {
		return c.LaunchSource()
	}
	return ""
}

// StartLaunch is the method beneath with faults.
func (f *FaultyProvider) StartLaunch(ctx context.Context, in cloud.LaunchServer) (cloud.Server, error) {
	return making(f, "StartLaunch", func(v cloud.Server) []string { return []string{v.ID} }, func(c cloud.Servers) (cloud.Server, error) { return c.StartLaunch(ctx, in) })
}

// Server is the method beneath with faults.
func (f *FaultyProvider) Server(ctx context.Context, id string) (cloud.Server, error) {
	return looking(f, "Server", id, func(c cloud.Servers) (cloud.Server, error) { return c.Server(ctx, id) })
}

// Servers is the method beneath with faults.
func (f *FaultyProvider) Servers(ctx context.Context, filter cloud.Filter) ([]cloud.Server, error) {
	return listing(f, "Servers", func(v cloud.Server) string { return v.ID }, func(c cloud.Servers) ([]cloud.Server, error) { return c.Servers(ctx, filter) })
}

// StartServer is the method beneath with faults.
func (f *FaultyProvider) StartServer(ctx context.Context, id string) error {
	return changing(f, "StartServer", []string{id}, func(c cloud.Servers) error { return c.StartServer(ctx, id) })
}

// StopServer is the method beneath with faults.
func (f *FaultyProvider) StopServer(ctx context.Context, id string, force bool) error {
	return changing(f, "StopServer", []string{id}, func(c cloud.Servers) error { return c.StopServer(ctx, id, force) })
}

// TerminateServer is the method beneath with faults.
func (f *FaultyProvider) TerminateServer(ctx context.Context, id string) error {
	return changing(f, "TerminateServer", []string{id}, func(c cloud.Servers) error { return c.TerminateServer(ctx, id) })
}

// PauseServer is the method beneath with faults.
func (f *FaultyProvider) PauseServer(ctx context.Context, id string, max time.Duration) (resume func() error, err error) {
	return use(f, "PauseServer", func(c cloud.Quiescer) (func() error, error) { return c.PauseServer(ctx, id, max) })
}

// StartCreateNetwork is the method beneath with faults.
func (f *FaultyProvider) StartCreateNetwork(ctx context.Context, in cloud.CreateNetwork) (cloud.Network, error) {
	return making(f, "StartCreateNetwork", func(v cloud.Network) []string { return []string{v.ID} }, func(c cloud.Networks) (cloud.Network, error) { return c.StartCreateNetwork(ctx, in) })
}

// Network is the method beneath with faults.
func (f *FaultyProvider) Network(ctx context.Context, idOrName string) (cloud.Network, error) {
	return looking(f, "Network", idOrName, func(c cloud.Networks) (cloud.Network, error) { return c.Network(ctx, idOrName) })
}

// Networks is the method beneath with faults.
func (f *FaultyProvider) Networks(ctx context.Context, filter cloud.Filter) ([]cloud.Network, error) {
	return listing(f, "Networks", func(v cloud.Network) string { return v.ID }, func(c cloud.Networks) ([]cloud.Network, error) { return c.Networks(ctx, filter) })
}

// CheckAddress is the method beneath with faults.
func (f *FaultyProvider) CheckAddress(ctx context.Context, network, ip string) error {
	return changing(f, "CheckAddress", []string{network}, func(c cloud.Networks) error { return c.CheckAddress(ctx, network, ip) })
}

// DeleteNetwork is the method beneath with faults.
func (f *FaultyProvider) DeleteNetwork(ctx context.Context, id string) error {
	return changing(f, "DeleteNetwork", []string{id}, func(c cloud.Networks) error { return c.DeleteNetwork(ctx, id) })
}

// Dial is the method beneath with faults.
func (f *FaultyProvider) Dial(ctx context.Context, network, hostport string) (cloud.Conn, error) {
	return use(f, "Dial", func(c cloud.Networks) (cloud.Conn, error) { return c.Dial(ctx, network, hostport) })
}

// AllocateAddress is the method beneath with faults.
func (f *FaultyProvider) AllocateAddress(ctx context.Context, in cloud.Create) (cloud.Address, error) {
	return making(f, "AllocateAddress", func(v cloud.Address) []string { return []string{v.ID} }, func(c cloud.Addresses) (cloud.Address, error) { return c.AllocateAddress(ctx, in) })
}

// Address is the method beneath with faults.
func (f *FaultyProvider) Address(ctx context.Context, idOrName string) (cloud.Address, error) {
	return looking(f, "Address", idOrName, func(c cloud.Addresses) (cloud.Address, error) { return c.Address(ctx, idOrName) })
}

// Addresses is the method beneath with faults.
func (f *FaultyProvider) Addresses(ctx context.Context, filter cloud.Filter) ([]cloud.Address, error) {
	return listing(f, "Addresses", func(v cloud.Address) string { return v.ID }, func(c cloud.Addresses) ([]cloud.Address, error) { return c.Addresses(ctx, filter) })
}

// AssociateAddress is the method beneath with faults.
func (f *FaultyProvider) AssociateAddress(ctx context.Context, id, server string, reassociate bool) error {
	return changing(f, "AssociateAddress", []string{id, server}, func(c cloud.Addresses) error { return c.AssociateAddress(ctx, id, server, reassociate) })
}

// DisassociateAddress is the method beneath with faults.
func (f *FaultyProvider) DisassociateAddress(ctx context.Context, id string) error {
	return changing(f, "DisassociateAddress", []string{id}, func(c cloud.Addresses) error { return c.DisassociateAddress(ctx, id) })
}

// ReleaseAddress is the method beneath with faults.
func (f *FaultyProvider) ReleaseAddress(ctx context.Context, id string) error {
	return changing(f, "ReleaseAddress", []string{id}, func(c cloud.Addresses) error { return c.ReleaseAddress(ctx, id) })
}

// StartSetRecords is the method beneath with faults.
func (f *FaultyProvider) StartSetRecords(ctx context.Context, zone, token string, records []cloud.Record) (cloud.Change, error) {
	return use(f, "StartSetRecords", func(c cloud.Names) (cloud.Change, error) { return c.StartSetRecords(ctx, zone, token, records) })
}

// StartDeleteRecords is the method beneath with faults.
func (f *FaultyProvider) StartDeleteRecords(ctx context.Context, zone, token string, records []cloud.Record) (cloud.Change, error) {
	return use(f, "StartDeleteRecords", func(c cloud.Names) (cloud.Change, error) { return c.StartDeleteRecords(ctx, zone, token, records) })
}

// Change is the method beneath with faults.
func (f *FaultyProvider) Change(ctx context.Context, id string) (cloud.Change, error) {
	return use(f, "Change", func(c cloud.Names) (cloud.Change, error) { return c.Change(ctx, id) })
}

// Records is the method beneath with faults.
func (f *FaultyProvider) Records(ctx context.Context, zone, name string) ([]cloud.Record, error) {
	return use(f, "Records", func(c cloud.Names) ([]cloud.Record, error) { return c.Records(ctx, zone, name) })
}

// Resolver is the method beneath with faults.
func (f *FaultyProvider) Resolver(ctx context.Context, zone string) (string, error) {
	return use(f, "Resolver", func(c cloud.Names) (string, error) { return c.Resolver(ctx, zone) })
}

// StartScript is the method beneath with faults.
func (f *FaultyProvider) StartScript(ctx context.Context, in cloud.RunScript) (cloud.ScriptRun, error) {
	return use(f, "StartScript", func(c cloud.Scripts) (cloud.ScriptRun, error) { return c.StartScript(ctx, in) })
}

// ScriptRun is the method beneath with faults.
func (f *FaultyProvider) ScriptRun(ctx context.Context, id string) (cloud.ScriptRun, error) {
	return use(f, "ScriptRun", func(c cloud.Scripts) (cloud.ScriptRun, error) { return c.ScriptRun(ctx, id) })
}

// Intend is the method beneath with faults.
func (f *FaultyProvider) Intend(ctx context.Context, e cloud.Entry) (cloud.Entry, error) {
	return use(f, "Intend", func(c cloud.Ledger) (cloud.Entry, error) { return c.Intend(ctx, e) })
}

// Made is the method beneath with faults.
func (f *FaultyProvider) Made(ctx context.Context, token, id string) error {
	return changing(f, "Made", nil, func(c cloud.Ledger) error { return c.Made(ctx, token, id) })
}

// Gone is the method beneath with faults.
func (f *FaultyProvider) Gone(ctx context.Context, token string) error {
	return changing(f, "Gone", nil, func(c cloud.Ledger) error { return c.Gone(ctx, token) })
}

// Keep is the method beneath with faults.
func (f *FaultyProvider) Keep(ctx context.Context, tokens []string, role string) error {
	return changing(f, "Keep", nil, func(c cloud.Ledger) error { return c.Keep(ctx, tokens, role) })
}

// Entries is the method beneath with faults.
func (f *FaultyProvider) Entries(ctx context.Context, filter cloud.LedgerFilter) ([]cloud.Entry, error) {
	return use(f, "Entries", func(c cloud.Ledger) ([]cloud.Entry, error) { return c.Entries(ctx, filter) })
}

func idsOf(list []cloud.Snapshot) []string {
	ids := make([]string, 0, len(list))
	for _, s := range list {
		ids = append(ids, s.ID)
	}
	return ids
}
