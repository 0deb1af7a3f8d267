package activities

import (
	"context"
	"fmt"
	"slices"
	"time"

	"lifeboat/activities/cloud"
)

// ReadyPointInput asks whether the newest recovery point of a server can be started from.
type ReadyPointInput struct {
	Site   Site   `json:"site"` // where its snapshots are
	Plan   string `json:"plan"`
	Server string `json:"server"`
	Point  Point  `json:"point"`
	// RPO and Interval are the plan's; 0 = none.
	RPO      time.Duration `json:"rpo"`
	Interval time.Duration `json:"interval"`
}

// oldImage is the age from which an image no longer resembles its server.
const oldImage = 30 * 24 * time.Hour

// CheckReadyPoint looks at the snapshots behind a recovery point, and at images of the server.
func (c *Cloud) CheckReadyPoint(ctx context.Context, in ReadyPointInput) ([]Check, error) {
	return run(ctx, func(ctx context.Context) ([]Check, error) {
		l := c.look(in.Site)
		l.ask(ctx, Check{Check: CheckKindSnapshot, Server: in.Server, Subject: fmt.Sprintf("%d of recovery point %s", len(in.Point.Disks), in.Point.ID)},
			func(ctx context.Context) (Finding, error) { return l.judgeSnapshots(ctx, in) })
		l.ask(ctx, Check{Check: CheckKindImage, Server: in.Server, Subject: "images of the server"},
			func(ctx context.Context) (Finding, error) { return l.judgeImages(ctx, in) })
		return l.result(ctx)
	})
}

func (l *looking) judgeSnapshots(ctx context.Context, in ReadyPointInput) (Finding, error) {
	snapshots, err := capability[cloud.Snapshots](ctx, l.c, in.Site, "snapshots")
	if err != nil {
		return Finding{}, err
	}
	oldest := in.Point.Time
	for _, d := range in.Point.Disks {
		s, err := snapshots.Snapshot(ctx, d.Snapshot)
		if cloud.IsNotFound(err) {
			return Finding{CheckFail, "the snapshot " + d.Snapshot + " of disk " + d.Name + " is gone",
				"mark a new point: lifeboat point mark " + in.Plan + "/" + in.Server}, nil
		}
		if err != nil {
			return Finding{}, err
		}
		if s.State != cloud.Available {
			return Finding{CheckFail, fmt.Sprintf("the snapshot %s of disk %s is %s %s", s.ID, d.Name, s.State, s.Message),
				"mark a new point: lifeboat point mark " + in.Plan + "/" + in.Server}, nil
		}
		if !s.Time.IsZero() && s.Time.Before(oldest) {
			oldest = s.Time
		}
	}
	f := JudgeAge(l.c.now().Sub(oldest), in.RPO, in.Interval)
	f.Cause = "are complete; what they hold " + f.Cause
	return f, nil
}

// judgeImages looks at images that are kept: what a drill or failover registers for its
// own launch is not.
func (l *looking) judgeImages(ctx context.Context, in ReadyPointInput) (Finding, error) {
	images, err := capability[cloud.Images](ctx, l.c, in.Site, "images")
	if err != nil {
		return Finding{}, err
	}
	all, err := images.Images(ctx, cloud.Filter{Tags: map[string]string{cloud.TagPlan: in.Plan, cloud.TagServer: in.Server}})
	if err != nil {
		return Finding{}, err
	}
	all = slices.DeleteFunc(all, func(i cloud.Image) bool {
		return i.Tags[cloud.TagRole] == RoleDrill || i.Tags[cloud.TagRole] == RoleRecovered
	})
	if len(all) == 0 {
		return fine("none is kept: the recovery starts from the recovery point alone")
	}
	newest := slices.MaxFunc(all, func(a, b cloud.Image) int { return a.Created.Compare(b.Created) })
	age := l.c.now().Sub(newest.Created).Round(time.Second)
	switch {
	case newest.State == cloud.Failing:
		return Finding{CheckFail, "the newest, " + newest.ID + ", failed: " + newest.Message, "make it again"}, nil
	case newest.State != cloud.Available:
		return Finding{CheckWarn, "the newest, " + newest.ID + ", is " + string(newest.State), "wait until it is available"}, nil
	case age > oldImage:
		return Finding{CheckWarn, fmt.Sprintf("the newest, %s, is %s old", newest.ID, age), fmt.Sprintf("make a new one: after %s it hardly resembles the server", oldImage)}, nil
	}
	return fine("the newest, %s, is %s old", newest.ID, age)
}
