// Package e2e tests denywatch as its users meet it: the binary as a process of
// its own, real log files that grow and rotate, real web servers, and receivers
// that answer badly. It holds tests only.
//
// The tests promise for a whole process what the other packages promise for
// their parts: whatever moment it is killed at, no line is lost or counted twice
// and no notification is lost or told twice.
//
// Tests take their bounds from the deadline of go test, and pace what they write
// by the clock, but none of them waits for luck: each waits for a condition. The
// long ones are left out with -short.
package e2e
