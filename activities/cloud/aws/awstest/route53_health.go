package awstest

import (
	"context"
	"fmt"
	"reflect"
	"sync"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/route53"
	"github.com/aws/aws-sdk-go-v2/service/route53/types"
)

// healthCheck is a check and what it found so far.
type healthCheck struct {
	id, reference string
	config        types.HealthCheckConfig
	version       int64
	stop          func()

	up      bool // of the endpoint, as decided; Inverted is not in it
	streak  int  // checks in a row that said the other thing
	status  string
	checked time.Time
}

// healthy tells whether records of this check are answered: a disabled check counts as healthy, and
// Inverted turns all around (API_HealthCheckConfig.html).
func (h *healthCheck) healthy() bool {
	up := h.up || aws.ToBool(h.config.Disabled)
	return up != aws.ToBool(h.config.Inverted)
}

// observe takes in the result of a request. The state changes after as many equal results in a row as
// FailureThreshold says, in both directions
// (https://docs.aws.amazon.com/Route53/latest/DeveloperGuide/dns-failover-determining-health-of-endpoints.html).
func (h *healthCheck) observe(now time.Time, ok bool, status string) {
	h.status, h.checked = status, now
	if ok == h.up {
		h.streak = 0
		return
	}
	if h.streak++; h.streak >= int(aws.ToInt32(h.config.FailureThreshold)) {
		h.up, h.streak = ok, 0
	}
}

// healthWatch runs the checks of all accounts until the double is closed.
type healthWatch struct {
	ctx   context.Context
	group sync.WaitGroup
}

// health gives the watch. The lock is held.
func (c *Cloud) health() *healthWatch {
	w := part[healthWatch](c.region("", "route53"))
	if w.ctx == nil {
		ctx, cancel := context.WithCancel(context.Background())
		w.ctx = ctx
		c.closers = append(c.closers, func() error {
			cancel()
			w.group.Wait()
			return nil
		})
	}
	return w
}

// watch begins to check. A second of RequestInterval lasts Delay("check").
func (c *Cloud) watch(h *healthCheck) {
	if h.stop != nil {
		h.stop()
	}
	w := c.health()
	ctx, cancel := context.WithCancel(w.ctx)
	h.stop = cancel
	config, version := h.config, h.version
	interval := time.Duration(aws.ToInt32(config.RequestInterval)) * c.Delay("check")
	w.group.Go(func() {
		defer cancel()
		next := time.NewTimer(0)
		defer next.Stop()
		for {
			select {
			case <-ctx.Done():
				return
			case <-next.C:
			}
			ok, status := c.probe(ctx, &config)
			c.mu.Lock()
			if h.version == version && ctx.Err() == nil {
				h.observe(time.Now(), ok, status)
			}
			c.mu.Unlock()
			next.Reset(max(interval, time.Millisecond))
		}
	})
}

// healthCheck finds a check.
func (c *Call) healthCheck(id *string) (*healthCheck, error) {
	h := c.route53().checks[aws.ToString(id)]
	if h == nil {
		return nil, &Error{Code: "NoSuchHealthCheck", Message: "A health check with id " + aws.ToString(id) + " does not exist.", Status: 404}
	}
	return h, nil
}

func (h *healthCheck) describe() *types.HealthCheck {
	config := h.config
	return &types.HealthCheck{Id: aws.String(h.id), CallerReference: aws.String(h.reference), HealthCheckConfig: &config, HealthCheckVersion: aws.Int64(h.version)}
}

// completeCheck fills in defaults and checks limits (API_HealthCheckConfig.html). Route 53 refuses private
// and loopback addresses; this double takes them, because that is where its guests are.
func completeCheck(in *types.HealthCheckConfig) (types.HealthCheckConfig, error) {
	h := *in
	defaultPort := int32(0)
	switch h.Type {
	case types.HealthCheckTypeHttp, types.HealthCheckTypeHttpStrMatch:
		defaultPort = 80
	case types.HealthCheckTypeHttps, types.HealthCheckTypeHttpsStrMatch:
		defaultPort = 443
	case types.HealthCheckTypeTcp:
	default:
		return h, fault("InvalidInput", "This double has no health checks of type %s", h.Type)
	}
	if h.Port == nil && defaultPort > 0 {
		h.Port = aws.Int32(defaultPort)
	}
	if h.RequestInterval == nil {
		h.RequestInterval = aws.Int32(30)
	}
	if h.FailureThreshold == nil {
		h.FailureThreshold = aws.Int32(3)
	}
	matches := h.Type == types.HealthCheckTypeHttpStrMatch || h.Type == types.HealthCheckTypeHttpsStrMatch
	switch n := *h.FailureThreshold; {
	case *h.RequestInterval != 10 && *h.RequestInterval != 30:
		return h, fault("InvalidInput", "Invalid parameter : RequestInterval must be 10 or 30")
	case n < 1 || n > 10:
		return h, fault("InvalidInput", "Invalid parameter : FailureThreshold must be between 1 and 10")
	case h.Port == nil:
		return h, fault("InvalidInput", "Invalid parameter : Port must be specified for TCP health checks")
	case aws.ToString(h.IPAddress) == "" && aws.ToString(h.FullyQualifiedDomainName) == "":
		return h, fault("InvalidInput", "Invalid parameter : Either IPAddress or FullyQualifiedDomainName must be specified")
	case matches != (aws.ToString(h.SearchString) != ""):
		return h, fault("InvalidInput", "Invalid parameter : SearchString belongs to health checks of type HTTP_STR_MATCH and HTTPS_STR_MATCH")
	}
	return h, nil
}

// createHealthCheck makes a check. A caller reference gives the same check again, with other settings or
// after its deletion it is a conflict (API_CreateHealthCheck.html).
func createHealthCheck(c *Call, in *route53.CreateHealthCheckInput) (*route53.CreateHealthCheckOutput, error) {
	config, err := completeCheck(in.HealthCheckConfig)
	if err != nil {
		return nil, err
	}
	s, reference := c.route53(), aws.ToString(in.CallerReference)
	id, used := s.references[reference]
	h := s.checks[id]
	if used && (h == nil || !reflect.DeepEqual(h.config, config)) {
		return nil, &Error{Code: "HealthCheckAlreadyExists", Status: 409,
			Message: "A health check with the specified caller reference already exists, or existed with other settings."}
	}
	if !used {
		c.ids++
		// New checks are healthy until there is enough to say otherwise (same page as observe).
		h = &healthCheck{id: fmt.Sprintf("00000000-0000-4000-a000-%012x", c.ids), reference: reference, config: config, version: 1, up: true}
		s.checks[h.id], s.references[reference] = h, h.id
		c.watch(h)
	}
	return &route53.CreateHealthCheckOutput{HealthCheck: h.describe(), Location: aws.String("/2013-04-01/healthcheck/" + h.id)}, nil
}

// updateHealthCheck changes the settings that are given (API_UpdateHealthCheck.html).
func updateHealthCheck(c *Call, in *route53.UpdateHealthCheckInput) (*route53.UpdateHealthCheckOutput, error) {
	h, err := c.healthCheck(in.HealthCheckId)
	if err != nil {
		return nil, err
	}
	if in.HealthCheckVersion != nil && *in.HealthCheckVersion != h.version {
		return nil, &Error{Code: "HealthCheckVersionMismatch", Message: "The specified health check version does not match the current one.", Status: 409}
	}
	config := h.config
	set(&config.IPAddress, in.IPAddress)
	set(&config.Port, in.Port)
	set(&config.FullyQualifiedDomainName, in.FullyQualifiedDomainName)
	set(&config.ResourcePath, in.ResourcePath)
	set(&config.SearchString, in.SearchString)
	set(&config.FailureThreshold, in.FailureThreshold)
	set(&config.Inverted, in.Inverted)
	set(&config.Disabled, in.Disabled)
	set(&config.EnableSNI, in.EnableSNI)
	if config, err = completeCheck(&config); err != nil {
		return nil, err
	}
	h.config, h.streak = config, 0
	h.version++
	c.watch(h)
	return &route53.UpdateHealthCheckOutput{HealthCheck: h.describe()}, nil
}

// set takes over what is given.
func set[T any](to **T, from *T) {
	if from != nil {
		*to = from
	}
}

// checkerRegions are where the requests come from; the double has one checker, and says so of three
// (API_HealthCheckConfig.html, Regions).
var checkerRegions = []types.HealthCheckRegion{types.HealthCheckRegionEuWest1, types.HealthCheckRegionUsEast1, types.HealthCheckRegionApSoutheast1}

func init() {
	on(route53Service, "CreateHealthCheck", createHealthCheck)
	on(route53Service, "UpdateHealthCheck", updateHealthCheck)
	on(route53Service, "GetHealthCheck", func(c *Call, in *route53.GetHealthCheckInput) (*route53.GetHealthCheckOutput, error) {
		h, err := c.healthCheck(in.HealthCheckId)
		if err != nil {
			return nil, err
		}
		return &route53.GetHealthCheckOutput{HealthCheck: h.describe()}, nil
	})
	on(route53Service, "DeleteHealthCheck", func(c *Call, in *route53.DeleteHealthCheckInput) (*route53.DeleteHealthCheckOutput, error) {
		h, err := c.healthCheck(in.HealthCheckId)
		if err != nil {
			return nil, err
		}
		h.stop()
		h.version++
		delete(c.route53().checks, h.id)
		delete(c.route53().tags, "healthcheck/"+h.id)
		return &route53.DeleteHealthCheckOutput{}, nil
	})
	on(route53Service, "ListHealthChecks", func(c *Call, in *route53.ListHealthChecksInput) (*route53.ListHealthChecksOutput, error) {
		size := c.items(in.MaxItems, 100)
		out := &route53.ListHealthChecksOutput{Marker: aws.String(aws.ToString(in.Marker)), MaxItems: aws.Int32(int32(size)), HealthChecks: []types.HealthCheck{}}
		for _, h := range byID(c.route53().checks) {
			if h.id < aws.ToString(in.Marker) {
				continue
			}
			if len(out.HealthChecks) == size {
				out.IsTruncated, out.NextMarker = true, aws.String(h.id)
				break
			}
			out.HealthChecks = append(out.HealthChecks, *h.describe())
		}
		return out, nil
	})
	on(route53Service, "GetHealthCheckStatus", func(c *Call, in *route53.GetHealthCheckStatusInput) (*route53.GetHealthCheckStatusOutput, error) {
		h, err := c.healthCheck(in.HealthCheckId)
		if err != nil {
			return nil, err
		}
		out := &route53.GetHealthCheckStatusOutput{HealthCheckObservations: []types.HealthCheckObservation{}}
		if h.checked.IsZero() {
			return out, nil
		}
		for i, r := range checkerRegions {
			out.HealthCheckObservations = append(out.HealthCheckObservations, types.HealthCheckObservation{Region: r,
				IPAddress:    aws.String(fmt.Sprintf("15.177.%d.1", i)),
				StatusReport: &types.StatusReport{Status: aws.String(h.status), CheckedTime: aws.Time(h.checked)}})
		}
		return out, nil
	})
}
