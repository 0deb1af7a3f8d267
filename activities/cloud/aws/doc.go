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
// lifeboat-ports, the ports of a server; and lifeboat-devices, the names of disks, on images and servers:
//
//	lifeboat-devices = root=/dev/xvda,data=/dev/sdf
//
// A server without this tag has its disks under the names of their devices without "/dev/"; people may set
// the tag on servers that they protect.
//
// # Launch settings
//
// cloud.LaunchServer.Launch may hold these keys; others are refused, but those that begin with another
// provider's name and a dot:
//
//	instance-profile   name or ARN of the IAM instance profile
//	key-pair           name of the key pair
//	security-groups    identifiers, separated by commas; empty = the default group of the VPC
//	kms-key            key that the new volumes are encrypted with
//	substitutes        instance types to try in order when there is no capacity of the wanted one
//	families           families of types to choose from, in order of preference, when CPU and memory are
//	                   asked for (default: see types.go)
//	architecture       x86_64 or arm64; default that of the image
//	user-data          text for the machine's first start; cloud.LaunchServer.UserData comes before it
//	iops, throughput   of the new gp3, io1 and io2 volumes (throughput in MiB/s, gp3 only)
//	initialization-rate  MiB/s (100 to 300) at which new volumes are filled from their snapshots, for money
//	monitoring         "detailed" for metrics each minute
//	imds               "optional" admits the first version of the metadata service; default: only the second
//	tenancy            default or dedicated
//	capacity-reservation identifier of the reservation to launch into
package aws
