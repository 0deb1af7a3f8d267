package temporalserver

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"time"

	enumspb "go.temporal.io/api/enums/v1"
	namespacepb "go.temporal.io/api/namespace/v1"
	"go.temporal.io/api/operatorservice/v1"
	"go.temporal.io/api/workflowservice/v1"
	"google.golang.org/grpc"
	"google.golang.org/grpc/backoff"
	"google.golang.org/grpc/credentials/insecure"
	healthpb "google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/protobuf/types/known/durationpb"
)

// pollEvery is how often a starting server is asked whether it is ready.
const pollEvery = 20 * time.Millisecond

// settle returns when the server answers and the namespace is as asked.
func (s *Server) settle(ctx context.Context, opts Options, st state) error {
	conn, err := grpc.NewClient("passthrough:///"+s.Address,
		grpc.WithTransportCredentials(insecure.NewCredentials()), // loopback only
		grpc.WithConnectParams(grpc.ConnectParams{
			Backoff:           backoff.Config{BaseDelay: pollEvery, Multiplier: 1.2, MaxDelay: 10 * pollEvery},
			MinConnectTimeout: time.Second,
		}))
	if err != nil {
		return err
	}
	defer conn.Close()
	if err := s.until(ctx, "its frontend answers", s.itself(st.Port, frontendServes(conn))); err != nil {
		return err
	}
	if err := s.until(ctx, "its Web UI answers", s.itself(st.UIPort, s.uiServes)); err != nil {
		return err
	}
	if err := s.until(ctx, "namespace "+opts.Namespace+" is there", namespaceKnown(conn, opts.Namespace)); err != nil {
		return err
	}
	if err := keepFor(ctx, conn, opts.Namespace, opts.Retention); err != nil {
		return err
	}
	return s.addAttributes(ctx, conn, opts.Namespace, opts.SearchAttributes)
}

// until repeats check until it succeeds, the server ends or ctx does.
func (s *Server) until(ctx context.Context, what string, check func(context.Context) error) error {
	tick := time.NewTicker(pollEvery)
	defer tick.Stop()
	for {
		err := check(ctx)
		select {
		case <-s.process.done: // also when another program on the port answered
			return s.process.failure()
		default:
		}
		if err == nil {
			return nil
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("waited in vain until %s: %w (last: %v); its log is %s", what, ctx.Err(), err, s.LogFile)
		case <-s.process.done:
			return s.process.failure()
		case <-tick.C:
		}
	}
}

// frontendServes asks the frontend's own health check.
func frontendServes(conn *grpc.ClientConn) func(context.Context) error {
	health := healthpb.NewHealthClient(conn)
	return func(ctx context.Context) error {
		ctx, cancel := context.WithTimeout(ctx, 2*time.Second)
		defer cancel()
		r, err := health.Check(ctx, &healthpb.HealthCheckRequest{Service: workflowservice.WorkflowService_ServiceDesc.ServiceName})
		if err != nil {
			return err
		}
		if r.GetStatus() != healthpb.HealthCheckResponse_SERVING {
			return fmt.Errorf("health is %s", r.GetStatus())
		}
		return nil
	}
}

// itself is check once this server has the port: before, somebody else may answer.
func (s *Server) itself(port int, check func(context.Context) error) func(context.Context) error {
	return func(ctx context.Context) error {
		if err := s.process.listens(port); err != nil {
			return err
		}
		return check(ctx)
	}
}

func (s *Server) uiServes(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, 2*time.Second)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, s.UIURL, nil)
	if err != nil {
		return err
	}
	client := http.Client{Transport: &http.Transport{Proxy: nil, DisableKeepAlives: true}}
	r, err := client.Do(req)
	if err != nil {
		return err
	}
	defer r.Body.Close()
	if r.StatusCode != http.StatusOK {
		return errors.New(r.Status)
	}
	return nil
}

func namespaceKnown(conn *grpc.ClientConn, namespace string) func(context.Context) error {
	service := workflowservice.NewWorkflowServiceClient(conn)
	return func(ctx context.Context) error {
		_, err := service.DescribeNamespace(ctx, &workflowservice.DescribeNamespaceRequest{Namespace: namespace})
		return err
	}
}

// keepFor makes the namespace keep closed workflows for at least retention.
func keepFor(ctx context.Context, conn *grpc.ClientConn, namespace string, retention time.Duration) error {
	service := workflowservice.NewWorkflowServiceClient(conn)
	is, err := service.DescribeNamespace(ctx, &workflowservice.DescribeNamespaceRequest{Namespace: namespace})
	if err != nil {
		return fmt.Errorf("read namespace %s: %w", namespace, err)
	}
	if is.GetConfig().GetWorkflowExecutionRetentionTtl().AsDuration() >= retention {
		return nil
	}
	_, err = service.UpdateNamespace(ctx, &workflowservice.UpdateNamespaceRequest{
		Namespace: namespace,
		Config:    &namespacepb.NamespaceConfig{WorkflowExecutionRetentionTtl: durationpb.New(retention)},
	})
	if err != nil {
		return fmt.Errorf("set how long namespace %s keeps closed workflows: %w", namespace, err)
	}
	return nil
}

// addAttributes registers the search attributes that the namespace lacks. A new
// database got all of them at its creation; one of an earlier release may lack
// some, and the server ignores the flags for a namespace that is there.
func (s *Server) addAttributes(ctx context.Context, conn *grpc.ClientConn, namespace string, names []string) error {
	operator := operatorservice.NewOperatorServiceClient(conn)
	are, err := operator.ListSearchAttributes(ctx, &operatorservice.ListSearchAttributesRequest{Namespace: namespace})
	if err != nil {
		return fmt.Errorf("list the search attributes of namespace %s: %w", namespace, err)
	}
	missing := map[string]enumspb.IndexedValueType{}
	for _, name := range names {
		if kind, ok := are.GetCustomAttributes()[name]; !ok {
			missing[name] = enumspb.INDEXED_VALUE_TYPE_KEYWORD
		} else if kind != enumspb.INDEXED_VALUE_TYPE_KEYWORD {
			return fmt.Errorf("search attribute %s of namespace %s is of type %s, not Keyword; remove it with `temporal operator search-attribute remove`", name, namespace, kind)
		}
	}
	if len(missing) == 0 {
		return nil
	}
	_, err = operator.AddSearchAttributes(ctx, &operatorservice.AddSearchAttributesRequest{Namespace: namespace, SearchAttributes: missing})
	if err != nil {
		return fmt.Errorf("register search attributes in namespace %s: %w", namespace, err)
	}
	return s.until(ctx, "the search attributes are known", attributesKnown(conn, namespace, missing))
}

// attributesKnown asks whether queries may use the attributes: the frontend
// reads a changed namespace only every few seconds.
func attributesKnown(conn *grpc.ClientConn, namespace string, names map[string]enumspb.IndexedValueType) func(context.Context) error {
	service := workflowservice.NewWorkflowServiceClient(conn)
	return func(ctx context.Context) error {
		for name := range names {
			_, err := service.CountWorkflowExecutions(ctx, &workflowservice.CountWorkflowExecutionsRequest{
				Namespace: namespace, Query: name + " = ''",
			})
			if err != nil {
				return err
			}
		}
		return nil
	}
}
