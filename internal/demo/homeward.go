package demo

import (
	"context"
	"fmt"
	"strings"

	"lifeboat/internal/demo/stage"
	"lifeboat/workflows"
)

// reverse protects the recovered server back to the primary site.
func (s *story) reverse(ctx context.Context) error {
	s.page.title("The way home: replicate back onto new disks")
	if err := s.cli.run(ctx, nil, "reverse", "register", stage.Plan, "--wait"); err != nil {
		return err
	}
	view, err := s.replicate(ctx, "reverse", "start", stage.Plan, "--wait")
	if err != nil {
		return err
	}
	s.page.say("%s read, %s sent to the primary site; in real time again, the other way round",
		size(view.Replication.BytesScanned), size(view.Replication.BytesSent))
	_, err = s.world.WaitAcks(ctx, 50)
	return err
}

// failback is planned: nothing may be lost.
func (s *story) failback(ctx context.Context) error {
	s.page.title("Failback: planned, so nothing may be lost")
	var report workflows.Report
	if err := s.cli.run(ctx, &report, "failback", "start", stage.Plan, "--yes"); err != nil {
		return err
	}
	if _, err := s.world.WaitAcks(ctx, 5); err != nil {
		return fmt.Errorf("the client does not reach the server at home: %w", err)
	}
	r, err := s.measure(ctx, "failback", report)
	if err != nil {
		return err
	}
	s.tell(r)
	s.keep(r, workflows.OutcomeDone)
	if r.m.LostAfter > 0 {
		s.fault("failback: %d acknowledged writes were lost on a planned way", r.m.LostAfter)
	}
	return nil
}

// register protects the server at home again; what is still at the recovery site
// makes that a delta.
func (s *story) register(ctx context.Context) error {
	s.page.title("Protected again, by a delta")
	if err := s.cli.run(ctx, nil, "server", "register", stage.Plan, "--wait"); err != nil {
		return err
	}
	view, err := s.replicate(ctx, "replication", "start", stage.Plan, "--wait")
	if err != nil {
		return err
	}
	s.page.say("%s sent of %s of data: the rest was still at the recovery site", size(view.Replication.BytesSent), size(view.Replication.BytesTotal))
	if view.Replication.BytesSent > view.Replication.BytesTotal/4 {
		s.fault("register: %s were sent, that is no delta", size(view.Replication.BytesSent))
	}
	return nil
}

// goodbye takes the server out of protection and counts what is left at the sites.
func (s *story) goodbye(ctx context.Context) error {
	s.page.title("Goodbye: what is left at the sites?")
	if err := s.cli.run(ctx, nil, "replication", "stop", stage.Plan, "--wait"); err != nil {
		return err
	}
	if err := s.cli.run(ctx, nil, "server", "remove", stage.Plan+"/"+stage.Server, "--yes", "--wait"); err != nil {
		return err
	}
	if err := s.cli.run(ctx, nil, "plan", "delete", stage.Plan, "--yes"); err != nil {
		return err
	}
	t, left, err := s.leftOver(ctx)
	if err != nil {
		return err
	}
	s.page.say("in the whole story: %d resources created, %d deleted, %d in service, %d left", t.Created, t.Deleted, t.Kept, len(left))
	if len(left) > 0 {
		s.fault("left over: %s", strings.Join(left, ", "))
	}
	return nil
}
