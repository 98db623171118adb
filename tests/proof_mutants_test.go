//go:build unix

package tests

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"example.com/etcd-by-example/tests/internal/harness"
)

// mutant is a change of one line that breaks a promise, and the test that finds it.
type mutant struct {
	file     string
	broken   string // what the change does, for a reader
	old, new string // old stands once in the file
	folder   string // of the test
	test     string // for -run
}

var mutants = []mutant{
	{"shared/config.go", "ten times the dial timeout",
		`"DIAL_TIMEOUT", "2s"`,
		`"DIAL_TIMEOUT", "20s"`,
		"tests", "^TestConnect$/^silent$"},
	{"shared/config.go", "a dial timeout of 0",
		"timeout <= 0",
		"timeout < 0",
		"tests", "^TestConfig$"},
	{"shared/config.go", "blanks left between endpoints",
		"strings.TrimSpace(endpoints[i])",
		"endpoints[i]",
		"tests", "^TestConnect$/^a_blank$"},
	{"shared/config.go", "no KeepAliveTime",
		"KeepAliveTime:    10 * time.Second,\n",
		"",
		"tests", "^TestWatchLeavesHungMember$"},
	{"shared/config.go", "no KeepAliveTimeout",
		"\t\tKeepAliveTimeout: 6 * time.Second,\n",
		"",
		"tests", "^TestWatchLeavesHungMember$"},
	{"shared/config.go", "no authority",
		`env("CACERT", "")`,
		`""`,
		"tests", "^TestConnect$/TLS"},
	{"shared/config.go", "no client certificate",
		`env("CERT", "")`,
		`""`,
		"tests", "^TestConnect$/TLS"},
	{"shared/config.go", "certificates always verified",
		"InsecureSkipVerify: skipVerify",
		"InsecureSkipVerify: skipVerify && false",
		"tests", "^TestConnect$/TLS"},
	{"shared/config.go", "plain endpoints refused",
		"InsecureTransport:  true",
		"InsecureTransport:  false",
		"tests", "^TestConnect$/^works$"},
	{"shared/config.go", "the password in ETCDCTL_USER ignored",
		`strings.Cut(user, ":")`,
		`strings.Cut(user, "/")`,
		"tests", "^TestConnect$/user"},
	{"shared/config.go", "ETCDCTL_PASSWORD ignored",
		`env("PASSWORD", "")`,
		`""`,
		"tests", "^TestConnect$/user"},
	{"shared/config.go", "a user without a password",
		"if password == \"\" {\n\t\t\treturn",
		"if false {\n\t\t\treturn",
		"tests", "^TestConfig$"},
	{"shared/config.go", "the client logs",
		"\tconfig.Logger = zap.NewNop()\n",
		"",
		"tests", "^TestConnect$/^(two_of_three_are_down$|user)"},
	{"shared/config.go", "an empty variable counts",
		"\treturn cmp.Or(os.Getenv(\"ETCDCTL_\"+name), otherwise)",
		"\tvalue, set := os.LookupEnv(\"ETCDCTL_\" + name)\n\treturn cmp.Or(map[bool]string{false: otherwise, true: value + \" \"}[set])",
		"tests", "^TestConnect$/^empty_variables$"},
	{"shared/connect.go", "Connect does not ask who answers",
		"\tif err := Check(ctx, config); err != nil {\n",
		"\tif err := ctx.Err(); err != nil {\n",
		"tests", "^TestConnect$/refused"},
	{"shared/connect.go", "no read before the lesson begins",
		`client.Get(ctx, "health", clientv3.WithCountOnly())`,
		"client.Status(ctx, config.Endpoints[0])",
		"tests", "^TestConnect$/^(two_of_three_are_down|user_wanted)$"},
	{"shared/connect.go", "Connect without a deadline",
		"\tctx, cancel := context.WithTimeout(ctx, config.DialTimeout)\n\tdefer cancel()\n\tif err := Check",
		"\tif err := Check",
		"tests", "^TestConnect$/^two_of_three_are_down$"},
	{"shared/connect.go", "a user who may not read everything is refused",
		"err != nil && !errors.Is(err, rpctypes.ErrPermissionDenied)",
		"err != nil",
		"tests", "^TestOwnPrefix$"},
	{"shared/connect.go", "a missing leader is a timeout",
		"err = rpctypes.ErrNoLeader",
		"err = context.DeadlineExceeded",
		"tests", "^TestConnect$/^two_of_three_are_down$"},
	{"shared/connect.go", "keys without the namespace",
		"\tclient.KV = namespace.NewKV(client.KV, prefix)\n",
		"",
		"tests", "^TestNamespace$"},
	{"shared/connect.go", "watches without the namespace",
		"\tclient.Watcher = namespace.NewWatcher(client.Watcher, prefix)\n",
		"",
		"tests", "^TestNamespace$"},
	{"shared/connect.go", "leases without the namespace",
		"\tclient.Lease = namespace.NewLease(client.Lease, prefix)\n",
		"",
		"tests", "^TestNamespace$"},
	{"shared/connect.go", "Connect without the namespace",
		"\tNamespace(client)\n",
		"",
		"tests", "^TestNamespace$"},
	{"shared/connect.go", "Check without a deadline",
		"\tctx, cancel := context.WithTimeout(ctx, config.DialTimeout)\n\tdefer cancel()\n\tanonymous",
		"\tanonymous",
		"tests", "^TestConnect$/^01-connect,_silent$"},
	{"shared/connect.go", "Check as the user",
		"\tanonymous.Username, anonymous.Password = \"\", \"\"\n",
		"",
		"tests", "^TestConnect$/^refused,_with_a_user$"},
	{"shared/connect.go", "one endpoint asked after the other",
		"go func() { answers <- status(ctx, client, endpoint) }()",
		"answers <- status(ctx, client, endpoint)",
		"tests", "^TestConnect$/^silent_first$"},
	{"shared/connect.go", "the first answer decides",
		"err = <-answers; err == nil {\n\t\t\treturn nil",
		"err = <-answers; true {\n\t\t\treturn err",
		"tests", "^TestConnect$/lives$"},
	{"shared/connect.go", "an etcd that answers with an error is none",
		"errors.As(rpctypes.Error(err), new(rpctypes.EtcdError))",
		"false",
		"tests", "^TestConnect$"},
	{"shared/explain.go", "a refused connection not explained",
		`{"refused",`,
		`{"never",`,
		"tests", "^TestConnect$/refused"},
	{"shared/explain.go", "a web server not explained",
		`"HTTP/1.1 header|unexpected HTTP"`,
		`"never"`,
		"tests", "^TestConnect$/web"},
	{"shared/explain.go", "half of the web servers not explained",
		`"HTTP/1.1 header|unexpected HTTP"`,
		`"HTTP/1.1 header"`,
		"tests", "^TestConnect$/web"},
	{"shared/explain.go", "TLS against plain not explained",
		`"handshake failed: (EOF|read|write)|like a TLS handshake"`,
		`"never"`,
		"tests", "^TestConnect$/TLS"},
	{"shared/explain.go", "plain against TLS not explained",
		`"preface: (EOF|read|connection)|reset by peer|broken pipe"`,
		`"never"`,
		"tests", "^TestConnect$/TLS"},
	{"shared/explain.go", "no hint in the middle of a lesson",
		`"user name is empty|authentication failed"`,
		`"never"`,
		"tests", "^TestConnect$/user_wanted$"},
	{"shared/shared.go", "no hints",
		"err = hint(err)",
		"err = error(err)",
		"tests", "^TestConnect$/user_wanted$"},
	{"shared/shared.go", "arguments ignored",
		"flag.NArg() > 0",
		"flag.NArg() > 9",
		"tests", "^TestArguments$"},
	{"shared/shared.go", "SIGTERM ends it at once",
		", syscall.SIGTERM)",
		", syscall.SIGCHLD)",
		"tests", "^TestCtrlC$/terminated"},
	{"shared/shared.go", "a second Ctrl-C is ignored",
		"\tcontext.AfterFunc(ctx, stop)\n",
		"\t_ = stop\n",
		"tests", "^TestSecondCtrlC$"},
	{"shared/shared.go", "an interrupted connect blames etcd",
		"ctx.Err() != nil && errors.Is(err, errUnusable)",
		"false",
		"tests", "^TestCtrlCWhileConnecting$"},
	{"shared/shared.go", "it does not say that it was interrupted",
		`fmt.Errorf("interrupted: %w", err)`,
		"hint(err)",
		"tests", "^TestWaiterSaysWhyItEnds$"},
	{"shared/shared.go", "an error ends it with status 0",
		"os.Exit(1)",
		"os.Exit(0)",
		"tests", "^TestConfig$"},
	{"01-connect/main.go", "no question who answers",
		"if err := shared.Check(ctx, config)",
		"if err := ctx.Err()",
		"tests", "^TestConnect$/01-connect"},
	{"01-connect/main.go", "no namespace",
		"\tshared.Namespace(client)\n",
		"",
		"tests", "^TestOwnPrefix$"},
	{"01-connect/main.go", "calls without a deadline",
		"context.WithTimeout(ctx, 10*time.Second)",
		"context.WithCancel(ctx)",
		"tests", "^TestFaults$/^member_killed$"},
	{"01-connect/main.go", "Status without a deadline of its own",
		"context.WithTimeout(ctx, time.Second)",
		"context.WithCancel(ctx)",
		"tests", "^TestConnect$/01-connect"},
	{"01-connect/main.go", "an endpoint that does not answer ends it",
		"\t\t\tcontinue\n",
		"\t\t\treturn err\n",
		"tests", "^TestConnect$/01-connect"},
	{"01-connect/main.go", "one key counted, not a prefix",
		"clientv3.WithPrefix(), clientv3.WithCountOnly()",
		"clientv3.WithCountOnly()",
		"tests", "^TestConnectCounts$"},
	{"01-connect/main.go", "the connection is tried before it is needed",
		"\tconnection := client.ActiveConnection()\n",
		"\tconnection := client.ActiveConnection()\n\tconnection.Connect()\n\ttime.Sleep(100 * time.Millisecond)\n",
		"tests", "^TestPages$/README.md/01"},
	{"02-put/main.go", "calls without a deadline",
		"context.WithTimeout(ctx, 10*time.Second)",
		"context.WithTimeout(ctx, time.Hour)",
		"tests", "^TestFaults$/^member_killed$"},
	{"02-put/main.go", "no WithPrevKV",
		"value, clientv3.WithPrevKV())",
		"value)",
		"tests", "^TestPages$/README.md/02"},
	{"02-put/main.go", "it begins with what is there",
		"client.Delete(ctx, key); err",
		"client.Get(ctx, key); err",
		"tests", "^TestLessons$/02"},
	{"02-put/main.go", "the put read back without WithRev",
		"key, clientv3.WithRev(revision))",
		"key)",
		"tests", "^TestPutReadsItsOwn$"},
	{"03-get/main.go", "calls without a deadline",
		"context.WithTimeout(ctx, 10*time.Second)",
		"context.WithTimeout(ctx, time.Hour)",
		"tests", "^TestFaults$/^member_killed$"},
	{"03-get/main.go", "no WithCountOnly",
		"clientv3.WithPrefix(), clientv3.WithCountOnly()",
		"clientv3.WithPrefix()",
		"tests", "^TestPages$/README.md/03"},
	{"03-get/main.go", "no WithLimit",
		"clientv3.WithPrefix(), clientv3.WithLimit(2)",
		"clientv3.WithPrefix()",
		"tests", "^TestPages$/README.md/03"},
	{"03-get/main.go", "sorted upwards",
		"clientv3.SortDescend",
		"clientv3.SortAscend",
		"tests", "^TestPages$/README.md/03"},
	{"03-get/main.go", "the past read without WithRev",
		"\t\tclientv3.WithRev(past))",
		"\t\tclientv3.WithRev(0))",
		"tests", "^TestPages$/README.md/03"},
	{"04-delete/main.go", "no slash after the prefix",
		`"A prefix", dir,`,
		`"A prefix", dir[:len(dir)-1],`,
		"tests", "^TestLessons$/04"},
	{"04-delete/main.go", "no WithPrevKV",
		"dir+\"job2\",\n\t\tclientv3.WithPrevKV())",
		`dir+"job2")`,
		"tests", "^TestPages$/README.md/04"},
	{"05-lease/main.go", "a TTL of 0",
		"*ttl < 1 ",
		"*ttl < 0 ",
		"tests", "^TestFlagsOutOfRange$"},
	{"05-lease/main.go", "calls without a deadline",
		"context.WithTimeout(ctx, limit)",
		"context.WithTimeout(ctx, 60*limit)",
		"tests", "^TestFaults$/^member_killed$"},
	{"05-lease/main.go", "the lease stays when the lesson ends early",
		"\tdefer revoke(ctx, client, lease.ID)\n",
		"",
		"tests", "^TestCtrlC$/05"},
	{"05-lease/main.go", "renewed for ever",
		"client.KeepAlive(renewing, lease.ID)",
		"client.KeepAlive(ctx, lease.ID)",
		"tests", "^TestPages$/README.md/05"},
	{"05-lease/main.go", "renewals that end early are not noticed",
		"renewing.Err() == nil || ctx.Err() != nil",
		"false",
		"tests", "^TestFaults$/^leases_revoked$"},
	{"05-lease/main.go", "Grant without WithoutCancel",
		"context.WithTimeout(context.WithoutCancel(ctx), 9*time.Second)",
		"context.WithTimeout(ctx, 9*time.Second)",
		"tests", "^TestDuringGrant$/05"},
	{"05-lease/main.go", "Grant without a deadline",
		"context.WithTimeout(context.WithoutCancel(ctx), 9*time.Second)",
		"context.WithCancel(context.WithoutCancel(ctx))",
		"tests", "^TestDuringGrant$/05"},
	{"05-lease/main.go", "no WithLease",
		`"running", clientv3.WithLease(lease.ID))`,
		`"running")`,
		"tests", "^TestPages$/README.md/05"},
	{"05-lease/main.go", "the lease stays when the put fails",
		"\t\trevoke(ctx, client, lease.ID)\n",
		"",
		"tests", "^TestDuringGrant$/05"},
	{"05-lease/main.go", "it prints the TTL that was asked for",
		"lease.ID, lease.TTL)",
		"lease.ID, ttl)",
		"tests", "^TestLeaseSaysWhatWasGranted$"},
	{"05-lease/main.go", "no WithAttachedKeys",
		"id, clientv3.WithAttachedKeys())",
		"id)",
		"tests", "^TestPages$/README.md/05"},
	{"05-lease/main.go", "revoke without WithoutCancel",
		"context.WithTimeout(context.WithoutCancel(ctx), 2*time.Second)",
		"context.WithTimeout(ctx, 2*time.Second)",
		"tests", "^TestCtrlC$/05"},
	{"05-lease/main.go", "revoke without a deadline",
		"context.WithTimeout(context.WithoutCancel(ctx), 2*time.Second)",
		"context.WithCancel(context.WithoutCancel(ctx))",
		"tests", "^TestFaults$/^member_killed$"},
	{"06-watch/follow.go", "watch without WithRequireLeader",
		"context.WithCancel(clientv3.WithRequireLeader(ctx))",
		"context.WithCancel(ctx)",
		"tests", "^TestFollowWaitsForLeader$"},
	{"06-watch/follow.go", "read without WithRequireLeader",
		"\t\tclientv3.WithRequireLeader(ctx), 20*time.Second)",
		"\t\tctx, 10*time.Second)",
		"tests", "^TestFollowReadsWithoutLeader$"},
	{"06-watch/follow.go", "it does not resume, but begins again",
		"next, err = watch(ctx, client, prefix, next, changed)",
		"_, err = watch(ctx, client, prefix, next, changed)\n\t\t\tnext = 0",
		"tests", "^TestWatchProof$"},
	{"06-watch/follow.go", "a compaction ends it",
		"\t\t\tnext = 0\n",
		"\t\t\treturn err\n",
		"tests", "^TestWatchSurvivesCompaction$"},
	{"06-watch/follow.go", "a missing leader is told again and again",
		"toldAt != next",
		"toldAt != next || true",
		"tests", "^TestFollowWaitsForLeader$"},
	{"06-watch/follow.go", "no pause between tries",
		"\t\t\ttime.Sleep(500 * time.Millisecond)\n",
		"",
		"tests", "^TestFollowWaitsForLeader$"},
	{"06-watch/follow.go", "no WithPrefix where it reads",
		"client.Get(ctx, prefix, clientv3.WithPrefix())",
		"client.Get(ctx, prefix)",
		"tests", "^TestWatchProof$"},
	{"06-watch/follow.go", "the first revision after the present is left out",
		"get.Header.Revision + 1, nil",
		"get.Header.Revision + 2, nil",
		"tests", "^TestWatchProof$"},
	{"06-watch/follow.go", "watch without WithRev",
		"clientv3.WithPrevKV(), clientv3.WithRev(next))",
		"clientv3.WithPrevKV())",
		"tests", "^TestWatchProof$"},
	{"06-watch/follow.go", "no WithPrevKV",
		"clientv3.WithPrevKV(), clientv3.WithRev(next))",
		"clientv3.WithRev(next))",
		"tests", "^TestPages$/README.md/06"},
	{"06-watch/follow.go", "it resumes with what it has handed over",
		"next = event.Kv.ModRevision + 1",
		"next = event.Kv.ModRevision",
		"tests", "^TestWatchProof$"},
	{"06-watch/follow.go", "a channel closed without a reason ends it",
		"return next, client.Ctx().Err()",
		"return next, context.Canceled",
		"tests", "^TestFollowSlowly$"},
	{"06-watch/main.go", "a time of 0",
		"*duration <= 0",
		"*duration < 0",
		"tests", "^TestFlagsOutOfRange$"},
	{"06-watch/main.go", "the writer outlives the lesson",
		"\twriter.Wait()\n",
		"",
		"tests", "^TestLessonLeavesNoGoroutine$/06"},
	{"06-watch/main.go", "a failed write is not told",
		"\tif failed != nil {\n\t\treturn failed",
		"\tif false {\n\t\treturn failed",
		"tests", "^TestFaults$/^database_full$"},
	{"06-watch/main.go", "a failed write does not end the watch",
		"\t\t\tstop()\n",
		"",
		"tests", "^TestFailedWriteEndsTheWatch$"},
	{"06-watch/main.go", "writes without a deadline",
		"context.WithTimeout(ctx, 10*time.Second)",
		"context.WithCancel(ctx)",
		"tests", "^TestFaults$/^member_killed$"},
	{"07-op/main.go", "an update without a condition",
		"\t\t\tIf(clientv3.Compare(clientv3.ModRevision(hosts), \"=\", revision)).\n",
		"",
		"tests", "^TestPages$/README.md/07"},
	{"07-op/main.go", "a refused update is not tried again",
		"\t\tfmt.Printf(\"  refused: it is no longer @ %d\\n\", revision)\n",
		"\t\treturn nil\n",
		"tests", "^TestPages$/README.md/07"},
	{"08-txn-lock/lock.go", "Grant without WithoutCancel",
		"context.WithTimeout(context.WithoutCancel(ctx), 9*time.Second)",
		"context.WithTimeout(ctx, 9*time.Second)",
		"tests", "^TestDuringGrant$/08"},
	{"08-txn-lock/lock.go", "Grant without a deadline",
		"context.WithTimeout(context.WithoutCancel(ctx), 9*time.Second)",
		"context.WithCancel(context.WithoutCancel(ctx))",
		"tests", "^TestDuringGrant$/08"},
	{"08-txn-lock/lock.go", "the loss of the lease is not told",
		"\t\tend(errLost)\n",
		"",
		"tests", "^TestLostLockEndsTheWork$"},
	{"08-txn-lock/lock.go", "release without WithoutCancel",
		"\t\t\tcontext.WithoutCancel(ctx), 5*time.Second)",
		"\t\t\tctx, 5*time.Second)",
		"tests", "^TestCtrlC$/08"},
	{"08-txn-lock/lock.go", "release without a deadline",
		"context.WithTimeout(\n\t\t\tcontext.WithoutCancel(ctx), 5*time.Second)",
		"context.WithCancel(\n\t\t\tcontext.WithoutCancel(ctx))",
		"tests", "^TestFaults$/^member_killed$"},
	{"08-txn-lock/lock.go", "release revokes nothing",
		"\t\tclient.Revoke(call, lease.ID)\n",
		"\t\t_ = call\n",
		"tests", "^TestLessons$/08"},
	{"08-txn-lock/lock.go", "it waits without regard to its lease",
		"l.create(held, client",
		"l.create(ctx, client",
		"tests", "^TestWaiterSaysWhyItEnds$"},
	{"08-txn-lock/lock.go", "a loser keeps its lease",
		"\t\trelease() // Nothing",
		"\t\t// Nothing",
		"tests", "^TestWaiterSaysWhyItEnds$"},
	{"08-txn-lock/lock.go", "it waits for longer than a minute",
		"time.Minute, errBusy",
		"2*time.Minute, errBusy",
		"tests", "^TestWaiterGivesUp$"},
	{"08-txn-lock/lock.go", "whoever comes has the lock",
		"\t\t\tIf(clientv3.Compare(clientv3.CreateRevision(l.key), \"=\", 0)).\n",
		"",
		"tests", "^TestLockIsHandedOver$"},
	{"08-txn-lock/lock.go", "no WithLease",
		"OpPut(l.key, l.owner, clientv3.WithLease(lease))",
		"OpPut(l.key, l.owner)",
		"tests", "^TestLockIsHandedOver$"},
	{"08-txn-lock/lock.go", "it does not say why it ends",
		"err = context.Cause(ctx)",
		"err = ctx.Err()",
		"tests", "^TestWaiterSaysWhyItEnds$"},
	{"08-txn-lock/lock.go", "the wait without WithRev",
		"l.key, clientv3.WithRev(txn.Header.Revision+1))",
		"l.key)",
		"tests", "^TestWaitMissesNoRelease$"},
	{"08-txn-lock/main.go", "the lock stays when the lesson ends",
		"\tdefer release()\n",
		"\t_ = release\n",
		"tests", "^TestCtrlC$/08"},
	{"08-txn-lock/main.go", "the work goes on without the lock",
		"\tcase <-held.Done():\n",
		"",
		"tests", "^TestLostLockEndsTheWork$"},
	{"08-txn-lock/main.go", "a write without a condition",
		"\tif !guarded {",
		"\tif guarded {",
		"tests", "^TestStaleToken$"},
	{"08-txn-lock/main.go", "the guard cannot be turned off",
		"\t\tguards = nil",
		"\t\tguards = guards[:1]",
		"tests", "^TestLockWithoutGuard$"},
	{"08-txn-lock/main.go", "a stale token is no error",
		"\tif !txn.Succeeded {",
		"\tif false {",
		"tests", "^TestStaleToken$"},
	{"08-txn-lock/main.go", "no name",
		`*name == "" || `,
		"",
		"tests", "^TestFlagsOutOfRange$"},
	{"classroom/history/record.go", "a revision may be left out",
		"first := kv.Mod == revision+1",
		"first := kv.Mod > revision",
		"classroom/history", "^TestAppendRefuses$"},
	{"classroom/history/record.go", "a key may begin with any version",
		"e.after.Version == 1 && ",
		"",
		"classroom/history", "^TestAppendRefuses$"},
	{"classroom/history/record.go", "a change may be left out of a key's life",
		"e.after.Version == e.before.Version+1 && ",
		"",
		"classroom/history", "^TestAppendRefuses$"},
	{"classroom/history/record.go", "a revision is forgotten in part",
		"for ; r.entries[cut].revision == revision; cut++ {",
		"for once := true; once; cut, once = cut+1, false {",
		"classroom/history", "^TestAt$"},
	{"classroom/history/record.go", "the last revision is forgotten as well",
		" && r.entries[cut].revision < r.last &&",
		" &&",
		"classroom/history", "^TestAt$"},
	{"classroom/history/record.go", "the limit of bytes is not kept",
		" || r.bytes > r.limits.Bytes",
		"",
		"classroom/history", "^TestMemory$"},
	{"classroom/history/record.go", "half of the bytes are counted",
		"entrySize + cost(e.after)",
		"(entrySize + cost(e.after)) / 2",
		"classroom/history", "^TestMemory$"},
	{"classroom/history/record.go", "a snapshot is shared with the present",
		"snapshot{r.last, r.now.Clone()}",
		"snapshot{r.last, r.now}",
		"classroom/history", "^TestAt$"},
	{"classroom/history/record.go", "what is forgotten is answered",
		"\t\treturn ErrForgotten\n",
		"\t\treturn nil\n",
		"classroom/history", "^TestAt$"},
	{"classroom/history/record.go", "what is still to come is answered",
		"\t\treturn ErrFuture\n",
		"\t\treturn nil\n",
		"classroom/history", "^TestAt$"},
	{"classroom/history/record.go", "nobody is told of news",
		"\t\tclose(n.next)\n",
		"",
		"classroom/history", "^TestNext$"},
	{"classroom/history/moment.go", "a moment is the present itself",
		"m.store = r.now.Clone()",
		"m.store = r.now",
		"classroom/history", "^TestMomentStays$"},
	{"classroom/history/moment.go", "a time before the last news is the future",
		"case seen > r.heard:",
		"case seen >= r.heard:",
		"classroom/history", "^TestAt$|^TestMembers$"},
	{"classroom/history/leases.go", "an answer from before its end revives a lease",
		"asked <= log.end",
		"false",
		"classroom/history", "^TestLeases$"},
	{"classroom/history/leases.go", "an answer from before a deletion clears it",
		"asked > log.lostAt",
		"answered > log.lostAt",
		"classroom/history", "^TestLeases$"},
	{"classroom/history/leases.go", "a lease ends before its keys are seen to go",
		" || log.keys > 0",
		"",
		"classroom/history", "^TestLeases$"},
	{"classroom/history/leases.go", "a new leader counts as a renewal",
		"case now.term != last.term:",
		"case false:",
		"classroom/history", "^TestLeases$"},
	{"classroom/history/leases.go", "any later deadline counts as a renewal",
		"now.early > last.late+drift",
		"now.early > last.early+drift",
		"classroom/history", "^TestLeases$"},
	{"classroom/history/leases.go", "an end after the deadline counts as revoked",
		"log.end < log.looks[last].early",
		"log.end < log.looks[last].late",
		"classroom/history", "^TestLeases$"},
	{"classroom/history/leases.go", "metrics overrule what is known",
		"log != nil && log.ended == Ended {",
		"log != nil && log.ended != Alive {",
		"classroom/history", "^TestLeases$"},
	{"classroom/history/leases.go", "of a revision, a lease loses one key",
		"if log.lost != e.revision {",
		"if true {",
		"classroom/history", "^TestLeases$"},
	{"classroom/history/members.go", "what is not new is told",
		"of[len(of)-1].Member == m",
		"false",
		"classroom/history", "^TestMembers$"},
	{"classroom/history/members.go", "the oldest that was heard counts",
		"slices.Backward(of)",
		"slices.All(of)",
		"classroom/history", "^TestMembers$"},
	{"classroom/history/file.go", "a record without an end is loaded",
		"err = io.ErrUnexpectedEOF",
		"return l.record, nil",
		"classroom/history", "^TestSaveAndLoad$"},
	{"classroom/history/file.go", "an end that does not fit is loaded",
		"next.End.Revision != r.last",
		"false",
		"classroom/history", "^TestSaveAndLoad$"},
	{"classroom/history/file.go", "the size of a cut value is lost",
		"\t\tl.Size = kv.Size\n",
		"",
		"classroom/history", "^TestValues$"},
	{"classroom/history/recorder.go", "each page of the store is read at a revision of its own",
		"clientv3.WithRev(revision))",
		"clientv3.WithRev(0))",
		"tests", "^TestRecorderReadsOneRevision$"},
	{"classroom/history/recorder.go", "a store that was emptied is followed as before",
		"errors.Is(err, errEmptied):",
		"false:",
		"tests", "^TestAnotherStore$"},
	{"classroom/history/recorder.go", "a revision that etcd does not have yet is of the same store",
		"return false, nil // A revision never falls.",
		"return true, nil",
		"tests", "^TestAnotherStore$"},
	{"classroom/history/recorder.go", "a question without an answer means another store",
		"return err // Not known, so nothing is forgotten.",
		"record = nil",
		"tests", "^TestRecorderKeepsItsRecord$"},
	{"classroom/history/recorder.go", "the watch begins after the change that follows",
		"clientv3.WithRev(record.Last()+1))",
		"clientv3.WithRev(record.Last()+2))",
		"tests", "^TestHistoryProof$"},
	{"classroom/class/authority.go", "any authority is the class's",
		"printOf(cert) == print",
		"true",
		"classroom/class", "^TestDoor$"},
	{"classroom/class/authority.go", "whoever the authority signed is the class",
		"\t\tDNSName: serverName,\n",
		"\t\tKeyUsages: []x509.ExtKeyUsage{x509.ExtKeyUsageAny},\n",
		"classroom/class", "^TestDoor$"},
	{"classroom/class/authority.go", "the secret is another one after a restart",
		"\t\t\tcopy(a.secret[:], block.Bytes)\n",
		"\t\t\tcopy(a.secret[:], \"0000\")\n",
		"classroom/class", "^TestKept$"},
	{"classroom/class/class.go", "any secret is right",
		"c.authority.secret[:]) == 1",
		"c.authority.secret[:]) >= 0",
		"classroom/class", "^TestDoor$"},
	{"classroom/class/class.go", "secrets can be tried out",
		"tries.Tokens() < 1",
		"false",
		"classroom/class", "^TestTries$"},
	{"classroom/class/register.go", "a name that was freed is taken back by a desk",
		"} else if again {",
		"} else if false {",
		"classroom/class", "^TestDoor$"},
	{"classroom/class/register.go", "who is dismissed stays a user of etcd",
		"r.client.UserDelete(ctx, user)",
		"r.client.UserGet(ctx, user)",
		"classroom/class", "^TestDismissed$"},
	{"classroom/class/register.go", "a removed name can be had again",
		"r.client.Put(ctx, namesPrefix+name, removed)",
		"r.client.Put(ctx, namesPrefix+name, \"\")",
		"classroom/class", "^TestDoor$"},
	{"classroom/class/register.go", "a learner has the keys of all",
		"prefixRange(Prefix(name))",
		"keys{\"\\x00\", \"\\x00\"}",
		"classroom/class", "^TestWall$"},
	{"classroom/class/register.go", "no alarm is disarmed",
		"r.client.AlarmDisarm(ctx, &clientv3.AlarmMember{})",
		"r.client.AlarmList(ctx)",
		"classroom/class", "^TestRoom$"},
	{"classroom/class/prefix.go", "a comparison has no prefix",
		"c.Key, c.RangeEnd = p.keys(c.Key, c.RangeEnd)",
		"_ = c",
		"classroom/class", "^TestPrefixKnowsAllKeys$"},
	{"classroom/class/prefix.go", "all keys from one on are those of all learners",
		"return key, []byte(clientv3.GetPrefixRangeEnd(string(p)))",
		"return key, []byte(clientv3.GetPrefixRangeEnd(\"\"))",
		"classroom/class", "^TestDeskLikeNamespace$"},
	{"classroom/class/desk.go", "the members' own addresses are told",
		"\t\tmember.ClientURLs = []string{at}\n",
		"\t\tmember.ClientURLs = append(member.ClientURLs, at)\n",
		"classroom/class", "^TestDesk$"},
	{"classroom/class/call.go", "etcd is asked for the list of leases",
		"if name == pb.Lease_LeaseLeases_FullMethodName {",
		"if false {",
		"classroom/class", "^TestDesk$"},
	{"classroom/class/call.go", "nobody says that it is the class's etcd that does not answer",
		"if status.Code(err) != codes.Unavailable || rpctypes.Error(err) != err {",
		"if status.Code(err) != codes.Unavailable || rpctypes.Error(err) == err {",
		"classroom/class", "^TestDesk$"},
}

// mutantLimit bounds a test that meets a mutant, which may wait for what does not come.
const mutantLimit = 4 * time.Minute

// TestMutants breaks the code in one place at a time, and has the test of that place
// find it. It takes an hour, so that it runs only when it is named:
//
//	go test -count=1 ./tests -run Mutants -long -timeout 2h
//
// Otherwise it looks whether the list still fits the code and docs/CONTRIBUTING.md.
func TestMutants(t *testing.T) {
	t.Parallel()
	for _, m := range mutants {
		source, err := os.ReadFile(filepath.Join(harness.Root, m.file))
		if err != nil {
			t.Fatal(err)
		}
		if n := strings.Count(string(source), m.old); n != 1 {
			t.Errorf("%s, %s: it has %d times %q, want 1", m.file, m.broken, n, m.old)
		}
	}
	checkMutantTests(t)
	checkMutantTable(t)
	if !harness.Long() || !strings.Contains(flag.Lookup("test.run").Value.String(), "Mutants") || t.Failed() {
		return
	}
	dir := harness.CopyOfTree(t)
	passes := map[string]func() error{}
	for _, m := range mutants {
		name := m.folder + " " + m.test
		if passes[name] == nil {
			passes[name] = sync.OnceValue(func() error { return m.meet(t.Context(), dir) })
		}
		t.Run(m.file+": "+m.broken, func(t *testing.T) {
			if err := passes[name](); err != nil {
				t.Fatalf("without the mutant, too: %v", err)
			}
			m.apply(t, dir)
			// A mutant that does not compile would be found by every test.
			build := exec.CommandContext(t.Context(), "go", "build", "-o", os.DevNull, "./"+filepath.Dir(m.file))
			build.Dir = dir
			if output, err := build.CombinedOutput(); err != nil {
				t.Fatalf("%v\n%s", err, output)
			}
			err := m.meet(t.Context(), dir)
			if err == nil {
				t.Fatalf("%s does not find it", m.test)
			}
			t.Log(err)
		})
	}
}

// meet runs the mutant's test in a copy of the tree. The error has what a test that
// fails has printed.
func (m mutant) meet(ctx context.Context, dir string) error {
	ctx, cancel := context.WithTimeout(ctx, mutantLimit+time.Minute)
	defer cancel()
	// Lessons and shared are not linked into this program: it builds them when it runs.
	name, err := os.Executable()
	if err != nil {
		return err
	}
	var args []string
	if strings.HasPrefix(m.file, "classroom/") {
		name, args = "go", []string{"test", "-count=1", "-vet=off"}
	}
	cmd := exec.CommandContext(ctx, name, append(args, "-test.v", fmt.Sprint("-test.timeout=", mutantLimit), "-test.run="+m.test)...)
	cmd.Dir, cmd.Env = filepath.Join(dir, m.folder), harness.Env()
	cmd.WaitDelay = 10 * time.Second
	output, err := cmd.CombinedOutput()
	ran := "--- PASS"
	if strings.Contains(m.test, "/") {
		ran = "    " + ran // A test whose subtests are none of the named ones passes as well.
	}
	if err == nil && !strings.Contains(string(output), ran) {
		err = errors.New("no test has run")
	}
	if err != nil {
		return fmt.Errorf("%w\n%s", err, output)
	}
	return nil
}

// apply changes the copy of the tree, until the test ends.
func (m mutant) apply(t *testing.T, dir string) {
	t.Helper()
	name := filepath.Join(dir, m.file)
	source, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	broken := strings.Replace(string(source), m.old, m.new, 1)
	if err := os.WriteFile(name, []byte(broken), 0o600); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := os.WriteFile(name, source, 0o600); err != nil {
			t.Error(err)
		}
	})
}

// checkMutantTests looks whether there are cases with the names of those that mutants are
// to meet: a pattern that matches none passes.
func checkMutantTests(t *testing.T) {
	t.Helper()
	var sources strings.Builder
	files, err := filepath.Glob(filepath.Join(harness.Root, "tests", "*_test.go"))
	if err != nil {
		t.Fatal(err)
	}
	for _, file := range files {
		if filepath.Base(file) == "proof_mutants_test.go" {
			continue
		}
		source, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		sources.Write(source)
	}
	text := strings.ReplaceAll(sources.String(), " ", "_") + syscall.SIGTERM.String()
	for _, m := range mutants {
		_, cases, _ := strings.Cut(m.test, "/")
		for _, name := range strings.FieldsFunc(cases, func(r rune) bool { return strings.ContainsRune("^$()|/,", r) }) {
			if !strings.Contains(text, name) {
				t.Errorf("%s, %s: there is no case %s", m.file, m.broken, name)
			}
		}
	}
}

// checkMutantTable compares the table in docs/CONTRIBUTING.md with the list. With
// -update it writes it.
func checkMutantTable(t *testing.T) {
	t.Helper()
	var table strings.Builder
	table.WriteString("| file | what is broken | what finds it |\n|---|---|---|\n")
	for _, m := range mutants {
		test := strings.NewReplacer("^", "", "$", "", "|", " or ").Replace(m.test)
		fmt.Fprintf(&table, "| `%s` | %s | `%s` |\n", m.file, m.broken, test)
	}
	name := filepath.Join(harness.Root, "docs", "CONTRIBUTING.md")
	page, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	if strings.Contains(string(page), table.String()) {
		return
	}
	if !harness.Update() {
		t.Errorf("%s has not the table of mutants. Write it with: go test -count=1 ./tests -run Mutants -update", name)
		return
	}
	before := regexp.MustCompile(`\| file \| what is broken \|.*\n(\|.*\n)*`)
	page = before.ReplaceAllLiteral(page, []byte(table.String()))
	if err := os.WriteFile(name, page, 0o644); err != nil {
		t.Error(err)
	}
}
