package activities

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"time"
)

// dialFunc opens a connection to host:port.
type dialFunc func(ctx context.Context, hostport string) (net.Conn, error)

// probeTimeout bounds one question to a server.
const probeTimeout = 3 * time.Second

// probe asks once, over a new connection, whether something answers at hostport:
// HTTP with a status below 400 when path is set, else a TCP connection. host is the
// name that is asked for, "" = the address.
func probe(ctx context.Context, dial dialFunc, hostport, host, path string) (detail string, err error) {
	ctx, cancel := context.WithTimeout(ctx, probeTimeout)
	defer cancel()
	if path == "" {
		conn, err := dial(ctx, hostport)
		if err != nil {
			return "", err
		}
		return "TCP connection to " + hostport, conn.Close()
	}
	return probeHTTP(ctx, dial, hostport, host, path)
}

func probeHTTP(ctx context.Context, dial dialFunc, hostport, host, path string) (detail string, err error) {
	transport := &http.Transport{DisableKeepAlives: true,
		DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) { return dial(ctx, hostport) }}
	defer transport.CloseIdleConnections()
	if host == "" {
		host = hostport
	}
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+host+"/"+strings.TrimPrefix(path, "/"), nil)
	if err != nil {
		return "", err
	}
	client := &http.Client{Transport: transport, CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}
	response, err := client.Do(request)
	if err != nil {
		return "", err
	}
	body, err := io.ReadAll(io.LimitReader(response.Body, 256))
	err = errors.Join(err, response.Body.Close())
	if err != nil {
		return "", err
	}
	detail = fmt.Sprintf("HTTP %d from %s", response.StatusCode, hostport)
	if text := strings.TrimSpace(strings.ToValidUTF8(string(body), "")); text != "" {
		detail += ": " + text
	}
	if response.StatusCode >= http.StatusBadRequest {
		return "", errors.New(detail)
	}
	return detail, nil
}

// patiently asks until ask succeeds or limit has passed; then the error is NotReady,
// not retried, with the last answer in words.
func (c *Cloud) patiently(ctx context.Context, limit time.Duration, what, mend string, ask func(ctx context.Context) (string, error)) (Seen, error) {
	limited, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	var seen Seen
	var last error
	err := c.Timing.until(limited, func() (bool, error) {
		detail, err := ask(limited)
		if err == nil {
			seen = Seen{At: c.now(), Detail: detail}
			return true, nil
		}
		// The answer that the end of the limit cut off says nothing. A connection may
		// notice the end before the context does.
		if end, _ := limited.Deadline(); last == nil || time.Now().Before(end) {
			last = err
		}
		note(ctx, what+": "+last.Error())
		return false, nil
	})
	if err == nil || ctx.Err() != nil {
		return seen, err
	}
	return seen, fatal(NotReady, what, fmt.Sprintf("no good answer within %s; the last: %s", limit, last), mend)
}
