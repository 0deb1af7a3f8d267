package numbers

import (
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/http"
	"os"
	"os/signal"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// ServerOptions of the numbers server.
type ServerOptions struct {
	Address string // host:port to listen on
	Data    string // raw disk of the database
	Log     string // raw disk of the log; "" = none
	Keep    uint64 // newest numbers kept; 0 = as many as fit well
	Payload int    // bytes of random payload a write, unless the request says otherwise
}

// OptionsFromEnvironment reads where a local site put the server: LIFEBOAT_ADDRESS
// and the disks "data" and (if there) "log" of LIFEBOAT_DISKS.
func OptionsFromEnvironment(port int) (ServerOptions, error) {
	o := ServerOptions{Address: net.JoinHostPort(os.Getenv("LIFEBOAT_ADDRESS"), strconv.Itoa(port))}
	if os.Getenv("LIFEBOAT_ADDRESS") == "" {
		return o, errors.New("LIFEBOAT_ADDRESS is not set: run this as the command of a local server")
	}
	for disk := range strings.SplitSeq(os.Getenv("LIFEBOAT_DISKS"), ",") {
		switch name, path, _ := strings.Cut(disk, "="); name {
		case "data":
			o.Data = path
		case "log":
			o.Log = path
		}
	}
	if o.Data == "" {
		return o, fmt.Errorf("LIFEBOAT_DISKS=%q has no disk named data: create the server with --disk data=…", os.Getenv("LIFEBOAT_DISKS"))
	}
	return o, nil
}

// Serve opens the database and answers until ctx ends, SIGTERM or SIGINT; then it finishes
// what it has accepted. It prints one line when it is ready.
func Serve(ctx context.Context, o ServerOptions) error {
	ctx, stop := signal.NotifyContext(ctx, syscall.SIGTERM, syscall.SIGINT)
	defer stop()
	store, err := OpenStore(o.Data, o.Log, o.Keep, o.Payload)
	if err != nil {
		return err
	}
	defer store.Close()
	listener, err := net.Listen("tcp", o.Address)
	if err != nil {
		return fmt.Errorf("listen: %w", err)
	}
	fmt.Printf("numbers server on %s, newest number %d\n", listener.Addr(), store.Newest().Number)
	return serve(ctx, listener, Handler(store, o.Payload))
}

func serve(ctx context.Context, l net.Listener, h http.Handler) error {
	server := &http.Server{Handler: h, ReadHeaderTimeout: 5 * time.Second}
	ended := make(chan error, 1)
	go func() { ended <- server.Serve(l) }()
	select {
	case err := <-ended:
		return err
	case <-ctx.Done():
	}
	grace, cancel := context.WithTimeout(context.WithoutCancel(ctx), 2*time.Second)
	defer cancel()
	if err := server.Shutdown(grace); err != nil {
		return server.Close()
	}
	return nil
}

// Health is the answer of GET /healthz.
type Health struct {
	Newest Number `json:"newest"`
	PID    int    `json:"pid"` // so that a test of disasters can kill it
}

// NumbersPage is the answer of GET /numbers.
type NumbersPage struct {
	Newest  Number   `json:"newest"`
	Numbers []Number `json:"numbers"` // at most 5000, ascending
}

const pageLimit = 5000

// Handler serves a store: POST /write[?bytes=N], GET /newest, /check, /numbers?from=N, /healthz.
func Handler(s *Store, payload int) http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("POST /write", func(w http.ResponseWriter, r *http.Request) {
		size, err := intValue(r, "bytes", payload)
		if err != nil || size < 0 || size > maxPayload {
			http.Error(w, fmt.Sprintf("bytes must be 0 to %d", maxPayload), http.StatusBadRequest)
			return
		}
		random := make([]byte, size)
		rand.Read(random) // never fails
		n, err := s.Write(random)
		if errors.Is(err, ErrFull) {
			http.Error(w, err.Error(), http.StatusInsufficientStorage)
			return
		}
		answer(w, n, err)
	})
	mux.HandleFunc("GET /newest", func(w http.ResponseWriter, _ *http.Request) { answer(w, s.Newest(), nil) })
	mux.HandleFunc("GET /check", func(w http.ResponseWriter, _ *http.Request) {
		c, err := s.Check()
		answer(w, c, err)
	})
	mux.HandleFunc("GET /numbers", func(w http.ResponseWriter, r *http.Request) {
		from, err := intValue(r, "from", 0)
		if err != nil || from < 0 {
			http.Error(w, "from must be a number", http.StatusBadRequest)
			return
		}
		numbers, err := s.Numbers(uint64(from), pageLimit)
		answer(w, NumbersPage{Newest: s.Newest(), Numbers: numbers}, err)
	})
	mux.HandleFunc("GET /healthz", func(w http.ResponseWriter, _ *http.Request) {
		answer(w, Health{Newest: s.Newest(), PID: os.Getpid()}, nil)
	})
	return mux
}

func intValue(r *http.Request, name string, missing int) (int, error) {
	text := r.URL.Query().Get(name)
	if text == "" {
		return missing, nil
	}
	return strconv.Atoi(text)
}

func answer(w http.ResponseWriter, value any, err error) {
	if err != nil {
		http.Error(w, err.Error(), http.StatusInternalServerError)
		return
	}
	w.Header().Set("Content-Type", "application/json")
	_ = json.NewEncoder(w).Encode(value) // the other side went away
}
