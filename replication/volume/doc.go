// Package volume is how disks are reached: raw files, block devices, their holes,
// their clones, and what changed between two clones.
//
//   - Open and OpenTarget give a disk as bytes at offsets. Ranges that are known to be
//     zeros are found by NextData and made by Zero, so that holes stay holes.
//   - Identify says which file or device a path names, and whether it is as it was.
//   - Clone makes a frozen copy at one instant by reflink, and Diff says where two
//     such copies differ, by comparing where their bytes lie on the disk.
//
// Nothing here hides an error of the disk: a bad sector is the EIO that the kernel gave,
// a file that was cut off under a reader is io.ErrUnexpectedEOF, and a target whose
// write-back failed once fails every Sync from then on.
package volume
