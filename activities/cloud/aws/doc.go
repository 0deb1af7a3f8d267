// Package aws is the provider of sites in AWS: regions, or zones of regions.
//
// What the contract's terms are there, and how retries stay safe, is in docs/provider-contract.md. A disk is
// an EBS volume, a snapshot an EBS snapshot, an image an AMI, a server an EC2 instance, a network a subnet
// of the site's VPC, an address an Elastic IP, a zone of names a hosted zone of Route 53, a script an SSM
// command; ledger and documents are objects of the site's S3 bucket.
//
// # Tags
//
// Beside the caller's tags a resource carries some of the provider's own, which the contract does not show:
// Name; lifeboat-request, a digest of the request that it was made by, so that a token that comes again with
// another request is refused; lifeboat-time, the instant that a snapshot holds (copies keep the original's);
// lifeboat-machine, what a machine image needs to know of the machine that a snapshot was cut from;
// lifeboat-ports, the ports of a server; lifeboat-place, the device that
// a restored volume is for; and lifeboat-devices, the names of disks, on images and servers:
//
//	lifeboat-devices = root=/dev/xvda,data=/dev/sdf
//
// A server without this tag has its disks under the names of their devices without "/dev/"; people may set
// the tag on servers that they protect.
//
// # Launch settings
//
// cloud.LaunchServer.Launch may hold these keys. Others are left alone: they are those of another provider that the
// server comes from. What a protected server has of them, Server tells, as far as it holds at other sites, too.
//
//	instance-profile     name or ARN of the IAM instance profile
//	key-pair             name of the key pair
//	security-groups      identifiers, or names in the VPC, separated by commas; empty = the VPC's default group
//	kms-key              key that the new volumes are encrypted with
//	substitutes          instance types to try in order when there is no capacity of the wanted one
//	families             families of types to choose from, in order of preference, when CPU and memory are asked
//	                     for instead of a type (default: see types.go)
//	user-data            text for the machine's first start; cloud.LaunchServer.UserData comes before it
//	iops, throughput     of the new volumes (throughput in MiB/s, gp3 only)
//	initialization-rate  MiB/s (100 to 300) at which new volumes are filled from their snapshots, for money
//	imds                 "optional" admits version 1 of the metadata service; default: version 2 only
//	monitoring           "detailed" for metrics of each minute
//	tenancy              "dedicated" for hardware that no other account uses
//	capacity-reservation identifier of the reservation to launch into
package aws
