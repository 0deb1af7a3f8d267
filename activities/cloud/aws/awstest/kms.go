package awstest

import (
	"crypto/aes"
	"crypto/cipher"
	"crypto/rand"
	"encoding/json"
	"fmt"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/kms"
	"github.com/aws/aws-sdk-go-v2/service/kms/types"
)

// kmsService is AWS Key Management Service: https://docs.aws.amazon.com/kms/latest/APIReference/
var kmsService = serve("kms", jsonWire{})

// kmsState are the keys of an account in a region.
type kmsState struct {
	keys    map[string]*kmsKey
	aliases map[string]*kmsKey
}

// kmsKey is a symmetric key.
type kmsKey struct {
	id, arn, description string
	created              time.Time
	managed              bool // by AWS
	disabled             bool
	material             []byte
}

func kmsOf(r *Region) *kmsState {
	s := part[kmsState](r)
	if s.keys == nil {
		s.keys, s.aliases = map[string]*kmsKey{}, map[string]*kmsKey{}
		// Every account has a key that AWS manages for EBS
		// (https://docs.aws.amazon.com/ebs/latest/userguide/ebs-encryption.html).
		k := s.add(r, "00000000-0000-4000-8000-"+r.Account, time.Now())
		k.managed, k.description = true, "Default key that protects my EBS volumes when no other key is defined"
		s.aliases["alias/aws/ebs"] = k
	}
	return s
}

func (s *kmsState) add(r *Region, id string, now time.Time) *kmsKey {
	k := &kmsKey{id: id, arn: "arn:aws:kms:" + r.Name + ":" + r.Account + ":key/" + id, created: now, material: make([]byte, 32)}
	rand.Read(k.material) //nolint:errcheck // it never fails
	s.keys[id] = k
	return k
}

// newKey makes a key. The lock is held.
func (c *Cloud) newKey(r *Region) *kmsKey {
	c.ids++
	return kmsOf(r).add(r, fmt.Sprintf("00000000-0000-4000-b000-%012x", c.ids), time.Now())
}

// Key makes a key in a region of an account, with an alias ("alias/…") unless that is empty, and gives its ARN.
func (c *Cloud) Key(account, region, alias string) string {
	c.mu.Lock()
	defer c.mu.Unlock()
	r := c.region(account, region)
	k := c.newKey(r)
	if alias != "" {
		kmsOf(r).aliases[alias] = k
	}
	return k.arn
}

// EnableKey switches a key on or off. It panics when there is no such key.
func (c *Cloud) EnableKey(arn string, on bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	f := strings.Split(arn, ":")
	if len(f) == 6 {
		if k := kmsOf(c.region(f[4], f[3])).keys[strings.TrimPrefix(f[5], "key/")]; k != nil {
			k.disabled = !on
			return
		}
	}
	panic("awstest: there is no key " + arn)
}

// findKey finds a key by identifier, alias or the ARN of either; a key is used in its own region only
// (https://docs.aws.amazon.com/kms/latest/developerguide/concepts.html#key-id). Keys of other accounts are
// not shared by any key policy of the double.
func findKey(r *Region, name string) (*kmsKey, error) {
	s, plain := kmsOf(r), name
	if strings.HasPrefix(name, "arn:") {
		f := strings.SplitN(name, ":", 6)
		switch {
		case len(f) != 6 || f[2] != "kms":
			return nil, fault("InvalidArnException", "%s is no ARN of a key", name)
		case f[3] != r.Name:
			return nil, fault("NotFoundException", "Invalid arn %s", f[3])
		case f[4] != r.Account:
			return nil, fault("AccessDeniedException", "The ciphertext refers to a customer master key that does not exist, does not exist in this region, or you are not allowed to access.")
		}
		plain = strings.TrimPrefix(f[5], "key/")
	}
	k := s.keys[plain]
	if strings.HasPrefix(plain, "alias/") {
		if k = s.aliases[plain]; k == nil {
			return nil, fault("NotFoundException", "Alias arn:aws:kms:%s:%s:%s is not found.", r.Name, r.Account, plain)
		}
	}
	if k == nil {
		return nil, fault("NotFoundException", "Key 'arn:aws:kms:%s:%s:key/%s' does not exist", r.Name, r.Account, plain)
	}
	return k, nil
}

// usable finds a key for a cryptographic operation
// (https://docs.aws.amazon.com/kms/latest/developerguide/key-state.html).
func usable(r *Region, name string) (*kmsKey, error) {
	k, err := findKey(r, name)
	if err == nil && k.disabled {
		return nil, &Error{Code: "DisabledException", Message: k.arn + " is disabled.", Status: 409}
	}
	return k, err
}

// keyState says for EBS whether a key can be used in a region.
func keyState(r *Region, key string) (arn, problem string) {
	k, err := usable(r, key)
	if err != nil {
		return "", err.Error()
	}
	return k.arn, ""
}

func (k *kmsKey) metadata() *types.KeyMetadata {
	m := &types.KeyMetadata{
		KeyId: aws.String(k.id), Arn: aws.String(k.arn), AWSAccountId: aws.String(strings.Split(k.arn, ":")[4]), CreationDate: aws.Time(k.created),
		Description: aws.String(k.description), Enabled: !k.disabled, KeyState: types.KeyStateEnabled, KeyManager: types.KeyManagerTypeCustomer,
		KeySpec: types.KeySpecSymmetricDefault, KeyUsage: types.KeyUsageTypeEncryptDecrypt, Origin: types.OriginTypeAwsKms, MultiRegion: aws.Bool(false),
		EncryptionAlgorithms: []types.EncryptionAlgorithmSpec{types.EncryptionAlgorithmSpecSymmetricDefault},
	}
	if k.disabled {
		m.KeyState = types.KeyStateDisabled
	}
	if k.managed {
		m.KeyManager = types.KeyManagerTypeAws
	}
	return m
}

// kmsDryRun answers a call that only asks whether it would be permitted
// (https://docs.aws.amazon.com/kms/latest/developerguide/testing-permissions.html).
func kmsDryRun(flag *bool) error {
	if aws.ToBool(flag) {
		return &Error{Code: "DryRunOperationException", Message: "The request would have succeeded, but the DryRun option is set.", Status: 412}
	}
	return nil
}

// seal encrypts under a key. A blob names its key, and is bound to its encryption context.
func (k *kmsKey) seal(plain []byte, context map[string]string) []byte {
	gcm := k.cipher()
	nonce := make([]byte, gcm.NonceSize())
	rand.Read(nonce) //nolint:errcheck // it never fails
	return gcm.Seal(append([]byte(k.id), nonce...), nonce, plain, contextBytes(context))
}

func (k *kmsKey) cipher() cipher.AEAD {
	block, err := aes.NewCipher(k.material)
	if err == nil {
		var gcm cipher.AEAD
		if gcm, err = cipher.NewGCM(block); err == nil {
			return gcm
		}
	}
	panic(err) // the material has the length of a key
}

func contextBytes(context map[string]string) []byte {
	if len(context) == 0 {
		return nil
	}
	b, err := json.Marshal(context) // keys are sorted
	if err != nil {
		panic(err) // texts can always be encoded
	}
	return b
}

// unseal decrypts a blob of this account and region (API_Decrypt.html).
func unseal(c *Call, in *kms.DecryptInput) (*kmsKey, []byte, error) {
	const idLength = 36
	invalid := fault("InvalidCiphertextException", "The ciphertext is damaged, of another key, region or encryption context.")
	if len(in.CiphertextBlob) < idLength {
		return nil, nil, invalid
	}
	id := string(in.CiphertextBlob[:idLength])
	k := kmsOf(c.Region).keys[id]
	if in.KeyId != nil {
		named, err := usable(c.Region, *in.KeyId)
		if err != nil {
			return nil, nil, err
		}
		if named != k {
			return nil, nil, fault("IncorrectKeyException", "The key ID in the request does not identify a CMK that can perform this operation.")
		}
	}
	if k == nil {
		return nil, nil, fault("AccessDeniedException", "The ciphertext refers to a customer master key that does not exist, does not exist in this region, or you are not allowed to access.")
	}
	if _, err := usable(c.Region, id); err != nil {
		return nil, nil, err
	}
	gcm, rest := k.cipher(), in.CiphertextBlob[idLength:]
	if len(rest) < gcm.NonceSize() {
		return nil, nil, invalid
	}
	plain, err := gcm.Open(nil, rest[:gcm.NonceSize()], rest[gcm.NonceSize():], contextBytes(in.EncryptionContext))
	if err != nil {
		return nil, nil, invalid
	}
	return k, plain, kmsDryRun(in.DryRun)
}

// dataKey makes a data key and gives it under a key (API_GenerateDataKeyWithoutPlaintext.html).
func dataKey(c *Call, in *kms.GenerateDataKeyWithoutPlaintextInput) (*kms.GenerateDataKeyWithoutPlaintextOutput, error) {
	if (in.NumberOfBytes == nil) == (in.KeySpec == "") {
		return nil, fault("ValidationException", "Please specify either number of bytes or key spec.")
	}
	n := map[types.DataKeySpec]int{types.DataKeySpecAes128: 16, types.DataKeySpecAes256: 32}[in.KeySpec]
	if in.NumberOfBytes != nil {
		n = int(*in.NumberOfBytes)
	}
	if n < 1 || n > 1024 {
		return nil, fault("ValidationException", "1 validation error detected: Value '%d' at 'numberOfBytes' failed to satisfy constraint: Member must have value between 1 and 1024", n)
	}
	k, err := usable(c.Region, aws.ToString(in.KeyId))
	if err != nil {
		return nil, err
	}
	if err := kmsDryRun(in.DryRun); err != nil {
		return nil, err
	}
	plain := make([]byte, n)
	rand.Read(plain) //nolint:errcheck // it never fails
	return &kms.GenerateDataKeyWithoutPlaintextOutput{KeyId: aws.String(k.arn), CiphertextBlob: k.seal(plain, in.EncryptionContext)}, nil
}

// listAliases pages through the aliases, all or those of a key (API_ListAliases.html).
func listAliases(c *Call, in *kms.ListAliasesInput) (*kms.ListAliasesOutput, error) {
	s := kmsOf(c.Region)
	names := sortedKeys(s.aliases)
	if in.KeyId != nil {
		k, err := findKey(c.Region, *in.KeyId)
		if err != nil {
			return nil, err
		}
		names = slices.DeleteFunc(names, func(n string) bool { return s.aliases[n] != k })
	}
	limit := cmpOr(in.Limit, 50)
	if c.PageSize > 0 {
		limit = min(limit, c.PageSize)
	}
	from, err := strconv.Atoi("0" + aws.ToString(in.Marker))
	if err != nil || from > len(names) {
		return nil, fault("InvalidMarkerException", "The marker %s is not valid.", aws.ToString(in.Marker))
	}
	out := &kms.ListAliasesOutput{Aliases: []types.AliasListEntry{}}
	for i, n := range names[from:] {
		if i == limit {
			out.Truncated, out.NextMarker = true, aws.String(strconv.Itoa(from+i))
			break
		}
		k := s.aliases[n]
		out.Aliases = append(out.Aliases, types.AliasListEntry{AliasName: aws.String(n), AliasArn: aws.String("arn:aws:kms:" + c.Name + ":" + c.Region.Account + ":" + n),
			TargetKeyId: aws.String(k.id), CreationDate: aws.Time(k.created), LastUpdatedDate: aws.Time(k.created)})
	}
	return out, nil
}

// cmpOr is what a pointer leads to, or a default.
func cmpOr(n *int32, otherwise int) int {
	if n == nil {
		return otherwise
	}
	return int(*n)
}

var aliasName = regexp.MustCompile(`^alias/[a-zA-Z0-9/_-]+$`)

func init() {
	on(kmsService, "CreateKey", func(c *Call, in *kms.CreateKeyInput) (*kms.CreateKeyOutput, error) {
		if (in.KeySpec != "" && in.KeySpec != types.KeySpecSymmetricDefault) || (in.KeyUsage != "" && in.KeyUsage != types.KeyUsageTypeEncryptDecrypt) {
			return nil, fault("UnsupportedOperationException", "This double has symmetric keys for encryption only.")
		}
		k := c.newKey(c.Region)
		k.description = aws.ToString(in.Description)
		return &kms.CreateKeyOutput{KeyMetadata: k.metadata()}, nil
	})
	on(kmsService, "DescribeKey", func(c *Call, in *kms.DescribeKeyInput) (*kms.DescribeKeyOutput, error) {
		k, err := findKey(c.Region, aws.ToString(in.KeyId))
		if err != nil {
			return nil, err
		}
		return &kms.DescribeKeyOutput{KeyMetadata: k.metadata()}, nil
	})
	on(kmsService, "DisableKey", func(c *Call, in *kms.DisableKeyInput) (*kms.DisableKeyOutput, error) {
		k, err := findKey(c.Region, aws.ToString(in.KeyId))
		if err == nil {
			k.disabled = true
		}
		return &kms.DisableKeyOutput{}, err
	})
	on(kmsService, "CreateAlias", func(c *Call, in *kms.CreateAliasInput) (*kms.CreateAliasOutput, error) {
		s, name := kmsOf(c.Region), aws.ToString(in.AliasName)
		if !aliasName.MatchString(name) || strings.HasPrefix(name, "alias/aws/") {
			return nil, fault("InvalidAliasNameException", "%s is no name for an alias", name)
		}
		if s.aliases[name] != nil {
			return nil, fault("AlreadyExistsException", "An alias with the name arn:aws:kms:%s:%s:%s already exists", c.Name, c.Region.Account, name)
		}
		k, err := findKey(c.Region, aws.ToString(in.TargetKeyId))
		if err != nil {
			return nil, err
		}
		s.aliases[name] = k
		return &kms.CreateAliasOutput{}, nil
	})
	on(kmsService, "ListAliases", listAliases)
}

func init() {
	on(kmsService, "Encrypt", func(c *Call, in *kms.EncryptInput) (*kms.EncryptOutput, error) {
		if n := len(in.Plaintext); n < 1 || n > 4096 {
			return nil, fault("ValidationException", "1 validation error detected: Value at 'plaintext' failed to satisfy constraint: Member must have length between 1 and 4096")
		}
		k, err := usable(c.Region, aws.ToString(in.KeyId))
		if err == nil {
			err = kmsDryRun(in.DryRun)
		}
		if err != nil {
			return nil, err
		}
		return &kms.EncryptOutput{KeyId: aws.String(k.arn), CiphertextBlob: k.seal(in.Plaintext, in.EncryptionContext),
			EncryptionAlgorithm: types.EncryptionAlgorithmSpecSymmetricDefault}, nil
	})
	on(kmsService, "Decrypt", func(c *Call, in *kms.DecryptInput) (*kms.DecryptOutput, error) {
		k, plain, err := unseal(c, in)
		if err != nil {
			return nil, err
		}
		return &kms.DecryptOutput{KeyId: aws.String(k.arn), Plaintext: plain, EncryptionAlgorithm: types.EncryptionAlgorithmSpecSymmetricDefault}, nil
	})
	on(kmsService, "GenerateDataKeyWithoutPlaintext", dataKey)
	keyProblem = keyState
}
