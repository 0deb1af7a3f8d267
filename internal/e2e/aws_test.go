package e2e

import (
	"fmt"
	"slices"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"lifeboat/activities/cloud/aws/awstest"
	"lifeboat/workflows"
)

// Three servers of a region of AWS go through the whole life cycle, by each of the ways
// that need no agent.
func TestThreeServersOfAWSThereAndBackAgain(t *testing.T) {
	for _, transfer := range []string{"snapshots", "blocks"} {
		t.Run(transfer, func(t *testing.T) {
			t.Parallel()
			h := newCloudHouse(t)
			servers := []string{"db", "app", "web"}
			boxes := map[string]box{}
			disks := map[string][]string{"db": {"root", "data"}, "app": {"root"}, "web": {"root"}}
			for _, name := range servers {
				_, boxes[name] = h.machine(name, disks[name]...)
				boxes[name].writeLine("root", 0, "home of "+name)
			}
			head := randomBytes(t, mib)
			boxes["db"].write("data", 10*mib, head)
			h.do("plan", "apply", "-f", h.plan(transfer, servers...), "--wait")
			requests := h.count("protect", 0)
			h.do("replication", "start", "shop", "--wait")
			requests = h.count("first recovery points", requests)
			early := h.mark("shop/db", "early")
			for _, name := range servers {
				boxes[name].writeLine("root", 0, "later of "+name)
				h.mark("shop/"+name, "late")
			}

			t.Log("a drill, beside production")
			requests = h.count("two more points of one server and one of the others", requests)
			drill := ask[workflows.Report](h.house, "drill", "start", "shop")
			requests = h.count("drill", requests)
			require.Equal(t, workflows.OutcomeDone, drill.Outcome, drill.Reason)
			assert.Equal(t, servers, launchOrder(t, drill), "step after step")
			for _, s := range drill.Servers {
				inside := boxAt(t, s.IP)
				assert.Equal(t, "later of "+s.Name, inside.line("root", 0))
				inside.writeLine("root", 0, "drill")
				assert.Equal(t, "later of "+s.Name, boxes[s.Name].line("root", 0), "production does not notice")
			}
			drill = ask[workflows.Report](h.house, "drill", "clean", "shop")
			assert.Equal(t, workflows.OutcomeCleaned, drill.Outcome, drill.Reason)
			assert.Zero(t, drill.Resources.Left, drill.Resources.LeftOver)
			h.count("its clean-up", requests)

			t.Log("the region is lost")
			h.lose("primary")
			over := ask[workflows.Report](h.house, "failover", "start", "shop", "--source-down", "--yes")
			require.Equal(t, workflows.OutcomeDone, over.Outcome, over.Reason)
			assert.Empty(t, h.asked(awsRegions["primary"]), "the lost region is asked for nothing")
			h.count("failover", 0)
			away := map[string]box{}
			for _, s := range over.Servers {
				assert.Equal(t, "unknown", s.Fencing)
				away[s.Name] = boxAt(t, s.Public)
				assert.Equal(t, "later of "+s.Name, away[s.Name].line("root", 0))
			}
			assert.Equal(t, head, away["db"].read("data", 10*mib, len(head)))

			back := ask[workflows.Report](h.house, "failover", "switch-point", "shop/db", "--point", early.ID, "--yes")
			require.Equal(t, workflows.OutcomeDone, back.Outcome, back.Reason)
			away["db"] = boxAt(t, back.Servers[0].Public)
			assert.Equal(t, "home of db", away["db"].line("root", 0), "the earlier point")
			h.do("failover", "commit", "shop", "--wait")
			assert.Empty(t, h.asked(awsRegions["primary"]), "nor for a commit")
			assert.Empty(t, h.leftAt("recovery", h.recoveredIDs(servers)...), "commit removes the points")

			t.Log("the region is back: the way home")
			h.find("primary")
			for _, name := range servers {
				away[name].writeLine("root", 0, "abroad of "+name)
			}
			h.do("reverse", "register", "shop", "--wait")
			h.do("reverse", "start", "shop", "--wait")
			home := ask[workflows.Report](h.house, "failback", "start", "shop", "--yes")
			require.Equal(t, workflows.OutcomeDone, home.Outcome, home.Reason)
			var homeIDs []string
			for _, s := range home.Servers {
				assert.Equal(t, "abroad of "+s.Name, boxAt(t, s.Public).line("root", 0))
				homeIDs = append(homeIDs, s.ServerID)
			}
			h.do("server", "register", "shop", "--wait")
			assert.Empty(t, h.leftAt("recovery"), "what the failover made is gone")
			assert.Empty(t, h.leftAt("primary", homeIDs...), "nor is anything left at home but the servers")

			t.Log("protected again, and failed over as planned")
			h.do("replication", "start", "shop", "--wait")
			for _, s := range home.Servers {
				boxAt(t, s.Public).writeLine("root", 0, "last of "+s.Name)
			}
			over = ask[workflows.Report](h.house, "failover", "start", "shop", "--yes")
			require.Equal(t, workflows.OutcomeDone, over.Outcome, over.Reason)
			for _, s := range over.Servers {
				assert.Equal(t, "done", s.Fencing)
				assert.Equal(t, "last of "+s.Name, boxAt(t, s.Public).line("root", 0), "a planned failover loses nothing")
			}
			h.do("failover", "cancel", "shop", "--wait")
			h.do("replication", "stop", "shop", "--wait")
			for _, name := range servers {
				h.do("server", "remove", "shop/"+name, "--yes", "--wait")
			}
			assert.Empty(t, h.leftAt("recovery"))
			assert.Empty(t, h.leftAt("primary", homeIDs...))
			ways := map[string]bool{"snapshots": slices.Contains(h.asked(awsRegions["primary"]), "ec2 CopySnapshot"),
				"blocks": slices.Contains(h.asked(awsRegions["primary"]), "ebs PutSnapshotBlock")}
			assert.Equal(t, map[string]bool{"snapshots": transfer == "snapshots", "blocks": transfer == "blocks"}, ways, "it went the way that the plan says")
		})
	}
}

// recoveredIDs are the servers at the recovery site.
func (h *cloudHouse) recoveredIDs(servers []string) (ids []string) {
	h.t.Helper()
	for _, name := range servers {
		view := h.server("shop/" + name)
		require.NotNil(h.t, view.Recovered, name)
		ids = append(ids, view.Recovered.ID)
		require.NotEmpty(h.t, view.Recovered.Disks, fmt.Sprintf("disks of %s", name))
	}
	return ids
}

// A switch of the point that fails brings the earlier recovered server back: not another
// one from its recovery point, but with all that was written to its disks since.
func TestAFailedSwitchInAWSBringsTheServerBackOnItsOwnDisks(t *testing.T) {
	t.Parallel()
	h := newCloudHouse(t)
	_, origin := h.machine("db", "root", "data")
	origin.writeLine("root", 0, "home")
	origin.writeLine("data", 0, "home")
	h.do("plan", "apply", "-f", h.plan("snapshots", "db"), "--wait")
	h.do("replication", "start", "shop", "--wait")
	early := h.mark("shop/db", "early")
	over := ask[workflows.Report](h.house, "failover", "start", "shop", "--yes")
	require.Equal(t, workflows.OutcomeDone, over.Outcome, over.Reason)
	away := boxAt(t, over.Servers[0].Public)
	away.writeLine("root", 0, "abroad")
	away.writeLine("data", 0, "abroad")

	h.cloud.Inject(awstest.Rule{Region: awsRegions["recovery"], Operation: "RunInstances", Times: 1,
		Error: &awstest.Error{Code: "InvalidParameterCombination", Message: "it cannot be"}})
	back := asked[workflows.Report](h.house, failed, "failover", "switch-point", "shop", "--point", early.ID, "--yes")
	assert.Contains(t, back.Reason, "it cannot be")
	view := h.server("shop/db")
	assert.Equal(t, workflows.PhaseFailedOver, view.Phase)
	assert.NotEqual(t, over.Servers[0].ServerID, view.Recovered.ID, "an instance that was terminated is gone")
	away = boxAt(t, view.Recovered.Public)
	assert.Equal(t, "abroad", away.line("root", 0))
	assert.Equal(t, "abroad", away.line("data", 0))

	back = ask[workflows.Report](h.house, "failover", "switch-point", "shop", "--point", early.ID, "--yes")
	require.Equal(t, workflows.OutcomeDone, back.Outcome, back.Reason)
	assert.Equal(t, "home", boxAt(t, back.Servers[0].Public).line("data", 0))
	h.do("failover", "commit", "shop", "--wait")
	assert.Empty(t, h.leftAt("recovery", back.Servers[0].ServerID))
}
