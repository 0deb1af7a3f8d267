package plan

import (
	"fmt"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

func localSite(name string) Site {
	return Site{Name: name, Provider: "local", Directory: "/sites/" + name}
}

func TestAProposedPlanIsValidAndKeepsAddresses(t *testing.T) {
	t.Parallel()
	text, err := Propose(Offer{Name: "My Shop", Sites: []Site{localSite("recovery"), localSite("primary"), localSite("names")}, Servers: []OfferedServer{
		{Site: "primary", Name: "Web Server", ID: "srv-1", IP: "10.5.0.7", Network: "Prod Net", CIDR: "10.5.0.0/24", Ports: []int{8080}, Disks: []string{"system", "data disk: 2"}},
		{Site: "primary", Name: "web-server", ID: "0123", IP: "10.5.0.7", Network: "Prod Net", CIDR: "10.5.0.0/24"},
		{Site: "primary", Name: "true", IP: "10.5.0.9", CIDR: "10.5.0.0/16"},
		{Site: "primary", ID: "\"odd\" \\ name", IP: "192.168.3.4"},
		{Site: "recovery", Name: "standby"},
	}})
	require.NoError(t, err)
	p, err := Read("proposed.yaml", text, nil)
	require.NoError(t, err, string(text))
	require.Equal(t, "my-shop", p.Metadata.Name)
	require.Equal(t, "primary", p.Spec.SitePairs[0].Primary)
	byName := map[string]Server{}
	for _, s := range p.Spec.Servers {
		byName[s.Name] = s
	}
	require.Len(t, byName, 4, "servers of the recovery site are not proposed")
	require.Equal(t, "10.5.0.7", byName["web-server"].Launch.IP)
	require.Equal(t, 8080, byName["web-server"].Launch.Health.Port)
	require.Equal(t, []string{"system", "data disk: 2"}, byName["web-server"].Disks)
	require.Equal(t, "0123", byName["web-server-2"].Source)
	require.Empty(t, byName["web-server-2"].Launch.IP, "the address is taken")
	require.Equal(t, "true", byName["true"].Source)
	require.Equal(t, `"odd" \ name`, byName["odd-name"].Source)
	require.Equal(t, "192.168.3.4", byName["odd-name"].Launch.IP)
	require.Contains(t, string(text), "site: names, server: odd-name", "DNS is proposed at the third site")
}

func TestProposedNamesStayApartAndShort(t *testing.T) {
	t.Parallel()
	long := strings.Repeat("very-long-name-", 5)
	offer := Offer{Sites: []Site{localSite("primary"), localSite("recovery")}}
	for i, network := range []string{"x-recovery", "x", long, long, "", "2026-01-02", "null"} {
		offer.Servers = append(offer.Servers, OfferedServer{Site: "primary", Name: long, ID: fmt.Sprint(i), IP: fmt.Sprintf("10.5.%d.7", i), Network: network})
	}
	text, err := Propose(offer)
	require.NoError(t, err)
	p, err := Parse("proposed.yaml", text)
	require.NoError(t, err)
	require.Len(t, p.Spec.Networks, 14)
	require.Len(t, p.Spec.Servers, 7)
}

func TestAnOfferThatMakesNoPlanIsAnErrorWithItsMend(t *testing.T) {
	t.Parallel()
	_, err := Propose(Offer{Sites: []Site{localSite("primary")}})
	require.ErrorContains(t, err, "add a second site")
	_, err = Propose(Offer{Sites: []Site{localSite("primary"), localSite("recovery")}})
	require.ErrorContains(t, err, "no server is offered")
	_, err = Propose(Offer{Sites: []Site{localSite("primary"), {Name: "recovery", Provider: "local"}}, Servers: []OfferedServer{{Site: "primary", Name: "web"}}})
	require.ErrorContains(t, err, "a local site needs a directory")
}

func TestCopiesOnLoopbackGetAddressesOfTheirOwn(t *testing.T) {
	t.Parallel()
	text, err := Propose(Offer{Sites: []Site{localSite("primary"), localSite("recovery")}, Servers: []OfferedServer{
		{Site: "primary", Name: "db", IP: "127.20.0.11", Network: "main", CIDR: "127.20.0.0/24"}}})
	require.NoError(t, err)
	p, err := Read("proposed.yaml", text, nil)
	require.NoError(t, err, string(text))
	require.Len(t, p.Spec.Networks, 2)
	require.Equal(t, "127.20.1.0/24", p.Spec.Networks[1].CIDR, "both would listen at one address of one machine")
	require.Empty(t, p.Spec.Servers[0].Launch.IP)
}
