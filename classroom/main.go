// Classroom runs an etcd that needs no Docker, the lessons against it, and a
// page that shows what both do: the board.
//
//	go run ./classroom               an etcd on 127.0.0.1:2379, and the board,
//	                                 until Ctrl-C; with ETCDCTL_ENDPOINTS set,
//	                                 only the board, of the etcd that it names
//	go run ./classroom -members 3    three members, on 2379, 2381 and 2383
//	go run ./classroom -data DIR     keep the data in DIR
//	go run ./classroom -board :8380  show the board to a class as well, who
//	                                 can look at everything and change nothing
//	go run ./classroom tour          all lessons in order, on an etcd of its own,
//	                                 or on the one that ETCDCTL_ENDPOINTS names
//	go run ./classroom tour 02-put   only the lessons named
//
// While an etcd runs, from another terminal:
//
//	go run ./classroom member list         its members, with their roles
//	go run ./classroom member kill etcd2   also stop, pause, resume, restart; and
//	                                       for a name also leader, followers, or
//	                                       stopped: those that do not run
//	go run ./classroom reset               empty the store, also one that -data
//	                                       keeps: it is at revision 1 again, with
//	                                       no leases and no users
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"syscall"

	"example.com/etcd-by-example/classroom/cluster"
)

func main() {
	cluster.Main()

	ctx, stop := signal.NotifyContext(context.Background(),
		os.Interrupt, syscall.SIGTERM, syscall.SIGHUP)
	context.AfterFunc(ctx, stop)
	err := run(ctx, os.Args[1:])
	switch {
	case errors.Is(err, flag.ErrHelp):
		return
	case errors.Is(err, errUsage):
		os.Exit(2)
	case err != nil:
		fmt.Fprintf(os.Stderr, "classroom: %v\n", err)
		os.Exit(1)
	}
}

// errUsage is returned when the flags were wrong, which the flag package has
// printed already.
var errUsage = errors.New("wrong flags")

func run(ctx context.Context, args []string) error {
	flags := flag.NewFlagSet("classroom", flag.ContinueOnError)
	members := flags.Int("members", 1, "start this `number` of members")
	data := flags.String("data", "", "keep the data in `dir`; "+
		"without it, a temporary folder is used and removed")
	port := flags.Int("port", 2379, "listen for clients on this `port` of "+
		"127.0.0.1; further members take every second port after it")
	address := flags.String("board", "", "show the board at this `address` as well, "+
		"such as :8380, to a class who can change nothing; an address of this "+
		"machine alone, such as 127.0.0.1:8400, is where the board itself is, "+
		"instead of "+boardAddress+" or a free port; off means no board")
	flags.Usage = func() {
		fmt.Fprint(flags.Output(), "usage: classroom [flags]\n"+
			"       classroom tour [lesson ...]\n"+
			"       classroom [-port number] member list\n"+
			"       classroom [-port number] member stop|kill|pause|resume|restart who\n"+
			"         who: the name of a member, or leader, followers or stopped\n"+
			"       classroom [-port number] reset\n"+
			"\nflags:\n")
		flags.PrintDefaults()
	}
	switch err := flags.Parse(args); {
	case errors.Is(err, flag.ErrHelp):
		return err
	case err != nil:
		return errUsage
	}
	switch command := flags.Arg(0); {
	case command == "tour" && flags.NFlag() == 0:
		return tour(ctx, flags.Args()[1:])
	case command == "tour":
		return errors.New("tour takes no flags; set ETCDCTL_ENDPOINTS to choose an etcd")
	case command == "member":
		return member(ctx, *port, flags.Args()[1:])
	case command == "reset":
		return reset(ctx, *port, flags.Args()[1:])
	case command != "":
		return fmt.Errorf("unknown command %q; there are tour, member and reset", command)
	}
	switch {
	case *members < 1 || *members > 7:
		return fmt.Errorf("-members %d: from 1 to 7 make sense", *members)
	case *port < 1 || *port+2*(*members) > 1<<16:
		return fmt.Errorf("-port %d: there are ports from 1 to 65535", *port)
	}
	where, err := boardAt(*address)
	if err != nil {
		return err
	}
	if os.Getenv("ETCDCTL_ENDPOINTS") == "" {
		return serve(ctx, cluster.Config{Members: *members, Dir: *data, Port: *port}, where)
	}
	flags.Visit(func(f *flag.Flag) {
		if f.Name != "board" {
			err = fmt.Errorf("-%s is for an etcd that is started here, but "+
				"ETCDCTL_ENDPOINTS names one that runs: unset it, or leave out -%s", f.Name, f.Name)
		}
	})
	if err != nil {
		return err
	}
	return watch(ctx, where)
}
