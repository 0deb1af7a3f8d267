package floor

import (
	"path/filepath"
	"testing"

	"lifeboat/tools/bench/workload"
)

func TestShipmentsArrive(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	from := filepath.Join(dir, "from")
	const size = 32 << 20
	if err := workload.Generate(from, size, 7); err != nil {
		t.Fatal(err)
	}
	for _, proof := range []Proof{None, Fast, Secure} {
		to := filepath.Join(dir, "to")
		if err := workload.CreateSparse(to, size); err != nil {
			t.Fatal(err)
		}
		s, err := Shipment{From: from, To: to, Extents: []workload.Extent{{Length: size}}, Connections: 2, SkipZeros: true, Proof: proof}.Run()
		if err != nil {
			t.Fatalf("proof %d: %v", proof, err)
		}
		if err := workload.Verify(from, to); err != nil {
			t.Fatalf("proof %d: %v", proof, err)
		}
		if s.Wall <= 0 || s.CPU <= 0 {
			t.Fatalf("proof %d: got %+v", proof, s)
		}
	}
}

func TestEveryStageHasALimit(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	image := filepath.Join(dir, "image")
	if err := workload.Generate(image, 16<<20, 7); err != nil {
		t.Fatal(err)
	}
	for _, stage := range Stages() {
		for n := 1; n <= 2; n++ {
			rate, _, err := Limit(stage, n, image, []workload.Extent{{Length: 16 << 20}}, filepath.Join(dir, "scratch"))
			if err != nil || rate <= 0 {
				t.Errorf("%s with %d: %f bytes a second, %v", stage, n, rate, err)
			}
		}
	}
}
