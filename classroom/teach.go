package main

import (
	"bufio"
	"cmp"
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"example.com/etcd-by-example/classroom/board"
	"example.com/etcd-by-example/classroom/class"
	"example.com/etcd-by-example/classroom/cluster"
	"example.com/etcd-by-example/classroom/course"
	"example.com/etcd-by-example/classroom/workbook"
)

// What a class has on the teacher's machine, counted from the port of the teacher's
// desk: the keys of the whole class, the door for learners, the desk, then the members.
const (
	classKeys  = -2
	classDoor  = -1
	classFirst = +1
)

const (
	joinLimit   = 20 * time.Second // until a desk answers
	passedEvery = 2 * time.Second  // is looked which exercises have passed
)

// teach shares an etcd with a class until ctx ends.
func teach(ctx context.Context, config cluster.Config, where boardPlace) (err error) {
	port := config.Port
	if err := freeForClass(ctx, port+classKeys, port+classDoor, port); err != nil {
		return err
	}
	if _, err := os.Stat(filepath.Join(config.Dir, "etcd1")); config.Dir != "" && err == nil && !class.Kept(config.Dir) {
		return fmt.Errorf("%s has the data of an etcd without a class: give another folder", config.Dir)
	}
	authority, err := class.OpenAuthority(config.Dir)
	if err != nil {
		return err
	}
	if config.Secure, err = authority.Secure(); err != nil {
		return err
	}
	config.Args = class.Limits
	config.Port = port + classFirst
	etcd, end, err := startMembers(ctx, config, port)
	if err != nil {
		return err
	}
	defer end(&err)
	opening, cancel := context.WithTimeout(ctx, startLimit)
	defer cancel()
	shared, err := class.Open(opening, class.Config{
		Authority: authority,
		Etcd:      etcd.Client(),
		Ports:     clientPorts(config),
		Address:   ":" + strconv.Itoa(port+classDoor),
	})
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, shared.Close()) }()
	desk, err := shared.Desk(opening, port)
	if err != nil {
		return err
	}
	defer desk.Close()
	stopControl, err := control(port, "the classroom does not know this", func(mux *http.ServeMux) {
		controlMembers(mux, etcd)
		controlClass(mux, shared)
		controlDesk(mux, desk, port)
	})
	if err != nil {
		return err
	}
	defer stopControl()
	shown, err := openBoard(ctx, where, board.Config{
		Etcd:    lasting(etcd.Client()),
		Cluster: etcd,
		Class:   shared,
		Env:     lessonEnv([]string{"127.0.0.1:" + strconv.Itoa(port)}),
	})
	if err != nil {
		return err
	}
	defer shown.end(&err)
	addresses := reachable(":" + strconv.Itoa(port+classDoor))
	if len(addresses) == 1 {
		fmt.Println("A class can join:")
	} else {
		fmt.Println("A class can join, at the one of these addresses that it reaches:")
	}
	for _, address := range addresses {
		host, _, _ := net.SplitHostPort(address)
		host = cmp.Or(host, "127.0.0.1") // A machine with no network is a class of one.
		fmt.Printf("  go run ./classroom join %s NAME\n", shared.Code(host))
	}
	fmt.Println("You are in it, as " + class.Teacher + ". In other terminals, do as the page says.")
	tellDesk(port)
	fmt.Println("Ctrl-C ends the class.")
	<-ctx.Done()
	return nil
}

// freeForClass returns an error when one of the ports cannot be had. An etcd that is there is
// of no use to a class.
func freeForClass(ctx context.Context, numbers ...int) error {
	for _, port := range numbers {
		if what, _ := listening(ctx, port); what != "" {
			return fmt.Errorf("%s, which the class needs: stop it, or choose another port with -port", what)
		}
		if err := allowed(port, 1); err != nil {
			return err
		}
	}
	return nil
}

// clientPorts returns where the members listen for clients.
func clientPorts(config cluster.Config) []int {
	var ports []int
	for i := range config.Members {
		ports = append(ports, config.Port+2*i)
	}
	return ports
}

// tellDesk says where a desk answers.
func tellDesk(port int) {
	if port != 2379 {
		fmt.Printf("  export ETCDCTL_ENDPOINTS=127.0.0.1:%d\n", port)
	}
	fmt.Printf("  127.0.0.1:%d  your own keys\n", port)
	fmt.Printf("  127.0.0.1:%d  the keys of the whole class\n", port+classKeys)
}

// join has a desk in a class until ctx ends, or the class lets the learner in no more.
func join(ctx context.Context, text, name string, port int) error {
	code, err := class.ParseCode(text)
	if err != nil {
		return err
	}
	dir, err := os.UserConfigDir()
	if err != nil {
		return fmt.Errorf("find the folder for your key: %w", err)
	}
	if err := freeForClass(ctx, port+classKeys, port); err != nil {
		return err
	}
	opening, cancel := context.WithTimeout(ctx, joinLimit)
	defer cancel()
	desk, err := class.OpenDesk(opening, class.DeskConfig{
		Code:    code,
		Name:    name,
		KeyFile: filepath.Join(dir, "etcd-by-example", "class", code.Fingerprint(), name+".pem"),
		Port:    port,
		Tell:    func(sentence string) { fmt.Println(sentence) },
	})
	if err != nil {
		return err
	}
	defer desk.Close()
	stopControl, err := control(port, "that is for the teacher: this is a desk in a class", func(mux *http.ServeMux) {
		controlDesk(mux, desk, port)
	})
	if err != nil {
		return err
	}
	defer stopControl()
	fmt.Println(name + " is in the class. In other terminals, do as the page says.")
	tellDesk(port)
	fmt.Println("Ctrl-C leaves.")
	go moves(ctx, desk)
	go tellPassed(ctx, desk)
	select {
	case <-ctx.Done():
	case <-desk.Done():
		return desk.Err()
	}
	fmt.Println(name + " leaves the class. The keys stay.")
	return nil
}

// moves has a desk look for its class at the addresses that a learner types. It ends
// with the program: nothing wakes who waits for a terminal.
func moves(ctx context.Context, desk *class.Desk) {
	for lines := bufio.NewScanner(os.Stdin); lines.Scan(); {
		address, _, _ := strings.Cut(strings.TrimSpace(lines.Text()), "/")
		if address == "" {
			continue
		}
		if err := desk.Move(ctx, address); err != nil {
			fmt.Fprintf(os.Stderr, "classroom: %v\n", err)
			continue
		}
		fmt.Println("The desk has found the class at " + address + ".")
	}
}

// tellPassed has the class know which exercises the learner passed, until ctx ends.
func tellPassed(ctx context.Context, desk *class.Desk) {
	root, err := course.Root(ctx)
	if err != nil {
		return // It was not started from the course, so there are no exercises.
	}
	book := workbook.Open(root)
	again := time.NewTicker(passedEvery)
	defer again.Stop()
	for {
		var passed []string
		states, err := book.States()
		for _, state := range states {
			if state.Passed {
				passed = append(passed, state.Name)
			}
		}
		if err == nil {
			desk.Passed(passed)
		}
		select {
		case <-ctx.Done():
			return
		case <-again.C:
		}
	}
}

// controlDesk answers commands about the store that a desk shows.
func controlDesk(mux *http.ServeMux, desk *class.Desk, port int) {
	controlStore(mux, store{[]string{"127.0.0.1:" + strconv.Itoa(port)}, true}, desk.Reset)
}

// controlClass answers commands about a class.
func controlClass(mux *http.ServeMux, shared *class.Class) {
	handle := func(pattern string, do func(ctx context.Context, name string) (any, error)) {
		mux.HandleFunc(pattern, func(w http.ResponseWriter, r *http.Request) {
			told, err := do(r.Context(), r.PathValue("name"))
			if err != nil {
				http.Error(w, err.Error(), http.StatusConflict)
				return
			}
			answer(w, told)
		})
	}
	handle("GET /class", func(ctx context.Context, _ string) (any, error) { return shared.List(ctx) })
	handle("POST /class/remove/{name}", func(ctx context.Context, name string) (any, error) {
		return name + " is removed. The keys are deleted, and nobody gets the name again.", shared.Remove(ctx, name)
	})
	handle("POST /class/free/{name}", func(ctx context.Context, name string) (any, error) {
		return "The name " + name + " is free. Who joins with it next has it, and its keys.", shared.Free(ctx, name)
	})
	handle("POST /class/reset/{name}", func(ctx context.Context, name string) (any, error) {
		count, err := shared.Reset(ctx, name)
		if name == class.Common {
			name = "The class as a whole"
		}
		return fmt.Sprintf("%s has no keys any more. There were %d.", name, count), err
	})
	handle("POST /class/room/{$}", func(ctx context.Context, _ string) (any, error) {
		return "There is room again.", shared.Room(ctx)
	})
}

// listClass prints a line for each who has ever joined the class on port.
func listClass(ctx context.Context, port int) error {
	all, err := ask[[]class.Learner](ctx, port, http.MethodGet, "/class")
	if err != nil {
		return fmt.Errorf("class list: %w", err)
	}
	if len(all) == 0 {
		fmt.Println("Nobody has joined yet.")
	}
	for _, l := range all {
		state := "away"
		switch {
		case l.Removed:
			state = "removed"
		case l.Here:
			state = "here"
		}
		fmt.Printf("%s, %s, keys: %d, exercises passed: %d\n", l.Name, state, l.Keys, len(l.Passed))
	}
	return nil
}

// actOnClass does something to the class on port, or to one who is in it.
func actOnClass(ctx context.Context, port int, action, name string) error {
	told, err := ask[string](ctx, port, http.MethodPost, "/class/"+action+"/"+url.PathEscape(name))
	if err != nil {
		return fmt.Errorf("class %s: %w", strings.TrimSpace(action+" "+name), err)
	}
	fmt.Println(told)
	return nil
}
