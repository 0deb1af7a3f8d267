package activities

import "go.temporal.io/sdk/worker"

// RegisterCloud serves a queue cloud.<provider>.…
func RegisterCloud(r worker.ActivityRegistry, c *Cloud) { r.RegisterActivity(c) }

// RegisterHost serves a queue host.<agent>.
func RegisterHost(r worker.ActivityRegistry, h *Host) { r.RegisterActivity(h) }

// RegisterAgentless serves the host queue of a cloud worker, by the same names.
func RegisterAgentless(r worker.ActivityRegistry, a *Agentless) { r.RegisterActivity(a) }

// RegisterControl serves the queue lifeboat, beside the workflows.
func RegisterControl(r worker.ActivityRegistry, c *Control) { r.RegisterActivity(c) }
