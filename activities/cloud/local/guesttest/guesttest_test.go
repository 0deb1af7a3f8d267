package guesttest

import (
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

func TestBuildMakesAFileSystem(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	kernel, initrd, err := Build(dir)
	if errors.Is(err, ErrMissing) {
		t.Skip(err)
	}
	require.NoError(t, err)
	assert.FileExists(t, kernel)
	cpio, err := exec.LookPath("cpio")
	if err != nil {
		t.Skip("needs cpio (package cpio)")
	}
	file, err := os.Open(initrd)
	require.NoError(t, err)
	defer file.Close()
	cmd := exec.Command(cpio, "-it", "--quiet")
	cmd.Stdin = file
	out, err := cmd.Output()
	require.NoError(t, err)
	names := strings.Fields(string(out))
	for _, want := range []string{"init", "bin", "bin/busybox", "bin/sh", "modules/01"} {
		assert.Contains(t, names, want)
	}
	out, err = exec.Command(filepath.Join(dir, "init")).CombinedOutput()
	assert.Error(t, err, "it does nothing where it is not the first process")
	assert.Contains(t, string(out), "virtual machine")
}
