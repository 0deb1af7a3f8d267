// Package soakcopy kills copies: many random cases in one process, and the delivered program
// with kill -9 and loss of power, on a file system that is mounted and written to. A few are
// part of the tests; `make soak-copy` runs as many as wanted.
package soakcopy
