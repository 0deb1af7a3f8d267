package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"path/filepath"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"lifeboat/activities/cloud"
	"lifeboat/activities/cloud/local"
	"lifeboat/internal/logging"
	"lifeboat/workflows/plan"
)

func newLocalCommand(a *app) *cobra.Command {
	return noun("local", "Servers of local sites, to try things without a cloud",
		"A local site is a data directory on this machine. Its servers are processes or\nvirtual machines with real disks, networks, public addresses and DNS. `lifeboat dev`\nhas three of them: primary, recovery and names.",
		newLocalCreateServerCommand(a), newLocalListCommand(a), newLocalDestroyCommand(a))
}

// siteFlags choose a local site.
type siteFlags struct{ name, dir string }

func (f *siteFlags) add(a *app, cmd *cobra.Command) {
	cmd.Flags().StringVar(&f.name, "site", "", "name of a site of `lifeboat dev`")
	cmd.Flags().StringVar(&f.dir, "site-dir", "", "data directory of the site, without dev")
	a.completeSite(cmd)
}

func (a *app) completeSite(cmd *cobra.Command) {
	err := cmd.RegisterFlagCompletionFunc("site", func(*cobra.Command, []string, string) ([]string, cobra.ShellCompDirective) {
		sites, err := a.devSites()
		if err != nil {
			return nil, cobra.ShellCompDirectiveError
		}
		return slices.Sorted(maps.Keys(sites)), cobra.ShellCompDirectiveNoFileComp
	})
	if err != nil {
		panic(err)
	}
}

// sites gives name and directory of the chosen site, or of all sites of dev.
func (f *siteFlags) sites(a *app) (map[string]string, error) {
	if f.dir != "" {
		dir, err := filepath.Abs(f.dir)
		if err != nil {
			return nil, usagef("--site-dir: %v", err)
		}
		name := f.name
		if name == "" {
			name = filepath.Base(dir)
		}
		return map[string]string{name: dir}, nil
	}
	known, err := a.devSites()
	if err != nil {
		return nil, err
	}
	if f.name == "" {
		if len(known) == 0 {
			return nil, usagef("no local site is known: start `lifeboat dev` here, set LIFEBOAT_DATA to its data directory, or give --site-dir DIR")
		}
		return known, nil
	}
	dir, there := known[f.name]
	if !there {
		return nil, usagef("--site %s: dev has no such site (there are: %s; or give --site-dir DIR)", f.name, joined(slices.Sorted(maps.Keys(known))))
	}
	return map[string]string{f.name: dir}, nil
}

// openSite opens a local site; the caller closes it.
func (a *app) openSite(ctx context.Context, name, dir string) (*local.Provider, error) {
	log, err := a.log()
	if err != nil {
		return nil, err
	}
	return local.Open(ctx, cloud.Site{Name: name, Provider: "local", Directory: dir}, local.Options{Log: logging.Slog(log)})
}

// localSite is what `local list -o json` prints, one a site.
type localSite struct {
	Site      string          `json:"site"`
	Directory string          `json:"directory"`
	Servers   []cloud.Server  `json:"servers"`
	Networks  []cloud.Network `json:"networks"`
	Disks     []cloud.Disk    `json:"disks"`
	Addresses []cloud.Address `json:"addresses"`
	Snapshots int             `json:"snapshots"`
}

func newLocalListCommand(a *app) *cobra.Command {
	var f siteFlags
	cmd := &cobra.Command{
		Use: "list", Short: "List the servers of local sites",
		Long:    "List shows the servers of the local sites of dev, or of one site; -o json also gives\nnetworks, disks and public addresses.",
		Example: "  lifeboat local list\n  lifeboat local list --site recovery -o json",
		Args:    cobra.NoArgs,
	}
	f.add(a, cmd)
	return a.runs(cmd, func(ctx context.Context, _ []string) error {
		chosen, err := f.sites(a)
		if err != nil {
			return err
		}
		found := []localSite{}
		for _, name := range sortedKeys(chosen) {
			site, err := a.describeSite(ctx, name, chosen[name])
			if err != nil {
				return err
			}
			found = append(found, site)
		}
		return a.print(found, func(w io.Writer) { localTable(w, found) })
	})
}

func (a *app) describeSite(ctx context.Context, name, dir string) (localSite, error) {
	p, err := a.openSite(ctx, name, dir)
	if err != nil {
		return localSite{}, err
	}
	defer p.Close()
	site := localSite{Site: name, Directory: dir}
	var errs [5]error
	var snapshots []cloud.Snapshot
	site.Servers, errs[0] = p.Servers(ctx, cloud.Filter{})
	site.Networks, errs[1] = p.Networks(ctx, cloud.Filter{})
	site.Disks, errs[2] = p.Disks(ctx, cloud.Filter{})
	site.Addresses, errs[3] = p.Addresses(ctx, cloud.Filter{})
	snapshots, errs[4] = p.Snapshots(ctx, cloud.Filter{})
	site.Snapshots = len(snapshots)
	return site, errors.Join(errs[:]...)
}

func localTable(w io.Writer, sites []localSite) {
	row(w, "SITE", "SERVER", "STATE", "NETWORK", "ADDRESS", "PORTS", "PUBLIC", "DISKS", "OF")
	for _, site := range sites {
		networks := map[string]string{}
		for _, n := range site.Networks {
			networks[n.ID] = n.Name
		}
		disks := map[string]cloud.Disk{}
		for _, d := range site.Disks {
			disks[d.ID] = d
		}
		for _, s := range site.Servers {
			var names []string
			for _, d := range s.Disks {
				names = append(names, fmt.Sprintf("%s=%s", d.Name, size(disks[d.DiskID].Bytes)))
			}
			state := string(s.State)
			if s.Message != "" {
				state += " (" + s.Message + ")"
			}
			row(w, site.Site, orDash(s.Name)+" "+s.ID, state, networks[s.Network], s.IP, portsText(s.Ports), s.Public, joined(names), s.Tags[cloud.TagOperation])
		}
		if len(site.Servers) == 0 {
			row(w, site.Site, "-", "", "", "", "", "", "", "")
		}
	}
}

func portsText(ports []int) string {
	return strings.Trim(strings.ReplaceAll(fmt.Sprint(ports), " ", ","), "[]")
}

func newLocalDestroyCommand(a *app) *cobra.Command {
	var f siteFlags
	var yes bool
	cmd := &cobra.Command{
		Use: "destroy", Short: "Stop and delete everything of local sites",
		Long:    "Destroy stops all servers of the local sites of dev, or of one site, and deletes what\nthe site made. Files and devices that were adopted as disks stay.",
		Example: "  lifeboat local destroy --site recovery\n  lifeboat local destroy --site-dir /srv/site --yes",
		Args:    cobra.NoArgs,
	}
	f.add(a, cmd)
	cmd.Flags().BoolVar(&yes, "yes", false, "do not ask")
	return a.runs(cmd, func(ctx context.Context, _ []string) error {
		chosen, err := f.sites(a)
		if err != nil {
			return err
		}
		names := sortedKeys(chosen)
		if !yes && !a.interactive() {
			return usagef("local destroy: it deletes all servers and disks of %s; say --yes to mean it", joined(names))
		}
		if err := a.confirm(yes, "Delete all servers and disks of %s?", joined(names)); err != nil {
			return err
		}
		for _, name := range names {
			p, err := a.openSite(ctx, name, chosen[name])
			if err != nil {
				return err
			}
			if err := errors.Join(p.Destroy(ctx), p.Close()); err != nil {
				return about("site "+name, err)
			}
			a.say("site %s: destroyed", name)
		}
		return nil
	})
}

func newPlanInitCommand(a *app) *cobra.Command {
	var path, name string
	var given []string
	cmd := &cobra.Command{
		Use: "init", Short: "Propose a plan from what local sites offer",
		Long:    "Init looks at the local sites of dev, or at those given with --site, and proposes a\ncommented plan that protects their servers. It goes to standard output, or to -f FILE.",
		Example: "  lifeboat plan init -f plan.yaml\n  lifeboat plan init --site a=/srv/a --site b=/srv/b --name shop",
		Args:    cobra.NoArgs,
	}
	cmd.Flags().StringVarP(&path, "file", "f", "", "file to write; it must not exist")
	cmd.Flags().StringVar(&name, "name", "my-plan", "name of the plan")
	cmd.Flags().StringArrayVar(&given, "site", nil, "NAME=DIR of a local site (repeatable; default: the sites of dev)")
	return a.runs(cmd, func(ctx context.Context, _ []string) error {
		chosen, err := parseSites(given)
		if err == nil && len(chosen) == 0 {
			chosen, err = (&siteFlags{}).sites(a)
		}
		if err != nil {
			return err
		}
		offer, err := a.offer(ctx, name, chosen)
		if err != nil {
			return err
		}
		text, err := plan.Propose(offer)
		if err != nil {
			return usagef("plan init: %v", err)
		}
		if path != "" {
			if err := writeNew(path, text); err != nil {
				return err
			}
			a.say("wrote %s; look at it, then: lifeboat plan apply -f %s", path, path)
			return nil
		}
		_, err = a.Out.Write(text)
		return err
	})
}

// siteOrder puts the sites that dev makes by itself into the order of their roles.
var siteOrder = []string{"primary", "recovery", "names"}

// offer describes local sites to the proposer of plans.
func (a *app) offer(ctx context.Context, name string, sites map[string]string) (plan.Offer, error) {
	offer := plan.Offer{Name: name}
	names := sortedKeys(sites)
	slices.SortStableFunc(names, func(a, b string) int {
		place := func(n string) int {
			if i := slices.Index(siteOrder, n); i >= 0 {
				return i
			}
			return len(siteOrder)
		}
		return place(a) - place(b)
	})
	for _, siteName := range names {
		offer.Sites = append(offer.Sites, plan.Site{Name: siteName, Provider: "local", Directory: sites[siteName]})
		site, err := a.describeSite(ctx, siteName, sites[siteName])
		if err != nil {
			return offer, err
		}
		networks := map[string]cloud.Network{}
		for _, n := range site.Networks {
			networks[n.ID] = n
		}
		for _, s := range site.Servers {
			if s.Tags[cloud.TagPlan] != "" {
				continue // made by a recovery
			}
			offered := plan.OfferedServer{Site: siteName, Name: s.Name, ID: s.ID, IP: s.IP, Ports: s.Ports,
				Network: networks[s.Network].Name, CIDR: networks[s.Network].CIDR}
			for _, d := range s.Disks {
				offered.Disks = append(offered.Disks, d.Name)
			}
			offer.Servers = append(offer.Servers, offered)
		}
	}
	return offer, nil
}

// parseSites reads NAME=DIR.
func parseSites(given []string) (map[string]string, error) {
	sites := map[string]string{}
	for _, text := range given {
		name, dir, ok := strings.Cut(text, "=")
		if !ok || name == "" || dir == "" {
			return nil, usagef("--site %q: write NAME=DIR, for example --site primary=/srv/primary", text)
		}
		if strings.ContainsAny(name, "/ .") {
			return nil, usagef("--site %q: a site is named by letters, digits and dashes", text)
		}
		path, err := filepath.Abs(dir)
		if err != nil {
			return nil, usagef("--site %q: %v", text, err)
		}
		if _, twice := sites[name]; twice {
			return nil, usagef("--site %s: given twice", name)
		}
		sites[name] = path
	}
	return sites, nil
}
