package awstest

import (
	"slices"
	"testing"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/kms"
	"github.com/aws/aws-sdk-go-v2/service/kms/types"
)

func TestKeysAreOfOneRegion(t *testing.T) {
	t.Parallel()
	c := New(t, Options{PageSize: 1})
	here, there := kms.NewFromConfig(sdk(c, "eu-west-1", "key")), kms.NewFromConfig(sdk(c, "eu-central-1", "key"))
	arn := c.Key("111111111111", "eu-west-1", "alias/dr")
	for _, id := range []string{arn, "alias/dr", "arn:aws:kms:eu-west-1:111111111111:alias/dr"} {
		k := must(here.DescribeKey(t.Context(), &kms.DescribeKeyInput{KeyId: &id}))(t)
		if *k.KeyMetadata.Arn != arn || !k.KeyMetadata.Enabled || k.KeyMetadata.KeyState != types.KeyStateEnabled {
			t.Errorf("%s is %+v", id, k.KeyMetadata)
		}
		_, err := there.DescribeKey(t.Context(), &kms.DescribeKeyInput{KeyId: &id})
		wantCode(t, err, "NotFoundException")
	}
	var names []string
	pages := kms.NewListAliasesPaginator(here, &kms.ListAliasesInput{})
	for pages.HasMorePages() {
		for _, a := range must(pages.NextPage(t.Context()))(t).Aliases {
			names = append(names, *a.AliasName)
		}
	}
	if !slices.Equal(names, []string{"alias/aws/ebs", "alias/dr"}) {
		t.Errorf("the aliases are %v", names)
	}
}

func TestKeysEncrypt(t *testing.T) {
	t.Parallel()
	c := New(t, Options{})
	client := kms.NewFromConfig(sdk(c, "eu-west-1", "key"))
	made := must(client.CreateKey(t.Context(), &kms.CreateKeyInput{Description: aws.String("for copies")}))(t)
	key := made.KeyMetadata.Arn
	must(client.CreateAlias(t.Context(), &kms.CreateAliasInput{AliasName: aws.String("alias/copies"), TargetKeyId: key}))(t)
	context := map[string]string{"disk": "root"}
	sealed := must(client.Encrypt(t.Context(), &kms.EncryptInput{KeyId: aws.String("alias/copies"), Plaintext: []byte("words"), EncryptionContext: context}))(t)
	open := func(blob []byte, context map[string]string) (*kms.DecryptOutput, error) {
		return client.Decrypt(t.Context(), &kms.DecryptInput{CiphertextBlob: blob, EncryptionContext: context})
	}
	if out := must(open(sealed.CiphertextBlob, context))(t); string(out.Plaintext) != "words" || *out.KeyId != *key {
		t.Errorf("%q came back, of key %s", out.Plaintext, *out.KeyId)
	}
	_, err := open(sealed.CiphertextBlob, nil)
	wantCode(t, err, "InvalidCiphertextException")
	_, err = open(sealed.CiphertextBlob[:40], context)
	wantCode(t, err, "InvalidCiphertextException")
	_, err = open([]byte("short"), context)
	wantCode(t, err, "InvalidCiphertextException")
}

func TestReadinessOfAKeyIsAskedByDryRun(t *testing.T) {
	t.Parallel()
	c := New(t, Options{})
	client := kms.NewFromConfig(sdk(c, "eu-west-1", "key"))
	key := c.Key("111111111111", "eu-west-1", "")
	ask := func(key string, dry bool) error {
		_, err := client.GenerateDataKeyWithoutPlaintext(t.Context(), &kms.GenerateDataKeyWithoutPlaintextInput{KeyId: &key, KeySpec: types.DataKeySpecAes256, DryRun: &dry})
		return err
	}
	wantCode(t, ask(key, true), "DryRunOperationException")
	wantCode(t, ask(key, false), "")
	c.EnableKey(key, false)
	wantCode(t, ask(key, true), "DisabledException")
	c.EnableKey(key, true)
	wantCode(t, ask("arn:aws:kms:us-east-1:111111111111:key/0", true), "NotFoundException")
	wantCode(t, ask("alias/absent", true), "NotFoundException")
}
