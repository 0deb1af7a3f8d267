package aws

import (
	"fmt"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"lifeboat/activities/cloud"
	"lifeboat/activities/cloud/aws/awstest"
)

func TestTagsWithPatternsAreTakenAtTheirWord(t *testing.T) {
	t.Parallel()
	d := apiDouble(t, awstest.Options{PageSize: 1})
	p := d.home()
	values := []string{"a*c", "abc", "a?c", `a\c`, ""}
	for i, v := range values {
		_, err := p.StartCreateDisk(t.Context(), cloud.CreateDisk{Create: cloud.Create{Token: fmt.Sprint("disk-", i), Tags: map[string]string{"tag": v}}, Bytes: gib})
		require.NoError(t, err)
	}
	for _, v := range values {
		list, err := p.Disks(t.Context(), cloud.Filter{Tags: map[string]string{"tag": v}})
		require.NoError(t, err)
		require.Len(t, list, 1, "%q", v)
		require.Equal(t, v, list[0].Tags["tag"])
	}
	all, err := p.Disks(t.Context(), cloud.Filter{})
	require.NoError(t, err)
	require.Len(t, all, len(values), "all pages")
}

func TestTheProvidersOwnTagsAreNotShown(t *testing.T) {
	t.Parallel()
	own := map[string]string{"aws:cloudformation:stack-name": "stack"}
	for _, k := range hiddenTags {
		own[k] = "value"
	}
	own[cloud.TagPlan] = "shop"
	require.Equal(t, map[string]string{cloud.TagPlan: "shop"}, contractTags(own))
	require.Len(t, own, len(hiddenTags)+2, "the map of the caller stays as it is")
	require.Equal(t, map[string]string{tagName: "web", cloud.TagToken: "token", "a": "b", tagTime: "now"},
		allTags(cloud.Create{Token: "token", Name: "web", Tags: map[string]string{"a": "b"}}, map[string]string{tagTime: "now"}))
}

func TestTheMemoryOfTokensIsBounded(t *testing.T) {
	t.Parallel()
	m := rememberSite(t.Name())
	require.Same(t, m, rememberSite(t.Name()))
	for i := range memorySize + 5 {
		m.remember(fmt.Sprint(i), known{})
	}
	require.Len(t, m.known, memorySize)
	_, there := m.made("4")
	require.False(t, there, "the oldest are forgotten")
	forgetSite(t.Name())
	forgetSite(t.Name())
	require.NotSame(t, m, rememberSite(t.Name()), "nobody used it any more")
	forgetSite(t.Name())
}

// FuzzImageNames: any name and token give a name that EC2 admits.
func FuzzImageNames(f *testing.F) {
	f.Add("web server", "lb-0123456789abcdef")
	f.Add("ü", "~")
	f.Fuzz(func(t *testing.T, name, token string) {
		n := imageName(cloud.Create{Name: name, Token: token})
		require.GreaterOrEqual(t, len(n), 3)
		require.LessOrEqual(t, len(n), 128)
		require.Empty(t, strings.Trim(n, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789()[] ./-'@_"))
	})
}
