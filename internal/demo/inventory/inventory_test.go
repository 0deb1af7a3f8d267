package inventory

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"lifeboat/activities/cloud"
)

func item(id, token string) Item {
	return Item{Kind: cloud.KindDisk, Resource: cloud.Resource{ID: id, Tags: map[string]string{cloud.TagToken: token}}}
}

func server(id, token string) Item {
	i := item(id, token)
	i.Kind = cloud.KindServer
	return i
}

func free(i Item) Item {
	i.State = cloud.Available
	return i
}

func leaving(i Item) Item {
	i.State = cloud.Deleting
	return i
}

func TestAuditSaysWhatDoesNotFitTheLedger(t *testing.T) {
	t.Parallel()
	now := time.Now()
	made := func(token, id string) cloud.Entry {
		return cloud.Entry{Token: token, Kind: cloud.KindDisk, ID: id, Operation: "drill/shop/1", Created: &now}
	}
	gone := made("a", "d1")
	gone.Deleted = &now
	for name, c := range map[string]struct {
		items   []Item
		entries []cloud.Entry
		want    string
	}{
		"in order":         {[]Item{item("d1", "a")}, []cloud.Entry{made("a", "d1")}, ""},
		"not of Lifeboat":  {[]Item{item("d1", "")}, nil, ""},
		"deleted":          {nil, []cloud.Entry{gone}, ""},
		"made twice":       {[]Item{item("d1", "a"), item("d2", "a")}, []cloud.Entry{made("a", "d1")}, "made 2 times"},
		"still there":      {[]Item{item("d1", "a")}, []cloud.Entry{gone}, "says it was deleted"},
		"on its way out":   {[]Item{leaving(item("d1", "a"))}, []cloud.Entry{gone}, ""},
		"with its disk":    {[]Item{server("i1", "a"), item("d1", "a")}, []cloud.Entry{{Token: "a", Kind: cloud.KindServer, ID: "i1", Created: &now}}, ""},
		"a disk stays":     {[]Item{free(item("d1", "a"))}, []cloud.Entry{{Token: "a", Kind: cloud.KindServer, ID: "i1", Created: &now, Deleted: &now}}, "is left of server i1"},
		"a disk goes on":   {[]Item{item("d1", "a")}, []cloud.Entry{{Token: "a", Kind: cloud.KindServer, ID: "i1", Created: &now, Deleted: &now}}, ""},
		"made together":    {[]Item{item("d1", "a"), item("d2", "a")}, []cloud.Entry{made("a", "d1"), made("b", "d2")}, ""},
		"vanished":         {nil, []cloud.Entry{made("a", "d1")}, "says it is there"},
		"another one":      {[]Item{item("d2", "a")}, []cloud.Entry{made("a", "d1")}, "d2 is there instead"},
		"unknown":          {[]Item{item("d2", "b")}, nil, "does not know disk d2"},
		"never made":       {nil, []cloud.Entry{{Token: "a", Kind: cloud.KindDisk}}, "never made"},
		"a record is fine": {nil, []cloud.Entry{{Token: "a", Kind: cloud.KindRecord}}, ""},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			faults := audit("here", c.items, c.entries, nil)
			if c.want == "" {
				require.Empty(t, faults)
				return
			}
			require.Len(t, faults, 1)
			require.Contains(t, faults[0], c.want)
		})
	}
}

func TestAuditAllowsAnnouncementsWhileAnOperationRuns(t *testing.T) {
	t.Parallel()
	require.Empty(t, audit("here", nil, []cloud.Entry{{Token: "a", Kind: cloud.KindDisk}}, func(cloud.Entry) bool { return true }))
}
