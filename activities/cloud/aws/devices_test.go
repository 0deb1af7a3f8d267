package aws

import (
	"testing"

	"github.com/stretchr/testify/require"

	"lifeboat/activities/cloud"
)

func TestDisksOfAnImageGetDevices(t *testing.T) {
	t.Parallel()
	disks := func(names ...string) (list []cloud.ImageDisk) {
		for i, n := range names {
			list = append(list, cloud.ImageDisk{Device: n, SnapshotID: "snap-1", Boot: i == 0})
		}
		return list
	}
	for _, c := range []struct {
		names []string
		want  string
	}{
		{[]string{"root", "data"}, "root=/dev/xvda,data=/dev/sdf"},
		{[]string{"sda1", "sdf"}, "sda1=/dev/sda1,sdf=/dev/sdf"},
		{[]string{"/dev/xvda", "log", "sdf", "db"}, "xvda=/dev/xvda,log=/dev/sdg,sdf=/dev/sdf,db=/dev/sdh"},
		{[]string{""}, "xvda=/dev/xvda"},
		{[]string{"root", "xvda"}, "root=/dev/sda1,xvda=/dev/xvda"},
	} {
		places, err := placeDisks("RegisterImage", "image", disks(c.names...))
		require.NoError(t, err)
		require.Equal(t, c.want, placesText(places))
		names := devicesOf(c.want)
		for _, p := range places {
			require.Equal(t, p.name, names.name(p.device), "the tag is read as it was written")
		}
	}
	for _, bad := range [][]cloud.ImageDisk{
		nil, disks("sda", "/dev/sda"), disks("a,b"), append(disks("root"), disks("other")...),
		disks("root", "1", "2", "3", "4", "5", "6", "7", "8", "9", "10", "11", "12"),
	} {
		_, err := placeDisks("RegisterImage", "image", bad)
		require.Equal(t, cloud.InvalidInput, cloud.CodeOf(err), "%v", bad)
	}
	_, err := placeDisks("RegisterImage", "image", []cloud.ImageDisk{{SnapshotID: "vol-1", Boot: true}})
	require.True(t, cloud.IsNotFound(err))
}

func TestDiskNamesOfAServer(t *testing.T) {
	t.Parallel()
	names := devicesOf(" root=/dev/xvda, data=sdf,,broken,=x,y= ")
	require.Equal(t, "root", names.name("/dev/xvda"))
	require.Equal(t, "data", names.name("/dev/sdf"))
	require.Equal(t, "sdg", names.name("/dev/sdg"), "without the tag it is the device")
}

// FuzzDevices: tags are written by people.
func FuzzDevices(f *testing.F) {
	f.Add("root=/dev/xvda,data=/dev/sdf", "22, 80,x,70000")
	f.Fuzz(func(t *testing.T, devices, ports string) {
		for device, name := range devicesOf(devices) {
			require.NotEmpty(t, device)
			require.NotEmpty(t, name)
		}
		list := portsOf(ports)
		require.Equal(t, list, portsOf(portsText(list)))
		for _, p := range list {
			require.True(t, p > 0 && p < 65536)
		}
	})
}
