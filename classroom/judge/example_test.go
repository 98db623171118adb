package judge_test

import (
	"fmt"
	"time"

	"example.com/etcd-by-example/classroom/history"
	"example.com/etcd-by-example/classroom/judge"
)

// Two workers share a lock. The first one is paused until its lease has ended, and
// then writes its result all the same.
func Example() {
	record := history.New(history.Limits{}, 1, nil, time.Now())
	for _, change := range []history.Put{
		{Key: "/lock", Value: "ann", Create: 2, Mod: 2, Version: 1, Lease: 7},
		{Key: "/lock", Mod: 3}, // It is gone, with its lease.
		{Key: "/lock", Value: "ben", Create: 4, Mod: 4, Version: 1, Lease: 8},
		{Key: "/result", Value: "4", Create: 5, Mod: 5, Version: 1},
		{Key: "/result", Value: "2", Create: 5, Mod: 6, Version: 2},
	} {
		if err := record.Append([]history.Put{change}, time.Now()); err != nil {
			fmt.Println(err)
			return
		}
	}

	holders, err := judge.OneHolder(record, 1, record.Last(), judge.Key("/lock"))
	fmt.Println(len(holders), err)

	// The value of the result is the token with which it was written.
	late, err := judge.Fenced(record, 1, record.Last(), judge.Key("/result"),
		func(kv *history.KeyValue) (lock string, token int64) {
			fmt.Sscan(kv.Value, &token)
			return "/lock", token
		})
	for _, breach := range late {
		fmt.Println(breach)
	}
	fmt.Println(err)

	_, err = judge.OneHolder(record, 0, record.Last(), judge.Key("/lock"))
	fmt.Println(err)
	// Output:
	// 0 <nil>
	// revision 6: /result is written with token 2, and token 4 has /lock; the token is lower than 4, with which it was written before
	// <nil>
	// the changes from revision 1 to 6: the record does not reach back so far
}
