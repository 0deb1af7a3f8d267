package awstest

import (
	"testing"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/credentials"
	"github.com/aws/aws-sdk-go-v2/service/ec2"
	"github.com/aws/aws-sdk-go-v2/service/kms"
	"github.com/aws/aws-sdk-go-v2/service/s3"
	"github.com/aws/aws-sdk-go-v2/service/sns"
	"github.com/aws/aws-sdk-go-v2/service/sts"
)

func TestRoleIsAssumedWithItsExternalID(t *testing.T) {
	t.Parallel()
	c := New(t, Options{})
	const arn = "arn:aws:iam::222222222222:role/recovery"
	c.Role(arn, "plan-7")
	client := sts.NewFromConfig(sdk(c, "eu-west-1", "key"))
	assume := func(role, externalID string) (*sts.AssumeRoleOutput, error) {
		return client.AssumeRole(t.Context(), &sts.AssumeRoleInput{RoleArn: &role, RoleSessionName: aws.String("lifeboat"), ExternalId: aws.String(externalID)})
	}
	_, err := assume(arn, "plan-8")
	wantCode(t, err, "AccessDenied")
	_, err = assume(arn+"-2", "plan-7")
	wantCode(t, err, "AccessDenied")
	out := must(assume(arn, "plan-7"))(t)
	config := sdk(c, "eu-west-1", "")
	config.Credentials = credentials.NewStaticCredentialsProvider(*out.Credentials.AccessKeyId, *out.Credentials.SecretAccessKey, *out.Credentials.SessionToken)
	who := must(sts.NewFromConfig(config).GetCallerIdentity(t.Context(), &sts.GetCallerIdentityInput{}))(t)
	if *who.Account != "222222222222" || *who.Arn != "arn:aws:sts::222222222222:assumed-role/recovery/lifeboat" {
		t.Errorf("the session is %s of %s", *who.Arn, *who.Account)
	}
	objects := s3.NewFromConfig(config)
	must(objects.ListBuckets(t.Context(), &s3.ListBucketsInput{}))(t)
	c.ExpireSessions()
	_, err = ec2.NewFromConfig(config).DescribeVolumes(t.Context(), &ec2.DescribeVolumesInput{})
	wantCode(t, err, "RequestExpired")
	_, err = objects.ListBuckets(t.Context(), &s3.ListBucketsInput{})
	wantCode(t, err, "ExpiredToken")
	who = must(client.GetCallerIdentity(t.Context(), &sts.GetCallerIdentityInput{}))(t)
	if *who.Account != "111111111111" {
		t.Errorf("the caller is of %s", *who.Account)
	}
}

func TestWhatIsDeniedIsRefusedWithTheServicesOwnError(t *testing.T) {
	t.Parallel()
	c := New(t, Options{})
	config := sdk(c, "eu-west-1", "key")
	bucket := newBucket(t, c, "eu-west-1", "ledger")
	topics, volumes, keys := sns.NewFromConfig(config), ec2.NewFromConfig(config), kms.NewFromConfig(config)
	key := c.Key("111111111111", "eu-west-1", "")
	for action, x := range map[string]struct {
		code string
		call func() error
	}{
		"ec2:CreateVolume": {"UnauthorizedOperation", func() error {
			_, err := volumes.CreateVolume(t.Context(), &ec2.CreateVolumeInput{AvailabilityZone: aws.String("eu-west-1a"), Size: aws.Int32(1), DryRun: aws.Bool(true)})
			return err
		}},
		"s3:ListBucket": {"AccessDenied", func() error {
			_, err := bucket.ListObjectsV2(t.Context(), &s3.ListObjectsV2Input{Bucket: aws.String("ledger")})
			return err
		}},
		"sns:*": {"AuthorizationError", func() error {
			_, err := topics.CreateTopic(t.Context(), &sns.CreateTopicInput{Name: aws.String("alerts")})
			return err
		}},
		"kms:Encrypt": {"AccessDeniedException", func() error {
			_, err := keys.Encrypt(t.Context(), &kms.EncryptInput{KeyId: &key, Plaintext: []byte("x")})
			return err
		}},
	} {
		c.Deny("333333333333", action) // another account's loss
		permit := c.Deny("111111111111", action)
		if got := refused(x.call()); got != x.code {
			t.Errorf("%s is refused with %q", action, got)
		}
		permit()
		if got := refused(x.call()); got == x.code {
			t.Errorf("%s is still refused", action)
		}
	}
}
