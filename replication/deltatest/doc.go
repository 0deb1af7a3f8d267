// Package deltatest has what a copy engine is tested with: disks in memory that lose their
// power, whose calls fail, or that are too large to exist; a model of a volume and its changes;
// a link that can be cut, slowed down and corrupted; and a pair of ends over all that.
package deltatest
