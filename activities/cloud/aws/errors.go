package aws

import (
	"cmp"
	"context"
	"errors"
	"net/url"
	"regexp"
	"strings"
	"unicode/utf8"

	"github.com/aws/smithy-go"

	"lifeboat/activities/cloud"
)

// cause says what the code of an API's error means to the contract. A pattern is a code, or
// the beginning or end of one with a star in place of the rest.
type cause struct {
	pattern string
	code    cloud.Code
	mend    string
}

// Mends that several codes share.
const (
	mendKey     = "let the role of this site use the key (kms:Encrypt, Decrypt, GenerateDataKey*, ReEncrypt*, CreateGrant, DescribeKey), and check that it is enabled and of this region"
	mendRole    = "give the role of this site the permission (docs: IAM policies), or look for a policy of the organisation that denies it"
	mendLogin   = "check the credentials of this worker, and the role and external ID of the site"
	mendQuota   = "ask AWS for a higher quota (Service Quotas), or free what is not used"
	mendRoom    = "give substitutes for the instance type, another zone, or a capacity reservation"
	mendBill    = "look at the account in the AWS console: it has to be activated, verified or paid"
	mendSupport = "write to AWS Support: the account is held back"
)

// causes is the one table from codes of EC2, EBS direct, Route 53, SSM, S3, KMS, STS, SNS and
// CloudWatch to the contract's. The first pattern that fits counts. The status of HTTP decides
// nothing: a shortage is 500, a quota 402.
// Sources: https://docs.aws.amazon.com/AWSEC2/latest/APIReference/errors-overview.html and the
// error sections of the operations of the other services.
var causes = []cause{
	// What looks like other codes, and is not.
	{"IdempotentParameterMismatch*", cloud.TokenMismatch, ""},
	{"TokenAlreadyExists*", cloud.TokenMismatch, ""}, // CloudFormation
	{"ConflictException", cloud.TokenMismatch, ""},   // EBS direct: StartSnapshot
	{"HostedZoneAlreadyExists", cloud.TokenMismatch, ""},
	{"InvalidAMIID.Unavailable", cloud.NotReady, "wait until the image is available"},
	{"InvalidIPAddress.InUse", cloud.AddressTaken, "choose another private address, or end the server that has it"},
	{"PrivateIpAddressLimitExceeded", cloud.InvalidInput, ""},
	{"InvalidAddress.Locked", cloud.Denied, mendSupport},

	// Too much at once: it passes by itself.
	{"ResourceLimitExceeded", cloud.Throttled, "20 copies of snapshots run at once in a region: this one waits for its turn"},
	{"PendingSnapshotLimitExceeded", cloud.Throttled, ""},
	{"ConcurrentSnapshotLimitExceeded", cloud.Throttled, ""},
	{"ConcurrentLimitExceededException", cloud.Throttled, ""},
	{"SnapshotCreationPerVolumeRateExceeded", cloud.Throttled, ""},
	{"RequestLimitExceeded", cloud.Throttled, ""},
	{"RequestThrottled*", cloud.Throttled, ""},
	{"Throttl*", cloud.Throttled, ""},
	{"SlowDown", cloud.Throttled, ""},
	{"TooManyRequests*", cloud.Throttled, ""},
	{"EC2ThrottledException", cloud.Throttled, ""},
	{"BandwidthLimitExceeded", cloud.Throttled, ""},
	{"ConcurrentTagAccess", cloud.Throttled, ""},

	// Permission, identity, keys.
	{"UnauthorizedOperation", cloud.Denied, mendRole},
	{"AccessDenied*", cloud.Denied, mendRole},
	{"AuthorizationError*", cloud.Denied, mendRole},
	{"OperationNotPermitted", cloud.Denied, "if it is protected against termination or stopping, switch the protection off"},
	{"AuthFailure", cloud.Denied, mendLogin},
	{"ExpiredToken*", cloud.Denied, mendLogin},
	{"RequestExpired", cloud.Denied, "set the clock of this machine"},
	{"RequestTimeTooSkewed", cloud.Denied, "set the clock of this machine"},
	{"InvalidClientTokenId", cloud.Denied, mendLogin},
	{"InvalidAccessKeyId", cloud.Denied, mendLogin},
	{"MissingAuthenticationToken*", cloud.Denied, mendLogin},
	{"UnrecognizedClientException", cloud.Denied, mendLogin},
	{"SignatureDoesNotMatch", cloud.Denied, mendLogin},
	{"IncompleteSignature*", cloud.Denied, mendLogin},
	{"InsufficientCapabilities*", cloud.Denied, "let the role of this site use the stack's capabilities"},
	{"IDPCommunicationError", cloud.Unavailable, ""},
	{"KMSInternalException", cloud.Unavailable, ""},
	{"KMS*", cloud.Denied, mendKey},
	{"InvalidKMSKey*", cloud.Denied, mendKey},
	{"DisabledException", cloud.Denied, mendKey},
	{"KeyUnavailableException", cloud.Unavailable, ""},
	{"DependencyTimeoutException", cloud.Unavailable, ""},
	{"InvalidKeyUsageException", cloud.InvalidInput, "choose a symmetric key for encryption"},

	// The account.
	{"OptInRequired", cloud.Billing, mendBill},
	{"PendingVerification", cloud.Billing, mendBill},
	{"NotSignedUp", cloud.Billing, mendBill},
	{"Blocked", cloud.Billing, mendSupport},
	{"AccountProblem", cloud.Billing, mendBill},

	// No room.
	{"InsufficientFreeAddressesInSubnet", cloud.Capacity, "use a larger subnet, or free addresses in this one"},
	{"Insufficient*Capacity", cloud.Capacity, mendRoom},
	{"InsufficientCapacity*", cloud.Capacity, mendRoom},
	{"InsufficientInstanceCapacity*", cloud.Capacity, mendRoom},
	{"ReservationCapacityExceeded", cloud.Capacity, mendRoom},

	// Limits of the account.
	{"*LimitExceeded", cloud.Quota, mendQuota},
	{"*LimitExceededException", cloud.Quota, mendQuota},
	{"ServiceQuotaExceeded*", cloud.Quota, mendQuota},
	{"*QuotaExceeded*", cloud.Quota, mendQuota},
	{"TooManyTargets", cloud.Quota, mendQuota},
	{"TooManyRegistrationsForTargetId", cloud.Quota, mendQuota},
	{"TooManyBuckets", cloud.Quota, mendQuota},
	{"TooManyHostedZones", cloud.Quota, mendQuota},
	{"TooManyHealthChecks", cloud.Quota, mendQuota},

	// Something else is under way, or the state is another one.
	{"IncorrectInstanceState", cloud.Conflict, ""},
	{"IncorrectState*", cloud.Conflict, ""},
	{"IncorrectModificationState", cloud.Conflict, ""},
	{"InvalidState*", cloud.Conflict, ""},
	{"PriorRequestNotComplete", cloud.Conflict, ""},
	{"ConcurrentModification*", cloud.Conflict, ""},
	{"InvalidDB*State*", cloud.Conflict, ""},                  // RDS
	{"InvalidExport*State*", cloud.Conflict, ""},              // RDS
	{"IncorrectFileSystemLifeCycleState", cloud.Conflict, ""}, // EFS
	{"ResourceContention*", cloud.Conflict, ""},               // Auto Scaling
	{"ScalingActivityInProgress*", cloud.Conflict, ""},
	{"OperationInProgress*", cloud.Conflict, ""}, // CloudFormation
	{"PreconditionFailed", cloud.Conflict, ""},
	{"ConditionalRequestConflict", cloud.Conflict, ""},
	{"OperationAborted", cloud.Conflict, ""},

	// In use.
	{"FileSystemInUse", cloud.InUse, "delete its mount targets and its replication first"},
	{"ResourceInUse*", cloud.InUse, ""},
	{"VolumeInUse", cloud.InUse, "detach it first"},
	{"InvalidSnapshot.InUse", cloud.InUse, "delete the image that it belongs to first"},
	{"DependencyViolation", cloud.InUse, "delete what is in it first"},
	{"Resource.AlreadyAssociated", cloud.InUse, ""},
	{"HostedZoneNotEmpty", cloud.InUse, ""},
	{"HealthCheckInUse", cloud.InUse, ""},
	{"BucketNotEmpty", cloud.InUse, ""},
	{"*.InUse", cloud.InUse, ""},

	// Not there. An identifier of another form than those of its kind names nothing.
	{"*.NotFound", cloud.NotFound, ""},
	{"*.Malformed", cloud.NotFound, ""},
	{"InvalidID", cloud.NotFound, ""},
	{"NoSuch*", cloud.NotFound, ""},
	{"*NotFound", cloud.NotFound, ""}, // RDS, ELB, EFS
	{"*NotFoundFault", cloud.NotFound, ""},
	{"*NotFoundException", cloud.NotFound, ""},
	{"ResourceNotFound*", cloud.NotFound, ""},
	{"InvocationDoesNotExist", cloud.NotFound, ""},
	{"InvalidCommandId", cloud.NotFound, ""},
	{"InvalidInstanceId", cloud.NotFound, ""}, // SSM: unknown, or its agent never was there

	// The service.
	{"InternalError*", cloud.Unavailable, ""},
	{"InternalFailure", cloud.Unavailable, ""},
	{"InternalServer*", cloud.Unavailable, ""},
	{"ServiceUnavailable*", cloud.Unavailable, ""},
	{"Unavailable", cloud.Unavailable, ""},
	{"RequestTimeout*", cloud.Unavailable, ""},
	{"DependencyFailure*", cloud.Unavailable, ""},
	{"ServerInternal", cloud.Unavailable, ""},

	// The request.
	{"Unsupported*", cloud.Unsupported, ""},
	{"NotImplemented", cloud.Unsupported, ""},
	{"InvalidAction", cloud.Unsupported, ""},
	{"*", cloud.InvalidInput, ""},
}

// fits tells whether a pattern of the table fits a code.
func (c cause) fits(code string) bool {
	parts := strings.Split(c.pattern, "*")
	if len(parts) == 1 {
		return c.pattern == code
	}
	if !strings.HasPrefix(code, parts[0]) {
		return false
	}
	code = code[len(parts[0]):]
	for _, p := range parts[1 : len(parts)-1] {
		_, rest, found := strings.Cut(code, p)
		if !found {
			return false
		}
		code = rest
	}
	return strings.HasSuffix(code, parts[len(parts)-1])
}

// causeOf finds the row of a code.
func causeOf(code string) cause {
	for _, c := range causes {
		if c.fits(code) {
			return c
		}
	}
	return causes[len(causes)-1]
}

// awsError turns what a call of the SDK returned into an error of the contract. op is the method of
// the contract, resource says what it is about ("disk vol-1"). Errors of the contract and nil pass.
func awsError(op, resource string, err error) error {
	var own *cloud.Error
	if err == nil || errors.As(err, &own) {
		return err
	}
	switch {
	case errors.Is(err, context.Canceled):
		return cloud.E(cloud.Unavailable, op, resource, "the call was cancelled", "", err)
	case errors.Is(err, context.DeadlineExceeded):
		return cloud.E(cloud.Unavailable, op, resource, "the call ran out of time", "", err)
	}
	var api smithy.APIError
	if !errors.As(err, &api) || api.ErrorCode() == "" {
		return cloud.E(cloud.Unavailable, op, resource, transportMessage(err), "look at the network between this worker and the region", err)
	}
	c := causeOf(api.ErrorCode())
	code := c.code
	if c.pattern == "*" && api.ErrorFault() == smithy.FaultServer {
		code = cloud.Unavailable
	}
	return cloud.E(code, op, resource, apiMessage(api.ErrorCode(), api.ErrorMessage()), c.mend, err)
}

// apiCode is the code of an API's error, or "".
func apiCode(err error) string {
	var api smithy.APIError
	if errors.As(err, &api) {
		return api.ErrorCode()
	}
	return ""
}

// Parts of messages that nobody should see, or that nobody can read.
var (
	secretParts = regexp.MustCompile(`(?i)(X-Amz-(?:Signature|Credential|Security-Token)|AWSAccessKeyId|Signature)=[^&\s"'<>]+`)
	accessKeys  = regexp.MustCompile(`\b(?:AKIA|ASIA)[A-Z0-9]{16}\b`)
	messageMax  = 400 // bytes
)

// apiMessage is the API's own message with its code, without secrets.
func apiMessage(code, message string) string {
	if code == "SignatureDoesNotMatch" { // the message repeats what was signed
		message = "the signature of the request is wrong"
	}
	message, _, _ = strings.Cut(message, "Encoded authorization failure message")
	message = clean(message)
	if code = cmp.Or(clean(code), "an error without a name"); message == "" {
		return code
	}
	return strings.TrimRight(message, ".") + " (" + code + ")"
}

// transportMessage says why a request had no answer. URLs may hold signatures: only the host is told.
func transportMessage(err error) string {
	var u *url.Error
	if errors.As(err, &u) {
		if at, parseErr := url.Parse(u.URL); parseErr == nil && at.Host != "" {
			return clean(at.Host + ": " + u.Err.Error())
		}
		return clean(u.Err.Error())
	}
	return clean(err.Error())
}

// clean makes a text of others safe and short.
func clean(s string) string {
	s = strings.Join(strings.Fields(strings.ToValidUTF8(s, "")), " ")
	s = secretParts.ReplaceAllString(s, "$1=…")
	s = accessKeys.ReplaceAllString(s, "an access key")
	if len(s) > messageMax {
		s = s[:messageMax]
		for !utf8.ValidString(s) {
			s = s[:len(s)-1]
		}
		s += "…"
	}
	return s
}

// notFound is the error for a resource that is not there.
func notFound(op string, kind cloud.Kind, id string) error {
	return cloud.E(cloud.NotFound, op, string(kind)+" "+id, "there is no such "+string(kind)+" at this site", "", nil)
}

// invalid is the error for a request that can never be right.
func invalid(op, resource, message, mend string) error {
	return cloud.E(cloud.InvalidInput, op, resource, message, mend, nil)
}
