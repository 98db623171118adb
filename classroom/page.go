package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"os"
	"strconv"
	"strings"

	"example.com/etcd-by-example/classroom/board"
	"example.com/etcd-by-example/classroom/course"
	"example.com/etcd-by-example/classroom/history"
	"example.com/etcd-by-example/shared"
)

// boardAddress is where the board is when nothing else listens there.
const boardAddress = "127.0.0.1:8379"

// boardPlace is where the user wants the board.
type boardPlace struct {
	off     bool
	address string // on this machine; empty for boardAddress, or else a free port
	public  string // for a class; empty for none
}

// boardAt reads the flag -board.
func boardAt(flag string) (boardPlace, error) {
	switch flag {
	case "":
		return boardPlace{}, nil
	case "off":
		return boardPlace{off: true}, nil
	}
	host, _, err := net.SplitHostPort(flag)
	if err != nil {
		return boardPlace{}, fmt.Errorf("-board %s: want an address such as :8380, or off", flag)
	}
	if ip := net.ParseIP(host); host == "localhost" || ip != nil && ip.IsLoopback() {
		return boardPlace{address: flag}, nil
	}
	return boardPlace{public: flag}, nil
}

// openedBoard is a board, or none.
type openedBoard struct{ *board.Board }

func (b openedBoard) close() error {
	if b.Board == nil {
		return nil
	}
	return b.Close()
}

// end closes the board, and adds what goes wrong to err.
func (b openedBoard) end(err *error) {
	if failed := b.close(); failed != nil {
		*err = errors.Join(*err, fmt.Errorf("stop the board: %w", failed))
	}
}

// openBoard starts the board where it is wanted and prints its address.
func openBoard(ctx context.Context, where boardPlace, config board.Config) (openedBoard, error) {
	if where.off {
		return openedBoard{}, nil
	}
	root, err := course.Root(ctx)
	if err != nil {
		return openedBoard{}, fmt.Errorf("the board shows the lessons: %w, or give -board off", err)
	}
	config.Root, config.Public = root, where.public
	config.Address = cmp.Or(where.address, boardAddress)
	b, err := board.Start(ctx, config)
	if err != nil && where.address == "" {
		// Another classroom may be there.
		config.Address = "127.0.0.1:0"
		b, err = board.Start(ctx, config)
	}
	if err != nil {
		return openedBoard{}, fmt.Errorf("start the board: %w", err)
	}
	fmt.Printf("The board is at http://%s/\n", b.Address())
	if b.Public() != "" {
		for _, address := range reachable(b.Public()) {
			fmt.Printf("  for a class, who can look and change nothing: http://%s/\n", address)
		}
	}
	return openedBoard{b}, nil
}

// reachable returns where others find what listens at address: when that is
// every address of this machine, those that a local network may know.
func reachable(address string) []string {
	host, port, err := net.SplitHostPort(address)
	if ip := net.ParseIP(host); err != nil || host != "" && (ip == nil || !ip.IsUnspecified()) {
		return []string{address}
	}
	var found []string
	networks, _ := net.InterfaceAddrs()
	for _, network := range networks {
		if n, ok := network.(*net.IPNet); ok && n.IP.To4() != nil && !n.IP.IsLoopback() {
			found = append(found, net.JoinHostPort(n.IP.String(), port))
		}
	}
	if len(found) == 0 {
		return []string{address}
	}
	return found
}

// replay shows a saved record on the board, until ctx ends.
func replay(ctx context.Context, address, file string) error {
	where, err := boardAt(address)
	if err != nil {
		return err
	}
	if where.off {
		return errors.New("nothing to do: replay shows the board, and -board is off")
	}
	kept, err := history.LoadFile(file)
	if err != nil {
		return fmt.Errorf("replay: %w", err)
	}
	b, err := openBoard(ctx, where, board.Config{Saved: kept})
	if err != nil {
		return err
	}
	return keepOpen(ctx, b, fmt.Sprintf("%s, revisions %d to %d", file, kept.First(), kept.Last()))
}

// keepOpen says what the board shows, and closes it when ctx ends.
func keepOpen(ctx context.Context, b openedBoard, shown string) error {
	fmt.Println("It shows", shown)
	fmt.Println("Ctrl-C stops it.")
	<-ctx.Done()
	if err := b.close(); err != nil {
		return fmt.Errorf("stop the board: %w", err)
	}
	fmt.Println("The board has stopped.")
	return nil
}

// watch shows the board of the etcd that the environment names, until ctx ends.
func watch(ctx context.Context, where boardPlace) error {
	if where.off {
		return errors.New("nothing to do: ETCDCTL_ENDPOINTS names an etcd that runs, and -board is off")
	}
	etcd, err := shared.Config()
	if err != nil {
		return err
	}
	if err := notAtDesk(ctx, etcd.Endpoints); err != nil {
		return err
	}
	b, err := openBoard(ctx, where, board.Config{Etcd: etcd, Env: os.Environ()})
	if err != nil {
		return err
	}
	return keepOpen(ctx, b, "the etcd at "+strings.Join(etcd.Endpoints, ","))
}

// notAtDesk returns an error when an endpoint is a desk in a class: a board there would
// have a part of the revisions, and see gaps.
func notAtDesk(ctx context.Context, endpoints []string) error {
	for _, endpoint := range endpoints {
		host, number, _ := net.SplitHostPort(endpoint)
		port, err := strconv.Atoi(number)
		if err != nil || host != "127.0.0.1" && host != "localhost" {
			continue
		}
		for _, own := range []int{port, port - classKeys} {
			if desk, err := ask[store](ctx, own, http.MethodGet, "/store"); err == nil && desk.Shared {
				return fmt.Errorf("%s is your desk in a class, and a board shows a whole etcd: "+
					"look at the teacher's", endpoint)
			}
		}
	}
	return nil
}
