package awstest

import (
	"cmp"
	"errors"
	"fmt"
	"io"
	"maps"
	"net/http"
	"net/http/httptest"
	"reflect"
	"time"
)

// maxBody is more than any request of the services has: the largest are blocks of snapshots and templates.
const maxBody = 16 << 20

// readBody reads a body, in one piece when its length is known: blocks of snapshots are large and many.
func readBody(r *http.Request) ([]byte, error) {
	if n := r.ContentLength; n > 0 && n <= maxBody {
		b := make([]byte, n)
		_, err := io.ReadFull(r.Body, b)
		return b, err
	}
	return io.ReadAll(io.LimitReader(r.Body, maxBody))
}

// ServeHTTP implements http.Handler.
func (c *Cloud) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	s, ok := scopeOf(r)
	if !ok && c.anonymous(w, r) {
		return
	}
	if !ok {
		http.Error(w, "the request is not signed with Signature Version 4", http.StatusForbidden)
		return
	}
	if h := c.raw(s, w, r); h {
		return
	}
	svc := services[s.service]
	if svc == nil {
		http.Error(w, "this double has no service "+s.service, http.StatusNotImplemented)
		return
	}
	body, err := readBody(r)
	if err != nil {
		return // the client has gone
	}
	id := fmt.Sprintf("00000000-0000-4000-8000-%012x", time.Now().UnixNano()&0xffffffffffff)
	op, err := svc.wire.operation(r, body)
	if err != nil {
		svc.wire.fail(w, id, asFault(err))
		return
	}
	out, drop, err := c.answer(svc, s, op, r, body)
	switch {
	case drop:
		panic(http.ErrAbortHandler)
	case err != nil:
		svc.wire.fail(w, id, asFault(err))
	default:
		svc.wire.encode(w, op, id, reflect.ValueOf(out))
	}
}

// rawService answers HTTP itself: a service that is no table of operations.
type rawService struct {
	// operation names what a request asks for, as the API reference does.
	operation func(r *http.Request) string
	handle    func(c *Cloud, a *Account, region string, w http.ResponseWriter, r *http.Request)
	fail      func(w http.ResponseWriter, e *Error)
	// code reads the code of an error out of an answer's body.
	code func(body []byte) string
}

// rawServices are the raw services by the name that they are signed for.
var rawServices = map[string]rawService{}

// raw hands a request to a raw service, with the rules that tests injected.
func (c *Cloud) raw(s scope, w http.ResponseWriter, r *http.Request) bool {
	svc, ok := rawServices[s.service]
	if !ok {
		return false
	}
	c.mu.Lock()
	account := c.account(s.key)
	req := Request{Service: s.service, Region: s.region, Account: account.ID, Operation: svc.operation(r), Host: r.Host, Time: time.Now()}
	rule := cmp.Or(c.expired(s), c.match(req))
	c.mu.Unlock()
	answer := httptest.NewRecorder()
	if rule != nil && rule.Error != nil && !rule.After {
		svc.fail(answer, rule.Error)
	} else if rule == nil || !rule.Drop || rule.After {
		svc.handle(c, account, s.region, answer, r)
		if rule != nil && rule.Error != nil && answer.Code < http.StatusBadRequest {
			answer = httptest.NewRecorder()
			svc.fail(answer, rule.Error)
		}
	}
	if answer.Code >= http.StatusBadRequest {
		if req.Error = svc.code(answer.Body.Bytes()); req.Error == "" {
			req.Error = http.StatusText(answer.Code)
		}
	}
	c.mu.Lock()
	c.requests = append(c.requests, req)
	c.mu.Unlock()
	if rule != nil && rule.Drop {
		panic(http.ErrAbortHandler)
	}
	maps.Copy(w.Header(), answer.Header())
	w.WriteHeader(answer.Code)
	_, _ = w.Write(answer.Body.Bytes())
	return true
}

// answer runs the handler of an operation, with the rules that tests injected.
func (c *Cloud) answer(svc *service, s scope, op string, r *http.Request, body []byte) (out any, drop bool, err error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	account := c.account(s.key)
	call := &Call{Cloud: c, Region: c.region(account.ID, s.region), Service: s.service, Operation: op, HTTP: r, Now: time.Now()}
	req := Request{Service: s.service, Region: s.region, Account: account.ID, Operation: op, Host: r.Host, Time: call.Now}
	rule := cmp.Or(c.expired(s), c.match(req))
	if rule != nil && rule.Error != nil && !rule.After {
		err = rule.Error
	} else if rule == nil || !rule.Drop || rule.After {
		out, err = svc.run(call, op, r, body)
		if rule != nil && rule.Error != nil && err == nil {
			err = rule.Error
		}
	}
	if err != nil {
		req.Error = asFault(err).Code
	}
	c.requests = append(c.requests, req)
	return out, rule != nil && rule.Drop, err
}

func (s *service) run(c *Call, op string, r *http.Request, body []byte) (any, error) {
	h, ok := s.handlers[op]
	if !ok {
		return nil, &Error{Code: "NotImplemented", Message: "this double has no " + c.Service + ":" + op, Status: http.StatusNotImplemented}
	}
	in := reflect.New(h.in)
	if err := s.wire.decode(op, r, body, in); err != nil {
		return nil, err
	}
	return h.handle(c, in.Interface())
}

// asFault makes an error of a service of any error.
func asFault(err error) *Error {
	var e *Error
	if errors.As(err, &e) {
		return e
	}
	return &Error{Code: "InternalError", Message: err.Error(), Status: http.StatusInternalServerError}
}
