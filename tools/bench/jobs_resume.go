package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"time"

	"lifeboat/tools/bench/measure"
)

const (
	wholeVariant = "not disturbed"
	deadSender   = "sender killed"
	deadReceiver = "receiver killed"
)

// openResume kills an end of a full copy in its middle and starts it again.
func openResume(_ context.Context, b *bench) ([]contender, func() error, error) {
	if !b.product.here() {
		return nil, nil, errNoProduct
	}
	var cs []contender
	for _, m := range []mode{modeClear, modeShipped} {
		r := b.newReplica(m, b.path("resume.img"))
		cs = append(cs, r.full(b.inMemory(), b.base, wholeVariant+", "+m.variant))
		for _, victim := range []string{deadSender, deadReceiver} {
			c := r.full(b.inMemory(), b.base, victim+", "+m.variant)
			c.run = func(ctx context.Context) (outcome, error) { return r.killed(ctx, b.base, victim) }
			cs = append(cs, c)
		}
	}
	return cs, nil, nil
}

// end is a process of a copy that is started again until it ends well.
type end struct {
	command measure.Command
	process *measure.Process
	ended   chan error
}

func (e *end) start(ctx context.Context, g *measure.Group) (err error) {
	if e.process, err = g.Start(ctx, e.command); err != nil {
		return err
	}
	p := e.process
	e.ended = make(chan error, 1)
	go func() { e.ended <- p.Wait() }()
	return nil
}

// killed makes a full copy during which one end gets SIGKILL when half of the
// data is over, and is started again at once.
func (r *replica) killed(ctx context.Context, source, victim string) (o outcome, err error) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	g := measure.Start()
	receiver, sender := &end{command: r.receiver()}, &end{command: r.sender(source)}
	if err := errors.Join(receiver.start(ctx, g), sender.start(ctx, g)); err != nil {
		return o, err
	}
	half := r.bench.size * 40 / 100 / 2 // 40 % of the image is data
	if err := reach(ctx, g, half, sender); err != nil {
		return o, err
	}
	dead := sender
	if victim == deadReceiver {
		dead = receiver
	}
	if err := dead.process.Kill(); err != nil {
		return o, fmt.Errorf("kill: %w", err)
	}
	<-dead.ended // it was killed: its error is wanted
	if err := dead.start(ctx, g); err != nil {
		return o, err
	}
	restarts, err := r.await(ctx, g, sender, receiver)
	if err != nil {
		return o, err
	}
	o.Sample = g.Stop()
	rep, err := parseReport(sender.process.Output())
	o.Values = rep.values()
	o.Values["restarts"] = float64(restarts)
	return o, err
}

// reach waits until so many bytes went over the loopback.
func reach(ctx context.Context, g *measure.Group, bytes int64, sender *end) error {
	look := time.NewTicker(2 * time.Millisecond)
	defer look.Stop()
	for g.Wire() < bytes {
		select {
		case err := <-sender.ended:
			return fmt.Errorf("the copy ended before its middle: %w", errors.Join(err, errors.New("the loopback did not carry half of the data")))
		case <-ctx.Done():
			return ctx.Err()
		case <-look.C:
		}
	}
	return nil
}

// await waits for both ends; one that gave up because the other was dead is
// started again, and counted.
func (r *replica) await(ctx context.Context, g *measure.Group, sender, receiver *end) (restarts int, err error) {
	const patience = 3
	for sender.ended != nil || receiver.ended != nil {
		e := sender
		select {
		case err = <-sender.ended:
		case err = <-receiver.ended:
			e = receiver
		}
		e.ended = nil
		if err == nil {
			continue
		}
		if restarts++; restarts > patience || ctx.Err() != nil {
			return restarts, err
		}
		if err := e.start(ctx, g); err != nil {
			return restarts, err
		}
	}
	return restarts, nil
}

// again returns what a disturbed copy sent beyond an undisturbed one, and how
// long it took in comparison.
func again(stats []stat, victim, variant string) (sent, slower float64, st stat, ok bool) {
	whole, ok := find(stats, wholeVariant+", "+variant)
	st, ok2 := find(stats, victim+", "+variant)
	if !ok || !ok2 {
		return 0, 0, st, false
	}
	return max(0, st.wire-whole.wire), st.wall / whole.wall, st, true
}

func writeResume(w io.Writer, _ session, stats []stat) {
	fmt.Fprint(w, "A full copy; one end gets `kill -9` when half of the data is over, and is started again at once.\n\n| what | wall s | of the undisturbed | wire MB | sent again MiB | the last sender read MB | survivor started again |\n|---|---|---|---|---|---|---|\n")
	for _, m := range []mode{modeClear, modeShipped} {
		if whole, ok := find(stats, wholeVariant+", "+m.variant); ok {
			fmt.Fprintf(w, "| %s | %s | 1.00× | %s | – | %s | – |\n", whole.variant, number(whole.wall), number(whole.wire/1e6), number(whole.values["scanned"]/1e6))
		}
		for _, victim := range []string{deadSender, deadReceiver} {
			if sent, slower, st, ok := again(stats, victim, m.variant); ok {
				fmt.Fprintf(w, "| %s | %s | %.2f× | %s | %.1f | %s | %.0f times |\n", st.variant, number(st.wall), slower, number(st.wire/1e6), sent/(1<<20), number(st.values["scanned"]/1e6), st.values["restarts"])
			}
		}
	}
	for _, st := range stats {
		if st.failed != "" {
			fmt.Fprintf(w, "\n%s failed: %s\n", st.variant, oneLine(st.failed))
		}
	}
}
