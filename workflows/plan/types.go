// Package plan is the recovery plan: the YAML file that says what is protected,
// how, and how it is recovered. It parses (unknown keys are errors), validates,
// fills in defaults and resolves a plan into what workflows use. It imports no
// Temporal. The reference in docs/ and the JSON Schema are generated from the
// types and comments of this file.
package plan

//go:generate go run lifeboat/workflows/plan/gendocs -root ../..

// APIVersion and Kind head every plan file.
const (
	APIVersion = "lifeboat/v1"
	Kind       = "RecoveryPlan"
)

// Plan is one plan file. Secrets never belong into it.
type Plan struct {
	// APIVersion of the plan's form.
	APIVersion string `json:"apiVersion" yaml:"apiVersion" jsonschema:"enum=lifeboat/v1"`
	// Kind of the document.
	Kind string `json:"kind" yaml:"kind" jsonschema:"enum=RecoveryPlan"`
	// Metadata names the plan.
	Metadata Metadata `json:"metadata" yaml:"metadata"`
	// Spec is the content of the plan.
	Spec Spec `json:"spec" yaml:"spec"`
	// Scripts are the contents of the files that launch.script names. They are read
	// with the plan and travel with it, so that a failover needs no file of the
	// planner's machine.
	Scripts map[string]string `json:"scripts,omitempty" yaml:"-" jsonschema:"-"`

	file      string              // where the plan was read, "" when it was not read from a file
	positions map[string]position // key path → where its value stands in the file
}

// Metadata names the plan.
type Metadata struct {
	// Name of the plan: lower-case letters, digits and dashes, at most 40 characters.
	Name string `json:"name" yaml:"name" jsonschema:"pattern=^[a-z0-9]([a-z0-9-]*[a-z0-9])?$,maxLength=40"`
	// Description in words, for people.
	Description string `json:"description,omitempty" yaml:"description,omitempty"`
}

// Spec is the content of a plan.
type Spec struct {
	// Objectives that measured RTO and RPO are compared with.
	Objectives Objectives `json:"objectives,omitempty" yaml:"objectives,omitempty"`
	// Sites where servers can run.
	Sites []Site `json:"sites" yaml:"sites" jsonschema:"minItems=1"`
	// Networks of the sites that the plan uses.
	Networks []Network `json:"networks" yaml:"networks" jsonschema:"minItems=1"`
	// SitePairs join a primary and a recovery site.
	SitePairs []SitePair `json:"sitePairs" yaml:"sitePairs" jsonschema:"minItems=1"`
	// PointPolicies say when recovery points are cut and how long they are kept.
	PointPolicies []PointPolicy `json:"pointPolicies" yaml:"pointPolicies" jsonschema:"minItems=1"`
	// Tiers group servers that are protected the same way.
	Tiers []Tier `json:"tiers" yaml:"tiers" jsonschema:"minItems=1"`
	// Servers that are protected; a plan of any size is applied in tens.
	Servers []Server `json:"servers" yaml:"servers" jsonschema:"minItems=1"`
	// DNS records that follow the active side.
	DNS []Record `json:"dns,omitempty" yaml:"dns,omitempty"`
	// Licences of recovered software, for people.
	Licences []Licence `json:"licences,omitempty" yaml:"licences,omitempty"`
	// Steps order the recovery of servers (a DAG); servers in no step come last, together.
	Steps []Step `json:"steps,omitempty" yaml:"steps,omitempty"`
	// Failover settings.
	Failover Recovery `json:"failover,omitempty" yaml:"failover,omitempty"`
	// Failback settings.
	Failback Recovery `json:"failback,omitempty" yaml:"failback,omitempty"`
	// Drills: where and when.
	Drills Drills `json:"drills,omitempty" yaml:"drills,omitempty"`
}

// Objectives are promises to the business; reports say whether they were kept.
type Objectives struct {
	// RTO: longest acceptable time from the declared outage to traffic served, e.g. 5m.
	RTO Duration `json:"rto,omitempty" yaml:"rto,omitempty"`
	// RPO: oldest acceptable newest write, e.g. 30s.
	RPO Duration `json:"rpo,omitempty" yaml:"rpo,omitempty"`
}

// Site is a place where servers can run.
type Site struct {
	// Name used everywhere in the plan and in task queues.
	Name string `json:"name" yaml:"name" jsonschema:"pattern=^[a-z0-9]([a-z0-9-]*[a-z0-9])?$,maxLength=40"`
	// Provider of the site: local, a directory of this machine; aws, a zone of an AWS region.
	Provider string `json:"provider" yaml:"provider" jsonschema:"enum=local,enum=aws"`
	// Directory of a local site; relative to the plan file.
	Directory string `json:"directory,omitempty" yaml:"directory,omitempty"`
	// Account of a cloud, in quotes (AWS: 12 digits); not for a local site.
	Account string `json:"account,omitempty" yaml:"account,omitempty"`
	// Region of a cloud, e.g. eu-central-1; not for a local site.
	Region string `json:"region,omitempty" yaml:"region,omitempty"`
	// Zone of a cloud's region, e.g. eu-central-1a.
	Zone string `json:"zone,omitempty" yaml:"zone,omitempty"`
	// Role of the account that is assumed for every call, an ARN; default: what the worker's credentials are.
	Role string `json:"role,omitempty" yaml:"role,omitempty"`
	// ExternalID that the role asks for, when it does; with Role.
	ExternalID string `json:"externalId,omitempty" yaml:"externalId,omitempty"`
	// Bucket of object storage in the region: it holds the list of what Lifeboat made and the catalogue of
	// recovery points, and is needed in the disaster, so that it belongs into the region of the site.
	Bucket string `json:"bucket,omitempty" yaml:"bucket,omitempty"`
	// VPC in which the networks of the plan are made and looked for; default: the account's default one.
	VPC string `json:"vpc,omitempty" yaml:"vpc,omitempty"`
	// Agent next to the disks of this site; default: the name of a local site, none for a cloud. Only the
	// transfer agent needs one.
	Agent string `json:"agent,omitempty" yaml:"agent,omitempty" jsonschema:"pattern=^[a-z0-9]([a-z0-9-]*[a-z0-9])?$,maxLength=40"`
}

// Network is a network of a site. It is made when it is not there yet.
type Network struct {
	// Name of the network, in the plan and at the site.
	Name string `json:"name" yaml:"name" jsonschema:"pattern=^[a-z0-9]([a-z0-9-]*[a-z0-9])?$,maxLength=40"`
	// Site of the network.
	Site string `json:"site" yaml:"site"`
	// CIDR of private IPv4 addresses, e.g. 10.20.0.0/24. Networks of one site must not overlap;
	// at different sites the same CIDR is fine and lets servers keep their addresses.
	CIDR string `json:"cidr" yaml:"cidr"`
	// Zone of the network, when it matters.
	Zone string `json:"zone,omitempty" yaml:"zone,omitempty"`
}

// SitePair is a primary and a recovery site with the networks used between them.
type SitePair struct {
	// Name of the pair.
	Name string `json:"name" yaml:"name" jsonschema:"pattern=^[a-z0-9]([a-z0-9-]*[a-z0-9])?$,maxLength=40"`
	// Type of the pair; default: what the sites' providers and regions say.
	Type string `json:"type,omitempty" yaml:"type,omitempty" jsonschema:"enum=cross-zone,enum=cross-region,enum=on-premises-to-cloud,enum=cloud-to-cloud"`
	// Primary site: where production runs.
	Primary string `json:"primary" yaml:"primary"`
	// Recovery site.
	Recovery string `json:"recovery" yaml:"recovery"`
	// ReplicationNetwork carries data; a network of either site. Default: the way the agents reach each other.
	ReplicationNetwork string `json:"replicationNetwork,omitempty" yaml:"replicationNetwork,omitempty"`
	// RecoveryNetwork is where recovered servers live; a network of the recovery site.
	RecoveryNetwork string `json:"recoveryNetwork" yaml:"recoveryNetwork"`
	// PrimaryNetwork is where servers live after failback; default: the network of the source server.
	PrimaryNetwork string `json:"primaryNetwork,omitempty" yaml:"primaryNetwork,omitempty"`
}

// PointPolicy says when recovery points are cut and how long they are kept.
type PointPolicy struct {
	// Name of the policy.
	Name string `json:"name" yaml:"name" jsonschema:"pattern=^[a-z0-9]([a-z0-9-]*[a-z0-9])?$,maxLength=40"`
	// Every: interval of recovery points, e.g. 5m. At least 1s; at least 1m with snapshots or blocks of a cloud,
	// which takes no more snapshots of a volume at once (AWS: 5).
	Every Duration `json:"every" yaml:"every"`
	// Keep: the newest Count points within Within; default 24 in 24h.
	Keep Keep `json:"keep,omitempty" yaml:"keep,omitempty"`
	// Consistency of points; default crash: as after a power cut.
	Consistency string `json:"consistency,omitempty" yaml:"consistency,omitempty" jsonschema:"enum=crash"`
	// AutoResume replication after an interruption; default true.
	AutoResume *bool `json:"autoResume,omitempty" yaml:"autoResume,omitempty"`
	// Bandwidth limit a second, e.g. 50MiB; absent = unlimited.
	Bandwidth Size `json:"bandwidth,omitempty" yaml:"bandwidth,omitempty"`
}

// Keep is the retention of recovery points.
type Keep struct {
	// Count of points; one more evicts the oldest unless it is locked or in use; default 24.
	Count int `json:"count,omitempty" yaml:"count,omitempty" jsonschema:"minimum=1"`
	// Within: span that the points are kept for; default 24h.
	Within Duration `json:"within,omitempty" yaml:"within,omitempty"`
}

// Tier groups servers that are protected the same way.
type Tier struct {
	// Name of the tier.
	Name string `json:"name" yaml:"name" jsonschema:"pattern=^[a-z0-9]([a-z0-9-]*[a-z0-9])?$,maxLength=40"`
	// Strategy of the tier.
	Strategy string `json:"strategy" yaml:"strategy" jsonschema:"enum=replicate"`
	// Mode of replication; default async.
	Mode string `json:"mode,omitempty" yaml:"mode,omitempty" jsonschema:"enum=async"`
	// PointPolicy by name.
	PointPolicy string `json:"pointPolicy" yaml:"pointPolicy"`
	// Transfer: how data moves to the recovery site. agent: a process next to the disks of both sites copies
	// changed blocks all the time; it costs a small server and the replica disks, and the RPO is seconds.
	// snapshots: the provider's snapshots of the server, copied to the recovery site, are the recovery points;
	// nothing runs in between, it costs snapshot storage on both sides and the traffic of what changed, and
	// the RPO is the interval and the time that snapshot and copy take (minutes; longer after large changes).
	// blocks: as snapshots, but only changed blocks are read and written through the provider's block API;
	// it costs its requests, and less time and traffic where little changes. Default: agent between local
	// sites and between different providers, snapshots between sites of a cloud.
	Transfer string `json:"transfer,omitempty" yaml:"transfer,omitempty" jsonschema:"enum=agent,enum=snapshots,enum=blocks"`
}

// Server is a protected server.
type Server struct {
	// Name of the protected server in the plan, commands and workflow IDs.
	Name string `json:"name" yaml:"name" jsonschema:"pattern=^[a-z0-9]([a-z0-9-]*[a-z0-9])?$,maxLength=40"`
	// Tier by name.
	Tier string `json:"tier" yaml:"tier"`
	// SitePair by name.
	SitePair string `json:"sitePair" yaml:"sitePair"`
	// Source: identifier or name of the server at the primary site.
	Source string `json:"source" yaml:"source"`
	// Disks to protect, by name; default: all of the source server.
	Disks []string `json:"disks,omitempty" yaml:"disks,omitempty"`
	// Transfer of this server, where it differs from the tier's.
	Transfer string `json:"transfer,omitempty" yaml:"transfer,omitempty" jsonschema:"enum=agent,enum=snapshots,enum=blocks"`
	// Launch settings of the recovered server.
	Launch Launch `json:"launch" yaml:"launch"`
}

// Launch settings are known before the disaster, so that a failover is one command.
type Launch struct {
	// Type: instance type; either this or CPU and Memory.
	Type string `json:"type,omitempty" yaml:"type,omitempty"`
	// CPU: number of processors, together with Memory.
	CPU int `json:"cpu,omitempty" yaml:"cpu,omitempty" jsonschema:"minimum=1"`
	// Memory, e.g. 512MiB, together with CPU.
	Memory Size `json:"memory,omitempty" yaml:"memory,omitempty"`
	// DiskType: class of the recovered disks; default: the provider's.
	DiskType string `json:"diskType,omitempty" yaml:"diskType,omitempty"`
	// Settings of the recovery site's provider, by the names in its documentation (AWS: security-groups,
	// instance-profile, key-pair, substitutes, kms-key, which encrypts recovery points, too); they take the
	// place of the source server's.
	Settings map[string]string `json:"settings,omitempty" yaml:"settings,omitempty"`
	// IP: private address in the recovery network; absent = the source's where it fits, else any.
	IP string `json:"ip,omitempty" yaml:"ip,omitempty"`
	// PublicIP: name of a reserved public address that moves to the recovered server.
	PublicIP string `json:"publicIP,omitempty" yaml:"publicIP,omitempty"`
	// Script: file (relative to the plan, at most 64KiB) run on the recovered server after start.
	Script string `json:"script,omitempty" yaml:"script,omitempty"`
	// ScriptTimeout: time limit of the script; default 5m.
	ScriptTimeout Duration `json:"scriptTimeout,omitempty" yaml:"scriptTimeout,omitempty"`
	// Health: how to see that the server works; absent = running is enough.
	Health Health `json:"health,omitempty" yaml:"health,omitempty"`
}

// Health is a check of a recovered server at its private address.
type Health struct {
	// HTTP: path that must answer with status 200; with Port.
	HTTP string `json:"http,omitempty" yaml:"http,omitempty" jsonschema:"pattern=^/"`
	// Port: TCP port that must accept, or that HTTP is asked on.
	Port int `json:"port,omitempty" yaml:"port,omitempty" jsonschema:"minimum=1,maximum=65535"`
	// Timeout: longest wait for a green check; default 5m.
	Timeout Duration `json:"timeout,omitempty" yaml:"timeout,omitempty"`
}

// Record is a DNS name that follows the active side of a server.
type Record struct {
	// Name, fully qualified.
	Name string `json:"name" yaml:"name"`
	// Zone that holds the name.
	Zone string `json:"zone" yaml:"zone"`
	// Site whose provider serves the zone: the recovery site or, better, a third one; the
	// primary site is refused, because the disaster takes it away.
	Site string `json:"site" yaml:"site"`
	// Server whose address the name points to.
	Server string `json:"server" yaml:"server"`
	// TTL; default 60s.
	TTL Duration `json:"ttl,omitempty" yaml:"ttl,omitempty"`
}

// Licence of software on a recovered server.
type Licence struct {
	// Software that needs the licence.
	Software string `json:"software" yaml:"software"`
	// Servers that run it.
	Servers []string `json:"servers" yaml:"servers" jsonschema:"minItems=1"`
	// Kind: brought along or included in the recovered server.
	Kind string `json:"kind" yaml:"kind" jsonschema:"enum=brought,enum=included"`
	// Note for people, e.g. where the contract is.
	Note string `json:"note,omitempty" yaml:"note,omitempty"`
}

// Step recovers its servers together, after other steps.
type Step struct {
	// Name of the step.
	Name string `json:"name" yaml:"name" jsonschema:"pattern=^[a-z0-9]([a-z0-9-]*[a-z0-9])?$,maxLength=40"`
	// Servers of the step; a server is in one step at most.
	Servers []string `json:"servers" yaml:"servers" jsonschema:"minItems=1"`
	// After: steps that must be done before this one begins.
	After []string `json:"after,omitempty" yaml:"after,omitempty"`
}

// Recovery holds what is particular to failover or failback.
type Recovery struct {
	// Approval: when required, traffic is switched only after a person approved; default none.
	Approval string `json:"approval,omitempty" yaml:"approval,omitempty" jsonschema:"enum=required,enum=none"`
}

// Drills say where drilled servers live and when drills start by themselves.
type Drills struct {
	// Network of the drill, at the recovery site and not the recovery network; default: an isolated
	// network made for the drill with the CIDR of the recovery network.
	Network string `json:"network,omitempty" yaml:"network,omitempty"`
	// Schedule: calendar in cron form, e.g. "0 3 * * 6"; absent = none.
	Schedule string `json:"schedule,omitempty" yaml:"schedule,omitempty"`
	// TimeZone of the schedule, an IANA name; default UTC.
	TimeZone string `json:"timeZone,omitempty" yaml:"timeZone,omitempty"`
	// CleanAfter: a scheduled drill is cleaned this long after it is green; default: at once.
	CleanAfter Duration `json:"cleanAfter,omitempty" yaml:"cleanAfter,omitempty"`
}
