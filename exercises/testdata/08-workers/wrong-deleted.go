// Wrong: the code deleted.
package main

func main() {}
