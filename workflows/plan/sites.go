package plan

import (
	"cmp"
	"fmt"
	"regexp"
	"strings"
)

// Providers of sites.
const (
	ProviderLocal = "local"
	ProviderAWS   = "aws"
)

func (p *Plan) checkSites(es *Errors) {
	dirs := firsts{}
	for i, s := range p.Spec.Sites {
		key := fmt.Sprintf("spec.sites[%d]", i)
		switch s.Provider {
		case ProviderLocal:
			p.checkLocalSite(es, key, s)
			if at, twice := dirs.seen(s.Directory, i); twice {
				p.fault(es, key+".directory", "give each site a directory of its own",
					"%s is already the directory of spec.sites[%d]", quoted(s.Directory), at)
			}
		case ProviderAWS:
			p.checkAWSSite(es, key, s)
		}
	}
}

func (p *Plan) checkLocalSite(es *Errors, key string, s Site) {
	if s.Directory == "" {
		p.fault(es, key+".directory", "add the directory that holds the site, for example sites/"+label(s.Name, "primary"), "a local site needs a directory")
	}
	for _, no := range []struct{ key, what, value string }{
		{".account", "account", s.Account}, {".region", "region", s.Region}, {".role", "role", s.Role},
		{".externalId", "external ID", s.ExternalID}, {".bucket", "bucket", s.Bucket}, {".vpc", "VPC", s.VPC},
	} {
		if no.value != "" {
			p.fault(es, key+no.key, "take it out", "a local site has no %s", no.what)
		}
	}
}

// The forms of AWS's names. Sources: "Viewing AWS account identifiers" (12 digits); the list of regions
// and zones of the EC2 user guide (a zone is its region and a letter, local zones have more between);
// "General purpose bucket naming rules" of S3; "IAM identifiers" (ARN of a role).
var (
	awsAccount  = regexp.MustCompile(`^[0-9]{12}$`)
	awsRegion   = regexp.MustCompile(`^[a-z]{2,3}(-[a-z]+)+-[0-9]{1,2}$`)
	awsZone     = regexp.MustCompile(`^(-[a-z0-9]+)*[a-z]$`) // behind the region
	awsBucket   = regexp.MustCompile(`^[a-z0-9][a-z0-9.-]{1,61}[a-z0-9]$`)
	awsVPC      = regexp.MustCompile(`^vpc-[0-9a-f]{8,17}$`)
	awsRole     = regexp.MustCompile(`^arn:aws[a-z-]*:iam::([0-9]{12}):role/[!-~]{1,512}$`)
	awsExternal = regexp.MustCompile(`^[A-Za-z0-9_+=,.@:/-]+$`)
)

// checkAWSSite checks a zone of an AWS region.
func (p *Plan) checkAWSSite(es *Errors, key string, s Site) {
	if s.Directory != "" {
		p.fault(es, key+".directory", "take it out", "a site of AWS has no directory")
	}
	for _, need := range []struct {
		key, value, mend string
		form             *regexp.Regexp
	}{
		{".account", s.Account, `write the 12 digits of the account, in quotes, for example "123456789012"`, awsAccount},
		{".region", s.Region, "write the region, for example eu-central-1", awsRegion},
		{".bucket", s.Bucket, "name a bucket of the account in the region; Lifeboat keeps there what it has made and which recovery points there are", awsBucket},
	} {
		switch {
		case need.value == "":
			p.fault(es, key+need.key, need.mend, "a site of AWS needs it")
		case !need.form.MatchString(need.value):
			p.fault(es, key+need.key, need.mend, "%s is not one", quoted(need.value))
		}
	}
	zone, inRegion := strings.CutPrefix(s.Zone, s.Region)
	switch {
	case s.Zone == "":
		p.fault(es, key+".zone", "write the zone where servers and disks are made, for example "+cmp.Or(s.Region, "eu-central-1")+"a", "a site of AWS needs it")
	case s.Region != "" && (!inRegion || !awsZone.MatchString(zone)):
		p.fault(es, key+".zone", "write a zone of the region, for example "+s.Region+"a", "%s is no zone of region %s", quoted(s.Zone), quoted(s.Region))
	}
	if s.VPC != "" && !awsVPC.MatchString(s.VPC) {
		p.fault(es, key+".vpc", "write its identifier, for example vpc-0123456789abcdef0, or leave it out for the default one", "%s is no identifier of a VPC", quoted(s.VPC))
	}
	p.checkAWSRole(es, key, s)
}

func (p *Plan) checkAWSRole(es *Errors, key string, s Site) {
	const mend = "write its ARN, for example arn:aws:iam::123456789012:role/lifeboat"
	role := awsRole.FindStringSubmatch(s.Role)
	switch {
	case s.Role != "" && role == nil:
		p.fault(es, key+".role", mend, "%s is no ARN of a role", quoted(s.Role))
	case s.Role != "" && awsAccount.MatchString(s.Account) && role[1] != s.Account:
		p.fault(es, key+".role", "name a role of the site's account", "the role is one of account %s, the site is in account %s", role[1], s.Account)
	}
	switch {
	case s.ExternalID != "" && s.Role == "":
		p.fault(es, key+".externalId", "add the role that asks for it, or take it out", "there is an external ID but no role")
	case s.ExternalID != "" && (len(s.ExternalID) < 2 || len(s.ExternalID) > 1224 || !awsExternal.MatchString(s.ExternalID)):
		p.fault(es, key+".externalId", "write it as the role's trust policy has it", "%s is no external ID", quoted(s.ExternalID))
	}
}

// ParseCloud reads the account and region of a cloud from PROVIDER/ACCOUNT/REGION, as workers
// are told which they serve.
func ParseCloud(text string) (Site, error) {
	provider, rest, _ := strings.Cut(text, "/")
	account, region, _ := strings.Cut(rest, "/")
	if provider != ProviderAWS || !awsAccount.MatchString(account) || !awsRegion.MatchString(region) {
		return Site{}, fmt.Errorf("%q: write aws/ACCOUNT/REGION, for example aws/123456789012/eu-central-1", text)
	}
	return Site{Provider: provider, Account: account, Region: region}, nil
}

// checkApart refuses a pair of one zone: what takes one of its sites away takes the other, too.
func (p *Plan) checkApart(es *Errors, key string, pair SitePair) {
	var l lookup
	a, b := find(&l, "sites", p.Spec.Sites, pair.Primary), find(&l, "sites", p.Spec.Sites, pair.Recovery)
	if l.missing == "" && a.Provider == ProviderAWS && b.Provider == ProviderAWS && a.Region == b.Region && a.Zone == b.Zone && a.Zone != "" {
		p.fault(es, key, "use another zone or, better, another region",
			"sites %s and %s are one zone, %s: both would be lost together", quoted(a.Name), quoted(b.Name), a.Zone)
	}
}
