// Package state keeps everything denywatch must remember in one file, changed
// only in whole cuts: positions, counts, baselines, markers, incidents and the
// outbox of one instant become durable together or not at all.
//
// The store is a bbolt file in the state folder. Values carry a CRC-32C; a store
// that cannot be read is set aside under a new name, never deleted, and the
// process starts cold with a clear message.
package state
