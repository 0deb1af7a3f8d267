package numbers

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"strconv"
	"time"

	"github.com/miekg/dns"
)

// Ack is one line of the client's log: a write that was acknowledged, or, with
// Error set, the first of a row of failures.
type Ack struct {
	Number
	Acked  time.Time `json:"acked"` // when the client had the answer
	Server string    `json:"server,omitempty"`
	Error  string    `json:"error,omitempty"`
}

// ClientOptions of the client that writes.
type ClientOptions struct {
	Name     string        // DNS name of the server
	Resolver string        // host:port of the name server to ask, before every write
	Port     int           // of the server
	Every    time.Duration // between writes; also the wait after a failure
	Bytes    int           // payload
	Log      string        // file that acknowledged writes are appended to
	Timeout  time.Duration // of one write; default 2 s
	// Allow, when set, is asked whether to write to the server that the name
	// points to now; no write is sent while it says no.
	Allow func(ip string) bool
}

// RunClient writes until ctx ends. A write counts as acknowledged when its line
// is in the log file, where a kill of the client cannot take it back.
func RunClient(ctx context.Context, o ClientOptions) error {
	if o.Timeout == 0 {
		o.Timeout = 2 * time.Second
	}
	log, err := os.OpenFile(o.Log, os.O_CREATE|os.O_WRONLY|os.O_APPEND, 0o600)
	if err != nil {
		return fmt.Errorf("open the client's log: %w", err)
	}
	defer log.Close()
	tick := time.NewTicker(o.Every)
	defer tick.Stop()
	failing := false
	for {
		ack, err := writeOnce(ctx, o)
		switch {
		case ctx.Err() != nil:
			return nil
		case err == nil:
			failing = false
		case !failing:
			failing = true
			ack = Ack{Acked: time.Now().UTC(), Error: err.Error()}
		default:
			ack = Ack{}
		}
		if ack != (Ack{}) {
			line, err := json.Marshal(ack)
			if err != nil {
				return err
			}
			if _, err := log.Write(append(line, '\n')); err != nil {
				return fmt.Errorf("write the client's log: %w", err)
			}
		}
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
		}
	}
}

func writeOnce(ctx context.Context, o ClientOptions) (Ack, error) {
	ctx, cancel := context.WithTimeout(ctx, o.Timeout)
	defer cancel()
	ip, err := Resolve(ctx, o.Resolver, o.Name)
	if err != nil {
		return Ack{}, err
	}
	if o.Allow != nil && !o.Allow(ip) {
		return Ack{}, fmt.Errorf("writes to %s are held back", ip)
	}
	server := net.JoinHostPort(ip, strconv.Itoa(o.Port))
	url := "http://" + server + "/write?bytes=" + strconv.Itoa(o.Bytes)
	ack := Ack{Server: server}
	if err := call(ctx, http.DefaultClient, http.MethodPost, url, &ack.Number); err != nil {
		return Ack{}, err
	}
	ack.Acked = time.Now().UTC()
	return ack, nil
}

// Resolve asks one name server for the first IPv4 address of a name.
func Resolve(ctx context.Context, resolver, name string) (string, error) {
	m := new(dns.Msg).SetQuestion(dns.Fqdn(name), dns.TypeA)
	in, _, err := new(dns.Client).ExchangeContext(ctx, m, resolver)
	if err != nil {
		return "", fmt.Errorf("resolve %s at %s: %w", name, resolver, err)
	}
	for _, rr := range in.Answer {
		if a, ok := rr.(*dns.A); ok {
			return a.A.String(), nil
		}
	}
	return "", fmt.Errorf("resolve %s at %s: no address (%s)", name, resolver, dns.RcodeToString[in.Rcode])
}

// call asks the numbers server over a connection of its own and decodes the answer.
func call(ctx context.Context, client *http.Client, method, url string, into any) error {
	req, err := http.NewRequestWithContext(ctx, method, url, nil)
	if err != nil {
		return err
	}
	req.Close = true // a kept connection would hide that the name points elsewhere now
	res, err := client.Do(req)
	if err != nil {
		return err
	}
	defer res.Body.Close()
	body, err := io.ReadAll(io.LimitReader(res.Body, 16<<20))
	if err != nil {
		return err
	}
	if res.StatusCode != http.StatusOK {
		return fmt.Errorf("%s %s: %s: %.200s", method, url, res.Status, body)
	}
	return json.Unmarshal(body, into)
}

// ReadAcks reads a client's log from byte offset on and returns where to go on.
// A last line without its end is left for the next call.
func ReadAcks(path string, offset int64) (acks []Ack, next int64, err error) {
	f, err := os.Open(path)
	if errors.Is(err, os.ErrNotExist) {
		return nil, offset, nil // the client has not begun
	}
	if err != nil {
		return nil, offset, fmt.Errorf("open the client's log: %w", err)
	}
	defer f.Close()
	if _, err := f.Seek(offset, io.SeekStart); err != nil {
		return nil, offset, err
	}
	r := bufio.NewReader(f)
	for {
		line, err := r.ReadBytes('\n')
		if errors.Is(err, io.EOF) {
			return acks, offset, nil
		}
		if err != nil {
			return acks, offset, err
		}
		var a Ack
		if err := json.Unmarshal(line, &a); err != nil {
			return acks, offset, fmt.Errorf("%s at byte %d: %w", path, offset, err)
		}
		offset += int64(len(line))
		if a.Number.Number != 0 {
			acks = append(acks, a)
		}
	}
}
