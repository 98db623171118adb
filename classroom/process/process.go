// Package process starts programs in process groups of their own, so that a
// Ctrl-C typed at a terminal reaches only its foreground program, which then
// decides what happens to the others.
package process
