package activities

import (
	"context"
	"errors"
	"sync"

	"lifeboat/activities/cloud"
)

// OpenFunc opens the provider of a site.
type OpenFunc func(ctx context.Context, site cloud.Site) (cloud.Provider, error)

// Sites keeps one open provider for each site. An opening that failed is tried
// again by the next caller.
type Sites struct {
	open OpenFunc

	mu     sync.Mutex
	sites  map[cloud.Site]*openSite
	closed bool
}

type openSite struct {
	mu       sync.Mutex
	provider cloud.Provider
}

// NewSites returns a cache over open.
func NewSites(open OpenFunc) *Sites {
	return &Sites{open: open, sites: map[cloud.Site]*openSite{}}
}

// Open returns the provider of a site; it stays open until Close.
func (s *Sites) Open(ctx context.Context, site cloud.Site) (cloud.Provider, error) {
	s.mu.Lock()
	if s.closed {
		s.mu.Unlock()
		return nil, cloud.E(cloud.Unavailable, "Open", "site "+site.Name, "this process is ending", "", nil)
	}
	o, ok := s.sites[site]
	if !ok {
		o = &openSite{}
		s.sites[site] = o
	}
	s.mu.Unlock()

	o.mu.Lock()
	defer o.mu.Unlock()
	if o.provider != nil {
		return o.provider, nil
	}
	p, err := s.open(ctx, site)
	if err != nil {
		return nil, err
	}
	o.provider = p
	return p, nil
}

// Close closes every provider; nothing can be opened afterwards.
func (s *Sites) Close() error {
	s.mu.Lock()
	s.closed = true
	sites := s.sites
	s.sites = map[cloud.Site]*openSite{}
	s.mu.Unlock()
	var errs []error
	for _, o := range sites {
		o.mu.Lock()
		if o.provider != nil {
			errs = append(errs, o.provider.Close())
		}
		o.mu.Unlock()
	}
	return errors.Join(errs...)
}
