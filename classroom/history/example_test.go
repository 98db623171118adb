package history_test

import (
	"fmt"
	"time"

	"example.com/etcd-by-example/classroom/history"
)

// Each value of a counter must be one more than the last. The record tells at which
// revision that was not so, and what the whole looked like there.
func Example() {
	record := history.New(history.Limits{}, 1, nil, time.Now())
	for _, change := range []history.Put{
		{Key: "/counter", Value: "1", Create: 2, Mod: 2, Version: 1},
		{Key: "/counter", Value: "2", Create: 2, Mod: 3, Version: 2},
		{Key: "/owner", Value: "ann", Create: 4, Mod: 4, Version: 1},
		{Key: "/counter", Value: "2", Create: 2, Mod: 5, Version: 3},
	} {
		if err := record.Append([]history.Put{change}, time.Now()); err != nil {
			fmt.Println(err)
			return
		}
	}
	changes, err := record.Changes(record.First()+1, record.Last())
	if err != nil {
		fmt.Println(err)
		return
	}
	for _, c := range changes {
		if c.Key != "/counter" || c.Before == nil || c.After.Value > c.Before.Value {
			continue
		}
		moment, err := record.At(c.Revision)
		if err != nil {
			fmt.Println(err)
			return
		}
		fmt.Printf("revision %d: %s was %s, and is %s; the owner is %s\n",
			c.Revision, c.Key, c.Before.Value, c.After.Value, moment.Get("/owner").Value)
	}
	// Output: revision 5: /counter was 2, and is 2; the owner is ann
}
