package main

import (
	"context"
	"fmt"
	"io"
	"os"

	"lifeboat/tools/bench/floor"
	"lifeboat/tools/bench/workload"
)

// openLimits measures each stage of a copy alone.
func openLimits(_ context.Context, b *bench) ([]contender, func() error, error) {
	f, err := os.Open(b.base)
	if err != nil {
		return nil, nil, err
	}
	defer f.Close()
	es, err := workload.DataExtents(f, b.size)
	if err != nil {
		return nil, nil, err
	}
	var cs []contender
	for _, stage := range floor.Stages() {
		for _, workers := range []int{1, 2} {
			cs = append(cs, contender{who: floorName, variant: limitVariant(stage, workers), run: func(context.Context) (outcome, error) {
				rate, s, err := floor.Limit(stage, workers, b.base, es, b.path("limit.img"))
				return outcome{Sample: s, Values: map[string]float64{"rate": rate}}, err
			}})
		}
	}
	return cs, nil, nil
}

func limitVariant(stage string, workers int) string {
	return fmt.Sprintf("%s, %d", stage, workers)
}

// stageJobs names the job in which a stage is most of the product's work.
var stageJobs = []struct {
	stage, job, title, variant string
	bytes                      func(s session, st stat) float64 // that go through the stage
}{
	{floor.StageScan, "same", "nothing changed, scanned", clearly, func(s session, st stat) float64 { return st.values["scanned"] }},
	{floor.StageTCP, "full", "full", clearly, func(s session, st stat) float64 { return st.wire }},
	{floor.StageWrite, "full", "full", clearly, func(s session, st stat) float64 { return st.wire }},
	{floor.StageTLS, "full", "full", shipped, func(s session, st stat) float64 { return st.wire }},
	{floor.StageBLAKE3, "full", "full", shipped, func(s session, st stat) float64 { return 2 * st.wire }}, // at both ends
}

// writeLimits prints the limits, and what the product reaches where a stage counts most.
func writeLimits(w io.Writer, s session, stats []stat) {
	fmt.Fprint(w, "What one stage alone can do on this machine, GB/s, and what goes through it in the job of the product that uses it most (there the other stages run at the same time, on the same cores).\n\n")
	fmt.Fprint(w, "| stage | 1 core | 2 cores | the product's job | GB/s | of the limit |\n|---|---|---|---|---|---|\n")
	for _, stage := range floor.Stages() {
		one, _ := find(stats, limitVariant(stage, 1))
		two, _ := find(stats, limitVariant(stage, 2))
		limit := two.values["rate"] / 1e9
		title, rate, share := "–", "–", "–"
		for _, j := range stageJobs {
			if st, ok := s.of(j.job, productName, j.variant); ok && j.stage == stage {
				r := j.bytes(s, st) / st.wall / 1e9
				title, rate = j.title+", "+j.variant, number(r)
				if limit > 0 {
					share = fmt.Sprintf("%.0f %%", 100*r/limit)
				}
			}
		}
		fmt.Fprintf(w, "| %s | %s | %s | %s | %s | %s |\n", stage, number(one.values["rate"]/1e9), number(limit), title, rate, share)
	}
}
