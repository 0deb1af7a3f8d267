package awstest

import (
	"net/http"
	"strings"
	"time"
)

// Request is one request that the double has seen.
type Request struct {
	Service, Region, Account, Operation string
	Host                                string // that the client meant
	Error                               string // code of the answer, if it was an error
	Time                                time.Time
}

// Requests lists what was asked so far.
func (c *Cloud) Requests() []Request {
	c.mu.Lock()
	defer c.mu.Unlock()
	return append([]Request(nil), c.requests...)
}

// ForgetRequests begins a new list.
func (c *Cloud) ForgetRequests() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.requests = nil
}

// Rule changes the answers to some requests. Empty fields match all.
type Rule struct {
	Service, Region, Account, Operation string
	// Times is how often the rule applies; 0 = always.
	Times int
	// Error is what is answered; with After the work is done first, and the answer is lost.
	Error *Error
	After bool
	// Drop breaks the connection instead of answering.
	Drop bool
	// Then is called, with the lock held, when the rule applies: a test may look, or kill.
	Then func(Request)
	used int
	// spared are services and operations ("ec2 RunInstances") that the rule does not apply to.
	spared map[string]bool
}

// Inject adds a rule; remove takes it away.
func (c *Cloud) Inject(r Rule) (remove func()) {
	c.mu.Lock()
	defer c.mu.Unlock()
	rule := &r
	c.rules = append(c.rules, rule)
	return func() {
		c.mu.Lock()
		defer c.mu.Unlock()
		for i, x := range c.rules {
			if x == rule {
				c.rules = append(c.rules[:i], c.rules[i+1:]...)
				return
			}
		}
	}
}

// match gives the first rule for a request, and counts it. The lock is held.
func (c *Cloud) match(r Request) *Rule {
	for _, x := range c.rules {
		fits := func(want, got string) bool { return want == "" || want == got }
		if !fits(x.Service, r.Service) || !fits(x.Region, r.Region) || !fits(x.Account, r.Account) || !fits(x.Operation, r.Operation) {
			continue
		}
		if x.Times > 0 && x.used >= x.Times || x.spared[r.Service+" "+r.Operation] {
			continue
		}
		x.used++
		if x.Then != nil {
			x.Then(r)
		}
		if x.spared != nil {
			return &Rule{Error: denied(r.Service, r.Service+":"+r.Operation)}
		}
		return x
	}
	return nil
}

// actionOperations are the operations that an IAM action permits, where they are not the one of its name
// (https://docs.aws.amazon.com/AmazonS3/latest/userguide/using-with-s3-policy-actions.html).
var actionOperations = map[string][]string{
	"s3:ListBucket":                 {"ListObjectsV2", "ListObjects", "HeadBucket"},
	"s3:ListAllMyBuckets":           {"ListBuckets"},
	"s3:GetObject":                  {"GetObject", "HeadObject"},
	"s3:PutObject":                  {"PutObject", "CopyObject", "CreateMultipartUpload", "UploadPart", "CompleteMultipartUpload"},
	"s3:DeleteObject":               {"DeleteObject", "DeleteObjects"},
	"s3:PutBucketPublicAccessBlock": {"PutPublicAccessBlock", "DeletePublicAccessBlock"},
	"s3:GetBucketPublicAccessBlock": {"GetPublicAccessBlock"},
}

// Deny takes a permission away from an account ("" = from all): an action of IAM, as "ec2:RunInstances", or
// "ec2:*" for all of a service. Requests are refused with the service's own error, dry runs too; permit takes
// the rule back. It panics when action is none.
func (c *Cloud) Deny(account, action string) (permit func()) {
	service, operations := operationsOf(action)
	var permits []func()
	for _, op := range operations {
		permits = append(permits, c.Inject(Rule{Service: service, Account: account, Operation: op, Error: denied(service, action)}))
	}
	return func() {
		for _, p := range permits {
			p()
		}
	}
}

// operationsOf gives the operations that an action permits, and the service as its requests are signed for; the
// operation "" is all. It panics when action is none.
func operationsOf(action string) (service string, operations []string) {
	prefix, name, ok := strings.Cut(action, ":")
	if !ok || prefix == "" || name == "" {
		panic("awstest: " + action + " is no action: SERVICE:OPERATION")
	}
	operations = actionOperations[action]
	switch {
	case name == "*":
		operations = []string{""}
	case operations == nil:
		operations = []string{name}
	}
	if prefix == "cloudwatch" {
		prefix = "monitoring"
	}
	return prefix, operations
}

// Allow takes all permissions away from an account ("" = from all) but those for actions of IAM, each named without
// wildcards; lift takes the rule back. sts:GetCallerIdentity needs none
// (https://docs.aws.amazon.com/STS/latest/APIReference/API_GetCallerIdentity.html).
func (c *Cloud) Allow(account string, actions []string) (lift func()) {
	spared := map[string]bool{"sts GetCallerIdentity": true}
	for _, a := range actions {
		service, operations := operationsOf(a)
		for _, op := range operations {
			spared[service+" "+op] = true
		}
	}
	return c.Inject(Rule{Account: account, spared: spared})
}

// denied is how a service says that something is not permitted: the page "Common Errors" of its API reference.
func denied(service, action string) *Error {
	e := &Error{Code: "AccessDenied", Message: "User is not authorized to perform: " + action, Status: http.StatusForbidden}
	switch service {
	case "ec2":
		e.Code, e.Message = "UnauthorizedOperation", "You are not authorized to perform this operation. User is not authorized to perform: "+action
	case "s3":
		e.Message = "Access Denied"
	case "sns":
		e.Code = "AuthorizationError"
	case "ssm", "kms":
		e.Code, e.Status = "AccessDeniedException", http.StatusBadRequest
	case "ebs", "monitoring", "backup", "elasticfilesystem":
		e.Code = "AccessDeniedException"
	}
	return e
}
