// Classroom runs an etcd that needs no Docker, the lessons against it, and a
// page that shows what both do: the board.
//
//	go run ./classroom               an etcd on 127.0.0.1:2379, and the board,
//	                                 until Ctrl-C; with ETCDCTL_ENDPOINTS set,
//	                                 only the board, of the etcd that it names
//	go run ./classroom -members 3    three members, on 2379, 2381 and 2383
//	go run ./classroom -class        an etcd that a class shares: docs/CLASS.md
//	go run ./classroom -help         all that it can do; after the name of a
//	                                 command, what that does
package main

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"os"
	"os/signal"
	"slices"
	"strings"
	"syscall"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"example.com/etcd-by-example/classroom/class"
	"example.com/etcd-by-example/classroom/cluster"
	"example.com/etcd-by-example/classroom/course"
	"example.com/etcd-by-example/classroom/drawing"
)

func main() {
	cluster.Main()

	signals := []os.Signal{os.Interrupt, syscall.SIGTERM}
	// Who started it with nohup wants it to go on when the terminal is closed.
	if !signal.Ignored(syscall.SIGHUP) {
		signals = append(signals, syscall.SIGHUP)
	}
	ctx, stop := signal.NotifyContext(context.Background(), signals...)
	context.AfterFunc(ctx, stop)
	classroom := commands()
	classroom.SetArgs(dashes(classroom, os.Args[1:]))
	err := classroom.ExecuteContext(ctx)
	if err == nil {
		return
	}
	var ends statusError
	if errors.As(err, &ends) && ends.err == nil {
		os.Exit(ends.status)
	}
	fmt.Fprintf(os.Stderr, "classroom: %v\n", err)
	if ends.status != 0 {
		os.Exit(ends.status)
	}
	var flags flagError
	if errors.As(err, &flags) {
		fmt.Fprint(os.Stderr, flags.usage)
		os.Exit(2)
	}
	os.Exit(1)
}

// flagError says that a flag was wrong, and which ones there are.
type flagError struct {
	error
	usage string
}

// dashes gives the flags that are written with one dash, as the lessons' are, the
// second one that cobra wants.
func dashes(classroom *cobra.Command, args []string) []string {
	known := map[string]bool{"help": true}
	var visit func(*cobra.Command)
	visit = func(command *cobra.Command) {
		command.Flags().VisitAll(func(f *pflag.Flag) { known[f.Name] = true })
		command.PersistentFlags().VisitAll(func(f *pflag.Flag) { known[f.Name] = true })
		for _, below := range command.Commands() {
			visit(below)
		}
	}
	visit(classroom)
	args = slices.Clone(args)
	for i, arg := range args {
		name, found := strings.CutPrefix(arg, "-")
		if name, _, _ = strings.Cut(name, "="); found && known[name] {
			args[i] = "-" + arg
		}
	}
	return args
}

// usage returns an error that tells how to call a command.
func usage(how string) error { return errors.New("usage: classroom " + how) }

// exactly is for commands that take so many arguments.
func exactly(count int, how string) cobra.PositionalArgs {
	return func(_ *cobra.Command, args []string) error {
		if len(args) != count {
			return usage(how)
		}
		return nil
	}
}

// commands returns all that the classroom can do.
func commands() *cobra.Command {
	var config cluster.Config
	var address string
	var shared bool
	classroom := &cobra.Command{
		Use:   "classroom",
		Short: "Run an etcd that needs no Docker, and the board that shows it",
		Long: "Run an etcd that needs no Docker, and the board that shows it, until Ctrl-C.\n" +
			"With ETCDCTL_ENDPOINTS set, only the board, of the etcd that it names.",
		Args: func(cmd *cobra.Command, args []string) error {
			if len(args) > 0 {
				return fmt.Errorf("unknown command %q: see classroom -help", args[0])
			}
			return nil
		},
		RunE: func(cmd *cobra.Command, _ []string) error {
			return open(cmd.Context(), cmd.Flags(), config, shared, address)
		},
		SilenceErrors: true,
		SilenceUsage:  true,
	}
	classroom.SetFlagErrorFunc(func(cmd *cobra.Command, err error) error {
		return flagError{err, cmd.UsageString()}
	})
	flags := classroom.Flags()
	flags.SortFlags = false
	flags.IntVar(&config.Members, "members", 1, "start this `number` of members")
	flags.StringVar(&config.Dir, "data", "", "keep the data in `dir`; "+
		"without it, a temporary folder is used and removed")
	flags.BoolVar(&shared, "class", false, "share the etcd with a class: others join "+
		"with what is printed, and each has keys of their own")
	portFlag(flags, &config.Port)
	boardFlag(flags, &address)
	classroom.AddCommand(tourCommand(), memberCommand(), resetCommand(),
		recordCommand(), drawCommand(), replayCommand(), checkCommand(),
		joinCommand(), classCommand())
	return classroom
}

func portFlag(flags *pflag.FlagSet, port *int) {
	flags.IntVar(port, "port", 2379, "the `port` of 127.0.0.1 for clients; "+
		"further members take every second port after it")
}

func boardFlag(flags *pflag.FlagSet, address *string) {
	flags.StringVar(address, "board", "", "show the board at this `address` as well, "+
		"such as :8380, to a class who can change nothing; an address of this "+
		"machine alone, such as 127.0.0.1:8400, is where the board itself is, "+
		"instead of "+boardAddress+" or a free port; off means no board")
}

// open runs an etcd and the board, or only the board of one that runs.
func open(ctx context.Context, flags *pflag.FlagSet, config cluster.Config, shared bool, address string) error {
	switch {
	case config.Members < 1 || config.Members > 7:
		return fmt.Errorf("-members %d: from 1 to 7 make sense", config.Members)
	case config.Port < 1 || config.Port+2*config.Members > 1<<16:
		return fmt.Errorf("-port %d: there are ports from 1 to 65535", config.Port)
	}
	where, err := boardAt(address)
	if err != nil {
		return err
	}
	switch {
	case os.Getenv("ETCDCTL_ENDPOINTS") != "":
	case shared:
		return teach(ctx, config, where)
	case class.Kept(config.Dir):
		return fmt.Errorf("%s has the data of a class: give -class as well, or another folder", config.Dir)
	default:
		return serve(ctx, config, where)
	}
	flags.Visit(func(f *pflag.Flag) {
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

func tourCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "tour [LESSON ...]",
		Short: "Run all lessons in order, or those named",
		Long: "Run all lessons in order, or those named, on an etcd of their own, or on the\n" +
			"one that ETCDCTL_ENDPOINTS names.",
		ValidArgs: course.Names,
		RunE:      func(cmd *cobra.Command, args []string) error { return tour(cmd.Context(), args) },
	}
}

func memberCommand() *cobra.Command {
	actions := slices.Sorted(maps.Keys(cluster.Actions))
	how := "member list, or classroom member " + strings.Join(actions, "|") +
		" NAME|" + strings.Join(slices.Sorted(maps.Keys(selectors)), "|")
	var port int
	command := &cobra.Command{
		Use:   "member",
		Short: "List the members of the etcd that runs, or stop, kill, pause or cut off some",
		Args:  func(*cobra.Command, []string) error { return usage(how) },
		RunE:  func(*cobra.Command, []string) error { return nil },
	}
	portFlag(command.PersistentFlags(), &port)
	command.AddCommand(&cobra.Command{
		Use:   "list",
		Short: "List the members, with their roles",
		Args:  exactly(0, how),
		RunE:  func(cmd *cobra.Command, _ []string) error { return listMembers(cmd.Context(), port) },
	})
	for _, action := range actions {
		command.AddCommand(&cobra.Command{
			Use:       action + " WHO",
			Short:     whatActions[action],
			Long:      whatActions[action] + ".\nWHO is the name of a member, or all that are leader, followers, stopped or cut.",
			ValidArgs: slices.Sorted(maps.Keys(selectors)),
			Args:      exactly(1, how),
			RunE: func(cmd *cobra.Command, args []string) error {
				return actOnMembers(cmd.Context(), port, action, args[0])
			},
		})
	}
	return command
}

// whatActions says what cluster.Actions do.
var whatActions = map[string]string{
	"stop":    "Ask a member to end, and wait until it has",
	"kill":    "End a member at once, as a crash does",
	"pause":   "Freeze a member: its connections stay, and it does not answer",
	"resume":  "Let a member that was paused go on",
	"cut":     "Cut a member off from the other members; clients still reach it",
	"heal":    "Join a member that was cut off again",
	"restart": "Stop a member, if it runs, and start it again with its data",
}

func resetCommand() *cobra.Command {
	var port int
	command := &cobra.Command{
		Use:   "reset",
		Short: "Empty the store of the etcd that runs",
		Long: "Empty the store of the etcd that runs, also one that -data keeps: it is at\n" +
			"revision 1 again, with no leases and no users. In a class that shares one etcd,\n" +
			"delete only the keys of your own.",
		Args: exactly(0, "[-port number] reset"),
		RunE: func(cmd *cobra.Command, _ []string) error { return reset(cmd.Context(), port) },
	}
	portFlag(command.Flags(), &port)
	return command
}

func recordCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "record FILE",
		Short: "Follow an etcd until Ctrl-C, and save what it did",
		Long: "Follow an etcd, which is found as the lessons find it, until Ctrl-C, and save\n" +
			"what it did, as JSON lines.",
		Args: exactly(1, "record FILE"),
		RunE: func(cmd *cobra.Command, args []string) error { return record(cmd.Context(), args[0]) },
	}
}

func drawCommand() *cobra.Command {
	var o drawing.Options
	var out string
	command := &cobra.Command{
		Use:   "draw FILE",
		Short: "Draw what was saved, as SVG",
		Args:  exactly(1, "draw FILE"),
		RunE:  func(_ *cobra.Command, args []string) error { return draw(args[0], o, out) },
	}
	flags := command.Flags()
	flags.SortFlags = false
	flags.StringVarP(&out, "out", "o", "", "write into this `file`; without it, to standard output")
	flags.Int64Var(&o.From, "from", 0, "the first `revision`; without it, one of the last 200")
	flags.Int64Var(&o.To, "to", 0, "the last `revision`; without it, the last one recorded")
	flags.StringVar(&o.Prefix, "prefix", "", "only keys that begin with this `prefix`")
	flags.StringVar(&o.Locks, "locks", "/cron/lock/", "keys that begin with this `prefix` are locks")
	return command
}

func replayCommand() *cobra.Command {
	var address string
	command := &cobra.Command{
		Use:   "replay FILE",
		Short: "Show what was saved on the board, with no etcd",
		Args:  exactly(1, "[-board address] replay FILE"),
		RunE:  func(cmd *cobra.Command, args []string) error { return replay(cmd.Context(), address, args[0]) },
	}
	boardFlag(command.Flags(), &address)
	return command
}

func joinCommand() *cobra.Command {
	var port int
	command := &cobra.Command{
		Use:   "join CODE NAME",
		Short: "Take part in a class that shares one etcd",
		Long: "Take part in a class that shares one etcd, until Ctrl-C. The lessons and etcdctl find\n" +
			"an etcd on this machine then, with keys of your own. The teacher tells the CODE.",
		Args: exactly(2, "join CODE NAME"),
		RunE: func(cmd *cobra.Command, args []string) error {
			return join(cmd.Context(), args[0], args[1], port)
		},
	}
	command.Flags().IntVar(&port, "port", 2379, "the `port` of 127.0.0.1 for your own keys; "+
		"the keys of the whole class are two below it")
	return command
}

func classCommand() *cobra.Command {
	const how = "class list|room, or classroom class remove|free|reset NAME"
	var port int
	command := &cobra.Command{
		Use:   "class",
		Short: "List who is in the class, or act on them",
		Args:  func(*cobra.Command, []string) error { return usage(how) },
		RunE:  func(*cobra.Command, []string) error { return nil },
	}
	portFlag(command.PersistentFlags(), &port)
	command.AddCommand(&cobra.Command{
		Use:   "list",
		Short: "List all who have ever joined",
		Args:  exactly(0, how),
		RunE:  func(cmd *cobra.Command, _ []string) error { return listClass(cmd.Context(), port) },
	}, &cobra.Command{
		Use:   "room",
		Short: "Make room in a database that is full: compact, defragment, disarm the alarm",
		Args:  exactly(0, how),
		RunE:  func(cmd *cobra.Command, _ []string) error { return actOnClass(cmd.Context(), port, "room", "") },
	})
	for _, action := range []string{"remove", "free", "reset"} {
		command.AddCommand(&cobra.Command{
			Use:   action + " NAME",
			Short: whatClassActions[action],
			Args:  exactly(1, how),
			RunE: func(cmd *cobra.Command, args []string) error {
				return actOnClass(cmd.Context(), port, action, args[0])
			},
		})
	}
	return command
}

var whatClassActions = map[string]string{
	"remove": "End a learner's part in the class, and delete their keys; nobody gets the name again",
	"free":   "Let somebody with another machine have a name and its keys",
	"reset":  "Delete the keys of a learner, or by the name class those of the class as a whole",
}
