package aws

import (
	"context"
	"errors"
	"fmt"
	"net/url"
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/aws/smithy-go"
	"github.com/stretchr/testify/require"

	"lifeboat/activities/cloud"
)

// TestErrorsOfTheAPIAreClassified goes through the table of docs/provider-contract.md, and more.
func TestErrorsOfTheAPIAreClassified(t *testing.T) {
	t.Parallel()
	for code, want := range map[string]cloud.Code{
		"InvalidVolume.NotFound": cloud.NotFound, "InvalidInstanceID.NotFound": cloud.NotFound, "InvalidAMIID.Malformed": cloud.NotFound,
		"InvalidSnapshot.NotFound": cloud.NotFound, "NoSuchHostedZone": cloud.NotFound, "NoSuchKey": cloud.NotFound, "NoSuchBucket": cloud.NotFound,
		"ResourceNotFoundException": cloud.NotFound, "InvocationDoesNotExist": cloud.NotFound, "NotFoundException": cloud.NotFound,
		"IdempotentParameterMismatch": cloud.TokenMismatch, "ConflictException": cloud.TokenMismatch, "HostedZoneAlreadyExists": cloud.TokenMismatch,
		"IncorrectInstanceState": cloud.Conflict, "IncorrectState": cloud.Conflict, "PriorRequestNotComplete": cloud.Conflict, "PreconditionFailed": cloud.Conflict,
		"VolumeInUse": cloud.InUse, "InvalidSnapshot.InUse": cloud.InUse, "DependencyViolation": cloud.InUse, "Resource.AlreadyAssociated": cloud.InUse,
		"RequestLimitExceeded": cloud.Throttled, "Throttling": cloud.Throttled, "ThrottlingException": cloud.Throttled, "SlowDown": cloud.Throttled,
		"ResourceLimitExceeded": cloud.Throttled, "RequestThrottledException": cloud.Throttled, "ConcurrentSnapshotLimitExceeded": cloud.Throttled,
		"InternalError": cloud.Unavailable, "ServiceUnavailable": cloud.Unavailable, "InternalServerException": cloud.Unavailable, "KMSInternalException": cloud.Unavailable,
		"InsufficientInstanceCapacity": cloud.Capacity, "InsufficientVolumeCapacity": cloud.Capacity, "InsufficientFreeAddressesInSubnet": cloud.Capacity,
		"VcpuLimitExceeded": cloud.Quota, "AddressLimitExceeded": cloud.Quota, "ServiceQuotaExceededException": cloud.Quota, "SnapshotLimitExceeded": cloud.Quota,
		"OptInRequired": cloud.Billing, "PendingVerification": cloud.Billing,
		"UnauthorizedOperation": cloud.Denied, "AccessDenied": cloud.Denied, "AccessDeniedException": cloud.Denied, "ExpiredToken": cloud.Denied,
		"KMSInvalidStateException": cloud.Denied, "DisabledException": cloud.Denied, "OperationNotPermitted": cloud.Denied,
		"InvalidIPAddress.InUse": cloud.AddressTaken, "InvalidAMIID.Unavailable": cloud.NotReady,
		"InvalidParameterValue": cloud.InvalidInput, "InvalidVolume.ZoneMismatch": cloud.InvalidInput, "InvalidChangeBatch": cloud.InvalidInput,
		"ValidationError": cloud.InvalidInput, "InvalidAMIName.Duplicate": cloud.InvalidInput, "SomethingNobodyKnows": cloud.InvalidInput,
		"DBInstanceNotFound": cloud.NotFound, "TargetGroupNotFound": cloud.NotFound, "FileSystemNotFound": cloud.NotFound, "DBSubnetGroupNotFoundFault": cloud.NotFound,
		"StackNotFoundException": cloud.NotFound, "InvalidDBInstanceState": cloud.Conflict, "InvalidDBSnapshotState": cloud.Conflict, "InvalidExportSourceState": cloud.Conflict,
		"IncorrectFileSystemLifeCycleState": cloud.Conflict, "ResourceContention": cloud.Conflict, "ScalingActivityInProgress": cloud.Conflict, "OperationInProgressException": cloud.Conflict,
		"FileSystemInUse": cloud.InUse, "ResourceInUse": cloud.InUse, "TokenAlreadyExistsException": cloud.TokenMismatch, "InsufficientCapabilitiesException": cloud.Denied,
		"TooManyTargets": cloud.Quota, "InstanceQuotaExceeded": cloud.Quota, "FileSystemLimitExceeded": cloud.Quota, "InsufficientDBInstanceCapacity": cloud.Capacity,
		"KMSKeyNotAccessibleFault": cloud.Denied, "DependencyFailureException": cloud.Unavailable, "DBInstanceAlreadyExists": cloud.InvalidInput,
		"Unsupported": cloud.Unsupported, "UnsupportedOperation": cloud.Unsupported,
	} {
		err := awsError("Call", "disk vol-1", fmt.Errorf("wrapped: %w", &smithy.GenericAPIError{Code: code, Message: "It is so."}))
		require.Equal(t, want, cloud.CodeOf(err), code)
		require.Equal(t, cloud.E(want, "", "", "", "", nil).Class, cloud.ClassOf(err), code)
		require.ErrorContains(t, err, "disk vol-1: It is so ("+code+")")
	}
	server := awsError("Call", "x", &smithy.GenericAPIError{Code: "SomethingNobodyKnows", Fault: smithy.FaultServer})
	require.Equal(t, cloud.Unavailable, cloud.CodeOf(server), "a fault of the service passes")
}

func TestErrorsFromElsewhereKeepTheirMeaning(t *testing.T) {
	t.Parallel()
	require.NoError(t, awsError("Call", "x", nil))
	own := notFound("Call", cloud.KindDisk, "vol-1")
	require.Same(t, own, awsError("Other", "y", own))
	for _, cause := range []error{context.Canceled, context.DeadlineExceeded} {
		err := awsError("Call", "x", &smithy.CanceledError{Err: cause})
		require.Equal(t, cloud.Unavailable, cloud.CodeOf(err))
		require.ErrorIs(t, err, cause)
	}
	lost := awsError("Call", "x", &url.Error{Op: "Get", URL: "https://s3.example/b/k?X-Amz-Signature=0123456789", Err: errors.New("connection reset by peer")})
	require.Equal(t, cloud.Retry, cloud.ClassOf(lost))
	require.ErrorContains(t, lost, "s3.example: connection reset by peer")
	require.NotContains(t, lost.Error(), "0123456789")
}

func TestMessagesHoldNoSecrets(t *testing.T) {
	t.Parallel()
	for _, message := range []string{
		"You are not authorized. Encoded authorization failure message: s3cr3t-0123456789",
		"bad url https://ec2.example/?X-Amz-Credential=s3cr3t&X-Amz-Signature=s3cr3t-0123456789&a=b",
		"X-Amz-Security-Token=s3cr3t is expired",
	} {
		require.NotContains(t, apiMessage("UnauthorizedOperation", message), "s3cr3t")
	}
	require.NotContains(t, apiMessage("SignatureDoesNotMatch", "The Canonical String was 's3cr3t'"), "s3cr3t")
	require.NotContains(t, apiMessage("InvalidAccessKeyId", "the key AKIAIOSFODNN7EXAMPLE is unknown"), "AKIAIOSFODNN7EXAMPLE")
	require.Less(t, len(apiMessage("X", strings.Repeat("ä", 5000))), 500)
}

// FuzzErrors: whatever a service answers, the error is one of the contract, short, printable and without signatures.
func FuzzErrors(f *testing.F) {
	f.Add("InvalidVolume.NotFound", "The volume 'vol-1' does not exist.")
	f.Add("", "no code")
	f.Add("*", "X-Amz-Signature=abc")
	f.Add(" ", " ")
	f.Add("Insufficient*Capacity", "\xff\x00ä")
	f.Fuzz(func(t *testing.T, code, message string) {
		err := awsError("Call", "disk vol-1", &smithy.GenericAPIError{Code: code, Message: message})
		var e *cloud.Error
		require.ErrorAs(t, err, &e)
		require.NotEmpty(t, e.Code)
		require.NotEmpty(t, e.Class)
		require.NotEmpty(t, e.Message)
		require.True(t, utf8.ValidString(e.Error()))
		require.LessOrEqual(t, len(e.Message), 2*messageMax+20)
		if _, value, ok := strings.Cut(e.Message, "X-Amz-Signature="); ok {
			require.True(t, strings.HasPrefix(value, "…") || value == "" || strings.ContainsAny(value[:1], "&\"'<> )"), e.Message)
		}
	})
}
