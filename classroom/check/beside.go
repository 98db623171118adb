package check

import "strings"

// elsewhere is the value of the keys beside a prefix, which no program has to do with.
const elsewhere = "run elsewhere"

// beside returns keys, with their value in turn, of which one sorts before all keys with
// a prefix, and one after them: who forgets the slash at its end takes them for such keys.
func beside(prefix string) []string {
	prefix = strings.TrimSuffix(prefix, "/")
	return []string{prefix + "-old", elsewhere, prefix + "x", elsewhere}
}
