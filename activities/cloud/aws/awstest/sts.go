package awstest

import (
	"fmt"
	"hash/crc64"
	"regexp"
	"strings"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/sts"
	"github.com/aws/aws-sdk-go-v2/service/sts/types"
)

// stsService is AWS Security Token Service: https://docs.aws.amazon.com/STS/latest/APIReference/
var stsService = serve("sts", queryWire{})

// stsState is all that the double knows of roles and sessions, of all accounts and regions.
type stsState struct {
	roles    map[string]string // external identifier by ARN of the role
	sessions map[string]stsSession
}

// stsSession is an assumed role, known by its access key.
type stsSession struct {
	arn, id string
	expires time.Time
}

// stsOf gives the state. The lock is held.
func (c *Cloud) stsOf() *stsState {
	s := part[stsState](c.region("", "sts"))
	if s.roles == nil {
		s.roles, s.sessions = map[string]string{}, map[string]stsSession{}
	}
	return s
}

// Role declares a role that everybody may assume who knows its external identifier ("" = none is asked for).
// The keys of its sessions belong to the account in the ARN. It panics when arn is no ARN of a role.
func (c *Cloud) Role(arn, externalID string) {
	if !roleARN.MatchString(arn) {
		panic("awstest: " + arn + " is no ARN of a role: arn:aws:iam::ACCOUNT:role/NAME")
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.stsOf().roles[arn] = externalID
}

var (
	roleARN     = regexp.MustCompile(`^arn:aws:iam::(\d{12}):role/(?:[\w+=,.@/-]*/)?([\w+=,.@-]{1,64})$`)
	sessionName = regexp.MustCompile(`^[\w+=,.@-]{2,64}$`)
)

// assumeRole makes credentials of a role (API_AssumeRole.html). Who names a role that is not there, or not
// the external identifier that its trust policy asks for, is told no more than AccessDenied
// (https://docs.aws.amazon.com/IAM/latest/UserGuide/id_roles_common-scenarios_third-party.html).
func assumeRole(c *Call, in *sts.AssumeRoleInput) (*sts.AssumeRoleOutput, error) {
	arn, name := aws.ToString(in.RoleArn), aws.ToString(in.RoleSessionName)
	g := roleARN.FindStringSubmatch(arn)
	duration := time.Hour
	if in.DurationSeconds != nil {
		duration = time.Duration(*in.DurationSeconds) * time.Second
	}
	switch {
	case g == nil:
		return nil, fault("ValidationError", "%s is invalid", arn)
	case !sessionName.MatchString(name):
		return nil, fault("ValidationError", "1 validation error detected: Value '%s' at 'roleSessionName' failed to satisfy constraint: Member must satisfy regular expression pattern: [\\w+=,.@-]*", name)
	case duration < 15*time.Minute || duration > 12*time.Hour:
		return nil, fault("ValidationError", "1 validation error detected: Value '%d' at 'durationSeconds' failed to satisfy constraint: Member must have value between 900 and 43200", *in.DurationSeconds)
	}
	s := c.stsOf()
	if want, ok := s.roles[arn]; !ok || want != aws.ToString(in.ExternalId) {
		who, _ := c.identity()
		return nil, &Error{Code: "AccessDenied", Status: 403, Message: "User: " + who + " is not authorized to perform: sts:AssumeRole on resource: " + arn}
	}
	c.ids++
	key, role := fmt.Sprintf("ASIA%016X", 0xf0000000000+c.ids), fmt.Sprintf("AROA%016X", crc64.Checksum([]byte(arn), crc64.MakeTable(crc64.ISO)))
	session := stsSession{arn: "arn:aws:sts::" + g[1] + ":assumed-role/" + g[2] + "/" + name, id: role + ":" + name, expires: c.Now.Add(duration)}
	s.sessions[key] = session
	c.accounts[key] = &Account{ID: g[1]}
	return &sts.AssumeRoleOutput{
		AssumedRoleUser: &types.AssumedRoleUser{Arn: aws.String(session.arn), AssumedRoleId: aws.String(session.id)},
		Credentials: &types.Credentials{AccessKeyId: aws.String(key), SecretAccessKey: aws.String(strings.Repeat("s", 40)),
			SessionToken: aws.String("token-of-" + key), Expiration: aws.Time(session.expires)},
	}, nil
}

// identity is who signed a request.
func (c *Call) identity() (arn, id string) {
	signed, _ := scopeOf(c.HTTP)
	if s, ok := c.stsOf().sessions[signed.key]; ok {
		return s.arn, s.id
	}
	return "arn:aws:iam::" + c.Region.Account + ":user/" + signed.key, "AIDA" + signed.key
}

// ExpireSessions lets the credentials of all roles that were assumed so far run out.
func (c *Cloud) ExpireSessions() {
	c.mu.Lock()
	defer c.mu.Unlock()
	s := c.stsOf()
	for k, session := range s.sessions {
		session.expires = time.Time{}
		s.sessions[k] = session
	}
}

// expired is a rule that refuses what is signed with credentials that ran out, each service in its way
// (https://docs.aws.amazon.com/AmazonS3/latest/API/ErrorResponses.html,
// https://docs.aws.amazon.com/AWSEC2/latest/APIReference/errors-overview.html, and the "Common Errors" of the others);
// nil for all else. The lock is held.
func (c *Cloud) expired(signed scope) *Rule {
	s, ok := c.stsOf().sessions[signed.key]
	if !ok || time.Now().Before(s.expires) {
		return nil
	}
	e := &Error{Code: "ExpiredTokenException", Message: "The security token included in the request is expired"}
	switch signed.service {
	case "ec2":
		e.Code, e.Message = "RequestExpired", "Request has expired."
	case "s3":
		e.Code, e.Message = "ExpiredToken", "The provided token has expired."
	case "sts", "sns", "route53", "rds", "autoscaling", "elasticloadbalancing", "cloudformation":
		e.Code, e.Status = "ExpiredToken", 403
	}
	return &Rule{Error: e}
}

func init() {
	on(stsService, "AssumeRole", assumeRole)
	on(stsService, "GetCallerIdentity", func(c *Call, _ *sts.GetCallerIdentityInput) (*sts.GetCallerIdentityOutput, error) {
		arn, id := c.identity()
		return &sts.GetCallerIdentityOutput{Account: aws.String(c.Region.Account), Arn: aws.String(arn), UserId: aws.String(id)}, nil
	})
}
