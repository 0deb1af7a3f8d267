package stage

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"
)

// Ground is where the story happens: a directory with file systems for the sites.
type Ground struct {
	dir     string
	Sites   string // directory of the sites
	mounted bool
	image   string
	Words   string // what the sites are on
}

// imageSize of the file system of the sites. It is sparse: only what is written costs.
const imageSize = 16 << 30

// PrepareGround makes the directory, and as root a file system with reflinks, on
// which a cut of a running server takes no pause.
func PrepareGround(ctx context.Context, dir string) (*Ground, error) {
	g := &Ground{dir: dir, Sites: filepath.Join(dir, "sites")}
	if err := os.MkdirAll(g.Sites, 0o700); err != nil {
		return nil, fmt.Errorf("make the directory of the sites: %w", err)
	}
	if os.Geteuid() != 0 {
		g.Words = "plain directories (not root: no loop device, no isolated networks)"
		return g, nil
	}
	var tried []string
	for _, fs := range []struct {
		name string
		mkfs []string
	}{
		{"btrfs", []string{"mkfs.btrfs", "-q", "-f"}},
		{"xfs", []string{"mkfs.xfs", "-q", "-f", "-m", "reflink=1"}},
	} {
		err := g.mount(ctx, fs.name, fs.mkfs)
		if err == nil {
			g.Words = fs.name + " on a loop device: cuts are reflinks, without a pause"
			return g, nil
		}
		if ctx.Err() != nil {
			return nil, ctx.Err()
		}
		tried = append(tried, fs.name+": "+err.Error())
	}
	g.Words = "plain directories: no file system with reflinks (" + strings.Join(tried, "; ") + ")"
	return g, nil
}

func (g *Ground) mount(ctx context.Context, name string, mkfs []string) error {
	image := filepath.Join(g.dir, "sites."+name)
	if err := os.WriteFile(image, nil, 0o600); err != nil {
		return err
	}
	if err := os.Truncate(image, imageSize); err != nil {
		return err
	}
	for _, args := range [][]string{append(mkfs, image), {"mount", "-o", "loop", image, g.Sites}} {
		if out, err := exec.CommandContext(ctx, args[0], args[1:]...).CombinedOutput(); err != nil {
			return errors.Join(fmt.Errorf("%s: %w: %s", args[0], err, lastLine(out)), os.Remove(image))
		}
	}
	g.mounted, g.image = true, image
	return nil
}

// Clear takes the file system and its image away; the loop device goes with its last mount.
func (g *Ground) Clear(ctx context.Context) error {
	if !g.mounted {
		return nil
	}
	var out []byte
	err := Poll(ctx, 20*time.Second, func() (bool, error) { // somebody may have a file open for a moment more
		var err error
		out, err = exec.CommandContext(ctx, "umount", g.Sites).CombinedOutput()
		return err == nil, nil
	})
	if err != nil {
		return fmt.Errorf("umount %s: %s: %w", g.Sites, lastLine(out), err)
	}
	g.mounted = false
	return os.Remove(g.image)
}

// Poll asks again and again until done, an error or the limit.
func Poll(ctx context.Context, limit time.Duration, done func() (bool, error)) error {
	ctx, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	tick := time.NewTicker(100 * time.Millisecond)
	defer tick.Stop()
	for {
		if ok, err := done(); ok || err != nil {
			return err
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-tick.C:
		}
	}
}

func lastLine(out []byte) string {
	lines := strings.Split(strings.TrimSpace(string(out)), "\n")
	return lines[len(lines)-1]
}
