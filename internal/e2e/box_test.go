package e2e

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"lifeboat/activities/cloud/local"
	"lifeboat/internal/demo/stage"
)

const (
	boxArgument = "__box"
	boxPort     = 8080
)

// runBox is the server that the tests protect: it shows and changes its disks over
// HTTP. GET /DISK?at=&n= reads, PUT /DISK?at= writes and is on the disk before it answers.
func runBox() int {
	disks := map[string]string{}
	for _, pair := range strings.Split(os.Getenv("LIFEBOAT_DISKS"), ",") {
		name, path, _ := strings.Cut(pair, "=")
		disks[name] = path
	}
	mux := http.NewServeMux()
	mux.HandleFunc("GET /healthz", func(w http.ResponseWriter, _ *http.Request) { fmt.Fprintln(w, os.Getenv("LIFEBOAT_SERVER")) })
	mux.HandleFunc("/{disk}", func(w http.ResponseWriter, r *http.Request) {
		if err := serveDisk(w, r, disks[r.PathValue("disk")]); err != nil {
			http.Error(w, err.Error(), http.StatusInternalServerError)
		}
	})
	err := http.ListenAndServe(net.JoinHostPort(os.Getenv("LIFEBOAT_ADDRESS"), strconv.Itoa(boxPort)), mux)
	fmt.Fprintln(os.Stderr, err)
	return 1
}

func serveDisk(w http.ResponseWriter, r *http.Request, path string) error {
	at, err := number(r, "at")
	if err != nil {
		return err
	}
	file, err := os.OpenFile(path, os.O_RDWR, 0)
	if err != nil {
		return err
	}
	defer file.Close()
	if r.Method == http.MethodGet {
		n, err := number(r, "n")
		if err == nil {
			_, err = io.Copy(w, io.NewSectionReader(file, at, n))
		}
		return err
	}
	body, err := io.ReadAll(r.Body)
	if err != nil {
		return err
	}
	_, err = file.WriteAt(body, at)
	return errors.Join(err, file.Sync())
}

func number(r *http.Request, name string) (int64, error) {
	text := r.FormValue(name)
	if text == "" {
		return 0, nil
	}
	return strconv.ParseInt(text, 10, 64)
}

// box speaks with a server that runs runBox.
type box struct {
	t      *testing.T
	url    string
	client *http.Client
}

// boxAt is the box at an address that this machine reaches.
func boxAt(t *testing.T, ip string) box {
	t.Helper()
	require.NotEmpty(t, ip, "the server has no address")
	return box{t: t, url: "http://" + net.JoinHostPort(ip, strconv.Itoa(boxPort)),
		client: &http.Client{Timeout: 20 * time.Second, Transport: &http.Transport{DisableKeepAlives: true}}}
}

// boxInside is the box at an address within a network of a site.
func boxInside(t *testing.T, p *local.Provider, network, ip string) box {
	t.Helper()
	b := boxAt(t, ip)
	b.client = stage.Inside(p, network)
	return b
}

func (b box) ask(ctx context.Context, method, path string, body []byte) ([]byte, error) {
	request, err := http.NewRequestWithContext(ctx, method, b.url+path, bytes.NewReader(body))
	if err != nil {
		return nil, err
	}
	reply, err := b.client.Do(request)
	if err != nil {
		return nil, err
	}
	defer reply.Body.Close()
	content, err := io.ReadAll(reply.Body)
	if err == nil && reply.StatusCode != http.StatusOK {
		err = fmt.Errorf("%s: %s", reply.Status, content)
	}
	return content, err
}

// alive is nil when the server answers.
func (b box) alive() error {
	_, err := b.ask(b.t.Context(), http.MethodGet, "/healthz", nil)
	return err
}

// read gives what is on a disk.
func (b box) read(disk string, at int64, n int) []byte {
	b.t.Helper()
	content, err := b.ask(b.t.Context(), http.MethodGet, fmt.Sprintf("/%s?at=%d&n=%d", disk, at, n), nil)
	require.NoError(b.t, err)
	require.Len(b.t, content, n)
	return content
}

// line gives the line at an offset of a disk.
func (b box) line(disk string, at int64) string {
	b.t.Helper()
	line, _, _ := bytes.Cut(b.read(disk, at, 128), []byte("\n"))
	return string(line)
}

// write returns when the content is on the disk.
func (b box) write(disk string, at int64, content []byte) {
	b.t.Helper()
	_, err := b.ask(b.t.Context(), http.MethodPut, fmt.Sprintf("/%s?at=%d", disk, at), content)
	require.NoError(b.t, err)
}

func (b box) writeLine(disk string, at int64, line string) {
	b.t.Helper()
	b.write(disk, at, []byte(line+"\n"))
}
