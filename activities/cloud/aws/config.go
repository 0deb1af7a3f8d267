package aws

import (
	"cmp"
	"context"
	"errors"
	"regexp"

	awssdk "github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/aws/retry"
	"github.com/aws/aws-sdk-go-v2/config"
	"github.com/aws/aws-sdk-go-v2/credentials/stscreds"
	"github.com/aws/aws-sdk-go-v2/service/ec2"
	"github.com/aws/aws-sdk-go-v2/service/sts"
	"github.com/aws/smithy-go"

	"lifeboat/activities/cloud"
)

// sessionName names the sessions of assumed roles in CloudTrail.
const sessionName = "lifeboat"

// zoneName is the form of the names of zones; the group is their region. Local zones
// (us-west-2-lax-1a) belong to the region at their beginning.
var zoneName = regexp.MustCompile(`^([a-z]{2}(?:-[a-z]+)+-\d+)(?:-[a-z]+-\d+)?[a-z]$`)

// regionOf gives the region of a site: its own, or that of its zone.
func regionOf(s cloud.Site) (string, error) {
	ofZone := ""
	if g := zoneName.FindStringSubmatch(s.Zone); g != nil {
		ofZone = g[1]
	}
	switch {
	case s.Region == "" && ofZone == "":
		return "", invalid("Open", "site "+s.Name, "an AWS site needs a region", `give it one, like "eu-central-1", or a zone like "eu-central-1a"`)
	case s.Region != "" && ofZone != "" && s.Region != ofZone:
		return "", invalid("Open", "site "+s.Name, "zone "+s.Zone+" is not in region "+s.Region, "make the two agree")
	}
	return cmp.Or(s.Region, ofZone), nil
}

// loadConfig reads the SDK's settings for a site. It makes no request: credentials are got when the
// first call needs them, a role from the STS endpoint of the site's own region.
func loadConfig(ctx context.Context, site cloud.Site, o Options) (awssdk.Config, error) {
	load := []func(*config.LoadOptions) error{
		config.WithRegion(site.Region),
		config.WithRetryer(newRetryer),
	}
	if o.Endpoint != "" {
		load = append(load, config.WithBaseEndpoint(o.Endpoint))
	}
	if o.Credentials != nil {
		load = append(load, config.WithCredentialsProvider(o.Credentials))
	}
	c, err := config.LoadDefaultConfig(ctx, load...)
	if err != nil {
		return c, cloud.E(cloud.InvalidInput, "Open", "site "+site.Name, "the settings of the AWS SDK cannot be read: "+clean(err.Error()),
			"check the environment (AWS_…) and ~/.aws/config", err)
	}
	if o.HTTP != nil { // not among the settings: AWS_CA_BUNDLE would be refused beside it
		c.HTTPClient = o.HTTP
	}
	if site.Role != "" {
		base := c.Copy()
		c.Credentials = awssdk.NewCredentialsCache(stscreds.NewAssumeRoleProvider(sts.NewFromConfig(base), site.Role,
			func(o *stscreds.AssumeRoleOptions) {
				o.RoleSessionName = sessionName
				if site.ExternalID != "" {
					o.ExternalID = &site.ExternalID
				}
			}))
	}
	return c, nil
}

// newRetryer is the SDK's own way of repeating requests (three attempts), but for a lack of capacity: it
// comes as HTTP 500, and is an answer.
func newRetryer() awssdk.Retryer {
	return retry.NewStandard(func(o *retry.StandardOptions) {
		o.Retryables = append([]retry.IsErrorRetryable{retry.IsErrorRetryableFunc(noCapacity)}, o.Retryables...)
	})
}

func noCapacity(err error) awssdk.Ternary {
	var api smithy.APIError
	if errors.As(err, &api) && causeOf(api.ErrorCode()).code == cloud.Capacity {
		return awssdk.FalseTernary
	}
	return awssdk.UnknownTernary
}

// once keeps the SDK from repeating a call that has no client token, unless it was refused for being one
// too many: an attempt whose answer was lost may have made something. Whoever called looks first.
func once(o *ec2.Options) {
	o.Retryer = retry.NewStandard(func(o *retry.StandardOptions) {
		o.Retryables = []retry.IsErrorRetryable{retry.RetryableErrorCode{Codes: retry.DefaultThrottleErrorCodes}}
	})
}
