// Wrong: the answer written down, as somebody saw it once.
package main

import "fmt"

func main() {
	fmt.Println(`{"revision":1,"jobs":{}}`)
	fmt.Println(`{"revision":7,"jobs":{"job1":"run daily"}}`)
	fmt.Println(`{"revision":8,"jobs":{}}`)
	select {}
}
