// Package policy makes the IAM policies of docs/aws from the calls that the code makes. Calls finds every
// operation of an AWS service that the provider and the block copy use, table.go says which permissions each needs
// and where that is written, and Generate puts those into as few statements as least privilege allows. A call
// that the table does not know is an error, so that no call is added without its policy.
//
// Nobody but role cloud of a worker talks to AWS: role control, agents next to disks and people at the command line
// talk to Temporal. So there are policies for the worker, for the worker's own identity where it assumes roles, and
// one for auditors that reads and changes nothing.
package policy

//go:generate go run lifeboat/activities/cloud/aws/policy/genpolicy -root ../../../..
