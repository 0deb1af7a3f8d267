package aws

import (
	"fmt"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"lifeboat/activities/cloud"
)

// rootDevice is the name that images of Amazon Linux give to the root; any hvm image boots from it.
const rootDevice = "/dev/xvda"

// dataDevices are the names that EC2 recommends for volumes beside the root
// (https://docs.aws.amazon.com/AWSEC2/latest/UserGuide/device_naming.html).
var dataDevices = strings.Fields("sdf sdg sdh sdi sdj sdk sdl sdm sdn sdo sdp")

// shortDevice and longDevice translate between the contract's names of devices and those of EC2.
func shortDevice(name string) string { return strings.TrimPrefix(name, "/dev/") }

func longDevice(name string) string {
	if name == "" || strings.HasPrefix(name, "/") {
		return name
	}
	return "/dev/" + name
}

// place is a disk's name and its device.
type place struct{ name, device string }

// deviceNames are names of disks by their devices.
type deviceNames map[string]string

// devicesOf reads the tag lifeboat-devices. What is not understood is left out.
func devicesOf(text string) deviceNames {
	names := deviceNames{}
	for part := range strings.SplitSeq(text, ",") {
		name, device, ok := strings.Cut(strings.TrimSpace(part), "=")
		if ok && name != "" && device != "" {
			names[longDevice(device)] = name
		}
	}
	return names
}

// name is how the disk of a device is called.
func (n deviceNames) name(device string) string {
	if name := n[longDevice(device)]; name != "" {
		return name
	}
	return shortDevice(device)
}

// placesText writes the tag lifeboat-devices.
func placesText(places []place) string {
	list := make([]string, len(places))
	for i, p := range places {
		list[i] = p.name + "=" + p.device
	}
	return strings.Join(list, ",")
}

// placeDisks gives each disk of an image a device: the one that it names, or one for its name.
func placeDisks(op, what string, disks []cloud.ImageDisk) ([]place, error) {
	boots, taken := 0, map[string]bool{}
	for _, d := range disks {
		if !hasPrefix(d.SnapshotID, "snap-") {
			return nil, notFound(op, cloud.KindSnapshot, d.SnapshotID)
		}
		boots += boolInt(d.Boot)
		if isDevice(d.Device) {
			if taken[longDevice(d.Device)] {
				return nil, invalid(op, what, "two disks have the device "+d.Device, "give each its own")
			}
			taken[longDevice(d.Device)] = true
		}
	}
	if len(disks) == 0 || boots != 1 && len(disks) > 1 {
		return nil, invalid(op, what, "it has "+strconv.Itoa(boots)+" disks to boot from", "mark one of its disks as the one to boot from")
	}
	free := func(names ...string) string {
		i := slices.IndexFunc(names, func(n string) bool { return !taken[longDevice(n)] })
		if i < 0 {
			return ""
		}
		taken[longDevice(names[i])] = true
		return longDevice(names[i])
	}
	places := make([]place, len(disks))
	for i, d := range disks {
		device := longDevice(d.Device)
		switch boot := d.Boot || len(disks) == 1; {
		case isDevice(d.Device):
		case boot:
			device = free(rootDevice, "sda1")
		default:
			device = free(dataDevices...)
		}
		if device == "" {
			return nil, invalid(op, what, fmt.Sprintf("there are %d disks, and names for %d", len(disks), len(dataDevices)+1), "name the devices")
		}
		name := shortDevice(d.Device)
		if name == "" {
			name = shortDevice(device)
		}
		if strings.ContainsAny(name, ",=") {
			return nil, invalid(op, what, "the name "+name+" of a disk has a comma or an equals sign", "choose another one")
		}
		places[i] = place{name, device}
	}
	return places, nil
}

// deviceName is the form of the names of devices that EC2 admits
// (https://docs.aws.amazon.com/AWSEC2/latest/UserGuide/device_naming.html).
var deviceName = regexp.MustCompile(`^(?:/dev/.+|sd[a-z](?:[1-9]|1[0-5])?|xvd[a-z]{1,2})$`)

// isDevice tells whether a name is one of a device, and not one of a disk.
func isDevice(name string) bool { return deviceName.MatchString(name) }
