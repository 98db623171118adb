package check

import (
	"context"
	"errors"
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	clientv3 "go.etcd.io/etcd/client/v3"

	"example.com/etcd-by-example/classroom/etcdtest"
	"example.com/etcd-by-example/classroom/history"
)

func TestMain(m *testing.M) { etcdtest.Main(m, nil) }

// play plays a round with a program that does nothing and ends with status 0.
func play(t *testing.T, ctx context.Context, members int, scene func(*round, *program)) (Result, error) {
	t.Helper()
	binary, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	var left *round
	result, err := Run(ctx, Exercise{"00-nothing", []scenario{{"scene", members, func(r *round) {
		left = r
		p := r.program("-test.run=^$")
		scene(r, p)
	}}}}, binary, nil)
	if left != nil {
		if _, err := os.Stat(left.etcd.Dir); !os.IsNotExist(err) {
			t.Errorf("the folder of its etcd is still there: %v", err)
		}
		for _, p := range left.programs {
			if p.process != nil && !p.hasEnded() {
				t.Error("its program still runs")
			}
		}
	}
	return result, err
}

func TestAStrikeThatDidNotHappenPassesNobody(t *testing.T) {
	t.Parallel()
	etcdtest.Reserve(t, 1)
	result, err := play(t, t.Context(), 1, func(r *round, p *program) {
		p.strike("a write of /visits", writes("/visits"), func(c *call) { c.lose() })
		p.start()
		p.succeed(time.Minute, "")
	})
	if err == nil || !strings.Contains(err.Error(), "a write of /visits never came") {
		t.Error(result, err)
	}
}

func TestAForgottenHistoryPassesNobody(t *testing.T) {
	t.Parallel()
	etcdtest.Reserve(t, 1)
	for about, judge := range map[string]func(*round){
		"a round that looks at changes": func(r *round) { r.changes("/visits") },
		"a round that looks at none":    func(*round) {},
	} {
		result, err := play(t, t.Context(), 1, func(r *round, p *program) {
			r.put("/visits", "1")
			r.recorder.Close()
			var err error
			r.recorder, err = history.Start(r.ctx, history.Source{Etcd: clientv3.Config{Endpoints: r.etcd.Endpoints()}})
			r.must(err)
			r.client = r.recorder.Client()
			r.sync()
			judge(r)
		})
		if err == nil || !errors.Is(err, history.ErrForgotten) {
			t.Error(about, result, err)
		}
	}
}

func TestInterruptedInTheMiddle(t *testing.T) {
	t.Parallel()
	etcdtest.Reserve(t, 1)
	ctx, cancel := context.WithCancel(t.Context())
	_, err := play(t, ctx, 1, func(r *round, p *program) {
		p.start()
		cancel()
		r.wait(time.Minute, func() bool { return false })
	})
	if !errors.Is(err, context.Canceled) {
		t.Error(err)
	}
}

// TestWhatIsJudgedIsKept prints without a pause, in pieces, and then what is judged.
func TestWhatIsJudgedIsKept(t *testing.T) {
	t.Parallel()
	for judged, want := range map[*regexp.Regexp][]string{
		shownLine: {`{"revision":2}`, `{"revision":3}`, `{"revision":4}`, `{"revision":5}`},
		nil:       {`{"revision":2}`, `{"revision":3}`, `{"revision":5}`},
	} {
		o := output{judged: judged}
		noise := strings.Repeat("I have heard of {nothing} yet.\n", 64<<10)
		var all strings.Builder
		for _, text := range []string{`{"revision":2}` + "\n", `{"revision":3}` + "\n", noise, `{"revision":4}` + "\n", noise, `{"revision":5}`} {
			all.WriteString(text)
		}
		for piece := range slices.Chunk([]byte(all.String()), 4099) {
			o.Write(piece)
		}
		var got []string
		for line := range strings.Lines(o.String()) {
			if line = strings.TrimSpace(line); strings.HasPrefix(line, "{") {
				got = append(got, line)
			}
		}
		if !slices.Equal(got, want) {
			t.Errorf("judged %v: kept are %q, want %q", judged, got, want)
		}
		if size := len(o.String()); !o.isCut() || size < outputLimit-100 || size > outputLimit+100 {
			t.Errorf("judged %v: %d bytes are kept; cut: %v", judged, size, o.isCut())
		}
	}
	var endless output
	for range 3 {
		endless.Write(make([]byte, outputLimit))
	}
	if size := len(endless.String()); !endless.isCut() || size > 2*outputLimit {
		t.Errorf("of a line without an end, %d bytes are kept; cut: %v", size, endless.isCut())
	}
}

// TestCutOutputIsSaid refuses a program for what it has not printed, where not all was kept.
func TestCutOutputIsSaid(t *testing.T) {
	t.Parallel()
	etcdtest.Reserve(t, 1)
	for times, want := range map[int]string{
		1: "There is no line of revision 7. Which one is it?",
		2: "The program has printed more than 1 MiB, and not all of it was read. ",
	} {
		result, err := play(t, t.Context(), 1, func(r *round, p *program) {
			p.said.Write([]byte(strings.Repeat("Here I am.\n", times*60_000)))
			r.refuse(0, "There is no line of revision %d. Which one is it?", 7)
		})
		if err != nil || !strings.HasPrefix(result.Text, want) {
			t.Errorf("%d times: %q, %v", times, result.Text, err)
		}
	}
}

// TestEffects looks at which requests would change something, and which have.
func TestEffects(t *testing.T) {
	t.Parallel()
	etcdtest.Reserve(t, 1)
	put := func(key string) *pb.RequestOp {
		return &pb.RequestOp{Request: &pb.RequestOp_RequestPut{RequestPut: &pb.PutRequest{Key: []byte(key)}}}
	}
	remove := func(key, end string) *pb.RequestOp {
		return &pb.RequestOp{Request: &pb.RequestOp_RequestDeleteRange{
			RequestDeleteRange: &pb.DeleteRangeRequest{Key: []byte(key), RangeEnd: []byte(end)}}}
	}
	version := func(key string, n int64) *pb.Compare {
		return &pb.Compare{Key: []byte(key), Target: pb.Compare_VERSION, TargetUnion: &pb.Compare_Version{Version: n}}
	}
	in := func(txn *pb.TxnRequest) *pb.RequestOp {
		return &pb.RequestOp{Request: &pb.RequestOp_RequestTxn{RequestTxn: txn}}
	}
	_, err := play(t, t.Context(), 1, func(r *round, p *program) {
		for _, test := range []struct {
			about string
			txn   *pb.TxnRequest
			want  bool
		}{
			{"a put", &pb.TxnRequest{Success: []*pb.RequestOp{put("/a/x")}}, true},
			{"a put elsewhere", &pb.TxnRequest{Success: []*pb.RequestOp{put("/b")}}, false},
			{"a put that is refused", &pb.TxnRequest{Compare: []*pb.Compare{version("/a/1", 7)},
				Success: []*pb.RequestOp{put("/a/x")}}, false},
			{"a put in place of one that is refused", &pb.TxnRequest{Compare: []*pb.Compare{version("/a/1", 7)},
				Failure: []*pb.RequestOp{put("/a/x")}}, true},
			{"a delete", &pb.TxnRequest{Success: []*pb.RequestOp{remove("/a/1", "")}}, true},
			{"a delete of nothing", &pb.TxnRequest{Success: []*pb.RequestOp{remove("/a/2", "")}}, false},
			{"a delete of all", &pb.TxnRequest{Success: []*pb.RequestOp{remove("\x00", "\x00")}}, true},
			{"a transaction in one", &pb.TxnRequest{Success: []*pb.RequestOp{put("/b"), in(&pb.TxnRequest{
				Compare: []*pb.Compare{version("/a/1", 1)}, Success: []*pb.RequestOp{put("/a/x")}})}}, true},
			{"a transaction in one, refused", &pb.TxnRequest{Success: []*pb.RequestOp{in(&pb.TxnRequest{
				Compare: []*pb.Compare{version("/a/1", 7)}, Success: []*pb.RequestOp{put("/a/x")}})}}, false},
		} {
			r.commit(clientv3.OpDelete("/", clientv3.WithPrefix()))
			r.put("/a/1", "")
			if got := r.would(test.txn, "/a/"); got != test.want {
				t.Errorf("%s: it would: %v", test.about, got)
			}
			ctx, cancel := r.soon()
			answer, err := pb.NewKVClient(r.client.ActiveConnection()).Txn(ctx, test.txn)
			cancel()
			if err != nil {
				t.Errorf("%s: %v", test.about, err)
			} else if got := did(test.txn, answer, "/a/"); got != test.want {
				t.Errorf("%s: it did: %v", test.about, got)
			}
		}
	})
	if err != nil {
		t.Error(err)
	}
}
