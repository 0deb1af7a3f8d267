package awstest

import (
	"fmt"
	"net/http"
	"reflect"
	"time"
)

// Error is an error as a service answers it.
type Error struct {
	Code    string
	Message string
	Status  int    // of HTTP; 0 = 400
	Reason  string // member Reason of the errors that have one, in JSON
}

func (e *Error) Error() string { return e.Code + ": " + e.Message }

// fault makes an error of a service.
func fault(code, format string, args ...any) *Error {
	return &Error{Code: code, Message: fmt.Sprintf(format, args...)}
}

// Call is one request on its way. Handlers run one after the other, the double is locked.
type Call struct {
	*Cloud
	*Region
	Service   string
	Operation string
	HTTP      *http.Request
	Now       time.Time
}

// unlocked lets other requests go on while f runs: what takes long and concerns nobody else.
func (c *Call) unlocked(f func() error) error {
	c.mu.Unlock()
	defer c.mu.Lock()
	return f()
}

// at is the same account's part of another region.
func (c *Call) at(region string) *Region { return c.region(c.Region.Account, region) }

// handler answers one operation.
type handler struct {
	in     reflect.Type // structs of the SDK
	handle func(c *Call, in any) (any, error)
}

// services are the operations by service, as they are signed: filled by init functions.
var services = map[string]*service{}

// service is one service: how its requests look, and what answers them.
type service struct {
	wire     wire
	handlers map[string]handler
}

// wire is a protocol: https://smithy.io/2.0/aws/protocols/index.html
type wire interface {
	// operation tells which operation a request asks for.
	operation(r *http.Request, body []byte) (string, error)
	// decode fills in, a pointer to an input struct of the SDK.
	decode(op string, r *http.Request, body []byte, in reflect.Value) error
	// encode writes out, a pointer to an output struct of the SDK.
	encode(w http.ResponseWriter, op, requestID string, out reflect.Value)
	// fail writes an error.
	fail(w http.ResponseWriter, requestID string, e *Error)
}

// serve adds a service.
func serve(name string, w wire) *service {
	s := &service{wire: w, handlers: map[string]handler{}}
	services[name] = s
	return s
}

// on registers what answers an operation.
func on[In, Out any](s *service, operation string, f func(*Call, *In) (*Out, error)) {
	s.handlers[operation] = handler{in: reflect.TypeFor[In](), handle: func(c *Call, in any) (any, error) {
		out, err := f(c, in.(*In))
		if err != nil {
			return nil, err
		}
		return out, nil
	}}
}
