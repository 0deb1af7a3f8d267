package main

import (
	"context"
	"errors"
	"os"
	"os/exec"
	"strings"
)

// product is the program that is measured.
type product struct {
	path   string // "" when it cannot copy
	digest string
}

// findProduct looks whether the program has the command `copy`.
func findProduct(ctx context.Context, path, dir string) (*product, error) {
	out, err := exec.CommandContext(ctx, path, "copy", "--help").CombinedOutput()
	switch {
	case errors.Is(err, os.ErrNotExist):
		progress("%s does not exist: build it with `make build`; only its peers are measured", path)
		return &product{}, nil
	case err != nil || !strings.Contains(string(out), "receive"):
		progress("%s has no `copy receive`: only its peers are measured", path)
		return &product{}, nil
	}
	return &product{path: path}, nil
}

func (p *product) remove() error { return nil }
func (p *product) here() bool    { return p.path != "" }

func (b *bench) productFull(p place) []contender { return nil }
func (b *bench) productDelta(ctx context.Context, p place, v version, tracked bool) ([]contender, func() error, error) {
	return nil, nil, nil
}

func otherGoals() []goal { return nil }
