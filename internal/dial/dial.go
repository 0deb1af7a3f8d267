// Package dial connects to Temporal the same way from every program: by
// Temporal's own environment configuration, with flags on top.
package dial

import (
	"context"
	"errors"
	"fmt"
	"time"

	"go.temporal.io/sdk/client"
	"go.temporal.io/sdk/contrib/envconfig"
	"go.uber.org/zap"

	"lifeboat/internal/logging"
)

// DefaultAddress is where a Temporal server listens when nothing says otherwise.
const DefaultAddress = client.DefaultHostPort

// Options say which server and namespace. What is empty comes from the profile
// and the TEMPORAL_… variables of Temporal's environment configuration.
type Options struct {
	Address   string
	Namespace string
	Profile   string      // of the configuration file
	Logger    *zap.Logger // nil = the SDK's warnings and errors on standard error

	// Fallback is the address when neither Address nor the environment
	// configuration has one; empty = DefaultAddress.
	Fallback string
	// Timeout bounds the attempt to connect; 0 = 10 s.
	Timeout time.Duration
}

// UnreachableError says that no Temporal server answered.
type UnreachableError struct {
	Address string
	Err     error
}

func (e *UnreachableError) Error() string {
	return fmt.Sprintf("Temporal at %s: no answer: %v (start one with `lifeboat dev`, or name another with --address)", e.Address, e.Err)
}

func (e *UnreachableError) Unwrap() error { return e.Err }

// Resolve returns the options of a client: flags over variables over the profile.
func Resolve(o Options) (client.Options, error) {
	options, err := envconfig.LoadClientOptions(envconfig.LoadClientOptionsRequest{ConfigFileProfile: o.Profile})
	if err != nil {
		return client.Options{}, fmt.Errorf("profile %q of Temporal's environment configuration: %w (mend the file or the TEMPORAL_… variables, or choose another --profile)", o.Profile, err)
	}
	for _, address := range []string{o.Fallback, DefaultAddress} {
		if options.HostPort == "" {
			options.HostPort = address
		}
	}
	if o.Address != "" {
		options.HostPort = o.Address
	}
	if o.Namespace != "" {
		options.Namespace = o.Namespace
	}
	if options.Namespace == "" {
		options.Namespace = client.DefaultNamespace
	}
	if o.Logger != nil {
		options.Logger = logging.Temporal(o.Logger)
	}
	return options, nil
}

// Client connects to Temporal; the error is an *[UnreachableError] when no
// server answered in time. The caller closes the client.
func Client(ctx context.Context, o Options) (client.Client, error) {
	options, err := Resolve(o)
	if err != nil {
		return nil, err
	}
	timeout := o.Timeout
	if timeout == 0 {
		timeout = 10 * time.Second
	}
	dialling, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	c, err := client.DialContext(dialling, options)
	if err == nil {
		return c, nil
	}
	if cause := ctx.Err(); errors.Is(cause, context.Canceled) {
		return nil, cause
	}
	return nil, &UnreachableError{Address: options.HostPort, Err: err}
}
