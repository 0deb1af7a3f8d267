package aws

import (
	"context"
	"regexp"
	"strings"

	awssdk "github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/kms"
	"github.com/aws/aws-sdk-go-v2/service/kms/types"

	"lifeboat/activities/cloud"
)

// keyID is the form of identifiers of keys, also of multi-Region ones.
var keyID = regexp.MustCompile(`^(?:[0-9a-f]{8}-(?:[0-9a-f]{4}-){3}[0-9a-f]{12}|mrk-[0-9a-f]{32})$`)

// keyName is how KMS wants to hear of a key: identifiers and ARNs as they are, all else is an alias.
func keyName(idOrAlias string) string {
	if keyID.MatchString(idOrAlias) || strings.HasPrefix(idOrAlias, "arn:") || strings.HasPrefix(idOrAlias, "alias/") {
		return idOrAlias
	}
	return "alias/" + idOrAlias
}

// Key finds a key of the site's region. A key can be used in its region only; one of another is NotFound.
func (p *Provider) Key(ctx context.Context, idOrAlias string) (cloud.Key, error) {
	const op = "Key"
	name := keyName(idOrAlias)
	out, err := p.kms().DescribeKey(ctx, &kms.DescribeKeyInput{KeyId: &name})
	if err != nil {
		return cloud.Key{}, awsError(op, "key "+idOrAlias, err)
	}
	m := out.KeyMetadata
	k := cloud.Key{Resource: cloud.Resource{ID: awssdk.ToString(m.Arn), State: cloud.Available, Created: awssdk.ToTime(m.CreationDate).UTC()}, Enabled: m.Enabled}
	if strings.HasPrefix(name, "alias/") {
		k.Name = strings.TrimPrefix(name, "alias/")
	}
	if arn := strings.Split(k.ID, ":"); len(arn) > 3 {
		k.Region = arn[3]
	}
	if m.KeyState != types.KeyStateEnabled {
		k.Message = "the key is " + string(m.KeyState)
	}
	return k, nil
}

// CheckKey tries what EBS does with a key: it makes a data key, and asks by a dry run whether that may be decrypted
// (https://docs.aws.amazon.com/ebs/latest/userguide/how-ebs-encryption-works.html). EBS also makes a grant; that
// is found out by the first volume.
func (p *Provider) CheckKey(ctx context.Context, id string) error {
	const op = "CheckKey"
	name, resource := keyName(id), "key "+id
	made, err := p.kms().GenerateDataKeyWithoutPlaintext(ctx, &kms.GenerateDataKeyWithoutPlaintextInput{KeyId: &name, KeySpec: types.DataKeySpecAes256})
	if err == nil {
		_, err = p.kms().Decrypt(ctx, &kms.DecryptInput{KeyId: &name, CiphertextBlob: made.CiphertextBlob, DryRun: awssdk.Bool(true)})
	}
	if apiCode(err) == "DryRunOperationException" {
		return nil
	}
	err = awsError(op, resource, err)
	if cloud.IsNotFound(err) { // as EBS would say it, hours later
		return cloud.E(cloud.Denied, op, resource, "there is no such key in region "+p.site.Region, mendKey, err)
	}
	return err
}
