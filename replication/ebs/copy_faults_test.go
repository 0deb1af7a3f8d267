package ebs_test

import (
	"os"
	"path/filepath"
	"sync/atomic"
	"testing"
	"time"

	"lifeboat/replication/ebs"

	"github.com/aws/aws-sdk-go-v2/service/ebs/types"
	"github.com/stretchr/testify/require"
)

func TestPassingErrorsAreWaitedFor(t *testing.T) {
	t.Parallel()
	for _, err := range []error{
		&types.RequestThrottledException{}, &types.ServiceQuotaExceededException{}, &types.ConcurrentLimitExceededException{},
		&types.InternalServerException{}, apiError("ThrottlingException"),
	} {
		p := newPair(t, 8, ebs.Options{}, 1, many(30))
		fail := func(s *service) {
			s.before = func(op string, _ int64) error {
				if s.count(op)%5 == 1 {
					return err
				}
				return nil
			}
		}
		fail(p.from)
		fail(p.to)
		p.run(t)
	}
}

func TestWhatDoesNotPassIsSaidByKind(t *testing.T) {
	t.Parallel()
	for _, c := range []struct{ err, want error }{
		{&types.AccessDeniedException{}, ebs.ErrDenied},
		{&types.ConflictException{}, ebs.ErrConflict},
		{&types.RequestThrottledException{}, ebs.ErrThrottled},
		{&types.InternalServerException{}, ebs.ErrUnavailable},
		{&types.ResourceNotFoundException{}, ebs.ErrNotFound},
	} {
		p := newPair(t, 0, ebs.Options{Retry: time.Millisecond}, 1, disk(1))
		p.to.before = func(op string, _ int64) error {
			if op == "start" {
				return c.err
			}
			return nil
		}
		_, err := p.copy.Run(t.Context())
		require.ErrorIs(t, err, c.want)
		require.ErrorIs(t, err, c.err)
	}
}

func TestASpoiledBlockIsNeverCopied(t *testing.T) {
	t.Parallel()
	p := newPair(t, 0, ebs.Options{}, 1, disk(1, 2, 3))
	var spoiled atomic.Int64
	p.from.spoil = func(index int64, b []byte) {
		if index == 2 && spoiled.Add(1) <= 2 {
			b[77] ^= 1
		}
	}
	p.run(t)
	require.EqualValues(t, 3, spoiled.Load(), "asked for again")

	p.copy.Spec.Token = "always spoiled"
	p.from.spoil = func(_ int64, b []byte) { b[0] ^= 1 }
	_, err := p.copy.Run(t.Context())
	require.ErrorIs(t, err, ebs.ErrChecksum)
	for _, x := range p.to.snapshots {
		if x.state != "completed" {
			require.Empty(t, x.blocks)
		}
	}
}

func TestAStateThatDoesNotFitBeginsAnew(t *testing.T) {
	t.Parallel()
	p := newPair(t, 1, ebs.Options{}, 1, many(20))
	p.to.before = func(op string, _ int64) error {
		if op == "put" && p.to.count("put") > 10 {
			return errKilled
		}
		return nil
	}
	_, err := p.copy.Run(t.Context())
	require.ErrorIs(t, err, errKilled)
	p.to.before = nil
	files, err := filepath.Glob(filepath.Join(p.copy.Spec.State, "*.sums"))
	require.NoError(t, err)
	require.Len(t, files, 1)
	f, err := os.OpenFile(files[0], os.O_RDWR, 0)
	require.NoError(t, err)
	_, err = f.WriteAt([]byte{1, 2, 3}, 32+5*32) // the record of a block
	require.NoError(t, err)
	require.NoError(t, f.Close())
	p.run(t)
}

func TestTokensMayExpireAndPagesBeEmpty(t *testing.T) {
	t.Parallel()
	p := newPair(t, 3, ebs.Options{}, 1, many(40))
	p.from.perPage, p.from.empty = 7, true
	p.from.before = func(op string, _ int64) error {
		if op == "get" && p.from.count("get")%12 == 5 {
			p.from.change(func() { p.from.epoch++ })
		}
		return nil
	}
	p.run(t)
}
