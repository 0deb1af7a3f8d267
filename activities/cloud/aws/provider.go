package aws

import (
	"context"
	"fmt"
	"log/slog"
	"net/http"
	"sync"
	"time"

	awssdk "github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/autoscaling"
	"github.com/aws/aws-sdk-go-v2/service/backup"
	"github.com/aws/aws-sdk-go-v2/service/cloudformation"
	"github.com/aws/aws-sdk-go-v2/service/cloudwatch"
	"github.com/aws/aws-sdk-go-v2/service/ebs"
	"github.com/aws/aws-sdk-go-v2/service/ec2"
	"github.com/aws/aws-sdk-go-v2/service/efs"
	"github.com/aws/aws-sdk-go-v2/service/elasticloadbalancingv2"
	"github.com/aws/aws-sdk-go-v2/service/kms"
	"github.com/aws/aws-sdk-go-v2/service/rds"
	"github.com/aws/aws-sdk-go-v2/service/route53"
	"github.com/aws/aws-sdk-go-v2/service/s3"
	"github.com/aws/aws-sdk-go-v2/service/sns"
	"github.com/aws/aws-sdk-go-v2/service/ssm"
	"github.com/aws/aws-sdk-go-v2/service/sts"

	"lifeboat/activities/cloud"
)

// Options are settings of the process that uses a site, not of the site. The zero value is right for
// the real AWS.
type Options struct {
	// Endpoint takes the place of all services' own: an emulator's, or the test double's. Empty = those
	// of AWS, or what the environment says (AWS_ENDPOINT_URL).
	Endpoint string
	// HTTP is the client of all requests, but for those that the SDK's chain of credentials makes; nil = the SDK's.
	HTTP *http.Client
	// Credentials sign the requests, or the one that assumes the site's role; nil = the SDK's chain
	// (environment, shared files, role of the machine).
	Credentials awssdk.CredentialsProvider
	// Log gets what happens beside a call; nil = nowhere.
	Log *slog.Logger
	// LookFor is how long a repeated creation without client token looks for what an earlier attempt may
	// have made, before it makes it: listings are sure to show it then. 0 = DefaultLookFor.
	LookFor time.Duration
	// NoGlobal refuses the calls whose control plane is in one region for all the world (Route 53's is in
	// us-east-1): set it when that region is the one that is down. It keeps Names from being used.
	NoGlobal bool
	// Resolver is the address (host:port) of a name server that answers for zones of Route 53; empty =
	// the zone's own name servers.
	Resolver string
	// VCPUs is the account's quota of running virtual CPUs of standard types in the region (Service Quotas,
	// L-1216C47A), for the checks before a launch; 0 = not known.
	VCPUs int
}

// DefaultLookFor is longer than listings of EC2 lag behind. AWS names no bound, but advises to back off to
// minutes where there is no other way to know: https://docs.aws.amazon.com/ec2/latest/devguide/eventual-consistency.html
const DefaultLookFor = time.Minute

// Provider is a site in a region, or in a zone of one. It implements the capabilities of the contract over
// EC2, EBS, Route 53, SSM, S3, KMS, SNS, CloudWatch, ELB, Auto Scaling, RDS, EFS, Backup and CloudFormation. All but Route 53 have an endpoint in the region: a
// value talks to its own region alone, except that copies read what is copied at the site that they come from.
type Provider struct {
	site    cloud.Site
	options Options
	config  awssdk.Config
	log     *slog.Logger
	shared  *siteMemory

	clients clients

	mu       sync.Mutex
	peers    map[cloud.Site]*Provider // other sites, of which something was copied
	accounts string                   // number of the account, once it is known
	zones    []string                 // available ones, in order, once they are known
	types    map[string]machineType   // by name, as far as they were asked for
	closed   bool

	remembered remembered // by the files of names, ledger and scripts
}

// clients of the services, made at their first use.
type clients struct {
	ec2        lazy[ec2.Client]
	ebs        lazy[ebs.Client]
	route53    lazy[route53.Client]
	ssm        lazy[ssm.Client]
	s3         lazy[s3.Client]
	kms        lazy[kms.Client]
	sts        lazy[sts.Client]
	sns        lazy[sns.Client]
	cloudwatch lazy[cloudwatch.Client]
	elb        lazy[elasticloadbalancingv2.Client]
	scaling    lazy[autoscaling.Client]
	rds        lazy[rds.Client]
	stacks     lazy[cloudformation.Client]
	backup     lazy[backup.Client]
	efs        lazy[efs.Client]
}

// lazy is a value that is made when it is asked for.
type lazy[T any] struct {
	once  sync.Once
	value *T
}

func (l *lazy[T]) get(make func() *T) *T {
	l.once.Do(func() { l.value = make() })
	return l.value
}

// Open prepares the use of a site. It makes no request: the region may be down, and the caller finds out
// from the call that it needs.
func Open(ctx context.Context, site cloud.Site, o Options) (*Provider, error) {
	region, err := regionOf(site)
	if err != nil {
		return nil, err
	}
	site.Provider, site.Region = "aws", region
	if o.LookFor == 0 {
		o.LookFor = DefaultLookFor
	}
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	c, err := loadConfig(ctx, site, o)
	if err != nil {
		return nil, err
	}
	p := &Provider{site: site, options: o, config: c, log: o.Log, peers: map[cloud.Site]*Provider{}, types: map[string]machineType{}}
	p.shared = rememberSite(p.memoryKey())
	return p, nil
}

// Site tells which place this value acts on.
func (p *Provider) Site() cloud.Site { return p.site }

// Close releases what the value holds; resources of the site stay.
func (p *Provider) Close() error {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.closed {
		return nil
	}
	p.closed = true
	forgetSite(p.memoryKey())
	for _, peer := range p.peers {
		if err := peer.Close(); err != nil {
			return err
		}
	}
	return nil
}

// memoryKey names the place whose tokens are remembered: equal for all values of one site.
func (p *Provider) memoryKey() string {
	return fmt.Sprintf("%s|%s|%s|%s", awssdk.ToString(p.config.BaseEndpoint), p.site.Account, p.site.Role, p.site.Region)
}

// The clients. All but route53 talk to the region of the site only.

func (p *Provider) ec2() *ec2.Client {
	return p.clients.ec2.get(func() *ec2.Client { return ec2.NewFromConfig(p.config) })
}

func (p *Provider) ebs() *ebs.Client {
	return p.clients.ebs.get(func() *ebs.Client { return ebs.NewFromConfig(p.config) })
}

func (p *Provider) ssm() *ssm.Client {
	return p.clients.ssm.get(func() *ssm.Client { return ssm.NewFromConfig(p.config) })
}

// s3 names buckets in the path when there is an endpoint of one's own: names below it lead nowhere.
func (p *Provider) s3() *s3.Client {
	return p.clients.s3.get(func() *s3.Client {
		return s3.NewFromConfig(p.config, func(o *s3.Options) { o.UsePathStyle = p.config.BaseEndpoint != nil })
	})
}

func (p *Provider) kms() *kms.Client {
	return p.clients.kms.get(func() *kms.Client { return kms.NewFromConfig(p.config) })
}

func (p *Provider) sts() *sts.Client {
	return p.clients.sts.get(func() *sts.Client { return sts.NewFromConfig(p.config) })
}

func (p *Provider) sns() *sns.Client {
	return p.clients.sns.get(func() *sns.Client { return sns.NewFromConfig(p.config) })
}

func (p *Provider) cloudwatch() *cloudwatch.Client {
	return p.clients.cloudwatch.get(func() *cloudwatch.Client { return cloudwatch.NewFromConfig(p.config) })
}

// route53 is the one client that is not of the region, see Options.NoGlobal.
func (p *Provider) route53(op string) (*route53.Client, error) {
	if p.options.NoGlobal {
		return nil, cloud.E(cloud.Unavailable, op, "site "+p.site.Name, "the control plane of Route 53 is in a region that must not be used now",
			"switch the traffic by a health check that was prepared, or change the records elsewhere", nil)
	}
	return p.clients.route53.get(func() *route53.Client { return route53.NewFromConfig(p.config) }), nil
}

// peer opens the site that something is copied from, with the options of this one.
func (p *Provider) peer(ctx context.Context, site cloud.Site) (*Provider, error) {
	if site.Provider != "aws" && site.Provider != "" {
		return nil, cloud.E(cloud.Unsupported, "Copy", "site "+site.Name, "site "+p.site.Name+" copies from sites of AWS only",
			"copy by blocks with an agent", nil)
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if other, ok := p.peers[site]; ok {
		return other, nil
	}
	other, err := Open(ctx, site, p.options)
	if err != nil {
		return nil, err
	}
	p.peers[site] = other
	return other, nil
}

// account gives the number of the account that this site is in.
func (p *Provider) account(ctx context.Context) (string, error) {
	p.mu.Lock()
	known := p.accounts
	p.mu.Unlock()
	if known != "" {
		return known, nil
	}
	if p.site.Account != "" {
		return p.site.Account, nil
	}
	out, err := p.sts().GetCallerIdentity(ctx, &sts.GetCallerIdentityInput{})
	if err != nil {
		return "", awsError("Account", "site "+p.site.Name, err)
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	p.accounts = awssdk.ToString(out.Account)
	return p.accounts, nil
}
