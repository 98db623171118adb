// Wrong: the answer written down.
package main

import "fmt"

func main() {
	for i := range 50 {
		fmt.Printf("/config/%02d -> %q\n", i, "on")
	}
}
