//go:build race

package deltatest

// Raced tells that the race detector watches: all is slower, and takes more memory.
const Raced = true
