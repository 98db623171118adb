// Wrong: the answer written down.
package main

import "fmt"

func main() {
	fmt.Println("1000 jobs at revision 1001")
	for i := range 1000 {
		fmt.Printf("job%04d -> %q\n", i, "run daily")
	}
}
