// Package shared is how every lesson starts and ends: it finds etcd (Config),
// connects to it (Connect) and runs the lesson (Main).
package shared

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"path/filepath"
	"syscall"

	clientv3 "go.etcd.io/etcd/client/v3"

	"example.com/etcd-by-example/shared/diagnose"
)

// Main connects to etcd, runs the lesson, closes the client and ends the
// program: see Run for how. When etcd cannot be used, the lesson does not run.
func Main(lesson func(context.Context, *clientv3.Client) error) {
	Run(func(ctx context.Context) error {
		client, err := Connect(ctx)
		if err != nil {
			return err
		}
		defer client.Close()
		return lesson(ctx, client)
	})
}

// Run parses the command line, runs the lesson and ends the program: with
// status 0 when the lesson returns nil, otherwise with its error on standard
// error and status 1. The lesson's context ends at Ctrl-C, so that what it
// deferred still runs; a second Ctrl-C ends the program at once.
func Run(lesson func(context.Context) error) {
	name := filepath.Base(os.Args[0])
	flag.Usage = func() {
		fmt.Fprintf(os.Stderr, "usage: %s [flags]\n", name)
		flag.PrintDefaults()
	}
	flag.Parse()
	if flag.NArg() > 0 {
		fmt.Fprintf(os.Stderr, "%s: unknown argument %q\n", name, flag.Arg(0))
		flag.Usage()
		os.Exit(2)
	}
	ctx, stop := signal.NotifyContext(
		context.Background(), os.Interrupt, syscall.SIGTERM)
	context.AfterFunc(ctx, stop)

	err := lesson(ctx)
	switch {
	case err == nil:
		os.Exit(0)
	case ctx.Err() != nil && errors.Is(err, diagnose.ErrUnusable):
		err = errors.New("interrupted: connect to etcd")
	case ctx.Err() != nil:
		err = fmt.Errorf("interrupted: %w", err)
	case !errors.Is(err, diagnose.ErrUnusable):
		err = diagnose.Hint(err)
	}
	fmt.Fprintf(os.Stderr, "%s: %v\n", name, err)
	os.Exit(1)
}
