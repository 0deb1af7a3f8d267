package temporalserver

import (
	"context"
	"fmt"
	"os/exec"
	"regexp"
	"strconv"
	"time"
)

// ServerVersion is the Temporal server that `lifeboat dev` runs, as the pinned
// command line tool (CLIVersion) contains it.
const ServerVersion = "1.29.1"

// Version is a release of the Temporal server.
type Version struct{ Major, Minor, Patch int }

var (
	versionForm = regexp.MustCompile(`^(\d{1,6})\.(\d{1,6})\.(\d{1,6})$`)
	serverWords = regexp.MustCompile(`\(Server (\d+\.\d+\.\d+)`)
)

// ParseVersion reads "major.minor.patch".
func ParseVersion(s string) (Version, error) {
	m := versionForm.FindStringSubmatch(s)
	if m == nil {
		return Version{}, fmt.Errorf("%q is not a version: write it as 1.29.1", s)
	}
	var n [3]int
	for i := range n {
		n[i], _ = strconv.Atoi(m[i+1]) // six digits always fit
	}
	return Version{n[0], n[1], n[2]}, nil
}

// String gives "major.minor.patch".
func (v Version) String() string { return fmt.Sprintf("%d.%d.%d", v.Major, v.Minor, v.Patch) }

// Before tells whether v is older than w.
func (v Version) Before(w Version) bool {
	if v.Major != w.Major {
		return v.Major < w.Major
	}
	if v.Minor != w.Minor {
		return v.Minor < w.Minor
	}
	return v.Patch < w.Patch
}

// fits tells whether v can run the data that the pinned server runs: the same
// minor release, because `start-dev` never migrates the schema of its file, and
// not an older patch.
func (v Version) fits(pinned Version) bool {
	return v.Major == pinned.Major && v.Minor == pinned.Minor && !v.Before(pinned)
}

// pinnedVersion is ServerVersion parsed; a test keeps the constant well formed.
func pinnedVersion() Version {
	v, err := ParseVersion(ServerVersion)
	if err != nil {
		panic(err)
	}
	return v
}

// versionOf asks the program at path for the version of the server in it.
func versionOf(ctx context.Context, path string) (Version, error) {
	ctx, cancel := context.WithTimeout(ctx, 20*time.Second)
	defer cancel()
	out, err := exec.CommandContext(ctx, path, "--version").CombinedOutput()
	if err != nil {
		return Version{}, fmt.Errorf("%s --version: %w: %s", path, err, tail(out, 200))
	}
	m := serverWords.FindSubmatch(out)
	if m == nil {
		return Version{}, fmt.Errorf("%s --version names no server: %q is not the Temporal command line tool", path, tail(out, 200))
	}
	return ParseVersion(string(m[1]))
}

// tail gives the last n bytes of out, for messages.
func tail(out []byte, n int) string {
	if len(out) > n {
		out = out[len(out)-n:]
	}
	return string(out)
}
