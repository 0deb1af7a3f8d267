package awstest

import (
	"bytes"
	"context"
	"crypto/tls"
	"fmt"
	"io"
	"net"
	"net/http"
	"strconv"
	"strings"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/route53/types"
	"github.com/miekg/dns"
)

// Limits of a check's request
// (https://docs.aws.amazon.com/Route53/latest/DeveloperGuide/dns-failover-determining-health-of-endpoints.html).
const (
	probeConnect  = 4 * time.Second
	probeTCP      = 10 * time.Second
	probeResponse = 2 * time.Second
	probeBody     = 5120 // bytes in which the search string has to be
)

// probe makes one request of a health check.
func (c *Cloud) probe(ctx context.Context, h *types.HealthCheckConfig) (ok bool, status string) {
	address, toSelf, err := c.probeAddress(h)
	if err != nil {
		return false, "Failure: DNS resolution failed: " + err.Error()
	}
	if h.Type == types.HealthCheckTypeTcp {
		conn, err := (&net.Dialer{Timeout: probeTCP}).DialContext(ctx, "tcp", address)
		if err != nil {
			return false, "Failure: " + err.Error()
		}
		return true, "Success: Connected. " + endTCP(conn)
	}
	return probeHTTP(ctx, h, address, toSelf)
}

func endTCP(conn net.Conn) string {
	if err := conn.Close(); err != nil {
		return err.Error()
	}
	return ""
}

// probeHTTP asks by HTTP. Redirects are not followed, and count as success; certificates are not checked.
// S3 itself is asked in the clear also by HTTPS: the double has no certificate for its names.
func probeHTTP(ctx context.Context, h *types.HealthCheckConfig, address string, toSelf bool) (bool, string) {
	secure := (h.Type == types.HealthCheckTypeHttps || h.Type == types.HealthCheckTypeHttpsStrMatch) && !toSelf
	scheme := "http"
	if secure {
		scheme = "https"
	}
	dialer := &net.Dialer{Timeout: probeConnect}
	transport := &http.Transport{
		DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
			return dialer.DialContext(ctx, "tcp", address)
		},
		TLSClientConfig:   &tls.Config{InsecureSkipVerify: true, ServerName: aws.ToString(h.FullyQualifiedDomainName)}, //nolint:gosec // as the service
		DisableKeepAlives: true, ResponseHeaderTimeout: probeResponse,
	}
	ctx, cancel := context.WithTimeout(ctx, probeConnect+2*probeResponse)
	defer cancel()
	path := aws.ToString(h.ResourcePath)
	if !strings.HasPrefix(path, "/") {
		path = "/" + path
	}
	host := aws.ToString(h.FullyQualifiedDomainName)
	if host == "" {
		host = aws.ToString(h.IPAddress)
	}
	if p := aws.ToInt32(h.Port); p != 80 && p != 443 {
		host = net.JoinHostPort(host, strconv.Itoa(int(p)))
	}
	r, err := http.NewRequestWithContext(ctx, http.MethodGet, scheme+"://"+host+path, nil)
	if err != nil {
		return false, "Failure: " + err.Error()
	}
	r.Header.Set("User-Agent", "Amazon-Route53-Health-Check-Service")
	answer, err := transport.RoundTrip(r)
	if err != nil {
		return false, "Failure: " + err.Error()
	}
	defer answer.Body.Close()
	said := fmt.Sprintf("HTTP Status Code %d, %s", answer.StatusCode, http.StatusText(answer.StatusCode))
	if answer.StatusCode < 200 || answer.StatusCode > 399 {
		return false, "Failure: " + said
	}
	if want := aws.ToString(h.SearchString); want != "" {
		body, err := io.ReadAll(io.LimitReader(answer.Body, probeBody))
		if err != nil || !bytes.Contains(body, []byte(want)) {
			return false, "Failure: " + said + ", the search string was not found"
		}
	}
	return true, "Success: " + said
}

// probeAddress says where a check's requests go: to the address, or to what the name leads to: an endpoint
// of S3 is the double itself, a name in a zone what the zone says. The double asks nobody else.
func (c *Cloud) probeAddress(h *types.HealthCheckConfig) (address string, toSelf bool, err error) {
	port := strconv.Itoa(int(aws.ToInt32(h.Port)))
	if ip := aws.ToString(h.IPAddress); ip != "" {
		return net.JoinHostPort(ip, port), false, nil
	}
	name := strings.ToLower(strings.TrimSuffix(aws.ToString(h.FullyQualifiedDomainName), "."))
	switch {
	case net.ParseIP(name) != nil:
		return net.JoinHostPort(name, port), false, nil
	case s3Hosts.MatchString(name):
		return c.Address().String(), true, nil
	case name == "localhost":
		return net.JoinHostPort("127.0.0.1", port), false, nil
	}
	reply := c.resolve(new(dns.Msg).SetQuestion(dns.Fqdn(name), dns.TypeA))
	for _, rr := range reply.Answer {
		if a, ok := rr.(*dns.A); ok {
			return net.JoinHostPort(a.A.String(), port), false, nil
		}
	}
	return "", false, fmt.Errorf("no hosted zone has an address for %s", name)
}
