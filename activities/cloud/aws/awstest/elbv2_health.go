package awstest

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"os"
	"strconv"
	"strings"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/ec2/types"
	elbtypes "github.com/aws/aws-sdk-go-v2/service/elasticloadbalancingv2/types"
)

// elbTarget is a registered target. Its states are those of
// https://docs.aws.amazon.com/elasticloadbalancing/latest/application/target-group-health-checks.html
type elbTarget struct {
	id   string
	port int32
	stop func()
	gone time.Time // when a deregistered one has drained

	checked, healthy bool // the first counts once enough is known
	streak           int  // of checks that say otherwise
	reason           elbtypes.TargetHealthReasonEnum
	description      string
}

// register begins to ask a target; one that is registered goes on, one that drains begins anew.
func (s *elbState) register(c *Call, g *targetGroup, id string, port int32) {
	key := id + ":" + strconv.Itoa(int(port))
	if t := g.targets[key]; t != nil && t.gone.IsZero() {
		return
	}
	ctx, cancel := context.WithCancel(s.ctx)
	t := &elbTarget{id: id, port: port, stop: cancel}
	g.targets[key] = t
	// A second lasts Delay("check").
	every := max(time.Duration(*g.HealthCheckIntervalSeconds)*c.Delay("check"), time.Millisecond)
	account, region := c.Region.Account, c.Name
	cloud := c.Cloud
	s.work.Go(func() {
		defer cancel()
		next := time.NewTimer(0)
		defer next.Stop()
		for {
			select {
			case <-ctx.Done():
				return
			case <-next.C:
			}
			cloud.mu.Lock()
			call := cloud.inside(account, region)
			ip, used := call.targetIP(g, t), len(s.used(g)) > 0
			check := g.TargetGroup
			at := net.JoinHostPort(ip, strconv.Itoa(int(g.checkPort(t))))
			cloud.mu.Unlock()
			if ip != "" && used {
				reason, description := checkTarget(ctx, &check, at)
				cloud.mu.Lock()
				if ctx.Err() == nil {
					t.observe(int(*check.UnhealthyThresholdCount), int(*check.HealthyThresholdCount), reason, description)
				}
				cloud.mu.Unlock()
			}
			next.Reset(every)
		}
	})
}

// checkPort is where a target is asked.
func (g *targetGroup) checkPort(t *elbTarget) int32 {
	if n, err := strconv.Atoi(aws.ToString(g.HealthCheckPort)); err == nil {
		return int32(n) //nolint:gosec // a port
	}
	return t.port
}

// targetIP is the private address of a target, "" when it does not run.
func (c *Call) targetIP(g *targetGroup, t *elbTarget) string {
	if g.TargetType == elbtypes.TargetTypeEnumIp {
		return t.id
	}
	i := c.compute().instances[t.id]
	if i == nil || i.state != types.InstanceStateNameRunning || i.iface == nil {
		return ""
	}
	return i.iface.ip.String()
}

// checkTarget asks a target once; "" is a success.
func checkTarget(ctx context.Context, g *elbtypes.TargetGroup, at string) (elbtypes.TargetHealthReasonEnum, string) {
	ctx, cancel := context.WithTimeout(ctx, time.Duration(*g.HealthCheckTimeoutSeconds)*time.Second)
	defer cancel()
	var err error
	if p := g.HealthCheckProtocol; p == elbtypes.ProtocolEnumHttp || p == elbtypes.ProtocolEnumHttps {
		var status int
		if status, err = askTarget(ctx, strings.ToLower(string(p))+"://"+at+*g.HealthCheckPath); err == nil {
			if codeMatches(aws.ToString(g.Matcher.HttpCode), status) {
				return "", ""
			}
			return elbtypes.TargetHealthReasonEnumResponseCodeMismatch, fmt.Sprintf("Health checks failed with these codes: [%d]", status)
		}
	} else {
		var conn net.Conn
		if conn, err = new(net.Dialer).DialContext(ctx, "tcp", at); err == nil {
			_ = conn.Close() // it was there
			return "", ""
		}
	}
	if errors.Is(err, context.DeadlineExceeded) || errors.Is(err, os.ErrDeadlineExceeded) {
		return elbtypes.TargetHealthReasonEnumTimeout, "Request timed out"
	}
	return elbtypes.TargetHealthReasonEnumFailedHealthChecks, "Health checks failed"
}

// askTarget gives the status of a page. Redirects are not followed.
func askTarget(ctx context.Context, url string) (int, error) {
	r, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return 0, err
	}
	r.Header.Set("User-Agent", "ELB-HealthChecker/2.0")
	transport := &http.Transport{DisableKeepAlives: true}
	answer, err := transport.RoundTrip(r)
	if err != nil {
		return 0, err
	}
	return answer.StatusCode, answer.Body.Close()
}

// codeMatches reads codes as "200", "200,302" or "200-399" (API_Matcher.html).
func codeMatches(matcher string, status int) bool {
	for part := range strings.SplitSeq(matcher, ",") {
		low, high, isRange := strings.Cut(part, "-")
		from, err := strconv.Atoi(low)
		to := from
		if isRange && err == nil {
			to, err = strconv.Atoi(high)
		}
		if err == nil && from <= status && status <= to {
			return true
		}
	}
	return false
}

// observe counts what a check found: the first success makes a new target healthy, after that both thresholds count.
func (t *elbTarget) observe(unhealthy, healthy int, reason elbtypes.TargetHealthReasonEnum, description string) {
	ok := reason == ""
	if t.checked && ok == t.healthy {
		t.streak = 0
		if !ok {
			t.reason, t.description = reason, description
		}
		return
	}
	t.streak++
	need := unhealthy
	if ok {
		if need = healthy; !t.checked {
			need = 1
		}
	}
	if t.streak >= need {
		t.checked, t.healthy, t.streak, t.reason, t.description = true, ok, 0, reason, description
	}
}

// targetHealth is what DescribeTargetHealth tells (API_TargetHealth.html).
func (c *Call) targetHealth(s *elbState, g *targetGroup, t *elbTarget) *elbtypes.TargetHealth {
	say := func(state elbtypes.TargetHealthStateEnum, reason elbtypes.TargetHealthReasonEnum, text string) *elbtypes.TargetHealth {
		return &elbtypes.TargetHealth{State: state, Reason: reason, Description: aws.String(text)}
	}
	switch {
	case !t.gone.IsZero():
		return say(elbtypes.TargetHealthStateEnumDraining, elbtypes.TargetHealthReasonEnumDeregistrationInProgress, "Target deregistration is in progress")
	case len(s.used(g)) == 0:
		return say(elbtypes.TargetHealthStateEnumUnused, elbtypes.TargetHealthReasonEnumNotInUse, "Target group is not configured to receive traffic from the load balancer")
	case c.targetIP(g, t) == "":
		return say(elbtypes.TargetHealthStateEnumUnused, elbtypes.TargetHealthReasonEnumInvalidState, "Target is in the stopped or terminated state")
	case !t.checked:
		return say(elbtypes.TargetHealthStateEnumInitial, elbtypes.TargetHealthReasonEnumInitialHealthChecking, "Initial health checks in progress")
	case !t.healthy:
		return say(elbtypes.TargetHealthStateEnumUnhealthy, t.reason, t.description)
	}
	return &elbtypes.TargetHealth{State: elbtypes.TargetHealthStateEnumHealthy}
}

// drained tells that nothing is left of a target.
func (t *elbTarget) drained(now time.Time) bool { return !t.gone.IsZero() && !now.Before(t.gone) }
