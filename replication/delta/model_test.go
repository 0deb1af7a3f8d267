package delta_test

import (
	"flag"
	"fmt"
	"testing"

	"lifeboat/replication/deltatest"

	"github.com/stretchr/testify/require"
)

var (
	firstSeed = flag.Uint64("seed", 1, "first seed of the model test")
	cases     = flag.Int("cases", 150, "cases of the model test")
)

// Whatever image and changes, and whatever dies at whatever moment: a copy that is complete is equal
// and durable, its root is that of the bytes, and another one sends nothing.
func TestRandomImagesChangesAndKills(t *testing.T) {
	t.Parallel()
	count := *cases
	if deltatest.Raced {
		count /= 3
	}
	for i := range uint64(count) {
		t.Run(fmt.Sprint(*firstSeed+i), func(t *testing.T) {
			t.Parallel()
			require.NoError(t, deltatest.NewCase(*firstSeed+i, t.TempDir()).Run(t.Context()))
		})
	}
}
