package awstest

import (
	"net"
	"net/http"
	"net/http/httptest"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/route53"
	"github.com/aws/aws-sdk-go-v2/service/route53/types"
	"github.com/aws/aws-sdk-go-v2/service/s3"
	"github.com/miekg/dns"
)

func (n *names) health(config types.HealthCheckConfig) *types.HealthCheck {
	n.t.Helper()
	config.RequestInterval = aws.Int32(10)
	n.c.mu.Lock()
	reference := n.c.newID("reference")
	n.c.mu.Unlock()
	return must(n.client.CreateHealthCheck(n.t.Context(), &route53.CreateHealthCheckInput{CallerReference: &reference, HealthCheckConfig: &config}))(n.t).HealthCheck
}

func TestFailoverFollowsHealth(t *testing.T) {
	t.Parallel()
	n := newNames(t, Options{})
	var code atomic.Int32
	code.Store(200)
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path != "/health" {
			w.WriteHeader(404)
			return
		}
		w.WriteHeader(int(code.Load()))
	}))
	defer server.Close()
	host, port, _ := net.SplitHostPort(server.Listener.Addr().String())
	p := must(strconv.ParseInt(port, 10, 32))(t)
	check := n.health(types.HealthCheckConfig{Type: types.HealthCheckTypeHttp, IPAddress: &host, Port: aws.Int32(int32(p)), ResourcePath: aws.String("/health")})
	primary := failover(record(create, "www.example.com", types.RRTypeA, 60, "127.0.1.1"), "PRIMARY", check)
	n.change(primary, failover(record(create, "www.example.com", types.RRTypeA, 60, "127.0.1.2"), "SECONDARY", nil))
	leads := func(to string) {
		t.Helper()
		until(t, "www is "+to, func() bool { return n.ask("udp", "www.example.com.", dns.TypeA)[0] == to })
	}
	leads("127.0.1.1")
	code.Store(503)
	leads("127.0.1.2")
	status := must(n.client.GetHealthCheckStatus(t.Context(), &route53.GetHealthCheckStatusInput{HealthCheckId: check.Id}))(t)
	if got := *status.HealthCheckObservations[0].StatusReport.Status; got != "Failure: HTTP Status Code 503, Service Unavailable" {
		t.Errorf("the check says %q", got)
	}
	must(n.client.UpdateHealthCheck(t.Context(), &route53.UpdateHealthCheckInput{HealthCheckId: check.Id, Inverted: aws.Bool(true)}))(t)
	leads("127.0.1.1")
	must(n.client.UpdateHealthCheck(t.Context(), &route53.UpdateHealthCheckInput{HealthCheckId: check.Id, Inverted: aws.Bool(false), Disabled: aws.Bool(true)}))(t)
	leads("127.0.1.1")
	_, err := n.try(failover(record(create, "www.example.com", types.RRTypeA, 60, "127.0.1.3"), "SECONDARY", nil))
	wantCode(t, err, "InvalidChangeBatch")
	second := failover(record(create, "www.example.com", types.RRTypeA, 60, "127.0.1.3"), "SECONDARY", nil)
	second.ResourceRecordSet.SetIdentifier = aws.String("other")
	_, err = n.try(second)
	wantCode(t, err, "InvalidChangeBatch")
}

// The way that needs no control plane in a disaster: an inverted check on an object of S3. Who writes the
// object, or deletes it, moves the traffic.
func TestFailoverByAnObject(t *testing.T) {
	t.Parallel()
	n := newNames(t, Options{})
	bucket := newBucket(t, n.c, "eu-west-1", "ledger")
	must(bucket.DeletePublicAccessBlock(t.Context(), &s3.DeletePublicAccessBlockInput{Bucket: aws.String("ledger")}))(t)
	must(bucket.PutBucketPolicy(t.Context(), &s3.PutBucketPolicyInput{Bucket: aws.String("ledger"), Policy: aws.String(
		`{"Statement":[{"Effect":"Allow","Principal":"*","Action":["s3:GetObject"],"Resource":["arn:aws:s3:::ledger/switch/*"]}]}`)}))(t)
	check := n.health(types.HealthCheckConfig{Type: types.HealthCheckTypeHttps, FullyQualifiedDomainName: aws.String("ledger.s3.eu-west-1.amazonaws.com"),
		ResourcePath: aws.String("/switch/failed-over"), Inverted: aws.Bool(true)})
	alias := types.Change{Action: create, ResourceRecordSet: &types.ResourceRecordSet{Name: aws.String("www.example.com"), Type: types.RRTypeA,
		AliasTarget: &types.AliasTarget{DNSName: aws.String("app.example.com"), HostedZoneId: &n.zone, EvaluateTargetHealth: true}}}
	n.change(failover(record(create, "app.example.com", types.RRTypeA, 60, "127.0.1.1"), "PRIMARY", check),
		failover(record(create, "app.example.com", types.RRTypeA, 60, "127.0.1.2"), "SECONDARY", nil), alias)
	leads := func(to string) {
		t.Helper()
		until(t, "www is "+to, func() bool { return n.ask("udp", "www.example.com.", dns.TypeA)[0] == to })
	}
	leads("127.0.1.1")
	must(putObject(bucket, "switch/failed-over", ""))(t)
	leads("127.0.1.2")
	must(bucket.DeleteObject(t.Context(), &s3.DeleteObjectInput{Bucket: aws.String("ledger"), Key: aws.String("switch/failed-over")}))(t)
	leads("127.0.1.1")
}

func TestChecksOfTCPAndText(t *testing.T) {
	t.Parallel()
	n := newNames(t, Options{})
	listener := must(net.Listen("tcp4", "127.0.0.1:0"))(t)
	port := aws.Int32(int32(listener.Addr().(*net.TCPAddr).Port))
	check := n.health(types.HealthCheckConfig{Type: types.HealthCheckTypeTcp, IPAddress: aws.String("127.0.0.1"), Port: port, FailureThreshold: aws.Int32(1)})
	text := n.health(types.HealthCheckConfig{Type: types.HealthCheckTypeHttpStrMatch, IPAddress: aws.String("127.0.0.1"), SearchString: aws.String("signed"),
		Port: aws.Int32(int32(n.c.Address().(*net.TCPAddr).Port))})
	says := func(check *types.HealthCheck, what string) {
		t.Helper()
		until(t, what, func() bool {
			s := must(n.client.GetHealthCheckStatus(t.Context(), &route53.GetHealthCheckStatusInput{HealthCheckId: check.Id}))(t)
			return len(s.HealthCheckObservations) > 0 && strings.HasPrefix(*s.HealthCheckObservations[0].StatusReport.Status, what)
		})
	}
	says(check, "Success")
	says(text, "Failure: HTTP Status Code 403")
	if err := listener.Close(); err != nil {
		t.Fatal(err)
	}
	says(check, "Failure")
	must(n.client.DeleteHealthCheck(t.Context(), &route53.DeleteHealthCheckInput{HealthCheckId: check.Id}))(t)
	_, err := n.client.GetHealthCheck(t.Context(), &route53.GetHealthCheckInput{HealthCheckId: check.Id})
	wantCode(t, err, "NoSuchHealthCheck")
}
