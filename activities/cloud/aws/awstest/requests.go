package awstest

import (
	"time"
)

// Request is one request that the double has seen.
type Request struct {
	Service, Region, Account, Operation string
	Host                                string // that the client meant
	Error                               string // code of the answer, if it was an error
	Time                                time.Time
}

// Requests lists what was asked so far.
func (c *Cloud) Requests() []Request {
	c.mu.Lock()
	defer c.mu.Unlock()
	return append([]Request(nil), c.requests...)
}

// ForgetRequests begins a new list.
func (c *Cloud) ForgetRequests() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.requests = nil
}

// Rule changes the answers to some requests. Empty fields match all.
type Rule struct {
	Service, Region, Account, Operation string
	// Times is how often the rule applies; 0 = always.
	Times int
	// Error is what is answered; with After the work is done first, and the answer is lost.
	Error *Error
	After bool
	// Drop breaks the connection instead of answering.
	Drop bool
	// Then is called, with the lock held, when the rule applies: a test may look, or kill.
	Then func(Request)
	used int
}

// Inject adds a rule; remove takes it away.
func (c *Cloud) Inject(r Rule) (remove func()) {
	c.mu.Lock()
	defer c.mu.Unlock()
	rule := &r
	c.rules = append(c.rules, rule)
	return func() {
		c.mu.Lock()
		defer c.mu.Unlock()
		for i, x := range c.rules {
			if x == rule {
				c.rules = append(c.rules[:i], c.rules[i+1:]...)
				return
			}
		}
	}
}

// match gives the first rule for a request, and counts it. The lock is held.
func (c *Cloud) match(r Request) *Rule {
	for _, x := range c.rules {
		fits := func(want, got string) bool { return want == "" || want == got }
		if !fits(x.Service, r.Service) || !fits(x.Region, r.Region) || !fits(x.Account, r.Account) || !fits(x.Operation, r.Operation) {
			continue
		}
		if x.Times > 0 && x.used >= x.Times {
			continue
		}
		x.used++
		if x.Then != nil {
			x.Then(r)
		}
		return x
	}
	return nil
}
